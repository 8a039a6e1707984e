//! What Controllers book on a VM, against what the VM says.
//!
//! **Knows:** a log in which each report of a VM is a row of [`Event::Held`] that ends with an [`Event::Offered`].
//! **Promises:** one Controller that has heard a report sends nothing there for which that report and its own messages since
//! leave no room. Several do not see one another's messages until the next report: how far they go beyond together is
//! measured, and the next report ends it.
//! **Gives up:** what has ended for its caller: its room counts as free from then on. Knowing when a Controller has read what it was sent: it is given [`ON_ITS_WAY`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use vocabulary::{Attempt, ControllerId, InvocationId, Resources, Span, VmId};

use super::Breach;
use crate::events::{Entry, Event};

/// What was sent to a VM so soon after a report may have been decided before it was read.
const ON_ITS_WAY: Span = Span::millis(500);

type Key = (InvocationId, Attempt);

#[derive(Default)]
struct Vm {
    /// What the last report said.
    capacity: Resources,
    /// What the report that is being read says.
    now_offered: Resources,
    at: Span,
    held: BTreeMap<Key, Resources>,
    /// What the report that is being read says.
    now_held: BTreeMap<Key, Resources>,
    /// Sent since the last report, and by whom.
    sent: BTreeMap<Key, (ControllerId, Span)>,
}

/// How far several Controllers together went beyond what a VM has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overbooking {
    /// Reports that were looked at.
    pub reports: u64,
    /// Those in which more was booked than the VM has, and not because it had shrunk.
    pub beyond: u64,
    /// The most that was booked beyond it.
    pub most: Resources,
}

/// Whenever a VM reports, what it reported before and what one Controller has sent since, of what is still there, fits into
/// what it had. `deaf`: when some Controller could not hear reports; what was sent then is not judged.
pub fn no_controller_overbooks_a_vm_after_one_report(log: &[Entry], deaf: &[Range<Span>]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    read(log, |entry, vm, was, now| {
        let stays: Resources =
            was.held.iter().filter(|(key, _)| now.contains_key(key)).map(|(_, booked)| *booked).sum();
        let controllers: BTreeSet<ControllerId> =
            was.sent.values().map(|(controller, _)| *controller).collect();
        for controller in controllers {
            let news: Vec<(&Key, &Resources)> = now
                .iter()
                .filter(|(key, _)| {
                    was.sent.get(key).is_some_and(|&(by, at)| {
                        by == controller
                            && at > was.at + ON_ITS_WAY
                            && !deaf.iter().any(|range| range.contains(&at))
                    })
                })
                .collect();
            let sum = stays + news.iter().map(|(_, booked)| **booked).sum();
            if let Some(((last, _), _)) = news.last()
                && !sum.fits_in(was.capacity)
            {
                breaches.push(Breach {
                    invariant: "no_controller_overbooks_a_vm_after_one_report",
                    entry,
                    what: format!(
                        "{vm} had said that it holds {stays} of {}, and {controller} sent so much that it is {sum}, {last} among it",
                        was.capacity
                    ),
                });
            }
        }
    });
    breaches
}

/// Whatever several Controllers send that do not know of one another, a VM keeps no more than it has and one run that waits; the
/// rest goes back at once. Looked at is what is new in a report: a VM that has shrunk keeps what runs there.
pub fn no_vm_holds_more_than_one_run_too_many(log: &[Entry]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    // What is run again elsewhere, and what was told to end, is about to, and its room may be waited for.
    let mut newest: BTreeMap<InvocationId, Attempt> = BTreeMap::new();
    let mut released: BTreeMap<Key, usize> = BTreeMap::new();
    for (index, entry) in log.iter().enumerate() {
        match entry.event {
            Event::Promised { invocation, attempt, .. } => {
                let known = newest.entry(invocation).or_insert(attempt);
                *known = (*known).max(attempt);
            }
            Event::Released { invocation, attempt, .. } => {
                released.entry((invocation, attempt)).or_insert(index);
            }
            _ => {}
        }
    }
    read(log, |entry, vm, was, now| {
        let counts = |key: &Key| {
            newest.get(&key.0).is_none_or(|last| key.1 >= *last)
                && released.get(key).is_none_or(|&index| index >= entry)
        };
        let all: Vec<(&Key, &Resources)> = now.iter().filter(|(key, _)| counts(key)).collect();
        let sum: Resources = all.iter().map(|(_, booked)| **booked).sum();
        let news: Vec<&Resources> =
            all.iter().filter(|(key, _)| !was.held.contains_key(key)).map(|(_, booked)| *booked).collect();
        let capacity = was.capacity.max(was.now_offered);
        if news.len() > 1 && !news.iter().any(|one| (sum - **one).fits_in(capacity)) {
            breaches.push(Breach {
                invariant: "no_vm_holds_more_than_one_run_too_many",
                entry,
                what: format!("{vm} has {capacity} and holds {sum}, {} runs of it new", news.len()),
            });
        }
    });
    breaches
}

