//! Balancers under growing load: SOSP'21's figures 12, 13 and 15.
//!
//! **Knows:** the three clusters, the mix of functions, and what was published of three balancers.
//! **Promises:** each released balancer has its own invoker and controller around it (`policies::released`); every policy is given
//! the same calls with the same work.
//! **Gives up:** loads that nobody asks about: a curve is walked in steps of fifty users until it is over the limit, and then played once
//! more in between, so that the crossing is read between loads 25 users apart, as near as the published ones. What such VMs
//! would have for memory if one bought them, 4 GiB to a core instead of the released 131,072 MiB each, is played beside it, but not in a
//! hurry and with one seed.

mod published;
mod story;

use super::sosp::{self, POLICIES};
use super::{Cell, Cells, Drawn, Played, Size, curve};
use crate::house::House;
use crate::machines::SospSet;
use crate::workload::TraceError;

/// See the module.
#[derive(Clone, Copy)]
pub struct Balancers;

/// Where it is played: a cluster, with the memory that is assumed for its VMs.
struct Place {
    name: &'static str,
    set: SospSet,
    /// Every VM has its host's memory, whatever its cores.
    whole_host: bool,
}

const PLACES: [Place; 6] = [
    Place { name: "Normal", set: SospSet::Normal, whole_host: true },
    Place { name: "Active", set: SospSet::Active, whole_host: true },
    Place { name: "Dedicated", set: SospSet::Dedicated, whole_host: true },
    Place { name: "Normal, 4 GiB a core", set: SospSet::Normal, whole_host: false },
    Place { name: "Active, 4 GiB a core", set: SospSet::Active, whole_host: false },
    Place { name: "Dedicated, 4 GiB a core", set: SospSet::Dedicated, whole_host: false },
];

/// Users: the paper's levels but for those that would tell least, and beyond them where the better ones of today still hold.
const LOADS: [u32; 10] = [10, 25, 50, 100, 150, 200, 250, 300, 350, 400];
const QUICK_LOADS: [u32; 5] = [50, 100, 200, 300, 400];
/// A handful, to see that everything comes out.
const TINY_LOADS: [u32; 1] = [3];

/// How near two loads come on either side of the crossing.
const NEAR: u32 = 25;
const QUICK_NEAR: u32 = 50;

fn places(size: &Size) -> &'static [Place] {
    size.pick(&PLACES, &PLACES[..3], &PLACES[..3])
}

fn loads(size: &Size) -> &'static [u32] {
    size.pick(&LOADS[..], &QUICK_LOADS[..], &TINY_LOADS[..])
}

fn lines(size: &Size) -> impl Iterator<Item = Cell> {
    places(size).iter().flat_map(move |place| {
        let seeds = if place.whole_host { size.seeds(5, 1) } else { 1..=1 };
        POLICIES.iter().flat_map(move |policy| {
            let cell = |seed| Cell { cluster: place.name.into(), policy: policy.name.into(), load: 0, seed };
            seeds.clone().map(cell)
        })
    })
}

impl Cells for Balancers {
    fn name(&self) -> &'static str {
        "balancers"
    }

    fn about(&self) -> &'static str {
        "P99 and cold starts against load for the balancers of SOSP'21 (its figures 12, 13 and 15): 401 functions of nine kinds on ten \
         VMs for twenty minutes. What is compared is the load at which the P99 reaches 50 s, by straight lines between the loads, as the published \
         curves were read."
    }

    fn most(&self, size: &Size) -> usize {
        lines(size).count() * (loads(size).len() + size.pick(1, 1, 0))
    }

    fn next(&self, size: &Size, played: &[Played]) -> Vec<Cell> {
        let near = size.pick(NEAR, QUICK_NEAR, NEAR);
        let next = |line: Cell| {
            let load = curve::next_load(&line, played, loads(size), near)?;
            Some(Cell { load, ..line })
        };
        lines(size).filter_map(next).collect()
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let place = PLACES.iter().find(|place| place.name == cell.cluster).expect("a cell of ours");
        sosp::house(cell, place.set, place.whole_host, size)
    }

    fn draw(&self, played: &[Played], size: &Size, notes: Vec<String>) -> Drawn {
        story::draw(self, played, loads(size), notes)
    }
}
