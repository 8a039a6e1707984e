//! Functions and records as OpenWhisk's clients read them.

use std::borrow::Cow;

use messages::{Answer, LogLine, LogStream, Record, Start};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use vocabulary::{Attempt, Grant, InvocationId, Outcome, Span, VmId};

use super::put::Code;
use crate::store::{FunctionDefinition, Parameter};

/// JSON text as it is, checked only for its form.
pub(super) fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::from_str("null").expect("null is JSON"))
}

#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    value: &'a RawValue,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    init: bool,
}

fn entries<'a>(parameters: &'a [Parameter]) -> Vec<Entry<'a>> {
    let entry = |one: &'a Parameter| Entry { key: &one.key, value: raw(&one.value.0), init: one.init };
    parameters.iter().map(entry).collect()
}

#[derive(Serialize)]
struct Exec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Cow<'a, str>>,
    binary: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    main: &'a str,
}

/// An action; in a list without its parameters, kind and code.
#[derive(Serialize)]
pub(super) struct Action<'a> {
    namespace: Cow<'a, str>,
    name: &'a str,
    version: String,
    publish: bool,
    exec: Exec<'a>,
    annotations: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<Entry<'a>>>,
    limits: Value,
    updated: u64,
}

/// How much of an action is shown.
pub(super) enum Shown<'a> {
    /// As an entry of a list.
    Summary,
    /// All but its code.
    WithoutCode,
    /// All, with the code as it was stored.
    Stored(&'a [u8]),
    /// All, with the code as it was sent.
    Sent(&'a str),
}

impl<'a> Action<'a> {
    pub(super) fn of(function: &'a FunctionDefinition, shown: &Shown<'a>) -> Self {
        let summary = matches!(shown, Shown::Summary);
        let (package, name) = match function.name.split_once('/') {
            Some((package, name)) => (Some(package), name),
            None => (None, function.name.as_str()),
        };
        let namespace = match package {
            Some(package) => format!("{}/{package}", function.namespace).into(),
            None => function.namespace.as_str().into(),
        };
        let code = match shown {
            Shown::Summary | Shown::WithoutCode => None,
            Shown::Stored(bytes) => Some(Code::text_of(bytes, function.binary).into()),
            Shown::Sent(text) => Some((*text).into()),
        };
        Self {
            namespace,
            name,
            version: function.version.to_string(),
            publish: function.publish,
            exec: Exec {
                kind: (!summary).then_some(&function.kind),
                code,
                binary: function.binary,
                main: if summary { "" } else { &function.main },
            },
            annotations: entries(&function.annotations),
            parameters: (!summary).then(|| entries(&function.parameters)),
            limits: json!({
                "timeout": function.limits.timeout_ms,
                "memory": function.limits.memory_mb,
                "logs": function.limits.logs_mb,
                "concurrency": function.limits.concurrency,
                "cpu": function.limits.cpu_millicores,
            }),
            updated: function.updated_unix_ms,
        }
    }
}

/// How an invocation ended, as OpenWhisk's `response`.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    result: Cow<'a, RawValue>,
    size: usize,
    status: &'static str,
    success: bool,
}

impl<'a> Response<'a> {
    pub(super) fn of(outcome: Outcome, result: &'a [u8]) -> Self {
        Self {
            result: result_json(result),
            size: result.len(),
            status: outcome.as_str(),
            success: outcome == Outcome::Success,
        }
    }
}

/// A result as JSON; one that is none (a runtime that misbehaves) is shown as text.
fn result_json(result: &[u8]) -> Cow<'_, RawValue> {
    match serde_json::from_slice::<&RawValue>(result) {
        Ok(raw) => Cow::Borrowed(raw),
        Err(_) => {
            let text = serde_json::to_string(&String::from_utf8_lossy(result)).expect("text can be written");
            Cow::Owned(RawValue::from_string(text).expect("a written text is JSON"))
        }
    }
}

/// What remains of an invocation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Activation<'a> {
    namespace: &'a str,
    name: &'a str,
    version: Cow<'a, str>,
    subject: &'a str,
    activation_id: String,
    start: u64,
    end: u64,
    /// Milliseconds, initialisation included.
    duration: u64,
    publish: bool,
    annotations: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u8>,
}

