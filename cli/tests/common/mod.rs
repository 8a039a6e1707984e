//! The real binary, in an empty home.

// Each test file is a program of its own, and not every one uses all of this.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

/// An empty folder in which the binary runs, with nothing in its environment but what a test puts there.
pub struct Home {
    folder: tempfile::TempDir,
}

/// What the binary said.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Home {
    /// A new one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// The binary, ready to run.
    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windfall"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables.iter().copied());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let Output { status, stdout, stderr } =
            self.command(arguments, variables).output().expect("the binary runs");
        Said {
            code: status.code().expect("it ended by itself"),
            out: String::from_utf8(stdout).expect("UTF-8"),
            err: String::from_utf8(stderr).expect("UTF-8"),
        }
    }
}

impl Said {
    /// Asserts the exit code and that standard error holds every one of these.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "'{part}' is missing in: {}", self.err);
        }
    }
}
