//! Parameters and annotations from the command line.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome};

/// Parameters of a function or of one call.
#[derive(Debug, Clone, Default, Args)]
pub struct Parameters {
    /// A parameter; may be repeated. The value is JSON where it reads as JSON, else text
    #[arg(
        short = 'p',
        long = "param",
        num_args = 2,
        value_names = ["KEY", "VALUE"],
        action = clap::ArgAction::Append,
        allow_hyphen_values = true
    )]
    pub pairs: Vec<String>,
    /// A file with a JSON object of parameters; `-` reads standard input. `-p` wins over it
    #[arg(short = 'P', long = "param-file", value_name = "FILE")]
    pub from: Option<PathBuf>,
}

impl Parameters {
    /// All of them as one object.
    pub fn object(&self) -> Outcome<Map<String, Value>> {
        let mut object = match &self.from {
            Some(path) => read_object(path)?,
            None => Map::new(),
        };
        object.extend(pairs(&self.pairs));
        Ok(object)
    }

    /// Whether any were given.
    pub fn is_given(&self) -> bool {
        self.from.is_some() || !self.pairs.is_empty()
    }
}

/// Keys and values in turn.
pub fn pairs(flat: &[String]) -> Map<String, Value> {
    flat.chunks_exact(2).map(|pair| (pair[0].clone(), value_of(&pair[1]))).collect()
}

/// As OpenWhisk keeps parameters and annotations: a list of keys and values.
pub fn key_values(object: Map<String, Value>) -> Value {
    object.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// JSON where it reads as JSON, else text.
pub fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn read_object(path: &PathBuf) -> Outcome<Map<String, Value>> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    let name = path.display();
    read.map_err(|error| Failure::usage(format!("cannot read parameters from {name}: {error}")))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::usage(format!("{name}: parameters are a JSON object, {{\"key\": value}}"))),
        Err(error) => Err(Failure::usage(format!("{name} is not JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_where_they_read_as_json() {
        assert_eq!(value_of("7"), json!(7));
        assert_eq!(value_of("[1]"), json!([1]));
        assert_eq!(value_of("seven"), json!("seven"));
        assert_eq!(value_of("\"7\""), json!("7"));
    }
}
