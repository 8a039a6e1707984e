//! A scenario of trouble, rehearsed, and what came of it in words.

use ::chaos::rehearsal;
use ::chaos::scenario::Scenario;

use crate::failure::{Exit, Failure, Outcome};

/// Plays it and prints the report.
pub fn play(scenario: &Scenario, seed: u64) -> Outcome {
    let plan = rehearsal::plan(scenario, seed);
    let unplayed: u32 = plan.unplayed.values().sum();
    println!("faults            {} of {} are played", plan.played, plan.played + unplayed);
    for (reason, count) in &plan.unplayed {
        println!("                  {count} not: {reason}");
    }
    let report = rehearsal::play(plan);
    println!("{report}");
    for (kind, calls) in rehearsal::KINDS.into_iter().zip(&report.apps) {
        println!("{:<18}{} calls, {}", format!("{kind} ones"), calls.succeeded, calls.latency);
    }
    let troubles = &report.troubles;
    if troubles.left_out > 0 {
        println!(
            "left out          {} faults, for which nobody was there who had no other",
            troubles.left_out
        );
    }
    println!(
        "submitted again   {} times, to another Controller or because one had forgotten",
        troubles.resubmitted
    );
    let ended = report.answered + report.refused;
    if report.violations == 0 && ended == report.submitted {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{} times something was not as it must be, and {ended} of {} calls were answered or refused; this is a bug, seed {seed}",
            report.violations, report.submitted
        ),
    ))
}
