//! The messages of one invocation, in the order it meets them.

use serde::{Deserialize, Serialize};
use vocabulary::{
    Attempt, ControllerId, FunctionCard, FunctionId, Grant, InvocationId, Outcome, Revision, Span, Usage,
    VmId,
};

use crate::{Payload, TraceContext};

/// Where a function is found in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionPath {
    /// The owner's namespace.
    pub namespace: String,
    /// `name`, or `package/name`.
    pub name: String,
}

/// Frontend -> Controller, on `windfall.controller-<id>.submit`: "have this run".
///
/// May arrive twice (a Frontend that lost its Controller submits again, with the same invocation) or not at
/// all (then the reply subject gets NATS's "no responders", or the Frontend's patience ends). The Controller
/// answers with [`Refused`] if it will not take it; else exactly one [`Answer`] follows, from whoever ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// Stamped by the Frontend; the same in every message of one story.
    pub invocation: InvocationId,
    /// What to run, as the Frontend knew it.
    pub function: FunctionCard,
    /// Where its definition and code are found.
    pub path: FunctionPath,
    /// In whose name, hence in whose records: the caller's namespace.
    pub namespace: String,
    /// Subject for the [`Reply`].
    pub reply_to: String,
    /// The attempt to begin with: 1, or more when a Frontend submits again what a Controller forgot, so that
    /// no Invoker takes the new try for one it has seen.
    pub first_attempt: Attempt,
    /// How long it may wait for a place before it is given up, from arrival at the Controller.
    pub patience: Span,
    /// The argument as JSON text, opaque.
    pub payload: Payload,
    /// How large the argument is in the eyes of its function, where that names a field as its size (annotation `input-size`).
    /// A reader that does not know of it takes the argument's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,
    /// Whether it came through the durable door: then it is never refused for lack of room, only put off.
    #[serde(default)]
    pub durable: bool,
    /// Whether the function is given its caller's key (annotation `provide-api-key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// OpenWhisk's transaction id: the caller's `X-Request-ID` or one we made.
    pub transaction: String,
    /// The trace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Submit {
    /// How large its input is: what its function names as its size, else the length of the argument.
    pub fn input_bytes(&self) -> u32 {
        input_bytes(self.input_size, &self.payload)
    }
}

fn input_bytes(named: Option<u32>, payload: &Payload) -> u32 {
    named.unwrap_or_else(|| u32::try_from(payload.0.len()).unwrap_or(u32::MAX))
}

/// Whatever comes to a Frontend on a submission's reply subject. (NATS's own "no responders" comes there too, as a
/// message without a body.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// From the Invoker that ran it, or from the Controller for what never ran to an end.
    Answer(Answer),
    /// From the Controller.
    Refused(Refused),
    /// From the Controller.
    Fence(Fence),
}

/// "I do not take this"; nothing else follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Why, in a form that a program can act on.
    pub why: RefusedWhy,
    /// Why, in a sentence for people.
    pub reason: String,
}

/// What the caller should do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedWhy {
    /// Try later: the function's queue or the Controller's is full (HTTP 429).
    QueueFull,
    /// Try later: there is no VM that takes work (HTTP 503).
    NoVm,
    /// Ask for less: no VM is large enough for the reservation (HTTP 400).
    TooLarge,
    /// Submit to another Controller: this one is leaving or does not own the function.
    NotMine,
}

/// Controller -> Invoker, on `windfall.vm-<id>.run`: "run this, with this much".
///
/// May arrive twice or not at all. The Invoker keeps the highest `attempt` it has seen and answers each
/// attempt at most once; to whoever sends one that is known already it says so ([`Known`]), or how that ends. The NATS reply subject leads back to the Controller, so that "no responders" tells
/// it at once that the VM is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Stamped by the Frontend.
    pub invocation: InvocationId,
    /// 1 for the first try. An answer to an older attempt is dropped.
    pub attempt: Attempt,
    /// Who is told [`Finished`].
    pub controller: ControllerId,
    /// What to run.
    pub function: FunctionCard,
    /// Where its definition and code are found.
    pub path: FunctionPath,
    /// In whose name.
    pub namespace: String,
    /// Where the [`Answer`] goes.
    pub reply_to: String,
    /// What it gets. The CPU part is soft and may change while it runs; memory is hard.
    pub grant: Grant,
    /// How long it has waited at the Controller.
    pub waited: Span,
    /// The argument as JSON text, opaque.
    pub payload: Payload,
    /// As in [`Submit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,
    /// Whether the answer must wait until the record is stored: the durable door acknowledges on the answer.
    #[serde(default)]
    pub durable: bool,
    /// The caller's key, where the function is given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// OpenWhisk's transaction id.
    pub transaction: String,
    /// The trace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Run {
    /// As [`Submit::input_bytes`].
    pub fn input_bytes(&self) -> u32 {
        input_bytes(self.input_size, &self.payload)
    }
}

