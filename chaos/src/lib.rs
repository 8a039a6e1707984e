//! Trouble, and what must stay true in it.
//!
//! **Knows:** the faults of one machine ([`faults`]), its clocks ([`clocks`]), what was seen while they were made ([`events`]), and what must
//! hold of it ([`invariants`]); what clouds tell a machine of its end ([`metadata`]); which trouble comes when
//! ([`scenario`], [`timetable`]); and a cluster that runs, to play it on ([`live`]).
//! **Promises:** a fault hits the process it was meant for or none; an invariant that is broken names the line of the
//! log that breaks it.
//! **Gives up:** faults of the network and of the disk.

pub mod clocks;
pub mod events;
pub mod fates;
pub mod faults;
pub mod invariants;
pub mod live;
pub mod metadata;
pub mod scenario;
pub mod timetable;
pub mod wires;
