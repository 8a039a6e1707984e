//! Settings as text: for people (secrets masked) and for files.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Entry;

/// A value as people see it. Passwords, and those inside addresses, are not shown.
pub fn masked(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let name = key.rsplit('.').next().unwrap_or(key);
    let secret = ["password", "secret", "token"].iter().any(|word| name.contains(word));
    if secret && !text.is_empty() {
        return "(hidden)".into();
    }
    text.split(',').map(without_login).collect::<Vec<_>>().join(",")
}

/// `nats://user:word@host` without what stands before the `@`.
fn without_login(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => {
            format!("{}(hidden){}", &address[..scheme + 3], &address[at..])
        }
        _ => address.to_owned(),
    }
}

/// Everything as a TOML file, section by section. Values that are not set are left out.
pub fn to_toml(entries: &BTreeMap<String, Entry>) -> String {
    let mut text = String::new();
    let mut current = "";
    for (key, entry) in entries {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if section != current {
            text.push_str(&format!("\n[{section}]\n"));
            current = section;
        }
        match &entry.value {
            Value::Null => {}
            // A JSON string is a TOML basic string, but for the delete character.
            Value::String(value) => {
                let quoted = Value::from(value.as_str()).to_string().replace('\u{7f}', "\\u007f");
                text.push_str(&format!("{name} = {quoted}\n"));
            }
            other => text.push_str(&format!("{name} = {other}\n")),
        }
    }
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown_even_inside_an_address() {
        assert_eq!(masked("nats.password", &Value::from("pw")), "(hidden)");
        assert_eq!(masked("nats.password", &Value::from("")), "");
        let urls = Value::from("nats://u:p@a:1,nats://b:2");
        assert_eq!(masked("nats.url", &urls), "nats://(hidden)@a:1,nats://b:2");
    }
}
