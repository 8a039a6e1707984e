//! What each key may be.
//!
//! **Knows:** the keys whose range is narrower than their type.
//! **Promises:** a refused value is answered with what is allowed.
//! **Gives up:** what only a machine can say, such as whether a port is free.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::Entry;

/// What one key may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Any text.
    Text,
    /// Text that is not empty.
    Name,
    /// One of these words.
    OneOf(Vec<&'static str>),
    /// A reliability strategy.
    Reliability,
    /// `host:port`.
    Address,
    /// `host:port`, or nothing.
    AddressOrNone,
    /// One or more `nats://host:port`, comma-separated.
    NatsUrl,
    /// `http://...`, or nothing.
    HttpUrlOrNone,
    /// A path, or nothing.
    Path,
    /// A whole number in this range.
    Whole(u64, u64),
    /// A number in this range.
    Share(f64, f64),
    /// `true` or `false`.
    YesNo,
}

/// Keys with a rule of their own. All others take what the type of their default takes.
fn own_rules() -> Vec<(&'static str, Rule)> {
    use Rule::*;
    let some = |most: u64| Whole(1, most);
    vec![
        ("runtime.threads", Whole(1, 256)),
        ("nats.url", NatsUrl),
        ("store.replicas", Whole(1, 5)),
        ("store.record_age_h", some(87_600)),
        ("store.record_size_mib", some(1 << 30)),
        ("store.record_backlog", some(1 << 24)),
        ("store.submit_size_mib", some(1 << 30)),
        ("store.code_size_mib", some(1 << 30)),
        ("store.profile_size_mib", Whole(0, 1 << 20)),
        ("store.profile_age_h", some(87_600)),
        ("store.usage_size_mib", Whole(0, 1 << 20)),
        ("store.usage_age_h", some(87_600)),
        ("frontend.http", Address),
        ("frontend.blocking_wait_ms", Whole(1, 3_600_000)),
        ("frontend.open_limit", some(10_000_000)),
        ("frontend.held_mib", some(1 << 20)),
        ("frontend.recent_mib", some(1 << 20)),
        ("frontend.durable_in_flight", some(100_000)),
        ("frontend.patience_ms", Whole(1, 86_400_000)),
        ("frontend.leave_ms", Whole(0, 3_600_000)),
        ("controller.placement", OneOf(policies::placement::NAMES.to_vec())),
        ("controller.allocation", OneOf(allocators())),
        ("controller.model", Path),
        ("controller.model_answers_within_us", Whole(50, 1_000_000)),
        ("controller.model_trial_runs", some(1_000_000)),
        // Two thousand fit into one message.
        ("controller.usage_records_per_second", some(2_000)),
        ("controller.reliability", Reliability),
        ("controller.harvest_life_hours", Whole(1, 1_000_000)),
        ("controller.unplaceable_grace_ms", Whole(0, 31_536_000_000)),
        ("controller.durable_patience_ms", Whole(1, 31_536_000_000)),
        ("controller.queue_limit", some(10_000_000)),
        ("controller.function_queue_limit", some(10_000_000)),
        ("controller.attempts_limit", Whole(1, 1000)),
        ("controller.vm_silence_ms", Whole(500, 600_000)),
        ("controller.profile_writes_per_second", some(10_000)),
        ("controller.profile_half_life_h", some(87_600)),
        ("controller.metrics", AddressOrNone),
        ("allocation.threshold_permille", some(1_000)),
        ("allocation.cpu_step", some(1_000_000)),
        ("allocation.cpu_steps", some(64)),
        ("allocation.memory_step", some(1_000_000)),
        ("allocation.memory_steps", some(64)),
        ("allocation.calibration_runs", Whole(0, 1_000_000)),
        ("allocation.doubt_permille", Whole(0, 1_000_000)),
        ("allocation.worthwhile_permille", Whole(0, 1_000)),
        ("allocation.first_run_permille", some(1_000)),
        ("allocation.above", OneOf(policies::allocation::Above::ALL.map(|above| above.name()).to_vec())),
        ("resource_monitor.provider", OneOf(actors::providers::NAMES.to_vec())),
        ("resource_monitor.on_stop", OneOf(vec!["auto", "retire", "keep"])),
        ("docker.socket", Name),
        ("docker.network", Name),
        ("ec2.endpoint", HttpUrlOrNone),
        ("ec2.instance_type", Name),
        ("ec2.program", Name),
        ("ec2.prepare", Name),
        ("netns.subnet", Name),
        ("netns.lxcfs", Name),
        ("command.timeout_ms", Whole(100, 3_600_000)),
        ("resource_monitor.cluster", Name),
        ("resource_monitor.folder", Name),
        ("resource_monitor.vms", Whole(0, 10_000)),
        ("resource_monitor.fleet", OneOf(fleet_rules())),
        ("resource_monitor.least_cpu", Whole(0, 1_000_000_000)),
        ("resource_monitor.least_memory", Whole(0, 4_000_000_000)),
        ("resource_monitor.most_cpu", Whole(10, 1_000_000_000)),
        ("resource_monitor.most_memory", Whole(64, 4_000_000_000)),
        ("resource_monitor.harvest_price", Whole(0, 1_000_000)),
        ("resource_monitor.budget", Whole(0, 1_000_000_000_000)),
        ("resource_monitor.idle_for_ms", Whole(0, 86_400_000)),
        ("resource_monitor.kind", OneOf(vec!["harvest", "regular"])),
        ("resource_monitor.cpu", Whole(10, 1_000_000)),
        ("resource_monitor.memory", Whole(64, 100_000_000)),
        ("resource_monitor.launch_patience_ms", Whole(100, 3_600_000)),
        ("resource_monitor.metrics", AddressOrNone),
        ("vm.kind", OneOf(vec!["harvest", "regular"])),
        ("vm.capacity", OneOf(vec!["auto", "fixed"])),
        ("vm.cpu", Whole(10, 1_000_000)),
        ("vm.memory", Whole(64, 100_000_000)),
        ("vm.capacity_poll_ms", Whole(5, 60_000)),
        ("vm.notices", OneOf(vec!["auto", "azure", "aws", "gcp", "none"])),
        ("vm.metadata", HttpUrlOrNone),
        ("vm.headroom", Whole(0, 65_536)),
        ("vm.notice_poll_ms", Whole(50, 60_000)),
        ("vm.on_rebalance", OneOf(vec!["note", "drain"])),
        ("vm.enforce", OneOf(vec!["auto", "off"])),
        // Below are the machine's own users; above, two more digits would leave a user id's 32 bits.
        ("vm.uid_base", Whole(1_000, 4_000_000_000)),
        ("vm.keep_alive", OneOf(policies::keep_alive::NAMES.to_vec())),
        ("vm.keep_alive_ms", Whole(0, 86_400_000)),
        ("vm.lending", OneOf(policies::residency::Lending::NAMES.to_vec())),
        ("vm.safeguard_permille", some(1_000_000)),
        ("vm.queue_limit", some(1_000_000)),
        ("vm.sandboxes_limit", some(100_000)),
        ("vm.python_spares", Whole(0, 64)),
        ("vm.metrics", AddressOrNone),
        ("limits.cpu_default", some(1_000_000)),
        ("limits.cpu_min", some(1_000_000)),
        ("limits.cpu_max", some(1_000_000)),
        ("limits.memory_default", some(100_000_000)),
        ("limits.memory_min", some(100_000_000)),
        ("limits.memory_max", some(100_000_000)),
        ("limits.timeout_default_ms", some(86_400_000)),
        ("limits.timeout_min_ms", some(86_400_000)),
        ("limits.timeout_max_ms", some(86_400_000)),
        // One message carries it; nats-server takes 64 MiB at most, and we want room for the envelope.
        ("limits.payload_max", Whole(1_024, 48 << 20)),
        ("limits.code_max", Whole(1_024, 1 << 30)),
        ("limits.list_max", Whole(1, 10_000)),
        ("limits.list_default", Whole(1, 10_000)),
        ("telemetry.log", Name),
        ("telemetry.log_format", OneOf(vec!["text", "json"])),
        ("telemetry.otlp_endpoint", HttpUrlOrNone),
        ("telemetry.sample", Share(0.0, 1.0)),
    ]
}

