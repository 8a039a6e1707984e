//! What a PUT of an action says, checked, and merged into what there was.
//!
//! **Promises:** what is absent keeps its value; a limit out of its range, an unknown kind and a parameter list over
//! the limit are refused before anything is stored.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use vocabulary::{FunctionId, OnEviction, Revision};

use super::answer::Refusal;
use super::manifest::Manifest;
use crate::settings::Limits;
use crate::store::{
    CodeReference, FunctionDefinition, FunctionLimits, INPUT_SIZE, JsonText, ON_EVICTION, Parameter, Version,
};

/// The body of a PUT. What it does not know it skips, as OpenWhisk does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionPut {
    exec: Option<Exec>,
    parameters: Option<Vec<Entry>>,
    annotations: Option<Vec<Entry>>,
    del_annotations: Option<Vec<String>>,
    limits: Option<PutLimits>,
    version: Option<String>,
    publish: Option<bool>,
}

#[derive(Deserialize)]
struct Exec {
    kind: String,
    code: Option<String>,
    main: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: Option<Box<RawValue>>,
    #[serde(default)]
    init: bool,
}

#[derive(Deserialize)]
struct PutLimits {
    timeout: Option<i64>,
    memory: Option<i64>,
    logs: Option<i64>,
    concurrency: Option<i64>,
    instances: Option<i64>,
    /// Windfall's own: thousandths of a core.
    cpu: Option<i64>,
}

/// Code as its user sent it and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Code {
    pub text: String,
    pub bytes: Bytes,
    pub binary: bool,
}

/// A checked PUT.
#[derive(Debug, Default)]
pub(super) struct Checked {
    exec: Option<CheckedExec>,
    parameters: Option<Vec<Parameter>>,
    annotations: Option<Vec<Parameter>>,
    removed_annotations: Vec<String>,
    limits: PartialLimits,
    version: Option<Version>,
    publish: Option<bool>,
}

#[derive(Debug)]
struct CheckedExec {
    kind: String,
    main: String,
    code: Code,
}

#[derive(Debug, Default)]
struct PartialLimits {
    timeout_ms: Option<u64>,
    memory_mb: Option<u32>,
    logs_mb: Option<u32>,
    concurrency: Option<u32>,
    cpu_millicores: Option<u32>,
}

/// Reads and checks a body. Takes as long as the code is large: not on the runtime's threads where that is much.
pub(super) fn read(body: &[u8], manifest: &Manifest, limits: &Limits) -> Result<Checked, Refusal> {
    let put: ActionPut = serde_json::from_slice(body).map_err(Refusal::malformed)?;
    let version =
        put.version.map(|text| text.parse()).transpose().map_err(|e: String| Refusal::malformed(e))?;
    let annotations = put.annotations.map(|list| entries("annotations", list, limits)).transpose()?;
    if let Some(value) = annotations.iter().flatten().find(|one| one.key == ON_EVICTION)
        && serde_json::from_str::<OnEviction>(&value.value.0).is_err()
    {
        let error = "annotation 'on-eviction' must be \"rerun\", \"rerun-at-loss\" or \"never\"";
        return Err(Refusal::malformed(error));
    }
    if let Some(value) = annotations.iter().flatten().find(|one| one.key == INPUT_SIZE)
        && !serde_json::from_str::<String>(&value.value.0).is_ok_and(|field| is_field(&field))
    {
        let error =
            "annotation 'input-size' must name a field of the argument, such as \"image\" or \"job.rows\"";
        return Err(Refusal::malformed(error));
    }
    Ok(Checked {
        exec: put.exec.map(|exec| check_exec(exec, manifest, limits)).transpose()?,
        parameters: put.parameters.map(|list| entries("parameters", list, limits)).transpose()?,
        annotations,
        removed_annotations: put.del_annotations.unwrap_or_default(),
        limits: put.limits.map(|put| check_limits(&put, limits)).transpose()?.unwrap_or_default(),
        version,
        publish: put.publish,
    })
}

fn is_field(field: &str) -> bool {
    field.len() <= 256 && field.split('.').all(|name| !name.is_empty())
}

fn check_exec(exec: Exec, manifest: &Manifest, limits: &Limits) -> Result<CheckedExec, Refusal> {
    let Some(kind) = manifest.resolve(&exec.kind) else {
        let kind = super::asked::shortened(&exec.kind);
        return Err(Refusal::malformed(format!("kind '{kind}' not in Set({})", manifest.kinds())));
    };
    let Some(text) = exec.code else {
        let error = format!("'code' must be a string defined in 'exec' for '{kind}' actions");
        return Err(Refusal::malformed(error));
    };
    if text.len() > limits.code_max {
        return Err(Refusal::too_large("Code is", text.len(), limits.code_max));
    }
    let main = exec.main.unwrap_or_default();
    if main.len() > 256 || main.chars().any(char::is_control) {
        return Err(Refusal::malformed("'main' must be a name of at most 256 characters"));
    }
    Ok(CheckedExec { kind: kind.to_owned(), main, code: Code::new(text) })
}

