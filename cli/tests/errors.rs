//! An error says what to do, and its exit code says which sort it is.

mod common;

use common::Home;

/// A port where nobody listens: it was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

const AUTH: (&str, &str) = ("WINDFALL_AUTH", "11111111-1111-4111-8111-111111111111:key");

#[test]
fn when_nobody_answers_clients_say_where_and_what_to_start() {
    let home = Home::new();
    let address = nobody();
    let variables = [AUTH, ("WINDFALL_API_HOST", address.as_str())];
    for arguments in [
        &["invoke", "hello"][..],
        &["function", "list"],
        &["function", "get", "hello"],
        &["activation", "list"],
    ] {
        home.run(arguments, &variables).fails(3, &[&address, "windfall up", "--api-host"]);
    }
}

#[test]
fn when_nats_does_not_answer_operators_commands_and_roles_say_where() {
    let home = Home::new();
    let url = format!("nats://{}", nobody());
    for arguments in [
        &["vm", "list"][..],
        &["vm", "drain", "vm-3"],
        &["namespace", "list"],
        &["frontend"],
        &["controller"],
        &["resource-monitor"],
        &["vm"],
    ] {
        let all: Vec<&str> = arguments.iter().copied().chain(["--nats-url", &url]).collect();
        home.run(&all, &[]).fails(3, &[&url, "nats-server"]);
    }
}

#[test]
fn without_a_key_clients_say_where_one_could_come_from() {
    let home = Home::new();
    home.run(&["invoke", "hello"], &[]).fails(2, &["windfall up", "WINDFALL_AUTH", ".wskprops"]);
    home.run(&["invoke", "hello", "--auth", "nocolon"], &[]).fails(2, &["uuid:key"]);
}

#[test]
fn the_nearer_properties_file_wins() {
    let home = Home::new();
    let (far, near, named) = (nobody(), nobody(), nobody());
    home.write(".wskprops", &format!("APIHOST={far}\nAUTH=a:b\n"));
    home.run(&["function", "list"], &[]).fails(3, &[&far, ".wskprops"]);
    home.write(".windfall/wskprops", &format!("APIHOST={near}\nAUTH=a:b\n"));
    home.run(&["function", "list"], &[]).fails(3, &[&near, ".windfall/wskprops"]);
    home.write("mine", &format!("APIHOST={named}\nAUTH=a:b\n"));
    home.run(&["function", "list"], &[("WSK_CONFIG_FILE", "mine")]).fails(3, &[&named, "mine"]);
    home.run(&["function", "list"], &[("WSK_CONFIG_FILE", "none")]).fails(2, &["none", "WSK_CONFIG_FILE"]);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let home = Home::new();
    home.write("code.txt", "x");
    home.write("list.json", "[1]");
    home.write("bad.json", "{");
    for (arguments, parts) in [
        (
            &["function", "create", "a/b/c", "code.txt", "--kind", "python:3"][..],
            &["a/b/c", "package/name"][..],
        ),
        (&["function", "create", "a", "code.txt"], &["code.txt", "--kind"]),
        (&["function", "create", "a", "none.py"], &["none.py"]),
        (&["function", "update", "a", "--kind", "python:3"], &["--kind"]),
        (&["invoke", "a", "-P", "list.json"], &["list.json", "JSON object"]),
        (&["invoke", "a", "-P", "bad.json"], &["bad.json", "not JSON"]),
        (&["function", "list", "--api-host", "https://h"], &["https://h", "TLS"]),
        (&["vm", "drain", "three"], &["three"]),
        (&["namespace", "create", "_"], &["'_'"]),
        (&["config", "--set", "novalue"], &["section.key=value"]),
    ] {
        home.run(arguments, &[AUTH]).fails(2, parts);
    }
}

#[test]
fn up_says_how_to_get_a_nats_server() {
    let home = Home::new();
    let missing = [("WINDFALL_NATS_SERVER", "no/such/program")];
    home.run(&["up"], &missing).fails(2, &["WINDFALL_NATS_SERVER", "no/such/program"]);
    let nothing = [("PATH", "")];
    home.run(&["up"], &nothing).fails(2, &["2.11.0", "deploy/up.sh", "--nats-url"]);
    home.write("old", "#!/bin/sh\necho nats-server: v2.9.10\n");
    let old = home.path().join("old");
    std::process::Command::new("chmod").arg("+x").arg(&old).status().expect("chmod runs");
    let named = [("WINDFALL_NATS_SERVER", old.to_str().expect("UTF-8"))];
    home.run(&["up"], &named).fails(2, &["2.9.10", "2.11.0"]);
}

#[test]
fn up_refuses_a_port_that_was_asked_for_and_is_taken() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    home.run(&["up", "--http", &address], &[]).fails(2, &[&address, "--http"]);
}

#[test]
fn every_command_has_help() {
    let home = Home::new();
    for command in [
        &["--help"][..],
        &["up", "--help"],
        &["invoke", "--help"],
        &["function", "create", "--help"],
        &["activation", "list", "--help"],
        &["vm", "--help"],
        &["vm", "drain", "--help"],
        &["namespace", "create", "--help"],
        &["config", "--help"],
        &["frontend", "--help"],
    ] {
        let said = home.run(command, &[AUTH]);
        assert_eq!(said.code, 0, "{command:?}: {}", said.err);
        assert!(said.out.contains("Usage:"), "{command:?}: {}", said.out);
        assert!(!said.out.contains("key\n") || !said.out.contains(AUTH.1), "help shows a key: {}", said.out);
    }
    let help = home.run(&["--help"], &[]).out;
    assert!(help.contains("Exit codes:") && help.contains("WINDFALL_API_HOST"), "{help}");
}

#[test]
fn a_rehearsal_of_one_scenario_always_says_the_same() {
    let home = Home::new();
    let shown = home.run(&["simulate", "--show"], &[]);
    home.write("mine.toml", &shown.out);
    let first = home.run(&["simulate"], &[]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.contains("violations        0"), "{}", first.out);
    assert_eq!(home.run(&["simulate", "--scenario", "mine.toml"], &[]).out, first.out);
    assert_ne!(home.run(&["simulate", "--seed", "7"], &[]).out, first.out);
    home.run(&["simulate", "--placement", "best"], &[]).fails(2, &["placement", "mws, jsq"]);
    home.run(&["simulate", "--scenario", "none.toml"], &[]).fails(2, &["none.toml"]);
    home.write("bad.toml", "seed = 'x'");
    home.run(&["simulate", "--scenario", "bad.toml"], &[]).fails(2, &["bad.toml"]);
}
