//! Answers of a moment ago, in case their VM is lost before it has stored their records.
//!
//! A blocking call is answered before its record is stored (decision 0002). What a lost VM had answered last is written
//! here instead, by whoever gave the answer to the caller, so that the record says what the caller was told.
//!
//! **Knows:** what this Frontend delivered of each VM within the last second of that VM's answers.
//! **Promises:** holds at most `frontend.recent_mib`; the oldest go first, counted.
//! **Gives up:** what the function logged, which only its VM knew, and answers whose Frontend is lost with the VM.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use messages::{Answer, LogLine, LogStream, Record, Submit, VmLost};
use vocabulary::{Attempt, Moment, Span, Usage, VmId};

use super::Shell;
use super::book::Open;
use crate::ran::{self, Called};
use crate::store::{FunctionDefinition, Written};

/// Records leave a VM every few milliseconds. Of one that has answered since, what is older than this is stored.
const STORED_AFTER: Span = Span::seconds(1);

/// What an entry costs beside its texts.
const ENTRY_BYTES: usize = 1_024;

/// What is written if its VM is lost.
pub(super) struct Delivered {
    /// As it was submitted, without its argument.
    pub submit: Submit,
    /// What ran.
    pub definition: Arc<FunctionDefinition>,
    /// What its caller was told.
    pub answer: Answer,
}

impl Delivered {
    /// None of an answer that came after its record: see `invoker/running.rs::must_be_recorded_first`.
    pub(super) fn before_its_record(open: &Open, answer: &Answer) -> Option<VmId> {
        answer.vm.filter(|_| !open.submit.durable && answer.attempt == Attempt::FIRST)
    }

    /// What it costs to remember it.
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + self.answer.result.0.len()
    }

    fn into_record(self) -> Record {
        let Self { submit, definition, answer } = self;
        let called = Called {
            namespace: &submit.namespace,
            path: &submit.path,
            card: &submit.function,
            definition: Some(&*definition),
        };
        let mut record = ran::record(&called, &answer, Usage::default(), Vec::new());
        record.logs.push(LogLine {
            unix_us: record.ended_unix_ms * 1_000,
            stream: LogStream::Stderr,
            text: "The VM was lost before it had stored what this invocation logged.".into(),
        });
        record
    }
}

/// By VM, oldest first.
pub(super) struct Lately<T> {
    vms: HashMap<VmId, VecDeque<Entry<T>>>,
    bytes: usize,
    limit: usize,
}

struct Entry<T> {
    at: Moment,
    bytes: usize,
    what: T,
}

impl<T> Lately<T> {
    /// Nothing yet, and never more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { vms: HashMap::new(), bytes: 0, limit }
    }

    /// Remembers what a VM has just answered; what it answered more than a second before is forgotten. Returns how many
    /// were dropped for want of room.
    pub(super) fn remember(&mut self, now: Moment, vm: VmId, bytes: usize, what: T) -> u64 {
        self.bytes += bytes;
        let answers = self.vms.entry(vm).or_default();
        answers.push_back(Entry { at: now, bytes, what });
        while let Some(oldest) = answers.pop_front_if(|entry| now.since(entry.at) > STORED_AFTER) {
            self.bytes -= oldest.bytes;
        }
        let mut dropped = 0;
        while self.bytes > self.limit
            && let Some(oldest) = self.oldest_vm().and_then(|vm| self.vms.get_mut(&vm)?.pop_front())
        {
            self.bytes -= oldest.bytes;
            dropped += 1;
        }
        dropped
    }

    fn oldest_vm(&self) -> Option<VmId> {
        self.vms.iter().filter_map(|(vm, answers)| Some((answers.front()?.at, *vm))).min().map(|(_, vm)| vm)
    }

    /// Forgets VMs that have answered nothing for so long that their loss would have been noticed by now.
    pub(super) fn forget_quiet(&mut self, now: Moment, silence: Span) {
        let bytes = &mut self.bytes;
        self.vms.retain(|_, answers| {
            let is_kept = answers.back().is_some_and(|last| now.since(last.at) <= silence + STORED_AFTER);
            if !is_kept {
                *bytes -= answers.iter().map(|entry| entry.bytes).sum::<usize>();
            }
            is_kept
        });
    }

    /// What a lost VM answered last.
    pub(super) fn take(&mut self, vm: VmId) -> Vec<T> {
        let answers = self.vms.remove(&vm).unwrap_or_default();
        self.bytes -= answers.iter().map(|entry| entry.bytes).sum::<usize>();
        answers.into_iter().map(|entry| entry.what).collect()
    }
}

impl Shell {
    /// A Controller has given a VM up: what it answered last gets its record, where it has none.
    pub(super) fn vm_lost(&mut self, message: &async_nats::Message) {
        let Ok(VmLost { vm }) = messages::decode::<VmLost>(&message.payload) else {
            self.given.metrics.common.decode_failed();
            return;
        };
        let answered = self.lately.take(vm);
        if answered.is_empty() {
            return;
        }
        let (store, metrics) = (self.given.store.clone(), Arc::clone(&self.given.metrics));
        tokio::spawn(async move {
            for delivered in answered {
                let record = delivered.into_record();
                let invocation = record.invocation;
                match store.records().write(record).await {
                    Ok(Written::Now) => metrics.recorded_for_lost_vm(),
                    Ok(Written::Before) => {}
                    Err(error) => tracing::warn!(%error, %invocation, "could not store a record"),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VmId = VmId(1);
    const B: VmId = VmId(2);

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Span::millis(ms)
    }

    #[test]
    fn of_a_vm_that_goes_on_answering_the_last_second_is_remembered() {
        let mut lately = Lately::new(1_000);
        for (ms, what) in [(0, 'a'), (900, 'b'), (1_100, 'c')] {
            assert_eq!(lately.remember(at(ms), A, 10, what), 0);
        }
        assert_eq!(lately.take(A), ['b', 'c']);
        assert!(lately.take(A).is_empty(), "it is lost once");
        assert_eq!(lately.bytes, 0);
    }

    #[test]
    fn of_a_vm_that_fell_silent_the_last_second_is_remembered_until_its_loss_would_be_known() {
        let mut lately = Lately::new(1_000);
        lately.remember(at(0), A, 10, 'a');
        lately.forget_quiet(at(4_000), Span::seconds(3));
        assert_eq!(lately.bytes, 10);
        lately.forget_quiet(at(4_001), Span::seconds(3));
        assert_eq!(lately.bytes, 0);
        assert!(lately.take(A).is_empty());
    }

    #[test]
    fn the_oldest_of_all_go_first_when_there_is_no_room() {
        let mut lately = Lately::new(25);
        assert_eq!(lately.remember(at(0), A, 10, 'a'), 0);
        assert_eq!(lately.remember(at(1), B, 10, 'b'), 0);
        assert_eq!(lately.remember(at(2), B, 10, 'c'), 1);
        assert_eq!(lately.remember(at(3), A, 30, 'd'), 3, "one that is too large itself is not kept either");
        assert_eq!(lately.bytes, 0);
        assert!(lately.take(A).is_empty() && lately.take(B).is_empty());
    }
}
