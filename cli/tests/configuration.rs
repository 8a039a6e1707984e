//! Every value in force has one source, and what is wrong is named with its source and what would be right.

mod common;

use common::Home;
use serde_json::Value;

/// The value and the source of a key.
#[track_caller]
fn in_force(home: &Home, key: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Value, String) {
    let mut all = vec!["config", "--json"];
    all.extend(arguments);
    let said = home.run(&all, variables);
    assert_eq!(said.code, 0, "{}", said.err);
    let read: Value = serde_json::from_str(&said.out).expect("JSON");
    let entry = &read[key];
    (entry["value"].clone(), entry["source"].as_str().expect("a source").to_owned())
}

#[test]
fn each_layer_is_stronger_than_the_one_before() {
    let home = Home::new();
    let key = "controller.queue_limit";
    assert_eq!(in_force(&home, key, &[], &[]), (10_000.into(), "default".into()));

    home.write(".config/windfall/windfall.toml", "[controller]\nqueue_limit = 1\n");
    let (value, source) = in_force(&home, key, &[], &[]);
    assert_eq!(value, 1);
    assert!(source.ends_with(".config/windfall/windfall.toml"), "{source}");

    home.write("windfall.toml", "[controller]\nqueue_limit = 2\n");
    assert_eq!(in_force(&home, key, &[], &[]), (2.into(), "windfall.toml".into()));

    home.write("named.yaml", "controller:\n  queue_limit: 3\n");
    let named = [("WINDFALL_CONFIG", "named.yaml")];
    assert_eq!(in_force(&home, key, &[], &named), (3.into(), "named.yaml".into()));
    assert_eq!(in_force(&home, key, &["--config", "named.yaml"], &[]), (3.into(), "named.yaml".into()));

    let variable = ("WINDFALL_CONTROLLER__QUEUE_LIMIT", "4");
    assert_eq!(in_force(&home, key, &[], &[named[0], variable]), (4.into(), variable.0.into()));

    let set = ["--set", "controller.queue_limit=5"];
    let (value, source) = in_force(&home, key, &set, &[named[0], variable]);
    assert_eq!((value, source.as_str()), (5.into(), "--set controller.queue_limit"));
}

#[test]
fn every_variable_reaches_a_nested_key_with_its_own_type() {
    let home = Home::new();
    let variables = [
        ("WINDFALL_VM__KEEP_ALIVE_MS", "1500"),
        ("WINDFALL_TELEMETRY__SAMPLE", "0.25"),
        ("WINDFALL_VM__PYTHON", "/opt/python"),
        ("WINDFALL_NATS__PASSWORD", "007"),
    ];
    assert_eq!(in_force(&home, "vm.keep_alive_ms", &[], &variables).0, 1500);
    assert_eq!(in_force(&home, "telemetry.sample", &[], &variables).0, 0.25);
    assert_eq!(in_force(&home, "vm.python", &[], &variables).0, "/opt/python");
    let toml = home.run(&["config", "--toml", "nats"], &variables);
    assert!(
        toml.out.contains("password = \"007\""),
        "a password is text even if it looks like a number: {}",
        toml.out
    );
}

#[test]
fn secrets_are_not_shown() {
    let home = Home::new();
    let variables =
        [("WINDFALL_NATS__PASSWORD", "hunter2"), ("WINDFALL_NATS__URL", "nats://me:hunter2@127.0.0.1:4222")];
    for arguments in [&["config"][..], &["config", "--json"]] {
        let said = home.run(arguments, &variables);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(!said.out.contains("hunter2"), "{}", said.out);
        assert!(said.out.contains("127.0.0.1:4222"), "{}", said.out);
    }
}

