//! What the house keeps: functions, code, namespaces, records, durable submissions, models, and what runs used; all in JetStream.
//!
//! **Knows:** the names and limits of the streams and buckets, and how each kind of thing is laid out there.
//! **Promises:** any number of processes may open it at once; what exists is adapted, not made again. Functions
//! and namespaces are read from a watched copy in memory, complete before [`Store::open`] returns and made
//! anew after every reconnect. A record is stored once per invocation, however often it is sent.
//! **Gives up:** durability beyond what JetStream is configured for: it acknowledges before it syncs to disk
//! (`sync_interval`), and survives the loss of a node only with `store.replicas` of 3 or more.

mod bucket;
mod code;
mod error;
mod functions;
mod models;
mod namespaces;
mod profiles;
mod records;
mod scan;
mod streams;
mod submissions;
pub mod taking;
mod usage;
mod watched;

pub use code::Code;
pub use error::StoreError;
pub use functions::{
    CodeReference, FunctionDefinition, FunctionLimits, Functions, INPUT_SIZE, JsonText, ON_EVICTION,
    Parameter, Version,
};
pub use models::{Compared, MODEL_IN_STORE_MAX, Model, Models, Standing};
pub use namespaces::{Credentials, Namespace, NamespaceLimits, Namespaces};
pub use profiles::Profiles;
pub use records::{RecordCounters, Records, Written};
pub use scan::RecordQuery;
pub use submissions::{DUPLICATE_WINDOW, Submissions};
pub use usage::{UsageRead, UsageStream};

use std::sync::Arc;

use crate::bus::Bus;
use crate::settings;

/// Everything that is kept. Copies share everything and cost nothing: the client's handles of streams carry what
/// they know of them, and copying that beside every invocation is mostly `malloc`.
#[derive(Clone)]
pub struct Store {
    kept: Arc<Kept>,
}

struct Kept {
    /// For what is opened only by those who need it: models, and what runs used.
    bus: Bus,
    context: async_nats::jetstream::Context,
    settings: settings::Store,
    functions: Functions,
    code: Code,
    namespaces: Namespaces,
    profiles: Option<Profiles>,
    records: Records,
    submissions: Submissions,
}

impl Store {
    /// Creates or adapts every stream and bucket, and waits until functions and namespaces are read in full.
    ///
    /// # Errors
    /// JetStream is off, has no space, has fewer nodes than `store.replicas`, or does not answer.
    pub async fn open(bus: &Bus, settings: &settings::Store) -> Result<Self, StoreError> {
        let context = streams::context(bus);
        streams::check(&context).await?;
        let kept = Kept {
            functions: Functions::open(bus, &context, settings).await?,
            code: Code::open(&context, settings).await?,
            namespaces: Namespaces::open(bus, &context, settings).await?,
            profiles: Profiles::open(&context, settings).await?,
            records: Records::open(&context, settings).await?,
            submissions: Submissions::open(&context, settings).await?,
            bus: bus.clone(),
            settings: settings.clone(),
            context,
        };
        Ok(Self { kept: Arc::new(kept) })
    }

    /// Definitions of functions.
    pub fn functions(&self) -> &Functions {
        &self.kept.functions
    }

    /// Their code.
    pub fn code(&self) -> &Code {
        &self.kept.code
    }

    /// Who may call.
    pub fn namespaces(&self) -> &Namespaces {
        &self.kept.namespaces
    }

    /// What is known of functions; `None` where that is not kept.
    pub fn profiles(&self) -> Option<&Profiles> {
        self.kept.profiles.as_ref()
    }

    /// What remains of invocations.
    pub fn records(&self) -> &Records {
        &self.kept.records
    }

    /// Durable submissions that have not ended.
    pub fn submissions(&self) -> &Submissions {
        &self.kept.submissions
    }
}
