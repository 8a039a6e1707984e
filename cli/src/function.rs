//! `windfall function`: create, update, get, list, delete.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::client::{self, Client, Connection, Parameters};
use crate::failure::{Failure, Outcome};
use crate::output;

/// Create, change and look at functions.
#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Make a new function from a file
    #[command(after_help = CREATE_HELP)]
    Create(Create),
    /// Change a function: new code, new limits, or both. What is not named stays
    Update(Update),
    /// Show a function
    Get(Get),
    /// List the functions of the namespace, last changed first
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove a function
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

const CREATE_HELP: &str = "\
The kind is guessed from the file: .py is python:default, .js is nodejs:default, an executable (or a text that
starts with #!) is native:default; a .zip is what its entry file says (__main__.py, index.js or package.json, exec).

Examples:
  windfall function create hello deploy/functions/hello.py
  windfall function create thumb thumb.zip --memory 512 --cpu 1000 --timeout 30000
  windfall function create greet greet.js -p greeting Hi -a description 'says hi'

Annotations that Windfall knows:
  on-eviction   \"rerun\", \"rerun-at-loss\" or \"never\": what the loss of its VM may do to a run
  application   which functions are judged together; else those of one package
  input-size    the field of the argument that says how large an input is, as image or job.rows; else the argument's
                length. Text (base64 too) counts its bytes, a list its items, a number itself; missing is 0";

/// What a function may be given.
#[derive(Debug, Args)]
pub struct Properties {
    /// Runtime, such as python:3, nodejs:20, native:1; `default` takes the newest. Guessed from the file
    #[arg(long)]
    kind: Option<String>,
    /// Memory reservation, MB
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// CPU reservation, thousandths of a core
    #[arg(long, value_name = "MILLICORES")]
    cpu: Option<u32>,
    /// Time limit of one run, ms
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Log limit of one run, MB
    #[arg(long, value_name = "MB")]
    logs: Option<u32>,
    /// Entry point; `main` unless named
    #[arg(long, value_name = "NAME")]
    main: Option<String>,
    #[command(flatten)]
    parameters: Parameters,
    /// An annotation; may be repeated
    #[arg(
        short = 'a',
        long = "annotation",
        num_args = 2,
        value_names = ["KEY", "VALUE"],
        action = clap::ArgAction::Append
    )]
    annotations: Vec<String>,
}

/// `function create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name: name or package/name
    name: String,
    /// Its code
    file: PathBuf,
    #[command(flatten)]
    properties: Properties,
    #[command(flatten)]
    connection: Connection,
}

/// `function update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Its name
    name: String,
    /// New code
    file: Option<PathBuf>,
    #[command(flatten)]
    properties: Properties,
    #[command(flatten)]
    connection: Connection,
}

/// `function get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Its name
    name: String,
    /// Write the code to this file instead
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// `function list`.
#[derive(Debug, Args)]
pub struct List {
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Leave out the first so many
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// `function delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// Carries one out.
pub async fn run(command: FunctionCommand) -> Outcome {
    match command {
        FunctionCommand::Create(create) => self::create(create).await,
        FunctionCommand::Update(update) => self::update(update).await,
        FunctionCommand::Get(get) => self::get(get).await,
        FunctionCommand::List(list) => self::list(list).await,
        FunctionCommand::Delete(delete) => self::delete(delete).await,
    }
}

async fn create(create: Create) -> Outcome {
    let body = create.properties.body(Some(&create.file))?;
    let client = Client::new(&create.connection)?;
    let path = client::function_path(&create.name)?;
    let made = client.put(&format!("{path}?overwrite=false"), &body).await?;
    println!("created {}", described(&made));
    Ok(())
}

async fn update(update: Update) -> Outcome {
    let body = update.properties.body(update.file.as_deref())?;
    let client = Client::new(&update.connection)?;
    let path = client::function_path(&update.name)?;
    if update.file.is_none() {
        // Without code the API takes an unknown name for a new function that lacks it, and says so in its own words.
        client.get(&format!("{path}?code=false")).await?;
    }
    let made = client.put(&format!("{path}?overwrite=true"), &body).await?;
    println!("updated {}", described(&made));
    Ok(())
}

async fn get(get: Get) -> Outcome {
    let client = Client::new(&get.connection)?;
    let path = client::function_path(&get.name)?;
    let Some(file) = &get.save else {
        let function = client.get(&format!("{path}?code=false")).await?;
        println!("{}", output::pretty(&function));
        return Ok(());
    };
    let function = client.get(&path).await?;
    let exec = function.get("exec").cloned().unwrap_or_default();
    let text = exec.get("code").and_then(Value::as_str).unwrap_or_default();
    let is_binary = exec.get("binary").and_then(Value::as_bool).unwrap_or(false);
    let bytes = if is_binary {
        base64::engine::general_purpose::STANDARD.decode(text)?
    } else {
        text.as_bytes().to_vec()
    };
    std::fs::write(file, &bytes)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", file.display())))?;
    println!("wrote {} bytes to {}", bytes.len(), file.display());
    Ok(())
}

async fn list(list: List) -> Outcome {
    let client = Client::new(&list.connection)?;
    let path = format!("/namespaces/_/actions?limit={}&skip={}", list.limit, list.skip);
    let functions = client.get(&path).await?;
    if list.json {
        println!("{}", output::pretty(&functions));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = functions
        .as_array()
        .into_iter()
        .flatten()
        .map(|function| {
            let limit = |name: &str| text(&function["limits"][name]);
            vec![
                text(&function["name"]),
                annotation(function, "exec"),
                text(&function["version"]),
                limit("memory"),
                limit("cpu"),
                limit("timeout"),
                output::utc(function["updated"].as_u64().unwrap_or(0)),
            ]
        })
        .collect();
    print!(
        "{}",
        output::table(&["name", "kind", "version", "mem MB", "cpu m", "timeout ms", "updated (UTC)"], &rows)
    );
    Ok(())
}

async fn delete(delete: Delete) -> Outcome {
    let client = Client::new(&delete.connection)?;
    let gone = client.delete(&client::function_path(&delete.name)?).await?;
    println!("deleted {}", text(&gone["name"]));
    Ok(())
}

fn described(function: &Value) -> String {
    let limits = &function["limits"];
    let cpu = limits.get("cpu").map(|cpu| format!(", {}m CPU", text(cpu))).unwrap_or_default();
    format!(
        "{}: {}, version {}, {} MB{cpu}, {} ms",
        text(&function["name"]),
        annotation(function, "exec"),
        text(&function["version"]),
        text(&limits["memory"]),
        text(&limits["timeout"]),
    )
}

/// One annotation's value as text; empty when there is none.
pub fn annotation(entity: &Value, key: &str) -> String {
    annotated(entity, key).map(text).unwrap_or_default()
}

/// One annotation's value.
pub fn annotated<'a>(entity: &'a Value, key: &str) -> Option<&'a Value> {
    entity["annotations"].as_array()?.iter().find(|pair| pair["key"] == key).map(|pair| &pair["value"])
}

