//! Many runs at once: seeds, loads and policies over the cores of this machine.
//!
//! **Knows:** jobs, each of which can build its house by itself.
//! **Promises:** what comes out stands in the order of what went in, whatever the threads' timing, and is what each job would have
//! brought alone. A run that panics takes none of the others with it, and is named with the line that repeats it.
//! **Gives up:** sharing anything between runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::house::House;
use crate::report::Report;
use crate::world::play;

/// One run.
pub struct Job {
    /// What tells it from the others, for people.
    pub label: String,
    /// The line that repeats it alone.
    pub repeat: String,
    /// Builds what is played.
    pub build: Box<dyn FnOnce() -> House + Send>,
}

/// Why a run has no report that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A bug: it panicked.
    #[error("the run '{label}' broke: {what}; repeat it with: {repeat}")]
    Panicked {
        /// Which.
        label: String,
        /// The panic's words.
        what: String,
        /// How to see it again.
        repeat: String,
    },
    /// A bug: something was not as it must be.
    #[error(
        "in the run '{label}' {count} times something was not as it must be, first {first}; repeat it with: {repeat}"
    )]
    Violated {
        /// Which.
        label: String,
        /// How often.
        count: u64,
        /// The first of them.
        first: String,
        /// How to see it again.
        repeat: String,
    },
}

/// A run has ended.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Which.
    pub label: &'a str,
    /// So many have ended.
    pub done: usize,
    /// Of so many.
    pub of: usize,
}

/// Plays all jobs on so many threads (at least one); `progress` is called from any of them.
pub fn play_all(
    jobs: Vec<Job>,
    threads: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Vec<Result<Report, RunError>> {
    let of = jobs.len();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let jobs: Vec<Mutex<Option<Job>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<Result<Report, RunError>>>> = (0..of).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, of.max(1)) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(slot) = jobs.get(index)
                {
                    let job = slot.lock().expect("nobody panics while holding it").take();
                    let job = job.expect("each number is drawn once");
                    let label = job.label.clone();
                    *results[index].lock().expect("nobody panics while holding it") = Some(play_one(job));
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(Progress { label: &label, done, of });
                }
            });
        }
    });
    let unlocked = results.into_iter().map(|result| result.into_inner().expect("nobody panicked in it"));
    unlocked.map(|result| result.expect("every number was drawn")).collect()
}

fn play_one(job: Job) -> Result<Report, RunError> {
    let Job { label, repeat, build } = job;
    match catch_unwind(AssertUnwindSafe(|| play(build()).0)) {
        Ok(report) if report.violations > 0 => {
            let first = report.first_violations.first().cloned().unwrap_or_default();
            Err(RunError::Violated { label, count: report.violations, first, repeat })
        }
        Ok(report) => Ok(report),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let what = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(RunError::Panicked { label, what, repeat })
        }
    }
}
