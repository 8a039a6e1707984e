//! `windfall vm`: be a VM, or look after VMs.

use std::time::Duration;

use async_nats::RequestErrorKind;
use clap::{Args, Subcommand};
use messages::{Drain, Evict, FleetList, FleetVm, Notice, Report, subjects};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vocabulary::{Span, VmId, VmStanding};

use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;
use crate::output;
use crate::role::{self, Role, RoleFlags};

/// How long a question to the fleet may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `windfall vm`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub struct Vm {
    #[command(subcommand)]
    command: Option<VmCommand>,
    #[command(flatten)]
    role: VmFlags,
}

impl Vm {
    /// Whether this process becomes a VM.
    pub fn is_role(&self) -> bool {
        self.command.is_none()
    }
}

const HELP: &str = "\
Without a subcommand this process becomes a VM: its Harvest Monitor watches how much CPU and memory there is and
when the VM must go, its Invoker runs functions. SIGTERM is a notice of eviction: what runs may finish, the rest
goes back to the Controller. SIGINT stops it at once in good order. On machines of Azure, AWS and Google Cloud (known by
their firmware; `--set vm.notices=...` says it outright) the cloud's own notices are heard too.

Examples:
  windfall vm --nats-url nats://10.0.0.1:4222       be a VM of the cluster there
  windfall vm list                                  what the fleet looks like
  windfall vm drain vm-3 --leave                    let one finish its work and go
  windfall vm evict vm-3 --in 30s                   announce its end, as a cloud would; it comes in 30 s
  windfall vm evict vm-3 --cancel                   or not after all";

/// What can be asked of VMs.
#[derive(Debug, Subcommand)]
enum VmCommand {
    /// Show every VM: its size, what it runs, how long ago it reported
    #[command(visible_alias = "ls")]
    List(List),
    /// Take nothing new, finish what runs, hand back what waits
    Drain(DrainVm),
    /// Announce a VM's end, which then comes at the deadline whatever runs; or call it off
    Evict(EvictVm),
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
struct DrainVm {
    /// Which, as `windfall vm list` shows it
    vm: VmId,
    /// Leave once nothing runs any more
    #[arg(long)]
    leave: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
struct EvictVm {
    /// Which, as `windfall vm list` shows it
    vm: VmId,
    /// How much time it has, as 30s, 500ms or 2m
    #[arg(long = "in", value_name = "TIME", value_parser = time, default_value = "30s")]
    left: Span,
    /// The eviction is called off
    #[arg(long, conflicts_with = "left")]
    cancel: bool,
    #[command(flatten)]
    operator: Operator,
}

/// `30s`, `500ms`, `2m`; a number alone is seconds.
fn time(text: &str) -> Result<Span, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| "it is written as 30s, 500ms or 2m".to_owned())?;
    let millis = match &text[digits..] {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    let day = 24 * 3_600_000;
    match millis {
        Some(millis) if millis <= day => Ok(Span::millis(millis)),
        Some(_) => Err("a day is the longest".to_owned()),
        None => Err("it is written as 30s, 500ms or 2m".to_owned()),
    }
}

#[derive(Debug, Args)]
struct VmFlags {
    /// Its id, such as vm-3; a random one unless named
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// harvest or regular
    #[arg(long)]
    kind: Option<String>,
    /// CPU, thousandths of a core. Else what its cgroup or the machine has
    #[arg(long, value_name = "MILLICORES", requires = "memory")]
    cpu: Option<u32>,
    /// Memory, MiB. Else what its cgroup or the machine has
    #[arg(long, value_name = "MIB", requires = "cpu")]
    memory: Option<u32>,
    #[command(flatten)]
    role: RoleFlags,
}

/// Carries it out.
pub fn run(vm: Vm, mut flags: Flags) -> Outcome {
    match vm.command {
        Some(VmCommand::List(list)) => role::once(self::list(list, flags)),
        Some(VmCommand::Drain(drain)) => role::once(self::drain(drain, flags)),
        Some(VmCommand::Evict(evict)) => role::once(self::evict(evict, flags)),
        None => {
            let given = vm.role;
            flags.also("vm.id", given.id, "--id");
            flags.also("vm.kind", given.kind, "--kind");
            flags.also("vm.capacity", given.cpu.map(|_| "fixed"), "--cpu");
            flags.also("vm.cpu", given.cpu, "--cpu");
            flags.also("vm.memory", given.memory, "--memory");
            role::run(Role::Vm, given.role, flags)
        }
    }
}

async fn list(list: List, flags: Flags) -> Outcome {
    let configuration = list.operator.configuration(&flags)?;
    let bus = list.operator.bus(&configuration, "windfall vm list").await?;
    let fleet: FleetList =
        ask(bus.client(), subjects::FLEET_LIST.to_owned(), bytes::Bytes::new()).await?.ok_or_else(|| {
            Failure::new(
                Exit::Unreachable,
                "no Resource Monitor answers: is `windfall resource-monitor` (or `windfall up`) running?",
            )
        })?;
    if list.json {
        let vms: Vec<Value> = fleet.vms.iter().map(as_json).collect();
        println!("{}", output::pretty(&Value::from(vms)));
    } else {
        print!("{}", table(&fleet));
    }
    if let Some(stalled) = fleet.store_stalled {
        // Not on standard output: that is a table or JSON.
        eprintln!("{}", store_stalls(stalled));
    }
    Ok(())
}

/// What a store that takes nothing means, and what to do.
fn store_stalls(stalled: Span) -> String {
    format!("THE STORE HAS TAKEN NOTHING FOR {}: {}", age(stalled), actors::store::taking::ADVICE)
}

/// The fleet as people read it.
pub fn table(fleet: &FleetList) -> String {
    let rows: Vec<Vec<String>> = fleet.vms.iter().map(row).collect();
    output::table(
        &[
            "vm",
            "kind",
            "standing",
            "cpu",
            "used",
            "memory",
            "used",
            "limited by",
            "busy",
            "warm",
            "age",
            "reported",
            "notice",
        ],
        &rows,
    )
}

fn row(vm: &FleetVm) -> Vec<String> {
    vec![
        vm.vm.to_string(),
        vm.kind.to_string(),
        standing(vm.standing).into(),
        vm.capacity.cpu.to_string(),
        vm.used.cpu.to_string(),
        vm.capacity.memory.to_string(),
        vm.used.memory.to_string(),
        vm.capacity_source.clone(),
        vm.running.to_string(),
        vm.warm.to_string(),
        age(vm.age),
        vm.silent.map_or_else(|| "not yet".into(), |silent| format!("{silent} ago")),
        vm.notice
            .as_ref()
            .map_or_else(String::new, |notice| format!("{} in {}", notice.source, notice.time_left)),
    ]
}

/// As people say it: whole units, the largest that is not 0.
fn age(age: Span) -> String {
    match age.as_millis() / 1_000 {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7_200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn as_json(vm: &FleetVm) -> Value {
    json!({
        "vm": vm.vm.to_string(),
        "kind": vm.kind.to_string(),
        "standing": standing(vm.standing),
        "cpu_millicores": vm.capacity.cpu.0,
        "cpu_used_millicores": vm.used.cpu.0,
        "memory_mib": vm.capacity.memory.0,
        "memory_used_mib": vm.used.memory.0,
        "running": vm.running,
        "warm": vm.warm,
        "silent_ms": vm.silent.map(|silent| silent.as_millis()),
        "age_ms": vm.age.as_millis(),
        "pid": vm.pid,
        "metrics": vm.metrics,
        "limited_by": vm.capacity_source,
        "notice": vm.notice.as_ref().map(|notice| json!({
            "source": notice.source,
            "left_ms": notice.time_left.as_millis(),
        })),
        "last_second": {
            "stolen_us": vm.hindrance.stolen.as_micros(),
            "throttled_us": vm.hindrance.throttled.as_micros(),
            "cpu_pressure_us": vm.hindrance.cpu_pressure.as_micros(),
            "memory_pressure_us": vm.hindrance.memory_pressure.as_micros(),
        },
    })
}

fn standing(standing: Option<VmStanding>) -> &'static str {
    match standing {
        Some(VmStanding::Open) => "open",
        Some(VmStanding::Draining) => "draining",
        None => "starting",
    }
}

async fn drain(drain: DrainVm, flags: Flags) -> Outcome {
    let configuration = drain.operator.configuration(&flags)?;
    let bus = drain.operator.bus(&configuration, "windfall vm drain").await?;
    let order = messages::encode(&Drain { then_leave: drain.leave });
    let report: Report = ask(bus.client(), subjects::vm_drain(drain.vm), order).await?.ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            format!("there is no {} that answers; `windfall vm list` shows those there are", drain.vm),
        )
    })?;
    let running = report.status.running.len();
    let then = if drain.leave { ", then it leaves" } else { "" };
    println!("{} drains: {running} still running{then}", drain.vm);
    Ok(())
}