/// "Answers of attempts before this one are void", except perhaps those of one other.
///
/// Sent before the next [`Run`] when a VM was given up, on the connection that carries that `Run`, so that an
/// answer which a partitioned VM still sends later is recognised. Sent, too, when a VM has been given notice and its
/// invocation is run again elsewhere beside it: then the answer of either counts, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Which invocation.
    pub invocation: InvocationId,
    /// The oldest attempt whose answer still counts.
    pub oldest_valid: Attempt,
    /// One older attempt that lives and whose answer counts, too. (A reader that does not know of it drops that answer,
    /// and finds the record when it asks.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<Attempt>,
}

/// Controller -> Invoker, on `windfall.vm-<id>.cancel`: "nobody waits for this any more".
///
/// A run in progress is killed, a waiting one forgotten; either way one [`Finished`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Attempts up to this one.
    pub attempt: Attempt,
}

/// Controller -> Invoker, on `windfall.vm-<id>.adopt`: "this attempt, which another has sent you, is mine now".
///
/// Sent once, when the one that had sent it is gone or does not answer. If the attempt is there, its end is told to this Controller,
/// too; if it has just ended, that is told again; else a [`Known`] follows. One that is lost, or that yesterday's Invoker does not hear, is made
/// good by the VM's reports: what they do not list any more is run again two seconds later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// Who answers for it.
    pub controller: ControllerId,
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try.
    pub attempt: Attempt,
}

/// Invoker -> Controller, on `windfall.controller-<id>.known`: "this attempt does not begin for you: I know that invocation". The answer to
/// a [`Run`] that came before, from this Controller or another, and to an [`Adopt`] of what is not there; instead of silence, which costs
/// two seconds. If it never comes, or comes to yesterday's Controller, it costs those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Who speaks.
    pub vm: VmId,
    /// Of which invocation.
    pub invocation: InvocationId,
    /// The attempt that was asked for.
    pub attempt: Attempt,
    /// The newest that is known there; that one or a newer one.
    pub newest: Attempt,
    /// Whether that one runs or waits there.
    pub runs: bool,
}

/// Whether a sandbox had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// An idle sandbox took it.
    Warm,
    /// One had to be made first.
    Cold,
}

/// The result.
///
/// The first one of a valid attempt is what the caller gets; later ones are dropped and counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try produced it.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// JSON text: the function's result, or `{"error": ...}`.
    pub result: Payload,
    /// Where it ran; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// Cold or warm.
    pub start: Start,
    /// What it was granted; absent when it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// When it began to run: milliseconds since the Unix epoch by the VM's clock. For display only.
    pub started_unix_ms: u64,
    /// From acceptance at the Controller to the start of its (or its sandbox's) start.
    pub waited: Span,
    /// Making the sandbox and loading the code; zero when warm.
    pub init: Span,
    /// The run itself, without `init`.
    pub duration: Span,
    /// Whether its time limit ended it.
    #[serde(default)]
    pub timed_out: bool,
}

/// Invoker -> Controller, on `windfall.controller-<id>.finished`: several endings in one message, off the
/// reply path. May arrive twice or never; then the VM's next [`crate::Report`] sets the books right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finishes {
    /// Who ran them.
    pub vm: VmId,
    /// In the order they ended.
    pub endings: Vec<Finished>,
}

/// One ending in [`Finishes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try.
    pub attempt: Attempt,
    /// Of which function.
    pub function: FunctionId,
    /// Of which build.
    pub revision: Revision,
    /// How.
    pub ended: Ended,
    /// Cold or warm.
    pub start: Start,
    /// Making the sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
    /// Whether the sandbox stays, idle, for the next one.
    pub sandbox_kept: bool,
    /// [`Run::input_bytes`].
    pub input_bytes: u32,
}

/// How an attempt ended, seen from the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It ran and was answered with this outcome.
    Answered(Outcome),
    /// It was killed because nobody waits for it.
    Cancelled,
    /// The kernel killed it for want of memory, part of its reservation being lent, or because the VM had no more: to be run again
    /// with all of it. A Controller that does not know this word drops the message, misses the attempt in the VM's reports,
    /// and runs it again all the same.
    Starved,
}

/// Frontend -> Controller, on `windfall.controller-<id>.inquire` (request): "do you still have these?" Asked of what
/// has been open for long, because an answer may be lost with a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// What the Frontend waits for.
    pub invocations: Vec<InvocationId>,
}

/// The Controller's reply to an [`Inquiry`]: those it does not have (any more).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// A subset of what was asked for.
    pub invocations: Vec<InvocationId>,
}
