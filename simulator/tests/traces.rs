//! The loaders on the data that they were made for, where these are.
//!
//! The folder is named by `WINDFALL_TRACES`; without it these tests print why they are skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use simulator::machines::{Cores, SospSet};
use simulator::plan::Machines;
use simulator::workload::speedup::{self, MEASURED};
use simulator::workload::{
    Assumptions, Azure2019, CpuNeed, Events, Freyr, Reserved, S500_JUDGE, S500_LEARN, Selection, Subset,
    Synthetic, Workload,
};
use vocabulary::{Resources, Span};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("WINDFALL_TRACES").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: WINDFALL_TRACES does not name the folder of traces");
    }
    folder
}

struct Totals {
    calls: u64,
    seconds: f64,
    longer_than_30_s: f64,
    in_longer: f64,
}

fn totals(mut workload: Workload) -> Totals {
    let mut totals = Totals { calls: 0, seconds: 0.0, longer_than_30_s: 0.0, in_longer: 0.0 };
    let mut before = None;
    while let Some(at) = workload.calls.next_at() {
        assert!(before <= Some(at), "calls come in order of time");
        before = Some(at);
        let call = workload.calls.take();
        assert!(call.work.memory <= workload.functions[call.function as usize].card.reservation.memory);
        let seconds = (call.work.io + call.work.cpu).as_seconds();
        totals.calls += 1;
        totals.seconds += seconds;
        if seconds > 30.0 {
            totals.longer_than_30_s += 1.0;
            totals.in_longer += seconds;
        }
    }
    totals
}

fn s500(folder: &std::path::Path) -> Azure2019 {
    let functions = folder.join("functions/azure2019_s500_functions.csv.gz");
    Azure2019::read(&functions, &folder.join("functions/azure2019_s500_invocations_per_min.csv.gz")).unwrap()
}

#[test]
fn the_default_sample_is_read_and_its_halves_do_not_meet() {
    let Some(folder) = folder() else { return };
    let trace = s500(&folder);
    assert_eq!((trace.len(), trace.minutes().len(), trace.calls()), (500, 480, 3_037_902));
    let (learn, judge) = (totals_of(&trace, S500_LEARN), totals_of(&trace, S500_JUDGE));
    println!("s500: {} calls to learn from, {} to be judged by", learn.calls, judge.calls);
    assert_eq!(learn.calls + judge.calls, 3_037_902);
    let short = 1.0 - learn.longer_than_30_s / learn.calls as f64;
    println!(
        "learn: {:.3} % shorter than 30 s, {:.1} % of time in longer ones",
        1e2 * short,
        1e2 * learn.in_longer / learn.seconds
    );
    assert!((0.995..0.9995).contains(&short), "{short}");
}

fn totals_of(trace: &Azure2019, minutes: std::ops::Range<u32>) -> Totals {
    totals(trace.workload(&Selection::minutes(minutes), &Assumptions::default(), 1).unwrap())
}

#[test]
fn subsets_of_the_default_sample_are_marked_in_it() {
    let Some(folder) = folder() else { return };
    let trace = s500(&folder);
    for (column, count) in [("in_s250", 250), ("in_s100", 100)] {
        let selection = Selection { functions: Subset::Marked(column.into()), ..Selection::default() };
        let workload = trace.workload(&selection, &Assumptions::default(), 1).unwrap();
        assert_eq!(workload.functions.len(), count);
        workload.notes.iter().for_each(|note| println!("{note}"));
    }
}

