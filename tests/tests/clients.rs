//! OpenWhisk's own client for Node.js against a cluster.
//!
//! Only where it is wanted, since it comes from a registry: `WINDFALL_OPENWHISK_CLIENT` names a folder, into which npm
//! installs the client at the first time.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use windfall_tests::Cluster;
use windfall_tests::functions::{base64, zip};

/// The release that is tried.
const CLIENT: &str = "openwhisk@3.21.9";

/// The folder with the client, or why there is none.
fn client() -> Result<PathBuf, String> {
    let folder = std::env::var_os("WINDFALL_OPENWHISK_CLIENT").map(PathBuf::from).ok_or_else(|| {
        format!("name a folder in WINDFALL_OPENWHISK_CLIENT, and npm installs {CLIENT} there")
    })?;
    for tool in ["node", "npm"] {
        if !Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
            return Err(format!("there is no {tool} on this machine"));
        }
    }
    if !folder.join("node_modules/openwhisk").is_dir() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(CLIENT);
        let output = npm.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "npm could not install {CLIENT}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(folder)
}

/// An action that uses the client itself, with everything that it needs.
const INSIDE: &str = "const openwhisk = require('openwhisk')
exports.main = () =>
  openwhisk().actions.invoke({ name: 'python', blocking: true, result: true, params: { n: 7 } })
";

/// The files below a folder, by their paths in it.
fn files_below(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            files_below(root, &path, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            files.push((path.strip_prefix(root).expect("below it").display().to_string(), text));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openwhisks_own_client_finds_everything_where_it_expects_it() {
    let folder = match client() {
        Ok(folder) => folder,
        Err(reason) => return println!("skipped: OpenWhisk's own client: {reason}"),
    };
    let cluster = Cluster::start().await;
    let zipped = [("index.js", "exports.main = () => ({ zipped: true })"), ("package.json", "{}")];
    let mut files =
        vec![("index.js".to_owned(), INSIDE.to_owned()), ("package.json".to_owned(), "{}".to_owned())];
    files_below(&folder, &folder.join("node_modules"), &mut files);
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let packed = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(packed.path(), zip(&files)).expect("written");
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/story.js"))
        .env("NODE_PATH", folder.join("node_modules"))
        .env("APIHOST", &cluster.http.base)
        .env("AUTH", &cluster.http.key)
        .env("ZIP", base64(&zip(&zipped)))
        .env("PACKED", packed.path());
    let told =
        tokio::task::spawn_blocking(move || node.output()).await.expect("no panic").expect("node runs");
    let (said, complained) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    println!("{said}");
    assert!(told.status.success(), "{said}{complained}");
}
