//! A private nats-server for one test, on a free port of the loopback, ended with the test.
//!
//! The binary is what `WINDFALL_NATS_SERVER` names, else `nats-server` on PATH.
#![allow(dead_code, missing_docs)] // Each test file uses a part of it.

pub mod house;
pub mod http;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actors::bus::Bus;
use actors::settings;
use tempfile::TempDir;

pub struct NatsServer {
    child: Option<Child>,
    folder: TempDir,
    pub port: u16,
}

impl NatsServer {
    /// With JetStream and messages of up to 8 MB, as `windfall up` starts it.
    pub fn start() -> Self {
        Self::start_with("jetstream { store_dir: \"FOLDER/js\" }")
    }

    /// With other lines in its configuration; `FOLDER` stands for its private folder.
    pub fn start_with(lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let port = free_port();
        let lines = lines.replace("FOLDER", &folder.path().display().to_string());
        let config = format!("host: 127.0.0.1\nport: {port}\nmax_payload: 8MB\n{lines}\n");
        std::fs::write(folder.path().join("nats.conf"), config).expect("its configuration");
        let mut server = Self { child: None, folder, port };
        server.go();
        server
    }

    /// Starts it again after [`NatsServer::kill`], with what it had stored.
    pub fn go(&mut self) {
        let binary = std::env::var_os("WINDFALL_NATS_SERVER")
            .map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
        let log = std::fs::File::create(self.folder.path().join("nats.log")).expect("a log for the server");
        let child = Command::new(&binary)
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start {}: {error}. These tests need nats-server 2.11 or newer on PATH or in \
                     WINDFALL_NATS_SERVER; `sh tests/run.sh` installs one",
                    binary.display()
                )
            });
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "nats-server does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it without warning, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Removes all that it has stored; only while it is not running.
    pub fn forget_everything(&self) {
        assert!(self.child.is_none());
        let _ = std::fs::remove_dir_all(self.folder.path().join("js"));
    }

    pub fn settings(&self) -> settings::Nats {
        settings::Nats { url: format!("nats://127.0.0.1:{}", self.port), ..Default::default() }
    }

    pub async fn bus(&self, name: &str) -> Bus {
        Bus::connect(&self.settings(), name).await.expect("a connection to the private nats-server")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("nats.log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Asks until the answer is yes; fails the test after half a minute.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut is_so: F) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
