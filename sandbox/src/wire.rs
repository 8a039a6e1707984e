//! The two lines of a run: the order in, the answer out.
//!
//! **Knows:** OpenWhisk's action loop, and two additions of our launchers: a line that starts with `!` says
//! how the function broke, one with `?` how the host did.
//! **Promises:** the payload is passed on as it came; what follows it cannot be overridden by it, for the
//! last of two equal names counts.
//! **Gives up:** checking the payload. A runtime that cannot read it says so.

use std::io::Write;

use bytes::Bytes;

use crate::{RunContext, Verdict};

/// How much of a bad answer is shown.
const SHOWN_MAX: usize = 1024;

/// Appends the line of a run.
pub(crate) fn write_order(line: &mut Vec<u8>, payload: &[u8], context: &RunContext) {
    line.reserve(payload.len() + 512);
    line.extend_from_slice(b"{\"value\":");
    let start = line.len();
    line.extend_from_slice(if payload.is_empty() { b"{}" } else { payload });
    for byte in &mut line[start..] {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
    let texts = [
        (",\"namespace\":", Some(&context.namespace)),
        (",\"action_name\":", Some(&context.action_name)),
        (",\"action_version\":", Some(&context.action_version)),
        (",\"activation_id\":", Some(&context.activation_id)),
        (",\"transaction_id\":", Some(&context.transaction_id)),
        (",\"api_key\":", context.api_key.as_ref()),
        (",\"api_host\":", context.api_host.as_ref()),
        (",\"traceparent\":", context.traceparent.as_ref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            line.extend_from_slice(name.as_bytes());
            serde_json::to_writer(&mut *line, text).expect("text is JSON, and a vector takes all");
        }
    }
    // As text: the launchers of OpenWhisk die of a number.
    writeln!(line, ",\"deadline\":\"{}\"}}", context.deadline_unix_ms).expect("a vector takes all");
}

/// What a line on the answer pipe says, without its newline.
pub(crate) fn read_answer(line: Bytes) -> Verdict {
    if line.first() == Some(&b'!')
        && let Ok(message) = serde_json::from_slice(&line[1..])
    {
        return Verdict::Broke { message };
    }
    let why = match std::str::from_utf8(&line) {
        Err(error) => format!("the answer is not UTF-8: {error}"),
        Ok(text) => match text.trim_start().as_bytes().first() {
            Some(b'{' | b'[') => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => return Verdict::Answered(line),
                Err(error) => format!("the answer is not JSON: {error}"),
            },
            _ => "the answer is neither a JSON object nor an array".to_owned(),
        },
    };
    Verdict::BadAnswer { truncated: line.slice(..line.len().min(SHOWN_MAX)), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_one_line_whatever_the_payload_and_the_names_hold() {
        let context = RunContext {
            namespace: "guest\n\"".into(),
            deadline_unix_ms: 17,
            api_key: Some("k".into()),
            ..RunContext::default()
        };
        let mut line = Vec::new();
        write_order(&mut line, b"{\n  \"a\": \"x\\ny\"\n}", &context);
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["value"]["a"], "x\ny");
        assert_eq!(read["deadline"], "17");
        assert_eq!(read["namespace"], "guest\n\"");
        assert_eq!(read["api_key"], "k");
        assert!(read.get("traceparent").is_none());
    }

    #[test]
    fn a_payload_cannot_pass_itself_off_as_the_host() {
        let context = RunContext { namespace: "mine".into(), ..RunContext::default() };
        let mut line = Vec::new();
        write_order(&mut line, b"1,\"namespace\":\"yours\"", &context);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["namespace"], "mine");
    }

    #[test]
    fn only_objects_and_arrays_are_answers() {
        for good in ["{}", "[]", " {\"a\":1} ", "[{}]"] {
            assert_eq!(read_answer(Bytes::from(good)), Verdict::Answered(Bytes::from(good)));
        }
        for bad in ["", "1", "null", "\"x\"", "{", "{}{}", "hello", "{\"a\":}"] {
            assert!(matches!(read_answer(Bytes::from(bad)), Verdict::BadAnswer { .. }), "{bad}");
        }
        assert!(matches!(read_answer(Bytes::from_static(b"{\"a\":\"\xff\"}")), Verdict::BadAnswer { .. }));
        let broke = Verdict::Broke { message: "so".into() };
        assert_eq!(read_answer(Bytes::from_static(b"!\"so\"")), broke);
    }

    #[test]
    fn deep_nesting_neither_breaks_us_nor_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(read_answer(Bytes::from(deep)), Verdict::Answered(_)));
    }
}
