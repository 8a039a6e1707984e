//! `windfall bench allocation`: Freyr's test with functions that really run, on VMs of fractional cores of this machine.
//!
//! **Knows:** his arrivals, from the released table where it is there, else by chance under the same rule.
//! **Promises:** every allocator has a cluster of its own, all of them running all the time, and has its rounds in turn with the
//! others, so that what else goes on here hits all alike. All have the same calls at the same moments. One round before those that
//! are measured lets each learn. What a run is compared with is the same run alone, measured here just before.
//! **Gives up:** absolute numbers; they belong to the machine.

mod again;
mod alone;
mod functions;
mod play;
mod rehearsal;
mod shrinks;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use policies::residency::Lending;
use serde::{Deserialize, Serialize};
use simulator::workload::Freyr;
use vocabulary::{MilliCores, Span};

use self::functions::size_of;
use self::play::{Call, Stage};
use self::rehearsal::Rehearsal;
use self::table::{Figures, Row};
use super::cluster::Cluster;
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::note;

/// Where the released arrivals are in a folder of traces.
const TABLE: &str = "functions/azure2019_freyr10_invocations_per_min.csv";
/// It is no policy but a model, so the simulator foretells nothing of it here.
const LEARNED: &str = "learned";
/// Slots of Freyr's table, and so many with --quick.
const SLOTS: usize = 60;
const SLOTS_QUICK: usize = 20;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Allocation {
    /// A third of the arrivals, and one round
    #[arg(long)]
    quick: bool,
    /// Rounds that are measured [default: 2, with --quick 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// What decides moments and inputs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Who is compared with `fixed`
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "greedy,profile")]
    allocators: Vec<String>,
    /// How is lent: elastic or hard
    #[arg(long, value_name = "HOW", default_value = "elastic", value_parser = ["elastic", "hard"])]
    lending: String,
    /// How long a slot of the table is played, ms; a minute of the trace is one
    #[arg(long, value_name = "MS", default_value_t = 500)]
    slot_ms: u64,
    /// VMs of each cluster
    #[arg(long, value_name = "N", default_value_t = 3)]
    vms: u32,
    /// CPU of each, thousandths of a core
    #[arg(long, value_name = "MILLICORES", default_value_t = 500)]
    vm_cpu: u32,
    /// Memory of each, MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    vm_memory: u32,
    /// VMs change their size meanwhile, and each allocator is seen with placement by `jsq`, too: the two papers together
    #[arg(long)]
    shrinking: bool,
    /// The folder of the traces; without it, arrivals are drawn by the same rule
    #[arg(long, value_name = "FOLDER", env = "WINDFALL_TRACES")]
    traces: Option<PathBuf>,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Play nothing: foretell anew the run that wrote this file with --json, from what it had measured
    #[arg(long, value_name = "FILE")]
    again: Option<PathBuf>,
    /// Data folder in which `deploy/up.sh` has put nats-server
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    data: PathBuf,
}

const HELP: &str = "\
Ten functions of Freyr's kinds (HTML, e-mail, images, video, recognition, k-NN, arithmetic on four threads in C, merge sort,
gradient descent, DNA), each with three sizes of input, called as in his test. Each allocator has a cluster of its own: three VMs
of half a core, reservations of a half or a whole VM. First each function is timed alone; then comes a round to learn from, then
the rounds that are measured, the allocators in turn. The simulator plays the same and stands in italics below each.
Confinement needs root: without it nothing is lent and nothing means anything.

Examples:
  windfall bench allocation --quick
  windfall bench allocation --allocators greedy,libra,profile --traces traces --json figures.json
  windfall bench allocation --allocators profile --shrinking
  windfall bench allocation --traces traces --again figures.json";

/// Who is compared.
#[derive(Debug, Clone, Deserialize)]
struct Contender {
    placement: String,
    allocator: String,
    lending: String,
}

impl Contender {
    fn label(&self) -> String {
        format!("{}-{}-{}", self.placement, self.allocator, self.lending)
    }
}

/// What each cluster has.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fleet {
    vms: u32,
    vm_cpu: u32,
    vm_memory: u32,
    /// Whether all but the first change their size.
    shrinking: bool,
}

