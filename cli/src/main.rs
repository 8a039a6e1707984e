//! The door: the `windfall` binary.
//!
//! **Knows:** which command is meant. What a command does is in the file of its name.
//! **Promises:** a failure is one sentence on standard error that says what to do, and an exit code.
//! **Gives up:** everything else.

mod activation;
mod bench;
mod chaos;
mod client;
mod config_command;
mod configuration;
mod failure;
mod function;
mod invoke;
mod model;
mod namespace;
mod nats_door;
mod operator;
mod output;
mod role;
mod simulate;
mod told;
mod train;
mod up;
mod vm;
mod wires;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal};

use configuration::Flags;
use failure::{EXIT_CODES, Outcome};
use role::{Role, RoleFlags};

/// Windfall runs functions on resources that nobody is using.
#[derive(Debug, Parser)]
#[command(name = "windfall", version, after_help = EXIT_CODES, after_long_help = format!("{LONG_HELP}\n{EXIT_CODES}"))]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

const LONG_HELP: &str = "\
Begin with:
  windfall up --demo                    a cluster on this machine, with sample functions
  windfall function create hello hello.py
  windfall invoke hello -p name World

Environment:
  WINDFALL_<SECTION>__<KEY>   any setting, such as WINDFALL_CONTROLLER__PLACEMENT=jsq; see `windfall config`
  WINDFALL_CONFIG             the configuration file
  WINDFALL_DATA               data folder of `windfall up`, and where clients look for its key
  WINDFALL_API_HOST           the HTTP door that clients talk to
  WINDFALL_AUTH               the key that clients use, uuid:key
  WSK_CONFIG_FILE             a .wskprops file with APIHOST and AUTH, as OpenWhisk's clients use
  WINDFALL_NATS_SERVER        the nats-server that `windfall up` starts
  WINDFALL_ONNXRUNTIME        the ONNX Runtime library (libonnxruntime.so)
";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole cluster on this machine
    Up(up::Up),
    /// Call a function
    Invoke(invoke::Invoke),
    /// Create, change and look at functions
    #[command(subcommand, visible_alias = "action")]
    Function(function::FunctionCommand),
    /// Look at invocations that were made
    #[command(subcommand)]
    Activation(activation::ActivationCommand),
    /// Be a VM, or look after VMs
    Vm(vm::Vm),
    /// Make namespaces and keys
    #[command(subcommand)]
    Namespace(namespace::NamespaceCommand),
    /// Measure what a warm call costs, beside what the messages alone cost
    Bench(bench::Bench),
    /// The other process of the bench's bare request-reply
    #[command(hide = true)]
    BenchEcho(bench::Echo),
    /// One of the processes of the bench's road alone
    #[command(hide = true)]
    BenchRoad(bench::Station),
    /// Show every setting in force and where it comes from
    Config(config_command::Config),
    /// Rehearse a scenario under virtual time
    Simulate(simulate::Simulate),
    /// Hand in models of the allocator `learned` while the cluster runs, and see what became of them
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Train the model of the allocator `learned`
    Train(train::Train),
    /// Trouble the cluster here on purpose, and see that nothing is lost
    #[command(subcommand)]
    Chaos(chaos::Chaos),
    /// Wires between a house and its NATS, which can be cut
    #[command(hide = true)]
    Wires(wires::Lay),
    /// Be a Frontend: the HTTP door and the NATS doors
    Frontend(Frontend),
    /// Be a Controller: decide where, and with how much, invocations run
    Controller(Controller),
    /// Be a Resource Monitor: keep the fleet of VMs
    ResourceMonitor(ResourceMonitor),
}

#[derive(Debug, Args)]
struct Frontend {
    /// Address of the HTTP door
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    #[command(flatten)]
    role: RoleFlags,
}

#[derive(Debug, Args)]
struct Controller {
    /// How functions find their VMs: mws, jsq, or one of other systems (a wrong name lists them)
    #[arg(long)]
    placement: Option<String>,
    /// Address of /metrics
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    #[command(flatten)]
    role: RoleFlags,
}