#[test]
fn the_other_samples_are_read() {
    let Some(folder) = folder() else { return };
    let of = |name: &str, ending: &str| {
        Azure2019::read(
            &folder.join(format!("functions/azure2019_{name}_functions.csv{ending}")),
            &folder.join(format!("functions/azure2019_{name}_invocations_per_min.csv{ending}")),
        )
        .unwrap()
    };
    let freyr1000 = of("freyr1000", ".gz");
    assert_eq!((freyr1000.len(), freyr1000.calls()), (1000, 85_470));
    let six = Assumptions { cpu: CpuNeed::SixMeasured, ..Assumptions::default() };
    assert_eq!(totals(freyr1000.workload(&Selection::default(), &six, 1).unwrap()).calls, 85_470);
    assert_eq!(of("freyr10", "").calls(), 268);
    let sample = Events::read_azure2021(&folder.join("functions/azure2021_sample200.csv")).unwrap();
    assert_eq!(sample.events().len(), 199);
    let events = Events::read(&folder.join("derived/events_azure2019_s500_60min_max600rpm.csv.gz")).unwrap();
    assert_eq!(events.events().len(), 137_029);
    let selection = Selection { rate: 0.5, ..Selection::default() };
    let half = totals(events.workload(&selection, &Assumptions::default(), 1).unwrap());
    assert!((half.calls as f64 / 68_514.5 - 1.0).abs() < 0.02, "{}", half.calls);
}

#[test]
fn drawn_durations_have_the_mean_of_those_drawn_before_from_the_same_table() {
    let Some(folder) = folder() else { return };
    let trace = s500(&folder);
    let totals = totals_of(&trace, 480..540);
    println!("mean of drawn durations: {:.1} ms", totals.seconds / totals.calls as f64 * 1e3);
}

#[test]
fn the_active_cluster_moves_as_published() {
    let Some(folder) = folder() else { return };
    let cores = |set: SospSet| {
        let mut fleet = set.fleet(Some(&folder), 1).unwrap();
        Cores::of(&fleet.given(), SospSet::length())
    };
    let active = cores(SospSet::Active);
    println!("{active:?}");
    assert!((active.mean - 148.0).abs() < 1.0, "{active:?}");
    assert_eq!((active.least, active.most), (104.0, 204.0));
    for (set, mean) in
        [(SospSet::Lowest, 62.9), (SospSet::Typical, 147.3), (SospSet::High, 247.3), (SospSet::Best, 311.4)]
    {
        let cores = cores(set);
        println!("{}: {cores:?}", set.name());
        assert!((cores.mean - mean).abs() < 0.1, "{set:?}: {cores:?}");
    }
}

/// Times by size in millicores.
type BySize = BTreeMap<u32, Vec<f64>>;
/// One input of a function: (cores, time as a multiple of the time with one), and the time with one.
type Input = (Vec<(f64, f64)>, f64);

