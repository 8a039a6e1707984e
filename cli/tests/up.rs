//! `windfall up`: everything that it starts works, and ends with it however it ends.
//!
//! Needs a nats-server (`WINDFALL_NATS_SERVER` or on PATH), python3 and cc.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::Home;
use futures::StreamExt;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// The machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// A nats-server; else the test is skipped, and says so.
fn nats_server() -> Option<String> {
    if let Ok(named) = std::env::var("WINDFALL_NATS_SERVER") {
        return Some(named);
    }
    let works = Command::new("nats-server").arg("--version").stdout(Stdio::null()).status();
    if works.is_ok_and(|status| status.success()) {
        return Some("nats-server".into());
    }
    println!("skipped: no nats-server; set WINDFALL_NATS_SERVER");
    None
}

/// A cluster that runs, in a process group of its own.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
}

impl Running {
    fn start(home: &Home, arguments: &[&str]) -> Option<Self> {
        let server = nats_server()?;
        let mut command = up(home, arguments, &server);
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Some(Self { child, out, said: String::new() })
    }

    /// Reads until a line that holds `text`.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).expect("readable");
            assert!(read > 0, "it ended before it said '{text}': {}", self.said);
            self.said.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits until it has ended by itself. Returns its exit code and all that it said.
    fn wait(mut self) -> (Option<i32>, String) {
        self.out.read_to_string(&mut self.said).expect("readable");
        (self.child.wait().expect("ended").code(), std::mem::take(&mut self.said))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn up(home: &Home, arguments: &[&str], server: &str) -> Command {
    let mut all = vec!["up", "--http", "127.0.0.1:0", "--nats-port", "0", "--vms", "1"];
    all.extend(arguments);
    home.command(&all, &[("WINDFALL_NATS_SERVER", server)])
}

/// Processes that belong to the cluster of this home.
fn processes(home: &Home) -> Vec<String> {
    let bytes = std::fs::read(home.path().join(".windfall/secrets.json")).expect("secrets");
    let secrets: Value = serde_json::from_slice(&bytes).expect("JSON");
    let mark = format!("WINDFALL_CLUSTER={}", secrets["cluster"].as_str().expect("a name"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn all_end(home: &Home) {
    let began = Instant::now();
    loop {
        let left = processes(home);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still there: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_demo_works_and_leaves_nothing_running() {
    let home = Home::new();
    let Some(running) = Running::start(&home, &["--once"]) else { return };
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    for part in ["hello-python", "hello-native", "HTTP", "NATS", "cold", "warm", "vm-"] {
        assert!(said.contains(part), "'{part}' is missing in: {said}");
    }
    assert_eq!(processes(&home), Vec::<String>::new());
}

#[test]
fn ctrl_c_in_a_terminal_stops_everything() {
    let home = Home::new();
    let Some(mut running) = Running::start(&home, &[]) else { return };
    running.wait_for("Ctrl-C stops");
    assert!(processes(&home).len() >= 5, "nats-server, three roles, a VM: {:?}", processes(&home));
    // As a terminal does it: to the whole group.
    killpg(running.pid(), Signal::SIGINT).expect("it runs");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(processes(&home), Vec::<String>::new());
}

#[test]
fn nothing_is_left_when_up_is_killed() {
    let home = Home::new();
    let Some(mut running) = Running::start(&home, &[]) else { return };
    running.wait_for("Ctrl-C stops");
    kill(running.pid(), Signal::SIGKILL).expect("it runs");
    all_end(&home);
}

#[test]
fn a_second_up_in_the_same_folder_is_refused() {
    let home = Home::new();
    let Some(mut running) = Running::start(&home, &[]) else { return };
    running.wait_for("Starting a cluster");
    let server = nats_server().expect("found before");
    let second = up(&home, &[], &server).output().expect("the binary runs");
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&running.child.id().to_string()) && said.contains("--data"), "{said}");
    // A signal counts from the first moment on.
    kill(running.pid(), Signal::SIGTERM).expect("it runs");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(processes(&home), Vec::<String>::new());
}

#[test]
fn what_dies_is_started_again() {
    let home = Home::new();
    let Some(mut running) = Running::start(&home, &[]) else { return };
    running.wait_for("Ctrl-C stops");
    let pid = std::fs::read_to_string(home.path().join(".windfall/nats-server.pid")).expect("a pid");
    kill(Pid::from_raw(pid.trim().parse().expect("a number")), Signal::SIGKILL).expect("it runs");
    let began = Instant::now();
    // The list goes through NATS: it works again when NATS and the Resource Monitor do.
    loop {
        let said = home.run(&["vm", "list"], &[]);
        let again = std::fs::read_to_string(home.path().join(".windfall/nats-server.pid")).ok();
        if said.code == 0 && said.out.contains("vm-") && again.as_ref() != Some(&pid) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{}{}", said.out, said.err);
        std::thread::sleep(Duration::from_millis(200));
    }
    kill(running.pid(), Signal::SIGTERM).expect("it runs");
    assert_eq!(running.wait().0, Some(0));
}

#[test]
fn namespaces_do_not_hear_each_other() {
    let home = Home::new();
    let Some(mut running) = Running::start(&home, &[]) else { return };
    running.wait_for("Ctrl-C stops");
    let made = home.run(&["namespace", "create", "ada"], &[]);
    assert_eq!(made.code, 0, "{}", made.err);
    let properties = std::fs::read_to_string(home.path().join(".windfall/wskprops")).expect("wskprops");
    let read = |key: &str| {
        let line = properties.lines().find_map(|line| line.strip_prefix(key));
        line.expect(key).to_owned()
    };
    let url = read("WINDFALL_NATS=");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(hear_nothing(&url, &read("AUTH="), made.out.trim()));
    kill(running.pid(), Signal::SIGTERM).expect("it runs");
    assert_eq!(running.wait().0, Some(0));
}

async fn hear_nothing(url: &str, guest: &str, ada: &str) {
    let guest = connect(url, guest).await;
    let ada = connect(url, ada).await;
    let mut forbidden = Vec::new();
    for client in [&guest, &ada] {
        for subject in ["windfall.>", "windfall.invoke.*.*", "windfall.record.>", "_WINDFALL.>", "$KV.>"] {
            forbidden.push(client.subscribe(subject).await.expect("sent"));
        }
    }
    let inbox_of_ada = ada.subscribe("_INBOX.>").await.expect("sent");
    ada.flush().await.expect("flushed");
    guest.flush().await.expect("flushed");
    // Each is answered (that there is no such function).
    for (client, own) in [(&guest, "guest"), (&ada, "ada")] {
        let answer =
            client.request(format!("windfall.invoke.{own}.none"), "{}".into()).await.expect("an answer");
        let headers = answer.headers.expect("headers");
        assert_eq!(headers.get("Windfall-Status").map(|status| status.as_str()), Some("refused"));
    }
    // Nobody may ask in another's name: the server drops the question.
    let asked = ada.request("windfall.invoke.guest.none", "{}".into());
    let asked = tokio::time::timeout(Duration::from_secs(1), asked).await;
    assert!(!matches!(asked, Ok(Ok(_))), "ada was answered in the name of guest");

    let overheard = next_within_a_second(&mut futures::stream::select_all(forbidden)).await;
    assert!(overheard.is_none(), "{overheard:?}");
    let mut inbox_of_ada = inbox_of_ada;
    assert!(next_within_a_second(&mut inbox_of_ada).await.is_some(), "ada hears her own answer");
    let overheard = next_within_a_second(&mut inbox_of_ada).await;
    assert!(overheard.is_none(), "ada hears an answer to guest: {overheard:?}");
}

async fn next_within_a_second(
    messages: &mut (impl futures::Stream<Item = async_nats::Message> + Unpin),
) -> Option<async_nats::Message> {
    tokio::time::timeout(Duration::from_secs(1), messages.next()).await.ok().flatten()
}

async fn connect(url: &str, auth: &str) -> async_nats::Client {
    let (user, key) = auth.split_once(':').expect("uuid:key");
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), key.into());
    options.connect(url).await.expect("NATS knows the key")
}
