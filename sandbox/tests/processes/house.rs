//! A Workshop to test with, and short words for orders.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use sandbox::{
    Code, Enforce, Family, Kind, Launcher, RunContext, RunOrder, RunReport, Sandbox, StartError, StartOrder,
    Verdict, Workshop, WorkshopSettings,
};
use vocabulary::{MilliCores, Resources, Span};

pub struct House {
    pub workshop: Workshop,
    _scratch: tempfile::TempDir,
}

/// Each test process has user ids of its own: several may run at a time.
pub fn settings(scratch: &tempfile::TempDir) -> WorkshopSettings {
    let launcher = Launcher {
        program: std::env::current_exe().expect("our own path"),
        args: vec!["sandbox-init".into()],
    };
    let mut settings = WorkshopSettings::new(scratch.path().join("sandboxes"), launcher);
    settings.uid_base = 2_000_000 + std::process::id() % 100_000 * 1_000;
    settings
}

impl House {
    pub async fn open() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn unenforced() -> Self {
        Self::with(|settings| settings.enforce = Enforce::Off).await
    }

    pub async fn with(change: impl FnOnce(&mut WorkshopSettings)) -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut settings = settings(&scratch);
        change(&mut settings);
        let workshop = Workshop::open(settings).await.expect("a workshop opens on every machine");
        Self { workshop, _scratch: scratch }
    }

    /// Whether this machine has the runtime; says so if not.
    pub fn has(&self, family: Family) -> bool {
        let has = self.workshop.catalogue().resolve(&kind(family)).is_some();
        if !has {
            println!("SKIPPED: no {family} on this machine");
        }
        has
    }

    /// Whether everything is enforced here; says so if not.
    pub fn is_enforced(&self) -> bool {
        let enforcement = self.workshop.enforcement();
        if !enforcement.is_complete() {
            println!("SKIPPED: {enforcement}");
        }
        enforcement.is_complete()
    }

    pub async fn start(&self, order: StartOrder) -> Box<dyn Sandbox> {
        self.workshop.start(order).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub async fn refused(&self, order: StartOrder) -> StartError {
        match self.workshop.start(order).await {
            Err(error) => error,
            Ok(_) => panic!("it should not have started"),
        }
    }

    pub async fn python(&self, code: &str) -> Box<dyn Sandbox> {
        self.start(python(code)).await
    }
}

pub fn kind(family: Family) -> Kind {
    Kind::new(family, "default").expect("a kind")
}

pub fn order(family: Family, code: impl Into<Bytes>, binary: bool) -> StartOrder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    StartOrder {
        name: format!("s{number}"),
        kind: kind(family),
        code: Code { bytes: code.into(), binary, digest: format!("d{number}") },
        main: None,
        env: Vec::new(),
        ceiling: Resources::new(1000, 256),
        weight: MilliCores(1_000),
        timeout: Span::seconds(60),
        log_limit: 10_000,
    }
}

pub fn python(code: &str) -> StartOrder {
    order(Family::Python, code.to_owned(), false)
}

pub fn node(code: &str) -> StartOrder {
    order(Family::Nodejs, code.to_owned(), false)
}

pub fn run(payload: impl Into<Bytes>) -> RunOrder {
    RunOrder {
        payload: payload.into(),
        context: RunContext {
            namespace: "guest".into(),
            action_name: "/guest/test".into(),
            action_version: "0.0.1".into(),
            activation_id: "0123456789abcdef0123456789abcdef".into(),
            transaction_id: "tx".into(),
            deadline_unix_ms: 1_700_000_000_000,
            ..RunContext::default()
        },
        timeout: Span::seconds(60),
        log_limit: 1 << 20,
        result_limit: 1 << 20,
    }
}

/// The answer as text.
pub fn answer(report: &RunReport) -> &str {
    match &report.verdict {
        Verdict::Answered(bytes) => std::str::from_utf8(bytes).expect("answers are UTF-8"),
        other => panic!("no answer: {other:?}; logs {:?}", report.logs),
    }
}

/// The answer as JSON.
pub fn json(report: &RunReport) -> serde_json::Value {
    serde_json::from_str(answer(report)).expect("answers are JSON")
}

/// The log as OpenWhisk shows it, without times.
pub fn texts(logs: &[sandbox::LogLine]) -> Vec<String> {
    logs.iter().map(|line| format!("{}: {}", line.stream.as_str(), line.text)).collect()
}
