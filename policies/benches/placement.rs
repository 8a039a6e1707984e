//! What one decision costs, by the number of VMs.
//!
//! `place/<algorithm>/<case>/<VMs>` is the placement alone; `call/<algorithm>/<VMs>` is a whole invocation through the
//! Controller's mind: `Submitted`, placement, booking, `Run`, `Finished`, learning. Worker sets of four in all cases.
//! The goal is 2 us per placement, flat in the number of VMs, for `mws`; `jsq` looks at every VM.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policies::allocation::fixed::Fixed;
use policies::dispatch::{Dispatch, Ending, Input, Output, Settings, Submission};
use policies::placement::{self, Ask, Books, Placement};
use vocabulary::{
    FunctionCard, FunctionId, InvocationId, Moment, OnEviction, Outcome, Resources, Revision, Span, Usage,
    VmId, VmKind, VmStanding, VmStatus,
};

const SIZES: [u64; 3] = [10, 1_000, 10_000];
const VM: Resources =
    Resources { cpu: vocabulary::MilliCores(16_000), memory: vocabulary::Mebibytes(65_536) };
const FUNCTIONS: u64 = 64;

fn ask(function: u64) -> Ask {
    Ask {
        function: FunctionId(function),
        revision: Revision(1),
        demand: Resources::new(1_000, 256),
        // Four VMs of 16 cores, used to 0.8, hold 51.
        concurrency_milli: 48_000,
        kind: VmKind::Harvest,
        ends: Moment::NEVER,
    }
}

fn house(name: &str, vms: u64) -> (Books, Box<dyn Placement>) {
    let mut books = Books::new(1_000);
    let mut placement = placement::by_name(name, &placement::Settings::default()).expect("a listed name");
    for id in 0..vms {
        let slot = books.add(VmId(id), VmKind::Harvest, VM);
        books.set_takes_work(slot, true);
        placement.offer(&books, slot);
    }
    (books, placement)
}

fn place(criterion: &mut Criterion) {
    for name in placement::NAMES {
        for vms in SIZES {
            for case in ["all_cold", "last_warm", "set_full"] {
                let (mut books, mut placement) = house(name, vms);
                for function in 0..FUNCTIONS {
                    let ask = ask(function);
                    // Walk the ring once, and find the four by filling them one after the other.
                    let mut set = Vec::new();
                    for _ in 0..4 {
                        let choice = placement.place(Moment::ORIGIN, &books, &ask).expect("there is room");
                        books.book_own(choice.slot, VM);
                        set.push(choice.slot);
                    }
                    if case != "set_full" || function > 0 {
                        set.iter().for_each(|&slot| books.release_own(slot, VM));
                    }
                    if case == "last_warm" {
                        books.put_idle(ask.function, ask.revision, set[3], 1);
                    }
                }
                let mut function = 0;
                let functions = if case == "set_full" { 1 } else { FUNCTIONS };
                let id = format!("place/{name}/{case}/{vms}");
                criterion.bench_function(&id, |bencher| {
                    bencher.iter(|| {
                        function = (function + 1) % functions;
                        black_box(placement.place(Moment::ORIGIN, &books, &ask(function)))
                    });
                });
            }
        }
    }
}

fn call(criterion: &mut Criterion) {
    for name in placement::NAMES {
        for vms in SIZES {
            let placement = placement::by_name(name, &placement::Settings::default()).expect("a listed name");
            let settings = Settings { settle: Span::ZERO, vm_silence: Span::FOREVER, ..Settings::default() };
            let mut dispatch = Dispatch::new(settings, placement, Box::new(Fixed));
            let mut outputs: Vec<Output> = Vec::new();
            for id in 0..vms {
                let status = VmStatus {
                    vm: VmId(id),
                    kind: VmKind::Harvest,
                    capacity: VM,
                    standing: VmStanding::Open,
                    warm: vec![],
                    running: vec![],
                };
                dispatch.handle(Moment::ORIGIN, Input::VmReported(status), &mut outputs);
            }
            let mut n = 0_u64;
            criterion.bench_function(&format!("call/{name}/{vms}"), |bencher| {
                bencher.iter(|| {
                    n += 1;
                    let now = Moment(n * 20);
                    let function = FunctionCard {
                        id: FunctionId(n % FUNCTIONS),
                        revision: Revision(1),
                        reservation: Resources::new(1_000, 256),
                        timeout: Span::seconds(60),
                        on_eviction: OnEviction::Rerun,
                        application: None,
                    };
                    let invocation = InvocationId(u128::from(n));
                    let submission = Submission {
                        invocation,
                        function,
                        first_attempt: vocabulary::Attempt::FIRST,
                        input_bytes: 100,
                        give_up_at: now + Span::seconds(60),
                        durable: false,
                        truth: None,
                    };
                    outputs.clear();
                    dispatch.handle(now, Input::Submitted(submission), &mut outputs);
                    let Some(&Output::Run { vm, attempt, .. }) = outputs.last() else {
                        panic!("not sent: {outputs:?}")
                    };
                    let ending = Ending {
                        invocation,
                        attempt,
                        function: function.id,
                        revision: function.revision,
                        outcome: Some(Outcome::Success),
                        cold: false,
                        init: Span::ZERO,
                        duration: Span::millis(2),
                        usage: Usage::default(),
                        sandbox_kept: true,
                        input_bytes: 100,
                    };
                    dispatch.handle(now, Input::Finished { vm, ending }, &mut outputs);
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = place, call
}
criterion_main!(benches);
