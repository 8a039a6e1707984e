//! How the VM stands, and what it tells of itself: drained, resized, noticed, reported.

use messages::{Drain, Report, StandingNotice, subjects};
use policies::residency::Input;
use ractor::ActorRef;
use vocabulary::{Moment, Resources, Span, VmStanding, VmStatus};

use super::{InvokerMessage, Shell};
use crate::harvest_monitor::{Noticed, Operator, Sigterm};
use crate::store::taking;

/// A VM on which there is no room says so no more often than this.
const SAID_AGAIN: Span = Span::millis(100);

impl Shell {
    pub(super) async fn drain(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        // Whoever asks by hand may send nothing.
        let order = if message.payload.is_empty() {
            self.credits.give_back();
            Drain::default()
        } else {
            let Some(order) = self.read(message) else { return };
            order
        };
        self.leaving |= order.then_leave;
        self.stand(me, true).await;
        if let Some(reply) = &message.reply {
            self.given.bus.send(reply.to_string(), &self.describe()).await;
        }
    }

    pub(super) async fn stand(&mut self, me: &ActorRef<InvokerMessage>, draining: bool) {
        let standing = if draining { VmStanding::Draining } else { VmStanding::Open };
        tracing::info!(vm = %self.given.vm, ?standing, "standing");
        self.decide(me, Input::Standing(standing));
        self.report().await;
    }

    /// The VM will be evicted, or not after all. Whoever sends SIGTERM waits for the process to end, so it leaves as
    /// soon as nothing runs, and at the latest when the grace is over; an operator's deadline is kept to the second,
    /// as a cloud would; a cloud takes its VM away itself.
    pub(super) async fn noticed(&mut self, me: &ActorRef<InvokerMessage>, noticed: &Noticed) {
        self.notices += 1;
        self.notice = noticed.time_left.map(|left| (self.now() + left, noticed.source));
        if let Some(time_left) = noticed.time_left
            && [Sigterm::NAME, Operator::NAME].contains(&noticed.source)
        {
            self.leaving |= noticed.source == Sigterm::NAME;
            let number = self.notices;
            me.send_after(time_left.into(), move || InvokerMessage::GraceOver(number));
        }
        self.stand(me, noticed.time_left.is_some()).await;
    }

    /// The deadline of a notice has come. One that was called off, or followed by another, does not count.
    pub(super) fn grace_is_over(&self, number: u64) {
        if number == self.notices {
            self.given.leave.notify_one();
        }
    }

    pub(super) async fn resized(&mut self, me: &ActorRef<InvokerMessage>, capacity: Resources) {
        if capacity == self.capacity {
            return;
        }
        self.given.metrics.capacity(capacity);
        tracing::info!(vm = %self.given.vm, from = %self.capacity, to = %capacity, "capacity changed");
        self.capacity = capacity;
        self.decide(me, Input::Capacity(capacity));
        self.report().await;
    }

    pub(super) fn leave_when_done(&mut self) {
        let drained = self.runs.is_empty() && self.residency.standing() == VmStanding::Draining;
        self.given.drained.send_if_modified(|known| std::mem::replace(known, drained) != drained);
        if self.leaving && self.runs.is_empty() {
            self.leaving = false;
            self.given.leave.notify_one();
        }
    }

    /// Once a second: what is used, and a report.
    pub(super) async fn tick(&mut self) {
        let now = self.now();
        self.used = self.residents.used(now.since(self.reported));
        self.given.metrics.shares(self.residency.booked(), self.used);
        let gauges = self.residency.gauges();
        self.given.metrics.lending(&gauges);
        self.given.metrics.load(
            gauges.waiting as usize,
            gauges.running as usize,
            gauges.idle as usize,
            (gauges.running + gauges.making) as usize,
        );
        self.reported = now;
        self.report().await;
    }

    /// More has come than there is room for, from Controllers who do not know of one another: they do with a report.
    pub(super) async fn say_if_overbooked(&mut self) {
        if self.is_news() && self.now() >= self.told + SAID_AGAIN {
            self.report().await;
        }
    }

    fn is_news(&self) -> bool {
        self.crowded || self.residency.is_overbooked()
    }

    /// When to be called again, though nothing else happens before.
    pub(super) fn next_wakeup(&self) -> Option<Moment> {
        let news = self.is_news().then(|| self.told + SAID_AGAIN);
        [self.residency.next_wakeup(), news].into_iter().flatten().min()
    }

    pub(super) async fn report(&mut self) {
        self.sequence += 1;
        self.told = self.now();
        self.crowded = false;
        self.given.metrics.reported();
        self.given.bus.send(subjects::vm_report(self.given.vm), &self.describe()).await;
    }

    fn describe(&self) -> Report {
        Report {
            sequence: self.sequence,
            status: VmStatus {
                vm: self.given.vm,
                kind: self.given.kind,
                capacity: self.capacity,
                standing: self.residency.standing(),
                warm: self.residency.warm(),
                running: self.residency.running(),
            },
            used: self.used,
            pid: match self.given.settings.vm.outer_pid {
                0 => std::process::id(),
                pid => pid,
            },
            metrics: self.given.metrics_address.clone(),
            age: self.now().since(Moment::ORIGIN),
            enforcement: self.given.workshop.enforcement().to_string(),
            capacity_source: self.capacity_source.clone(),
            notice: self.notice.map(|(deadline, source)| StandingNotice {
                time_left: deadline.since(self.now()),
                source: source.to_owned(),
            }),
            hindrance: self.hindrance,
            store_stalled: taking::ours().longest_stall().map(Span::from),
        }
    }
}
