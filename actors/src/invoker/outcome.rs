//! From what a sandbox says to what a caller reads. The texts are those that users of OpenWhisk know.

use std::fmt;

use bytes::Bytes;
use sandbox::{StartError, Verdict};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use vocabulary::{Outcome, Span};

/// How a run ended, for the caller.
pub(super) struct Told {
    pub outcome: Outcome,
    pub result: Bytes,
    pub timed_out: bool,
    pub out_of_memory: bool,
}

fn error(outcome: Outcome, text: &str) -> Told {
    let result = serde_json::json!({ "error": text }).to_string().into();
    Told { outcome, result, timed_out: false, out_of_memory: false }
}

/// What a run's verdict tells the caller; `None` where it tells nothing because the run never was one.
pub(super) fn of_verdict(verdict: Verdict, timeout: Span) -> Option<Told> {
    let told = match verdict {
        Verdict::Answered(result) => {
            let outcome = if has_error(&result) { Outcome::ApplicationError } else { Outcome::Success };
            Told { outcome, result, timed_out: false, out_of_memory: false }
        }
        Verdict::Broke { message } => error(Outcome::DeveloperError, &message),
        Verdict::TimedOut => Told {
            timed_out: true,
            ..error(
                Outcome::DeveloperError,
                &format!("The action exceeded its time limits of {} milliseconds.", timeout.as_millis()),
            )
        },
        Verdict::OutOfMemory => Told {
            out_of_memory: true,
            ..error(Outcome::DeveloperError, "The action exhausted its memory and was aborted.")
        },
        Verdict::Exited => error(
            Outcome::DeveloperError,
            "The action did not produce a valid response and exited unexpectedly.",
        ),
        Verdict::BadAnswer { truncated, why } => error(
            Outcome::DeveloperError,
            &format!(
                "The action did not produce a valid JSON response ({why}): {}",
                String::from_utf8_lossy(&truncated)
            ),
        ),
        Verdict::TooLarge { truncated, length } => error(
            Outcome::ApplicationError,
            &format!(
                "The action produced a response that exceeded the allowed length: {length} > {} bytes. \
                 The truncated response was: {}",
                truncated.len(),
                // The error must itself fit into a result.
                String::from_utf8_lossy(&truncated[..truncated.len().min(1_024)])
            ),
        ),
        Verdict::Killed | Verdict::VmFull | Verdict::NeverRan => return None,
    };
    Some(told)
}

/// What a sandbox that could not be started tells the caller.
pub(super) fn of_start(start: &StartError, timeout: Span) -> Told {
    match start {
        StartError::TimedOut { .. } => Told {
            timed_out: true,
            ..error(
                Outcome::DeveloperError,
                &format!(
                    "The action exceeded its time limits of {} milliseconds during initialization.",
                    timeout.as_millis()
                ),
            )
        },
        StartError::OutOfMemory { .. } => Told {
            out_of_memory: true,
            ..error(
                Outcome::DeveloperError,
                "The action exhausted its memory during initialization and was aborted.",
            )
        },
        StartError::Exited { .. } => {
            error(Outcome::DeveloperError, "The action did not initialize and exited unexpectedly.")
        }
        StartError::Init { .. } | StartError::BadCode { .. } => {
            error(Outcome::DeveloperError, &start.to_string())
        }
        StartError::NoRuntime { .. } | StartError::Full { .. } | StartError::Host { .. } => {
            error(Outcome::InternalError, &start.to_string())
        }
    }
}

/// Whether a result is an object with a member `error`. Most results do not even hold the word.
fn has_error(result: &[u8]) -> bool {
    const WORD: &[u8] = b"\"error\"";
    result.windows(WORD.len()).any(|window| window == WORD)
        && serde_json::from_slice::<TopLevel>(result).is_ok_and(|top| top.has_error)
}

/// What must be known of a result without building it.
struct TopLevel {
    has_error: bool,
}

impl<'de> Deserialize<'de> for TopLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;

        impl<'de> Visitor<'de> for Look {
            type Value = TopLevel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<TopLevel, A::Error> {
                let mut has_error = false;
                while let Some((name, IgnoredAny)) = members.next_entry::<String, IgnoredAny>()? {
                    has_error |= name == "error";
                }
                Ok(TopLevel { has_error })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TopLevel, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(TopLevel { has_error: false })
            }
        }

        deserializer.deserialize_any(Look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_top_level_error_makes_an_application_error() {
        assert!(has_error(br#"{"error":"x"}"#));
        assert!(has_error(br#"{"a":1,"error":null}"#));
        assert!(!has_error(br#"{"a":{"error":1}}"#));
        assert!(!has_error(br#"["error"]"#));
        assert!(!has_error(br#"{"a":"error"}"#));
        assert!(!has_error(b"{}"));
    }

    #[test]
    fn a_timeout_names_its_limit() {
        let told = of_verdict(Verdict::TimedOut, Span::millis(300)).unwrap();
        assert!(told.timed_out);
        assert_eq!(told.outcome, Outcome::DeveloperError);
        assert!(String::from_utf8_lossy(&told.result).contains("300 milliseconds"));
    }

    #[test]
    fn a_run_that_never_was_tells_nothing() {
        assert!(of_verdict(Verdict::NeverRan, Span::ZERO).is_none());
        assert!(of_verdict(Verdict::Killed, Span::ZERO).is_none());
        assert!(of_verdict(Verdict::VmFull, Span::ZERO).is_none());
    }
}