#[derive(Debug, Args)]
struct ResourceMonitor {
    /// How many VMs
    #[arg(long, value_name = "N")]
    vms: Option<u32>,
    /// CPU of each, thousandths of a core
    #[arg(long, value_name = "MILLICORES")]
    vm_cpu: Option<u32>,
    /// Memory of each, MiB
    #[arg(long, value_name = "MIB")]
    vm_memory: Option<u32>,
    /// Where VMs come from: process, netns, docker, ec2, command, or none
    #[arg(long)]
    provider: Option<String>,
    #[command(flatten)]
    role: RoleFlags,
}

impl Command {
    /// Whether it only asks and prints.
    fn is_brief(&self) -> bool {
        match self {
            Self::Up(_)
            | Self::Wires(_)
            | Self::Frontend(_)
            | Self::Controller(_)
            | Self::ResourceMonitor(_) => false,
            Self::Vm(vm) => !vm.is_role(),
            _ => true,
        }
    }
}

/// Lets `windfall activation list | head` end as other programs do. Rust's default is an error on each print.
fn end_when_nobody_reads() {
    // SAFETY: the default action has no handler that could be unsafe.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Every task of the runtime is an allocation of its own, aligned to a cache line pair, and the C library takes long for
/// those: a tenth of a role's time under load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything has a thread: these processes become sandboxes.
    let mut words = std::env::args_os();
    match words.nth(1) {
        Some(word) if word == role::SANDBOX_COMMAND => sandbox::sandbox_main(words.collect()),
        Some(word) if word == actors::providers::netns::COMMAND => actors::providers::netns::vm_init(),
        _ => {}
    }
    let Arguments { flags, command } = Arguments::parse();
    match run(command, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("windfall: {failure}");
            failure.code()
        }
    }
}

fn run(command: Command, mut flags: Flags) -> Outcome {
    if command.is_brief() {
        end_when_nobody_reads();
    }
    match command {
        Command::Up(up) => role::once(up::run(up, flags)),
        Command::Invoke(invoke) => role::once(invoke::run(invoke)),
        Command::Function(command) => role::once(function::run(command)),
        Command::Activation(command) => role::once(activation::run(command)),
        Command::Vm(vm) => vm::run(vm, flags),
        Command::Namespace(command) => role::once(namespace::run(command, flags)),
        Command::Bench(bench) => role::once(bench::run(bench, flags)),
        Command::BenchEcho(echo) => role::once(bench::echo(echo, flags)),
        Command::BenchRoad(station) => role::once(bench::road(station, flags)),
        Command::Config(config) => config_command::run(config, &flags),
        Command::Simulate(simulate) => simulate::run(simulate),
        Command::Model(command) => role::once(model::run(command, flags)),
        Command::Train(train) => train::run(train, &flags),
        Command::Chaos(chaos) => role::once(chaos::run(chaos, flags)),
        Command::Wires(lay) => role::once(wires::run(lay, flags)),
        Command::Frontend(given) => {
            flags.also("frontend.http", given.http, "--http");
            role::run(Role::Frontend, given.role, flags)
        }
        Command::Controller(given) => {
            flags.also("controller.placement", given.placement, "--placement");
            flags.also("controller.metrics", given.metrics, "--metrics");
            role::run(Role::Controller, given.role, flags)
        }
        Command::ResourceMonitor(given) => {
            flags.also("resource_monitor.vms", given.vms, "--vms");
            flags.also("resource_monitor.cpu", given.vm_cpu, "--vm-cpu");
            flags.also("resource_monitor.memory", given.vm_memory, "--vm-memory");
            flags.also("resource_monitor.provider", given.provider, "--provider");
            role::run(Role::ResourceMonitor, given.role, flags)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        super::Arguments::command().debug_assert();
    }
}