impl<'a> Activation<'a> {
    /// The whole record; `is_summary`: as an entry of a list.
    pub(super) fn of_record(record: &'a Record, is_summary: bool) -> Self {
        let limits = json!({
            "timeout": record.timeout.as_millis(),
            "memory": record.reservation.memory.0,
            "logs": record.log_limit_mb,
            "concurrency": 1,
            "cpu": record.reservation.cpu.0,
        });
        let told = Told {
            path: format!("{}/{}", record.path.namespace, record.path.name),
            kind: &record.kind,
            limits,
            timed_out: record.timed_out,
            waited: record.waited,
            init: record.init,
            vm: record.vm,
            attempt: record.attempt,
            start: record.start,
            grant: record.grant,
        };
        Self {
            namespace: &record.namespace,
            name: last_part(&record.path.name),
            version: record.version.as_str().into(),
            subject: &record.namespace,
            activation_id: record.invocation.to_string(),
            start: record.started_unix_ms,
            end: record.ended_unix_ms,
            duration: (record.init + record.duration).as_millis(),
            publish: false,
            annotations: told.annotations(),
            response: (!is_summary).then(|| Response::of(record.outcome, &record.result.0)),
            logs: (!is_summary).then(|| record.logs.iter().map(log_line).collect()),
            status_code: is_summary.then_some(record.outcome.code()),
        }
    }

    /// What a blocking caller gets before the record is stored: the same, with no logs.
    pub(super) fn of_answer(
        answer: &'a Answer,
        function: &'a FunctionDefinition,
        namespace: &'a str,
    ) -> Self {
        let limits = json!({
            "timeout": function.limits.timeout_ms,
            "memory": function.limits.memory_mb,
            "logs": function.limits.logs_mb,
            "concurrency": function.limits.concurrency,
            "cpu": function.limits.cpu_millicores,
        });
        let told = Told {
            path: format!("{}/{}", function.namespace, function.name),
            kind: &function.kind,
            limits,
            timed_out: answer.timed_out,
            waited: answer.waited,
            init: answer.init,
            vm: answer.vm,
            attempt: answer.attempt,
            start: answer.start,
            grant: answer.grant,
        };
        let duration = (answer.init + answer.duration).as_millis();
        Self {
            namespace,
            name: last_part(&function.name),
            version: function.version.to_string().into(),
            subject: namespace,
            activation_id: answer.invocation.to_string(),
            start: answer.started_unix_ms,
            end: answer.started_unix_ms + duration,
            duration,
            publish: false,
            annotations: told.annotations(),
            response: Some(Response::of(answer.outcome, &answer.result.0)),
            logs: Some(Vec::new()),
            status_code: None,
        }
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// What annotations are made of.
struct Told<'a> {
    path: String,
    kind: &'a str,
    limits: Value,
    timed_out: bool,
    waited: Span,
    init: Span,
    vm: Option<VmId>,
    attempt: Attempt,
    start: Start,
    grant: Option<Grant>,
}

impl Told<'_> {
    fn annotations(self) -> Vec<Value> {
        let entry = |key: &str, value: Value| json!({"key": key, "value": value});
        let mut list = vec![
            entry("path", self.path.into()),
            entry("kind", self.kind.into()),
            entry("limits", self.limits),
            entry("timeout", self.timed_out.into()),
            entry("waitTime", self.waited.as_millis().into()),
        ];
        // Clients tell a cold start by the presence of this one.
        if self.start == Start::Cold && self.vm.is_some() {
            list.push(entry("initTime", self.init.as_millis().into()));
        }
        let mut ours = json!({
            "attempt": self.attempt.0,
            "start": if self.start == Start::Cold { "cold" } else { "warm" },
        });
        if let Some(vm) = self.vm {
            ours["vm"] = vm.to_string().into();
        }
        if let Some(grant) = self.grant {
            ours["grant"] = json!({
                "booked": {"cpu": grant.booked.cpu.0, "memory": grant.booked.memory.0},
                "ceiling": {"cpu": grant.ceiling.cpu.0, "memory": grant.ceiling.memory.0},
            });
        }
        list.push(entry("windfall", ours));
        list
    }
}

/// `2016-01-01T12:00:00.000000Z    stdout: text`: the time is padded to 30 characters.
pub(super) fn log_line(line: &LogLine) -> String {
    let stream = match line.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    format!("{:<30} {stream}: {}", rfc3339(line.unix_us), line.text)
}

/// UTC, with microseconds.
fn rfc3339(unix_us: u64) -> String {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of the day so many days after 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // Counted from 0000-03-01, so that a leap day ends its year.
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The id of an invocation that goes on.
pub(super) fn accepted(invocation: InvocationId) -> Value {
    json!({"activationId": invocation.to_string()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_time_stream_and_text() {
        let line = LogLine { unix_us: 1_456_747_199_000_001, stream: LogStream::Stderr, text: "öha".into() };
        assert_eq!(log_line(&line), "2016-02-29T11:59:59.000001Z    stderr: öha");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(rfc3339(4_102_444_799_999_999), "2099-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_result_that_is_no_json_is_shown_as_text() {
        let shown = |bytes: &[u8]| result_json(bytes).get().to_owned();
        assert_eq!(shown(br#"{"a":1.50}"#), r#"{"a":1.50}"#);
        assert_eq!(shown(b"oh no"), r#""oh no""#);
        assert_eq!(shown(b"\xff"), "\"\u{fffd}\"");
        assert_eq!(shown(b""), r#""""#);
    }
}
