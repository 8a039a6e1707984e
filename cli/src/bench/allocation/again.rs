//! What the simulator foretells for a run that was measured before: nothing is played but the rehearsal.
//!
//! **Knows:** the file that the run wrote.
//! **Promises:** the same table as the run printed, with the live figures of the file and those of the simulator of today beside them.
//! **Gives up:** files of runs with other arrivals or of another length: they are refused.

use std::path::Path;

use policies::residency::Lending;
use serde::Deserialize;
use vocabulary::Span;

use super::alone::Needs;
use super::rehearsal::Rehearsal;
use super::table::{Figures, Row};
use super::{Allocation, Contender, Fleet, host, shrinks};
use crate::failure::{Failure, Outcome};

/// What is read of a file.
#[derive(Deserialize)]
struct Measured {
    calls_per_round: usize,
    seed: u64,
    slot_ms: u64,
    fleet: Fleet,
    alone: Needs,
    rows: Vec<MeasuredRow>,
}

#[derive(Deserialize)]
struct MeasuredRow {
    #[serde(flatten)]
    contender: Contender,
    rounds: Vec<Figures>,
}

/// The rows of that run, foretold anew.
pub(super) fn foretell(asked: Allocation, file: &Path) -> Outcome<Vec<Row>> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let measured: Measured = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("this is no figures of such a run: {error}")))?;
    let fleet = measured.fleet;
    let rounds = measured.rows.first().map_or(0, |row| row.rounds.len());
    let asked = Allocation {
        rounds: Some(rounds),
        seed: measured.seed,
        slot_ms: measured.slot_ms,
        vm_cpu: fleet.vm_cpu,
        ..asked
    };
    let rounds = asked.rounds(&asked.arrivals()?);
    if rounds[0].len() != measured.calls_per_round {
        let (these, those) = (rounds[0].len(), measured.calls_per_round);
        return Err(wrong(format!(
            "{those} calls a round were measured, and these arrivals have {these}; --traces and --quick must be as they were"
        )));
    }
    let length = Span::millis(asked.slot_ms * asked.slots() as u64);
    let changes = shrinks::of_round(&fleet, length.into());
    let rehearsal = Rehearsal {
        constants: asked.constants().constants(Lending::Off),
        fleet,
        needs: &measured.alone,
        rounds: &rounds,
        changes: &changes,
        host: host(),
    };
    let row = |row: MeasuredRow| Row::new(&row.contender, row.rounds, rehearsal.foretell(&row.contender));
    Ok(measured.rows.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::super::functions::KINDS;
    use super::*;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        allocation: Allocation,
    }

    /// A third of the drawn arrivals.
    fn asked() -> Allocation {
        Asked::parse_from(["bench", "--quick"]).allocation
    }

    fn foretold(file: &Value) -> Outcome<Vec<Row>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figures.json");
        std::fs::write(&path, file.to_string()).unwrap();
        foretell(asked(), &path)
    }

    /// As if every function had computed for a twentieth of a second, whatever its input, and nobody had been slowed down.
    fn measured(calls: usize) -> Value {
        let alone = json!({
            "duration_us": 200_000, "cpu_us": 50_000, "memory": 10, "saturation": 4_000, "cold_us": 5_000,
        });
        let round = serde_json::to_value(Figures::mean(&[])).unwrap();
        json!({
            "arrivals": "drawn", "calls_per_round": calls, "seed": 1, "slot_ms": 500,
            "fleet": { "vms": 3, "vm_cpu": 500, "vm_memory": 2_048, "shrinking": false },
            "alone": vec![[&alone, &alone, &alone]; KINDS.len()],
            "rows": [{ "placement": "mws", "allocator": "fixed", "lending": "off", "rounds": [round] }],
        })
    }

    #[test]
    fn a_run_that_was_measured_is_foretold_again_and_quotas_come_in_periods() {
        let asked = asked();
        let calls = asked.rounds(&asked.arrivals().unwrap())[0].len();
        let rows = foretold(&measured(calls)).unwrap();
        let foretold = rows[0].foretold.unwrap();
        // A function that has rested finds a whole quota; with a slower core all would take their time alone.
        assert!((0.3..0.99).contains(&foretold.mean_slowdown), "{foretold:?}");
        assert_eq!(foretold.failed, 0.0);
    }

    #[test]
    fn what_is_no_such_file_or_was_made_with_other_calls_is_refused() {
        let Err(failure) = foretold(&json!({ "rows": [] })) else { panic!("it says nothing") };
        assert!(failure.error.to_string().contains("no figures"), "{}", failure.error);
        let Err(failure) = foretold(&measured(1)) else { panic!("there were more calls") };
        assert!(failure.error.to_string().contains("calls a round"), "{}", failure.error);
    }
}
