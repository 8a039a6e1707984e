//! One fixed example of every message, with every field filled, so that every field's bytes are kept.
#![allow(dead_code)] // Each test file uses a part of it.

use messages::*;
use vocabulary::*;

pub const INVOCATION: InvocationId = InvocationId(0x0193_b1c0_ffee_0000_0000_0000_0000_abcd);

pub fn card() -> FunctionCard {
    FunctionCard {
        id: FunctionId(0xf00d),
        revision: Revision(7),
        reservation: Resources::new(500, 256),
        timeout: Span::seconds(60),
        on_eviction: OnEviction::RerunAtLoss,
        application: None,
    }
}

pub fn path() -> FunctionPath {
    FunctionPath { namespace: "guest".into(), name: "pkg/hello".into() }
}

pub fn grant() -> Grant {
    Grant::new(Resources::new(250, 128), Resources::new(500, 256))
}

pub fn lending_grant() -> Grant {
    Grant { weight: MilliCores(2_000), lasts: Span::millis(80), ..grant() }
}

pub fn trace() -> TraceContext {
    TraceContext {
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        tracestate: Some("vendor=1".into()),
    }
}

pub fn usage() -> Usage {
    Usage {
        cpu_time: Span::millis(12),
        cpu_peak: MilliCores(400),
        memory_peak: Mebibytes(64),
        throttled: Span::micros(3),
        safeguarded: false,
    }
}

pub fn payload() -> Payload {
    br#"{"name":"Ada"}"#.to_vec().into()
}

pub fn submit() -> Submit {
    Submit {
        invocation: INVOCATION,
        function: card(),
        path: path(),
        namespace: "caller".into(),
        reply_to: "windfall.frontend-1.answer.x".into(),
        first_attempt: Attempt(2),
        patience: Span::seconds(60),
        payload: payload(),
        input_size: None,
        durable: true,
        api_key: Some("uuid:key".into()),
        transaction: "my-id".into(),
        trace: Some(trace()),
    }
}

pub fn run() -> Run {
    Run {
        invocation: INVOCATION,
        attempt: Attempt(2),
        controller: ControllerId(0xc0),
        function: card(),
        path: path(),
        namespace: "caller".into(),
        reply_to: "windfall.frontend-1.answer.x".into(),
        grant: grant(),
        waited: Span::millis(3),
        payload: payload(),
        input_size: None,
        durable: true,
        api_key: Some("uuid:key".into()),
        transaction: "my-id".into(),
        trace: Some(trace()),
    }
}

pub fn answer() -> Answer {
    Answer {
        invocation: INVOCATION,
        attempt: Attempt(2),
        outcome: Outcome::ApplicationError,
        result: br#"{"error":"no"}"#.to_vec().into(),
        vm: Some(VmId(0x1f)),
        start: Start::Cold,
        grant: Some(grant()),
        started_unix_ms: 1_700_000_000_123,
        waited: Span::millis(3),
        init: Span::millis(40),
        duration: Span::millis(12),
        timed_out: true,
    }
}

pub fn refused() -> Refused {
    Refused { invocation: INVOCATION, why: RefusedWhy::QueueFull, reason: "the queue is full".into() }
}

pub fn fence() -> Fence {
    Fence { invocation: INVOCATION, oldest_valid: Attempt(3), also: None }
}

pub fn finishes() -> Finishes {
    let ran = Finished {
        invocation: INVOCATION,
        attempt: Attempt(2),
        function: FunctionId(0xf00d),
        revision: Revision(7),
        ended: Ended::Answered(Outcome::Success),
        start: Start::Warm,
        init: Span::ZERO,
        duration: Span::millis(12),
        usage: usage(),
        sandbox_kept: true,
        input_bytes: 14,
    };
    let cancelled = Finished { ended: Ended::Cancelled, ..ran.clone() };
    Finishes { vm: VmId(0x1f), endings: vec![ran, cancelled] }
}

