//! Which sandboxes live on this VM, and which of them runs what: the Invoker's mind.
//!
//! **Knows:** the VM's size, its sandboxes, what they run, and what waits for room.
//! **Promises:** bookings of runs plus the ceilings of idle sandboxes never exceed the VM's memory, nor bookings its CPU, except
//! for what was already running when the VM shrank, and for what a run had lent and was given back (see `lending`). Each attempt is begun at most once; an attempt older than one seen
//! is never begun. What is taken is executed, handed back, or superseded.
//! **Gives up:** fairness between functions: what waits here goes first in, first out. The Controller sends only what
//! should fit, so a queue here is short and means that the VM has shrunk, or that two Controllers had the same idea.
//!
//! With an [`Admission`] other than `Booked` it behaves as the released invokers of the SOSP'21 authors do, and promises only what
//! they did; see `admission`.
//!
//! The files beside: `runs` (what is asked for), `admission` (whether there is room), `lending` (who may use what of another's
//! reservation), `sandboxes` (what serves it), `idle` (which of them do nothing), `seen` (what was asked for before), `told` (who hears how it ends),
//! `waiting` (what waits for room).

mod admission;
mod idle;
mod lending;
mod runs;
mod sandboxes;
mod seen;
mod told;
mod waiting;

use serde::{Deserialize, Serialize};
use vocabulary::{
    Attempt, ControllerId, FunctionCard, Grant, InvocationId, MilliCores, Moment, Resources, RunningOnVm,
    Span, VmStanding, VmStatus, WarmOnVm,
};

use crate::harvest_pool::HarvestPool;
use crate::keep_alive::KeepAlive;
use crate::keep_alive::fixed::Fixed;
use crate::row::Row;
use crate::safeguard::{self, Sample};

use admission::Recent;
use lending::Book;
use runs::Run;
use sandboxes::Sandboxes;
use seen::Seen;
use waiting::Waiting;

pub use admission::Admission;
pub use told::{End, Say, Told};

/// A sandbox on this VM, numbered from 1 as they are made; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxId(pub u64);

/// Everything that can happen, seen from the Invoker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Input {
    /// A Controller wants this run here.
    Run {
        from: ControllerId,
        invocation: InvocationId,
        attempt: Attempt,
        function: FunctionCard,
        grant: Grant,
    },
    /// A Controller answers for this attempt now, which another has sent.
    Adopted { by: ControllerId, invocation: InvocationId, attempt: Attempt },
    /// Nobody waits for attempts of this invocation up to this one.
    Cancel { invocation: InvocationId, attempt: Attempt },
    /// A sandbox that was being made is ready.
    SandboxReady(SandboxId),
    /// A sandbox that was being made came to nothing; the shell has answered the invocation that waited for it,
    /// if any.
    SandboxFailed(SandboxId),
    /// A sandbox has ended its run; `kept` says whether it can serve another.
    RunEnded { sandbox: SandboxId, kept: bool },
    /// An idle sandbox was found dead.
    SandboxDied(SandboxId),
    /// What a run that lends ([`Residency::watched`]) uses: every 20 ms, or when the kernel says so.
    Sampled { sandbox: SandboxId, sample: Sample },
    /// The VM's size is now this.
    Capacity(Resources),
    /// Take nothing new and hand back what waits; or, with `Open`, take work again.
    Standing(VmStanding),
    /// What all sandboxes together use, measured once a second. Only [`Admission::Measured`] looks at it.
    Uses(Resources),
    /// Have so many sandboxes of this function.
    Prewarm { function: FunctionCard, count: u32 },
    /// The moment asked for by [`Residency::next_wakeup`] has come.
    Woke,
}

