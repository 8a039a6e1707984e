//! A sandbox that is a process: runs, pauses and stops it.
//!
//! **Knows:** how an exchange can end, and what the kernel says of why.
//! **Promises:** a warm run is one write, one wake-up and a handful of readings; no task, no thread, one
//! timer.
//! **Gives up:** restarting. A sandbox that is not reusable is stopped by its owner.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use vocabulary::{Span, Usage};

use crate::hold::{Hold, MemoryDeath};
use crate::logs::LogBook;
use crate::measure::Meter;
use crate::register::Register;
use crate::talk::{Bounds, Ended, Talk, ended};
use crate::wire;
use crate::{Limits, LogLine, RunOrder, RunReport, Running, Sandbox, Verdict};

/// How long the kernel may take to end a killed process, all of its memory freed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// One function process.
pub(crate) struct ProcessSandbox {
    pub(crate) hold: Arc<Hold>,
    /// Shared with the one who looks after idle sandboxes.
    pub(crate) talk: Arc<Mutex<Talk>>,
    pub(crate) register: Arc<Register>,
    pub(crate) init_took: Span,
    pub(crate) init_logs: Vec<LogLine>,
    /// The line of the current run; kept for its memory.
    pub(crate) line: Vec<u8>,
    pub(crate) has_answered: bool,
    pub(crate) last_end: Instant,
}

impl ProcessSandbox {
    async fn run_once(&mut self, order: RunOrder) -> RunReport {
        let _ = self.resume();
        let mut talk = self.talk.lock().await;
        let is_alive = poll_fn(|cx| Poll::Ready(talk.look_after(cx))).await;
        let late_lines = std::mem::take(&mut talk.late_lines);
        if !is_alive {
            let verdict = self.why_gone(true);
            return RunReport {
                verdict,
                logs: Vec::new(),
                late_lines,
                usage: Usage::default(),
                duration: Span::ZERO,
                reusable: false,
            };
        }
        self.line.clear();
        wire::write_order(&mut self.line, &order.payload, &order.context);
        drop(order.payload);
        let bounds = Bounds { timeout: order.timeout.into(), answer_limit: order.result_limit };
        let mut book = LogBook::new(order.log_limit);
        let mut meter = Meter::start(self.hold.clone(), self.last_end.elapsed());
        let ended = talk.exchange(&self.line, &bounds, &mut book, &mut meter).await;
        let (usage, duration) = meter.finish();
        let mut reusable = talk.in_step;
        let verdict = match ended {
            Ended::Line(line) => wire::read_answer(line),
            Ended::TooLong { truncated, length } => Verdict::TooLarge { truncated, length },
            Ended::TimedOut => {
                self.hold.kill_all();
                if self.hold.killed.load(Ordering::SeqCst) { Verdict::Killed } else { Verdict::TimedOut }
            }
            Ended::Gone { unseen } => {
                self.hold.kill_all();
                self.why_gone(unseen)
            }
        };
        // As OpenWhisk: whoever answered with something else than an answer is not asked again.
        reusable &= matches!(verdict, Verdict::Answered(_) | Verdict::TooLarge { .. });
        talk.in_step = reusable;
        drop(talk);
        self.has_answered |= reusable;
        self.last_end = Instant::now();
        self.line.shrink_to(65_536);
        RunReport { verdict, logs: book.finish(), late_lines, usage, duration, reusable }
    }

    /// Why the process is not there any more. `unseen` if it did not read a byte of the order.
    fn why_gone(&self, unseen: bool) -> Verdict {
        if self.hold.killed.load(Ordering::SeqCst) {
            return Verdict::Killed;
        }
        if unseen && self.has_answered {
            // Whatever it died of, it was not this run.
            return Verdict::NeverRan;
        }
        match self.hold.memory_death() {
            MemoryDeath::OwnCeiling => Verdict::OutOfMemory,
            MemoryDeath::VmFull => Verdict::VmFull,
            MemoryDeath::None => Verdict::Exited,
        }
    }
}

impl Sandbox for ProcessSandbox {
    fn name(&self) -> &str {
        &self.hold.name
    }

    fn init_took(&self) -> Span {
        self.init_took
    }

    fn take_init_logs(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.init_logs)
    }

    fn limits(&self) -> Arc<dyn Limits> {
        self.hold.clone()
    }

    fn is_alive(&mut self) -> bool {
        if self.hold.has_ended() {
            return false;
        }
        // Somebody else looks after it right now: then it is idle, and he will find out.
        let Ok(mut talk) = self.talk.try_lock() else { return true };
        talk.look_after(&mut Context::from_waker(Waker::noop()))
    }

    fn run(&mut self, order: RunOrder) -> Running<'_, RunReport> {
        Box::pin(self.run_once(order))
    }

    fn pause(&mut self) -> io::Result<()> {
        if !self.hold.paused.load(Ordering::SeqCst) {
            self.hold.pause()?;
            self.hold.paused.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        if self.hold.paused.swap(false, Ordering::SeqCst) {
            self.hold.resume()?;
        }
        Ok(())
    }

    fn stop(self: Box<Self>) -> Running<'static, ()> {
        Box::pin(async move {
            let Self { hold, talk, register, .. } = *self;
            stop(hold, &talk, &register).await;
        })
    }
}

/// Kills a process and removes what it leaves.
pub(crate) async fn stop(hold: Arc<Hold>, talk: &Mutex<Talk>, register: &Register) {
    hold.kill_all();
    let talk = talk.lock().await;
    if let Err(error) = ended(&talk.end, END_WITHIN).await {
        tracing::error!(sandbox = %hold.name, %error, "a killed sandbox does not end; its group stays");
        return;
    }
    drop(talk);
    let (name, group) = (hold.name.clone(), hold.group.clone());
    let removed = tokio::task::spawn_blocking(move || hold.remove()).await;
    match removed {
        Ok(Ok(())) => {
            if let Some(group) = group {
                register.forget(&group);
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(sandbox = %name, %error, "its group stays until the workshop closes")
        }
        Err(error) => tracing::error!(sandbox = %name, %error, "removing it failed"),
    }
}
