//! What the record of an invocation tells beside its result: where it ran, cold or warm, with how much.

use serde_json::Value;

use crate::function::{annotated, annotation, text};

/// Where and how one invocation ran. Fields are empty where the record does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// The VM.
    pub vm: String,
    /// `warm`, or `cold` with the time it took to start.
    pub start: String,
    /// What it could use: `250m, 256 MiB`.
    pub grant: String,
}

impl Told {
    /// Reads a record as the HTTP door gives it.
    pub fn by(record: &Value) -> Self {
        let init = annotation(record, "initTime");
        let start = match (init.is_empty(), record.get("annotations").is_some()) {
            (false, _) => format!("cold, {init} ms"),
            (true, true) => "warm".to_owned(),
            (true, false) => String::new(),
        };
        // OpenWhisk's records have no such annotation.
        let Some(ours) = annotated(record, "windfall") else { return Self { start, ..Self::default() } };
        let ceiling = &ours["grant"]["ceiling"];
        let grant = match (ceiling["cpu"].as_u64(), ceiling["memory"].as_u64()) {
            (Some(cpu), Some(memory)) => format!("{cpu}m, {memory} MiB"),
            _ => String::new(),
        };
        Self { vm: text(&ours["vm"]), start, grant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_tells_where_and_with_how_much() {
        let record = json!({ "annotations": [
            { "key": "initTime", "value": 12 },
            { "key": "windfall", "value": {
                "vm": "vm-3", "start": "cold", "grant": { "ceiling": { "cpu": 250, "memory": 256 } }
            } }
        ] });
        let told = Told::by(&record);
        assert_eq!(
            (told.vm.as_str(), told.start.as_str(), told.grant.as_str()),
            ("vm-3", "cold, 12 ms", "250m, 256 MiB")
        );
    }

    #[test]
    fn a_record_of_openwhisk_tells_cold_from_warm() {
        assert_eq!(Told::by(&json!({ "annotations": [] })).start, "warm");
        assert_eq!(Told::by(&json!({})), Told::default());
    }
}
