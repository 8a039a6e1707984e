//! The sample functions of the demo: those in `deploy/functions`, built into the binary.

use std::path::Path;
use std::process::Command;

use actors::settings::Vm;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};

/// One sample.
pub struct Sample {
    /// Its name in the cluster.
    pub name: &'static str,
    /// Its runtime.
    pub kind: &'static str,
    /// Its code.
    pub code: Vec<u8>,
    /// What it is called with.
    pub argument: Value,
    /// What it must answer.
    pub expected: Value,
}

/// The source of the native sample.
const HELLO_C: &str = include_str!("../../../deploy/functions/hello.c");

/// Those that this machine can run, and a line for each that it cannot.
pub fn samples(settings: &Vm, scratch: &Path) -> Outcome<(Vec<Sample>, Vec<String>)> {
    let catalogue = sandbox::catalogue(settings.python.as_deref(), settings.node.as_deref());
    let has = |kind: &str| kind.parse().is_ok_and(|kind| catalogue.resolve(&kind).is_some());
    let mut samples = Vec::new();
    let mut left_out = Vec::new();
    let name = json!({ "name": "Windfall" });
    let greeting = |from: &str| json!({ "greeting": format!("Hello Windfall, from {from}") });
    if has("python:default") {
        samples.push(Sample {
            name: "hello-python",
            kind: "python:default",
            code: include_bytes!("../../../deploy/functions/hello.py").to_vec(),
            argument: name.clone(),
            expected: greeting("Python"),
        });
        samples.push(Sample {
            name: "primes",
            kind: "python:default",
            code: include_bytes!("../../../deploy/functions/primes.py").to_vec(),
            argument: json!({ "below": 200_000 }),
            expected: json!({ "below": 200_000, "primes": 17_984 }),
        });
    } else {
        return Err(Failure::new(
            Exit::Failed,
            "the demo needs python3, and none was found; install it, or name it with --set vm.python=PATH",
        ));
    }
    if has("nodejs:default") {
        samples.push(Sample {
            name: "hello-node",
            kind: "nodejs:default",
            code: include_bytes!("../../../deploy/functions/hello.js").to_vec(),
            argument: name.clone(),
            expected: greeting("Node"),
        });
    } else {
        left_out.push("hello-node: there is no node on this machine".to_owned());
    }
    samples.push(Sample {
        name: "hello-native",
        kind: "native:default",
        code: compiled(scratch)?,
        argument: name,
        expected: greeting("C"),
    });
    Ok((samples, left_out))
}

/// The native sample, compiled with the C compiler of this machine.
fn compiled(scratch: &Path) -> Outcome<Vec<u8>> {
    std::fs::create_dir_all(scratch)?;
    let source = scratch.join("hello.c");
    let program = scratch.join("hello-native");
    std::fs::write(&source, HELLO_C)?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler).args(["-O2", "-o"]).arg(&program).arg(&source).output();
    let output = output.map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the demo needs a C compiler, and {compiler} cannot be started: {error}. Install gcc, or set CC"),
        )
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(Exit::Failed, format!("{compiler} could not compile hello.c:\n{said}")));
    }
    Ok(std::fs::read(&program)?)
}