/// Base64 as OpenWhisk recognises it: standard alphabet, padded, no spaces inside.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

impl Code {
    fn new(text: String) -> Self {
        let trimmed = text.trim();
        match BASE64.decode(trimmed) {
            Ok(bytes) if !trimmed.is_empty() => Self { bytes: bytes.into(), text, binary: true },
            _ => Self { bytes: Bytes::copy_from_slice(text.as_bytes()), text, binary: false },
        }
    }

    /// Stored code as its user sent it.
    pub(super) fn text_of(bytes: &[u8], binary: bool) -> String {
        if binary { BASE64.encode(bytes) } else { String::from_utf8_lossy(bytes).into_owned() }
    }
}

/// A list of keys and values; of a key that comes twice the last counts.
fn entries(what: &str, list: Vec<Entry>, limits: &Limits) -> Result<Vec<Parameter>, Refusal> {
    let mut checked: Vec<Parameter> = Vec::with_capacity(list.len());
    let mut places = std::collections::HashMap::new();
    let mut size = 0;
    for entry in list {
        if entry.key.trim().is_empty() {
            return Err(Refusal::malformed(format!("{what} malformed: a key is empty")));
        }
        let value = entry.value.map_or_else(|| "null".to_owned(), |value| compact(value.get()));
        size += entry.key.len() + value.len();
        let entry = Parameter { key: entry.key, value: JsonText(value), init: entry.init };
        match places.get(&entry.key) {
            Some(place) => checked[*place] = entry,
            None => {
                places.insert(entry.key.clone(), checked.len());
                checked.push(entry);
            }
        }
    }
    if size > limits.payload_max {
        let what = if what == "parameters" { "Parameters are" } else { "Annotations are" };
        return Err(Refusal::too_large(what, size, limits.payload_max));
    }
    Ok(checked)
}

/// JSON text without the spaces and line ends between its tokens; numbers stay as they were written.
fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if !in_string && character.is_ascii_whitespace() {
            continue;
        }
        if escaped {
            escaped = false;
        } else if in_string && character == '\\' {
            escaped = true;
        } else if character == '"' {
            in_string = !in_string;
        }
        out.push(character);
    }
    out
}

fn check_limits(put: &PutLimits, limits: &Limits) -> Result<PartialLimits, Refusal> {
    if put.instances.is_some() {
        return Err(Refusal::malformed("limits.instances is not supported: use the namespace's concurrency"));
    }
    let (memory, logs) = ((limits.memory_min, limits.memory_max), (0, limits.logs_max));
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let timeout = (limits.timeout_min_ms, limits.timeout_max_ms);
    Ok(PartialLimits {
        timeout_ms: within("timeout", put.timeout, timeout, "milliseconds")?,
        memory_mb: within("memory", put.memory, wide(memory), "MB")?.map(number),
        logs_mb: within("logs", put.logs, wide(logs), "MB")?.map(number),
        concurrency: within("concurrency", put.concurrency, (1, 1), "")?.map(number),
        cpu_millicores: within("cpu", put.cpu, wide((limits.cpu_min, limits.cpu_max)), "millicores")?
            .map(number),
    })
}

fn wide((min, max): (u32, u32)) -> (u64, u64) {
    (u64::from(min), u64::from(max))
}

fn within(
    name: &str,
    value: Option<i64>,
    (min, max): (u64, u64),
    unit: &str,
) -> Result<Option<u64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let refused = |relation: &str, threshold: u64| {
        let text = format!("{name} {value} {unit} {relation} allowed threshold of {threshold} {unit}");
        Refusal::malformed(format!("requirement failed: {}", text.replace("  ", " ").trim()))
    };
    match u64::try_from(value) {
        Ok(value) if value > max => Err(refused("exceeds", max)),
        Ok(value) if value >= min => Ok(Some(value)),
        _ => Err(refused("below", min)),
    }
}

impl Checked {
    /// The code that came with it, if any.
    pub(super) fn code(&self) -> Option<&Code> {
        self.exec.as_ref().map(|exec| &exec.code)
    }

