//! The figures of one run, and how people read them.

use std::fmt;

use serde::Serialize;

use super::timing::Times;

/// One invariant, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub invariant: &'static str,
    /// Whether it held.
    pub holds: bool,
    /// The first breaches.
    pub breaches: Vec<String>,
}

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was played.
    pub scenario: String,
    /// With which seed.
    pub seed: u64,
    /// Invocations that were accepted: a caller was answered, or a submission acknowledged.
    pub accepted: u64,
    /// Of these, those that have ended with a record.
    pub ended: u64,
    /// Of these, those that have not; and calls that were never answered though no connection broke meanwhile.
    pub lost: u64,
    /// Invocations with more than one record.
    pub duplicated: u64,
    /// Invocations whose answer came more than once.
    pub answered_twice: u64,
    /// Accepted submissions that have a record and whose answer never came.
    pub answers_missing: u64,
    /// Ended in something else than success.
    pub failed: u64,
    /// Refused before they were accepted.
    pub refused: u64,
    /// Calls and submissions that broke off while nats-server or the Frontend was gone: nobody promised anything.
    pub broken_off: u64,
    /// VMs that were taken away.
    pub evictions: u64,
    /// Faults that were made; each notice with what follows it is one.
    pub faults: u32,
    /// Faults that were left out.
    pub left_out: Vec<String>,
    /// Attempts that went out again because of a VM that was taken away, after it was.
    pub redispatches: u64,
    /// Attempts that went out again before anything was taken away: at a notice, handed back, or given up.
    pub reruns_before_loss: u64,
    /// From the moment at which a VM was gone to the next attempt on its way: the median.
    pub redispatch_p50_ms: Option<f64>,
    /// As before, the 99th percentile.
    pub redispatch_p99_ms: Option<f64>,
    /// What it consists of, and the other times that trouble takes.
    #[serde(flatten)]
    pub times: Times,
    /// Reports of VMs in which Controllers had booked more than there was, each without knowing of the other.
    pub overbooked_reports: u64,
    /// Reports that were looked at for that.
    pub reports: u64,
    /// The most that was booked beyond it, millicores.
    pub overbooked_cpu_max: u32,
    /// And MiB.
    pub overbooked_memory_max: u32,
    /// Of calls of short functions that were sent before the storm.
    pub p99_ms_calm: Option<f64>,
    /// Of calls of short functions that were sent in the storm.
    pub p99_ms_storm: Option<f64>,
    /// As before, the medians.
    pub p50_ms_calm: Option<f64>,
    /// As before, the medians.
    pub p50_ms_storm: Option<f64>,
    /// Successful answers of all doors and functions per second before the storm.
    pub goodput_calm: f64,
    /// As before, in the storm.
    pub goodput_storm: f64,
    /// From the last fault until the fleet was whole and calls succeeded.
    pub healthy_after_ms: Option<u64>,
    /// What must stay true.
    pub invariants: Vec<Verdict>,
}

impl Report {
    /// Whether everything stayed true that must.
    pub fn is_good(&self) -> bool {
        self.invariants.iter().all(|verdict| verdict.holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.0}"));
        let mut line = |what: &str, value: String| writeln!(f, "| {what} | {value} |");
        line("scenario, seed", format!("{}, {}", self.scenario, self.seed))?;
        line("---", "---:".into())?;
        line("accepted", self.accepted.to_string())?;
        line("ended", self.ended.to_string())?;
        line("lost", self.lost.to_string())?;
        line("duplicated records", self.duplicated.to_string())?;
        line("answered twice", self.answered_twice.to_string())?;
        line("durable answers that never came", self.answers_missing.to_string())?;
        line("ended otherwise than well", self.failed.to_string())?;
        line("refused", self.refused.to_string())?;
        line("broken off with a connection", self.broken_off.to_string())?;
        line("evictions", self.evictions.to_string())?;
        line("faults made, left out", format!("{}, {}", self.faults, self.left_out.len()))?;
        line("run again at a notice or handed back", self.reruns_before_loss.to_string())?;
        line("run again after the loss", self.redispatches.to_string())?;
        line(
            "loss to re-dispatch, p50 and p99 ms",
            format!("{}, {}", ms(self.redispatch_p50_ms), ms(self.redispatch_p99_ms)),
        )?;
        let Times { told, waited, drained, placed, .. } = self.times;
        line("of it, loss to everybody told, p50 and p99 ms", told.to_string())?;
        line("of it, told to re-dispatch, p50 and p99 ms", waited.to_string())?;
        line("told by metadata to passed on, p50 and p99 ms", self.times.heard.to_string())?;
        line("notice to drained, p50 and p99 ms", drained.to_string())?;
        line("ended before they had drained", self.times.ended_undrained.to_string())?;
        line("quota changed to placement changed, p50 and p99 ms", placed.to_string())?;
        line("Controller killed to its functions at another, p50 and p99 ms", self.times.moved.to_string())?;
        line(
            "reports with more booked than there was, of all; most beyond",
            format!(
                "{} of {}; {} millicores, {} MiB",
                self.overbooked_reports, self.reports, self.overbooked_cpu_max, self.overbooked_memory_max
            ),
        )?;
        line(
            "short calls, p50 ms: calm, storm",
            format!("{}, {}", ms(self.p50_ms_calm), ms(self.p50_ms_storm)),
        )?;
        line(
            "short calls, p99 ms: calm, storm",
            format!("{}, {}", ms(self.p99_ms_calm), ms(self.p99_ms_storm)),
        )?;
        line("good answers/s: calm, storm", format!("{:.1}, {:.1}", self.goodput_calm, self.goodput_storm))?;
        let healthy = self.healthy_after_ms.map(|value| value as f64);
        line("healthy again after the last fault, ms", ms(healthy))?;
        for verdict in &self.invariants {
            let holds = if verdict.holds { "holds" } else { "BROKEN" };
            writeln!(f, "| {} | {holds} |", verdict.invariant)?;
        }
        for verdict in &self.invariants {
            for breach in &verdict.breaches {
                writeln!(f, "BROKEN {breach}")?;
            }
        }
        Ok(())
    }
}
