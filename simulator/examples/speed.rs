//! How fast the engine is: a load shaped like the sample of 500 functions of the Azure Functions 2019 tables (105 calls a
//! second over eight hours, the busiest function with a third of them, runs from milliseconds to tens of seconds), open loop, on 100 VMs.
//!
//!     cargo run --release -p simulator --example speed -- [placement] [calls] [VMs] [calls per second] [unchecked]
//!
//! Prints events and invocations per second of one core.

use std::time::Instant;

use policies::chance::SplitMix64;
use policies::placement;
use simulator::plan::{Call, Calls, FunctionPlan, Machines, VmPlan, Work};
use simulator::{House, play};
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision, Span, VmKind,
};

const FUNCTIONS: usize = 500;

/// Above 0, at most 1.
fn unit(chance: &mut SplitMix64) -> f64 {
    ((chance.any() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A Poisson stream in all, shared out by popularity.
struct OpenLoop {
    chance: SplitMix64,
    next: Option<Moment>,
    left: u64,
    gap_us: f64,
    /// Popularity, summed up.
    until: Vec<f64>,
    /// Mean duration, share of it that is computing.
    functions: Vec<(f64, f64)>,
}

impl Calls for OpenLoop {
    fn next_at(&self) -> Option<Moment> {
        self.next
    }

    fn take(&mut self) -> Call {
        let now = self.next.expect("taken only when there is one");
        self.left -= 1;
        let gap = -unit(&mut self.chance).ln() * self.gap_us;
        self.next = (self.left > 0).then(|| now + Span(gap as u64));
        let drawn = unit(&mut self.chance) * self.until[FUNCTIONS - 1];
        let function = self.until.partition_point(|&until| until < drawn).min(FUNCTIONS - 1);
        let (mean, computes) = self.functions[function];
        // Log-normal with sigma 1, by twelve uniform draws for the normal.
        let normal: f64 = (0..12).map(|_| unit(&mut self.chance)).sum::<f64>() - 6.0;
        let micros = mean * (normal - 0.5).exp();
        let work = Work {
            io: Span((micros * (1.0 - computes)) as u64),
            cpu: Span((micros * computes) as u64),
            saturation: MilliCores(1_000),
            memory: Mebibytes(100),
            input_bytes: 1_000,
        };
        Call { function: function as u32, work, user: 0 }
    }
}

struct Same(u32);

impl Machines for Same {
    fn given(&mut self) -> Vec<VmPlan> {
        let plan = |_| VmPlan {
            kind: VmKind::Harvest,
            starts_at: Moment::ORIGIN,
            size: Resources::new(16_000, 65_536),
            changes: Vec::new(),
            gone: None,
        };
        (0..self.0).map(plan).collect()
    }

    fn launch(&mut self, _now: Moment, _kind: VmKind, _size: Resources) -> Option<VmPlan> {
        None
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| {
        arguments.get(index).map_or(default, |text| text.parse().expect("a number"))
    };
    let name = arguments.first().map_or("mws", String::as_str);
    let (calls, vms, per_second) = (number(1, 3_037_902), number(2, 100), number(3, 105));
    let mut chance = SplitMix64::new(7);
    let (mut until, mut sum) = (Vec::new(), 0.0);
    for rank in 1..=FUNCTIONS {
        sum += 1.0 / (rank as f64).powf(1.4);
        until.push(sum);
    }
    let functions: Vec<(f64, f64)> = (0..FUNCTIONS)
        .map(|_| (10_f64.powf(3.5 + 3.0 * unit(&mut chance)), 0.2 + 0.8 * unit(&mut chance)))
        .collect();
    let plans = (0..FUNCTIONS).map(|index| FunctionPlan {
        name: format!("f{index}"),
        app: index as u32,
        card: FunctionCard {
            id: FunctionId(index as u64 + 1),
            revision: Revision(1),
            reservation: Resources::new(1_000, 256),
            timeout: Span::seconds(600),
            on_eviction: OnEviction::Rerun,
            application: None,
        },
        cold_start: Span::millis(400),
    });
    let open_loop = OpenLoop {
        chance,
        next: Some(Moment::ORIGIN + Span::seconds(2)),
        left: calls,
        gap_us: 1e6 / per_second as f64,
        until,
        functions,
    };
    let mut house = House::new("speed", plans.collect(), Box::new(open_loop), Box::new(Same(vms as u32)));
    house.placement = placement::by_name(name, &placement::Settings::default()).expect("a placement");
    if arguments.get(4).is_some_and(|word| word == "unchecked") {
        house.checks_bookings = false;
    }
    let began = Instant::now();
    let (report, _) = play(house);
    let took = began.elapsed().as_secs_f64();
    println!("{report}");
    println!(
        "{:.2} s: {:.0} events/s, {:.0} invocations/s",
        took,
        report.events as f64 / took,
        report.submitted as f64 / took
    );
}
