//! One per VM process: finds what the machine allows, and makes sandboxes.

use std::io;

use crate::{Enforcement, Kind, Sandbox, StartError, StartOrder, WorkshopSettings};

/// Why there is no Workshop.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// The machine failed us.
    #[error("could not {doing}: {source}")]
    Host {
        /// What we were doing, as the rest of "could not ...".
        doing: String,
        /// What the machine said.
        source: io::Error,
    },
}

/// Makes sandboxes. One per VM process.
pub struct Workshop {
    enforcement: Enforcement,
    kinds: Vec<Kind>,
}

impl Workshop {
    /// Finds out what this machine allows and prepares what all sandboxes share.
    pub async fn open(_settings: WorkshopSettings) -> Result<Workshop, WorkshopError> {
        Ok(Workshop { enforcement: Enforcement::default(), kinds: Vec::new() })
    }

    /// What is enforced, and what is not. Print it where people will see it.
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// The kinds that can be started here, aliases included.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Starts a sandbox: process made and code loaded.
    pub async fn start(&self, order: StartOrder) -> Result<Box<dyn Sandbox>, StartError> {
        Err(StartError::NoRuntime { kind: order.kind, available: String::new() })
    }

    /// Ends what all sandboxes share, and removes scratch space and groups. Stop the sandboxes first; what
    /// is left of them is killed.
    pub async fn close(&self) {}
}
