//! What runs of one VM leave of their reservations, and who has it meanwhile.
//!
//! **Knows:** each lender, what it has put in and until when it is expected to run; each loan.
//! **Promises:** what a lender has put in is idle or lent, never both nor more; the part that is expected to stay longest is lent first
//! (Libra, HPDC'23), and none that is overdue; a lender has all of it back at once when it asks; what a borrower had goes
//! back to its lenders and can be lent again for as long as it could before.
//! **Gives up:** knowing what can be taken from a running process. Whether memory comes back is its caller's worry.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{Mebibytes, MilliCores, Moment, Resources};

use crate::residency::SandboxId;

#[derive(Debug, Clone, Copy)]
struct Lender {
    idle: Resources,
    until: Moment,
}

/// The pool of one VM. Whoever runs is named by its sandbox.
#[derive(Debug, Clone, Default)]
pub struct HarvestPool {
    lenders: BTreeMap<SandboxId, Lender>,
    by_end: BTreeSet<(Moment, SandboxId)>,
    /// By lender, then borrower.
    loans: BTreeMap<(SandboxId, SandboxId), Resources>,
    /// By borrower, then lender.
    borrowed: BTreeSet<(SandboxId, SandboxId)>,
    idle: Resources,
    lent: Resources,
}

impl HarvestPool {
    /// A run leaves so much of its reservation, and is expected to last until then.
    pub fn put(&mut self, lender: SandboxId, amount: Resources, until: Moment) {
        if amount == Resources::ZERO || self.lenders.contains_key(&lender) {
            return;
        }
        self.lenders.insert(lender, Lender { idle: amount, until });
        self.by_end.insert((until, lender));
        self.idle += amount;
    }

    /// Lends as much of `wish` as there is; says how much.
    pub fn get(&mut self, now: Moment, borrower: SandboxId, wish: Resources) -> Resources {
        let mut got = Resources::ZERO;
        // Nothing of what is wished for may lie here, so that the walk is in vain; then it is not begun.
        if wish.min(self.idle) == Resources::ZERO {
            return got;
        }
        for &(until, id) in self.by_end.iter().rev() {
            if until <= now || got == wish {
                break;
            }
            let Some(lender) = self.lenders.get_mut(&id).filter(|_| id != borrower) else { continue };
            let part = lender.idle.min(wish - got);
            if part == Resources::ZERO {
                continue;
            }
            lender.idle -= part;
            got += part;
            *self.loans.entry((id, borrower)).or_default() += part;
            self.borrowed.insert((borrower, id));
        }
        self.idle -= got;
        self.lent += got;
        got
    }

    /// A lender wants its CPU or memory back, or both; says who loses what by it. With both it is no lender any more.
    pub fn take_back(&mut self, lender: SandboxId, cpu: bool, memory: bool) -> Vec<(SandboxId, Resources)> {
        let part = |amount: Resources| Resources {
            cpu: if cpu { amount.cpu } else { MilliCores::ZERO },
            memory: if memory { amount.memory } else { Mebibytes::ZERO },
        };
        let Some(entry) = self.lenders.get_mut(&lender) else { return Vec::new() };
        let idle = part(entry.idle);
        entry.idle -= idle;
        self.idle -= idle;
        let (all, until) = (cpu && memory, entry.until);
        let mut losses = Vec::new();
        for (&(_, borrower), loan) in self.loans.range_mut(of(lender)) {
            let lost = part(*loan);
            *loan -= lost;
            self.lent -= lost;
            if lost != Resources::ZERO {
                losses.push((borrower, lost));
            }
        }
        for &(borrower, _) in &losses {
            self.forget_if_repaid(lender, borrower);
        }
        if all {
            self.lenders.remove(&lender);
            self.by_end.remove(&(until, lender));
        }
        losses
    }

    /// A borrower has ended, or needs no more: what it had can be lent again. Says how much that was.
    pub fn give_back(&mut self, borrower: SandboxId) -> Resources {
        let lenders: Vec<SandboxId> = self.borrowed.range(of(borrower)).map(|&(_, lender)| lender).collect();
        let mut given = Resources::ZERO;
        for lender in lenders {
            let Some(loan) = self.loans.remove(&(lender, borrower)) else { continue };
            self.borrowed.remove(&(borrower, lender));
            given += loan;
            if let Some(lender) = self.lenders.get_mut(&lender) {
                lender.idle += loan;
                self.idle += loan;
            }
        }
        self.lent -= given;
        given
    }

