//! What the host says of itself, and of a namespace.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::auth::Caller;
use super::{Door, answer};

impl Door {
    /// `GET /`: what `wsk` and wskdeploy read before anything else.
    pub(super) fn root(&self) -> Response {
        let limits = &self.given.settings.limits;
        let megabytes = |mb: u32| u64::from(mb) << 20;
        let body = json!({
            "description": "Windfall: OpenWhisk's API on harvested resources",
            "api_paths": ["/api/v1"],
            "limits": {
                "actions_per_minute": limits.invocations_per_minute,
                "triggers_per_minute": limits.invocations_per_minute,
                "concurrent_actions": limits.concurrent_invocations,
                "sequence_length": 50,
                "min_action_duration": limits.timeout_min_ms,
                "max_action_duration": limits.timeout_max_ms,
                "default_action_duration": limits.timeout_default_ms,
                "min_action_memory": megabytes(limits.memory_min),
                "max_action_memory": megabytes(limits.memory_max),
                "default_action_memory": megabytes(limits.memory_default),
                "min_action_logs": 0,
                "max_action_logs": megabytes(limits.logs_max),
                "max_action_payload": limits.payload_max,
                "max_action_code": limits.code_max,
                "min_action_cpu": limits.cpu_min,
                "max_action_cpu": limits.cpu_max,
            },
            "runtimes": self.given.manifest.as_json(),
        });
        answer::json(StatusCode::OK, &body)
    }

    /// `GET /api/v1`.
    pub(super) fn version(&self) -> Response {
        let body = json!({
            "description": "Windfall: OpenWhisk's API on harvested resources",
            "api_version": "1.0.0",
            "api_version_path": "v1",
            "build": concat!("windfall ", env!("CARGO_PKG_VERSION")),
            "buildno": env!("CARGO_PKG_VERSION"),
            "swagger_paths": {"ui": "/docs", "api-docs": "/api-docs"},
        });
        answer::json(StatusCode::OK, &body)
    }

    /// `GET /api/v1/namespaces`: the one namespace of the key.
    pub(super) fn namespaces(&self, caller: &Caller) -> Response {
        answer::json(StatusCode::OK, &[caller.own()])
    }

    /// `GET .../limits`: what the caller's namespace may do.
    pub(super) fn limits(&self, caller: &Caller) -> Response {
        let limits = &self.given.settings.limits;
        let own = &caller.namespace.limits;
        let body = json!({
            "invocationsPerMinute": own.invocations_per_minute.unwrap_or(limits.invocations_per_minute),
            "concurrentInvocations": own.concurrent_invocations.unwrap_or(limits.concurrent_invocations),
            "firesPerMinute": limits.invocations_per_minute,
            "minActionMemory": limits.memory_min,
            "maxActionMemory": limits.memory_max,
            "minActionLogs": 0,
            "maxActionLogs": limits.logs_max,
            "minActionDuration": limits.timeout_min_ms,
            "maxActionDuration": limits.timeout_max_ms,
            "minActionConcurrency": 1,
            "maxActionConcurrency": 1,
            "minActionCpu": limits.cpu_min,
            "maxActionCpu": limits.cpu_max,
            "maxParameterSize": size(limits.payload_max),
            "maxActionInstances": own.concurrent_invocations.unwrap_or(limits.concurrent_invocations),
        });
        answer::json(StatusCode::OK, &body)
    }
}

/// As OpenWhisk writes sizes.
fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MB", bytes >> 20) } else { format!("{bytes} B") }
}
