//! Ways between processes and their NATS: cables of machines with a network of their own, and wires.
//!
//! **Promises:** a cable that was pulled is put back when its guard is dropped; a wire mends by itself when its time is over,
//! also when nobody is left to say so.
//! **Gives up:** clusters without either: `windfall up --wires` has wires, the provider `netns` has cables.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::Client;
use messages::FleetVm;
use vocabulary::Span;

use crate::wires::{self, Condition, Obeyed, Order};

/// How long whoever lays wires may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A machine's cable, pulled for as long as this lives.
pub(super) struct Pulled(String);

impl Drop for Pulled {
    fn drop(&mut self) {
        // It may be gone with its machine.
        let _ = ip(&["link", "set", &self.0, "up"]);
    }
}

/// Pulls the cable of a machine that has one; nothing if it shares our network.
pub(super) fn pull(vm: &FleetVm) -> Result<Option<Pulled>, String> {
    let Some(cable) = cable(vm)? else { return Ok(None) };
    ip(&["link", "set", &cable, "down"])?;
    Ok(Some(Pulled(cable)))
}

/// The host's end of a machine's cable.
fn cable(vm: &FleetVm) -> Result<Option<String>, String> {
    let Some(network) = network(vm)? else { return Ok(None) };
    let there = format!("--net={}", network.display());
    let shown = run("nsenter", &[&there, "ip", "-o", "link", "show", "eth0"])?;
    let peer = shown.split("@if").nth(1).and_then(|rest| rest.split(':').next());
    let peer = peer.ok_or_else(|| format!("{} has no cable: {shown}", vm.vm))?;
    let all = ip(&["-o", "link"])?;
    let ours = all.lines().find_map(|line| {
        let (number, rest) = line.split_once(": ")?;
        (number == peer).then(|| rest.split(['@', ':']).next().unwrap_or_default().to_owned())
    });
    ours.map(Some).ok_or_else(|| format!("the cable of {} does not end here", vm.vm))
}

/// Where the kernel shows a machine's network; nothing if it shares ours.
pub(super) fn network(vm: &FleetVm) -> Result<Option<PathBuf>, String> {
    let inside = first_process(vm.pid).unwrap_or(vm.pid);
    let path = PathBuf::from(format!("/proc/{inside}/ns/net"));
    let theirs = std::fs::read_link(&path).map_err(|error| format!("{}: {error}", vm.vm))?;
    let is_ours = std::fs::read_link("/proc/self/ns/net").is_ok_and(|ours| ours == theirs);
    Ok((!is_ours).then_some(path))
}

/// Of a machine with processes of its own: the child of the process that made it.
fn first_process(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// From now on, for so long, the wires of whoever has this name are so.
pub(super) async fn wire(nats: &Client, name: &str, condition: Condition, lasts: Span) -> Result<(), String> {
    let order = Order { name: name.to_owned(), condition, for_ms: lasts.as_millis() };
    let order = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
    let none = || format!("{name} has no wire; `windfall up --wires` lays some");
    let asked = nats.request(wires::CONTROL, order.into());
    let Ok(Ok(message)) = tokio::time::timeout(PATIENCE, asked).await else { return Err(none()) };
    let obeyed: Obeyed = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    if obeyed.wires > 0 { Ok(()) } else { Err(none()) }
}
