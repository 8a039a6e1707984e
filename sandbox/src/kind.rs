//! Kinds of runtime by name: `python:3`, `nodejs:20`, `native:1`.
//!
//! **Knows:** what a kind's name looks like.
//! **Promises:** a [`Kind`] is always well-formed; whether this machine has it is the business of the
//! [`Catalogue`](crate::Catalogue).
//! **Gives up:** nothing of OpenWhisk's naming; kinds of container images will be a family of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a kind's name starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Python functions: `main(args)`.
    Python,
    /// Node.js functions: `main(args)`, a value or a promise.
    Nodejs,
    /// Any executable that speaks the action loop itself.
    Native,
}

impl Family {
    /// All of them, in the order they are listed for people.
    pub const ALL: [Family; 3] = [Family::Nodejs, Family::Python, Family::Native];

    /// As it is written in a kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Nodejs => "nodejs",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A runtime by name, `family:version`. The version is whatever its users call it; `default` is resolved
/// by a [`Catalogue`](crate::Catalogue).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind {
    family: Family,
    version: String,
}

impl Kind {
    /// A kind of `family`; `version` is 1 to 32 characters of `[a-z0-9.-]`.
    pub fn new(family: Family, version: &str) -> Result<Self, ParseKindError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if version.is_empty() || version.len() > 32 || !version.bytes().all(legal) {
            return Err(ParseKindError { text: format!("{family}:{}", shortened(version)) });
        }
        Ok(Self { family, version: version.to_owned() })
    }

    /// Python, Node or native.
    pub fn family(&self) -> Family {
        self.family
    }

    /// What stands after the colon.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.version)
    }
}

/// Text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a kind; kinds are written family:version, where the family is python, nodejs or native"
)]
pub struct ParseKindError {
    text: String,
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        let unknown = || ParseKindError { text: shortened(text) };
        let (family, version) = text.split_once(':').ok_or_else(unknown)?;
        let family = Family::ALL.into_iter().find(|f| f.as_str() == family).ok_or_else(unknown)?;
        Self::new(family, version)
    }
}

impl TryFrom<String> for Kind {
    type Error = ParseKindError;

    fn try_from(text: String) -> Result<Self, ParseKindError> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_printed() {
        for text in ["python:3", "nodejs:20", "native:1", "python:default", "python:3.11"] {
            assert_eq!(text.parse::<Kind>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_kind_is_refused() {
        for text in ["", "python", "python:", "ruby:3", "python:3 1", "python:../x", ":3"] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
    }
}