pub fn report() -> Report {
    Report {
        sequence: 9,
        status: VmStatus {
            vm: VmId(0x1f),
            kind: VmKind::Harvest,
            capacity: Resources::new(4000, 8192),
            standing: VmStanding::Draining,
            warm: vec![WarmOnVm { function: FunctionId(0xf00d), revision: Revision(7), idle: 2 }],
            running: vec![RunningOnVm {
                invocation: INVOCATION,
                attempt: Attempt(2),
                function: card(),
                grant: grant(),
            }],
        },
        used: Resources::new(300, 200),
        pid: 4321,
        metrics: "127.0.0.1:9000".into(),
        age: Span::seconds(33),
        enforcement: "everything".into(),
        capacity_source: "kvp/memory".into(),
        store_stalled: None,
        notice: Some(standing_notice()),
        hindrance: hindrance(),
    }
}

pub fn standing_notice() -> StandingNotice {
    StandingNotice { time_left: Span::seconds(12), source: "azure".into() }
}

pub fn hindrance() -> Hindrance {
    Hindrance {
        stolen: Span::micros(40),
        throttled: Span::micros(30),
        cpu_pressure: Span::micros(20),
        memory_pressure: Span::micros(10),
    }
}

pub fn usage_batch() -> UsageBatch {
    let run = RunUsage {
        function: FunctionId(0xf00d),
        reservation: card().reservation,
        grant: lending_grant(),
        input_bytes: 14,
        ended_before: Span::millis(250),
        waited: Span::millis(3),
        init: Span::millis(40),
        duration: Span::millis(80),
        usage: usage(),
        answered: true,
        starved: false,
    };
    UsageBatch {
        controller: ControllerId(0xc0),
        sequence: 9,
        sent_unix_ms: 1_764_000_000_000,
        vms: 2,
        capacity: Resources::new(2_000, 2_048),
        skipped: 1,
        runs: vec![run.clone(), RunUsage { answered: false, starved: true, ..run }],
    }
}

pub fn demanded() -> Demanded {
    let load = Load {
        running: Resources::new(4_000, 2_048),
        waiting: Resources::new(1_000, 512),
        predicted: Resources::new(3_000, 1_024),
        largest: Resources::new(500, 256),
    };
    Demanded { controller: ControllerId(0xc0), demand: Demand { regular: Load::default(), harvest: load } }
}

pub fn fleet_list() -> FleetList {
    let vm = FleetVm {
        vm: VmId(0x1f),
        kind: VmKind::Regular,
        capacity: Resources::new(4000, 8192),
        used: Resources::new(300, 200),
        standing: Some(VmStanding::Open),
        running: 3,
        warm: 2,
        silent: Some(Span::millis(700)),
        age: Span::seconds(33),
        pid: 4321,
        metrics: "127.0.0.1:9000".into(),
        capacity_source: "kvp/memory".into(),
        notice: Some(standing_notice()),
        hindrance: hindrance(),
    };
    FleetList { vms: vec![FleetVm { standing: None, silent: None, ..vm.clone() }, vm], store_stalled: None }
}

pub fn record() -> Record {
    let line = |stream, text: &str| LogLine { unix_us: 1_700_000_000_123_456, stream, text: text.into() };
    Record {
        invocation: INVOCATION,
        attempt: Attempt(2),
        namespace: "caller".into(),
        path: path(),
        version: "0.0.3".into(),
        kind: "python:3".into(),
        outcome: Outcome::DeveloperError,
        result: br#"{"error":"no"}"#.to_vec().into(),
        timed_out: true,
        started_unix_ms: 1_700_000_000_123,
        ended_unix_ms: 1_700_000_000_175,
        waited: Span::millis(3),
        init: Span::millis(40),
        duration: Span::millis(12),
        start: Start::Cold,
        vm: Some(VmId(0x1f)),
        reservation: Resources::new(500, 256),
        timeout: Span::seconds(60),
        log_limit_mb: 10,
        grant: Some(grant()),
        usage: usage(),
        logs: vec![line(LogStream::Stdout, "grüß"), line(LogStream::Stderr, "oops")],
        logs_stored_apart: true,
    }
}

