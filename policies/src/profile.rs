//! What has been learned of a function.

use serde::{Deserialize, Serialize};

/// What has been learned of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {}
