//! Every subject, written once.
//!
//! Names of namespaces and functions become one token each through [`token`], so that a function called
//! `a b.c` cannot reach into another subject.

use vocabulary::{Attempt, ControllerId, FrontendId, InvocationId, VmId};

/// A name as one subject token: letters, digits, `-` and `_` stay; every other byte becomes `=XX` (upper-case
/// hexadecimal), which is also legal in a KV key. A simple name is its own token.
pub fn token(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
    }
    out
}

/// The name that a token stands for; `None` if it is not one that [`token`] makes.
pub fn name(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'=' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (self::token(&name) == token).then_some(name)
}

/// The NATS door, request-reply: `windfall.invoke.<namespace>.<function>`.
pub fn invoke(namespace: &str, function: &str) -> String {
    format!("windfall.invoke.{}.{}", token(namespace), token(function))
}

/// All of the door, for Frontends, who share it in one queue group.
pub const INVOKE_ALL: &str = "windfall.invoke.*.*";

/// The durable door: `windfall.submit.<namespace>.<function>`, a JetStream work queue.
pub fn submit(namespace: &str, function: &str) -> String {
    format!("windfall.submit.{}.{}", token(namespace), token(function))
}

/// All of the durable door.
pub const SUBMIT_ALL: &str = "windfall.submit.*.*";

/// The same work queue, for what a Frontend's HTTP door has accepted: `windfall.accept.<namespace>.<function>`. Users of
/// NATS must not be allowed to publish here: whoever may is believed in whose name, and with which key, he speaks.
pub fn accept(namespace: &str, function: &str) -> String {
    format!("windfall.accept.{}.{}", token(namespace), token(function))
}

/// Everything that HTTP doors have accepted.
pub const ACCEPT_ALL: &str = "windfall.accept.*.*";

/// Whether a submission was accepted at an HTTP door.
pub fn is_accepted(subject: &str) -> bool {
    subject.starts_with("windfall.accept.")
}

/// Where a result is asked for by id: `windfall.result.<namespace>`, body: the id as text.
pub fn result(namespace: &str) -> String {
    format!("windfall.result.{}", token(namespace))
}

/// All questions for results.
pub const RESULT_ALL: &str = "windfall.result.*";

/// The queue group in which Frontends share the doors.
pub const FRONTENDS: &str = "frontends";

/// Where the answer to one submission goes.
pub fn answer(frontend: FrontendId, invocation: InvocationId) -> String {
    format!("windfall.{frontend}.answer.{invocation}")
}

/// All answers to one Frontend.
pub fn answers(frontend: FrontendId) -> String {
    format!("windfall.{frontend}.answer.*")
}

/// Submissions to one Controller.
pub fn controller_submit(controller: ControllerId) -> String {
    format!("windfall.{controller}.submit")
}

/// Frontends' questions to one Controller.
pub fn controller_inquire(controller: ControllerId) -> String {
    format!("windfall.{controller}.inquire")
}

/// Endings for one Controller.
pub fn controller_finished(controller: ControllerId) -> String {
    format!("windfall.{controller}.finished")
}

/// Hand-backs for one Controller.
pub fn controller_handback(controller: ControllerId) -> String {
    format!("windfall.{controller}.handback")
}

/// What VMs know of attempts that one Controller has asked for in vain.
pub fn controller_known(controller: ControllerId) -> String {
    format!("windfall.{controller}.known")
}

/// What runs of one Controller's functions used.
pub fn usage(controller: ControllerId) -> String {
    format!("windfall.usage.{controller}")
}

/// What all runs used.
pub const USAGE_ALL: &str = "windfall.usage.*";

/// Reply subject of a `Run`: NATS itself says "no responders" here when the VM is gone.
pub fn controller_bounce(
    controller: ControllerId,
    vm: VmId,
    invocation: InvocationId,
    attempt: Attempt,
) -> String {
    format!("windfall.{controller}.bounce.{vm}.{invocation}.{attempt}")
}

/// What a subject of [`controller_bounce`] names.
pub fn read_bounce(subject: &str) -> Option<(VmId, InvocationId, Attempt)> {
    let mut tokens = subject.rsplit('.');
    let attempt = Attempt(tokens.next()?.parse().ok()?);
    let invocation = tokens.next()?.parse().ok()?;
    let vm = tokens.next()?.parse().ok()?;
    Some((vm, invocation, attempt))
}

