//! What must stay true, by name, over a log of what was seen.
//!
//! **Knows:** one finished log.
//! **Promises:** every breach is named with the line that makes it one. Nothing is assumed of what the log does not
//! say.
//! **Gives up:** telling why. The log around the line does that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vocabulary::{Attempt, InvocationId, Resources, VmId};

mod bookings;
mod owners;

pub use bookings::{
    Overbooking, no_controller_overbooks_a_vm_after_one_report, no_vm_holds_more_than_one_run_too_many,
    overbooking,
};
pub use owners::{moves, only_functions_of_a_lost_controller_move};

use crate::events::{Entry, Event};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The invariant that is broken: the name of its function.
    pub invariant: &'static str,
    /// Which entry of the log breaks it, counted from 1; the number of entries where it is the end of the log.
    pub entry: usize,
    /// How, in a sentence.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (entry {}): {}", self.invariant, self.entry, self.what)
    }
}

/// An invariant.
pub type Invariant = fn(&[Entry]) -> Vec<Breach>;

/// All of them.
pub const ALL: [Invariant; 3] = [
    every_accepted_invocation_ends_exactly_once,
    no_vm_is_promised_more_than_it_offers,
    no_answer_of_a_dead_attempt_reaches_a_caller,
];

/// All breaches of all invariants.
pub fn breaches(log: &[Entry]) -> Vec<Breach> {
    ALL.iter().flat_map(|invariant| invariant(log)).collect()
}

/// No accepted invocation vanishes, none ends twice, and none ends that nobody asked for. To be asked of a log that
/// was kept until everything had the time to end.
pub fn every_accepted_invocation_ends_exactly_once(log: &[Entry]) -> Vec<Breach> {
    let name = "every_accepted_invocation_ends_exactly_once";
    let mut breaches = Vec::new();
    let mut open = BTreeSet::new();
    let mut ended = BTreeSet::new();
    for (entry, event) in numbered(log) {
        match event {
            Event::Accepted { invocation } if !ended.contains(invocation) => {
                open.insert(*invocation);
            }
            Event::Ended { invocation, attempt, .. } => {
                if !ended.insert(*invocation) {
                    let what = format!("{invocation} has ended a second time, with attempt {attempt}");
                    breaches.push(Breach { invariant: name, entry, what });
                } else if !open.remove(invocation) {
                    let what = format!("{invocation} has ended and was never accepted");
                    breaches.push(Breach { invariant: name, entry, what });
                }
            }
            _ => {}
        }
    }
    let never = open.iter().map(|invocation| Breach {
        invariant: name,
        entry: log.len(),
        what: format!("{invocation} was accepted and has not ended"),
    });
    breaches.extend(never);
    breaches
}

/// Whenever an attempt is sent to a VM, the VM has room for it beside everything that was sent there before. A VM that
/// shrinks below what runs on it breaks no promise; to send it more before there is room does. Holds for one
/// Controller: several see one another's promises only in the next report.
pub fn no_vm_is_promised_more_than_it_offers(log: &[Entry]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut offered: BTreeMap<VmId, Resources> = BTreeMap::new();
    let mut promised: BTreeMap<VmId, BTreeMap<(InvocationId, Attempt), Resources>> = BTreeMap::new();
    for (entry, event) in numbered(log) {
        match event {
            Event::Offered { vm, capacity } => {
                offered.insert(*vm, *capacity);
            }
            Event::Promised { vm, invocation, attempt, booked, .. } => {
                let there = promised.entry(*vm).or_default();
                // A repeated message promises nothing new.
                there.insert((*invocation, *attempt), *booked);
                let sum: Resources = there.values().copied().sum();
                let room = offered.get(vm).copied().unwrap_or(Resources::ZERO);
                if !sum.fits_in(room) {
                    breaches.push(Breach {
                        invariant: "no_vm_is_promised_more_than_it_offers",
                        entry,
                        what: format!(
                            "{vm} offers {room} and was promised {sum}, with {invocation} as the last"
                        ),
                    });
                }
            }
            Event::Released { vm, invocation, attempt } => {
                if let Some(there) = promised.get_mut(vm) {
                    there.remove(&(*invocation, *attempt));
                }
            }
            Event::VmLost { vm } => {
                offered.remove(vm);
                promised.remove(vm);
            }
            _ => {}
        }
    }
    breaches
}

/// Once an attempt was given up, its answer is not what the caller gets, even if it comes first. After a notice two
/// attempts may live, and the fence names both: the oldest that counts, and one other beside it.
pub fn no_answer_of_a_dead_attempt_reaches_a_caller(log: &[Entry]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut fences = Fences::default();
    for (entry, event) in numbered(log) {
        fences.hear(event);
        if let Event::Ended { invocation, attempt, .. } = event
            && let Some(counted) = fences.which_counted_instead(*invocation, *attempt)
        {
            breaches.push(Breach {
                invariant: "no_answer_of_a_dead_attempt_reaches_a_caller",
                entry,
                what: format!("{invocation} was answered by attempt {attempt}, which was void: {counted}"),
            });
        }
    }
    breaches
}