    /// So much CPU is not there any more: borrowers lose it, those first whose lenders would have ended first. Says who loses
    /// what. It lies idle afterwards, for when there is room again.
    pub fn recall_cpu(&mut self, mut amount: MilliCores) -> Vec<(SandboxId, Resources)> {
        let mut losses = Vec::new();
        for &(_, lender) in &self.by_end {
            for (&(_, borrower), loan) in self.loans.range_mut(of(lender)) {
                let lost = Resources { cpu: loan.cpu.min(amount), memory: Mebibytes::ZERO };
                if lost == Resources::ZERO {
                    continue;
                }
                *loan -= lost;
                amount -= lost.cpu;
                self.lent -= lost;
                self.idle += lost;
                self.lenders.entry(lender).and_modify(|lender| lender.idle += lost);
                losses.push((lender, borrower, lost));
            }
            if amount == MilliCores::ZERO {
                break;
            }
        }
        losses
            .into_iter()
            .map(|(lender, borrower, lost)| {
                self.forget_if_repaid(lender, borrower);
                (borrower, lost)
            })
            .collect()
    }

    fn forget_if_repaid(&mut self, lender: SandboxId, borrower: SandboxId) {
        if self.loans.get(&(lender, borrower)) == Some(&Resources::ZERO) {
            self.loans.remove(&(lender, borrower));
            self.borrowed.remove(&(borrower, lender));
        }
    }

    /// What lies here and is not lent, overdue parts included.
    pub fn idle(&self) -> Resources {
        self.idle
    }

    /// What is lent.
    pub fn lent(&self) -> Resources {
        self.lent
    }

    /// What a run has borrowed.
    pub fn borrowed_by(&self, borrower: SandboxId) -> Resources {
        self.borrowed
            .range(of(borrower))
            .filter_map(|&(_, lender)| self.loans.get(&(lender, borrower)))
            .copied()
            .sum()
    }

    /// What a run has put in, and how much of it is lent.
    pub fn lent_by(&self, lender: SandboxId) -> (Resources, Resources) {
        let lent: Resources = self.loans.range(of(lender)).map(|(_, &loan)| loan).sum();
        let idle = self.lenders.get(&lender).map_or(Resources::ZERO, |lender| lender.idle);
        (idle + lent, lent)
    }

    /// Runs that lend, and runs that have borrowed.
    pub fn counts(&self) -> (u32, u32) {
        let mut last = None;
        let borrowers =
            self.borrowed.iter().filter(|(borrower, _)| last.replace(*borrower) != Some(*borrower));
        (self.lenders.len() as u32, borrowers.count() as u32)
    }

    /// What lies idle, each part with its expected end; for schedulers that choose VMs by it.
    pub fn parts(&self) -> impl Iterator<Item = (Resources, Moment)> {
        self.lenders.values().map(|lender| (lender.idle, lender.until))
    }
}