/// All bounces of one Controller.
pub fn controller_bounces(controller: ControllerId) -> String {
    format!("windfall.{controller}.bounce.*.*.*")
}

/// Work for one VM.
pub fn vm_run(vm: VmId) -> String {
    format!("windfall.{vm}.run")
}

/// Cancellations for one VM.
pub fn vm_cancel(vm: VmId) -> String {
    format!("windfall.{vm}.cancel")
}

/// To one VM: who answers for a run now.
pub fn vm_adopt(vm: VmId) -> String {
    format!("windfall.{vm}.adopt")
}

/// Orders to drain one VM.
pub fn vm_drain(vm: VmId) -> String {
    format!("windfall.{vm}.drain")
}

/// Orders to evict one VM, or not to.
pub fn vm_evict(vm: VmId) -> String {
    format!("windfall.{vm}.evict")
}

/// Wishes for warm sandboxes on one VM.
pub fn vm_prewarm(vm: VmId) -> String {
    format!("windfall.{vm}.prewarm")
}

/// What one VM says of itself.
pub fn vm_report(vm: VmId) -> String {
    format!("windfall.report.{vm}")
}

/// What all VMs say of themselves.
pub const REPORTS: &str = "windfall.report.*";

/// One VM's notice of its eviction.
pub fn vm_notice(vm: VmId) -> String {
    format!("windfall.notice.{vm}")
}

/// All notices.
pub const NOTICES: &str = "windfall.notice.*";

/// What one Controller is asked for.
pub fn demand(controller: ControllerId) -> String {
    format!("windfall.demand.{controller}")
}

/// What all Controllers are asked for.
pub const DEMANDS: &str = "windfall.demand.*";

/// Controllers announce themselves here.
pub const ANNOUNCE_CONTROLLER: &str = "windfall.announce.controller";

/// Frontends announce themselves here.
pub const ANNOUNCE_FRONTEND: &str = "windfall.announce.frontend";

/// Frontends tell each other here that a function has changed.
pub const ANNOUNCE_FUNCTIONS: &str = "windfall.announce.functions";

/// Controllers tell here which VM they have given up.
pub const ANNOUNCE_LOST: &str = "windfall.announce.lost";

/// The Resource Monitor answers here.
pub const FLEET_LIST: &str = "windfall.fleet.list";

/// Where one invocation's record is kept.
pub fn record(namespace: &str, function: &str, invocation: InvocationId) -> String {
    format!("windfall.record.{}.{}.{invocation}", token(namespace), token(function))
}

/// Records of one function in one namespace.
pub fn records_of_function(namespace: &str, function: &str) -> String {
    format!("windfall.record.{}.{}.*", token(namespace), token(function))
}

/// Records of one namespace.
pub fn records_of(namespace: &str) -> String {
    format!("windfall.record.{}.*.*", token(namespace))
}

/// One invocation's record, whatever the function.
pub fn record_by_id(namespace: &str, invocation: InvocationId) -> String {
    format!("windfall.record.{}.*.{invocation}", token(namespace))
}

/// All records.
pub const RECORD_ALL: &str = "windfall.record.*.*.*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_one_token_and_comes_back() {
        for original in ["hello", "a b", "AbC", "x@y.z & w-1_", "pkg/name", "日本", "=41", ""] {
            let token = token(original);
            assert!(!token.contains(['.', ' ', '*', '>']), "{token}");
            assert_eq!(name(&token).as_deref(), Some(original));
        }
    }

    #[test]
    fn a_bounce_names_what_was_sent() {
        let (vm, invocation, attempt) = (VmId(3), InvocationId(9), Attempt(2));
        let subject = controller_bounce(ControllerId(1), vm, invocation, attempt);
        assert_eq!(read_bounce(&subject), Some((vm, invocation, attempt)));
        assert_eq!(read_bounce("windfall.controller-1.bounce"), None);
    }

    #[test]
    fn a_name_has_only_one_token() {
        for not_made_by_us in ["=41", "=2e", "=2", "a.b", "=C3=28", "*"] {
            assert_eq!(name(not_made_by_us), None, "{not_made_by_us}");
        }
    }
}
