//! What became of it: counted, timed, and held against what must stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use futures::StreamExt;
use messages::{Record, subjects};
use vocabulary::{Attempt, InvocationId, Outcome, Span, VmId};

use super::load::{Answered, Calls};
use super::observer::Sight;
use super::report::{Report, Verdict};
use super::timing::{self, quantile, sorted};
use super::trouble::Seen;
use super::{House, LiveError};
use crate::events::{self, Entry, Event};
use crate::invariants::{self, Breach, Fences};
use crate::scenario::Scenario;

/// The stream that the house keeps its records in.
const RECORDS: &str = "WINDFALL_RECORDS";
/// How long a record may take after the last answer.
const RECORD_PATIENCE: Duration = Duration::from_secs(30);
/// The house's own bus and a caller's connection are two: what was sent first may be seen so much later.
const SEEN_LATE: Span = Span::millis(20);
/// Breaches that are shown of one invariant.
const SHOWN: usize = 5;

/// Everything that was seen.
pub(super) struct Evidence<'a> {
    pub scenario: &'a Scenario,
    pub seed: u64,
    pub storm: Range<Span>,
    pub healthy_after: Option<Span>,
    pub calls: Calls,
    pub sight: Sight,
    pub trouble: Seen,
}

impl Evidence<'_> {
    pub async fn judge(&self, house: &House, path: &Path) -> Result<Report, LiveError> {
        let accepted: BTreeSet<InvocationId> = self
            .calls
            .answered
            .iter()
            .map(|answer| answer.id)
            .chain(self.calls.submitted.keys().copied())
            .collect();
        let stream = async_nats::jetstream::new(house.nats.clone())
            .get_stream(RECORDS)
            .await
            .map_err(|error| LiveError::nats("opening the records")(error.to_string()))?;
        let functions = super::functions(self.scenario);
        let records = count(&stream, house, &functions, &accepted).await?;
        let log = self.log(&stream, house, &records).await;
        write(path, &log)?;

        let lost_in_silence = |(sent, at): &&(Span, Span)| !self.broke_between(*sent, *at);
        let silent = self.calls.unanswered.iter().filter(lost_in_silence).count() as u64;
        let without = accepted.iter().filter(|id| !records.contains_key(id)).count() as u64;
        let (after, before) = self.redispatches();
        let overbooked = invariants::overbooking(&self.sight.bookings);
        let short = |range: &Range<Span>| {
            let all = self.calls.answered.iter().filter(|call| !call.is_long && range.contains(&call.sent));
            sorted(all.map(|call| Span(call.at.0.saturating_sub(call.sent.0))).collect())
        };
        let calm = Span::ZERO..self.storm.start;
        let (in_calm, in_storm) = (short(&calm), short(&self.storm));
        let durable: Vec<&Answered> =
            self.calls.durable_answers.values().filter_map(|answers| answers.first()).collect();
        let ours = |answer: &&&Answered| self.calls.submitted.contains_key(&answer.id);
        let all = || self.calls.answered.iter().chain(durable.iter().filter(ours).copied());
        Ok(Report {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            accepted: accepted.len() as u64,
            ended: accepted.len() as u64 - without,
            lost: without + silent,
            duplicated: records.values().filter(|&&count| count > 1).count() as u64,
            answered_twice: self.calls.durable_answers.values().filter(|answers| answers.len() > 1).count()
                as u64,
            answers_missing: self
                .calls
                .submitted
                .keys()
                .filter(|id| !self.calls.durable_answers.contains_key(id))
                .count() as u64,
            failed: all().filter(|answer| answer.outcome != Outcome::Success).count() as u64,
            refused: self.calls.refused,
            broken_off: self.calls.unanswered.len() as u64 - silent + self.calls.unacknowledged,
            evictions: self.trouble.deaths.len() as u64,
            faults: self.trouble.made,
            left_out: self.trouble.left_out.clone(),
            redispatches: after.len() as u64,
            reruns_before_loss: before,
            redispatch_p50_ms: quantile(&after, 50),
            redispatch_p99_ms: quantile(&after, 99),
            times: timing::times(&self.trouble, &self.sight, &log),
            overbooked_reports: overbooked.beyond,
            reports: overbooked.reports,
            overbooked_cpu_max: overbooked.most.cpu.0,
            overbooked_memory_max: overbooked.most.memory.0,
            p99_ms_calm: quantile(&in_calm, 99),
            p99_ms_storm: quantile(&in_storm, 99),
            p50_ms_calm: quantile(&in_calm, 50),
            p50_ms_storm: quantile(&in_storm, 50),
            goodput_calm: rate(all(), &calm),
            goodput_storm: rate(all(), &self.storm),
            healthy_after_ms: self.healthy_after.map(Span::as_millis),
            invariants: self.verdicts(&log, &records, silent),
        })
    }

    /// Whether a connection may have broken under a call.
    fn broke_between(&self, sent: Span, at: Span) -> bool {
        // A Frontend or server that is being started again is not there either.
        let while_away = Span::seconds(15);
        self.trouble.breaks.iter().any(|&moment| sent < moment + while_away && moment < at)
    }

    /// How long every attempt took to go out again after its VM was gone, and how many went out before that.
    fn redispatches(&self) -> (Vec<Span>, u64) {
        let mut after = Vec::new();
        let mut before = 0;
        for ((invocation, attempt), (_, again)) in &self.sight.runs {
            let Some(older) = attempt.0.checked_sub(1).filter(|&older| older > 0) else { continue };
            let Some((vm, sent)) = self.sight.runs.get(&(*invocation, Attempt(older))) else { continue };
            match self.trouble.deaths.get(vm) {
                // What was sent there in ignorance of its death waited only since it was sent.
                Some(&death) if death <= *again => after.push(Span(again.0 - death.max(*sent).0)),
                _ => before += 1,
            }
        }
        (sorted(after), before)
    }

    /// The attempt whose answer a caller had at `at`: the last that was sent to its Frontend until then. Where that one was void and the
    /// record was asked for after it, or none was seen and the record was asked for, the caller was told the record (decision
    /// 0002). That may be any attempt's that ran on the VM that it names, and is right whatever was fenced off since, so it counts as the
    /// newest attempt's. Where nobody asked for the record an answer was seen late: on a busy machine this observer is behind
    /// callers.
    fn attempt(&self, id: InvocationId, vm: Option<VmId>, at: Span) -> Option<Attempt> {
        let answers = self.sight.answers.range((id, Attempt(0))..=(id, Attempt(u32::MAX)));
        let (until_then, later): (Vec<_>, Vec<_>) = answers.partition(|(_, sent)| **sent <= at + SEEN_LATE);
        match until_then.into_iter().max_by_key(|(_, sent)| **sent) {
            Some((&(_, attempt), &sent))
                if !(self.is_void(id, attempt, sent) && self.record_was_asked(id, sent, at)) =>
            {
                return Some(attempt);
            }
            None if !self.record_was_asked(id, Span::ZERO, at) => {
                let first = later.into_iter().min_by_key(|(_, sent)| **sent);
                return first.map(|(&(_, attempt), _)| attempt);
            }
            _ => {}
        }
        let ran_there = self.sent_until(id, at).any(|(_, on)| Some(on) == vm);
        self.newest(id, at).filter(|_| ran_there)
    }

    /// The newest attempt that had been sent by then.
    fn newest(&self, id: InvocationId, at: Span) -> Option<Attempt> {
        self.sent_until(id, at).last().map(|(attempt, _)| attempt)
    }

    /// The attempts that had been sent by then, and where to, the newest last.
    fn sent_until(&self, id: InvocationId, at: Span) -> impl Iterator<Item = (Attempt, VmId)> {
        let all = self.sight.runs.range((id, Attempt(0))..=(id, Attempt(u32::MAX)));
        all.filter(move |(_, (_, sent))| *sent <= at).map(|(&(_, attempt), &(vm, _))| (attempt, vm))
    }

    /// Whether a fence that was heard before this answer was sent had declared it void.
    fn is_void(&self, id: InvocationId, attempt: Attempt, sent: Span) -> bool {
        let mut fences = Fences::default();
        self.sight
            .fences
            .iter()
            .take_while(|fence| fence.at <= sent)
            .for_each(|fence| fences.hear(&fence.event));
        fences.which_counted_instead(id, attempt).is_some()
    }

    fn record_was_asked(&self, id: InvocationId, after: Span, before: Span) -> bool {
        let mut asked = self.sight.records_asked.get(&id).into_iter().flatten();
        asked.any(|asked| (after..=before).contains(asked))
    }

    /// The event log, as an observer of the house and of its callers has seen it.
    async fn log(
        &self,
        stream: &Stream,
        house: &House,
        records: &BTreeMap<InvocationId, usize>,
    ) -> Vec<Entry> {
        let mut log = Vec::new();
        let mut missing = Vec::new();
        for call in &self.calls.answered {
            log.push(Entry { at: call.sent, event: Event::Accepted { invocation: call.id } });
            match self.attempt(call.id, call.vm, call.at) {
                Some(attempt) => log.push(self.ended(call, attempt)),
                None => missing.push((call.id, call.at, Some(call.outcome))),
            }
        }
        for (&invocation, submitted) in &self.calls.submitted {
            log.push(Entry { at: submitted.sent, event: Event::Accepted { invocation } });
            let answer = self.calls.durable_answers.get(&invocation).and_then(|answers| answers.first());
            let attempt = answer.and_then(|answer| self.attempt(invocation, answer.vm, answer.at));
            match (answer, attempt) {
                (Some(answer), Some(attempt)) => log.push(self.ended(answer, attempt)),
                // The record says how it ended, if there is one.
                _ if records.contains_key(&invocation) => {
                    let at = answer.map_or(self.storm.end, |answer| answer.at);
                    missing.push((invocation, at, answer.map(|answer| answer.outcome)));
                }
                _ => {}
            }
        }
        for (invocation, at, outcome) in missing {
            let Some(record) = self.record(stream, house, invocation).await else { continue };
            // As in `attempt`: a record is right whoever was sent out since.
            let attempt = self.newest(invocation, at).unwrap_or(record.attempt);
            let outcome = outcome.unwrap_or(record.outcome);
            log.push(Entry { at, event: Event::Ended { invocation, attempt, outcome } });
        }
        log.extend(&self.sight.fences);
        log.extend(&self.sight.bookings);
        log.extend(
            self.trouble.lost_controllers.iter().map(|&at| Entry { at, event: Event::ControllerLost }),
        );
        for (&vm, &at) in &self.trouble.deaths {
            log.push(Entry { at, event: Event::VmLost { vm } });
        }
        log.sort_by_key(|entry| entry.at);
        log
    }

    /// The record of an invocation, of whichever function it was.
    async fn record(&self, stream: &Stream, house: &House, invocation: InvocationId) -> Option<Record> {
        for function in super::functions(self.scenario) {
            let subject = subjects::record(&house.namespace, &function, invocation);
            if let Ok(message) = stream.direct_get_last_for_subject(subject).await {
                return messages::decode(&message.payload).ok();
            }
        }
        None
    }

    /// An answer, at the moment at which it passed the house's own bus: that of a caller is another connection, on
    /// which it may come a little later than a fence that was sent after it.
    fn ended(&self, call: &Answered, attempt: Attempt) -> Entry {
        let at = self.sight.answers.get(&(call.id, attempt)).copied().unwrap_or(call.at).max(call.sent);
        let (invocation, outcome) = (call.id, call.outcome);
        Entry { at, event: Event::Ended { invocation, attempt, outcome } }
    }

    fn verdicts(&self, log: &[Entry], records: &BTreeMap<InvocationId, usize>, silent: u64) -> Vec<Verdict> {
        let of_log = |invariant: &'static str, breaches: Vec<Breach>| {
            verdict(invariant, breaches.iter().map(ToString::to_string).collect())
        };
        let log_line = |id: &InvocationId, what: &str| format!("{id} {what}");
        let mut kept: Vec<String> = records
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(id, count)| log_line(id, &format!("has {count} records")))
            .collect();
        let accepted = self.calls.answered.iter().map(|call| call.id);
        let accepted = accepted.chain(self.calls.submitted.keys().copied());
        kept.extend(accepted.filter(|id| !records.contains_key(id)).map(|id| log_line(&id, "has no record")));
        let strangers = self.calls.answered.iter().filter(|call| !call.is_own);
        let mut seen = BTreeSet::new();
        let again = self.calls.answered.iter().filter(|call| !seen.insert(call.id));
        let strange =
            strangers.map(|call| log_line(&call.id, "came to somebody who had asked something else"));
        let unheard = (silent > 0).then(|| format!("{silent} calls had no answer, and no connection broke"));
        let ill = self.healthy_after.is_none().then(|| {
            format!(
                "{} s after the last fault the fleet was not whole, or calls failed",
                self.scenario.healthy_within_s
            )
        });
        let unsaid = self.trouble.full_unsaid;
        let unsaid = (unsaid > 0).then(|| format!("{unsaid} times nobody said that the store takes nothing"));
        let heeded = self.sight.heard.keys().filter(|vm| !self.trouble.by_cloud.contains_key(vm));
        let heeded =
            heeded.map(|vm| format!("{vm} passed on a notice of a cloud that was not its own, or none"));
        vec![
            verdict("no_vm_heeds_a_notice_that_is_not_its_own", heeded.collect()),
            verdict("a_full_store_is_said_to_be_full", unsaid.into_iter().collect()),
            of_log(
                "every_accepted_invocation_ends_exactly_once",
                invariants::every_accepted_invocation_ends_exactly_once(log),
            ),
            of_log(
                "no_answer_of_a_dead_attempt_reaches_a_caller",
                invariants::no_answer_of_a_dead_attempt_reaches_a_caller(log),
            ),
            of_log(
                "no_controller_overbooks_a_vm_after_one_report",
                invariants::no_controller_overbooks_a_vm_after_one_report(log, &self.trouble.deaf),
            ),
            of_log(
                "no_vm_holds_more_than_one_run_too_many",
                invariants::no_vm_holds_more_than_one_run_too_many(log),
            ),
            of_log(
                "only_functions_of_a_lost_controller_move",
                invariants::only_functions_of_a_lost_controller_move(log, &self.trouble.deaf),
            ),
            verdict("every_accepted_invocation_has_exactly_one_record", kept),
            verdict("every_call_is_answered", unheard.into_iter().collect()),
            verdict(
                "every_answer_comes_to_who_asked",
                strange.chain(again.map(|call| log_line(&call.id, "answered two calls"))).collect(),
            ),
            verdict("the_cluster_is_healthy_again_in_time", ill.into_iter().collect()),
        ]
    }
}

