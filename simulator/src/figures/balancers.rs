//! Balancers under growing load: SOSP'21's figures 12, 13 and 15.
//!
//! **Knows:** the three clusters, the mix of functions, and what was published of three balancers.
//! **Promises:** each released balancer has its own invoker and controller around it (`policies::released`); every policy is given
//! the same calls with the same work.
//! **Gives up:** nothing in the released scripts, which tell the VMs' memory: 131,072 MiB each. What such VMs would have if one bought them, 4
//! GiB to a core, is played beside it, but not in a hurry.

mod published;
mod story;

use super::sosp::{self, POLICIES};
use super::{Cell, Drawn, Figure, Played, Size, curve};
use crate::house::House;
use crate::machines::SospSet;
use crate::workload::TraceError;

/// See the module.
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

/// Users: the paper's levels, and beyond them where the better ones of today still hold.
const LOADS: [u32; 14] = [10, 25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300, 350];
const QUICK_LOADS: [u32; 6] = [50, 100, 150, 200, 250, 300];

/// A curve is followed until so many of its points are over the limit: the first is needed, the second shows how it bends.
const POINTS_BEYOND: usize = 2;

impl Figure for Balancers {
    fn name(&self) -> &'static str {
        "balancers"
    }

    fn about(&self) -> &'static str {
        "P99 and cold starts against load for the balancers of SOSP'21 (its figures 12, 13 and 15): 401 functions of nine kinds on ten \
         VMs for twenty minutes. What is compared is the load at which the P99 reaches 50 s, by straight lines between the loads, as the published \
         curves were read."
    }

    fn cells(&self, size: &Size) -> Vec<Cell> {
        let loads: &[u32] = if size.quick { &QUICK_LOADS } else { &LOADS };
        let mut cells = Vec::new();
        for place in PLACES.iter().filter(|place| place.whole_host || !size.quick) {
            for policy in &POLICIES {
                for &load in loads {
                    for seed in size.seeds(1, 3) {
                        cells.push(Cell {
                            cluster: place.name.into(),
                            policy: policy.name.into(),
                            load,
                            seed,
                        });
                    }
                }
            }
        }
        cells
    }

    fn goes_on(&self, cell: &Cell, played: &[Played]) -> bool {
        curve::beyond(cell, played) < POINTS_BEYOND
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let place = PLACES.iter().find(|place| place.name == cell.cluster).expect("a cell of ours");
        sosp::house(cell, place.set, place.whole_host, size)
    }

    fn draw(&self, played: &[Played], _size: &Size, notes: Vec<String>) -> Drawn {
        story::draw(self, played, notes)
    }
}
