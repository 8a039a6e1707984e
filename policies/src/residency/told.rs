//! Who hears how an attempt ends that was here.
//!
//! **Knows:** which Controllers have asked for an attempt beside the one that sent it, and how those ended that ended last.
//! **Promises:** whoever asks for what is here hears of its end; whoever asks for what has just ended hears of it again; and of everything else
//! how far it had come here. So nobody waits for the ending of a run that was addressed to a Controller which is gone.
//! **Gives up:** endings of more than five seconds or four thousand runs ago. By then whoever took a run over has asked for it: a silent
//! Controller is given up after 1.6 s, and a new one has heard of all runs after 1.2 s.

use std::collections::{BTreeMap, VecDeque};

use vocabulary::{Attempt, ControllerId, InvocationId, Moment, Span};

use super::Known;

/// How long it is remembered how something ended...
const KEPT_FOR: Span = Span::seconds(5);
/// ...and of how many runs at most.
const LIMIT: usize = 4_096;
/// Controllers that hear of one attempt beside its sender.
const LISTENERS: usize = 16;

type Key = (InvocationId, Attempt);

/// How an attempt left this VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<E> {
    /// It ran to an end.
    Ran(E),
    /// It went back unbegun.
    HandedBack,
}

/// What a Controller is told that asked for an attempt which is not begun for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say<E> {
    /// Nothing yet: it will hear how that ends.
    Later,
    /// How it has ended.
    Again(End<E>),
    /// Another one is here, or none any more.
    Known(Known),
}

/// See the module. `E` is whatever tells how a run has ended.
#[derive(Debug)]
pub struct Told<E> {
    listeners: BTreeMap<Key, Vec<ControllerId>>,
    ended: VecDeque<(Moment, Key, End<E>)>,
}

impl<E> Default for Told<E> {
    fn default() -> Self {
        Self { listeners: BTreeMap::new(), ended: VecDeque::new() }
    }
}

impl<E: Clone> Told<E> {
    /// Somebody asks for this attempt, of which that is known here.
    pub fn asked(&mut self, by: ControllerId, key: Key, known: Known) -> Say<E> {
        // What has ended may still be listed as running: whoever tells of the end is faster than the machine.
        if let Some((.., end)) = self.ended.iter().rev().find(|(_, ended, _)| *ended == key) {
            return Say::Again(end.clone());
        }
        if known != Known::Here(key.1) {
            return Say::Known(known);
        }
        let listeners = self.listeners.entry(key).or_default();
        if !listeners.contains(&by) && listeners.len() < LISTENERS {
            listeners.push(by);
        }
        Say::Later
    }

    /// This attempt has left so. Returns who hears of it beside its sender.
    pub fn left(&mut self, now: Moment, key: Key, end: End<E>) -> Vec<ControllerId> {
        while self.ended.len() >= LIMIT
            || self.ended.front().is_some_and(|(ended, ..)| now.since(*ended) > KEPT_FOR)
        {
            self.ended.pop_front();
        }
        self.ended.push_back((now, key, end));
        self.called_off(key)
    }

    /// The same for one that nobody waited for any more: who asks for it afterwards does, and is told that it is not here.
    pub fn called_off(&mut self, key: Key) -> Vec<ControllerId> {
        if self.listeners.is_empty() { Vec::new() } else { self.listeners.remove(&key).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (InvocationId(1), Attempt(2));
    const ONE: ControllerId = ControllerId(1);
    const OTHER: ControllerId = ControllerId(2);

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Span::millis(ms)
    }

    #[test]
    fn who_asks_for_what_is_here_hears_of_its_end_once() {
        let mut told = Told::default();
        assert_eq!(told.asked(ONE, KEY, Known::Here(KEY.1)), Say::Later);
        assert_eq!(told.asked(OTHER, KEY, Known::Here(KEY.1)), Say::Later);
        assert_eq!(told.asked(ONE, KEY, Known::Here(KEY.1)), Say::Later);
        assert_eq!(told.left(at(0), KEY, End::Ran("well")), [ONE, OTHER]);
        assert!(told.listeners.is_empty());
    }

    #[test]
    fn who_asks_for_what_has_ended_hears_of_it_again_though_it_is_listed_still() {
        let mut told = Told::default();
        assert_eq!(told.left(at(0), KEY, End::Ran("well")), []);
        for known in [Known::Here(KEY.1), Known::Past(KEY.1), Known::Here(Attempt(3))] {
            assert_eq!(told.asked(ONE, KEY, known), Say::Again(End::Ran("well")));
        }
        assert_eq!(told.left(at(1), (KEY.0, Attempt(3)), End::HandedBack), []);
        assert_eq!(
            told.asked(ONE, (KEY.0, Attempt(3)), Known::Past(Attempt(3))),
            Say::Again(End::HandedBack)
        );
    }

    #[test]
    fn who_asks_for_what_was_called_off_or_long_ago_is_told_that_it_is_not_here() {
        let mut told = Told::<&str>::default();
        assert_eq!(told.asked(ONE, KEY, Known::Here(KEY.1)), Say::Later);
        assert_eq!(told.called_off(KEY), [ONE]);
        assert_eq!(told.asked(OTHER, KEY, Known::Past(KEY.1)), Say::Known(Known::Past(KEY.1)));
        told.left(at(0), KEY, End::Ran("well"));
        told.left(at(5_001), (InvocationId(9), Attempt(1)), End::Ran("well"));
        assert_eq!(told.asked(OTHER, KEY, Known::Past(KEY.1)), Say::Known(Known::Past(KEY.1)));
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut told = Told::default();
        for id in 0..3 * LIMIT as u128 {
            told.left(at(0), (InvocationId(id), Attempt(1)), End::Ran(()));
        }
        assert_eq!(told.ended.len(), LIMIT);
        for id in 0..2 * LISTENERS as u64 {
            told.asked(ControllerId(id), KEY, Known::Here(KEY.1));
        }
        assert_eq!(told.listeners[&KEY].len(), LISTENERS);
    }
}
