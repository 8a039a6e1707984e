//! People who call, wait and think.
//!
//! **Knows:** how many there are, how long they think, and what they may call.
//! **Promises:** each draws from a stream of its own: the n-th call of a user is the same whatever the policy made of the
//! others. An answer that nobody waits for changes nothing.
//! **Gives up:** people who lose patience; the house refuses them, and they think again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use vocabulary::{Moment, Span};

use super::purpose;
use crate::chance::Chance;
use crate::plan::{Call, Calls, Work};

/// What a user does between two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Waits for the answer, then thinks: a closed loop, which a crowded house slows down.
    ForAnswer,
    /// Thinks as soon as the call is accepted, and looks at the answer later: what SOSP'21's load generator does. Its POSTs are
    /// not blocking, and its figures show it: 300 users made 27 calls a second, at a P99 of 110 s.
    ForAcceptance,
}

/// Draws which function a user calls, and what work that is.
type Draw = Box<dyn Fn(&mut Chance) -> (u32, Work) + Send>;

/// People who call, wait and think.
pub struct Users {
    /// When each of those who think will call.
    next: BinaryHeap<Reverse<(Moment, u32)>>,
    chances: Vec<Chance>,
    waits: Vec<bool>,
    wait: Wait,
    think: Span,
    until: Moment,
    draw: Draw,
}

impl Users {
    /// `count` people who think for `think` on average (exponential), first from `begins` on, and make no call from `until` on.
    pub(crate) fn new(
        seed: u64,
        count: u32,
        think: Span,
        wait: Wait,
        between: (Moment, Moment),
        draw: Draw,
    ) -> Self {
        let mut users = Self {
            next: BinaryHeap::new(),
            chances: (0..count).map(|user| Chance::one_of_many(seed, purpose::USER, user.into())).collect(),
            waits: vec![false; count as usize],
            wait,
            think,
            until: between.1,
            draw,
        };
        (0..count).for_each(|user| users.thinks(user, between.0));
        users
    }

    fn thinks(&mut self, user: u32, now: Moment) {
        let thinks = self.chances[user as usize].exponential(self.think.as_micros() as f64);
        self.next.push(Reverse((now + Span(thinks as u64), user)));
    }
}

impl Calls for Users {
    fn next_at(&self) -> Option<Moment> {
        self.next.peek().map(|&Reverse((at, _))| at).filter(|&at| at < self.until)
    }

    fn take(&mut self) -> Call {
        let Reverse((at, user)) = self.next.pop().expect("whoever takes a call was told when it is made");
        let (function, work) = (self.draw)(&mut self.chances[user as usize]);
        match self.wait {
            Wait::ForAnswer => self.waits[user as usize] = true,
            Wait::ForAcceptance => self.thinks(user, at),
        }
        Call { function, work, user }
    }

    fn answered(&mut self, user: u32, now: Moment) {
        if self.waits.get(user as usize) == Some(&true) {
            self.waits[user as usize] = false;
            self.thinks(user, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{Mebibytes, MilliCores};

    use super::*;

    fn users(count: u32, wait: Wait) -> Users {
        let draw = |chance: &mut Chance| {
            let work = Work {
                io: Span::ZERO,
                cpu: Span::seconds(1 + chance.below(5)),
                saturation: MilliCores(1000),
                memory: Mebibytes(1),
                input_bytes: 0,
            };
            (chance.below(10) as u32, work)
        };
        let between = (Moment::ORIGIN, Moment::ORIGIN + Span::seconds(1000));
        Users::new(7, count, Span::seconds(10), wait, between, Box::new(draw))
    }

    /// Every call is answered after `takes`.
    fn play(mut users: Users, takes: Span) -> Vec<(Moment, Call)> {
        let (mut calls, mut open) = (Vec::new(), BinaryHeap::new());
        loop {
            let (call, answer) = (users.next_at(), open.peek().map(|&Reverse((at, _))| at));
            match (call, answer) {
                (None, None) => return calls,
                (Some(at), answer) if answer.is_none_or(|answer| at < answer) => {
                    let call = users.take();
                    open.push(Reverse((at + takes, call.user)));
                    calls.push((at, call));
                }
                _ => {
                    let Some(Reverse((at, user))) = open.pop() else { return calls };
                    users.answered(user, at);
                }
            }
        }
    }

    #[test]
    fn whoever_waits_calls_again_only_after_the_answer() {
        let mut users = users(1, Wait::ForAnswer);
        let at = users.next_at().unwrap();
        let call = users.take();
        assert_eq!(users.next_at(), None);
        users.answered(call.user + 1, at);
        assert_eq!(users.next_at(), None, "somebody else's answer");
        users.answered(call.user, at + Span::seconds(5));
        let next = users.next_at().unwrap();
        assert!(next > at + Span::seconds(5));
        users.answered(call.user, at + Span::seconds(6));
        assert_eq!(users.next_at(), Some(next), "nobody waits for it any more");
    }

    #[test]
    fn a_slow_house_slows_those_who_wait_and_only_those() {
        for (wait, takes, rate) in [
            (Wait::ForAnswer, 0, 10.0),
            (Wait::ForAnswer, 10, 5.0),
            (Wait::ForAnswer, 40, 2.0),
            (Wait::ForAcceptance, 40, 10.0),
        ] {
            let per_second = play(users(100, wait), Span::seconds(takes)).len() as f64 / 1000.0;
            assert!((per_second / rate - 1.0).abs() < 0.06, "{per_second} a second, {wait:?} for {takes} s");
        }
    }

    #[test]
    fn the_calls_of_a_user_are_the_same_however_long_answers_take() {
        let of = |takes, user| -> Vec<Call> {
            let calls = play(users(20, Wait::ForAnswer), Span::seconds(takes));
            calls.into_iter().map(|(_, call)| call).filter(|call| call.user == user).take(10).collect()
        };
        for user in 0..20 {
            assert_eq!(of(1, user), of(30, user));
        }
        assert_ne!(of(1, 0), of(1, 1));
    }

    #[test]
    fn calls_come_in_order_and_end_in_time() {
        let calls = play(users(50, Wait::ForAnswer), Span::millis(700));
        assert!(calls.is_sorted_by_key(|&(at, _)| at));
        assert!(calls.last().unwrap().0 < Moment::ORIGIN + Span::seconds(1000));
    }
}