/// Those that need nothing, and the one that asks a model.
fn allocators() -> Vec<&'static str> {
    policies::allocation::NAMES.into_iter().chain(["learned"]).collect()
}

/// A plain number of VMs, and the rules that follow something else.
fn fleet_rules() -> Vec<&'static str> {
    ["count"].into_iter().chain(policies::fleet::NAMES).collect()
}

/// Pairs of which the first may not be more than the second.
const ORDERED: [(&str, &str); 10] = [
    ("resource_monitor.least_cpu", "resource_monitor.most_cpu"),
    ("resource_monitor.least_memory", "resource_monitor.most_memory"),
    ("limits.cpu_min", "limits.cpu_default"),
    ("limits.cpu_default", "limits.cpu_max"),
    ("limits.memory_min", "limits.memory_default"),
    ("limits.memory_default", "limits.memory_max"),
    ("limits.timeout_min_ms", "limits.timeout_default_ms"),
    ("limits.timeout_default_ms", "limits.timeout_max_ms"),
    ("limits.logs_default", "limits.logs_max"),
    ("limits.list_default", "limits.list_max"),
];

/// Keys with a rule of their own.
#[cfg(test)]
pub fn keys() -> impl Iterator<Item = &'static str> {
    let pairs = ORDERED.into_iter().flat_map(|(low, high)| [low, high]);
    own_rules().into_iter().map(|(key, _)| key).chain(pairs)
}

