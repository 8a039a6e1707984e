//! What a model is shown: one vector for the state, one for each option.
//!
//! **Knows:** the name, the meaning and the scale of each feature.
//! **Promises:** every feature becomes a finite number between 0 and 1, whatever comes in; the order of a [`FeatureSet`]
//! is the order in the vectors, and a model carries its names and its scales, so that it never sees other vectors than those
//! it was trained on. What is the same for all options of a decision is worked out and shown once.
//! **Gives up:** choosing among options; [`ModelChooser`](crate::ModelChooser) does.
//!
//! [`FREYR`] is Freyr's state (WWW'22): in-flight invocations, free CPU and memory, inter-arrival time, arrival rate, mean
//! peaks of CPU and memory, mean duration, the baseline, and the option itself. It is shown raw there, so that
//! milliseconds in the thousands stand beside cores below eight; here each has a scale. [`OURS`] adds what that lacks:
//! the size of the input and what is known of runs with such inputs and how surely, the VM where the invocation
//! would go first and how much it tends to shrink, how many wait, and how the option compares with all of it and with what `profile`
//! would book.

use policies::allocation::learned::Observation;
use vocabulary::Resources;

/// How a value becomes a number between 0 and 1: `ln(1 + value / one) / ln(1 + full / one)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Far below this, values are told apart by difference, far above it by ratio.
    pub one: f32,
    /// What becomes 1; more becomes 1 too.
    pub full: f32,
}

impl Scale {
    /// The value itself from 0 to the scale's end, which is nearer where it is beyond one of them. What is not a number is 0.
    pub fn cut(self, value: f32) -> f32 {
        // `max` returns the number where the other is none.
        value.max(0.0).min(self.full)
    }

    /// The value on this scale.
    pub fn of(self, value: f32) -> f32 {
        (self.cut(value) / self.one).ln_1p() / (self.full / self.one).ln_1p()
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    State(fn(&Observation) -> f32),
    /// Of all options, into a column of rows so wide that begins at the first value: one call for all of them.
    Option(fn(&Observation, &[Resources], Scale, &mut [f32], usize)),
}

/// One element of what a model is shown.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// How it is scaled.
    pub scale: Scale,
    source: Source,
}

const fn state(
    name: &'static str,
    meaning: &'static str,
    scale: Scale,
    of: fn(&Observation) -> f32,
) -> Feature {
    Feature { name, meaning, scale, source: Source::State(of) }
}

macro_rules! option {
    ($name:literal, $meaning:literal, $scale:expr, |$observation:pat_param, $option:ident| $value:expr) => {
        Feature {
            name: $name,
            meaning: $meaning,
            scale: $scale,
            source: Source::Option(|$observation, options, scale, rows, width| {
                for (row, $option) in rows.chunks_mut(width).zip(options) {
                    row[0] = scale.cut($value);
                }
            }),
        }
    };
}

/// 64 cores: what a large harvest VM offers. A single function's grant is far below, hence the ratio.
const CPU: Scale = Scale { one: 100.0, full: 64_000.0 };
/// 256 GiB, as [`CPU`].
const MEMORY: Scale = Scale { one: 64.0, full: 262_144.0 };
/// An hour: no invocation lasts longer.
const TIME: Scale = Scale { one: 1.0, full: 3_600_000.0 };
/// Things that are counted.
const COUNT: Scale = Scale { one: 1.0, full: 10_000.0 };
/// Parts of a whole, nearly as they are: a half is at 0.58.
const SHARE: Scale = Scale { one: 1.0, full: 1.0 };
/// One amount as a multiple of another: an eighth is near 0, the same is at 0.45, sixteen times is 1.
const RATIO: Scale = Scale { one: 0.125, full: 16.0 };

/// The highest bucket of input sizes: 1 GiB and more.
pub const INPUT_BUCKETS: u32 = 16;

/// Bucket of an argument's size: 0 for none, then one per factor of four: 1 up to 3 bytes, 2 up to 15, 8 up to 64 KiB.
pub fn input_bucket(bytes: u32) -> u32 {
    (u32::BITS - bytes.leading_zeros()).div_ceil(2).min(INPUT_BUCKETS)
}

fn ratio(part: u32, whole: u32) -> f32 {
    part as f32 / whole.max(1) as f32
}

fn ms(span: vocabulary::Span) -> f32 {
    span.as_micros() as f32 / 1e3
}

