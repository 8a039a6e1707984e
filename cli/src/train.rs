//! `windfall train`: a model for the allocator `learned`, trained in the simulator.

mod from_cluster;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use training::school::{Kind, Plan, Point, School, examine_named, examine_named_finally};
use training::{curve_svg, model_bytes};

use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Train {
    /// What is trained: ours, or Freyr's with its eleven features
    #[arg(long, value_enum, default_value_t = What::Learned)]
    what: What,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many trainings, each with the next seed; the best in a final examination, in ten times as many houses, becomes the model
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Lessons of each. Without it: 200, and 20 from a cluster
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: Option<u32>,
    /// Houses that are played for each lesson. Without it: 32, and 16 from a cluster
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    houses: Option<u32>,
    /// Threads that play houses; the result does not depend on them. Without it: as many as there are cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The model. Without it: models/allocator.onnx, and from-cluster.onnx in the folder from a cluster
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where trainings are kept as they stand, and the learning curves
    #[arg(long, value_name = "DIR", default_value = ".windfall/training")]
    folder: PathBuf,
    /// Go on where trainings of the same plan were broken off
    #[arg(long)]
    resume: bool,
    /// Train what decides in a running cluster further, on what its own functions used, and hand it in if that made it better
    #[arg(long, conflicts_with_all = ["what", "seeds", "resume"])]
    from_cluster: bool,
    /// With --from-cluster: hand it in even if it is no better in the examination; the trial decides
    #[arg(long, requires = "from_cluster")]
    anyway: bool,
    #[command(flatten)]
    operator: Operator,
}

/// Which allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Learned,
    Freyr,
}

const HELP: &str = "\
Trains in houses that are drawn by chance, on the CPU, and examines at set intervals in houses that are none of those. Equal flags
train equal models, whatever the threads, and however often a training was broken off and resumed. No trace is read: what
models are judged on (`windfall simulate lending`) is new to them.

Examples:
  windfall train
  windfall train --seeds 1 --iterations 400
  windfall train --seeds 1 --iterations 400 --resume
  windfall train --from-cluster
  windfall train --what freyr --out models/freyr-size.onnx";

/// Carries it out.
pub fn run(train: Train, flags: &Flags) -> Outcome {
    let threads =
        train.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if train.from_cluster {
        return from_cluster::run(&train, threads, flags);
    }
    let kind = match train.what {
        What::Learned => Kind::Learned,
        What::Freyr => Kind::Freyr,
    };
    let usual = Plan::default();
    let iterations = train.iterations.unwrap_or(usual.iterations);
    let plan = Plan { kind, iterations, houses: train.houses.unwrap_or(usual.houses), ..usual };
    for name in ["fixed", "profile", "profile-lent", "libra", "oracle"] {
        let brings = examine_named(&plan, threads, name).expect("these allocators exist");
        println!("{name:<14} {brings:+.4} a run in the examination");
    }
    let mut schools = Vec::new();
    for seed in train.seed..train.seed.saturating_add(train.seeds) {
        schools.push(one(&train, Plan { seed, ..plan.clone() }, threads)?);
    }
    let file = train.folder.join(format!("{}-curves.svg", kind.name()));
    write(&file, curve_svg(&schools).as_bytes())?;
    let best = best_of(&schools, &plan, threads)
        .ok_or_else(|| Failure::usage("--seeds is 0: nothing was trained"))?;
    let set = kind.features();
    let out = train.out.clone().unwrap_or_else(|| PathBuf::from("models/allocator.onnx"));
    write(&out, &model_bytes(&best.best.actor, &set.columns()))?;
    println!(
        "The network of seed {} is written to {}, the curves to {}.",
        best.plan.seed,
        out.display(),
        file.display()
    );
    Ok(())
}

/// The best in the final examination, if there is more than one.
fn best_of<'a>(schools: &'a [School], plan: &Plan, threads: usize) -> Option<&'a School> {
    if let [only] = schools {
        return Some(only);
    }
    let heuristic = examine_named_finally(plan, threads, "profile").expect("it exists");
    println!("{:<14} {heuristic:+.5} a run in the final examination", "profile");
    let finally = |school: &'a School| {
        let brings = school.finally(threads);
        println!("seed {:<9} {brings:+.5}", school.plan.seed);
        (brings, school)
    };
    let examined = schools.iter().map(finally);
    examined.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, school)| school)
}

