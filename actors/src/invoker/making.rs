//! Making a sandbox: find the definition, fetch the code, start the process, load the code.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use messages::FunctionPath;
use policies::residency::SandboxId;
use ractor::ActorRef;
use sandbox::{Code, Kind, LogLine, Sandbox, StartError, StartOrder};
use vocabulary::{FunctionCard, MilliCores, Outcome, Resources, Span};

use super::outcome::of_start;
use super::{Arguments, InvokerMessage};
use crate::store::FunctionDefinition;

/// What came of it.
pub struct Made {
    pub(super) id: SandboxId,
    /// Ceiling and weight that it was made with.
    pub(super) share: (Resources, MilliCores),
    pub(super) result: Result<Ready, Failure>,
}

/// A sandbox that can run.
pub(super) struct Ready {
    pub sandbox: Box<dyn Sandbox>,
    pub definition: Arc<FunctionDefinition>,
    pub init: Span,
    pub init_logs: Vec<LogLine>,
}

/// Why there is none.
pub(super) struct Failure {
    /// Whether trying elsewhere would end the same way, so that the caller should be told.
    pub answerable: bool,
    pub outcome: Outcome,
    pub result: Bytes,
    pub timed_out: bool,
    pub out_of_memory: bool,
    pub message: String,
    pub kind: String,
    pub definition: Option<Arc<FunctionDefinition>>,
    pub logs: Vec<LogLine>,
    pub took: Span,
    pub began: SystemTime,
}

impl Failure {
    /// The house's own trouble: another VM may do better.
    fn of_house(message: String, began: SystemTime) -> Self {
        Self {
            answerable: false,
            outcome: Outcome::InternalError,
            result: Bytes::new(),
            timed_out: false,
            out_of_memory: false,
            message,
            kind: String::new(),
            definition: None,
            logs: Vec::new(),
            took: Span::ZERO,
            began,
        }
    }
}

/// Begins; the actor hears [`InvokerMessage::Made`].
pub(super) fn begin(
    given: &Arc<Arguments>,
    me: ActorRef<InvokerMessage>,
    name: String,
    id: SandboxId,
    function: FunctionCard,
    path: Option<FunctionPath>,
    share: (Resources, MilliCores),
) {
    let given = Arc::clone(given);
    tokio::spawn(async move {
        let result = make(&given, name, function, path, share).await;
        let _ = me.cast(InvokerMessage::Made(Box::new(Made { id, share, result })));
    });
}

async fn make(
    given: &Arguments,
    name: String,
    function: FunctionCard,
    path: Option<FunctionPath>,
    (ceiling, weight): (Resources, MilliCores),
) -> Result<Ready, Failure> {
    let began = SystemTime::now();
    let house = |message: String| Failure::of_house(message, began);
    let path = path.ok_or_else(|| house("nobody said where the function is stored".into()))?;
    let found = given
        .store
        .functions()
        .fetch(&path, function.revision)
        .await
        .map_err(|error| house(format!("cannot read the function: {error}")))?;
    // Deleted, or made again under the same name: the function that was asked for is gone.
    let gone = || Failure {
        answerable: true,
        outcome: Outcome::ApplicationError,
        result: serde_json::json!({ "error": "The function was deleted before it ran." }).to_string().into(),
        ..house("the function was deleted".into())
    };
    let definition = found.filter(|found| found.id == function.id).ok_or_else(gone)?;
    let bytes = match &definition.code {
        Some(code) => given
            .store
            .code()
            .get(&code.digest)
            .await
            .map_err(|error| house(format!("cannot read the function's code: {error}")))?,
        None => Bytes::new(),
    };
    let digest = definition.code.as_ref().map_or_else(|| "empty".to_owned(), |code| code.digest.clone());
    let kind: Kind = definition.kind.parse().map_err(|error| house(format!("{error}")))?;
    let order = StartOrder {
        name,
        kind,
        code: Code { bytes, binary: definition.binary, digest },
        main: (!definition.main.is_empty()).then(|| definition.main.clone()),
        env: environment(given, &definition),
        ceiling,
        weight,
        timeout: function.timeout,
        log_limit: log_limit(&definition),
    };
    match given.workshop.start(order).await {
        Ok(mut sandbox) => {
            let (init, init_logs) = (sandbox.init_took(), sandbox.take_init_logs());
            Ok(Ready { sandbox, definition, init, init_logs })
        }
        Err(mut error) => {
            let told = of_start(&error, function.timeout);
            let logs = error.take_logs();
            Err(Failure {
                // A runtime that is missing here may be missing everywhere: say so instead of trying on.
                answerable: error.is_developers() || matches!(error, StartError::NoRuntime { .. }),
                outcome: told.outcome,
                result: told.result,
                timed_out: told.timed_out,
                out_of_memory: told.out_of_memory,
                message: error.to_string(),
                kind: definition.kind.clone(),
                definition: Some(definition),
                logs,
                took: began.elapsed().map(Span::from).unwrap_or_default(),
                began,
            })
        }
    }
}

/// How much a run may log, in bytes.
pub(super) fn log_limit(definition: &FunctionDefinition) -> u64 {
    u64::from(definition.limits.logs_mb) << 20
}

/// What the function finds in its environment from the start.
fn environment(given: &Arguments, definition: &FunctionDefinition) -> Vec<(String, String)> {
    let mut environment = vec![
        ("__OW_API_HOST".to_owned(), given.settings.frontend.api_host()),
        ("__OW_NAMESPACE".to_owned(), definition.namespace.clone()),
        ("__OW_ACTION_NAME".to_owned(), format!("/{}/{}", definition.namespace, definition.name)),
        ("__OW_ACTION_VERSION".to_owned(), definition.version.to_string()),
    ];
    environment.extend(definition.init_parameters().map(|parameter| {
        let value = parameter.value.value();
        // Text as it is, everything else as JSON.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (parameter.key.clone(), text)
    }));
    environment
}