pub fn finishes_safeguarded() -> Finishes {
    let mut finishes = finishes();
    finishes.endings.iter_mut().for_each(|ending| ending.usage.safeguarded = true);
    finishes
}

pub fn finishes_starved() -> Finishes {
    let mut finishes = finishes();
    finishes.endings.iter_mut().for_each(|ending| ending.ended = Ended::Starved);
    finishes
}

/// Calls `$each!(file_name: Type = example)` for every message that crosses NATS.
#[macro_export]
macro_rules! every_message {
    ($each:ident) => {
        $each! {
            submit: Submit = examples::submit();
            refused: Refused = examples::refused();
            run: Run = examples::run();
            run_that_lends: Run = Run { grant: examples::lending_grant(), ..examples::run() };
            submit_of_a_size: Submit = Submit { input_size: Some(1_000_000), ..examples::submit() };
            run_of_a_size: Run = Run { input_size: Some(1_000_000), ..examples::run() };
            fence: Fence = examples::fence();
            fence_with_two: Fence = Fence { also: Some(Attempt(1)), ..examples::fence() };
            cancel: Cancel = Cancel { invocation: INVOCATION, attempt: Attempt(2) };
            answer: Answer = examples::answer();
            reply_answer: Reply = Reply::Answer(examples::answer());
            reply_refused: Reply = Reply::Refused(examples::refused());
            reply_fence: Reply = Reply::Fence(examples::fence());
            finishes: Finishes = examples::finishes();
            finishes_safeguarded: Finishes = examples::finishes_safeguarded();
            finishes_starved: Finishes = examples::finishes_starved();
            inquiry: Inquiry = Inquiry { invocations: vec![INVOCATION] };
            unknown: Unknown = Unknown { invocations: vec![INVOCATION] };
            record: Record = examples::record();
            report: Report = examples::report();
            notice: Notice = Notice {
                vm: VmId(0x1f), time_left: Some(Span::seconds(30)), source: "azure".into(),
            };
            notice_called_off: Notice = Notice { vm: VmId(0x1f), time_left: None, source: "azure".into() };
            evict: Evict = Evict { time_left: Some(Span::seconds(30)) };
            drain: Drain = Drain { then_leave: true };
            prewarm: Prewarm = Prewarm { function: examples::card(), path: examples::path(), count: 2 };
            hand_back: HandBack = HandBack {
                vm: VmId(0x1f),
                items: vec![HandedBack { invocation: INVOCATION, attempt: Attempt(2) }],
            };
            adopt: Adopt =
                Adopt { controller: ControllerId(0xc0), invocation: INVOCATION, attempt: Attempt(2) };
            known: Known = Known {
                vm: VmId(0x1f),
                invocation: INVOCATION,
                attempt: Attempt(2),
                newest: Attempt(3),
                runs: true,
            };
            controller_alive: ControllerAlive = ControllerAlive { controller: ControllerId(0xc0), leaving: true };
            vm_lost: VmLost = VmLost { vm: VmId(0x1f) };
            demanded: Demanded = examples::demanded();
            usage_batch: UsageBatch = examples::usage_batch();
            frontend_alive: FrontendAlive = FrontendAlive { frontend: FrontendId(0xfe), calls: vec![] };
            frontend_alive_with_calls: FrontendAlive = FrontendAlive {
                frontend: FrontendId(0xfe),
                calls: vec![NamespaceCalls { namespace: "guest".into(), minute: 28_333_333, calls: 17, open: 3 }],
            };
            catch_up: CatchUp = CatchUp { revision: Revision(7) };
            caught_up: CaughtUp = CaughtUp { frontend: FrontendId(0xfe) };
            fleet_list: FleetList = examples::fleet_list();
        }
    };
}