/// Everything the Invoker's mind can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Output {
    /// Make a sandbox, with this ceiling and, if one is named, this weight; `SandboxReady` or `SandboxFailed` must follow.
    Start { sandbox: SandboxId, function: FunctionCard, ceiling: Resources, weight: Option<MilliCores> },
    /// Run it there, after setting the sandbox's ceiling and weight to the grant's; `RunEnded` must follow. `cold`: the
    /// sandbox was made for it.
    Execute { sandbox: SandboxId, invocation: InvocationId, attempt: Attempt, grant: Grant, cold: bool },
    /// End an idle sandbox.
    Stop { sandbox: SandboxId, why: StopWhy },
    /// Kill what runs there; `RunEnded` must follow.
    Kill { sandbox: SandboxId, invocation: InvocationId, attempt: Attempt },
    /// To the Controller that sent it: not begun, run it elsewhere.
    HandBack { invocation: InvocationId, attempt: Attempt, why: HandBackWhy },
    /// Change what a running sandbox may use, and its part of the CPU when there is not enough for all.
    Resize { sandbox: SandboxId, ceiling: Resources, weight: MilliCores },
    /// A repeated or outdated `Run` was dropped; to the counters.
    Duplicate { invocation: InvocationId, attempt: Attempt },
    /// To [`Told`], which says what this Controller is to be told of an attempt that was not begun for it.
    Asked { by: ControllerId, invocation: InvocationId, attempt: Attempt, known: Known },
}

/// What is known of an invocation of which somebody asks for an attempt that does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// This attempt runs or waits here: the one that was asked for, or a newer one.
    Here(Attempt),
    /// None does, or it was told to end. This is the newest that was asked for or called off here.
    Past(Attempt),
}

/// Why an idle sandbox is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopWhy {
    /// Idle for longer than the keep-alive.
    Expired,
    /// Its memory is needed.
    MemoryNeeded,
    /// A newer build of its function has come.
    Outdated,
    /// The VM drains.
    Draining,
}

/// Why work goes back unbegun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HandBackWhy {
    /// The VM takes nothing new.
    Draining,
    /// It does not fit any more.
    NoRoom,
    /// Too much waits here already.
    QueueFull,
    /// Nobody waits for it any more.
    Cancelled,
    /// A newer attempt of it has come.
    Superseded,
}

/// What becomes of the part of a reservation that a grant leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lending {
    /// Others may be placed there. Grants are done as they come, and nothing is given back: Freyr's baselines as published.
    #[default]
    Off,
    /// A ceiling is what is booked and what was borrowed from the pool; whoever lends is held to what is left.
    Hard,
    /// Whoever lends CPU may still use all of its reservation, and goes before others by weight; whoever wants more than its
    /// reservation may use whatever is idle. Only bookings shrink.
    Elastic,
}

impl Lending {
    /// All of them by name.
    pub const NAMES: [&str; 3] = ["off", "hard", "elastic"];

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Hard, Self::Elastic]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(l, _)| l)
    }
}

/// The Invoker's limits and constants. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What decides whether a run may begin.
    pub admission: Admission,
    /// An idle sandbox lives this long, if nothing else decides about it. Ten minutes by default, as OpenWhisk's.
    pub keep_alive: Span,
    /// Runs that may wait here for room; with [`Admission::Booked`] one, beyond what is about to be free...
    pub queue_limit: u32,
    /// ...and for how long. One Controller sends nothing that has no room, give or take what is on its way. What waits longer
    /// has been sent into the room of another's, of which that one could not know, and is handed back: there may be room
    /// elsewhere.
    pub wait_limit: Span,
    /// Sandboxes that may exist at once.
    pub sandboxes_limit: u32,
    /// How long the highest attempt of an invocation is remembered after its last message...
    pub seen_for: Span,
    /// ...and of how many invocations at most.
    pub seen_limit: u32,
    /// What becomes of the part of a reservation that a grant leaves.
    pub lending: Lending,
    /// When it is given back.
    pub safeguard: safeguard::Settings,
    /// `elastic`: the weight of a lender in hundredths of its reservation. Four times as much as others per core keeps all of a
    /// reservation for one who wants it back on a VM where four times its size has been promised.
    pub lender_weight: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            admission: Admission::Booked,
            keep_alive: Span::seconds(600),
            queue_limit: 256,
            wait_limit: Span::millis(250),
            sandboxes_limit: 1_024,
            seen_for: Span::seconds(300),
            seen_limit: 262_144,
            lending: Lending::Off,
            safeguard: safeguard::Settings::default(),
            lender_weight: 400,
        }
    }
}

