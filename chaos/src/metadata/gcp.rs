//! GCP: whether the instance is preempted, and its maintenance events; a question may wait for a change.
//!
//! Written after the documentation of the metadata server and Google's own clients.

use std::time::Duration;

use super::http::{Answer, Question};
use super::{Fate, Shared, Temper};

/// How long a question waits that does not say.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn answer(question: &Question, shared: &Shared) -> Answer {
    let flavour =
        |answer: Answer| answer.with("Metadata-Flavor", "Google").with("Server", "Metadata Server for VM");
    if question.path() == "/" {
        return flavour(Answer::text(200, "computeMetadata/\n").of_kind("application/text"));
    }
    if question.header("metadata-flavor") != Some("Google") {
        return flavour(Answer::text(403, "Missing Metadata-Flavor:Google header."));
    }
    let mut fate = shared.fate();
    let path = question.path().trim_end_matches('/');
    let Some(key) = path.strip_prefix("/computeMetadata/v1/").or(path.strip_prefix("/computeMetadata/v1"))
    else {
        return flavour(Answer::text(404, ""));
    };
    let Some(first) = value(key, &fate) else { return flavour(Answer::text(404, "")) };
    if question.parameter("wait_for_change") == Some("true") {
        let last = question.parameter("last_etag").map_or_else(|| etag(&first), str::to_owned);
        let seconds = question.parameter("timeout_sec").and_then(|text| text.parse().ok());
        let patience = seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST * 10);
        let same = |fate: &mut Fate| !fate.stopping && value(key, fate).is_some_and(|now| etag(&now) == last);
        fate = match shared.changed.wait_timeout_while(fate, patience, same) {
            Ok((fate, _)) => fate,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
    let now = value(key, &fate).unwrap_or(first);
    flavour(Answer::text(200, now.clone()).of_kind("application/text").with("ETag", etag(&now)))
}

fn value(key: &str, fate: &Fate) -> Option<String> {
    let is_evicted = fate.evicted_at.is_some();
    Some(match key {
        "instance/preempted" if fate.temper == Temper::Lying => "PERHAPS".to_owned(),
        "instance/preempted" => if is_evicted { "TRUE" } else { "FALSE" }.to_owned(),
        "instance/maintenance-event" => "NONE".to_owned(),
        "instance/id" => "1234567890123456789".to_owned(),
        "instance/name" => fate.name.clone(),
        "instance/zone" => "projects/123456789012/zones/europe-north1-a".to_owned(),
        "instance/scheduling/preemptible" => "TRUE".to_owned(),
        "project/project-id" => "windfall-test".to_owned(),
        "instance" => "preempted\nmaintenance-event\nid\nname\nzone\nscheduling/\n".to_owned(),
        _ => return None,
    })
}

/// Sixteen hexadecimal digits that follow from the value alone.
fn etag(value: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", value.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}
