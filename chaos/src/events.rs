//! What was seen, in the order it was seen: one JSON object per line.
//!
//! Whoever watches a house writes these: a test that calls it, a simulator, a listener on its subjects. The observer's
//! own order counts; two observers are two logs.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use vocabulary::{Attempt, ControllerId, FunctionId, InvocationId, Outcome, Resources, Span, VmId};

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Since the observer began.
    pub at: Span,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What can be seen of a house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A caller waits for it, or was told that it is durable. A submission that is repeated under its id is the same
    /// invocation.
    Accepted {
        /// Which.
        invocation: InvocationId,
    },
    /// It has ended for its caller: an answer, or the reason why there will be none.
    Ended {
        /// Which.
        invocation: InvocationId,
        /// The try whose answer it is.
        attempt: Attempt,
        /// How.
        outcome: Outcome,
    },
    /// From now on, answers of attempts before this one are void, except perhaps those of one other.
    Fenced {
        /// Which.
        invocation: InvocationId,
        /// The oldest attempt whose answer counts.
        oldest_valid: Attempt,
        /// One older attempt that lives beside it, after a notice. Absent in logs from before there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        also: Option<Attempt>,
    },
    /// A VM has this much from now on.
    Offered {
        /// Which VM.
        vm: VmId,
        /// All that it has.
        capacity: Resources,
    },
    /// A Controller has sent an attempt to a VM.
    Promised {
        /// Which VM.
        vm: VmId,
        /// Which invocation.
        invocation: InvocationId,
        /// Which try.
        attempt: Attempt,
        /// What is booked for it.
        booked: Resources,
        /// Which Controller. Absent in logs from before there were several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        controller: Option<ControllerId>,
    },
    /// A Frontend has handed an invocation of this function to a Controller.
    Routed {
        /// Of which function.
        function: FunctionId,
        /// To whom.
        controller: ControllerId,
    },
    /// A Controller was killed. Which, is seen from who sends nothing any more.
    ControllerLost,
    /// A VM says that it holds this attempt: it runs there, or waits. Those of one report come before its
    /// [`Event::Offered`].
    Held {
        /// Which VM.
        vm: VmId,
        /// Which invocation.
        invocation: InvocationId,
        /// Which try.
        attempt: Attempt,
        /// What is booked for it there.
        booked: Resources,
    },
    /// An attempt holds nothing any more: it has ended, or was handed back, or given up.
    Released {
        /// Which VM.
        vm: VmId,
        /// Which invocation.
        invocation: InvocationId,
        /// Which try.
        attempt: Attempt,
    },
    /// A VM is gone, with everything on it.
    VmLost {
        /// Which.
        vm: VmId,
    },
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system says so.
    #[error("the event log cannot be read after line {after}: {source}")]
    Io {
        /// The last line that was read.
        after: usize,
        /// What the system says.
        source: io::Error,
    },
    /// A line is not an event.
    #[error("line {line} of the event log is not an event: {source}")]
    NotAnEvent {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A line is longer than [`LINE_MAX`].
    #[error("line {line} of the event log has more than {LINE_MAX} bytes")]
    LineTooLong {
        /// Counted from 1.
        line: usize,
    },
}

/// Bytes of one line at most. Ours have about 150.
pub const LINE_MAX: usize = 4_096;

/// Writes one line.
pub fn write(to: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads a log to its end. Empty lines are skipped; a last line without its end is an error if it is not whole.
pub fn read(mut from: impl BufRead) -> Result<Vec<Entry>, LogError> {
    let mut entries = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = LINE_MAX as u64 + 1;
        let taken = from.by_ref().take(limit).read_until(b'\n', &mut line);
        match taken.map_err(|source| LogError::Io { after: number - 1, source })? {
            0 => break,
            length if length > LINE_MAX => return Err(LogError::LineTooLong { line: number }),
            _ if line.trim_ascii().is_empty() => {}
            _ => entries.push(
                serde_json::from_slice(&line)
                    .map_err(|source| LogError::NotAnEvent { line: number, source })?,
            ),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Entry> {
        let (vm, invocation, attempt) = (VmId(3), InvocationId(u128::MAX - 1), Attempt(2));
        let events = [
            Event::Accepted { invocation },
            Event::Offered { vm, capacity: Resources::new(4_000, 8_192) },
            Event::Promised { vm, invocation, attempt, booked: Resources::new(1_000, 256), controller: None },
            Event::ControllerLost,
            Event::Routed { function: FunctionId(7), controller: ControllerId(9) },
            Event::Held { vm, invocation, attempt, booked: Resources::new(900, 256) },
            Event::Fenced { invocation, oldest_valid: attempt, also: None },
            Event::Fenced { invocation, oldest_valid: Attempt(3), also: Some(Attempt(1)) },
            Event::Released { vm, invocation, attempt },
            Event::Ended { invocation, attempt, outcome: Outcome::Success },
            Event::VmLost { vm },
        ];
        events.into_iter().enumerate().map(|(i, event)| Entry { at: Span(i as u64), event }).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        some().iter().for_each(|entry| write(&mut bytes, entry).unwrap());
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), some().len());
        assert_eq!(read(&bytes[..]).unwrap(), some());
    }

    #[test]
    fn a_line_is_readable_by_people_and_other_programs() {
        let mut bytes = Vec::new();
        write(&mut bytes, &some()[0]).unwrap();
        let text = "{\"at\":0,\"event\":\"accepted\",\"invocation\":\"fffffffffffffffffffffffffffffffe\"}\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }

    #[test]
    fn a_fence_of_an_older_log_lets_one_range_in() {
        let old = b"{\"at\":0,\"event\":\"fenced\",\"invocation\":\"0000000000000000000000000000000a\",\"oldest_valid\":2}\n";
        let (invocation, oldest_valid) = (InvocationId(10), Attempt(2));
        assert_eq!(read(&old[..]).unwrap()[0].event, Event::Fenced { invocation, oldest_valid, also: None });
    }

    #[test]
    fn a_bad_line_is_named_and_an_endless_one_takes_no_memory() {
        let mut bad = Vec::new();
        write(&mut bad, &some()[10]).unwrap();
        bad.extend_from_slice(b"\n{\"at\":1}\n");
        assert!(matches!(read(&bad[..]), Err(LogError::NotAnEvent { line: 3, .. })));
        let cut = "{\"at\":0,\"event\":\"acce";
        assert!(matches!(read(cut.as_bytes()), Err(LogError::NotAnEvent { line: 1, .. })));
        let endless = io::BufReader::new(io::repeat(b' '));
        assert!(matches!(read(endless), Err(LogError::LineTooLong { line: 1 })));
        assert_eq!(read(&b"\n \n"[..]).unwrap(), vec![]);
    }
}