/// (function, input) to (cores, time as a multiple of the time with one core), and the median time with one core.
fn measured(folder: &std::path::Path) -> BTreeMap<(String, String), Input> {
    let file = std::fs::File::open(folder.join("profiles/rethinking_serverless_summary.csv.gz")).unwrap();
    let mut rows = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    // By input and kind of machine: median times at each size, over what has enough memory.
    let mut times: BTreeMap<(String, String, String), BySize> = BTreeMap::new();
    for row in rows.records() {
        let row = row.unwrap();
        if row[5] != row[6] {
            continue;
        }
        let key = (row[0].to_owned(), row[1].to_owned(), row[4].to_owned());
        times
            .entry(key)
            .or_default()
            .entry(row[3].parse().unwrap())
            .or_default()
            .push(row[8].parse().unwrap());
    }
    let mut measured: BTreeMap<(String, String), (BySize, Vec<f64>)> = BTreeMap::new();
    for ((function, input, _), mut by_size) in times {
        let Some(one) = by_size.get_mut(&1000).map(|times| median(times)) else { continue };
        let (relative, ones) = measured.entry((function, input)).or_default();
        ones.push(one);
        for (size, mut times) in by_size {
            relative.entry(size).or_default().push(median(&mut times) / one);
        }
    }
    let points = |mut relative: BySize| -> Vec<(f64, f64)> {
        relative.iter_mut().map(|(&size, times)| (f64::from(size) / 1000.0, median(times))).collect()
    };
    let done =
        measured.into_iter().map(|(key, (relative, mut ones))| (key, (points(relative), median(&mut ones))));
    done.filter(|(_, (points, _))| points.len() >= 4).collect()
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn the_speed_up_fits_what_was_measured() {
    let Some(folder) = folder() else { return };
    let (mut fitted, mut constant) = (Vec::new(), Vec::new());
    for ((function, input), (points, one)) in measured(&folder) {
        let speedup = MEASURED.iter().find(|speedup| speedup.function == function).unwrap();
        let fit = speedup::fit(&points);
        let error = speedup::error_of(&points, |cores| speedup.relative_time(one, cores));
        println!(
            "{input}: {one:.1} s on one core, waits {:.2}, saturates at {:.2} cores, off by {:.1} %; the constant by {:.1} %",
            fit.io_share,
            fit.saturation,
            fit.error * 1e2,
            error * 1e2
        );
        fitted.push(fit.error);
        constant.push(error);
    }
    let (count, largest) = (fitted.len(), fitted.iter().copied().fold(0.0, f64::max));
    let (fitted, constant) = (median(&mut fitted), median(&mut constant));
    println!(
        "{count} inputs: off by {:.1} %, {:.1} % at most; the constants by {:.1} % in the median",
        fitted * 1e2,
        largest * 1e2,
        constant * 1e2
    );
    assert!(count > 50 && fitted < 0.03 && largest < 0.15 && constant < 0.05);
}

#[test]
fn freyrs_test_and_reservations_are_the_released_ones() {
    let Some(folder) = folder() else { return };
    let test = Freyr::read(&folder.join("functions/azure2019_freyr10_invocations_per_min.csv")).unwrap();
    assert_eq!(test.calls(), 268);
    let code = test.workload(Reserved::Code, 0.0, Span::ZERO, 1).functions;
    let paper = test.workload(Reserved::Paper, 0.0, Span::ZERO, 1).functions;
    let table = folder.join("profiles/freyr_www22_user_allocations.csv");
    let mut rows = csv::Reader::from_path(table).unwrap();
    for (row, (code, paper)) in rows.records().zip(code.iter().zip(&paper)) {
        let row = row.unwrap();
        assert_eq!(row[0], code.name);
        let (cores, memory): (u32, u32) = (row[2].parse().unwrap(), row[4].parse().unwrap());
        assert_eq!(code.card.reservation, Resources::new(cores * 1000, memory), "{}", code.name);
        assert!(paper.card.reservation.cpu >= code.card.reservation.cpu);
    }
    let learn = Freyr::sampled(&s500(&folder), S500_LEARN, 1).unwrap();
    println!("arrivals to learn from: {} calls", learn.calls());
    assert!((200..=400).contains(&learn.calls()));
    assert_ne!(Freyr::sampled(&s500(&folder), S500_LEARN, 2).unwrap(), learn);
}

#[test]
fn popularity_falls_off_as_in_a_day_of_azure() {
    let Some(folder) = folder() else { return };
    let file = std::fs::File::open(folder.join("functions/azure2019_femux_app_popularity.csv.gz")).unwrap();
    let mut rows = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let calls: Vec<f64> = rows.records().map(|row| row.unwrap()[1].parse().unwrap()).collect();
    let shares = Synthetic::popularity(calls.len() as u32);
    let sum: f64 = calls.iter().sum();
    for rank in [1, 2, 5, 10, 30, 100, 300, 1_000, 3_000, 10_000, 15_000] {
        let (measured, formula) = (calls[rank - 1] / sum, shares[rank - 1]);
        println!(
            "rank {rank:6}: {measured:.2e} of all calls, by the formula {formula:.2e} (x {:.2})",
            formula / measured
        );
        assert!((0.5..2.0).contains(&(formula / measured)), "rank {rank}");
    }
    let of_top = |shares: &[f64]| shares[..176].iter().sum::<f64>() / shares.iter().sum::<f64>();
    println!(
        "the first hundredth has {:.3} of all calls, by the formula {:.3}",
        of_top(&calls),
        of_top(&shares)
    );
    assert!((of_top(&calls) - of_top(&shares)).abs() < 0.05);
}
