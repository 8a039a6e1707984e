//! Which kinds of VMs a function may run on, and whether there are any.
//!
//! **Knows:** the reliability strategy, how long applications' invocations take, how often VMs are evicted.
//! **Promises:** whoever waits for a VM that the fleet has not got is refused, or ends when the grace for it is over.
//! **Gives up:** hurrying: the rate of evictions is looked at every ten seconds.

use vocabulary::{
    FunctionCard, FunctionId, InvocationId, MilliCores, Moment, Resources, Span, VmId, VmKind, VmStanding,
};

use super::open::Function;
use super::{Dispatch, GivenUp, Output, Refusal, Submission};
use crate::reliability::{Case, Kinds, Tails, other};

/// Between two looks at the ages of all VMs.
const EVICTIONS_LOOK: Span = Span::seconds(10);

impl Dispatch {
    /// Where this function may run, by the strategy in force.
    pub(super) fn kinds(&self, function: &FunctionCard) -> Kinds {
        self.kinds_after(function, Span::ZERO)
    }

    /// Where an invocation of it may run of which an attempt has run for so long without an end.
    pub(super) fn kinds_after(&self, function: &FunctionCard, ran: Span) -> Kinds {
        let application = self.application(function);
        self.reliability.kinds(Case { function, application, ran, evictions: self.evictions })
    }

    /// Where this invocation may run now.
    pub(super) fn kinds_of(&self, id: InvocationId) -> Option<Kinds> {
        let open = self.open.get(&id)?;
        Some(self.kinds_after(&open.submission.function, open.ran))
    }

    /// How long the invocations of this function's application have taken.
    fn application(&self, function: &FunctionCard) -> &Tails {
        static UNKNOWN: Tails = Tails::NOTHING;
        self.applications.get(&function.application()).unwrap_or(&UNKNOWN)
    }

    /// How long its own have taken.
    pub(super) fn tails<'a>(&'a self, function: &'a Function) -> &'a Tails {
        match &function.card {
            Some(card) if card.application.is_none() => self.application(card),
            _ => &function.tails,
        }
    }