/// A value without the quotes of JSON text; empty for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Properties {
    /// The body of a PUT. Only what was named is in it: the rest keeps its value, or gets its default.
    fn body(&self, file: Option<&Path>) -> Outcome<Value> {
        let mut body = Map::new();
        if let Some(file) = file {
            body.insert("exec".into(), self.exec(file)?);
        } else if self.kind.is_some() || self.main.is_some() {
            return Err(Failure::usage("--kind and --main belong to code: name the file as well"));
        }
        let limits: Map<String, Value> = [
            ("memory", self.memory.map(Value::from)),
            ("cpu", self.cpu.map(Value::from)),
            ("timeout", self.timeout.map(Value::from)),
            ("logs", self.logs.map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
        if !limits.is_empty() {
            body.insert("limits".into(), Value::Object(limits));
        }
        if self.parameters.is_given() {
            body.insert("parameters".into(), client::key_values(self.parameters.object()?));
        }
        if !self.annotations.is_empty() {
            body.insert("annotations".into(), client::key_values(client::pairs(&self.annotations)));
        }
        Ok(Value::Object(body))
    }

    fn exec(&self, file: &Path) -> Outcome<Value> {
        let bytes = std::fs::read(file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        let kind = match &self.kind {
            Some(kind) => kind.clone(),
            None => guess_kind(file, &bytes)?.to_owned(),
        };
        let mut exec = code(&kind, bytes);
        if let Some(main) = &self.main {
            exec["main"] = Value::from(main.as_str());
        }
        Ok(exec)
    }
}

/// Code as the API takes it: text as it is, everything else in base64. Native code is always sent in base64, since
/// a script may be text and a binary is not.
pub fn code(kind: &str, bytes: Vec<u8>) -> Value {
    let is_archive = bytes.starts_with(b"PK\x03\x04");
    let code = match String::from_utf8(bytes) {
        Ok(text) if !is_archive && !kind.starts_with("native") => text,
        Ok(text) => base64::engine::general_purpose::STANDARD.encode(text),
        Err(error) => base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
    };
    json!({ "kind": kind, "code": code })
}

fn guess_kind(file: &Path, bytes: &[u8]) -> Outcome<&'static str> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let guess = match extension {
        "py" => Some("python:default"),
        "js" | "mjs" | "cjs" => Some("nodejs:default"),
        _ if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") => Some("native:default"),
        _ if bytes.starts_with(b"PK\x03\x04") => kind_of_archive(bytes),
        _ => None,
    };
    guess.ok_or_else(|| {
        Failure::usage(format!(
            "cannot tell the kind of {}: name it with --kind, such as --kind python:default",
            file.display()
        ))
    })
}

/// What the entry file of an archive says.
fn kind_of_archive(bytes: &[u8]) -> Option<&'static str> {
    let archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let has = |name: &str| archive.index_for_name(name).is_some();
    if has("__main__.py") {
        Some("python:default")
    } else if has("package.json") || has("index.js") {
        Some("nodejs:default")
    } else if has("exec") {
        Some("native:default")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_guessed_from_the_name_or_the_first_bytes() {
        for (name, bytes, kind) in [
            ("a.py", &b"x"[..], "python:default"),
            ("a.js", b"x", "nodejs:default"),
            ("a", b"\x7fELF...", "native:default"),
            ("a.sh", b"#!/bin/sh", "native:default"),
        ] {
            assert_eq!(guess_kind(Path::new(name), bytes).expect(name), kind);
        }
        let error = guess_kind(Path::new("a.txt"), b"text").expect_err("unknown").to_string();
        assert!(error.contains("--kind"), "{error}");
    }

    #[test]
    fn native_code_travels_in_base64_even_when_it_is_text() {
        assert_eq!(code("native:default", b"#!/bin/sh".to_vec())["code"], "IyEvYmluL3No");
        assert_eq!(code("python:default", b"x = 1".to_vec())["code"], "x = 1");
    }
}
