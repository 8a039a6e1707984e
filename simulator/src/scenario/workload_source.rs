//! `[workload]` of a scenario: which functions, and who calls them.
//!
//! **Knows:** the names of what `workload` can load or make.
//! **Promises:** a value that makes no sense is said with its field and what it should be; a file is looked for in the folder of
//! traces, unless its path is a whole one.
//! **Gives up:** more than one workload in a scenario.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vocabulary::{MilliCores, Span};

use super::{ScenarioError, one_of, within};
use crate::workload::{
    Assumptions, Azure2019, CpuNeed, Events, Freyr, Reserved, Selection, SospMix, Subset, Synthetic,
    WORK_SCALE, Wait, Workload,
};

/// Which functions, and who calls them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WorkloadSource {
    /// Azure's tables of 2019.
    Azure2019(Traced),
    /// A file of events.
    Events(Traced),
    /// Azure's format of 2021.
    Azure2021(Traced),
    /// Freyr's test.
    Freyr(FreyrSource),
    /// SOSP'21's mix, called by users who think.
    SospMix(SospMixSource),
    /// By chance, as published.
    Synthetic(SyntheticSource),
}

/// A trace, and what is played of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traced {
    /// Tables of 2019: `s500` stands for `functions/azure2019_s500_functions.csv.gz` and its counts.
    pub sample: Option<String>,
    /// The others: the file.
    pub file: Option<PathBuf>,
    /// From the first up to, but not including, the second minute of the trace.
    pub minutes: Option<[u32; 2]>,
    /// Functions that have a 1 in this column.
    pub marked: Option<String>,
    /// So many that are called most.
    pub most_called: Option<usize>,
    /// So many by chance, with the scenario's seed.
    pub chosen: Option<usize>,
    /// Calls per call of the trace.
    #[serde(default = "one")]
    pub rate: f64,
    /// No function has more calls in a minute.
    pub per_minute_max: Option<u32>,
    /// No more calls in all.
    pub calls_max: Option<u64>,
    /// What of a duration is CPU: `busy-loop` or `six-measured`.
    #[serde(default = "busy_loop")]
    pub cpu: String,
    /// What every user asked for.
    #[serde(default = "core")]
    pub reserved_millicores: u32,
}

/// Freyr's test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreyrSource {
    /// The table of arrivals.
    #[serde(default = "freyr_file")]
    pub file: PathBuf,
    /// Whose reservations: `paper` or `code`.
    #[serde(default = "paper")]
    pub reserved: String,
    /// Spread of the inputs; 0: always the same, as released.
    #[serde(default)]
    pub input_sigma: f64,
}

/// SOSP'21's mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SospMixSource {
    /// How many people.
    pub users: u32,
    /// What they think between two calls, on average.
    #[serde(default = "ten")]
    pub think_seconds: f64,
    /// Until when they wait: for the `answer`, or for `acceptance` as the released generator does.
    #[serde(default = "acceptance")]
    pub wait: String,
    /// Work, as a multiple of what profiles tell.
    #[serde(default = "work_scale")]
    pub work_scale: f64,
}

/// By chance, as published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSource {
    /// How many functions.
    pub functions: u32,
    /// In how many applications; 3.56 functions to one if not given.
    pub apps: Option<u32>,
    /// Calls a second of all of them.
    pub per_second: f64,
    /// Swing of the time of day.
    #[serde(default = "swing")]
    pub daily_swing: f64,
    /// What of a duration is CPU: `busy-loop` or `six-measured`.
    #[serde(default = "busy_loop")]
    pub cpu: String,
    /// What every user asked for.
    #[serde(default = "core")]
    pub reserved_millicores: u32,
}

fn one() -> f64 {
    1.0
}

fn ten() -> f64 {
    10.0
}

fn swing() -> f64 {
    0.3
}

fn core() -> u32 {
    1000
}

fn work_scale() -> f64 {
    WORK_SCALE
}

fn busy_loop() -> String {
    "busy-loop".to_owned()
}

fn acceptance() -> String {
    "acceptance".to_owned()
}

fn paper() -> String {
    "paper".to_owned()
}

fn freyr_file() -> PathBuf {
    PathBuf::from("functions/azure2019_freyr10_invocations_per_min.csv")
}

/// A file in the folder of traces.
pub(super) fn found(traces: Option<&Path>, field: &str, file: &Path) -> Result<PathBuf, ScenarioError> {
    match traces {
        _ if file.is_absolute() => Ok(file.to_owned()),
        Some(folder) => Ok(folder.join(file)),
        None => Err(ScenarioError::Senseless {
            field: field.to_owned(),
            value: file.display().to_string(),
            expected: "a whole path, as long as nobody says where the folder of traces is (WINDFALL_TRACES)"
                .to_owned(),
        }),
    }
}

fn missing(field: &str, expected: &str) -> ScenarioError {
    ScenarioError::Senseless {
        field: field.to_owned(),
        value: "not given".to_owned(),
        expected: expected.to_owned(),
    }
}