/// Everything that was seen.
#[derive(Serialize)]
struct Figured<'a> {
    arrivals: &'a str,
    calls_per_round: usize,
    seed: u64,
    slot_ms: u64,
    fleet: Fleet,
    alone: &'a alone::Needs,
    rows: &'a [Row],
}

/// Carries it out.
pub async fn run(asked: Allocation, flags: Flags) -> Outcome {
    if let Some(file) = asked.again.clone() {
        println!("{}", table::markdown(&again::foretell(asked, &file)?));
        return Ok(());
    }
    let contenders = asked.contenders()?;
    if asked.vms == 0 || asked.vm_cpu < 80 || asked.slot_ms == 0 || asked.rounds == Some(0) {
        return Err(Failure::usage(
            "--vms, --slot-ms and --rounds must be at least 1, and --vm-cpu at least 80",
        ));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::usage(
            "nothing is confined without root, so nothing would be lent: run this as root",
        ));
    }
    let arrivals = asked.arrivals()?;
    let rounds = asked.rounds(&arrivals);
    println!("{}; {} calls a round", arrivals.source(), rounds[0].len());
    let mut clusters = Vec::new();
    let measured = tokio::select! {
        measured = asked.measure(&contenders, &mut clusters, &flags, &rounds) => measured,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Failed, "broken off")),
    };
    // Whatever came of it, nothing of ours goes on.
    for cluster in &mut clusters {
        cluster.stop().await;
    }
    let (needs, rows) = measured?;
    println!("\n{}\n{}", table::needs(&needs, asked.vm_cpu), table::markdown(&rows));
    if let Some(path) = &asked.json {
        let figured = Figured {
            arrivals: arrivals.source(),
            calls_per_round: rounds[0].len(),
            seed: asked.seed,
            slot_ms: asked.slot_ms,
            fleet: asked.fleet(),
            alone: &needs,
            rows: &rows,
        };
        std::fs::write(path, serde_json::to_string_pretty(&figured)? + "\n")
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    match rows.iter().flat_map(|row| &row.rounds).map(|round| round.failed).sum::<f64>() {
        failed if failed > 0.0 => Err(Failure::new(Exit::Failed, format!("{failed} calls failed"))),
        _ => Ok(()),
    }
}

/// What the machine that carries the VMs has.
fn host() -> MilliCores {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    MilliCores::cores(u32::try_from(cores).unwrap_or(u32::MAX / 1_000))
}

impl Allocation {
    /// `fixed` and those who were named.
    fn contenders(&self) -> Outcome<Vec<Contender>> {
        let mut allocators = vec![("fixed".to_owned(), Lending::NAMES[0].to_owned())];
        for name in self.allocators.iter().filter(|name| *name != "fixed") {
            let is_known = name == LEARNED || policies::allocation::NAMES.contains(&name.as_str());
            if !is_known || name == "oracle" {
                let known = policies::allocation::NAMES.iter().filter(|name| **name != "oracle");
                let known: Vec<&str> = known.copied().collect();
                return Err(Failure::usage(format!(
                    "there is no allocator '{name}' for real functions; there are {}",
                    known.join(", ")
                )));
            }
            // What was released gives nothing back while a run goes on.
            let gives_back = !name.ends_with("-freyr22");
            let lending = if gives_back { &self.lending } else { Lending::NAMES[0] };
            allocators.push((name.clone(), lending.to_owned()));
        }
        let placements = if self.shrinking { &["jsq", "mws"][..] } else { &["mws"][..] };
        let with = |placement: &&str| {
            let placement = (*placement).to_owned();
            allocators.iter().map(move |(allocator, lending)| Contender {
                placement: placement.clone(),
                allocator: allocator.clone(),
                lending: lending.clone(),
            })
        };
        Ok(placements.iter().flat_map(with).collect())
    }

    fn arrivals(&self) -> Outcome<Freyr> {
        let Some(folder) = &self.traces else {
            note!("no folder of traces: arrivals are drawn by the rule of Freyr's test");
            return Ok(Freyr::synthetic(self.seed));
        };
        Freyr::read(&folder.join(TABLE)).map_err(|error| Failure::usage(error.to_string()))
    }

