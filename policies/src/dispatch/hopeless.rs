//! Waiting without a VM: who waits for one that is not there, of any kind or of the only kind that it may run on, and has not
//! begun, hears so in time and may try again.
//!
//! **Knows:** since when somebody has waited for a VM that is not there.
//! **Promises:** whoever comes first waits for the grace, so that whoever keeps the fleet sees that a VM is wanted and can start one.
//! After the grace nobody is left to wait for its patience to end without a VM in sight, and for as long again nobody is taken
//! then either; the next one waits again. What is durable waits, and what has run in part ends as its function allows.

use vocabulary::{InvocationId, Moment, Resources, Span, VmKind};

use super::{Dispatch, Output, Refusal};
use crate::reliability::Kinds;

/// Since when somebody has waited for a VM that is not there.
#[derive(Debug, Default)]
pub(super) struct Missing {
    any: Wanted,
    kinds: [Wanted; 2],
}

#[derive(Debug, Default)]
struct Wanted {
    since: Option<Moment>,
    /// Whether those who waited have heard that the grace is over.
    told: bool,
}

impl Wanted {
    fn hopeless_from(&self, grace: Span) -> Option<Moment> {
        self.since.map(|since| since + grace).filter(|_| !self.told)
    }
}

impl Missing {
    /// There is one.
    pub(super) fn came(&mut self, kind: VmKind) {
        self.any = Wanted::default();
        self.kinds[kind as usize] = Wanted::default();
    }

    fn of(&mut self, why: Refusal) -> Option<&mut Wanted> {
        match why {
            Refusal::NoVm => Some(&mut self.any),
            Refusal::NoVmOfKind { kind } => Some(&mut self.kinds[kind as usize]),
            _ => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = (Refusal, &Wanted)> {
        let of_kind = |kind| (Refusal::NoVmOfKind { kind }, &self.kinds[kind as usize]);
        [(Refusal::NoVm, &self.any), of_kind(VmKind::Harvest), of_kind(VmKind::Regular)].into_iter()
    }
}

impl Dispatch {
    /// Which VM is not there that such an invocation would need: one at all, or one of its only kind.
    pub(super) fn missing_for(&self, kinds: Kinds, needs: Resources) -> Option<Refusal> {
        if self.books.open() == 0 {
            return Some(Refusal::NoVm);
        }
        let there_are = || self.kinds_to_try(kinds, needs).any(|kind| self.books.open_of(kind) > 0);
        let kind = kinds.first();
        (!self.could_ever_run(kinds, needs) && !there_are()).then_some(Refusal::NoVmOfKind { kind })
    }

    /// Somebody wants a VM that is not there. Whether there is no hope that it comes.
    pub(super) fn is_hopeless(&mut self, why: Refusal) -> bool {
        let (now, grace) = (self.now, self.settings.no_vm_grace);
        let Some(wanted) = self.missing.of(why) else { return false };
        let since = *wanted.since.get_or_insert(now);
        if now.since(since) >= grace.scaled(2, 1) {
            *wanted = Wanted { since: Some(now), told: false };
            return false;
        }
        now.since(since) >= grace
    }

    /// Somebody waits: notes whether there is no VM at all.
    pub(super) fn note_missing(&mut self) {
        if self.books.open() == 0 {
            self.missing.any.since.get_or_insert(self.now);
        }
    }

    /// Refuses all who wait for a VM that is not there, have never been sent and are not durable, when the grace is over.
    pub(super) fn refuse_without_vms(&mut self, outputs: &mut Vec<Output>) {
        let grace = self.settings.no_vm_grace;
        let due = |wanted: &Wanted| wanted.hopeless_from(grace).is_some_and(|from| from <= self.now);
        let over: Vec<_> = self.missing.all().filter(|(_, wanted)| due(wanted)).map(|(why, _)| why).collect();
        if over.is_empty() || !self.is_settled() {
            return;
        }
        let refusable = |id: &InvocationId| {
            let open = self.open.get(id).filter(|open| !open.submission.durable && !open.was_sent())?;
            let card = &open.submission.function;
            self.missing_for(self.kinds(card), card.reservation).filter(|why| over.contains(why))
        };
        let hopeless: Vec<_> =
            self.queues.oldest().filter_map(|(_, id)| refusable(&id).map(|why| (id, why))).collect();
        for (id, why) in hopeless {
            self.queues.leave(id);
            self.open.remove(&id);
            outputs.push(Output::Refuse { invocation: id, why });
        }
        for why in over {
            if let Some(wanted) = self.missing.of(why) {
                wanted.told = true;
            }
        }
    }

    /// When those who wait now lose hope; `None` while what they want is there, nobody waits, or they have been told.
    pub(super) fn hopeless_from(&self) -> Option<Moment> {
        let settled = self.settled?;
        let from = self
            .missing
            .all()
            .filter_map(|(_, wanted)| wanted.hopeless_from(self.settings.no_vm_grace))
            .min()?;
        (!self.queues.is_empty()).then_some(settled.max(from))
    }
}
