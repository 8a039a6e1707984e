//! Closed-loop callers: each waits for its answer before it calls again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One call; what went wrong, if it did.
pub(super) type Call = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
/// Makes calls.
pub(super) type Door = Arc<dyn Fn() -> Call + Send + Sync>;

/// What the callers saw.
#[derive(Default)]
pub(super) struct Run {
    /// How long each call took, in microseconds; not sorted.
    pub latencies_us: Vec<u32>,
    /// Calls that failed.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// From the first call to the last answer.
    pub length: Duration,
}

/// Lets `callers` call for so long.
pub(super) async fn drive(door: &Door, callers: usize, length: Duration) -> Run {
    let began = Instant::now();
    let tasks: Vec<_> =
        (0..callers).map(|_| tokio::spawn(caller(Arc::clone(door), began + length))).collect();
    let mut run = Run::default();
    for task in tasks {
        if let Ok(one) = task.await {
            run.latencies_us.extend(one.latencies_us);
            run.errors += one.errors;
            run.first_error = run.first_error.or(one.first_error);
        }
    }
    run.length = began.elapsed();
    run
}

async fn caller(door: Door, until: Instant) -> Run {
    let mut run = Run::default();
    while Instant::now() < until {
        let called = Instant::now();
        match door().await {
            Ok(()) => {
                run.latencies_us.push(u32::try_from(called.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Err(error) => {
                run.errors += 1;
                run.first_error.get_or_insert(error);
                // A door that refuses at once must not become a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    run
}