/// Whose answers count, by the fences that were heard so far.
#[derive(Debug, Default)]
pub(crate) struct Fences(BTreeMap<InvocationId, (Attempt, Option<Attempt>)>);

impl Fences {
    /// Takes note of a fence. One that comes late, or again, opens nothing; one of the same height says who lives beside it now.
    pub(crate) fn hear(&mut self, event: &Event) {
        if let Event::Fenced { invocation, oldest_valid, also } = event {
            let fence = self.0.entry(*invocation).or_insert((*oldest_valid, *also));
            if fence.0 <= *oldest_valid {
                *fence = (*oldest_valid, *also);
            }
        }
    }

    /// For an attempt that is void: which are not.
    pub(crate) fn which_counted_instead(&self, invocation: InvocationId, attempt: Attempt) -> Option<String> {
        let &(oldest, also) = self.0.get(&invocation)?;
        let beside = || also.map_or_else(String::new, |also| format!(", and {also} beside it"));
        (attempt < oldest && also != Some(attempt))
            .then(|| format!("{oldest} was the oldest that counted{}", beside()))
    }
}

fn numbered(log: &[Entry]) -> impl Iterator<Item = (usize, &Event)> {
    log.iter().enumerate().map(|(index, entry)| (index + 1, &entry.event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{Outcome, Span};

    const ONE: InvocationId = InvocationId(1);
    const TWO: InvocationId = InvocationId(2);
    const VM: VmId = VmId(7);

    fn log(events: &[Event]) -> Vec<Entry> {
        events.iter().map(|&event| Entry { at: Span::ZERO, event }).collect()
    }

    fn accepted(invocation: InvocationId) -> Event {
        Event::Accepted { invocation }
    }

    fn ended(invocation: InvocationId, attempt: u32) -> Event {
        Event::Ended { invocation, attempt: Attempt(attempt), outcome: Outcome::Success }
    }

    fn fenced(invocation: InvocationId, oldest: u32) -> Event {
        Event::Fenced { invocation, oldest_valid: Attempt(oldest), also: None }
    }

    fn fenced_beside(invocation: InvocationId, oldest: u32, also: u32) -> Event {
        Event::Fenced { invocation, oldest_valid: Attempt(oldest), also: Some(Attempt(also)) }
    }

    fn offered(cpu: u32) -> Event {
        Event::Offered { vm: VM, capacity: Resources::new(cpu, 1_024) }
    }

    fn promised(invocation: InvocationId, attempt: u32, cpu: u32) -> Event {
        let (attempt, booked) = (Attempt(attempt), Resources::new(cpu, 256));
        Event::Promised { vm: VM, invocation, attempt, booked, controller: None }
    }

    fn released(invocation: InvocationId, attempt: u32) -> Event {
        Event::Released { vm: VM, invocation, attempt: Attempt(attempt) }
    }

    /// The entries at which an invariant is broken.
    fn broken(invariant: Invariant, events: &[Event]) -> Vec<usize> {
        invariant(&log(events)).iter().map(|breach| breach.entry).collect()
    }

    #[test]
    fn a_good_story_breaks_nothing() {
        let story = [
            offered(2_000),
            accepted(ONE),
            promised(ONE, 1, 1_000),
            accepted(TWO),
            promised(TWO, 1, 1_000),
            released(TWO, 1),
            ended(TWO, 1),
            Event::VmLost { vm: VM },
            fenced(ONE, 2),
            offered(1_000),
            promised(ONE, 2, 1_000),
            ended(ONE, 2),
            released(ONE, 2),
        ];
        assert_eq!(breaches(&log(&story)), vec![]);
    }

    #[test]
    fn an_invocation_that_vanishes_is_found_at_the_end() {
        let invariant = every_accepted_invocation_ends_exactly_once;
        assert_eq!(broken(invariant, &[accepted(ONE), accepted(TWO), ended(TWO, 1)]), [3]);
    }

    #[test]
    fn an_invocation_that_ends_twice_is_found_where_it_does() {
        let invariant = every_accepted_invocation_ends_exactly_once;
        assert_eq!(broken(invariant, &[accepted(ONE), ended(ONE, 1), ended(ONE, 2)]), [3]);
        let submitted_again_too_late = [accepted(ONE), ended(ONE, 1), accepted(ONE), ended(ONE, 1)];
        assert_eq!(broken(invariant, &submitted_again_too_late), [4]);
    }

    #[test]
    fn an_ending_that_nobody_asked_for_is_found() {
        assert_eq!(broken(every_accepted_invocation_ends_exactly_once, &[ended(ONE, 1)]), [1]);
    }

    #[test]
    fn a_submission_that_is_repeated_is_one_invocation() {
        let story = [accepted(ONE), accepted(ONE), ended(ONE, 1)];
        assert_eq!(broken(every_accepted_invocation_ends_exactly_once, &story), [0; 0]);
    }

    #[test]
    fn a_promise_beyond_the_offer_is_found_in_either_resource() {
        let invariant = no_vm_is_promised_more_than_it_offers;
        assert_eq!(
            broken(invariant, &[offered(1_500), promised(ONE, 1, 1_000), promised(TWO, 1, 1_000)]),
            [3]
        );
        let five: Vec<_> = (1..=5).map(|id| promised(InvocationId(id), 1, 0)).collect();
        let too_much_memory = [&[offered(9_000)], five.as_slice()].concat();
        assert_eq!(broken(invariant, &too_much_memory), [6]);
    }

    #[test]
    fn a_vm_that_has_not_offered_or_is_lost_can_be_promised_nothing() {
        let invariant = no_vm_is_promised_more_than_it_offers;
        assert_eq!(broken(invariant, &[promised(ONE, 1, 1)]), [1]);
        assert_eq!(broken(invariant, &[offered(1_000), Event::VmLost { vm: VM }, promised(ONE, 1, 1)]), [3]);
    }

    #[test]
    fn shrinking_breaks_no_promise_but_a_promise_after_it_does() {
        let invariant = no_vm_is_promised_more_than_it_offers;
        let shrunk = [offered(2_000), promised(ONE, 1, 1_500), offered(1_000)];
        assert_eq!(broken(invariant, &shrunk), [0; 0]);
        assert_eq!(broken(invariant, &[&shrunk[..], &[promised(TWO, 1, 100)]].concat()), [4]);
        let released_first = [&shrunk[..], &[released(ONE, 1), promised(TWO, 1, 100)]].concat();
        assert_eq!(broken(invariant, &released_first), [0; 0]);
    }

    #[test]
    fn a_repeated_message_promises_nothing_new() {
        let story = [offered(1_000), promised(ONE, 1, 1_000), promised(ONE, 1, 1_000)];
        assert_eq!(broken(no_vm_is_promised_more_than_it_offers, &story), [0; 0]);
    }

    #[test]
    fn an_answer_from_behind_the_fence_is_found() {
        let invariant = no_answer_of_a_dead_attempt_reaches_a_caller;
        assert_eq!(broken(invariant, &[accepted(ONE), fenced(ONE, 2), ended(ONE, 1)]), [3]);
        assert_eq!(broken(invariant, &[accepted(ONE), ended(ONE, 1), fenced(ONE, 2)]), [0; 0]);
        assert_eq!(
            broken(invariant, &[fenced(ONE, 3), fenced(ONE, 2), ended(ONE, 2)]),
            [3],
            "fences only rise"
        );
        assert_eq!(broken(invariant, &[fenced(TWO, 3), ended(ONE, 1)]), [0; 0]);
    }

    #[test]
    fn of_two_attempts_that_race_either_may_answer_and_nobody_else() {
        let invariant = no_answer_of_a_dead_attempt_reaches_a_caller;
        let race = fenced_beside(ONE, 2, 1);
        assert_eq!(broken(invariant, &[race, ended(ONE, 1)]), [0; 0], "the older one came first");
        assert_eq!(broken(invariant, &[race, ended(ONE, 2)]), [0; 0]);
        // The VM with notice went: only the second is left.
        assert_eq!(broken(invariant, &[race, fenced(ONE, 2), ended(ONE, 1)]), [3]);
        // The second one's VM was lost first: its number is higher than that of the one that lives, and it is void.
        let second_lost = fenced_beside(ONE, 3, 1);
        assert_eq!(broken(invariant, &[race, second_lost, ended(ONE, 2)]), [3]);
        assert_eq!(broken(invariant, &[race, second_lost, ended(ONE, 1)]), [0; 0]);
        // A fence that comes late does not let the older one in again.
        assert_eq!(broken(invariant, &[fenced(ONE, 3), race, ended(ONE, 1)]), [3]);
        assert_eq!(broken(invariant, &[fenced_beside(TWO, 2, 1), fenced(ONE, 2), ended(ONE, 1)]), [3]);
    }

    #[test]
    fn a_breach_names_its_invariant_and_its_entry() {
        let found = breaches(&log(&[ended(ONE, 1)]));
        let told = found[0].to_string();
        assert!(told.starts_with("every_accepted_invocation_ends_exactly_once (entry 1): "), "{told}");
    }
}