/// All keys that begin with this one.
fn of(id: SandboxId) -> std::ops::RangeInclusive<(SandboxId, SandboxId)> {
    (id, SandboxId(0))..=(id, SandboxId(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use vocabulary::Span;

    const A: SandboxId = SandboxId(1);
    const B: SandboxId = SandboxId(2);
    const C: SandboxId = SandboxId(3);
    const D: SandboxId = SandboxId(4);

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Span::millis(ms)
    }

    fn cpu(millicores: u32) -> Resources {
        Resources::new(millicores, 0)
    }

    #[test]
    fn what_stays_longest_is_lent_first_and_nothing_that_is_overdue() {
        let mut pool = HarvestPool::default();
        pool.put(A, cpu(500), at(100));
        pool.put(B, cpu(500), at(300));
        assert_eq!(pool.get(at(0), C, cpu(700)), cpu(700));
        assert_eq!((pool.lent_by(B).1, pool.lent_by(A).1), (cpu(500), cpu(200)));
        assert_eq!(pool.get(at(100), D, cpu(700)), cpu(0), "A should have ended by now");
        assert_eq!(pool.idle(), cpu(300));
    }

    #[test]
    fn a_lender_that_ends_takes_back_what_it_lent_and_no_more() {
        let mut pool = HarvestPool::default();
        pool.put(A, cpu(500), at(100));
        pool.put(B, cpu(500), at(300));
        pool.get(at(0), C, cpu(700));
        assert_eq!(pool.take_back(A, true, true), [(C, cpu(200))]);
        assert_eq!(pool.borrowed_by(C), cpu(500));
        assert_eq!(pool.take_back(B, true, true), [(C, cpu(500))]);
        assert_eq!((pool.idle(), pool.lent(), pool.counts()), (cpu(0), cpu(0), (0, 0)));
    }

    #[test]
    fn what_a_borrower_had_is_lent_again_until_its_first_end() {
        let mut pool = HarvestPool::default();
        pool.put(A, cpu(500), at(100));
        pool.get(at(0), B, cpu(500));
        assert_eq!(pool.give_back(B), cpu(500));
        assert_eq!(pool.get(at(99), C, cpu(400)), cpu(400));
        pool.give_back(C);
        assert_eq!(pool.get(at(100), C, cpu(400)), cpu(0));
    }

    #[test]
    fn a_lender_may_take_its_cpu_back_and_leave_its_memory() {
        let mut pool = HarvestPool::default();
        pool.put(A, Resources::new(500, 64), at(100));
        pool.get(at(0), B, Resources::new(500, 64));
        assert_eq!(pool.take_back(A, true, false), [(B, cpu(500))]);
        assert_eq!(pool.borrowed_by(B), Resources::new(0, 64));
    }

    #[test]
    fn a_shrink_recalls_first_what_would_have_ended_first() {
        let mut pool = HarvestPool::default();
        pool.put(A, cpu(500), at(100));
        pool.put(B, cpu(500), at(300));
        pool.get(at(0), C, cpu(500));
        pool.get(at(0), D, cpu(500));
        assert_eq!(pool.recall_cpu(MilliCores(600)), [(D, cpu(500)), (C, cpu(100))]);
        assert_eq!(pool.idle(), cpu(600), "for when there is room again");
    }

    /// Everything that is lent, as a list of who has what of whom; slow and plain.
    #[derive(Default)]
    struct Naive {
        put: BTreeMap<u64, (Resources, u64)>,
        loans: BTreeMap<(u64, u64), Resources>,
    }

    impl Naive {
        fn idle(&self, lender: u64) -> Resources {
            let lent: Resources =
                self.loans.iter().filter(|((l, _), _)| *l == lender).map(|(_, &loan)| loan).sum();
            self.put[&lender].0 - lent
        }
    }

    proptest! {
        #[test]
        fn nobody_lends_what_it_does_not_have_nor_lends_it_twice(
            steps in prop::collection::vec((0_u8..5, 1_u64..8, 0_u32..1_000, 0_u32..200, 1_u64..500), 1..120)
        ) {
            let (mut pool, mut naive) = (HarvestPool::default(), Naive::default());
            for (now, (what, id, millicores, memory, ms)) in steps.into_iter().enumerate() {
                let now = now as u64 * 5;
                let (sandbox, amount) = (SandboxId(id), Resources::new(millicores, memory));
                match what {
                    0 => {
                        pool.put(sandbox, amount, at(now + ms));
                        if amount != Resources::ZERO {
                            naive.put.entry(id).or_insert((amount, now + ms));
                        }
                    }
                    1 => {
                        let got = pool.get(at(now), sandbox, amount);
                        let mut order: Vec<_> = naive.put.iter().map(|(&l, &(_, until))| (until, l)).collect();
                        order.sort_unstable();
                        let mut left = amount;
                        for (until, lender) in order.into_iter().rev().filter(|&(_, l)| l != id) {
                            if until > now {
                                let part = naive.idle(lender).min(left);
                                left -= part;
                                *naive.loans.entry((lender, id)).or_default() += part;
                            }
                        }
                        prop_assert_eq!(got, amount - left);
                    }
                    2 => {
                        let cut: BTreeMap<_, _> = pool.take_back(sandbox, true, true).into_iter().collect();
                        for (&(lender, borrower), loan) in &naive.loans {
                            if lender == id && *loan != Resources::ZERO {
                                prop_assert_eq!(cut.get(&SandboxId(borrower)), Some(loan));
                            }
                        }
                        naive.put.remove(&id);
                        naive.loans.retain(|&(lender, _), _| lender != id);
                    }
                    3 => {
                        let had: Resources = naive.loans.iter().filter(|((_, b), _)| *b == id).map(|(_, &l)| l).sum();
                        prop_assert_eq!(pool.give_back(sandbox), had);
                        naive.loans.retain(|&(_, borrower), _| borrower != id);
                    }
                    _ => {
                        for (borrower, lost) in pool.recall_cpu(MilliCores(millicores)) {
                            let mut lost = lost.cpu;
                            let mut of_his: Vec<_> = naive.loans.iter_mut().filter(|((_, b), _)| *b == borrower.0)
                                .map(|((l, _), loan)| (naive.put[l].1, *l, loan)).collect();
                            of_his.sort_by_key(|&(until, l, _)| (until, l));
                            for (_, _, loan) in of_his {
                                let part = loan.cpu.min(lost);
                                loan.cpu -= part;
                                lost -= part;
                            }
                        }
                    }
                }
                let lent: Resources = naive.loans.values().copied().sum();
                let put: Resources = naive.put.values().map(|&(amount, _)| amount).sum();
                prop_assert_eq!(pool.lent(), lent);
                prop_assert_eq!(pool.idle(), put - lent);
                for id in 1..8 {
                    let has: Resources = naive.loans.iter().filter(|((_, b), _)| *b == id).map(|(_, &l)| l).sum();
                    prop_assert_eq!(pool.borrowed_by(SandboxId(id)), has);
                }
            }
        }
    }
}
