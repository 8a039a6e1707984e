//! Which Controller a function belongs to, when one of several is lost.
//!
//! **Knows:** to whom Frontends handed each function's invocations.
//! **Promises:** that of the functions of those who live none moves to another who was there before.
//! **Gives up:** functions that nobody called around the loss, and who came after it: a new Controller takes its share.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use vocabulary::{ControllerId, FunctionId, Span};

use super::Breach;
use crate::events::{Entry, Event};

/// By then every Frontend knows of a loss.
const LEARNED: Span = Span::seconds(2);
/// So long after a loss moves are put down to it.
const AFTER: Span = Span::seconds(5);

/// What went to whom, and when.
fn routes(log: &[Entry]) -> impl Iterator<Item = (usize, Span, FunctionId, ControllerId)> {
    log.iter().enumerate().filter_map(|(index, entry)| match entry.event {
        Event::Routed { function, controller } => Some((index + 1, entry.at, function, controller)),
        _ => None,
    })
}

/// What was the case when one was lost.
struct Loss {
    at: Span,
    /// Whose each function was.
    owners: BTreeMap<FunctionId, ControllerId>,
    /// Those who had been given something.
    known: BTreeSet<ControllerId>,
    /// Those of them who were given something well after it: a Frontend learns of a loss within two seconds.
    lives: BTreeSet<ControllerId>,
}

fn losses(log: &[Entry]) -> Vec<Loss> {
    let lost = log.iter().filter(|entry| entry.event == Event::ControllerLost).map(|entry| entry.at);
    lost.map(|at| {
        let mut loss = Loss { at, owners: BTreeMap::new(), known: BTreeSet::new(), lives: BTreeSet::new() };
        for (_, sent, function, controller) in routes(log) {
            if sent <= at {
                loss.owners.insert(function, controller);
                loss.known.insert(controller);
            } else if loss.known.contains(&controller) && sent > at + LEARNED {
                loss.lives.insert(controller);
            }
        }
        loss
    })
    .collect()
}

/// When a Controller is lost, what belongs to the others stays where it is. `deaf`: while one who lives cannot be heard, it
/// counts as lost, too.
pub fn only_functions_of_a_lost_controller_move(log: &[Entry], deaf: &[Range<Span>]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for loss in losses(log) {
        let near = loss.at..loss.at + AFTER;
        if deaf.iter().any(|range| range.start < near.end && near.start < range.end) {
            continue;
        }
        for (entry, at, function, controller) in routes(log) {
            let Some(owner) = loss.owners.get(&function).filter(|_| near.contains(&at)) else { continue };
            if at > loss.at
                && controller != *owner
                && loss.lives.contains(owner)
                && loss.known.contains(&controller)
            {
                breaches.push(Breach {
                    invariant: "only_functions_of_a_lost_controller_move",
                    entry,
                    what: format!("{function} was of {owner}, who lives, and {controller} was given it"),
                });
            }
        }
    }
    breaches
}

/// For each function of each Controller that was lost: how long it took until another was given something of it.
pub fn moves(log: &[Entry]) -> Vec<Span> {
    let mut all = Vec::new();
    for loss in losses(log) {
        let mut waiting: BTreeMap<FunctionId, ControllerId> =
            loss.owners.into_iter().filter(|(_, owner)| !loss.lives.contains(owner)).collect();
        for (_, at, function, controller) in routes(log).filter(|(_, at, ..)| *at > loss.at) {
            if waiting.get(&function).is_some_and(|owner| *owner != controller) {
                waiting.remove(&function);
                all.push(Span(at.0 - loss.at.0));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: &[(u64, Option<(u64, u64)>)]) -> Vec<Entry> {
        let entry = |&(at, sent): &(u64, Option<(u64, u64)>)| Entry {
            at: Span::millis(at),
            event: sent.map_or(Event::ControllerLost, |(function, controller)| Event::Routed {
                function: FunctionId(function),
                controller: ControllerId(controller),
            }),
        };
        events.iter().map(entry).collect()
    }

    #[test]
    fn a_function_of_a_lost_controller_moves_and_one_of_a_living_one_does_not() {
        let fine = [
            (0, Some((1, 10))),
            (1, Some((2, 20))),
            (2, Some((3, 30))),
            (100, None),
            (150, Some((2, 20))),
            (400, Some((1, 20))),
            (2_500, Some((3, 30))),
            (2_600, Some((2, 20))),
            // A new one takes its share.
            (3_000, Some((2, 40))),
        ];
        assert_eq!(only_functions_of_a_lost_controller_move(&log(&fine), &[]), vec![]);
        assert_eq!(moves(&log(&fine)), [Span::millis(300)]);
        let moved = [&fine[..], &[(4_000, Some((3, 20)))]].concat();
        assert_eq!(only_functions_of_a_lost_controller_move(&log(&moved), &[])[0].entry, 10);
        let deaf = [Span::millis(4_500)..Span::millis(4_600)];
        assert_eq!(only_functions_of_a_lost_controller_move(&log(&moved), &deaf), vec![]);
    }
}
