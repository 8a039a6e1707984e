//! The words of the house, as types.
//!
//! **Knows:** ids, quantities, moments and what an invocation used.
//! **Promises:** nothing here reads a clock, draws a random number or opens a socket, so that the
//! live house and the simulator can share every word. A `VmId` never meets a `FunctionId`, nor a
//! mebibyte a megabyte.
//! **Gives up:** convenience constructors that would need chance or time; who has those passes them in.

mod demand;
mod function;
mod identity;
mod quantity;
mod time;
mod usage;
mod vm;

pub use demand::{Demand, Load};
pub use function::{FunctionCard, OnEviction};
pub use identity::{
    ApplicationId, Attempt, ControllerId, FrontendId, FunctionId, InvocationId, ParseIdError, Revision, VmId,
};
pub use quantity::{Grant, Mebibytes, MilliCores, Resources};
pub use time::{Moment, Span};
pub use usage::{Outcome, Usage};
pub use vm::{RunningOnVm, VmKind, VmStanding, VmStatus, WarmOnVm};
