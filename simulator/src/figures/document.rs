//! Figures as files: a table over all of them, a page for each, an SVG for each chart, one JSON.
//!
//! **Knows:** a figure that has been drawn, the command that made it, and what stands in the JSON from before.
//! **Promises:** figures that were made one by one, by whatever commands, stand in one JSON and one table; whoever stops between two
//! keeps both the new and the old ones. Each file is written beside its place and then moved there.
//! **Gives up:** deleting files of figures that are no longer made; two programs that write the same folder at the same time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ALL, Drawn, Table};

/// Where everything goes.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder of the pages and their charts; made if it is not there.
    pub out: PathBuf,
    /// The JSON.
    pub json: PathBuf,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No permission, no room.
    #[error("cannot write {path}: {source}; name a folder that you may write to with --out")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something else stands there.
    #[error("{path} holds something else than figures; name another file with --json")]
    NotOurs {
        /// Which file.
        path: String,
    },
}

/// Keys of the JSON that are no figures.
const MADE_BY: &str = "made_by";
const WORDS: &str = "words";
const GOALS: &str = "goals";

/// Writes one figure beside those that are there already. `command` is the line that made it.
pub fn write(drawn: &Drawn, command: &str, files: &Files) -> Result<(), WriteError> {
    let mut all = read(&files.json)?;
    join(&mut all, drawn, command);
    for chart in &drawn.charts {
        put(&files.out.join(format!("{}.svg", chart.file)), &chart.svg())?;
    }
    let page = format!("# {}\n\nMade by `{command}`.\n\n{}", drawn.name, markdown(drawn));
    put(&files.out.join(format!("{}.md", drawn.name)), &page)?;
    let text = serde_json::to_string_pretty(&all).expect("numbers and strings only") + "\n";
    put(&files.json, &text)?;
    put(&files.out.join("README.md"), &overview(&all))
}

fn put(path: &Path, text: &str) -> Result<(), WriteError> {
    let wrong = |source| WriteError::Io { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path)).map_err(wrong)
}

/// What stands there; nothing where there is no file.
fn read(path: &Path) -> Result<Map<String, Value>, WriteError> {
    let name = || path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|_| WriteError::NotOurs { path: name() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(source) => Err(WriteError::Io { path: name(), source }),
    }
}

/// Puts a figure where it belongs: by figure, then by cluster or workload, then by policy; and beside the figures, by figure, the line
/// that made it, its words and its goals.
fn join(all: &mut Map<String, Value>, drawn: &Drawn, command: &str) {
    all.insert(drawn.name.into(), json!(drawn.values));
    let words = json!({
        "about": drawn.about, "notes": drawn.notes, "findings": drawn.findings, "broken": drawn.broken,
    });
    for (key, value) in [(MADE_BY, json!(command)), (WORDS, words), (GOALS, json!(drawn.goals))] {
        let by_figure = all.entry(key).or_insert_with(|| json!({}));
        if !by_figure.is_object() {
            *by_figure = json!({});
        }
        by_figure[drawn.name] = value;
    }
}

