//! The numbers, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::load::Run;
use crate::output;

/// One door at one number of callers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    callers: usize,
    p50_us: u32,
    p99_us: u32,
    per_s: f64,
    /// CPU time of all processes of the cluster and of the callers, per call.
    cpu_us_per_call: f64,
    calls: usize,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
}

impl Measured {
    pub fn of(callers: usize, mut run: Run, cpu: Duration) -> Self {
        run.latencies_us.sort_unstable();
        let calls = run.latencies_us.len();
        // Nearest rank.
        let percentile = |percent: usize| {
            let rank = (calls * percent).div_ceil(100).max(1) - 1;
            run.latencies_us.get(rank).copied().unwrap_or_default()
        };
        Self {
            callers,
            p50_us: percentile(50),
            p99_us: percentile(99),
            per_s: calls as f64 / run.length.as_secs_f64(),
            cpu_us_per_call: if calls == 0 { 0.0 } else { cpu.as_micros() as f64 / calls as f64 },
            calls,
            errors: run.errors,
            first_error: run.first_error,
        }
    }

    /// For people who watch.
    pub fn line(&self, door: &str) -> String {
        let trouble = match &self.first_error {
            Some(error) => format!("   {} FAILED, the first: {error}", self.errors),
            None => String::new(),
        };
        format!("{door:>8}, {:>3} callers: {:>8.0} calls/s{trouble}", self.callers, self.per_s)
    }
}

/// Everything that was measured, by door, in the order of the callers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    bare_nats: Vec<Measured>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    road: Vec<Measured>,
    nats: Vec<Measured>,
    http: Vec<Measured>,
    durable: Vec<Measured>,
}

impl Report {
    pub fn add(&mut self, door: &str, measured: Measured) {
        match door {
            "bare" => self.bare_nats.push(measured),
            "road" => self.road.push(measured),
            "nats" => self.nats.push(measured),
            "http" => self.http.push(measured),
            _ => self.durable.push(measured),
        }
    }

    pub fn errors(&self) -> u64 {
        self.all().map(|(_, measured)| measured.errors).sum()
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Measured)> {
        let doors = [
            ("bare NATS", &self.bare_nats),
            ("road alone", &self.road),
            ("NATS", &self.nats),
            ("HTTP", &self.http),
            ("durable", &self.durable),
        ];
        doors.into_iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)))
    }

    fn bare(&self, callers: usize) -> Option<&Measured> {
        self.bare_nats.iter().find(|bare| bare.callers == callers)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading =
            ["door", "callers", "p50 us", "p99 us", "calls/s", "CPU us/call", "p50 / bare", "rate / bare"];
        let mut callers: Vec<usize> = self.all().map(|(_, row)| row.callers).collect();
        callers.sort_unstable();
        callers.dedup();
        let mut rows = Vec::new();
        for callers in callers {
            for (door, row) in self.all().filter(|(_, row)| row.callers == callers) {
                let ratios = self.bare(callers).filter(|bare| bare.p50_us > 0 && row.calls > 0);
                rows.push(vec![
                    door.to_owned(),
                    row.callers.to_string(),
                    row.p50_us.to_string(),
                    row.p99_us.to_string(),
                    format!("{:.0}", row.per_s),
                    format!("{:.1}", row.cpu_us_per_call),
                    ratios.map_or("-".into(), |bare| {
                        format!("{:.2}", f64::from(row.p50_us) / f64::from(bare.p50_us))
                    }),
                    ratios.map_or("-".into(), |bare| format!("{:.3}", row.per_s / bare.per_s)),
                ]);
            }
        }
        write!(f, "\n{}", output::table(&heading, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let run =
            Run { latencies_us: (1..=100).rev().collect(), length: Duration::from_secs(1), ..Run::default() };
        let measured = Measured::of(1, run, Duration::from_millis(1));
        assert_eq!((measured.p50_us, measured.p99_us), (50, 99));
        assert!((measured.per_s - 100.0).abs() < 1e-9);
        assert!((measured.cpu_us_per_call - 10.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_measured_is_not_a_number_gone_wrong() {
        let measured =
            Measured::of(1, Run { length: Duration::from_secs(1), ..Run::default() }, Duration::ZERO);
        assert_eq!((measured.p50_us, measured.calls), (0, 0));
        assert!(measured.cpu_us_per_call.abs() < 1e-9);
    }
}
