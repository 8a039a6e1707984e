//! What is enforced on this machine, and what is not.
//!
//! **Knows:** what opening the Workshop found.
//! **Promises:** one sentence for people that never claims more than the kernel does.
//! **Gives up:** saying how to get more; the reasons name what was missing.

use std::fmt;

/// What the kernel keeps sandboxes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enforcement {
    /// CPU ceilings.
    pub cpu: bool,
    /// Memory ceilings, with out-of-memory named as such.
    pub memory: bool,
    /// The number of processes.
    pub pids: bool,
    /// Own PID, mount, IPC and UTS namespaces, a read-only system, an own `/tmp`.
    pub namespaces: bool,
    /// An own unprivileged user for each sandbox.
    pub users: bool,
    /// Why what is missing is missing.
    pub reasons: Vec<String>,
}

impl Enforcement {
    /// Whether everything is enforced.
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }

    fn missing(&self) -> Vec<&'static str> {
        [
            (self.cpu, "CPU ceilings"),
            (self.memory, "memory ceilings"),
            (self.pids, "process limits"),
            (self.namespaces, "namespaces and the read-only system"),
            (self.users, "separate users"),
        ]
        .into_iter()
        .filter_map(|(enforced, name)| (!enforced).then_some(name))
        .collect()
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing();
        if missing.is_empty() {
            return f.write_str(
                "Sandboxes are enforced: CPU, memory, processes, namespaces, a read-only system and separate users.",
            );
        }
        write!(f, "SANDBOXES ARE NOT FULLY ENFORCED: no {}", missing.join(", no "))?;
        if !self.reasons.is_empty() {
            write!(f, " ({})", self.reasons.join("; "))?;
        }
        f.write_str(". Run only functions that you trust.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_loudly_and_with_its_reason() {
        let everything = Enforcement {
            cpu: true,
            memory: true,
            pids: true,
            namespaces: true,
            users: true,
            reasons: vec![],
        };
        assert!(everything.is_complete());
        let partly =
            Enforcement { memory: false, reasons: vec!["no memory controller".into()], ..everything };
        let text = partly.to_string();
        assert!(text.contains("NOT") && text.contains("no memory ceilings (no memory controller)"), "{text}");
    }
}
