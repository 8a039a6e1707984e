//! Many runs at once are what each is alone.

use std::sync::Mutex;

use simulator::runs::{Job, RunError, play_all};
use simulator::{FIRST_LIGHT, Report, Scenario};

fn scenario(seed: u64) -> Scenario {
    let short = FIRST_LIGHT.replace("length_seconds = 300", "length_seconds = 40");
    Scenario { seed, ..Scenario::from_toml(&short).unwrap() }
}

fn job(seed: u64) -> Job {
    Job {
        label: format!("seed {seed}"),
        repeat: format!("windfall simulate --seed {seed}"),
        build: Box::new(move || scenario(seed).house_in(None).unwrap()),
    }
}

fn reports(threads: usize) -> Vec<Report> {
    let seen = Mutex::new(Vec::new());
    let jobs = (1..=6).map(job).collect();
    let results = play_all(jobs, threads, &|progress| seen.lock().unwrap().push(progress.done));
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    results.into_iter().map(Result::unwrap).collect()
}

#[test]
fn reports_stand_in_the_order_of_their_jobs_however_many_threads_there_are() {
    let one = reports(1);
    assert_eq!(one.iter().map(|report| report.seed).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(one, reports(3));
    assert_eq!(one[1], simulator::run(&scenario(2)));
    assert_ne!(one[0].latency, one[1].latency, "another seed is another run");
}

#[test]
fn a_run_that_breaks_is_named_with_the_line_that_repeats_it_and_the_others_go_on() {
    let broken = Job { build: Box::new(|| panic!("no such trace")), ..job(2) };
    let results = play_all(vec![job(1), broken, job(3)], 2, &|_| {});
    let Err(error) = &results[1] else { panic!("it broke") };
    assert!(matches!(error, RunError::Panicked { .. }));
    for part in ["seed 2", "no such trace", "windfall simulate --seed 2"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(results[0].is_ok() && results[2].is_ok());
}
