//! What a VM does to the work on it.
//!
//! **Knows:** how many cores a VM has, and what each run and each sandbox in the making still needs.
//! **Promises:** CPU that is delivered never exceeds what the VM has, and a run that succeeds has had all that its
//! [`Work`](crate::plan::Work) asks for. Whole numbers only. While nobody is in another's way, nothing is recomputed.
//! **Gives up:** caches, memory bandwidth, disks, hyper-threads and the network's width; time slices of a few milliseconds; memory that is
//! short on the VM as a whole (bookings see to that). And quota periods, unless asked for: a share of a core is a slower core then.
//!
//! | what is assumed | where it comes from |
//! | --- | --- |
//! | Runs share cores by weight, none above its quota or its own parallelism, and what one leaves the others take: max-min fairness | Linux `Documentation/admin-guide/cgroup-v2.rst` (`cpu.weight` is work-conserving, `cpu.max` a hard limit), `Documentation/scheduler/sched-bwc.rst`; water-filling: Bertsekas and Gallager, *Data Networks*, 6.5.2 |
//! | A run first waits for others (`io`), then computes. Waiting needs no core | our choice, the simplest of which a trace's duration can be made |
//! | More cores help up to a saturation point and not beyond | Freyr (WWW'22), section 4: "saturation point"; in `rethinking_serverless` only transcoding gains beyond one core |
//! | A weight is the ceiling's CPU, and a sandbox in the making weighs as much as a core, where nothing is lent; else both are what the residency says | the live sandbox writes it so (`sandbox/src/start.rs`) |
//! | Memory grows steadily from the runtime's own to the work's need, which it reaches when half of the work is done ([`RAMP_PERCENT`]), and stays | our choice: inputs are loaded first. With a ceiling below the need the kernel kills at the crossing (`memory.max`, cgroup-v2.rst) |
//! | An idle sandbox keeps what its largest run touched | CPython returns an arena only when all of it is free (`Objects/obmalloc.c`); V8 and glibc are no different in kind |
//! | Making a sandbox needs one core for all of its time, outside the run's ceiling | a cold start is mostly computing (starting the runtime, imports): Wang et al. (ATC'18) see it become shorter with a larger share of CPU, SOCK (ATC'18) sees imports dominate |
//! | CPU peaks are seen in samples of 100 ms, none in runs shorter than 20 ms | the live meter (`sandbox/src/measure.rs`) |
//! | Throttled time is the part of each period in which the quota is used up | `sched-bwc.rst` (`throttled_usec`); with all threads running until then |
//!
//! With [`Quotas::InPeriods`] besides, which costs an event for each pause:
//!
//! | what is assumed | where it comes from |
//! | --- | --- |
//! | A group, the VM's own too, runs at full speed until its quota of the period is used up and then not at all until the next; what is left over is gone | `sched-bwc.rst` ("at each given period, a task group is allocated up to quota microseconds of CPU time"; no `cpu.max.burst`) |
//! | The next run of a sandbox finds what the one before has left | the quota is the group's, and a sandbox is one (`sandbox/src/start.rs`) |
//! | A quota that is written is whole at once, in the middle of a period too | `tg_set_cfs_bandwidth` calls `__refill_cfs_bandwidth_runtime` (`kernel/sched/core.c`); six writes in 1.5 s at a quarter of a core gave 35 and 86 ms more than fifteen periods |
//! | Each group's periods begin elsewhere | drawn by the kernel since 6.3 (`init_cfs_bandwidth`, `kernel/sched/fair.c`) |
//! | Nobody is faster than its threads and the machine's cores | a thread is on one core at a time |
//! | Who can use less than a core works at a pace, and makes up for a pause | so do the functions of our own that are paced (`cli/src/bench/allocation/functions`) |

mod machine;
mod periods;
mod pulse;
mod quota;
mod share;
mod task;
mod window;

pub use machine::{Look, Machine, Plan, Reading};
pub use quota::{PERIOD, Quota, Quotas};
pub use share::{Want, share};
pub use task::{Counters, Ended, Fate, Load, TaskId};
pub use window::Window;

use vocabulary::{Mebibytes, MilliCores};

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

fn rate_of(cpu: MilliCores) -> Rate {
    u64::from(cpu.0) * 1_000
}
