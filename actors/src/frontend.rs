//! The Frontend.

pub mod call;
