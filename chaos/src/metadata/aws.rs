//! AWS: instance metadata, version 2 only: nothing without a token.
//!
//! Written after the EC2 user guide's pages on IMDSv2, spot interruption notices and rebalance recommendations.

use std::collections::BTreeMap;

use serde_json::json;

use super::http::{Answer, Question};
use super::{Fate, Temper, dates};

#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Until when each is good, in unix milliseconds.
    given: BTreeMap<String, u64>,
    count: u64,
}

impl Tokens {
    pub fn forget(&mut self) {
        self.given.clear();
    }

    fn give(&mut self, seconds: u64) -> String {
        self.count += 1;
        let token = format!("AQAEA-windfall-{:08x}-{:x}==", self.count, dates::unix_ms());
        self.given.insert(token.clone(), dates::unix_ms() + seconds * 1000);
        token
    }

    fn is_good(&self, token: Option<&str>) -> bool {
        token.and_then(|token| self.given.get(token)).is_some_and(|until| *until > dates::unix_ms())
    }
}

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

pub(super) fn answer(question: &Question, fate: &mut Fate) -> Answer {
    let (method, path) = (question.method.as_str(), question.path());
    if path == "/latest/api/token" {
        let seconds = question.header(TTL).and_then(|text| text.parse::<u64>().ok());
        return match (method, seconds.filter(|seconds| (1..=21_600).contains(seconds))) {
            ("PUT", Some(seconds)) => {
                Answer::text(200, fate.aws.give(seconds)).with(TTL, seconds.to_string())
            }
            ("PUT", None) => Answer::text(400, ""),
            _ => Answer::text(405, ""),
        };
    }
    if !fate.aws.is_good(question.header("x-aws-ec2-metadata-token")) {
        return Answer::text(401, "");
    }
    if fate.temper == Temper::Lying && path == "/latest/meta-data/spot/instance-action" {
        return Answer::json(200, &json!({ "action": "levitate", "time": "99999-99-99T99:99:99Z" }));
    }
    let text = match path {
        "/latest/meta-data/instance-id" => Some("i-0123456789abcdef0".to_owned()),
        "/latest/meta-data/instance-type" => Some("m5.large".to_owned()),
        "/latest/meta-data/instance-life-cycle" => Some("spot".to_owned()),
        "/latest/meta-data/placement/availability-zone" => Some("eu-north-1a".to_owned()),
        "/latest/meta-data/spot/instance-action" => {
            let action = |at| json!({ "action": "terminate", "time": dates::iso8601(at) }).to_string();
            fate.evicted_at.map(action)
        }
        "/latest/meta-data/spot/termination-time" => fate.evicted_at.map(dates::iso8601),
        "/latest/meta-data/events/recommendations/rebalance" => {
            fate.rebalance_at.map(|at| json!({ "noticeTime": dates::iso8601(at) }).to_string())
        }
        _ => None,
    };
    match text {
        Some(text) => Answer::text(200, text),
        None => Answer::text(404, ""),
    }
}
