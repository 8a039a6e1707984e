//! The bytes of every message, kept in `golden/` as hexadecimal text: what is released stays as it is.
//!
//! A new message: run once with `WINDFALL_WRITE_GOLDEN=1`, which writes the files that are missing and no others, and
//! commit what it wrote. A changed message: a field may be added with a default, then its golden bytes stay under
//! `golden/yesterday` as what yesterday's writer sends; anything else is a new message.
#![allow(missing_docs)]

mod examples;

use std::path::PathBuf;

use examples::INVOCATION;
use messages::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vocabulary::*;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.msgpack"))
}

fn kept(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(file(name)).unwrap_or_else(|error| {
        panic!("{}: {error}. A new message? See the head of this file", file(name).display())
    });
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn keep_if_new(name: &str, bytes: &[u8]) {
    if std::env::var_os("WINDFALL_WRITE_GOLDEN").is_some() && !file(name).exists() {
        let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        std::fs::write(file(name), bytes.chunks(32).map(line).collect::<String>()).expect("written");
    }
}

/// The same map with one more field, as tomorrow's writer may send it.
fn with_a_field_of_tomorrow(bytes: &[u8]) -> Vec<u8> {
    let (count, rest) = match bytes[0] {
        small @ 0x80..=0x8f => (u16::from(small & 0x0f), &bytes[1..]),
        0xde => (u16::from_be_bytes([bytes[1], bytes[2]]), &bytes[3..]),
        other => panic!("{other:#x} is not the head of a map"),
    };
    let mut longer = vec![0xde];
    longer.extend((count + 1).to_be_bytes());
    longer.extend(rest);
    // "of_tomorrow": [1, {"a": nil}]
    longer.push(0xa0 | 11);
    longer.extend(b"of_tomorrow\x92\x01\x81\xa1a\xc0");
    longer
}

fn check<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, example: &M) {
    let bytes = encode(example);
    keep_if_new(name, &bytes);
    let kept = kept(name);
    assert_eq!(bytes, kept, "{name}: today's writer does not send what is released");
    assert_eq!(&decode::<M>(&kept).expect(name), example, "{name}: today's reader reads something else");
    // A Reply is one of three, and the one inside grows.
    if !name.starts_with("reply") {
        let longer = with_a_field_of_tomorrow(&kept);
        assert_eq!(&decode::<M>(&longer).expect(name), example, "{name}: a field of tomorrow is not skipped");
    }
    for shorter in 0..kept.len() {
        assert!(decode::<M>(&kept[..shorter]).is_err(), "{name}: {shorter} bytes are taken for all");
    }
}

