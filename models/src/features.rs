//! What the learned allocator is shown: one vector per option.
//!
//! **Knows:** the name, the meaning and the scale of each feature.
//! **Promises:** every feature becomes a finite number between 0 and 1, whatever comes in; the order of [`FEATURES`]
//! is the order in the vector, and a model carries their names, so that it never sees another vector than the one it
//! was trained on.
//! **Gives up:** choosing them. Where the values come from, and who decides on the scores, is the allocator's business.
//!
//! The state is Freyr's (WWW'22): in-flight invocations, free CPU and memory, inter-arrival time, arrival rate, mean
//! peaks of CPU and memory, mean duration, the baseline, and the option itself. It is shown raw there, so that
//! milliseconds in the thousands stand beside cores below eight; here each has a scale. Added: the input's size, on
//! which duration and peaks of many functions depend, the reservation, which the option is to be compared with, and
//! whether the start will be cold.

/// How a value becomes a number between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// `value / full`, for what is compared by difference.
    Linear {
        /// What becomes 1; more becomes 1 too.
        full: f32,
    },
    /// `ln(1 + value / one) / ln(1 + full / one)`, for what is compared by ratio.
    Logarithmic {
        /// Below this it is nearly linear.
        one: f32,
        /// What becomes 1; more becomes 1 too.
        full: f32,
    },
}

impl Scale {
    /// The value on this scale. Below zero, and what is not a number, becomes 0; beyond the end becomes 1.
    pub fn of(self, value: f32) -> f32 {
        // `max` returns the number where the other is none.
        let value = value.max(0.0);
        let scaled = match self {
            Scale::Linear { full } => value / full,
            Scale::Logarithmic { one, full } => (value / one).ln_1p() / (full / one).ln_1p(),
        };
        scaled.min(1.0)
    }
}

/// One element of the vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feature {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// How it is scaled.
    pub scale: Scale,
}

const fn feature(name: &'static str, meaning: &'static str, scale: Scale) -> Feature {
    Feature { name, meaning, scale }
}

/// 64 cores: what a large harvest VM offers. A single function's grant is far below, hence the ratio.
const CPU: Scale = Scale::Logarithmic { one: 100.0, full: 64_000.0 };
/// 256 GiB, as [`CPU`].
const MEMORY: Scale = Scale::Logarithmic { one: 64.0, full: 262_144.0 };
/// An hour: no invocation lasts longer.
const TIME: Scale = Scale::Logarithmic { one: 1.0, full: 3_600_000.0 };

/// The vector, in order.
pub const FEATURES: [Feature; 16] = [
    feature(
        "in_flight",
        "Invocations that are running or waiting",
        Scale::Logarithmic { one: 1.0, full: 10_000.0 },
    ),
    feature("free_cpu_millicores", "CPU that no booking holds, where it may run", CPU),
    feature("free_memory_mebibytes", "Memory that no booking holds, where it may run", MEMORY),
    feature("between_arrivals_ms", "Mean time between the function's last arrivals", TIME),
    feature(
        "arrivals_milli_hz",
        "Arrivals per second, in thousandths",
        Scale::Logarithmic { one: 1.0, full: 10_000_000.0 },
    ),
    feature("cpu_peak_millicores", "The function's recent peak of CPU", CPU),
    feature("memory_peak_mebibytes", "The function's recent peak of memory", MEMORY),
    feature("duration_ms", "The function's mean duration", TIME),
    feature("baseline_ms", "Its duration with its whole reservation", TIME),
    feature(
        "input_bucket",
        "Size of the argument, see input_bucket",
        Scale::Linear { full: INPUT_BUCKETS as f32 },
    ),
    feature("runs", "How many runs were learned from", Scale::Logarithmic { one: 1.0, full: 1_000.0 }),
    feature("is_cold", "1 where no idle sandbox waits, else 0", Scale::Linear { full: 1.0 }),
    feature("reserved_cpu_millicores", "CPU that the user asked for", CPU),
    feature("reserved_memory_mebibytes", "Memory that the user asked for", MEMORY),
    feature("option_cpu_millicores", "CPU of the option that is scored", CPU),
    feature("option_memory_mebibytes", "Memory of the option that is scored", MEMORY),
];

/// The highest bucket of input sizes: 1 GiB and more.
pub const INPUT_BUCKETS: u32 = 16;

/// Bucket of an argument's size: 0 for none, then one per factor of four: 1 up to 3 bytes, 2 up to 15, 8 up to 64 KiB.
pub fn input_bucket(bytes: u32) -> u32 {
    (u32::BITS - bytes.leading_zeros()).div_ceil(2).min(INPUT_BUCKETS)
}

/// The names, in order, as [`crate::Scorer::load`] takes them.
pub fn names() -> [&'static str; FEATURES.len()] {
    FEATURES.map(|feature| feature.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_becomes_a_number_between_nought_and_one() {
        for feature in FEATURES {
            for value in [f32::NAN, f32::NEG_INFINITY, -1.0, 0.0, 1.0, 1e9, f32::MAX, f32::INFINITY] {
                let scaled = feature.scale.of(value);
                assert!((0.0..=1.0).contains(&scaled), "{} of {value} is {scaled}", feature.name);
            }
            assert_eq!(feature.scale.of(0.0), 0.0, "{}", feature.name);
        }
    }

    #[test]
    fn more_is_never_shown_as_less() {
        for feature in FEATURES {
            let shown: Vec<f32> = (0..40).map(|power| feature.scale.of(1.5f32.powi(power))).collect();
            assert!(shown.is_sorted(), "{}", feature.name);
        }
        assert_eq!(CPU.of(64_000.0), 1.0);
        assert!(CPU.of(8_000.0) - CPU.of(1_000.0) > 0.25, "grants of a function must be told apart");
    }

    #[test]
    fn names_differ_and_can_be_listed_with_commas() {
        let mut names = names().to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    #[test]
    fn a_bucket_is_a_factor_of_four() {
        let buckets = [0, 1, 3, 4, 15, 16, 1 << 16, u32::MAX].map(input_bucket);
        assert_eq!(buckets, [0, 1, 1, 2, 2, 3, 9, 16]);
    }
}