/// Ours, in order.
pub static OURS: FeatureSet = FeatureSet(&[
    state("in_flight", "Attempts that were sent out and have not ended", COUNT, |o| o.in_flight as f32),
    state("in_flight_of_function", "Of these, the function's", COUNT, |o| o.in_flight_of_function as f32),
    state("waiting", "Invocations that wait for a place", COUNT, |o| o.waiting as f32),
    state("fleet_cpu_millicores", "CPU of all VMs", Scale { one: 1_000.0, full: 1e7 }, |o| {
        o.fleet.capacity.cpu.0 as f32
    }),
    state("fleet_cpu_free", "Share of it that no booking holds", SHARE, |o| {
        ratio(o.fleet.free.cpu.0, o.fleet.capacity.cpu.0)
    }),
    state("fleet_memory_free", "Share of all memory that no booking holds", SHARE, |o| {
        ratio(o.fleet.free.memory.0, o.fleet.capacity.memory.0)
    }),
    state("home_cpu_millicores", "CPU of the VM where it would go first", CPU, |o| {
        o.home.capacity.cpu.0 as f32
    }),
    state("home_free_cpu_millicores", "CPU there that no booking holds", CPU, |o| {
        o.home.headroom.cpu.0 as f32
    }),
    state("home_free_memory_mebibytes", "Memory there that no booking holds", MEMORY, |o| {
        o.home.headroom.memory.0 as f32
    }),
    state("home_shrink_per_minute", "Share of its CPU that it tends to lose in a minute", SHARE, |o| {
        o.home.shrink_per_minute as f32 / 1e3
    }),
    state(
        "arrivals_milli_hz",
        "Invocations of the function per second, in thousandths",
        Scale { one: 1.0, full: 1e7 },
        |o| o.rate_milli_hz as f32,
    ),
    state("input_bucket", "Size of the argument, a bucket for each factor of four", INPUT, |o| {
        input_bucket(o.input_bytes) as f32
    }),
    state("runs", "Runs with such inputs that were learned from", Scale { one: 1.0, full: 1_000.0 }, |o| {
        o.expected.runs as f32
    }),
    state("uncertainty", "How little is known", SHARE, |o| o.expected.uncertainty as f32 / 1e3),
    state("duration_ms", "Median length of such runs", TIME, |o| ms(o.expected.duration)),
    state("duration_spread", "Their 95th percentile over it", RATIO, |o| {
        ms(o.expected.duration_high) / ms(o.expected.duration).max(1e-3)
    }),
    state("cpu_mean_millicores", "Mean CPU of such runs", CPU, |o| o.expected.cpu_mean.0 as f32),
    state("cpu_median_millicores", "CPU that half of them want", CPU, |o| o.expected.cpu_median.0 as f32),
    state("cpu_high_millicores", "CPU that none of them wants more of", CPU, |o| {
        o.expected.cpu_high.0 as f32
    }),
    state("saturation_millicores", "More than this did not help nine of ten", CPU, |o| {
        o.expected.saturation.0 as f32
    }),
    state("memory_high_mebibytes", "The most memory that such runs held", MEMORY, |o| {
        o.expected.memory_high.0 as f32
    }),
    state("reserved_cpu_millicores", "CPU that the user asked for", CPU, |o| o.reservation.cpu.0 as f32),
    state("reserved_memory_mebibytes", "Memory that the user asked for", MEMORY, |o| {
        o.reservation.memory.0 as f32
    }),
    option!("option_cpu_millicores", "CPU of the option that is scored", CPU, |_, option| {
        option.cpu.0 as f32
    }),
    option!("option_memory_mebibytes", "Its memory", MEMORY, |_, option| option.memory.0 as f32),
    option!("option_cpu_of_reserved", "Its CPU over what the user asked for", RATIO, |o, option| {
        ratio(option.cpu.0, o.reservation.cpu.0)
    }),
    option!("option_cpu_of_high", "Its CPU over the most that such runs want", RATIO, |o, option| {
        ratio(option.cpu.0, o.expected.cpu_high.0)
    }),
    option!("option_memory_of_reserved", "Its memory over what the user asked for", SHARE, |o, option| {
        ratio(option.memory.0, o.reservation.memory.0)
    }),
    option!("option_cpu_of_free", "Its CPU over what is free where it would go first", RATIO, |o, option| {
        ratio(option.cpu.0, o.home.headroom.cpu.0)
    }),
    option!("option_fits", "1 where that VM has room for it, else 0", SHARE, |o, option| {
        if option.fits_in(o.home.headroom) { 1.0 } else { 0.0 }
    }),
    option!("option_cpu_of_profile", "Its CPU over what `profile` would book", RATIO, |o, option| {
        ratio(option.cpu.0, o.heuristic.cpu.0)
    }),
    option!("option_is_profile", "1 where `profile` would book just that, else 0", SHARE, |o, option| {
        if *option == o.heuristic { 1.0 } else { 0.0 }
    }),
]);

