//! How long VMs live.
//!
//! **Knows:** the chance to live longer than an age, from published quantiles, from measured lives, or from a monthly rate.
//! **Promises:** between two known ages the hazard is constant, so that what is drawn and what [`Lifetime::hazard`] tells are the
//! same distribution.
//! **Gives up:** reasons. Real evictions come together, when a zone runs short; here each VM dies for itself.

use std::path::Path;

use vocabulary::Span;

use crate::chance::Chance;
use crate::workload::TraceError;
use crate::workload::table::Table;

const DAY_S: f64 = 86_400.0;
const HOUR_S: f64 = 3_600.0;

/// How long VMs live.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifetime {
    /// (age in seconds, share that lives longer), from (0, 1) on, ascending in age.
    survival: Vec<(f64, f64)>,
    /// Evictions per second from the last known age on, where some live longer.
    beyond: f64,
    /// All evictions happen so many times as often.
    rate: f64,
}

impl Lifetime {
    /// Nobody is evicted.
    pub fn forever() -> Self {
        Self::constant(0.0)
    }

    /// As many are evicted every second of an age as of any other.
    fn constant(per_second: f64) -> Self {
        Self { survival: vec![(0.0, 1.0)], beyond: per_second, rate: 1.0 }
    }

    /// Exponential with this mean.
    pub fn exponential(mean: Span) -> Self {
        Self::constant(1.0 / mean.as_seconds().max(1e-6))
    }

    /// This share is interrupted within a month, as cloud providers tell of spot VMs.
    pub fn monthly(share: f64) -> Self {
        Self::constant(-(1.0 - share.clamp(0.0, 0.999_999)).ln() / (30.4 * DAY_S))
    }

    /// Harvest VMs as SOSP'21 characterises them: 92 % live longer than a day (its figure 1), 62 % longer than a month, 61.5 days
    /// on average. From a month on the hazard is what makes the mean come out: one in 62.1 days.
    pub fn harvest() -> Self {
        Self {
            survival: vec![(0.0, 1.0), (DAY_S, 0.92), (30.0 * DAY_S, 0.62)],
            beyond: 1.0 / (62.1 * DAY_S),
            rate: 1.0,
        }
    }

    /// Preemptible VMs of GCP as the measured lives of 2019 tell, where these are not at hand: 1 h .85, 6 h .72, 12 h .68, 23.9 h
    /// .61, and nobody lives longer than a day.
    pub fn gcp_preemptible() -> Self {
        let known = [(0.0, 1.0), (1.0, 0.85), (6.0, 0.72), (12.0, 0.68), (23.9, 0.61), (24.0, 0.0)];
        Self {
            survival: known.map(|(hours, share)| (hours * HOUR_S, share)).to_vec(),
            beyond: 0.0,
            rate: 1.0,
        }
    }