/// How far bookings went beyond what VMs have, whoever made them.
pub fn overbooking(log: &[Entry]) -> Overbooking {
    let mut found = Overbooking::default();
    read(log, |_, _, was, now| {
        found.reports += 1;
        let sum: Resources = now.values().copied().sum();
        let is_new = now.keys().any(|key| !was.held.contains_key(key));
        if is_new && !sum.fits_in(was.capacity) {
            found.beyond += 1;
            let beyond = sum - was.capacity;
            found.most.cpu = found.most.cpu.max(beyond.cpu);
            found.most.memory = found.most.memory.max(beyond.memory);
        }
    });
    found
}

/// Calls `each` for every report but a VM's first, with what was known before it and what it holds now.
fn read(log: &[Entry], mut each: impl FnMut(usize, VmId, &Vm, &BTreeMap<Key, Resources>)) {
    let mut vms: BTreeMap<VmId, Vm> = BTreeMap::new();
    // A VM answers before it writes down that a run has ended, and what raced and lost is called off and takes a moment to
    // die: a report in between still lists either. What comes for their room waits on the VM that long.
    let mut ended: BTreeSet<InvocationId> = BTreeSet::new();
    for (index, Entry { at, event }) in log.iter().enumerate() {
        match *event {
            Event::Promised { vm, invocation, attempt, controller: Some(controller), .. } => {
                vms.entry(vm).or_default().sent.entry((invocation, attempt)).or_insert((controller, *at));
            }
            Event::Ended { invocation, .. } => drop(ended.insert(invocation)),
            Event::Held { vm, invocation, attempt, booked } if !ended.contains(&invocation) => {
                vms.entry(vm).or_default().now_held.insert((invocation, attempt), booked);
            }
            Event::Offered { vm, capacity } => {
                let known = vms.entry(vm).or_default();
                known.now_offered = capacity;
                let now = std::mem::take(&mut known.now_held);
                if known.capacity != Resources::ZERO {
                    each(index + 1, vm, known, &now);
                }
                let sent = std::mem::take(&mut known.sent);
                // What the VM does not list yet is still on its way there.
                known.sent = sent
                    .into_iter()
                    .filter(|(key, (_, sent))| !now.contains_key(key) && *at < *sent + ON_ITS_WAY)
                    .collect();
                (known.capacity, known.at, known.held) = (capacity, *at, now);
            }
            Event::VmLost { vm } => drop(vms.remove(&vm)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: VmId = VmId(7);

    fn held(id: u128, cpu: u32) -> Event {
        let (invocation, attempt) = (InvocationId(id), Attempt(1));
        Event::Held { vm: VM, invocation, attempt, booked: Resources::new(cpu, 1) }
    }

    fn sent(id: u128, cpu: u32, by: u64) -> Event {
        let (invocation, attempt) = (InvocationId(id), Attempt(1));
        let (booked, controller) = (Resources::new(cpu, 1), Some(ControllerId(by)));
        Event::Promised { vm: VM, invocation, attempt, booked, controller }
    }

    fn offered(cpu: u32) -> Event {
        Event::Offered { vm: VM, capacity: Resources::new(cpu, 1_000) }
    }

    fn log(events: &[(u64, Event)]) -> Vec<Entry> {
        events.iter().map(|&(at, event)| Entry { at: Span::millis(at), event }).collect()
    }

    /// Two Controllers send to one VM between two reports, the second of which shows 400 more than it has.
    fn two_send_to_one() -> Vec<(u64, Event)> {
        vec![
            (0, held(1, 400)),
            (0, offered(1_000)),
            (600, sent(2, 500, 1)),
            (700, sent(3, 500, 2)),
            (1_000, held(1, 400)),
            (1_000, held(2, 500)),
            (1_000, held(3, 500)),
            (1_000, offered(1_000)),
        ]
    }

    #[test]
    fn two_controllers_may_overbook_for_one_report_and_one_may_not() {
        let both = log(&two_send_to_one());
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&both, &[]), vec![]);
        let most = Resources::new(400, 0);
        assert_eq!(overbooking(&both), Overbooking { reports: 1, beyond: 1, most });
        let one: Vec<Entry> = both
            .iter()
            .map(|entry| match entry.event {
                Event::Promised { vm, invocation, attempt, booked, .. } => Entry {
                    event: Event::Promised {
                        vm,
                        invocation,
                        attempt,
                        booked,
                        controller: Some(ControllerId(1)),
                    },
                    ..*entry
                },
                _ => *entry,
            })
            .collect();
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&one, &[])[0].entry, 8);
        let deaf = [Span::millis(650)..Span::millis(900)];
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&one, &deaf), vec![]);
    }

    #[test]
    fn one_run_may_wait_on_a_vm_and_two_may_not() {
        let mut events = two_send_to_one();
        assert_eq!(no_vm_holds_more_than_one_run_too_many(&log(&events)), vec![]);
        events.insert(7, (1_000, held(4, 500)));
        let found = no_vm_holds_more_than_one_run_too_many(&log(&events));
        assert_eq!(found.len(), 1);
        // What has been sent elsewhere meanwhile is about to end here.
        let (invocation, attempt) = (InvocationId(1), Attempt(2));
        let booked = Resources::new(400, 1);
        let elsewhere =
            Event::Promised { vm: VmId(8), invocation, attempt, booked, controller: Some(ControllerId(1)) };
        events.insert(4, (900, elsewhere));
        assert_eq!(no_vm_holds_more_than_one_run_too_many(&log(&events)), vec![]);
        // So has what was told to end.
        events.remove(4);
        events.insert(4, (900, Event::Released { vm: VM, invocation, attempt: Attempt(1) }));
        assert_eq!(no_vm_holds_more_than_one_run_too_many(&log(&events)), vec![]);
        let shrunk = [
            (0, held(1, 900)),
            (0, offered(1_000)),
            (1_000, held(1, 900)),
            (1_000, held(2, 100)),
            (1_000, offered(500)),
        ];
        assert_eq!(no_vm_holds_more_than_one_run_too_many(&log(&shrunk)), vec![]);
    }

    #[test]
    fn what_comes_after_both_have_heard_is_a_breach() {
        let more = log(&[
            (0, held(1, 600)),
            (0, held(2, 600)),
            (0, offered(1_000)),
            (800, sent(3, 100, 2)),
            (1_000, held(1, 600)),
            (1_000, held(2, 600)),
            (1_000, held(3, 100)),
            (1_000, offered(1_000)),
        ]);
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&more, &[]).len(), 1);
    }

    #[test]
    fn what_was_decided_before_the_report_was_read_is_none_and_neither_is_a_shrink() {
        let crossed = log(&[
            (0, held(1, 900)),
            (0, offered(1_000)),
            (300, sent(2, 500, 1)),
            (1_000, held(1, 900)),
            (1_000, held(2, 500)),
            (1_000, offered(1_000)),
        ]);
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&crossed, &[]), vec![]);
        let shrunk = log(&[
            (0, held(1, 900)),
            (0, offered(1_000)),
            (1_000, held(1, 900)),
            (1_000, offered(500)),
            (2_000, held(1, 900)),
            (2_000, offered(500)),
        ]);
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&shrunk, &[]), vec![]);
        assert_eq!(overbooking(&shrunk).beyond, 0);
        let ended = log(&[
            (0, held(1, 900)),
            (0, offered(1_000)),
            (700, sent(2, 900, 1)),
            (1_000, held(2, 900)),
            (1_000, offered(1_000)),
        ]);
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&ended, &[]), vec![]);
        let answered = Event::Ended {
            invocation: InvocationId(1),
            attempt: Attempt(1),
            outcome: vocabulary::Outcome::Success,
        };
        let still_listed = log(&[
            (0, held(1, 900)),
            (0, offered(1_000)),
            (690, answered),
            (700, sent(2, 900, 1)),
            (720, held(1, 900)),
            (720, held(2, 900)),
            (720, offered(1_000)),
        ]);
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&still_listed, &[]), vec![]);
        let not_answered: Vec<Entry> =
            still_listed.into_iter().filter(|entry| entry.event != answered).collect();
        assert_eq!(no_controller_overbooks_a_vm_after_one_report(&not_answered, &[]).len(), 1);
    }
}
