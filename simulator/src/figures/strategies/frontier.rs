//! What a smaller x of `expected-loss(x)` keeps on harvest VMs, and what it loses.
//!
//! **Knows:** the rows of all strategies.
//! **Promises:** the goal read with what this house does at an eviction, beside the strict reading, which stays as it was: the largest
//! x that loses no more than `bounded(99.9)`, and what it keeps on harvest VMs after second runs have gone to regular ones.
//! **Gives up:** any x between those that are played.

use super::super::{Chart, Goal, Line, Summary, Table};
use super::outcome::{Never, Played};
use super::row::{Row, find, small};
use super::traffic::Workload;
use super::{BOUNDED, OURS, PAPERS, STRATEGIES};

/// What the column "as this house runs again" counts, and what it leaves out.
pub const WHAT_THIS_HOUSE_DOES: [&str; 3] = [
    "As this house runs again: whatever may run twice is run again until it ends, with ten lost attempts at most (`controller.attempts_limit`). That limit \
     loses nothing that could be seen here, even if all ten were on harvest VMs. Under `expected-loss` the second run of what may outlast another notice prefers \
     a regular VM: then there is no second eviction, and only what must not run twice is lost. The column \"with a second run\" is the strict reading, by which the goals \
     of old are judged: a second run on the same kind of VM, and nothing after it.",
    "What the column leaves out: a caller who waits is answered after its patience, twice the function's time limit and 15 s at the latest. Two full runs fit into that, a \
     third may not; then the invocation has its record, and its caller an error. Where no regular VM has room the second run is on a harvest VM, and the column \"with a \
     second run\" says how often a third would be needed.",
    "Of what must not run twice each second beyond the thirty that is spent on harvest VMs is lost at the rate of evictions, whoever chooses. So a loss as small as that of a \
     strategy which keeps all long applications on regular VMs needs all of the long ones that must not run twice there, too: the share of computation that they have bounds the \
     share on harvest VMs, and no x can do better.",
];

/// How much of the computation the strict reading forbids to run twice.
pub fn of_a_tenth(workload: Workload, played: &[Played]) -> String {
    let tenth = Summary::of(&played.iter().map(|played| played.tenth).collect::<Vec<_>>());
    let why = match workload {
        Workload::FSmall => {
            " (applications are numbered by how often they are called, so that the first of all is always among them)"
        }
        Workload::FLarge | Workload::S500 => "",
    };
    format!(
        "{}: \"nine in ten may run twice\" means that every tenth application by its number must not; those have {} % of the computation{why}. \"One in \
         ten, whichever\" is the mean over all choices of a tenth of the applications, worked out, not drawn.",
        workload.name(),
        tenth.text(1)
    )
}

fn ours() -> impl Iterator<Item = &'static str> {
    STRATEGIES[PAPERS..].iter().copied()
}

/// What must not run twice, in words.
fn whom(never: Never) -> &'static str {
    match never {
        Never::Tenth => "every tenth application",
        Never::OneInTen => "one in ten, whichever",
        Never::All => "all",
    }
}

/// Share against loss for each x, and what it is compared with.
pub fn table(rows: &[Row]) -> Table {
    let heads = [
        "workload",
        "must not run twice",
        "strategy",
        "here: computation on harvest VMs",
        "less second runs elsewhere",
        "lost, as this house runs again",
        "against bounded(99.9), nothing run again",
    ];
    let mut table = Table::new("What a smaller x keeps on harvest VMs, and what it loses", &heads);
    for workload in [Workload::FLarge, Workload::FSmall, Workload::S500] {
        for never in Never::EACH {
            let Some(bounded) = find(rows, workload, BOUNDED, never) else { continue };
            for row in ours().filter_map(|strategy| find(rows, workload, strategy, never)) {
                table.rows.push(vec![
                    workload.name().into(),
                    whom(never).into(),
                    row.strategy.into(),
                    format!("{} %", row.share.text(1)),
                    format!("{} %", row.kept.text(1)),
                    small(&row.lost_here),
                    times(row.lost_here.mean, bounded.hit.mean),
                ]);
            }
        }
    }
    table
}

/// One loss against another.
fn times(ours: f64, theirs: f64) -> String {
    let ratio = ours / f64::max(theirs, f64::MIN_POSITIVE);
    if ratio < 10.0 { format!("{ratio:.2} times") } else { format!("{ratio:.0} times") }
}

/// The largest x that loses no more than `bounded(99.9)` where that runs nothing again.
fn largest(rows: &[Row], workload: Workload, never: Never) -> Option<&Row> {
    let bounded = find(rows, workload, BOUNDED, never)?;
    let mut by_x = ours().filter_map(|strategy| find(rows, workload, strategy, never));
    by_x.find(|row| row.lost_here.mean <= bounded.hit.mean)
}