    /// From measured lives (columns `lifetime_s`, `end_event`) by Kaplan and Meier (1958): what a user stopped lived at least so
    /// long. Whoever is left after a day is evicted then, as the provider says.
    pub fn read_preemptible(file: &Path) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let lived = table.column(&["lifetime_s"])?;
        let end = table.column(&["end_event"])?;
        let mut lives: Vec<(f64, bool)> = Vec::new();
        while let Some(row) = table.next_row()? {
            let was_evicted = match row.text(end) {
                "preempted" => true,
                "user_stop" => false,
                _ => return Err(row.refused(end, "is not known", "it should be preempted or user_stop")),
            };
            lives.push((row.number(lived)?, was_evicted));
        }
        if !lives.iter().any(|&(_, was_evicted)| was_evicted) {
            let what = "tells of no preempted VM";
            return Err(TraceError::of_file(file, what, "take a file in which some were"));
        }
        Ok(Self::kaplan_meier(lives))
    }

    /// From (seconds lived, whether it was evicted then).
    fn kaplan_meier(mut lives: Vec<(f64, bool)>) -> Self {
        lives.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut survival = vec![(0.0, 1.0)];
        let (mut share, mut at) = (1.0, 0);
        while at < lives.len() && lives[at].0 < DAY_S {
            let age = lives[at].0;
            let of_age = lives[at..].iter().take_while(|life| life.0 == age);
            let (count, evicted) = of_age.fold((0, 0), |(n, e), life| (n + 1, e + usize::from(life.1)));
            if evicted > 0 && age > 0.0 {
                share *= 1.0 - evicted as f64 / (lives.len() - at) as f64;
                survival.push((age, share));
            }
            at += count;
        }
        survival.push((DAY_S, 0.0));
        Self { survival, beyond: 0.0, rate: 1.0 }
    }

    /// The same with evictions so many times as often.
    #[must_use]
    pub fn times(mut self, rate: f64) -> Self {
        self.rate *= rate.max(0.0);
        self
    }

    /// The share that lives longer than this.
    pub fn survival(&self, age: Span) -> f64 {
        self.survival_at(age.as_seconds()).powf(self.rate)
    }

    /// Before [`Self::rate`].
    fn survival_at(&self, age: f64) -> f64 {
        let after = self.survival.partition_point(|&(known, _)| known <= age);
        let (from, high) = self.survival[after - 1];
        match self.survival.get(after) {
            None => high * (-(age - from) * self.beyond).exp(),
            // Nobody is evicted on the way to an age that nobody survives.
            Some(&(_, 0.0)) => high,
            Some(&(to, low)) => high * (low / high).powf((age - from) / (to - from)),
        }
    }

    /// The chance of a VM of this age to be evicted within the next `within`: what an operator may tell a reliability strategy.
    pub fn hazard(&self, age: Span, within: Span) -> f64 {
        let now = self.survival(age);
        if now <= 0.0 {
            return 1.0;
        }
        1.0 - self.survival(age + within) / now
    }

    /// How much longer a VM of this age lives; `None`: for ever, as far as anybody plays.
    pub(crate) fn draw(&self, age: Span, chance: &mut Chance) -> Option<Span> {
        if self.rate == 0.0 {
            return None;
        }
        let age_s = age.as_seconds();
        let wanted = self.survival_at(age_s) * chance.unit().powf(1.0 / self.rate);
        let after = self.survival.partition_point(|&(_, share)| share >= wanted);
        let (from, high) = self.survival[after - 1];
        let dies_at = match self.survival.get(after) {
            None if self.beyond == 0.0 => return None,
            None => from + (high / wanted).ln() / self.beyond,
            Some(&(to, 0.0)) => to,
            Some(&(to, low)) => from + (to - from) * (wanted / high).ln() / (low / high).ln(),
        };
        Some(Span(((dies_at - age_s).max(0.0) * 1e6) as u64))
    }

    /// The mean, in seconds; infinite where nobody is evicted.
    pub fn mean_s(&self) -> f64 {
        let powered = |share: f64| share.powf(self.rate);
        let between = |pair: &[(f64, f64)]| {
            let (span, high, low) = (pair[1].0 - pair[0].0, powered(pair[0].1), powered(pair[1].1));
            if low == 0.0 || (high / low).ln() < 1e-9 {
                return span * high;
            }
            span * (high - low) / (high / low).ln()
        };
        let known: f64 = self.survival.windows(2).map(between).sum();
        let last = powered(self.survival.last().map_or(1.0, |&(_, share)| share));
        if last > 0.0 { known + last / (self.beyond * self.rate) } else { known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Span = Span::seconds(86_400);

    fn drawn(lifetime: &Lifetime, age: Span) -> Vec<f64> {
        let mut chance = Chance::new(5, 1);
        let mut lives: Vec<f64> =
            (0..40_000).map(|_| lifetime.draw(age, &mut chance).unwrap().as_seconds()).collect();
        lives.sort_by(f64::total_cmp);
        lives
    }

    fn share_beyond(lives: &[f64], seconds: f64) -> f64 {
        1.0 - lives.partition_point(|&life| life <= seconds) as f64 / lives.len() as f64
    }

    #[test]
    fn harvest_vms_live_as_published() {
        let lives = drawn(&Lifetime::harvest(), Span::ZERO);
        let mean = lives.iter().sum::<f64>() / lives.len() as f64 / DAY_S;
        assert!((60.0..63.0).contains(&mean), "{mean} days");
        assert!((Lifetime::harvest().mean_s() / DAY_S - 61.5).abs() < 0.2);
        let (day, month) = (share_beyond(&lives, DAY_S), share_beyond(&lives, 30.0 * DAY_S));
        assert!(day > 0.9 && (day - 0.92).abs() < 0.01, "{day}");
        assert!(month > 0.6 && (month - 0.62).abs() < 0.01, "{month}");
    }

    #[test]
    fn what_is_drawn_is_what_the_hazard_says() {
        for lifetime in [
            Lifetime::harvest(),
            Lifetime::harvest().times(100.0),
            Lifetime::gcp_preemptible(),
            Lifetime::gcp_preemptible().times(3.0),
            Lifetime::monthly(0.1),
            Lifetime::exponential(DAY),
        ] {
            for age in [Span::ZERO, Span::seconds(5 * 3600)] {
                let lives = drawn(&lifetime, age);
                for hours in [1, 12, 40, 24 * 45] {
                    let within = Span::seconds(hours * 3600);
                    let (said, drawn) =
                        (lifetime.hazard(age, within), 1.0 - share_beyond(&lives, within.as_seconds()));
                    assert!(
                        (said - drawn).abs() < 0.01,
                        "{said} and {drawn}, {hours} h from {age}: {lifetime:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn evictions_can_be_made_more_frequent() {
        let one = Lifetime::harvest();
        let hundred = Lifetime::harvest().times(100.0);
        assert!((one.hazard(Span::ZERO, DAY) - 0.08).abs() < 1e-6);
        assert!(hundred.hazard(Span::ZERO, DAY) > 0.999);
        assert!(hundred.mean_s() < one.mean_s() / 50.0);
        assert_eq!(Lifetime::harvest().times(0.0).draw(Span::ZERO, &mut Chance::new(1, 1)), None);
        assert_eq!(Lifetime::forever().hazard(DAY, DAY), 0.0);
    }

    #[test]
    fn a_preemptible_vm_never_lives_longer_than_a_day() {
        let lives = drawn(&Lifetime::gcp_preemptible(), Span::ZERO);
        assert!(lives.iter().all(|&life| life <= DAY_S));
        let at_the_end = lives.iter().filter(|&&life| life > DAY_S - 1.0).count() as f64 / lives.len() as f64;
        assert!((at_the_end - 0.61).abs() < 0.01, "{at_the_end}");
        assert_eq!(Lifetime::gcp_preemptible().hazard(Span::seconds(23 * 3600), DAY), 1.0);
    }

    #[test]
    fn kaplan_and_meier_count_those_who_were_stopped_as_long_as_they_were_seen() {
        // By hand: at 10 s one of four is evicted (.75); at 20 s one is stopped; at 30 s one of two is evicted (.375).
        let lives = vec![(30.0, true), (10.0, true), (20.0, false), (90_000.0, false)];
        let lifetime = Lifetime::kaplan_meier(lives);
        let known = [(0.0, 1.0), (10.0, 0.75), (30.0, 0.375), (DAY_S, 0.0)];
        assert_eq!(lifetime.survival, known);
        assert!((lifetime.survival(Span::seconds(20)) - (0.75_f64 * 0.375).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_month_has_the_share_of_interruptions_that_was_told() {
        let month = Span::seconds((30.4 * DAY_S) as u64);
        assert!((Lifetime::monthly(0.15).hazard(Span::ZERO, month) - 0.15).abs() < 1e-6);
    }
}
