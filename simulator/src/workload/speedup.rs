//! What more cores do for a call: nothing for its waiting, all for its computing, up to a point.
//!
//! **Knows:** six real functions, 70 inputs, run 83,872 times at 167 to 3,000 millicores ("rethinking serverless" data set,
//! `profiles/rethinking_serverless_summary`), as constants fitted to them.
//! **Promises:** `time(c) = waiting + cpu / min(c, saturation)`. Fitted to each input, the model is off by 1.9 % of the measured time
//! (root mean square over the sizes, median over the inputs; 13 % at most). The constants here, one set for each function, are
//! off by 3.7 % in the median, and by up to 34 % for the shortest inputs, of whose time more is waiting. `tests/traces.rs` fits
//! again and prints each.
//! **Gives up:** efficiency below one before saturation. Where it was measured (`transcode`, up to three cores) it is above 0.95.

use vocabulary::MilliCores;

/// The speed-up of one function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speedup {
    /// Which function.
    pub function: &'static str,
    /// Share of its time at one core that no core shortens, at its median input.
    pub io_share: f64,
    /// More CPU than this is of no use to an input that takes a second on one core.
    pub saturation: MilliCores,
    /// That much more for each input that takes e times as long: pages of a document are read beside each other, the lines of
    /// a snapshot are not.
    pub per_fold: MilliCores,
}

/// Fitted to six functions. Two of the six gain from more than one core.
pub const MEASURED: [Speedup; 6] = [
    speedup("linpack", 0.02, 1000, 0),
    speedup("openfaas-ocr", 0.17, 950, 230),
    speedup("pigo-face-detector", 0.20, 950, 0),
    speedup("pigo-faceblur", 0.20, 950, 0),
    speedup("s3", 0.64, 870, 0),
    speedup("transcode", 0.04, 2900, 0),
];

const fn speedup(function: &'static str, io_share: f64, saturation: u32, per_fold: u32) -> Speedup {
    Speedup { function, io_share, saturation: MilliCores(saturation), per_fold: MilliCores(per_fold) }
}

/// What the longest of inputs may use; nothing larger was measured.
const MOST: MilliCores = MilliCores(3000);

impl Speedup {
    /// Beyond this, cores are of no use to an input that takes so long on one core.
    pub fn saturation_at(&self, seconds: f64) -> MilliCores {
        let folds = seconds.max(1.0).ln();
        let more = MilliCores((f64::from(self.per_fold.0) * folds) as u32);
        (self.saturation + more).min(MOST.max(self.saturation))
    }

    /// How long such an input takes with `cores`, as a multiple of what it takes with one.
    pub fn relative_time(&self, seconds: f64, cores: f64) -> f64 {
        let saturation = f64::from(self.saturation_at(seconds).0) / 1000.0;
        relative_time(self.io_share, saturation, cores)
    }
}

/// The model: time with `cores` over time with one.
fn relative_time(io_share: f64, saturation: f64, cores: f64) -> f64 {
    io_share + (1.0 - io_share) * saturation.min(1.0) / cores.min(saturation)
}

/// What [`fit`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Share of the time at one core that no core shortens.
    pub io_share: f64,
    /// In cores.
    pub saturation: f64,
    /// Root mean square of the relative error.
    pub error: f64,
}

/// Fits the model to (cores, time as a multiple of the time with one core): least squares of relative errors, on a grid.
pub fn fit(points: &[(f64, f64)]) -> Fit {
    let mut best = Fit { io_share: 0.0, saturation: 1.0, error: f64::INFINITY };
    for (saturation, io_share) in (10..=160).flat_map(|s| (0..50).map(move |io| (s, io))) {
        let (saturation, io_share) = (f64::from(saturation) / 40.0, f64::from(io_share) / 50.0);
        let error = error_of(points, |cores| relative_time(io_share, saturation, cores));
        if error < best.error - 1e-9 {
            best = Fit { io_share, saturation, error };
        }
    }
    best
}

/// Root mean square of how far a model is off, as a share of what was measured.
pub fn error_of(points: &[(f64, f64)], model: impl Fn(f64) -> f64) -> f64 {
    let squares: f64 = points.iter().map(|&(cores, time)| (model(cores) / time - 1.0).powi(2)).sum();
    (squares / points.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_finds_what_made_the_points() {
        for (io_share, saturation) in [(0.0, 1.0), (0.6, 0.9), (0.04, 2.5)] {
            let cores = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0];
            let points = cores.map(|cores| (cores, relative_time(io_share, saturation, cores)));
            let found = fit(&points);
            assert!((found.io_share - io_share).abs() < 0.011, "{found:?}");
            assert!((found.saturation - saturation).abs() < 0.026, "{found:?}");
        }
    }

    #[test]
    fn one_core_is_one_and_more_is_never_slower() {
        for speedup in MEASURED {
            for seconds in [0.1, 1.0, 20.0, 500.0] {
                assert!((speedup.relative_time(seconds, 1.0) - 1.0).abs() < 1e-9);
                assert!(speedup.relative_time(seconds, 0.25) > 1.5);
                assert!(speedup.relative_time(seconds, 4.0) <= speedup.relative_time(seconds, 2.0));
            }
        }
        assert!(MEASURED[1].saturation_at(20.0) > MEASURED[1].saturation_at(1.0));
    }
}
