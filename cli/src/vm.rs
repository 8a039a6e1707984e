//! `windfall vm`: be a VM, or look after VMs.

use std::time::Duration;

use async_nats::RequestErrorKind;
use clap::{Args, Subcommand};
use messages::{Drain, FleetList, FleetVm, Report, subjects};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vocabulary::{VmId, VmStanding};

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
goes back to the Controller. SIGINT stops it at once in good order.

Examples:
  windfall vm --nats-url nats://10.0.0.1:4222       be a VM of the cluster there
  windfall vm list                                  what the fleet looks like
  windfall vm drain vm-3 --leave                    let one finish its work and go";

/// What can be asked of VMs.
#[derive(Debug, Subcommand)]
enum VmCommand {
    /// Show every VM: its size, what it runs, how long ago it reported
    #[command(visible_alias = "ls")]
    List(List),
    /// Take nothing new, finish what runs, hand back what waits
    Drain(DrainVm),
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
    Ok(())
}

/// The fleet as people read it.
pub fn table(fleet: &FleetList) -> String {
    let rows: Vec<Vec<String>> = fleet.vms.iter().map(row).collect();
    output::table(
        &["vm", "kind", "standing", "cpu", "used", "memory", "used", "busy", "warm", "reported"],
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
        vm.running.to_string(),
        vm.warm.to_string(),
        vm.silent.map_or_else(|| "not yet".into(), |silent| format!("{silent} ago")),
    ]
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
