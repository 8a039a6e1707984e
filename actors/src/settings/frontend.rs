//! The doors, and what users may ask for.

use serde::{Deserialize, Serialize};

/// The doors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frontend {
    /// Address of the HTTP door.
    pub http: String,
    /// What clients are told to use as API host; derived from `http` when empty.
    pub api_host: String,
    /// Whether the process is a Controller too: a call then takes one message and two wake-ups fewer, and the two end
    /// together.
    pub with_controller: bool,
    /// Longest time a blocking HTTP call waits before it becomes a 202, in ms.
    pub blocking_wait_ms: u64,
    /// Invocations that may be open at this Frontend; beyond it 429.
    pub open_limit: usize,
    /// Bytes of arguments that may be held for open invocations, in MiB; beyond it 429.
    pub held_mib: usize,
    /// Bytes of answers of the last second that are kept in case their VM is lost before it has stored their records, in MiB.
    pub recent_mib: usize,
    /// Durable invocations that this Frontend has in flight at once.
    pub durable_in_flight: usize,
    /// Longest time an invocation may wait for a place before it is given up, in ms.
    pub patience_ms: u64,
    /// A Frontend that is told to end takes nothing new, and what is open may end for this long, in ms. Whoever keeps the process
    /// must allow it ten seconds more; Kubernetes' default is 30 in all.
    pub leave_ms: u64,
}

impl Default for Frontend {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:3233".into(),
            api_host: String::new(),
            with_controller: false,
            blocking_wait_ms: 60_000,
            open_limit: 10_000,
            held_mib: 512,
            recent_mib: 32,
            durable_in_flight: 256,
            patience_ms: 60_000,
            leave_ms: 20_000,
        }
    }
}

/// What users may ask for. Defaults are OpenWhisk's where it has one; see `GET /` and `/api/v1/namespaces/_/limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU reservation of a function that names none, millicores.
    pub cpu_default: u32,
    /// Smallest CPU reservation, millicores.
    pub cpu_min: u32,
    /// Largest CPU reservation, millicores.
    pub cpu_max: u32,
    /// Memory reservation of a function that names none, MB.
    pub memory_default: u32,
    /// Smallest memory reservation, MB.
    pub memory_min: u32,
    /// Largest memory reservation, MB.
    pub memory_max: u32,
    /// Time limit of a function that names none, ms.
    pub timeout_default_ms: u64,
    /// Smallest time limit, ms.
    pub timeout_min_ms: u64,
    /// Largest time limit, ms.
    pub timeout_max_ms: u64,
    /// Log limit of a function that names none, MB.
    pub logs_default: u32,
    /// Largest log limit, MB.
    pub logs_max: u32,
    /// Largest argument, result, parameters or annotations, bytes.
    pub payload_max: usize,
    /// Largest code, bytes.
    pub code_max: usize,
    /// Invocations per minute of one namespace.
    pub invocations_per_minute: u64,
    /// Invocations of one namespace that may be open at once.
    pub concurrent_invocations: u64,
    /// Largest page of a list.
    pub list_max: usize,
    /// Page of a list that names no limit.
    pub list_default: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_default: 250,
            cpu_min: 10,
            cpu_max: 64_000,
            memory_default: 256,
            memory_min: 128,
            memory_max: 512,
            timeout_default_ms: 60_000,
            timeout_min_ms: 100,
            timeout_max_ms: 300_000,
            logs_default: 10,
            logs_max: 10,
            payload_max: 1 << 20,
            code_max: 48 << 20,
            // OpenWhisk's 60 and 30 are for a shared public host; whoever runs Windfall for strangers sets them.
            invocations_per_minute: 1_000_000,
            concurrent_invocations: 10_000,
            list_max: 200,
            list_default: 30,
        }
    }
}

impl Frontend {
    /// What clients and functions are told to use as API host.
    pub fn api_host(&self) -> String {
        if self.api_host.is_empty() { format!("http://{}", self.http) } else { self.api_host.clone() }
    }
}