/// What can be counted at a glance, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gauges {
    /// Runs that wait for room.
    pub waiting: u32,
    /// Sandboxes that run something.
    pub running: u32,
    /// Sandboxes that are being made.
    pub making: u32,
    /// Sandboxes that are idle.
    pub idle: u32,
    /// What is booked by runs, begun or about to begin.
    pub booked: Resources,
    /// What the VM has.
    pub capacity: Resources,
    /// What running invocations have left of their reservations, lent or not.
    pub harvested: Resources,
    /// What of it is lent through the pool.
    pub lent: Resources,
    /// What of it lies in the pool.
    pub pool: Resources,
    /// Runs that lend, and runs that have borrowed.
    pub lenders: u32,
    /// See above.
    pub borrowers: u32,
    /// Runs to which their reservation was given back while they ran, since the VM was started.
    pub safeguarded: u64,
    /// Runs of which nothing was known, whose booking fell to what they were seen to use...
    pub fell: u64,
    /// ...and those of them that used more later and had it back.
    pub rose: u64,
}

/// The Invoker's mind.
#[derive(Debug)]
pub struct Residency {
    settings: Settings,
    now: Moment,
    capacity: Resources,
    standing: VmStanding,
    sandboxes: Sandboxes,
    keep_alive: Box<dyn KeepAlive>,
    recent: Recent,
    /// What runs, or waits for a sandbox that is being made, by invocation.
    runs: Row<InvocationId, (SandboxId, Run)>,
    /// What waits for room.
    queue: Waiting,
    seen: Seen,
    book: Book,
}

impl Residency {
    /// An empty VM of this size that takes work, and keeps each idle sandbox for the same time.
    pub fn new(settings: Settings, capacity: Resources) -> Self {
        let keep_alive = Box::new(Fixed::new(settings.keep_alive));
        Self::with_keep_alive(settings, capacity, keep_alive)
    }

    /// The same with another rule for idle sandboxes; [`Settings::keep_alive`] means nothing then.
    pub fn with_keep_alive(settings: Settings, capacity: Resources, keep_alive: Box<dyn KeepAlive>) -> Self {
        Self {
            seen: Seen::new(settings.seen_for, settings.seen_limit),
            settings,
            now: Moment::ORIGIN,
            capacity,
            standing: VmStanding::Open,
            sandboxes: Sandboxes::default(),
            keep_alive,
            recent: Recent::default(),
            runs: Row::default(),
            queue: Waiting::default(),
            book: Book::default(),
        }
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        self.now = self.now.max(now);
        match input {
            Input::Run { from, invocation, attempt, function, grant } => {
                let arrived = self.now;
                let run = Run { invocation, attempt, function, grant, arrived, killed: false };
                self.asked_to_run(from, run, outputs);
            }
            Input::Adopted { by, invocation, attempt } => {
                outputs.push(Output::Asked {
                    by,
                    invocation,
                    attempt,
                    known: self.known(invocation, attempt),
                });
            }
            Input::Sampled { sandbox, sample } => self.sampled(sandbox, &sample, outputs),
            Input::Cancel { invocation, attempt } => self.cancelled(invocation, attempt, outputs),
            Input::SandboxReady(sandbox) => self.sandbox_ready(sandbox, outputs),
            Input::SandboxFailed(sandbox) => self.sandbox_failed(sandbox),
            Input::RunEnded { sandbox, kept } => self.run_ended(sandbox, kept, outputs),
            Input::SandboxDied(sandbox) => self.sandbox_died(sandbox),
            Input::Capacity(capacity) => self.resized(capacity, outputs),
            Input::Standing(standing) => self.told_to_stand(standing, outputs),
            Input::Uses(used) => self.recent.measured(used),
            Input::Prewarm { function, count } => self.prewarm(function, count, outputs),
            Input::Woke => {}
        }
        self.seen.forget_old(self.now);
        self.begin_what_fits(outputs);
        self.hand_back_what_waits(outputs);
        self.keep_alive_and_prewarm(outputs);
        self.settle(outputs);
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        let end = self.sandboxes.next_end().map_or(Moment::NEVER, |(until, _)| until);
        let prewarm = self.keep_alive.next_prewarm().unwrap_or(Moment::NEVER);
        let hand_back = self.next_hand_back().unwrap_or(Moment::NEVER);
        let next = end.min(prewarm).min(hand_back);
        (next < Moment::NEVER).then_some(next)
    }

