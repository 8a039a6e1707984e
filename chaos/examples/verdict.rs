//! Reads an event log and says what in it was not as it must be: `cargo run -p chaos --example verdict LOG`.
//!
//! Of what a log does not tell, when a Controller was frozen or cut off, nothing is known here.

use std::io::BufReader;

use chaos::events;
use chaos::invariants::{
    every_accepted_invocation_ends_exactly_once, no_answer_of_a_dead_attempt_reaches_a_caller,
    no_controller_overbooks_a_vm_after_one_report, no_vm_holds_more_than_one_run_too_many,
    only_functions_of_a_lost_controller_move, overbooking,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name an event log")?;
    let log = events::read(BufReader::new(std::fs::File::open(path)?))?;
    let mut breaches = every_accepted_invocation_ends_exactly_once(&log);
    breaches.extend(no_answer_of_a_dead_attempt_reaches_a_caller(&log));
    breaches.extend(no_controller_overbooks_a_vm_after_one_report(&log, &[]));
    breaches.extend(no_vm_holds_more_than_one_run_too_many(&log));
    breaches.extend(only_functions_of_a_lost_controller_move(&log, &[]));
    println!("{} entries, {:?}, {} breaches", log.len(), overbooking(&log), breaches.len());
    breaches.iter().for_each(|breach| println!("{breach}"));
    Ok(())
}