    /// The kinds to try now, in their order.
    pub(super) fn kinds_to_try(
        &self,
        kinds: Kinds,
        needs: Resources,
    ) -> impl Iterator<Item = VmKind> + use<> {
        let (first, second) = match kinds {
            Kinds::Only(kind) => (kind, None),
            Kinds::Needs(kind) if self.books.could_ever_hold(kind, needs) => (kind, None),
            Kinds::Needs(kind) => (other(kind), None),
            Kinds::Rather(kind) if self.books.open_of(other(kind)) == 0 => (kind, None),
            Kinds::Rather(kind) if self.books.open_of(kind) == 0 => (other(kind), None),
            Kinds::Rather(kind) => (kind, Some(other(kind))),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether some VM that it may run on is, or once was, large enough.
    pub(super) fn could_ever_hold(&self, kinds: Kinds, needs: Resources) -> bool {
        self.kinds_to_try(kinds, needs).any(|kind| self.books.could_ever_hold(kind, needs))
    }

    /// The same, where a VM need not have room: then only memory can never do, without which no container begins.
    pub(super) fn could_ever_run(&self, kinds: Kinds, needs: Resources) -> bool {
        let least = if self.binds_early() { Resources { cpu: MilliCores::ZERO, ..needs } } else { needs };
        self.could_ever_hold(kinds, least)
    }

    fn largest(&self, kinds: Kinds, needs: Resources) -> Resources {
        let sizes = self.kinds_to_try(kinds, needs).map(|kind| self.books.largest(kind));
        sizes.max_by_key(|size| (size.cpu, size.memory)).unwrap_or(Resources::ZERO)
    }

    /// Why it cannot be taken, if no VM could ever run it.
    pub(super) fn reason_to_refuse(&mut self, submission: &Submission, kinds: Kinds) -> Option<Refusal> {
        let needs = submission.function.reservation;
        if submission.durable || !self.is_settled() {
            return None;
        }
        if self.could_ever_run(kinds, needs) {
            // A VM that takes work is there.
            return None;
        }
        if let Some(missing) = self.missing_for(kinds, needs) {
            return self.is_hopeless(missing).then_some(missing);
        }
        Some(Refusal::TooLarge { needs, largest: self.largest(kinds, needs) })
    }

    /// Notes since when no VM could hold what waits of this function. While there is no VM at all, that is nobody's size.
    pub(super) fn note_whether_placeable(&mut self, id: FunctionId) {
        let Some(card) = self.functions.get(&id).and_then(|function| function.card) else { return };
        let kinds = self.kinds(&card);
        if let Some(missing) = self.missing_for(kinds, card.reservation) {
            self.is_hopeless(missing);
        }
        let hopeless = self.books.open() > 0 && !self.could_ever_hold(kinds, card.reservation);
        let grace = self.settings.unplaceable_grace;
        let now = self.now;
        let function = self.function_mut(id);
        match (function.unplaceable_since, hopeless) {
            (None, true) => {
                function.unplaceable_since = Some(now);
                self.unplaceable.insert((now + grace, id));
            }
            (Some(since), false) => {
                function.unplaceable_since = None;
                self.unplaceable.remove(&(since + grace, id));
            }
            _ => {}
        }
    }

    /// Ends what has waited for a larger VM for long enough.
    pub(super) fn give_up_unplaceable(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&(due, function)) = self.unplaceable.first()
            && due <= self.now
        {
            self.unplaceable.pop_first();
            let card = self.functions.get_mut(&function).and_then(|function| {
                function.unplaceable_since = None;
                function.card
            });
            let Some(card) = card else { continue };
            let (kinds, needs) = (self.kinds(&card), card.reservation);
            if self.books.open() == 0 || self.could_ever_run(kinds, needs) {
                continue;
            }
            let (largest, within) = (self.largest(kinds, needs), self.settings.unplaceable_grace);
            while let Some((id, _)) = self.queues.head(function) {
                self.queues.leave(id);
                let Some(open) = self.open.get(&id).filter(|open| open.running.is_none()) else { continue };
                let (attempt, waited) = (open.last_attempt(), self.now.since(open.submitted));
                self.open.remove(&id);
                let why = GivenUp::TooLarge { needs, largest, within };
                outputs.push(Output::GiveUp { invocation: id, attempt, why, waited });
            }
        }
    }

    /// How long a VM has lived.
    pub(super) fn vm_has_lived(&mut self, vm: VmId, age: Span) {
        let now = self.now;
        if let Some(slot) = self.books.slot(vm) {
            let vm = &mut self.vms[slot];
            vm.age = (now, age);
            // Nobody of us has watched it until now.
            vm.watched = age;
        }
    }

    /// Looks at the ages of all harvest VMs, now and then.
    pub(super) fn look_at_evictions(&mut self) {
        if self.evictions_checked > self.now {
            return;
        }
        self.evictions_checked = self.now + EVICTIONS_LOOK;
        let mut ages = Vec::new();
        for vm in self.vms.iter_mut().filter(|vm| vm.kind == VmKind::Harvest && vm.evicted_at.is_none()) {
            let age = vm.age_at(self.now);
            self.hazard.watched(vm.watched, age);
            vm.watched = age;
            ages.push(age);
        }
        let rates: u64 = ages.iter().map(|&age| self.hazard.at(age).0).sum();
        self.evictions = match ages.len() as u64 {
            0 => self.hazard.overall(),
            vms => crate::reliability::Rate(rates / vms),
        };
    }

    /// A harvest VM has been given notice or was lost; counted once. One that was told to drain and goes was not evicted.
    pub(super) fn note_eviction(&mut self, vm: VmId) {
        let now = self.now;
        let Some(slot) = self.books.slot(vm) else { return };
        let vm = &mut self.vms[slot];
        let was_told_to_go = vm.notice.is_none() && vm.standing == VmStanding::Draining;
        if vm.kind != VmKind::Harvest || vm.evicted_at.is_some() || was_told_to_go {
            return;
        }
        let age = vm.age_at(now);
        vm.evicted_at = Some(age);
        self.hazard.watched(vm.watched, age);
        self.hazard.evicted(age);
        vm.watched = age;
    }

    /// An eviction was called off.
    pub(super) fn forget_eviction(&mut self, vm: VmId) {
        let now = self.now;
        let Some(slot) = self.books.slot(vm) else { return };
        let vm = &mut self.vms[slot];
        if let Some(age) = vm.evicted_at.take() {
            self.hazard.not_evicted(age);
            vm.watched = vm.age_at(now);
        }
    }

    /// How often harvest VMs are evicted, at the ages they have now.
    pub fn evictions(&self) -> crate::reliability::Rate {
        self.evictions
    }

    /// When the next of those is given up who are too large.
    pub(super) fn next_unplaceable(&self) -> Option<Moment> {
        self.unplaceable.first().map(|&(due, _)| due)
    }
}