    /// A new function.
    pub(super) fn create(
        self,
        namespace: &str,
        name: &str,
        stored: Option<CodeReference>,
        limits: &Limits,
        now_unix_ms: u64,
    ) -> Result<FunctionDefinition, Refusal> {
        if self.exec.is_none() {
            return Err(Refusal::bad_request("exec undefined"));
        }
        let blank = FunctionDefinition {
            id: FunctionId(0),
            revision: Revision(0),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: Version { numbers: [0, 0, 0] },
            kind: String::new(),
            main: String::new(),
            binary: false,
            code: None,
            parameters: Vec::new(),
            annotations: vec![annotation("provide-api-key", "false")],
            limits: FunctionLimits {
                timeout_ms: limits.timeout_default_ms,
                memory_mb: limits.memory_default,
                logs_mb: limits.logs_default,
                concurrency: 1,
                cpu_millicores: limits.cpu_default,
            },
            publish: false,
            updated_unix_ms: 0,
        };
        let mut made = self.update(&blank, stored, now_unix_ms);
        made.id = FunctionDefinition::new_id();
        Ok(made)
    }

    /// `old` with what this says instead; what it does not say stays.
    pub(super) fn update(
        self,
        old: &FunctionDefinition,
        stored: Option<CodeReference>,
        now_unix_ms: u64,
    ) -> FunctionDefinition {
        let mut new = old.clone();
        new.updated_unix_ms = now_unix_ms;
        new.version = self.version.unwrap_or_else(|| old.version.next_patch());
        new.publish = self.publish.unwrap_or(old.publish);
        new.parameters = self.parameters.unwrap_or(new.parameters);
        for annotation in self.annotations.into_iter().flatten() {
            set(&mut new.annotations, annotation);
        }
        new.annotations.retain(|annotation| !self.removed_annotations.contains(&annotation.key));
        if let Some(exec) = self.exec {
            set(&mut new.annotations, annotation("exec", &JsonText::of(&exec.kind.as_str().into()).0));
            new.kind = exec.kind;
            new.main = exec.main;
            new.binary = exec.code.binary;
            new.code = stored;
        }
        let limits = &mut new.limits;
        limits.timeout_ms = self.limits.timeout_ms.unwrap_or(limits.timeout_ms);
        limits.memory_mb = self.limits.memory_mb.unwrap_or(limits.memory_mb);
        limits.logs_mb = self.limits.logs_mb.unwrap_or(limits.logs_mb);
        limits.concurrency = self.limits.concurrency.unwrap_or(limits.concurrency);
        limits.cpu_millicores = self.limits.cpu_millicores.unwrap_or(limits.cpu_millicores);
        new
    }
}

fn annotation(key: &str, value: &str) -> Parameter {
    Parameter { key: key.into(), value: JsonText(value.into()), init: false }
}

fn set(annotations: &mut Vec<Parameter>, new: Parameter) {
    match annotations.iter_mut().find(|annotation| annotation.key == new.key) {
        Some(annotation) => *annotation = new,
        None => annotations.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_base64_is_binary() {
        assert!(Code::new("UEsDBA==".into()).binary);
        assert_eq!(Code::new("UEsDBA==\n".into()).bytes, &b"PK\x03\x04"[..]);
        assert!(Code::new("main".into()).binary, "as OpenWhisk has it: this is base64");
        for text in ["", "def main(args):\n    return {}\n", "UEsDBA", "UEsDBA=", "====", "a b c d "] {
            assert!(!Code::new(text.into()).binary, "{text}");
        }
        assert_eq!(Code::text_of(b"PK\x03\x04", true), "UEsDBA==");
    }

    #[test]
    fn values_lose_their_spaces_and_nothing_else() {
        assert_eq!(compact("{ \"a b\" :\n [ 1.50 , \"x\\\" y\" ] }"), r#"{"a b":[1.50,"x\" y"]}"#);
    }

    #[test]
    fn limits_are_refused_with_the_threshold() {
        let limits = Limits::default();
        let check = |text: &str| {
            check_limits(&serde_json::from_str(text).unwrap(), &limits).map_err(|refusal| refusal.error)
        };
        for text in [
            r#"{"timeout":0}"#,
            r#"{"timeout":300001}"#,
            r#"{"memory":0}"#,
            r#"{"memory":513}"#,
            r#"{"logs":11}"#,
            r#"{"logs":-1}"#,
            r#"{"concurrency":0}"#,
            r#"{"concurrency":2}"#,
            r#"{"cpu":0}"#,
            r#"{"cpu":64001}"#,
        ] {
            assert!(check(text).unwrap_err().contains("allowed threshold"), "{text}");
        }
        for text in [
            r#"{"timeout":100,"memory":128,"logs":0,"concurrency":1,"cpu":10}"#,
            r#"{"timeout":300000,"memory":512,"logs":10,"concurrency":1,"cpu":64000}"#,
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
        assert_eq!(
            check(r#"{"memory":513}"#).unwrap_err(),
            "The request content was malformed:\nrequirement failed: memory 513 MB exceeds allowed threshold of 512 MB"
        );
    }
}