impl WorkloadSource {
    /// Whether its values make sense, files apart.
    pub fn check(&self) -> Result<(), ScenarioError> {
        match self {
            Self::Azure2019(traced) => {
                traced.sample.as_ref().ok_or_else(|| missing("workload.sample", "a sample, such as s500"))?;
                traced.check()
            }
            Self::Events(traced) | Self::Azure2021(traced) => {
                traced.file.as_ref().ok_or_else(|| missing("workload.file", "a file"))?;
                traced.check()
            }
            Self::Freyr(freyr) => {
                one_of("workload.reserved", &freyr.reserved, &["paper", "code"])?;
                within("workload.input_sigma", freyr.input_sigma, 0.0, 3.0)
            }
            Self::SospMix(mix) => {
                one_of("workload.wait", &mix.wait, &["answer", "acceptance"])?;
                within("workload.users", mix.users.into(), 1.0, 1e6)?;
                within("workload.think_seconds", mix.think_seconds, 1e-3, 1e6)?;
                within("workload.work_scale", mix.work_scale, 1e-3, 1e3)
            }
            Self::Synthetic(synthetic) => {
                within("workload.functions", synthetic.functions.into(), 1.0, 1e7)?;
                within("workload.apps", synthetic.apps.unwrap_or(1).into(), 1.0, synthetic.functions.into())?;
                within("workload.per_second", synthetic.per_second, 1e-6, 1e6)?;
                within("workload.daily_swing", synthetic.daily_swing, 0.0, 1.0)?;
                one_of("workload.cpu", &synthetic.cpu, &CPU)?;
                within("workload.reserved_millicores", synthetic.reserved_millicores.into(), 1.0, 1e6)
            }
        }
    }

    /// The functions and the calls.
    pub fn workload(
        &self,
        traces: Option<&Path>,
        length: Span,
        begins: Span,
        seed: u64,
    ) -> Result<Workload, ScenarioError> {
        match self {
            Self::Azure2019(traced) => {
                let sample = traced.sample.as_deref().unwrap_or_default();
                let of = |what: &str| {
                    let path = PathBuf::from(format!("functions/azure2019_{sample}_{what}.csv.gz"));
                    found(traces, "workload.sample", &path)
                };
                let trace = Azure2019::read(&of("functions")?, &of("invocations_per_min")?)?;
                Ok(trace.workload(&traced.selection(begins, seed), &traced.assumptions(), seed)?)
            }
            Self::Events(traced) | Self::Azure2021(traced) => {
                let file = traced.file.as_deref().unwrap_or(Path::new(""));
                let file = found(traces, "workload.file", file)?;
                let is_events = matches!(self, Self::Events(_));
                let events = if is_events { Events::read(&file) } else { Events::read_azure2021(&file) }?;
                Ok(events.workload(&traced.selection(begins, seed), &traced.assumptions(), seed)?)
            }
            Self::Freyr(freyr) => {
                let reserved = if freyr.reserved == "code" { Reserved::Code } else { Reserved::Paper };
                let arrivals = Freyr::read(&found(traces, "workload.file", &freyr.file)?)?;
                Ok(arrivals.workload(reserved, freyr.input_sigma, begins, seed))
            }
            Self::SospMix(mix) => {
                let wait = if mix.wait == "answer" { Wait::ForAnswer } else { Wait::ForAcceptance };
                let think = Span((mix.think_seconds * 1e6) as u64);
                let work_scale = mix.work_scale;
                Ok(SospMix { users: mix.users, think, wait, begins, length, work_scale }.workload(seed))
            }
            Self::Synthetic(source) => {
                let mut synthetic = Synthetic::new(source.functions, source.per_second, length);
                synthetic.apps = source.apps.unwrap_or(synthetic.apps);
                synthetic.daily_swing = source.daily_swing;
                synthetic.begins = begins;
                Ok(synthetic.workload(&assumptions(&source.cpu, source.reserved_millicores), seed))
            }
        }
    }
}

const CPU: [&str; 2] = ["busy-loop", "six-measured"];

fn assumptions(cpu: &str, reserved: u32) -> Assumptions {
    let cpu = if cpu == "six-measured" { CpuNeed::SixMeasured } else { CpuNeed::BusyLoop };
    Assumptions { cpu, reserved: MilliCores(reserved), ..Assumptions::default() }
}

impl Traced {
    fn check(&self) -> Result<(), ScenarioError> {
        within("workload.rate", self.rate, 1e-6, 1e3)?;
        one_of("workload.cpu", &self.cpu, &CPU)?;
        within("workload.reserved_millicores", self.reserved_millicores.into(), 1.0, 1e6)?;
        if let Some([from, to]) = self.minutes.filter(|[from, to]| from >= to) {
            return Err(ScenarioError::Senseless {
                field: "workload.minutes".to_owned(),
                value: format!("[{from}, {to}]"),
                expected: "two minutes, the first before the second".to_owned(),
            });
        }
        let ways = [self.marked.is_some(), self.most_called.is_some(), self.chosen.is_some()];
        if ways.iter().filter(|is_given| **is_given).count() > 1 {
            return Err(ScenarioError::Senseless {
                field: "workload".to_owned(),
                value: "choosing its functions in several ways".to_owned(),
                expected: "one of marked, most_called and chosen".to_owned(),
            });
        }
        Ok(())
    }

    fn selection(&self, begins: Span, seed: u64) -> Selection {
        let functions = match (&self.marked, self.most_called, self.chosen) {
            (Some(column), ..) => Subset::Marked(column.clone()),
            (None, Some(most), _) => Subset::MostCalled(most),
            (None, None, Some(count)) => Subset::Chosen(count, seed),
            (None, None, None) => Subset::All,
        };
        Selection {
            minutes: self.minutes.map(|[from, to]| from..to),
            functions,
            rate: self.rate,
            per_minute_max: self.per_minute_max,
            calls_max: self.calls_max,
            begins,
            ..Selection::default()
        }
    }

    fn assumptions(&self) -> Assumptions {
        assumptions(&self.cpu, self.reserved_millicores)
    }
}
