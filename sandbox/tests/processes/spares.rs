//! Python processes made in advance.

use std::time::{Duration, Instant};

use sandbox::Family;

use crate::harness::tests;
use crate::house::{House, answer, json, python, run};

tests![
    a_spare_becomes_the_same_sandbox_as_a_new_process,
    more_starts_than_spares_are_served_and_the_dead_are_not_given_away,
];

async fn has_spares(house: &House, count: usize) {
    let until = Instant::now() + Duration::from_secs(10);
    while house.workshop.python_spares() != count {
        assert!(Instant::now() < until, "{} spares", house.workshop.python_spares());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const WHO: &str = "
import os, socket
def main(args):
    with open('/tmp/mine', 'w') as file: file.write('x')
    status = dict(line.split(':', 1) for line in open('/proc/self/status'))
    return {'host': socket.gethostname(), 'uid': os.getuid(), 'pid': os.getpid(), 'tmp': os.listdir('/tmp'),
            'caps': status['CapEff'].strip(), 'locked': status['NoNewPrivs'].strip(),
            'open': len(os.listdir('/proc/self/fd')), 'home': os.getcwd()}
";

async fn a_spare_becomes_the_same_sandbox_as_a_new_process() {
    let (with, without) = (House::open().await, House::with(|settings| settings.python_spares = 0).await);
    if !with.has(Family::Python) || !with.is_enforced() {
        return;
    }
    has_spares(&with, 2).await;
    let order = python(WHO);
    let (mut spare, mut new) = (with.start(order.clone()).await, without.start(order.clone()).await);
    assert_eq!(without.workshop.python_spares(), 0);
    let (from_spare, from_new) = (spare.run(run("{}")).await, new.run(run("{}")).await);
    let (from_spare, from_new) = (json(&from_spare), json(&from_new));
    assert_eq!(from_spare, from_new);
    assert_eq!(from_spare["host"], order.name.as_str());
    assert_eq!(from_spare["caps"], "0000000000000000");
    spare.stop().await;
    new.stop().await;
    has_spares(&with, 2).await;
    with.workshop.close().await;
    without.workshop.close().await;
}

async fn more_starts_than_spares_are_served_and_the_dead_are_not_given_away() {
    let house = House::open().await;
    if !house.has(Family::Python) {
        return;
    }
    has_spares(&house, 2).await;
    let order = || python("def main(args): return {'n': args['n']}");
    let starts = (0..5).map(|_| house.start(order()));
    let mut started = futures::future::join_all(starts).await;
    for (number, sandbox) in started.iter_mut().enumerate() {
        let report = sandbox.run(run(format!("{{\"n\":{number}}}"))).await;
        assert_eq!(answer(&report), format!("{{\"n\":{number}}}"));
    }
    has_spares(&house, 2).await;
    // With the zygote go its spares.
    let zygote = *house.workshop.nursery_pids().await.last().expect("a zygote") as i32;
    // SAFETY: a process that the Workshop has just named.
    unsafe { libc::kill(zygote, libc::SIGKILL) };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut after = house.start(order()).await;
    assert_eq!(answer(&after.run(run("{\"n\":9}")).await), "{\"n\":9}");
    house.workshop.close().await;
}
