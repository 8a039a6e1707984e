//! `SIGTERM`: the VM goes after the configured grace; a second one means now.

use std::io;

use futures::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use vocabulary::Span;

use super::{NoticeSource, Said};

/// Hears the signal from the moment it is made.
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

    fn next(&self) -> BoxFuture<'_, Said> {
        Box::pin(async {
            let mut signals = self.signals.lock().await;
            let (signal, count) = &mut *signals;
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            *count += 1;
            Said::WillEnd(if *count == 1 { self.grace } else { Span::ZERO })
        })
    }
}