/// Buckets of input sizes, nearly as they are.
const INPUT: Scale = Scale { one: INPUT_BUCKETS as f32, full: INPUT_BUCKETS as f32 };

/// Freyr's eleven, in order.
pub static FREYR: FeatureSet = FeatureSet(&[
    state("in_flight", "Attempts that were sent out and have not ended", COUNT, |o| o.in_flight as f32),
    state("free_cpu_millicores", "CPU that no booking holds", Scale { one: 1_000.0, full: 1e7 }, |o| {
        o.fleet.free.cpu.0 as f32
    }),
    state("free_memory_mebibytes", "Memory that no booking holds", MEMORY, |o| o.fleet.free.memory.0 as f32),
    state("between_arrivals_ms", "Mean time between the function's last arrivals", TIME, |o| {
        1e6 / o.rate_milli_hz.max(1) as f32
    }),
    state("arrivals_milli_hz", "Arrivals per second, in thousandths", Scale { one: 1.0, full: 1e7 }, |o| {
        o.rate_milli_hz as f32
    }),
    state("cpu_peak_millicores", "The function's recent peak of CPU", CPU, |o| o.cpu_peak.0 as f32),
    state("memory_peak_mebibytes", "The function's recent peak of memory", MEMORY, |o| {
        o.memory_peak.0 as f32
    }),
    state("duration_ms", "The function's mean duration", TIME, |o| ms(o.duration)),
    state("baseline_ms", "Its duration with its whole reservation", TIME, |o| ms(o.baseline)),
    option!("option_cpu_millicores", "CPU of the option that is scored", CPU, |_, option| {
        option.cpu.0 as f32
    }),
    option!("option_memory_mebibytes", "Memory of the option that is scored", MEMORY, |_, option| {
        option.memory.0 as f32
    }),
]);

/// The features of a model. What belongs to an option stands behind what is the same for all.
#[derive(Debug)]
pub struct FeatureSet(&'static [Feature]);

impl FeatureSet {
    /// In order.
    pub fn all(&self) -> &'static [Feature] {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names and scales.
    pub fn columns(&self) -> Columns {
        let is_state = |feature: &&Feature| matches!(feature.source, Source::State(_));
        let column = |feature: &Feature| Column { name: feature.name, scale: feature.scale };
        Columns {
            of_state: self.0.iter().take_while(is_state).map(column).collect(),
            of_option: self.0.iter().skip_while(is_state).map(column).collect(),
        }
    }

    /// What a model of these features is shown, instead of what was in `into`: values as they are, cut off where their scales end.
    pub fn show(&self, observation: &Observation, options: &[Resources], into: &mut Shown) {
        into.state.clear();
        into.options.clear();
        for feature in self.0 {
            let Source::State(of) = feature.source else { break };
            into.state.push(feature.scale.cut(of(observation)));
        }
        let of_option = &self.0[into.state.len()..];
        into.options.resize(options.len() * of_option.len(), 0.0);
        for (column, feature) in of_option.iter().enumerate() {
            let Source::Option(of) = feature.source else { continue };
            if let Some(rows) = into.options.get_mut(column..) {
                of(observation, options, feature.scale, rows, of_option.len());
            }
        }
    }
}

/// What a model is shown for one decision, values as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// What is the same for all options.
    pub state: Vec<f32>,
    /// What belongs to each, one option after another.
    pub options: Vec<f32>,
}

/// One feature, to who does not know where its values come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its scale.
    pub scale: Scale,
}

/// The features of a model, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Of what is the same for all options of a decision.
    pub of_state: Vec<Column>,
    /// Of what belongs to an option.
    pub of_option: Vec<Column>,
}

