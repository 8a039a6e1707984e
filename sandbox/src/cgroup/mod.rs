//! Control groups, v1 and v2, through the file system.
//!
//! **Knows:** which hierarchies this machine has, where our groups live in them, and the file names of both
//! versions.
//! **Promises:** one `write(2)` per limit, its result checked; children shrink before their parents and
//! parents grow before their children, because v1 refuses anything else; a limit that was refused is
//! unchanged.
//! **Gives up:** controllers that nothing here needs, and the threaded mode of v2. `cgroups-rs` does all
//! that and brings a D-Bus stack along.
//!
//! # Where groups live
//! A group is named by one path, such as `windfall/vm-1/agent`, that is the same in every hierarchy. It
//! starts at a base: in a v1 hierarchy the group that we were started in, so that nobody's limits are
//! escaped; in v2 the group that was delegated to us, else the root of what we see. A process that is
//! already inside a group called `windfall` finds the same base as the one that put it there.
//!
//! v2 forbids processes in a group that has children with limits. So does this house on v1: a VM's own
//! process lives in the leaf `<vm>/agent`, its sandboxes in `<vm>/<sandbox>`.

mod dials;
mod files;
mod group;
mod hierarchies;
mod inhabitants;
mod limits;
mod watch;

pub use dials::Dials;
pub use group::{Counters, Group, GroupError};
pub use hierarchies::{Controller, Hierarchies};
pub use limits::Limits;
pub use watch::Watch;

/// The first part of the paths of all our groups.
pub const HOUSE: &str = "windfall";

/// The leaf of a VM's group in which its own process lives.
pub const AGENT: &str = "agent";
