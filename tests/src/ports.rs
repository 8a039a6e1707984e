//! Ports for servers that must come back at the same address after a crash.
//!
//! Below the range from which the kernel gives ports to clients, so that nobody takes one while its server is away;
//! apart by process, since tests run beside each other.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;
/// For one test process, before it comes to its neighbour's.
const PER_PROCESS: u32 = 8;

/// A port of the loopback on which nobody listens.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let place = std::process::id() * PER_PROCESS + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + place % COUNT).expect("below 30,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}