/// The goal, with what this house does: by every tenth application, and by one in ten, whichever.
pub fn goals(rows: &[Row], workload: Workload) -> Vec<Goal> {
    let of = |never| {
        let bounded = find(rows, workload, BOUNDED, never)?;
        let largest = largest(rows, workload, never);
        Some(Goal {
            of: format!(
                "{}, on harvest VMs at no more loss than {BOUNDED}'s, as this house runs again; must not run twice: {}",
                workload.name(),
                whom(never)
            ),
            rerun: format!("{:.1} % ({BOUNDED}, nothing run again)", bounded.share.mean),
            ours: largest.map_or_else(
                || "nothing: more is lost with every x".into(),
                |row| format!("{} % (`{}`, second runs taken off)", row.kept.text(1), row.strategy),
            ),
            wanted: "at least 90 %".into(),
            met: Some(largest.is_some_and(|row| row.kept.mean >= 90.0)),
            ..Goal::default()
        })
    };
    [Never::Tenth, Never::OneInTen].into_iter().filter_map(of).collect()
}

/// What the second runs cost where the goal is read over all choices of a tenth.
pub fn second_runs(rows: &[Row], workload: Workload) -> Option<String> {
    let never = Never::OneInTen;
    let row = largest(rows, workload, never)?;
    let (assigned, kept) = (row.share.mean, row.kept.mean);
    Some(format!(
        "{}: with {}, `{}` assigns {assigned:.2} % of the computation to harvest VMs; second runs take {:.2} % away from them here, and would take a \
         hundredth of that where VMs live as long as published.",
        workload.name(),
        whom(never),
        row.strategy,
        assigned - kept
    ))
}

/// Losses against the share on harvest VMs.
pub fn chart(rows: &[Row], workload: Workload) -> Chart {
    let line = |name: String, published, never, strategies: &[&str], lost: fn(&Row) -> f64| {
        let found = strategies.iter().filter_map(|strategy| find(rows, workload, strategy, never));
        let mut points: Vec<(f64, f64)> = found.map(|row| (row.kept.mean, lost(row))).collect();
        points.retain(|point| point.1 > 0.0);
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name, points, published }
    };
    let ours = |never| {
        let name = format!("{OURS} to (0); must not run twice: {}", whom(never));
        line(name, false, never, &STRATEGIES[PAPERS..], |row| row.lost_here.mean)
    };
    let papers =
        line("SOSP'21's, nothing run again".into(), true, Never::All, &STRATEGIES[..PAPERS], |row| {
            row.hit.mean
        });
    let file = match workload {
        Workload::FLarge => "strategies-f-large",
        Workload::FSmall => "strategies-f-small",
        Workload::S500 => "strategies-s500",
    };
    Chart {
        file: file.into(),
        title: format!("{}: what is lost against what stays on harvest VMs", workload.name()),
        x: "computation on harvest VMs, second runs taken off, %".into(),
        y: "share of invocations lost".into(),
        logarithmic: true,
        lines: [papers].into_iter().chain(Never::EACH.map(ours)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Outcome;
    use super::*;

    const THEIRS: [(f64, f64); PAPERS] = [(10.0, 0.0), (20.0, 1e-6), (40.0, 1e-4), (100.0, 1e-2)];

    /// The paper's and ours, by what they keep and lose, whoever must not run twice.
    fn rows(ours: [(f64, f64); 5]) -> Vec<Row> {
        let outcomes = THEIRS.into_iter().chain(ours).map(|(kept, lost)| {
            [Outcome { share: kept, kept, hit: lost, lost, lost_here: lost, ..Outcome::default() }; 3]
        });
        Row::all(Workload::S500, &[Played { outcomes: outcomes.collect(), tenth: 10.0 }])
    }

    #[test]
    fn the_goal_is_read_at_the_largest_x_that_loses_as_little() {
        let rows = rows([(99.0, 1e-3), (97.0, 2e-6), (95.0, 1e-6), (93.0, 1e-7), (91.0, 0.0)]);
        let read = goals(&rows, Workload::S500);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].ours, "95.0 % (`expected-loss(0.001)`, second runs taken off)");
        assert_eq!(read[0].rerun, "20.0 % (bounded(99.9), nothing run again)");
        assert!(read.iter().all(|goal| goal.met == Some(true)));
        assert!(goals(&rows, Workload::FSmall).is_empty(), "it was not played");
    }

    #[test]
    fn a_goal_that_no_x_reaches_is_missed() {
        let missed = |rows: &[Row]| goals(rows, Workload::S500).iter().all(|goal| goal.met == Some(false));
        let lossy = rows([(99.0, 1e-3), (97.0, 1e-4), (95.0, 1e-4), (93.0, 2e-6), (91.0, 2e-6)]);
        assert!(missed(&lossy), "more is lost with every x");
        let small = rows([(99.0, 1e-3), (97.0, 1e-4), (80.0, 1e-6), (70.0, 0.0), (60.0, 0.0)]);
        assert!(missed(&small), "too little is kept");
        assert_eq!(table(&small).rows.len(), 15);
        assert_eq!(chart(&small, Workload::S500).lines.len(), 4);
    }
}