    /// Fills in all of the VM's report that is known here; what stood in it before goes, its room stays.
    pub fn describe(&self, status: &mut VmStatus) {
        status.standing = self.standing;
        status.warm.clear();
        self.sandboxes.list_warm(&mut status.warm);
        status.running.clear();
        self.list_running(&mut status.running);
    }

    /// What is idle here, for the VM's report.
    pub fn warm(&self) -> Vec<WarmOnVm> {
        let mut warm = Vec::new();
        self.sandboxes.list_warm(&mut warm);
        warm
    }

    /// What runs or waits here, for the VM's report.
    pub fn running(&self) -> Vec<RunningOnVm> {
        let mut running = Vec::new();
        self.list_running(&mut running);
        running
    }

    /// What has a sandbox, by invocation; then what waits, in its order.
    fn list_running(&self, list: &mut Vec<RunningOnVm>) {
        let on_vm = |run: &Run| RunningOnVm {
            invocation: run.invocation,
            attempt: run.attempt,
            function: run.function,
            grant: run.grant,
        };
        list.extend(self.runs.values().map(|(_, run)| on_vm(run)));
        list.extend(self.queue.iter().map(on_vm));
    }

    /// Whether it takes work.
    pub fn standing(&self) -> VmStanding {
        self.standing
    }

    /// Whether something waits for room: then more was sent here than there is room for.
    pub fn is_overbooked(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What is booked by runs, begun or about to begin; what waits for room is not counted.
    pub fn booked(&self) -> Resources {
        self.sandboxes.booked()
    }

    /// The most that was used in the last five measurements: what a released invoker reports.
    pub fn used_recently(&self) -> Resources {
        self.recent.most()
    }

    /// Which attempt this sandbox is being made for or runs; ask before [`Input::SandboxFailed`] is handed in, because
    /// runs move between sandboxes while these are being made.
    pub fn attempt_on(&self, sandbox: SandboxId) -> Option<(InvocationId, Attempt)> {
        self.sandboxes.serves(sandbox)
    }

    /// Sandboxes whose runs lend, or may once it is seen what they use: that must be told with [`Input::Sampled`].
    pub fn watched(&self) -> impl Iterator<Item = SandboxId> {
        self.book.watched.iter().copied()
    }

    /// What is lent by whom on this VM.
    pub fn pool(&self) -> &HarvestPool {
        &self.book.pool
    }

    /// What is promised to the run of a sandbox now: its grant, or all of its reservation where that was given back.
    pub fn grant_on(&self, sandbox: SandboxId) -> Option<Grant> {
        let (invocation, _) = self.sandboxes.serves(sandbox)?;
        self.runs.get(&invocation).filter(|(on, _)| *on == sandbox).map(|(_, run)| run.grant)
    }

    /// Whether this one is among the [watched](Residency::watched).
    pub fn is_watched(&self, sandbox: SandboxId) -> bool {
        self.book.watched.contains(&sandbox)
    }

    /// Whether what the run of this sandbox had lent was given back to it while it ran; ask before [`Input::RunEnded`]. Where nobody knew
    /// what it uses, and its booking fell too low, nothing was learned wrongly: that does not count.
    pub fn was_safeguarded(&self, sandbox: SandboxId) -> bool {
        let was = |entry: &lending::Entry| entry.restored.memory || (entry.restored.cpu && !entry.fell);
        self.book.entries.get(&sandbox).is_some_and(was)
    }

    /// What can be counted at a glance.
    pub fn gauges(&self) -> Gauges {
        let [making, idle, running] = self.sandboxes.counts();
        Gauges {
            waiting: self.queue.len() as u32,
            running,
            making,
            idle,
            booked: self.booked(),
            capacity: self.capacity,
            harvested: self.book.pool.idle() + self.book.pool.lent(),
            lent: self.book.pool.lent(),
            pool: self.book.pool.idle(),
            lenders: self.book.pool.counts().0,
            borrowers: self.book.pool.counts().1,
            safeguarded: self.book.safeguarded,
            fell: self.book.fell,
            rose: self.book.rose,
        }
    }
}

#[cfg(test)]
mod tests;
