//! Control groups as a provider of VMs and a Harvest Monitor use them.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbox::cgroup::{Controller, Group, GroupError, Limits};
use sandbox::{Family, Verdict};
use vocabulary::{Mebibytes, MilliCores, Resources};

use crate::harness::tests;
use crate::house::*;

tests![
    a_vm_shrinks_children_first_and_grows_again,
    a_vm_shrinks_while_its_children_are_given_more,
    a_child_never_gets_more_than_its_parent,
    memory_in_use_is_not_taken_away,
    a_group_counts_what_its_processes_use,
    everything_in_a_group_is_killed_frozen_or_not,
    paths_that_lead_elsewhere_are_refused,
    sandboxes_live_beside_their_agent_in_the_vms_group,
    a_function_that_dies_because_its_vm_is_full_is_not_to_blame,
];

/// A VM's group of two cores and 512 MiB; none, and a word about it, where groups may not be made.
fn vm(name: &str) -> Option<Group> {
    match Group::create_vm(&format!("{name}-{}", std::process::id()), Resources::new(2000, 512)) {
        Ok(group) if group.controls(Controller::Cpu) && group.controls(Controller::Memory) => Some(group),
        Ok(group) => {
            println!("SKIPPED: no control groups with cpu and memory");
            group.remove().unwrap();
            None
        }
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn sleeping() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn cpu(group: &Group) -> Option<MilliCores> {
    group.limits().unwrap().cpu
}

async fn a_vm_shrinks_children_first_and_grows_again() {
    let Some(vm) = vm("shrinks") else { return };
    assert_eq!(vm.limits().unwrap(), Limits { cpu: Some(MilliCores(2000)), memory: Some(Mebibytes(512)) });
    let (one, two) = (vm.create_child("one").unwrap(), vm.create_child("two").unwrap());
    let inner = two.create_child("inner").unwrap();
    one.set_cpu(Some(MilliCores(500))).unwrap();
    two.set_cpu(Some(MilliCores(2000))).unwrap();
    inner.set_cpu(Some(MilliCores(1500))).unwrap();
    vm.set_cpu(Some(MilliCores(1000))).unwrap();
    assert_eq!(cpu(&vm), Some(MilliCores(1000)));
    assert_eq!(cpu(&one), Some(MilliCores(500)), "what fits is left alone");
    if !vm.hierarchies().is_v2() {
        // v2 lets a child keep a number that its parent no longer honours.
        assert_eq!(cpu(&two), Some(MilliCores(1000)));
        assert_eq!(cpu(&inner), Some(MilliCores(1000)));
    }
    vm.set_cpu(Some(MilliCores(3000))).unwrap();
    two.set_cpu(Some(MilliCores(2500))).unwrap();
    assert_eq!(cpu(&two), Some(MilliCores(2500)));
    vm.set_cpu(None).unwrap();
    assert_eq!(cpu(&vm), None);
    vm.set_cpu(Some(MilliCores(1))).unwrap();
    assert_eq!(cpu(&vm), Some(MilliCores(10)), "the least that the kernel takes");
    // Another process that opens the same path sees the same.
    assert_eq!(Group::open(vm.path()).unwrap().limits().unwrap(), vm.limits().unwrap());
    vm.remove().unwrap();
    assert!(Group::open(vm.path()).is_err());
}

async fn a_vm_shrinks_while_its_children_are_given_more() {
    let Some(vm) = vm("races") else { return };
    let children: Vec<Group> = (0..8).map(|n| vm.create_child(&format!("child-{n}")).unwrap()).collect();
    let (parent, over) = (Group::open(vm.path()).unwrap(), AtomicBool::new(false));
    std::thread::scope(|threads| {
        for of_thread in children.chunks(4) {
            let over = &over;
            threads.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for child in of_thread {
                        child.set_cpu(Some(MilliCores(1900))).unwrap();
                        // Some hundreds are changed in a second, which is more than a VM does.
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
        let shrunk: Result<Vec<()>, _> =
            [500, 2000].repeat(1_000).into_iter().map(|cpu| parent.set_cpu(Some(MilliCores(cpu)))).collect();
        over.store(true, Ordering::Relaxed);
        shrunk.unwrap();
    });
    vm.remove().unwrap();
}

async fn a_child_never_gets_more_than_its_parent() {
    let Some(vm) = vm("parent") else { return };
    let child = vm.create_child("child").unwrap();
    child.set_cpu(Some(MilliCores(5000))).unwrap();
    if !vm.hierarchies().is_v2() {
        assert_eq!(cpu(&child), Some(MilliCores(2000)));
    }
    vm.remove().unwrap();
}

async fn memory_in_use_is_not_taken_away() {
    let Some(vm) = vm("memory") else { return };
    let inside = vm.create_child("inside").unwrap();
    let mut hog = Command::new("/bin/sh")
        .args(["-c", "read go; head -c 67108864 /dev/zero | tail -c 67108864 | (sleep 1000)"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    inside.add(hog.id()).unwrap();
    std::io::Write::write_all(hog.stdin.as_mut().unwrap(), b"go\n").unwrap();
    // A machine that is emulated takes its time.
    for _ in 0..6_000 {
        if vm.counters().unwrap().memory > 50 << 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = vm.set_memory(Some(Mebibytes(16))).unwrap_err();
    assert!(matches!(error, GroupError::MemoryInUse { .. }), "{error}");
    assert_eq!(vm.limits().unwrap().memory, Some(Mebibytes(512)), "a refused limit is unchanged");
    vm.set_memory(Some(Mebibytes(256))).unwrap();
    assert!(vm.counters().unwrap().memory_peak > 50 << 20);
    vm.kill_all(Duration::from_secs(5)).unwrap();
    hog.wait().unwrap();
    vm.remove().unwrap();
}

async fn a_group_counts_what_its_processes_use() {
    let Some(vm) = vm("counts") else { return };
    let inside = vm.create_child("inside").unwrap();
    inside.set_cpu(Some(MilliCores(100))).unwrap();
    let mut burning = Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    inside.add(burning.id()).unwrap();
    assert_eq!(vm.pids(), [burning.id()]);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if inside.counters().unwrap().throttled_periods >= 3 {
            break;
        }
    }
    let counters = inside.counters().unwrap();
    assert!(counters.throttled_periods >= 3 && counters.throttled.as_micros() > 0, "{counters:?}");
    assert!(counters.cpu_time.as_micros() > 0 && vm.counters().unwrap().cpu_time >= counters.cpu_time);
    vm.kill_all(Duration::from_secs(5)).unwrap();
    burning.wait().unwrap();
    vm.remove().unwrap();
}

async fn everything_in_a_group_is_killed_frozen_or_not() {
    let Some(vm) = vm("killed") else { return };
    let frozen = vm.create_child("frozen").unwrap();
    let mut children: Vec<Child> = (0..10).map(|_| sleeping()).collect();
    for (n, child) in children.iter().enumerate() {
        if n % 2 == 0 { vm.child("agent").unwrap().add(child.id()) } else { frozen.add(child.id()) }.unwrap();
    }
    if let Err(error) = frozen.freeze() {
        println!("no freezer here: {error}");
    }
    assert_eq!(vm.pids().len(), 10);
    vm.kill_all(Duration::from_secs(5)).unwrap();
    for child in &mut children {
        assert!(!child.wait().unwrap().success());
    }
    assert!(vm.pids().is_empty());
    vm.remove().unwrap();
}

async fn paths_that_lead_elsewhere_are_refused() {
    for path in ["", "/", "..", "windfall/../other", "a//b", "a/./b", "a b", "a/\n"] {
        assert!(matches!(Group::create(path), Err(GroupError::BadPath { .. })), "{path:?}");
    }
    assert!(Group::open("windfall/there-is-no-such-vm").is_err());
}

async fn sandboxes_live_beside_their_agent_in_the_vms_group() {
    let Some(vm) = vm("beside") else { return };
    let path = vm.path().to_owned();
    // Spares have groups of their own, made whenever there is time.
    let change = |settings: &mut sandbox::WorkshopSettings| {
        (settings.cgroup_parent, settings.python_spares) = (Some(path), 0);
    };
    let house = House::with(change).await;
    if house.is_enforced() {
        let sandbox = house.start(order(Family::Native, "#!/bin/sh\nread -r l\n", false)).await;
        let names: Vec<String> = vm.children().iter().map(|child| child.path().to_owned()).collect();
        assert_eq!(names, [format!("{}/agent", vm.path()), format!("{}/{}", vm.path(), sandbox.name())]);
        // The VM loses half of its CPU while the sandbox has all of it.
        sandbox.limits().set_ceiling(Resources::new(2000, 256)).unwrap();
        vm.set_limits(Limits { cpu: Some(MilliCores(1000)), memory: Some(Mebibytes(256)) }).unwrap();
        sandbox.limits().set_ceiling(Resources::new(2000, 256)).unwrap();
        sandbox.stop().await;
        assert_eq!(vm.children().len(), 1);
    }
    house.workshop.close().await;
    vm.kill_all(Duration::from_secs(5)).unwrap();
    vm.remove().unwrap();
}

async fn a_function_that_dies_because_its_vm_is_full_is_not_to_blame() {
    let Some(vm) = vm("full") else { return };
    let path = vm.path().to_owned();
    let house = House::with(|settings| settings.cgroup_parent = Some(path)).await;
    if house.is_enforced() && house.has(Family::Python) {
        let mut order = python("def main(args):\n    return {'n': len(b'x' * (args['mib'] << 20))}\n");
        order.ceiling = Resources::new(1000, 400);
        let mut sandbox = house.start(order).await;
        vm.set_memory(Some(Mebibytes(64))).unwrap();
        let report = sandbox.run(run(r#"{"mib":200}"#)).await;
        assert_eq!(report.verdict, Verdict::VmFull, "its own ceiling would have let it");
        sandbox.stop().await;
    }
    house.workshop.close().await;
    vm.kill_all(Duration::from_secs(5)).unwrap();
    vm.remove().unwrap();
}
