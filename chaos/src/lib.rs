//! Trouble, and what must stay true in it.
//!
//! **Knows:** the faults of one machine ([`faults`]), its clocks ([`clocks`]), what was seen while they were made ([`events`]), and what must
//! hold of it ([`invariants`]); what clouds tell a machine of its end ([`metadata`]); which trouble comes when
//! ([`scenario`], [`timetable`]); a cluster that runs, to play it on ([`live`]); and a house under virtual time, to play it in
//! ([`rehearsal`]).
//! **Promises:** a fault hits the process it was meant for or none; an invariant that is broken names the line of the
//! log that breaks it.
//! **Gives up:** faults of several machines.

pub mod clocks;
pub mod events;
pub mod faults;
pub mod invariants;
pub mod live;
pub mod metadata;
pub mod rehearsal;
pub mod scenario;
pub mod timetable;
pub mod wires;