fn one(train: &Train, plan: Plan, threads: usize) -> Outcome<School> {
    let kept = train.folder.join(format!("{}-{}.json", plan.kind.name(), plan.seed));
    let mut school = if train.resume && kept.exists() { resumed(&kept, &plan)? } else { School::new(plan) };
    let bar = progress(&school);
    let said = |school: &School| match school.curve.last() {
        Some(Point { examined, .. }) => format!("seed {}, {examined:+.4}", school.plan.seed),
        None => format!("seed {}", school.plan.seed),
    };
    bar.set_position(school.iteration.into());
    bar.set_message(said(&school));
    while !school.is_over() {
        if school.go_on(threads).is_some() {
            let text =
                serde_json::to_vec(&school).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            write(&kept, &text)?;
            bar.set_message(said(&school));
        }
        bar.set_position(school.iteration.into());
    }
    bar.finish_and_clear();
    println!("seed {}: {:+.4} a run at its best", school.plan.seed, school.best_examined);
    Ok(school)
}

fn progress(school: &School) -> ProgressBar {
    let bar = ProgressBar::new(school.plan.iterations.into());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} lessons, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn resumed(path: &Path, plan: &Plan) -> Outcome<School> {
    let wrong = |why: String| {
        Failure::usage(format!(
            "{} cannot be resumed: {why}. Leave --resume out to begin anew",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut school: School = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    // More lessons than were planned are no other training, only a longer one.
    let planned = Plan { iterations: plan.iterations, ..school.plan.clone() };
    if planned != *plan {
        return Err(wrong("it was planned otherwise".to_owned()));
    }
    school.plan = planned;
    Ok(school)
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let wrong = |error: std::io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot write {}: {error}; name a folder that you may write to", path.display()),
        )
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    std::fs::write(&unfinished, bytes).and_then(|()| std::fs::rename(&unfinished, path)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(folder: &Path, iterations: u32, resume: bool) -> Train {
        Train {
            what: What::Freyr,
            seed: 1,
            seeds: 1,
            iterations: Some(iterations),
            houses: Some(1),
            threads: Some(1),
            out: Some(folder.join("model.onnx")),
            folder: folder.to_path_buf(),
            resume,
            from_cluster: false,
            anyway: false,
            operator: Operator { nats_url: None, data: folder.to_path_buf() },
        }
    }

    fn plan(train: &Train) -> Plan {
        Plan {
            kind: Kind::Freyr,
            iterations: train.iterations.unwrap_or(1),
            houses: 1,
            examined_every: 1,
            examination: 1,
            final_examination: 2,
            ..Plan::default()
        }
    }

    #[test]
    fn a_training_that_was_broken_off_comes_to_the_same_end() {
        let folder = tempfile::tempdir().unwrap();
        let whole = asked(folder.path(), 2, false);
        let at_once = one(&whole, plan(&whole), 1).unwrap();
        let half = asked(folder.path(), 1, false);
        one(&half, plan(&half), 1).unwrap();
        let rest = asked(folder.path(), 2, true);
        let resumed = one(&rest, plan(&rest), 1).unwrap();
        // The step width follows the length of the plan, so that the first lesson of a shorter plan is as long: at its beginning.
        assert_eq!(resumed, at_once);
        let other = Plan { houses: 2, ..plan(&rest) };
        assert_eq!(one(&rest, other, 1).unwrap_err().exit, Exit::Usage);
        assert!(!folder.path().join("freyr-1.json.unfinished").exists());
    }
    #[test]
    fn the_best_in_the_final_examination_is_chosen_and_not_who_was_lucky_before() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { kind: Kind::Learned, ..plan(&asked(folder.path(), 1, false)) };
        let mut schools: Vec<School> =
            (1..=3).map(|seed| School::new(Plan { seed, ..plan.clone() })).collect();
        let brings: Vec<f64> = schools.iter().map(|school| school.finally(1)).collect();
        let most = brings.iter().copied().fold(f64::MIN, f64::max);
        for (school, brings) in schools.iter_mut().zip(&brings) {
            school.best_examined = if *brings < most { 1.0 } else { -1.0 };
        }
        assert!(schools.iter().any(|school| school.best_examined > 0.0), "they differ: {brings:?}");
        let best = best_of(&schools, &plan, 1).unwrap();
        assert_eq!((best.finally(1), best.best_examined), (most, -1.0));
        assert!(best_of(&[], &plan, 1).is_none());
        let heuristic = |examined: fn(&Plan, usize, &str) -> Option<f64>| examined(&plan, 1, "fixed");
        assert_ne!(heuristic(examine_named), heuristic(examine_named_finally), "its houses are its own");
    }
}
