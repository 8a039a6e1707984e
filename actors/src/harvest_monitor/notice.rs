//! Who may announce that this VM will be evicted.
//!
//! `SIGTERM` is the notice of everything that runs processes: systemd, Kubernetes, `docker stop`, our own provider.
//! The sources of clouds (Azure Scheduled Events, AWS instance metadata, GCP preemption) find their place beside it.

use std::io;

use futures::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use vocabulary::Span;

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// From now until the VM is gone; absent when an eviction was called off.
    pub time_left: Option<Span>,
    /// Who says so, as in [`messages::Notice::source`].
    pub source: &'static str,
}

/// Somebody who announces evictions.
pub trait NoticeSource: Send + Sync + 'static {
    /// As in [`messages::Notice::source`].
    fn name(&self) -> &'static str;

    /// The next thing it says; waits for as long as it takes. A call that is given up loses nothing.
    fn next(&self) -> BoxFuture<'_, Noticed>;
}

/// `SIGTERM`: the VM goes after the configured grace; a second one means now.
pub struct Sigterm {
    grace: Span,
    signals: Mutex<(Signal, u32)>,
}

impl Sigterm {
    /// As in [`messages::Notice::source`].
    pub const NAME: &'static str = "sigterm";

    /// From now on SIGTERM no longer ends this process. Must be called on a tokio runtime.
    pub fn listen(grace: Span) -> io::Result<Self> {
        Ok(Self { grace, signals: Mutex::new((signal(SignalKind::terminate())?, 0)) })
    }
}

impl NoticeSource for Sigterm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn next(&self) -> BoxFuture<'_, Noticed> {
        Box::pin(async {
            let mut signals = self.signals.lock().await;
            let (signal, count) = &mut *signals;
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            *count += 1;
            let time_left = if *count == 1 { self.grace } else { Span::ZERO };
            Noticed { time_left: Some(time_left), source: self.name() }
        })
    }
}
