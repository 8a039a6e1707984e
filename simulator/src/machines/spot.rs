//! Spot VMs as a provider sells them: with a saving, and a share that is interrupted within a month.
//!
//! **Knows:** AWS's spot advisor: a row for each type of VM in each region.
//! **Promises:** a band of interruptions is taken at its middle.
//! **Gives up:** where within its band a type is, and what happens within a day.

use std::path::Path;

use vocabulary::{Moment, Span};

use super::{Fleet, Harvest, Lifetime, purpose};
use crate::chance::{Chance, Weighted};
use crate::workload::TraceError;
use crate::workload::table::Table;

/// What is on offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Spot {
    /// (share interrupted within a month, share of the offers that are so)
    bands: Vec<(f64, f64)>,
    /// Half of the offers save less, as a share of the regular price.
    pub saving: f64,
}

/// Told as, taken as. The highest band has no end; a quarter is assumed.
const BANDS: [(&str, f64); 5] =
    [("<5%", 0.025), ("5-10%", 0.075), ("10-15%", 0.125), ("15-20%", 0.175), (">20%", 0.25)];

impl Spot {
    /// As published in June 2025: shares of 14,962 offers; the median saves 65 %.
    pub fn published() -> Self {
        let shares = [0.216, 0.193, 0.135, 0.125, 0.329];
        let bands = BANDS.iter().zip(shares).map(|(&(_, monthly), share)| (monthly, share));
        Self { bands: bands.collect(), saving: 0.65 }
    }

    /// Reads the advisor's table.
    pub fn read(file: &Path) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let band = table.column(&["interruption_monthly"])?;
        let saving = table.column(&["savings_pct"])?;
        let (mut counts, mut savings) = ([0.0; BANDS.len()], Vec::new());
        while let Some(row) = table.next_row()? {
            let Some(at) = BANDS.iter().position(|&(name, _)| name == row.text(band)) else {
                let advice = "it should be one of <5%, 5-10%, 10-15%, 15-20%, >20%";
                return Err(row.refused(band, "is no band of interruptions", advice));
            };
            counts[at] += 1.0;
            // Some cost more as spot VMs than as regular ones.
            let saved = row.signed(saving)?;
            if saved > 100.0 {
                return Err(row.refused(saving, "is more than all", "it should be a percentage"));
            }
            savings.push(saved / 100.0);
        }
        savings.sort_by(f64::total_cmp);
        let bands =
            BANDS.iter().zip(counts).map(|(&(_, monthly), count)| (monthly, count / savings.len() as f64));
        Ok(Self { bands: bands.collect(), saving: savings[savings.len() / 2] })
    }

    /// The share of all offers that is interrupted within a month.
    pub fn monthly(&self) -> f64 {
        self.bands.iter().map(|&(monthly, share)| monthly * share).sum()
    }

    /// `count` VMs of `cores` cores, each of an offer by chance, told two minutes before; more are as the average offer.
    pub fn fleet(&self, count: u32, cores: f64, until: Moment, rate: f64, seed: u64) -> Fleet {
        let weighted = Weighted::new(&self.bands.iter().map(|&(_, share)| share).collect::<Vec<_>>());
        let model = |monthly: f64| Harvest {
            lifetime: Lifetime::monthly(monthly).times(rate),
            notice: Span::seconds(120),
            changes: 0.0,
            mean_cores: cores,
            spread: 0.0,
            until,
            ..Harvest::default()
        };
        let mut given = Vec::new();
        for number in 0..u64::from(count) {
            let mut chance = Chance::one_of_many(seed, purpose::GIVEN, number);
            let (monthly, _) = self.bands[weighted.pick(&mut chance)];
            given.push(model(monthly).vm(Moment::ORIGIN, Span::ZERO, &mut chance));
        }
        let note = format!(
            "{count} spot VMs of {cores} cores: {:.0} % interrupted within a month, times {rate}; notice 120 s; the median saves {:.0} %",
            self.monthly() * 100.0,
            self.saving * 100.0
        );
        Fleet::new(given, model(self.monthly()).launches(seed), vec![note])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Machines;

    #[test]
    fn as_many_are_interrupted_within_a_month_as_the_offers_say() {
        let (spot, month) = (Spot::published(), Span::seconds(86_400 * 304 / 10));
        let mut fleet = spot.fleet(20_000, 8.0, Moment::ORIGIN + month, 1.0, 1);
        let plans = fleet.given();
        let gone = plans.iter().filter(|plan| plan.gone.is_some()).count() as f64 / plans.len() as f64;
        assert!((gone - spot.monthly()).abs() < 0.01, "{gone} for {}", spot.monthly());
        assert!(plans.iter().all(|plan| plan.changes.is_empty() && plan.size.cpu.0 == 8000));
    }
}
