//! What a rehearsal promises.

use simulator::{FIRST_LIGHT, Report, Scenario, run};

fn play(change: impl Fn(String) -> String) -> Report {
    run(&Scenario::from_toml(&change(FIRST_LIGHT.to_owned())).unwrap())
}

#[test]
fn first_light_answers_everybody_whom_it_may() {
    let report = play(|text| text);
    println!("{report}");
    assert_eq!(report.violations, 0, "{report}");
    assert!(report.submitted > 8_000);
    assert_eq!(report.vms_lost, 2);
    assert_eq!(report.refused + report.waited_too_long + report.lost_too_often, 0, "{report}");
    assert_eq!(report.answered + report.lost_and_never, report.submitted);
    assert!(report.further_attempts > 0, "two VMs went and nothing had to run again: {report}");
}

#[test]
fn one_scenario_has_one_report_bit_for_bit() {
    assert_eq!(play(|text| text), play(|text| text));
    assert_ne!(play(|text| text), play(|text| text.replace("seed = 1", "seed = 2")));
}

#[test]
fn worker_sets_start_fewer_sandboxes_than_the_shortest_queue() {
    // Ten VMs and many functions that are rarely called, as in the paper's comparison.
    let many_rare = |placement: &str| {
        let text = format!(
            "name = 'many rare'\nlength_seconds = 200\nplacement = '{placement}'\n\
             [[vms]]\ncount = 10\ncpu_millicores = 16000\nmemory_mib = 65536\n\
             [[functions]]\nname = 'f'\ncopies = 60\nper_second = 0.2\nmean_ms = 800\nsigma = 0.7\n\
             cpu_millicores = 1000\nmemory_mib = 256\n"
        );
        run(&Scenario::from_toml(&text).unwrap())
    };
    let (mws, jsq) = (many_rare("mws"), many_rare("jsq"));
    println!("{mws}\n{jsq}");
    assert_eq!((mws.violations, jsq.violations), (0, 0));
    assert!(2 * mws.cold_runs < jsq.cold_runs, "mws:\n{mws}\njsq:\n{jsq}");
}

#[test]
fn a_house_without_vms_refuses_and_one_that_is_too_small_makes_wait_but_nobody_is_forgotten() {
    let none = play(|text| {
        let (start, functions) = text.split_at(text.find("[[functions]]").unwrap());
        format!("{}\nvms = []\n{functions}", start.split("[[vms]]").next().unwrap())
    });
    assert_eq!((none.violations, none.answered), (0, 0), "{none}");
    // Those of the first seconds wait for a VM to come, and are refused with the others when none does.
    assert!(none.refused > 0 && none.refused == none.submitted, "{none}");
    let crowded = play(|text| text.replace("per_second = 1\n", "per_second = 12\n"));
    assert_eq!(crowded.violations, 0, "{crowded}");
    assert!(crowded.waited_too_long > 0, "{crowded}");
}

#[test]
fn every_seed_keeps_what_must_stay_true() {
    for seed in 10..20 {
        let report = play(|text| text.replace("seed = 1", &format!("seed = {seed}")));
        assert_eq!(report.violations, 0, "seed {seed}: {report}");
    }
}
