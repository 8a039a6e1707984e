//! What the documents say of the code, held against the code.
//!
//! **Promises:** a file, a function, a dependency or a metric that a document names exists, and every metric is named.
//! **Gives up:** whether what is said of them is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace").to_path_buf()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document of the house.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("ARCHITECTURE.md"), PathBuf::from("docs/metrics.md")];
    for entry in std::fs::read_dir(root().join("docs/decisions")).unwrap() {
        found.push(Path::new("docs/decisions").join(entry.unwrap().file_name()));
    }
    assert!(found.len() > 3, "decisions were found");
    found
}

/// What stands between single backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 0 {
            quoted.extend(block.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
        }
    }
    quoted
}

/// Whether something quoted is meant as a path: it has a slash or the ending of one of our files, and nothing that no
/// path of ours has.
fn as_path(quoted: &str) -> Option<&str> {
    let path = quoted.split("::").next().unwrap_or_default();
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    let endings = [".rs", ".md", ".sh", ".py", ".js"];
    let is_path = path.contains('/') || endings.iter().any(|ending| path.ends_with(ending));
    (plain && is_path && !path.starts_with('/')).then_some(path)
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for document in documents() {
        for quoted in quoted(&read(&document)) {
            if let Some(path) = as_path(&quoted) {
                count += 1;
                if !root().join(path).exists() {
                    missing.insert(format!("{}: {path}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 100, "{count} paths were found; is the reading broken?");
}

#[test]
fn every_function_that_a_document_names_is_in_its_file() {
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for document in documents() {
        for quoted in quoted(&read(&document)) {
            if let Some((path, function)) = quoted.split_once(".rs::") {
                count += 1;
                let text = read(format!("{path}.rs"));
                if !text.contains(&format!("fn {function}(")) && !text.contains(&format!("fn {function}<")) {
                    missing.insert(format!("{}: {quoted}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 40, "{count} functions were found; is the reading broken?");
}

#[test]
fn who_uses_whom_is_as_the_manifests_draw_it() {
    let architecture = read("ARCHITECTURE.md");
    let block = architecture.split("```uses\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members: BTreeSet<_> =
        workspace["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    // A crate is named after its folder, apart from those two that are nobody's dependency.
    let ours: BTreeSet<_> = members.iter().map(|member| member.rsplit('/').next().unwrap()).collect();
    let mut described = BTreeSet::new();
    for line in block.lines() {
        let (who, whom) = line.split_once("->").unwrap();
        let who = who.trim();
        described.insert(who);
        let whom: BTreeSet<_> = whom.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let manifest: toml::Table = read(format!("{who}/Cargo.toml")).parse().unwrap();
        let used = manifest.get("dependencies").and_then(toml::Value::as_table);
        let used: BTreeSet<_> = used
            .iter()
            .flat_map(|table| table.keys())
            .map(String::as_str)
            .filter(|n| ours.contains(n))
            .collect();
        assert_eq!(whom, used, "what {who} uses, as described and as in its manifest");
    }
    assert_eq!(described, members);
}

/// The names of instruments that the code makes.
fn instruments() -> BTreeSet<String> {
    let mut files = vec![root().join("actors/src/metrics.rs")];
    files.extend(
        std::fs::read_dir(root().join("actors/src/metrics")).unwrap().map(|entry| entry.unwrap().path()),
    );
    let mut names = BTreeSet::new();
    for file in files {
        let text = read(file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let strings = code.split('"').filter(|part| part.starts_with("windfall_"));
        let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        names.extend(strings.filter(is_name).map(ToOwned::to_owned));
    }
    names
}

#[test]
fn every_metric_is_described_and_no_other() {
    let described: BTreeSet<String> = read("docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(ToOwned::to_owned))
        .collect();
    let made = instruments();
    assert!(made.len() > 50, "{} were found; is the reading broken?", made.len());
    let missing: Vec<_> = made.difference(&described).collect();
    let gone: Vec<_> = described.difference(&made).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not described: {missing:?}; not made any more: {gone:?}");
}

#[test]
fn every_setting_that_is_named_as_a_limit_is_a_setting() {
    let settings: String = ["", "/controller", "/fleet", "/frontend", "/providers", "/vm"]
        .map(|part| read(format!("actors/src/settings{part}.rs")))
        .concat();
    let limits = read("ARCHITECTURE.md");
    let table = limits.split("## Limits").nth(1).expect("the table of limits");
    let mut count = 0;
    for quoted in quoted(table) {
        let Some((section, name)) = quoted.split_once('.') else { continue };
        if ["limits", "frontend", "controller", "vm", "store", "nats"].contains(&section) {
            count += 1;
            assert!(settings.contains(&format!("pub {name}:")), "{quoted} is no setting");
        }
    }
    assert!(count > 20, "{count} settings were found; is the reading broken?");
}