macro_rules! check_all {
    ($($name:ident: $type:ty = $example:expr;)*) => {
        $(#[test] fn $name() { check::<$type>(stringify!($name), &$example); })*

        #[test]
        fn every_file_is_of_a_message() {
            let known = [$(stringify!($name)),*];
            let all = std::fs::read_dir(file("x").parent().unwrap()).unwrap().flatten();
            for entry in all.filter(|entry| entry.path().is_file()) {
                let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
                assert!(known.contains(&name.as_str()), "nothing reads golden/{name}");
            }
        }
    };
}

mod the_bytes_of {
    use super::*;
    every_message!(check_all);
}

/// The fields that the first release of a message had no default for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FirstSubmit {
    invocation: InvocationId,
    function: FirstCard,
    path: FunctionPath,
    namespace: String,
    reply_to: String,
    first_attempt: Attempt,
    patience: Span,
    payload: Payload,
    transaction: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FirstCard {
    id: FunctionId,
    revision: Revision,
    reservation: Resources,
    timeout: Span,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FirstReport {
    sequence: u64,
    status: VmStatus,
    used: Resources,
    age: Span,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FirstAnswer {
    invocation: InvocationId,
    attempt: Attempt,
    outcome: Outcome,
    result: Payload,
    start: Start,
    started_unix_ms: u64,
    waited: Span,
    init: Span,
    duration: Span,
}

/// Each is read, with its new fields at their defaults.
#[test]
fn what_yesterdays_writers_sent_is_still_read() {
    let report: Report = decode(&kept("yesterday/report")).expect("yesterday's report");
    let today = examples::report();
    let unsaid = (String::new(), None, Hindrance::default());
    assert_eq!((report.capacity_source.clone(), report.notice.clone(), report.hindrance), unsaid);
    let (capacity_source, notice, hindrance) =
        (today.capacity_source.clone(), today.notice.clone(), today.hindrance);
    assert_eq!(Report { capacity_source, notice, hindrance, ..report }, today);
    let list: FleetList = decode(&kept("yesterday/fleet_list")).expect("yesterday's list");
    let (old, new) = (&list.vms[1], &examples::fleet_list().vms[1]);
    assert_eq!((old.vm, old.age, old.capacity_source.as_str()), (new.vm, new.age, ""));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FirstGrant {
    booked: Resources,
    ceiling: Resources,
}

#[test]
fn an_old_reader_takes_what_a_new_writer_sends() {
    let submit = examples::submit();
    let old: FirstSubmit = decode(&encode(&submit)).expect("unknown fields are skipped");
    assert_eq!(
        (old.invocation, old.payload, old.transaction),
        (submit.invocation, submit.payload, "my-id".into())
    );
    let old: FirstReport = decode(&encode(&examples::report())).expect("unknown fields are skipped");
    assert_eq!((old.sequence, old.status), (9, examples::report().status));
    let old: FirstAnswer = decode(&encode(&examples::answer())).expect("unknown fields are skipped");
    assert_eq!(old.result, examples::answer().result);
    let grant = examples::lending_grant();
    let old: FirstGrant = decode(&encode(&grant)).expect("unknown fields are skipped");
    assert_eq!(old, FirstGrant { booked: grant.booked, ceiling: grant.ceiling });
}

#[test]
fn a_new_reader_takes_what_an_old_writer_sends() {
    let new = examples::submit();
    let card = new.function;
    let old = FirstSubmit {
        invocation: new.invocation,
        function: FirstCard {
            id: card.id,
            revision: card.revision,
            reservation: card.reservation,
            timeout: card.timeout,
        },
        path: new.path.clone(),
        namespace: new.namespace.clone(),
        reply_to: new.reply_to.clone(),
        first_attempt: new.first_attempt,
        patience: new.patience,
        payload: new.payload.clone(),
        transaction: new.transaction.clone(),
    };
    let read: Submit = decode(&encode(&old)).expect("what is missing has a default");
    let function = FunctionCard { on_eviction: OnEviction::Rerun, ..card };
    assert_eq!(read, Submit { function, durable: false, api_key: None, trace: None, ..new });

    let new = examples::report();
    let old =
        FirstReport { sequence: new.sequence, status: new.status.clone(), used: new.used, age: new.age };
    let read: Report = decode(&encode(&old)).expect("what is missing has a default");
    let unsaid = Report { pid: 0, metrics: String::new(), enforcement: String::new(), ..new };
    let unsaid =
        Report { capacity_source: String::new(), notice: None, hindrance: Hindrance::default(), ..unsaid };
    assert_eq!(read, unsaid);

    let new = examples::answer();
    let old = FirstAnswer {
        invocation: new.invocation,
        attempt: new.attempt,
        outcome: new.outcome,
        result: new.result.clone(),
        start: new.start,
        started_unix_ms: new.started_unix_ms,
        waited: new.waited,
        init: new.init,
        duration: new.duration,
    };
    let read: Answer = decode(&encode(&old)).expect("what is missing has a default");
    assert_eq!(read, Answer { vm: None, grant: None, timed_out: false, ..new });
    let old = FirstGrant { booked: Resources::new(250, 128), ceiling: Resources::new(500, 256) };
    assert_eq!(decode::<Grant>(&encode(&old)).expect("what is missing has a default"), examples::grant());
    assert_eq!(decode::<Drain>(&[0x80]).expect("an empty map"), Drain::default());
}
