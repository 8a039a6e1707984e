//! `windfall bench`: what a warm call costs, beside what the messages alone cost.
//!
//! **Knows:** a running cluster, or how to start one for the purpose.
//! **Promises:** the bare request-reply and every door are measured in one run, one after the other at each number of
//! callers, so that the ratios mean something on a machine that others use too; every call goes the whole way,
//! through a real sandbox; a call that fails is counted and fails the command.
//! **Gives up:** being the yardstick of absolute numbers: those belong to the machine.

mod allocation;
mod cluster;
mod cost;
mod doors;
mod load;
mod report;
mod road;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use cluster::Cluster;
use doors::Doors;
use report::{Measured, Report};
pub use road::Station;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    /// End within a minute
    #[arg(long)]
    quick: bool,
    /// Callers at once, each waiting for its answer before it calls again
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,8,64")]
    callers: Vec<usize>,
    /// Seconds for each door and number of callers [default: 5, with --quick 2]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Kind of the no-op function: native (compiled with cc) or python
    #[arg(long, value_name = "KIND", default_value = "native", value_parser = ["native", "python"])]
    function: String,
    /// Only these: bare, nats, http, durable, and road (the messages and pipes of the NATS door with nobody on the way)
    #[arg(long, value_name = "DOOR,...", value_delimiter = ',', default_value = "bare,nats,http,durable",
          value_parser = ["bare", "road", "nats", "http", "durable"])]
    doors: Vec<String>,
    /// Write the numbers to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Start a cluster for the purpose even if one is running here
    #[arg(long)]
    private: bool,
    /// In a private cluster, give the Controller a process of its own
    #[arg(long)]
    separate: bool,
    /// Data folder of the `windfall up` to measure
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    data: PathBuf,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum What {
    /// Freyr's arrivals with real functions under several allocators, beside what the simulator foretells
    Allocation(allocation::Allocation),
}

/// Flags of the process that answers the bare request-reply.
#[derive(Debug, Args)]
pub struct Echo {
    /// Data folder of the cluster whose NATS is meant
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

const HELP: &str = "\
Calls a warm function that does nothing, closed-loop, through the NATS door, the HTTP door and the durable door, and in
the same run a bare NATS request-reply between two processes. Prints, per door and number of callers, the median and the
99th percentile, calls per second, the CPU time of all processes together (nats-server, sandboxes and the callers
included) per call, and the ratios to the bare request-reply. Uses the cluster of `windfall up` in the data folder if
it runs, else starts a private one (three VMs of two cores and 4 GiB; Frontend and Controller in one process) and stops
it afterwards. The function reserves 90 millicores and 128 MiB, so that 64 callers find 64 places.

Examples:
  windfall bench --quick
  windfall bench --callers 1,64 --doors bare,road,nats --json figures.json
  windfall bench allocation --quick";

/// Before a door is measured it is called for this long, so that sandboxes are warm.
const WARM_UP: Duration = Duration::from_millis(700);

/// Carries it out.
pub async fn run(bench: Bench, flags: Flags) -> Outcome {
    if let Some(What::Allocation(allocation)) = bench.what {
        return allocation::run(allocation, flags).await;
    }
    let seconds = bench.seconds.unwrap_or(if bench.quick { 2 } else { 5 });
    if seconds == 0 || bench.callers.contains(&0) {
        return Err(Failure::usage("--seconds and --callers must be at least 1"));
    }
    let mut cluster = Cluster::find_or_start(&bench.data, bench.private, !bench.separate).await?;
    let measured = measure(&bench, &flags, &cluster, Duration::from_secs(seconds)).await;
    cluster.stop().await;
    let report = measured?;
    println!("{report}");
    if let Some(path) = &bench.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n")
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    match report.errors() {
        0 => Ok(()),
        errors => Err(Failure::new(Exit::Failed, format!("{errors} calls failed"))),
    }
}

/// A process of the road alone, until its standard input ends.
pub async fn road(station: Station, flags: Flags) -> Outcome {
    road::station(station, flags).await
}

/// Answers the bare request-reply until its standard input ends.
pub async fn echo(echo: Echo, flags: Flags) -> Outcome {
    doors::echo(echo.data, flags).await
}

async fn measure(bench: &Bench, flags: &Flags, cluster: &Cluster, length: Duration) -> Outcome<Report> {
    let doors =
        Doors::open(cluster, flags, &bench.function, bench.doors.iter().any(|door| door == "road")).await?;
    println!("{}\n", doors.description());
    let mut report = Report::default();
    for &callers in &bench.callers {
        for name in &bench.doors {
            let door = doors.door(name);
            load::drive(&door, callers, WARM_UP).await;
            let before = cost::cpu_time(&cluster.roots());
            let run = load::drive(&door, callers, length).await;
            let after = cost::cpu_time(&cluster.roots());
            let measured = Measured::of(callers, run, after.saturating_sub(before));
            println!("{}", measured.line(name));
            report.add(name, measured);
        }
    }
    doors.close().await;
    Ok(report)
}