async fn evict(evict: EvictVm, flags: Flags) -> Outcome {
    let configuration = evict.operator.configuration(&flags)?;
    let bus = evict.operator.bus(&configuration, "windfall vm evict").await?;
    let order = messages::encode(&Evict { time_left: (!evict.cancel).then_some(evict.left) });
    let notice: Notice = ask(bus.client(), subjects::vm_evict(evict.vm), order).await?.ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            format!("there is no {} that answers; `windfall vm list` shows those there are", evict.vm),
        )
    })?;
    match notice.time_left {
        Some(left) => println!("{} ends in {left}: it takes nothing new, and everyone knows", evict.vm),
        None => println!("{}'s eviction is called off, as far as an operator ordered it", evict.vm),
    }
    Ok(())
}

/// Asks on a subject; `None` when nobody listens there.
pub async fn ask<M: DeserializeOwned>(
    nats: &async_nats::Client,
    subject: String,
    body: bytes::Bytes,
) -> Outcome<Option<M>> {
    // The house's own inbox: `Bus` connects with a prefix that users may not listen on.
    match tokio::time::timeout(PATIENCE, nats.request(subject.clone(), body)).await {
        Ok(Ok(message)) => Ok(Some(messages::decode(&message.payload)?)),
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
        Ok(Err(error)) => Err(Failure::new(Exit::Failed, format!("asking on {subject}: {error}"))),
        Err(_) => Err(Failure::new(
            Exit::Unreachable,
            format!("no answer on {subject} within {} s", PATIENCE.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_takes_nothing_is_said_with_what_to_do() {
        let said = store_stalls(Span::seconds(12));
        assert!(
            said.starts_with("THE STORE HAS TAKEN NOTHING FOR 12 s: see whether nats-server runs"),
            "{said}"
        );
    }

    #[test]
    fn a_time_is_written_with_its_unit() {
        for (text, millis) in [("30s", 30_000), ("30", 30_000), ("500ms", 500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(time(text), Ok(Span::millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "30 s", "1h", "999999999999999999999s", "2000m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