impl Columns {
    /// Their names, the state's before an option's.
    pub fn names(&self) -> Vec<&'static str> {
        self.of_state.iter().chain(&self.of_option).map(|column| column.name).collect()
    }

    /// On their scales, for a network that is no model yet: for each option the state and what belongs to it, one after another.
    pub fn scaled(&self, shown: &Shown) -> Vec<f32> {
        let scaled = |(value, column): (&f32, &Column)| column.scale.of(*value);
        let state: Vec<f32> = shown.state.iter().zip(&self.of_state).map(scaled).collect();
        let width = self.of_option.len();
        let mut rows = Vec::with_capacity(shown.options.len() / width.max(1) * (state.len() + width));
        for option in shown.options.chunks_exact(width.max(1)) {
            rows.extend_from_slice(&state);
            rows.extend(option.iter().zip(&self.of_option).map(scaled));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use policies::allocation::{Fleet, Home};
    use policies::profile::Profile;
    use vocabulary::{MilliCores, Span, Usage};

    use super::*;

    fn observation() -> Observation {
        let mut profile = Profile::default();
        let usage = Usage { cpu_peak: MilliCores(1_500), ..Usage::default() };
        profile.ended_with(100, Span::millis(300), None, usage);
        let fleet = Fleet { capacity: Resources::new(80_000, 1_000), free: Resources::new(20_000, 500) };
        let home = Home {
            capacity: Resources::new(8_000, 100),
            headroom: Resources::new(3_000, 50),
            shrink_per_minute: 7,
        };
        let reservation = Resources::new(4_000, 512);
        let request = policies::allocation::Request {
            fleet,
            home: Some(home),
            input_bytes: 100,
            ..policies::allocation::Request::new(reservation, &profile)
        };
        Observation {
            heuristic: Resources::new(1_500, 256),
            ..Observation::of(&request, profile.expect(100).unwrap())
        }
    }

    #[test]
    fn every_value_becomes_a_number_between_nought_and_one() {
        for feature in OURS.all().iter().chain(FREYR.all()) {
            for value in [f32::NAN, f32::NEG_INFINITY, -1.0, 0.0, 1.0, 1e9, f32::MAX, f32::INFINITY] {
                let scaled = feature.scale.of(value);
                assert!((0.0..=1.0).contains(&scaled), "{} of {value} is {scaled}", feature.name);
            }
            assert_eq!(feature.scale.of(0.0), 0.0, "{}", feature.name);
        }
    }

    #[test]
    fn more_is_never_shown_as_less() {
        for feature in OURS.all().iter().chain(FREYR.all()) {
            let shown: Vec<f32> = (0..40).map(|power| feature.scale.of(1.5f32.powi(power))).collect();
            assert!(shown.is_sorted(), "{}", feature.name);
        }
        assert_eq!(CPU.of(64_000.0), 1.0);
        assert!(CPU.of(8_000.0) - CPU.of(1_000.0) > 0.25, "grants of a function must be told apart");
    }

    #[test]
    fn names_differ_and_can_be_listed_with_commas() {
        for set in [&OURS, &FREYR] {
            let mut names = set.columns().names();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), set.len());
            assert!(
                names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            );
        }
        assert_eq!(FREYR.len(), 11, "as many as were run");
    }

    #[test]
    fn a_model_is_shown_the_state_once_and_each_option() {
        let options = [Resources::new(1_000, 512), Resources::new(4_000, 512), Resources::new(8_000, 128)];
        for set in [&OURS, &FREYR] {
            let mut shown = Shown { state: vec![1.0; 5], options: vec![1.0; 7] };
            set.show(&observation(), &options, &mut shown);
            let columns = set.columns();
            assert_eq!(columns.names().len(), set.len());
            assert_eq!(shown.state.len(), columns.of_state.len());
            assert_eq!(shown.options.len(), options.len() * columns.of_option.len());
            let rows: Vec<&[f32]> = shown.options.chunks(columns.of_option.len()).collect();
            assert!(rows[0] != rows[1] && rows[1] != rows[2]);
            let scaled = columns.scaled(&shown);
            assert_eq!(scaled.len(), options.len() * set.len());
            for (row, option) in scaled.chunks(set.len()).zip(rows) {
                let values = shown.state.iter().chain(option);
                let expected: Vec<f32> =
                    values.zip(set.all()).map(|(value, feature)| feature.scale.of(*value)).collect();
                assert_eq!(row, expected);
            }
        }
        let mut shown = Shown::default();
        OURS.show(&observation(), &options, &mut shown);
        let columns = OURS.columns().of_option;
        let fits = columns.iter().position(|column| column.name == "option_fits").unwrap();
        assert!(
            shown.options.chunks(columns.len()).all(|row| row[fits] == 0.0),
            "none leaves memory for itself"
        );
    }

    #[test]
    fn what_is_shown_ends_where_its_scale_does() {
        let mut observation = observation();
        observation.fleet.capacity.cpu = MilliCores(u32::MAX);
        let mut shown = Shown::default();
        OURS.show(&observation, &[Resources::new(u32::MAX, 1)], &mut shown);
        let columns = OURS.columns();
        let both = [(&shown.state, &columns.of_state), (&shown.options, &columns.of_option)];
        for (values, columns) in both {
            for (value, column) in values.iter().zip(columns) {
                assert!((0.0..=column.scale.full).contains(value), "{} is {value}", column.name);
            }
        }
        assert_eq!(shown.state[3], 1e7);
    }

    #[test]
    fn a_bucket_is_a_factor_of_four() {
        let buckets = [0, 1, 3, 4, 15, 16, 1 << 16, u32::MAX].map(input_bucket);
        assert_eq!(buckets, [0, 1, 1, 2, 2, 3, 9, 16]);
    }
}
