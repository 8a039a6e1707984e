//! Those of `live::load`, without NATS.
//!
//! **Knows:** who calls which function, and how long his runs take: drawn from the streams from which live callers draw.
//! **Promises:** the n-th call of a caller is the n-th call of the live one. Who waits for his answer pauses after it; who submits
//! durably pauses after his submission, and for as long as the run takes.
//! **Gives up:** callers who are refused and come back sooner or later than after their pause.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use policies::chance::SplitMix64;
use simulator::plan::{Call, Calls, Work};
use vocabulary::{Mebibytes, MilliCores, Moment, Span};

use crate::scenario::Scenario;

struct Caller {
    function: u32,
    runs_ms: [u64; 2],
    is_durable: bool,
    chance: SplitMix64,
}

/// All of them.
pub(super) struct Callers {
    all: Vec<Caller>,
    next: BinaryHeap<Reverse<(Moment, u32)>>,
    pause: Span,
}

impl Callers {
    pub fn new(scenario: &Scenario, seed: u64, begin: Moment) -> Self {
        let (load, functions) = (&scenario.load, scenario.house.functions);
        let kinds = [
            (load.short, false, false),
            (load.long, true, false),
            (load.durable_short, false, true),
            (load.durable_long, true, true),
        ];
        let each = kinds
            .into_iter()
            .flat_map(|(count, is_long, is_durable)| (0..count).map(move |_| (is_long, is_durable)));
        let all: Vec<Caller> = (1..)
            .zip(each)
            .map(|(number, (is_long, is_durable)): (u32, _)| Caller {
                // The long ones stand behind the short ones.
                function: number % functions + if is_long { functions } else { 0 },
                runs_ms: if is_long { load.long_ms } else { load.short_ms },
                is_durable,
                chance: SplitMix64::of(seed, &format!("caller {number}")),
            })
            .collect();
        let next = (0..all.len() as u32).map(|caller| Reverse((begin, caller))).collect();
        Self { all, next, pause: Span::millis(load.pause_ms) }
    }
}

impl Calls for Callers {
    fn next_at(&self) -> Option<Moment> {
        self.next.peek().map(|&Reverse((at, _))| at)
    }

    fn take(&mut self) -> Call {
        let Reverse((at, user)) = self.next.pop().expect("whoever takes a call was told when it is made");
        let caller = &mut self.all[user as usize];
        let takes = Span::millis(caller.chance.between(caller.runs_ms[0], caller.runs_ms[1]));
        if caller.is_durable {
            self.next.push(Reverse((at + self.pause + takes, user)));
        }
        // It sleeps.
        let work = Work {
            io: takes,
            cpu: Span::ZERO,
            saturation: MilliCores(100),
            memory: Mebibytes(16),
            input_bytes: 40,
        };
        Call { function: caller.function, work, user }
    }

    fn is_durable(&self, user: u32) -> bool {
        self.all.get(user as usize).is_some_and(|caller| caller.is_durable)
    }

    fn answered(&mut self, user: u32, now: Moment) {
        if !self.is_durable(user) {
            self.next.push(Reverse((now + self.pause, user)));
        }
    }
}
