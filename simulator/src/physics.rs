//! What a VM does to the work on it.
//!
//! **Knows:** how many cores a VM has, and what each run and each sandbox in the making still needs.
//! **Promises:** CPU that is delivered never exceeds what the VM has, and a run that succeeds has had all that its
//! [`Work`](crate::plan::Work) asks for. Whole numbers only. While nobody is in another's way, nothing is recomputed.
//! **Gives up:** caches, memory bandwidth, disks, hyper-threads and the network's width; time slices (a share of a core is a
//! slower core); memory that is short on the VM as a whole (bookings see to that).
//!
//! | what is assumed | where it comes from |
//! | --- | --- |
//! | Runs share cores by weight, none above its quota or its own parallelism, and what one leaves the others take: max-min fairness | Linux `Documentation/admin-guide/cgroup-v2.rst` (`cpu.weight` is work-conserving, `cpu.max` a hard limit), `Documentation/scheduler/sched-bwc.rst`; water-filling: Bertsekas and Gallager, *Data Networks*, 6.5.2 |
//! | A run first waits for others (`io`), then computes. Waiting needs no core | our choice, the simplest of which a trace's duration can be made |
//! | More cores help up to a saturation point and not beyond | Freyr (WWW'22), section 4: "saturation point"; in `rethinking_serverless` only transcoding gains beyond one core |
//! | A weight is the ceiling's CPU | the live sandbox writes it so (`sandbox/src/start.rs`) |
//! | Memory grows steadily from the runtime's own to the work's need, which it reaches when half of the work is done ([`RAMP_PERCENT`]), and stays | our choice: inputs are loaded first. With a ceiling below the need the kernel kills at the crossing (`memory.max`, cgroup-v2.rst) |
//! | An idle sandbox keeps what its largest run touched | CPython returns an arena only when all of it is free (`Objects/obmalloc.c`); V8 and glibc are no different in kind |
//! | Making a sandbox needs one core for all of its time, outside the run's ceiling | a cold start is mostly computing (starting the runtime, imports): Wang et al. (ATC'18) see it become shorter with a larger share of CPU, SOCK (ATC'18) sees imports dominate |
//! | CPU peaks are seen in samples of 100 ms, none in runs shorter than 20 ms | the live meter (`sandbox/src/measure.rs`) |
//! | Throttled time is the part of each period in which the quota is used up | `sched-bwc.rst` (`throttled_usec`); with all threads running until then |

mod machine;
mod share;
mod task;
mod window;

pub use machine::{Machine, Plan, Reading};
pub use share::{Want, share};
pub use task::{Counters, Ended, Fate, Load, TaskId};
pub use window::Window;

use vocabulary::Mebibytes;

/// CPU rates in millionths of a core. A division that is rounded down loses a core's millionth, not its thousandth.
pub type Rate = u64;

/// CPU time in millionths of a core times microseconds.
pub type Delivered = u64;

/// One microsecond of one core.
pub const CORE_US: Delivered = 1_000_000;

/// When so much of its work is done, a run's memory has reached what it needs.
pub const RAMP_PERCENT: u64 = 50;

/// What a runtime without a run holds: a Python that has forked from its zygote and loaded its launcher.
pub const RUNTIME_MEMORY: Mebibytes = Mebibytes(16);
