//! How a command fails: a sentence for people and an exit code for scripts.

use std::fmt;
use std::process::ExitCode;

/// What a script can tell from the exit code. Documented in `windfall --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something went wrong that no other code describes.
    Failed = 1,
    /// The command line or the configuration is wrong. Also what clap itself uses.
    Usage = 2,
    /// Nobody answers at the address.
    Unreachable = 3,
    /// The cluster answered, and said no.
    Refused = 4,
    /// The function ran and ended in an error.
    FunctionFailed = 5,
    /// The invocation was accepted and goes on, but its result is not there yet.
    StillRunning = 6,
}

/// The table of exit codes, as `--help` shows it.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or the configuration is wrong
  3  nobody answers: is the cluster running, is the address right?
  4  the cluster said no (unknown name, wrong key, limit reached, ...)
  5  the function ran and ended in an error
  6  the invocation goes on; its result is not there yet";

/// Why a command ends without having done what was asked.
#[derive(Debug)]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// For people. What it says ends with what to do.
    pub error: anyhow::Error,
}

/// What every command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with its own exit code.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(text.into()) }
    }

    /// A wrong command line or configuration.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// The exit code for the operating system.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}