    /// The calls of each round, the one to learn from first.
    fn rounds(&self, arrivals: &Freyr) -> Vec<Vec<Call>> {
        let measured = self.rounds.unwrap_or(if self.quick { 1 } else { 2 });
        let slots = self.slots();
        let round = |number: u64| {
            let drawn = arrivals.moments(slots, Span::millis(self.slot_ms), self.seed * 1_000 + number);
            drawn
                .into_iter()
                .map(|call| Call { at: call.at.into(), function: call.function, size: size_of(call.input) })
                .collect()
        };
        (0..=measured as u64).map(round).collect()
    }

    fn slots(&self) -> usize {
        if self.quick { SLOTS_QUICK } else { SLOTS }
    }

    fn fleet(&self) -> Fleet {
        Fleet { vms: self.vms, vm_cpu: self.vm_cpu, vm_memory: self.vm_memory, shrinking: self.shrinking }
    }

    /// What can be granted on VMs of this size: an eighth of one and its multiples.
    fn constants(&self) -> actors::settings::Allocation {
        actors::settings::Allocation {
            cpu_step: (self.vm_cpu / 8).max(1),
            cpu_steps: 8,
            memory_step: 32,
            memory_steps: 8,
            ..Default::default()
        }
    }

    /// Arguments of `windfall up`.
    fn up(&self, contender: &Contender) -> Vec<String> {
        let constants = self.constants();
        let settings = [
            ("controller.placement", contender.placement.clone()),
            ("controller.allocation", contender.allocator.clone()),
            ("vm.lending", contender.lending.clone()),
            ("allocation.cpu_step", constants.cpu_step.to_string()),
            ("allocation.cpu_steps", constants.cpu_steps.to_string()),
            ("allocation.memory_step", constants.memory_step.to_string()),
            ("allocation.memory_steps", constants.memory_steps.to_string()),
            ("frontend.patience_ms", "200000".to_owned()),
        ];
        let sizes = [("--vms", self.vms), ("--vm-cpu", self.vm_cpu), ("--vm-memory", self.vm_memory)];
        let sizes = sizes.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_string()]);
        let settings =
            settings.into_iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
        sizes.chain(settings).collect()
    }

    async fn measure(
        &self,
        contenders: &[Contender],
        clusters: &mut Vec<Cluster>,
        flags: &Flags,
        rounds: &[Vec<Call>],
    ) -> Outcome<(alone::Needs, Vec<Row>)> {
        let mut stages = Vec::new();
        for contender in contenders {
            clusters.push(Cluster::start(&self.data, &contender.label(), &self.up(contender)).await?);
            let cluster = clusters.last().expect("it was pushed a line above");
            stages.push(Stage::open(cluster, flags, self.vm_cpu).await?);
        }
        println!("timing each function alone");
        let needs = alone::measure(&stages[0], self.vm_cpu, if self.quick { 1 } else { 3 }).await?;
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); contenders.len()];
        let length = Duration::from_millis(self.slot_ms) * self.slots() as u32;
        let changes = shrinks::of_round(&self.fleet(), length);
        for (number, calls) in rounds.iter().enumerate() {
            // Who begins changes from round to round.
            for turn in 0..contenders.len() {
                let at = (turn + number) % contenders.len();
                let played = stages[at].play(calls, &changes).await?;
                let round = Figures::of_round(&played, &needs, &self.fleet());
                let which = if number == 0 { "to learn from".to_owned() } else { format!("round {number}") };
                println!(
                    "{which}, {}: mean slowdown {:.2}, P99 latency {:.2} s, {} failed{}",
                    contenders[at].label(),
                    round.mean_slowdown,
                    round.p99_latency_s,
                    played.failed,
                    played.first_failure.map(|why| format!(" ({why})")).unwrap_or_default()
                );
                if number > 0 {
                    figures[at].push(round);
                }
                // What the last answer left behind is done before the next one's calls come.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        let rehearsal = Rehearsal {
            constants: self.constants().constants(Lending::Off),
            fleet: self.fleet(),
            needs: &needs,
            rounds,
            changes: &changes,
            host: host(),
        };
        let rows = contenders.iter().zip(figures).map(|(contender, rounds_of_it)| {
            Row::new(contender, rounds_of_it, rehearsal.foretell(contender))
        });
        let rows = rows.collect();
        Ok((needs, rows))
    }
}
