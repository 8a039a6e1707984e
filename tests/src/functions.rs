//! Functions that the tests run: real ones, in every language.

use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use serde_json::{Value, json};

/// The native sample of `deploy/`, which the story uses as well.
const HELLO_C: &str = include_str!("../../deploy/functions/hello.c");

/// A Python function.
pub fn python(code: &str) -> Value {
    json!({ "exec": { "kind": "python:default", "code": code } })
}

/// A Python function of which many fit on a VM.
pub fn small(code: &str) -> Value {
    with(python(code), json!({ "limits": { "memory": 128, "cpu": 100, "timeout": 60_000 } }))
}

/// A Node.js function; `None`, and a printed line, where this machine has no node.
pub fn node(code: &str) -> Option<Value> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = FOUND
        .get_or_init(|| Command::new("node").arg("--version").output().is_ok_and(|o| o.status.success()));
    if !found {
        println!("skipped: the part with Node.js, since there is no node on this machine");
        return None;
    }
    Some(json!({ "exec": { "kind": "nodejs:default", "code": code } }))
}

/// A native function: the C sample, which greets `name`.
pub fn hello_c() -> Value {
    json!({ "exec": { "kind": "native:default", "code": base64(&compiled(HELLO_C)) } })
}

/// A Python function out of several files.
pub fn python_zip(files: &[(&str, &str)]) -> Value {
    json!({ "exec": { "kind": "python:default", "code": base64(&zip(files)) } })
}

/// The same with limits, annotations or whatever else the API knows.
pub fn with(mut function: Value, more: Value) -> Value {
    let (Value::Object(function_), Value::Object(more)) = (&mut function, more) else {
        panic!("two objects")
    };
    function_.extend(more);
    function
}

/// Files as one zip archive.
pub fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("in memory");
        std::io::Write::write_all(&mut archive, text.as_bytes()).expect("in memory");
    }
    archive.finish().expect("in memory").into_inner()
}

/// As the API carries binary code.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn compiled(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, program) = (folder.path().join("function.c"), folder.path().join("function"));
    std::fs::write(&text, source).expect("written");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler).args(["-O2", "-o"]).arg(&program).arg(&text).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot start {compiler}: {error}. Install a C compiler, or name one with CC")
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(&program).expect("compiled")
}

/// Answers with its argument.
pub const ECHO: &str = "def main(args):\n    return args\n";

/// Sleeps as many seconds as `seconds` says, then answers with its argument and the VM's view of who it is.
pub const SLEEP: &str = "\
import time
def main(args):
    time.sleep(args.get('seconds', 0))
    return args
";
