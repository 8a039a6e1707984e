//! Figures as files: one Markdown page, one JSON, an SVG for each chart.
//!
//! **Knows:** figures that have been drawn, and the command that made them.
//! **Promises:** each file is written beside its place and then moved there, so that whoever stops in between keeps the old one.
//! **Gives up:** deleting files of figures that are no longer made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Drawn, Table};

/// Where everything goes.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder of the page and its charts; made if it is not there.
    pub out: PathBuf,
    /// The JSON.
    pub json: PathBuf,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; name a folder that you may write to with --out")]
pub struct WriteError {
    path: String,
    source: std::io::Error,
}

/// Writes all of them. `command` is the line that made them.
pub fn write(drawn: &[Drawn], command: &str, files: &Files) -> Result<(), WriteError> {
    put(&files.json, &(json_text(drawn, command) + "\n"))?;
    for chart in drawn.iter().flat_map(|drawn| &drawn.charts) {
        put(&files.out.join(format!("{}.svg", chart.file)), &chart.svg())?;
    }
    put(&files.out.join("README.md"), &page(drawn, command))
}

fn put(path: &Path, text: &str) -> Result<(), WriteError> {
    let wrong = |source| WriteError { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path)).map_err(wrong)
}

/// The JSON: by figure, then by cluster, then by policy.
pub fn json(drawn: &[Drawn], command: &str) -> Value {
    let figures: BTreeMap<&str, Value> = drawn
        .iter()
        .map(|drawn| {
            let mut figure = serde_json::Map::new();
            for (cluster, policies) in &drawn.values {
                figure.insert(cluster.clone(), json!(policies));
            }
            (drawn.name, Value::Object(figure))
        })
        .collect();
    let words: BTreeMap<&str, Value> = drawn
        .iter()
        .map(|drawn| {
            (drawn.name, json!({"about": drawn.about, "notes": drawn.notes, "findings": drawn.findings, "broken": drawn.broken}))
        })
        .collect();
    let mut all = json!(figures);
    all["made_by"] = json!(command);
    all["words"] = json!(words);
    all
}

fn json_text(drawn: &[Drawn], command: &str) -> String {
    serde_json::to_string_pretty(&json(drawn, command)).expect("numbers and strings only")
}

fn page(drawn: &[Drawn], command: &str) -> String {
    let mut text = format!(
        "# Figures: the papers, their policies played again, and ours\n\nMade by `{command}`; the same numbers for programs are in the JSON beside it.\n"
    );
    for drawn in drawn {
        text.push('\n');
        text.push_str(&markdown(drawn));
    }
    text
}

/// One figure for people.
pub fn markdown(drawn: &Drawn) -> String {
    let mut text = format!("## {}\n\n{}\n", drawn.name, drawn.about);
    for table in &drawn.tables {
        let _ = write!(text, "\n{}", table_text(table));
    }
    let words = [
        ("What holds and what does not", &drawn.findings),
        ("Runs that broke and are missing above: bugs", &drawn.broken),
        ("Made of", &drawn.notes),
    ];
    for (title, sentences) in words {
        if !sentences.is_empty() {
            let _ = writeln!(text, "\n**{title}**\n");
            sentences.iter().for_each(|sentence| {
                let _ = writeln!(text, "- {sentence}");
            });
        }
    }
    for chart in &drawn.charts {
        let _ = writeln!(text, "\n![{}]({}.svg)", chart.title, chart.file);
    }
    text
}

fn table_text(table: &Table) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_owned(); table.heads.len()];
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!("{}:\n\n{}{}{}", table.title, row(&table.heads), row(&rule), rows)
}