/// What a key may be; `default` says its type where it has no rule of its own.
pub fn rule(key: &str, default: &Value) -> Rule {
    if let Some((_, rule)) = own_rules().into_iter().find(|(known, _)| *known == key) {
        return rule;
    }
    match default {
        Value::Null => Rule::Path,
        Value::Bool(_) => Rule::YesNo,
        Value::Number(number) if number.is_f64() => Rule::Share(f64::MIN, f64::MAX),
        Value::Number(_) => Rule::Whole(0, u64::from(u32::MAX)),
        _ => Rule::Text,
    }
}

/// What must hold between keys.
pub fn together(entries: &BTreeMap<String, Entry>) -> Result<(), String> {
    for (low, high) in ORDERED {
        let (Some(least), Some(most)) = (entries.get(low), entries.get(high)) else { continue };
        if least.value.as_u64() > most.value.as_u64() {
            return Err(format!(
                "{low} = {} (from {}) is more than {high} = {} (from {})",
                least.value, least.source, most.value, most.source
            ));
        }
    }
    Ok(())
}

impl Rule {
    /// The value in the key's own type, or what would be allowed. Text is read as a number where one is
    /// needed, because variables and flags are always text.
    pub fn read(&self, given: &Value) -> Result<Value, String> {
        let text = match given {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let read = match self {
            Self::Text => given.as_str().map(|_| given.clone()),
            Self::Name => given.as_str().filter(|_| !text.is_empty()).map(Value::from),
            Self::OneOf(words) => words.contains(&text.as_str()).then(|| Value::from(text.as_str())),
            Self::Reliability => {
                policies::reliability::by_name(&text).is_some().then(|| Value::from(text.as_str()))
            }
            Self::Address => is_address(&text).then(|| Value::from(text.as_str())),
            Self::AddressOrNone => (text.is_empty() || is_address(&text)).then(|| Value::from(text.as_str())),
            Self::NatsUrl => is_nats_url(&text).then(|| Value::from(text.as_str())),
            Self::HttpUrlOrNone => {
                let ok = text.is_empty() || text.starts_with("http://") || text.starts_with("https://");
                ok.then(|| Value::from(text.as_str()))
            }
            Self::Path => {
                given.as_str().map(|path| if path.is_empty() { Value::Null } else { Value::from(path) })
            }
            Self::Whole(least, most) => text
                .replace('_', "")
                .parse::<u64>()
                .ok()
                .filter(|number| (least..=most).contains(&number))
                .map(Value::from),
            Self::Share(least, most) => text
                .parse::<f64>()
                .ok()
                .filter(|number| (least..=most).contains(&number))
                .and_then(Number::from_f64)
                .map(Value::Number),
            Self::YesNo => text.parse::<bool>().ok().map(Value::from),
        };
        let shown: String = text.chars().take(80).collect();
        read.ok_or_else(|| format!("'{shown}' is not allowed here; it must be {}", self.allowed()))
    }

    /// What is allowed, as the rest of "it must be ...".
    fn allowed(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Name => "text, and not empty".into(),
            Self::OneOf(words) => format!("one of: {}", words.join(", ")),
            Self::Reliability => {
                format!("one of: {}, with a percentage for x", policies::reliability::NAMES.join(", "))
            }
            Self::Address => "host:port, such as 127.0.0.1:3233".into(),
            Self::AddressOrNone => "host:port (port 0 takes a free one), or empty for none".into(),
            Self::NatsUrl => "one or more nats://host:port, separated by commas".into(),
            Self::HttpUrlOrNone => "http://host:port, or empty for none".into(),
            Self::Path => "a path".into(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Share(least, most) => format!("a number from {least} to {most}"),
            Self::YesNo => "true or false".into(),
        }
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_fine = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', ' ', '@']),
    };
    host_is_fine && port.parse::<u16>().is_ok()
}

fn is_nats_url(text: &str) -> bool {
    let mut urls = text.split(',').map(str::trim).filter(|url| !url.is_empty()).peekable();
    urls.peek().is_some()
        && urls.all(|url| {
            let rest = ["nats://", "tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            rest.is_some_and(|rest| {
                let host = rest.rsplit('@').next().unwrap_or(rest);
                let host = host.strip_suffix('/').unwrap_or(host);
                !host.is_empty() && (is_address(host) || !host.contains(':'))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_a_number_where_one_is_needed() {
        assert_eq!(Rule::Whole(1, 5).read(&Value::from("3")), Ok(Value::from(3)));
        assert_eq!(Rule::Whole(1, 5).read(&Value::from(3)), Ok(Value::from(3)));
        assert_eq!(Rule::Share(0.0, 1.0).read(&Value::from("0.5")), Ok(Value::from(0.5)));
    }

    #[test]
    fn what_is_out_of_range_is_answered_with_the_range() {
        for wrong in ["0", "6", "-1", "two", "", "1.5"] {
            let error = Rule::Whole(1, 5).read(&Value::from(wrong)).expect_err(wrong);
            assert!(error.contains("a whole number from 1 to 5"), "{error}");
        }
        assert!(Rule::Share(0.0, 1.0).read(&Value::from("NaN")).is_err());
    }

    #[test]
    fn a_reliability_strategy_takes_a_percentage() {
        let right = Value::from("bounded(99.9)");
        assert_eq!(Rule::Reliability.read(&right), Ok(right));
        let error = Rule::Reliability.read(&Value::from("bounded(101)")).unwrap_err();
        assert!(error.contains("bounded(x)"), "{error}");
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for right in ["127.0.0.1:0", "localhost:3233", "[::1]:80", "0.0.0.0:65535"] {
            assert!(is_address(right), "{right}");
        }
        for wrong in ["", "3233", ":80", "h:65536", "http://h:80", "a b:1", "::1:80"] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }

    #[test]
    fn nats_may_be_several_servers() {
        for right in ["nats://127.0.0.1:4222", "nats://a:1, nats://b:2", "nats://u:p@h:4222", "tls://h"] {
            assert!(is_nats_url(right), "{right}");
        }
        for wrong in ["", "http://h:1", "127.0.0.1:4222", "nats://", "nats://h:port"] {
            assert!(!is_nats_url(wrong), "{wrong}");
        }
    }
}
