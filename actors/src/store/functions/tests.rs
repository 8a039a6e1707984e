//! What a definition says, and its bytes.

use super::*;

fn parameter(key: &str, value: &str) -> Parameter {
    Parameter { key: key.into(), value: JsonText(value.into()), init: false }
}

fn definition() -> FunctionDefinition {
    FunctionDefinition {
        id: FunctionId(7),
        revision: Revision(3),
        namespace: "guest".into(),
        name: "pkg/hello world".into(),
        version: "0.0.2".parse().unwrap(),
        kind: "python:3".into(),
        main: "main".into(),
        binary: false,
        code: Some(CodeReference { digest: "ab".repeat(32), size: 12 }),
        parameters: vec![parameter("greeting", r#""hello""#), parameter("n", "1")],
        annotations: vec![parameter("on-eviction", r#""never""#), parameter("final", "true")],
        limits: FunctionLimits {
            timeout_ms: 60_000,
            memory_mb: 256,
            logs_mb: 10,
            concurrency: 1,
            cpu_millicores: 250,
        },
        publish: false,
        updated_unix_ms: 1_700_000_000_000,
    }
}

fn merged(definition: &FunctionDefinition, payload: &'static str) -> serde_json::Value {
    serde_json::from_slice(&definition.merge(&Bytes::from_static(payload.as_bytes()))).unwrap()
}

#[test]
fn the_callers_argument_overrides_the_functions_own_parameters() {
    let definition = definition();
    assert_eq!(merged(&definition, "{}"), serde_json::json!({"greeting": "hello", "n": 1}));
    assert_eq!(merged(&definition, " { } "), serde_json::json!({"greeting": "hello", "n": 1}));
    assert_eq!(merged(&definition, r#"{"n":2}"#), serde_json::json!({"greeting": "hello", "n": 2}));
    assert_eq!(
        merged(&definition, r#"{"n":{"deep":[1]},"greeting":null}"#),
        serde_json::json!({"greeting": null, "n": {"deep": [1]}})
    );
    // An escaped key is the same key.
    assert_eq!(merged(&definition, r#"{"\u006e":5}"#), serde_json::json!({"greeting": "hello", "n": 5}));
}

#[test]
fn an_argument_without_anything_to_merge_is_passed_on_as_it_came() {
    let mut plain = definition();
    plain.parameters.clear();
    let payload = Bytes::from_static(b" {\"a\" :1} ");
    assert_eq!(plain.merge(&payload), payload);
    assert_eq!(definition().merge(&Bytes::from_static(b"[1]")), "[1]");
    assert_eq!(definition().merge(&Bytes::from_static(b"{broken")), "{broken");
}

#[test]
fn init_parameters_do_not_go_to_the_argument() {
    let mut definition = definition();
    definition.parameters[0].init = true;
    assert_eq!(merged(&definition, "{}"), serde_json::json!({"n": 1}));
    assert_eq!(definition.init_parameters().count(), 1);
}

#[test]
fn final_parameters_with_a_value_must_not_be_overridden() {
    let mut definition = definition();
    assert_eq!(definition.overridden_finals(br#"{"n":2,"other":1}"#), ["n"]);
    definition.parameters[1].value = JsonText("null".into());
    assert!(definition.overridden_finals(br#"{"n":2}"#).is_empty());
    definition.annotations.clear();
    assert!(definition.overridden_finals(br#"{"greeting":2}"#).is_empty());
}

#[test]
fn the_card_says_what_deciding_parts_need() {
    let card = definition().card();
    assert_eq!(card.reservation, Resources::new(250, 256));
    assert_eq!(card.timeout, Span::seconds(60));
    assert_eq!(card.on_eviction, OnEviction::Never);
    assert_eq!(card.revision, Revision(3));
}

#[test]
fn versions_are_three_numbers() {
    assert_eq!("0.0.1".parse(), Ok(Version::FIRST));
    assert_eq!(Version::FIRST.next_patch().to_string(), "0.0.2");
    for wrong in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1..2", "+1.0.0", "99999999999.0.0"] {
        assert!(wrong.parse::<Version>().is_err(), "{wrong}");
    }
}

/// The bytes of the first released definition. They never change: an old store must stay readable.
const GOLDEN: &str = include_str!("golden.hex");

#[test]
fn the_first_releases_bytes_are_still_read() {
    let bytes: Vec<u8> = (0..GOLDEN.trim().len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&GOLDEN.trim()[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(FunctionDefinition::read("guest.pkg=2Fhello=20world", &bytes, 3), Ok(definition()));
}

#[test]
fn a_definition_of_a_newer_build_is_read_without_what_is_not_known() {
    #[derive(Serialize)]
    struct Newer {
        #[serde(flatten)]
        known: FunctionDefinition,
        colour: &'static str,
    }
    let bytes = messages::encode(&Newer { known: definition(), colour: "blue" });
    assert_eq!(FunctionDefinition::read("k", &bytes, 3), Ok(definition()));
    assert!(FunctionDefinition::read("k", &bytes[..bytes.len() - 1], 3).is_err());
}

#[test]
fn a_functions_key_leads_back_to_its_path() {
    let path = definition().path();
    assert_eq!(key(&path), "guest.pkg=2Fhello=20world");
    assert_eq!(FunctionDefinition::key(&key(&path)), Some(path));
    assert_eq!(FunctionDefinition::key("no-dot"), None);
    assert_eq!(FunctionDefinition::key("a.b.c"), None);
}
