//! The proof: a real cluster, real functions, real trouble.
//!
//! **Knows:** how to start Windfall's roles as processes of the real binary around a private nats-server, how to end
//! any of them without warning, and how to talk to what is left.
//! **Promises:** tests may run beside each other: each cluster has its own ports, folder, name and control groups.
//! Whatever a test does, everything it started ends with it, and what the processes logged is shown when it fails.
//! **Gives up:** speed. No test here measures time.
//!
//! Needs the binary (`cargo build -p windfall`), a nats-server, python3 and a C compiler; `sh tests/run.sh` sees to
//! all of them.

mod cluster;
mod collector;
mod door;
pub mod functions;
pub mod load;
mod nats;
mod network;
mod ports;
mod process;

pub use cluster::{Cluster, Plan, binary};
pub use collector::{Collector, Told};
pub use door::{Http, Reply, annotation, body_of};
pub use nats::{NatsAnswer, NatsDoor};
pub use network::is_inside_own_network;
pub use process::is_root;

use std::time::{Duration, Instant};

/// The longest that anything may take on a machine that does other work, too. Whoever waits this long has found a
/// hang and not a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until the answer is yes.
///
/// # Panics
/// When it is not within [`PATIENCE`].
#[track_caller]
pub fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut is_so: F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let until = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < until, "never: {what} (asked at {caller})");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