fn verdict(invariant: &'static str, breaches: Vec<String>) -> Verdict {
    let holds = breaches.is_empty();
    Verdict { invariant, holds, breaches: breaches.into_iter().take(SHOWN).collect() }
}

/// How many records each of these has; waits a while for the last ones.
async fn count(
    stream: &Stream,
    house: &House,
    functions: &[String],
    accepted: &BTreeSet<InvocationId>,
) -> Result<BTreeMap<InvocationId, usize>, LiveError> {
    let until = tokio::time::Instant::now() + RECORD_PATIENCE;
    loop {
        let mut records = BTreeMap::new();
        for function in functions {
            let filter = subjects::records_of_function(&house.namespace, function);
            let reading = |error: String| LiveError::nats("counting the records")(error);
            let mut found =
                stream.info_with_subjects(filter).await.map_err(|error| reading(error.to_string()))?;
            while let Some(next) = found.next().await {
                let (subject, count) = next.map_err(|error| reading(error.to_string()))?;
                let id = subject.rsplit('.').next().and_then(|id| id.parse().ok());
                if let Some(id) = id.filter(|id| accepted.contains(id)) {
                    *records.entry(id).or_default() += count;
                }
            }
        }
        if records.len() == accepted.len() || tokio::time::Instant::now() > until {
            return Ok(records);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn write(path: &Path, log: &[Entry]) -> Result<(), LiveError> {
    let failed = |source| LiveError::Log { path: path.to_owned(), source };
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    for entry in log {
        events::write(&mut file, entry).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

/// Successes per second that came within this time.
fn rate<'a>(answers: impl Iterator<Item = &'a Answered>, within: &Range<Span>) -> f64 {
    let good = answers.filter(|answer| answer.outcome == Outcome::Success && within.contains(&answer.at));
    let length = Span(within.end.0.saturating_sub(within.start.0)).as_seconds();
    good.count() as f64 / length.max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: InvocationId = InvocationId(7);
    const VM: VmId = VmId(3);

    fn at(ms: u64) -> Span {
        Span::millis(ms)
    }

    /// Two attempts of one invocation on one VM, of which the first was fenced off and answered all the same.
    fn evidence(scenario: &Scenario) -> Evidence<'_> {
        let mut sight = Sight::default();
        sight.runs.insert((ID, Attempt(1)), (VM, at(0)));
        let event = Event::Fenced { invocation: ID, oldest_valid: Attempt(2), also: None };
        sight.fences.push(Entry { at: at(10), event });
        sight.runs.insert((ID, Attempt(2)), (VM, at(11)));
        sight.answers.insert((ID, Attempt(1)), at(20));
        let (calls, trouble) = (Calls::default(), Seen::default());
        Evidence { scenario, seed: 1, storm: at(0)..at(100), healthy_after: None, calls, sight, trouble }
    }

    #[test]
    fn a_void_answer_is_what_the_caller_had_unless_the_record_was_asked_for_meanwhile() {
        let scenario = Scenario::from_toml(include_str!("../../scenarios/quick.toml")).unwrap();
        let mut evidence = evidence(&scenario);
        assert_eq!(evidence.attempt(ID, Some(VM), at(40)), Some(Attempt(1)));
        evidence.sight.records_asked.insert(ID, vec![at(15), at(41)]);
        assert_eq!(
            evidence.attempt(ID, Some(VM), at(40)),
            Some(Attempt(1)),
            "asked for before it and after it was told"
        );
        evidence.sight.records_asked.insert(ID, vec![at(30)]);
        assert_eq!(evidence.attempt(ID, Some(VM), at(40)), Some(Attempt(2)));
        evidence.sight.fences.clear();
        assert_eq!(
            evidence.attempt(ID, Some(VM), at(40)),
            Some(Attempt(1)),
            "it counted, so it was delivered"
        );
    }

    #[test]
    fn a_record_is_right_whoever_was_sent_out_since() {
        let scenario = Scenario::from_toml(include_str!("../../scenarios/quick.toml")).unwrap();
        let mut evidence = evidence(&scenario);
        // A third attempt elsewhere finds the first one's record and tells it, before that is seen here.
        let event = Event::Fenced { invocation: ID, oldest_valid: Attempt(3), also: None };
        evidence.sight.fences.push(Entry { at: at(25), event });
        evidence.sight.runs.insert((ID, Attempt(3)), (VmId(4), at(26)));
        evidence.sight.answers = [((ID, Attempt(3)), at(90))].into();
        evidence.sight.records_asked.insert(ID, vec![at(30)]);
        assert_eq!(evidence.attempt(ID, Some(VM), at(40)), Some(Attempt(3)));
        assert_eq!(evidence.attempt(ID, Some(VmId(5)), at(40)), None, "nothing of it ran there");
    }

    #[test]
    fn an_answer_that_was_seen_late_is_what_the_caller_had_where_nobody_asked_for_the_record() {
        let scenario = Scenario::from_toml(include_str!("../../scenarios/quick.toml")).unwrap();
        let mut evidence = evidence(&scenario);
        evidence.sight.answers = [((ID, Attempt(1)), at(80)), ((ID, Attempt(2)), at(90))].into();
        assert_eq!(evidence.attempt(ID, Some(VM), at(40)), Some(Attempt(1)), "void, and blamed");
        evidence.sight.answers.clear();
        assert_eq!(evidence.attempt(ID, Some(VM), at(40)), None, "its record will say");
    }
}