#[test]
fn what_is_printed_as_a_file_can_be_read_again() {
    let home = Home::new();
    let variables = [("WINDFALL_NATS__PASSWORD", "a\"b\\c\u{7f}é\n"), ("WINDFALL_STORE__REPLICAS", "3")];
    let written = home.run(&["config", "--toml"], &variables);
    assert_eq!(written.code, 0, "{}", written.err);
    home.write("again.toml", &written.out);
    let again = home.run(&["config", "--toml", "--config", "again.toml"], &[]);
    assert_eq!(again.out, written.out, "{}", again.err);
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_the_one_that_was_meant() {
    let home = Home::new();
    home.run(&["config", "--set", "controller.placment=mws"], &[]).fails(
        2,
        &["controller.placment", "--set controller.placment", "did you mean controller.placement?"],
    );
    home.run(&["config"], &[("WINDFALL_CONTROLLER__PLACMENT", "mws")])
        .fails(2, &["WINDFALL_CONTROLLER__PLACMENT", "did you mean controller.placement?"]);
    home.write("windfall.toml", "[controler]\nplacement = 'mws'\n");
    home.run(&["config"], &[]).fails(2, &["controler.placement", "windfall.toml"]);
}

#[test]
fn a_value_that_is_not_allowed_is_answered_with_what_is() {
    let home = Home::new();
    for (setting, allowed) in [
        ("controller.placement=best", "one of: mws, jsq"),
        ("store.replicas=0", "a whole number from 1 to 5"),
        ("store.replicas=6", "a whole number from 1 to 5"),
        ("store.replicas=many", "a whole number from 1 to 5"),
        ("frontend.http=3233", "host:port"),
        ("frontend.http=127.0.0.1:99999", "host:port"),
        ("nats.url=127.0.0.1:4222", "nats://host:port"),
        ("telemetry.sample=1.5", "a number from 0 to 1"),
        ("vm.enforce=on", "one of: auto, off"),
        ("runtime.threads=0", "a whole number from 1"),
    ] {
        let (key, value) = setting.split_once('=').expect("a setting");
        home.run(&["config", "--set", setting], &[])
            .fails(2, &[key, &format!("'{value}'"), allowed, &format!("--set {key}")]);
        let variable = format!("WINDFALL_{}", key.replace('.', "__").to_uppercase());
        home.run(&["config"], &[(&variable, value)]).fails(2, &[key, allowed, &variable]);
    }
}

#[test]
fn a_wrong_type_in_a_file_is_answered_with_the_file() {
    let home = Home::new();
    home.write("windfall.toml", "[store]\nreplicas = 'three'\n");
    home.run(&["config"], &[]).fails(2, &["store.replicas", "windfall.toml", "a whole number from 1 to 5"]);
    home.write("windfall.toml", "[store]\nreplicas = [1]\n");
    home.run(&["config"], &[]).fails(2, &["store.replicas", "no setting takes a list"]);
    home.write("windfall.toml", "[nats]\npassword = 7\n");
    home.run(&["config"], &[]).fails(2, &["nats.password", "it must be text"]);
    home.write("windfall.toml", "[store\n");
    home.run(&["config"], &[]).fails(2, &["windfall.toml"]);
}

#[test]
fn limits_that_contradict_each_other_are_both_named() {
    let home = Home::new();
    home.run(&["config"], &[("WINDFALL_LIMITS__MEMORY_MAX", "200")])
        .fails(2, &["limits.memory_default = 256", "limits.memory_max = 200", "WINDFALL_LIMITS__MEMORY_MAX"]);
}

#[test]
fn a_file_that_was_named_must_be_there_and_be_of_a_known_sort() {
    let home = Home::new();
    home.run(&["config", "--config", "none.toml"], &[]).fails(2, &["none.toml"]);
    home.write("settings.ini", "");
    home.run(&["config", "--config", "settings.ini"], &[])
        .fails(2, &["settings.ini", ".toml, .yaml or .yml"]);
}

#[test]
fn a_variable_with_one_underscore_too_few_is_not_ignored() {
    let home = Home::new();
    home.run(&["config"], &[("WINDFALL_NATS_URL", "nats://h:1")])
        .fails(2, &["WINDFALL_NATS_URL", "WINDFALL_NATS__URL"]);
}

#[test]
fn roles_refuse_a_wrong_configuration_before_they_connect() {
    let home = Home::new();
    for role in ["frontend", "controller", "resource-monitor", "vm"] {
        home.run(&[role, "--set", "store.replicas=9"], &[]).fails(2, &["store.replicas"]);
    }
    home.run(&["controller", "--placement", "best"], &[]).fails(2, &["controller.placement", "--placement"]);
}