/// The page over all: one table, then where to read on.
fn overview(all: &Map<String, Value>) -> String {
    let text_at = |path: &[&str]| {
        let value = path.iter().try_fold(None, |at: Option<&Value>, key| {
            Some(Some(match at {
                None => all.get(*key)?,
                Some(value) => value.get(*key)?,
            }))
        });
        value.flatten().and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut table = Table::new(
        "What the papers say, what their policies come to here, and ours",
        &["figure", "of what", "paper", "its policy, played again", "ours", "goal", "met"],
    );
    let mut rest = String::new();
    let there = || ALL.iter().filter(|figure| all.contains_key(figure.name()));
    for figure in there() {
        let name = figure.name();
        let goals = all.get(GOALS).and_then(|goals| goals.get(name)).and_then(Value::as_array);
        for goal in goals.into_iter().flatten() {
            let cell =
                |key: &str| goal[key].as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
            let met = goal["met"].as_bool().map_or("-", |met| if met { "yes" } else { "**no**" });
            let mut row = vec![format!("[{name}]({name}.md)")];
            row.extend(["of", "paper", "rerun", "ours", "wanted"].map(cell));
            row.push(met.to_owned());
            table.rows.push(row);
        }
        let (about, made_by) = (text_at(&[WORDS, name, "about"]), text_at(&[MADE_BY, name]));
        let _ = writeln!(rest, "\n**[{name}]({name}.md)** {about}\n\n    {made_by}");
    }
    format!(
        "# Figures: the papers, their policies played again, and ours\n\n{}\nThe same numbers for programs, with their spread: `figures.json`. How near \
         the re-runs are to the published curves, and why not nearer: [docs/simulator.md](../simulator.md).\n{rest}",
        table_text(&table)
    )
}

/// One figure for people.
pub fn markdown(drawn: &Drawn) -> String {
    let mut text = format!("{}\n", drawn.about);
    for table in &drawn.tables {
        let _ = write!(text, "\n{}", table_text(table));
    }
    let goals: Vec<String> = drawn
        .goals
        .iter()
        .filter_map(|goal| {
            let held = if goal.met? { "holds" } else { "does NOT hold" };
            let paper =
                if goal.paper.is_empty() { String::new() } else { format!("; published {}", goal.paper) };
            Some(format!(
                "{}: {}, where the paper's policy has {}{paper}. The goal of {} {held}.",
                goal.of,
                goal.ours,
                or_dash(&goal.rerun),
                goal.wanted
            ))
        })
        .collect();
    let words = [
        ("Goals", &goals),
        ("What else is to be seen", &drawn.findings),
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

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn table_text(table: &Table) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_owned(); table.heads.len()];
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!("{}:\n\n{}{}{}", table.title, row(&table.heads), row(&rule), rows)
}

#[cfg(test)]
mod tests {
    use super::super::{Chart, Goal, Line};
    use super::*;

    fn drawn(name: &'static str, ours: &str) -> Drawn {
        let policies = [("mws".to_owned(), json!({"calls_per_second": 3.5}))].into_iter().collect();
        let line = Line { name: "mws".into(), points: vec![(1.0, 2.0)], published: false };
        Drawn {
            name,
            about: "What it shows.",
            notes: vec!["drawn by chance".into()],
            goals: vec![Goal {
                of: "Normal, calls/s".into(),
                paper: "24.0".into(),
                rerun: "19.3".into(),
                ours: ours.into(),
                wanted: "22.2".into(),
                met: Some(false),
            }],
            findings: Vec::new(),
            broken: Vec::new(),
            tables: vec![Table::new("Numbers", &["cluster"])],
            charts: vec![Chart {
                file: format!("{name}-p99"),
                title: "P99".into(),
                x: "load".into(),
                y: "s".into(),
                logarithmic: false,
                lines: vec![line],
            }],
            values: [("Normal".to_owned(), policies)].into_iter().collect(),
        }
    }

    #[test]
    fn figures_made_one_by_one_stand_in_one_table_and_one_json_and_a_new_one_replaces_its_own_only() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { out: folder.path().join("docs"), json: folder.path().join("numbers.json") };
        write(&drawn("cost", "20.0"), "first command", &files).unwrap();
        let odd = 0.112_400_138_263_891_17;
        let other = Drawn {
            values: [("10 VMs".into(), [("mws".into(), json!(odd))].into())].into(),
            ..drawn("scale", "")
        };
        write(&other, "a command", &files).unwrap();
        write(&drawn("balancers", "21.0"), "second command", &files).unwrap();
        write(&drawn("cost", "21.6"), "third command", &files).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&files.json).unwrap()).unwrap();
        assert_eq!(json["balancers"]["Normal"]["mws"]["calls_per_second"], 3.5);
        assert_eq!(json["scale"]["10 VMs"]["mws"], odd, "to the last digit, though read and written again");
        assert_eq!(
            (&json["made_by"]["balancers"], &json["made_by"]["cost"]),
            (&json!("second command"), &json!("third command"))
        );
        let read = |name: &str| std::fs::read_to_string(files.out.join(name)).unwrap();
        let overview = read("README.md");
        for part in [
            "| [balancers](balancers.md) | Normal, calls/s | 24.0 | 19.3 | 21.0 | 22.2 | **no** |",
            "| 21.6 |",
            "second command",
            "third command",
        ] {
            assert!(overview.contains(part), "{part} is missing in:\n{overview}");
        }
        assert!(!overview.contains("20.0") && !overview.contains("first command"), "{overview}");
        assert!(overview.find("[balancers]") < overview.find("[cost]"), "in the order of all figures");
        assert!(read("cost.md").contains("The goal of 22.2 does NOT hold."));
        assert!(read("cost-p99.svg").starts_with("<svg"));
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { out: folder.path().into(), json: folder.path().join("notes.json") };
        std::fs::write(&files.json, "my notes").unwrap();
        let error = write(&drawn("cost", "1"), "command", &files).unwrap_err();
        assert!(error.to_string().contains("notes.json") && error.to_string().contains("--json"), "{error}");
        assert_eq!(std::fs::read_to_string(&files.json).unwrap(), "my notes");
    }
}
