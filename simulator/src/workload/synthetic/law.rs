//! How long invocations take: the published distribution, shared out between applications.
//!
//! **Knows:** SOSP'21's characterisation of the trace that it calls `F_Small`.
//! **Promises:** over all invocations the published distribution comes out exactly, whatever the popularity of the functions: functions
//! tile the distribution by their share of the invocations, instead of each drawing its own at random, where the few most
//! popular would decide what everybody sees.
//! **Gives up:** how one function's durations are spread, of which nothing is published.

/// (share of invocations, at most so many seconds), from the paper's figure 6. Up to here they are short.
const SHORT: [(f64, f64); 6] =
    [(0.0, 5e-5), (0.33, 1e-3), (0.50, 35e-3), (0.62, 0.1), (0.88, 1.0), (SHORT_SHARE, LONG_FROM_S)];
/// Shorter than 30 s: 4.1 % are longer.
pub const SHORT_SHARE: f64 = 0.959;
/// From here on an invocation is long: it does not end within the notice of an eviction.
pub const LONG_FROM_S: f64 = 30.0;
/// The longest that the trace's platform allows is of this order; the paper's figure ends there.
const LONGEST_S: f64 = 3_600.0;
/// Of all execution time, in long invocations.
pub const LONG_TIME: f64 = 0.820;
/// Of all execution time, in applications that have a long invocation.
pub const LONG_APPS_TIME: f64 = 0.997;
/// Of all applications, those that have a long invocation.
pub const LONG_APPS: f64 = 0.487;

/// The distribution, and how it is shared out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Law {
    /// Exponent of the long ones (Pareto, cut at the longest).
    alpha: f64,
    /// Share of invocations in applications that have no long one...
    short_apps: f64,
    /// ...which are all below this quantile.
    short_below: f64,
}

impl Law {
    /// When applications without a long invocation have this share of the invocations.
    pub fn new(short_apps: f64) -> Self {
        let short_time = seconds_below(SHORT_SHARE);
        let long_time = short_time * LONG_TIME / (1.0 - LONG_TIME);
        let mean = long_time / (1.0 - SHORT_SHARE);
        // The mean falls as the exponent grows.
        let alpha = bisect(0.05, 8.0, |alpha| mean_of_long(alpha) - mean);
        let theirs = (1.0 - LONG_APPS_TIME) * (short_time + long_time);
        let short_below =
            bisect(SHORT_SHARE, short_apps, |below| short_apps * seconds_below(below) / below - theirs);
        Self { alpha, short_apps, short_below: short_below.max(short_apps) }
    }

    /// A duration in an application that has no long ones; `at` is evenly spread from 0 to 1.
    pub fn of_short_app(&self, at: f64) -> f64 {
        quantile(at * self.short_below)
    }

    /// A short duration in an application that has long ones.
    pub fn short_of_long_app(&self, at: f64) -> f64 {
        let at = at * (SHORT_SHARE - self.short_apps);
        let left_below = self.short_below - self.short_apps;
        if at < left_below {
            return quantile(at * self.short_below / left_below);
        }
        quantile(self.short_below + (at - left_below))
    }

    /// A long one.
    pub fn long(&self, at: f64) -> f64 {
        let cut = 1.0 - (LONG_FROM_S / LONGEST_S).powf(self.alpha);
        LONG_FROM_S * (1.0 - at * cut).powf(-1.0 / self.alpha)
    }
}

fn mean_of_long(alpha: f64) -> f64 {
    let ratio = LONG_FROM_S / LONGEST_S;
    if (alpha - 1.0).abs() < 1e-6 {
        return LONG_FROM_S * -ratio.ln() / (1.0 - ratio);
    }
    alpha / (alpha - 1.0) * LONG_FROM_S * (1.0 - ratio.powf(alpha - 1.0)) / (1.0 - ratio.powf(alpha))
}

/// Seconds at a share of all invocations, between the published points even in the logarithm.
fn quantile(share: f64) -> f64 {
    let after = SHORT.partition_point(|&(known, _)| known < share).clamp(1, SHORT.len() - 1);
    let ((below, low), (above, high)) = (SHORT[after - 1], SHORT[after]);
    low * (high / low).powf(((share - below) / (above - below)).min(1.0))
}

/// The mean, times their share, of those below a share.
fn seconds_below(share: f64) -> f64 {
    let mut sum = 0.0;
    for pair in SHORT.windows(2) {
        let ((below, low), above) = (pair[0], pair[1].0.min(share));
        if above > below {
            let high = quantile(above);
            sum += (above - below) * (high - low) / (high / low).ln();
        }
    }
    sum
}

/// Where a function that is positive at `positive` and negative at `negative` is 0.
pub(super) fn bisect(mut positive: f64, mut negative: f64, of: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..80 {
        let middle = f64::midpoint(positive, negative);
        if of(middle) > 0.0 { positive = middle } else { negative = middle }
    }
    f64::midpoint(positive, negative)
}

/// The standard normal distribution's quantile (Acklam 2003; relative error below 1.2e-9).
pub(super) fn normal_quantile(share: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    let tail = |share: f64| {
        let q = (-2.0 * share.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if share < 0.02425 {
        tail(share)
    } else if share > 1.0 - 0.02425 {
        -tail(1.0 - share)
    } else {
        let q = share - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_kinds_of_applications_together_are_the_published_distribution() {
        let (law, steps) = (Law::new(0.4), 100_000);
        let share_below = |seconds: f64, of: &dyn Fn(f64) -> f64| {
            (0..steps).filter(|&at| of((f64::from(at) + 0.5) / f64::from(steps)) <= seconds).count() as f64
                / f64::from(steps)
        };
        for (share, seconds) in SHORT.into_iter().skip(1) {
            let both = 0.4 * share_below(seconds, &|at| law.of_short_app(at))
                + (SHORT_SHARE - 0.4) * share_below(seconds, &|at| law.short_of_long_app(at));
            assert!((both - share).abs() < 1e-3, "{both} for {share}");
        }
        let mean = |of: &dyn Fn(f64) -> f64| {
            (0..steps).map(|at| of((f64::from(at) + 0.5) / f64::from(steps))).sum::<f64>() / f64::from(steps)
        };
        let theirs = 0.4 * mean(&|at| law.of_short_app(at));
        let short = (SHORT_SHARE - 0.4) * mean(&|at| law.short_of_long_app(at));
        let long = (1.0 - SHORT_SHARE) * mean(&|at| law.long(at));
        assert!((long / (long + short + theirs) - LONG_TIME).abs() < 2e-3);
        assert!((theirs / (long + short + theirs) - (1.0 - LONG_APPS_TIME)).abs() < 1e-4);
        assert!(law.long(0.0) >= 29.99 && law.long(1.0) <= 3_600.01);
    }

    #[test]
    fn the_normal_quantile_is_the_one_in_the_books() {
        for (share, z) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.001, -3.090_232_306), (0.84, 0.994_457_883)]
        {
            assert!((normal_quantile(share) - z).abs() < 1e-7, "{share}");
        }
    }
}
