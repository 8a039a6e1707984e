//! Bytes that nobody should send: decoders say no, and neither panic nor take memory for what is not there.
#![allow(missing_docs)]

mod examples;

use examples::INVOCATION;
use messages::*;
use proptest::prelude::*;
use vocabulary::*;

/// All decoders at once; what they say does not matter, that they come back does.
fn decode_as_everything(bytes: &[u8]) {
    macro_rules! decode_all {
        ($($name:ident: $type:ty = $example:expr;)*) => { $(let _ = decode::<$type>(bytes);)* };
    }
    every_message!(decode_all);
}

fn every_example() -> Vec<bytes::Bytes> {
    macro_rules! encode_all {
        ($($name:ident: $type:ty = $example:expr;)*) => { vec![$(encode(&$example)),*] };
    }
    every_message!(encode_all)
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn damaged_messages_are_decoded_or_refused(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let examples = every_example();
        let mut bytes = which.get(&examples).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_as_everything(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_as_everything(&bytes);
    }

    #[test]
    fn any_text_is_a_subject_token_of_one_name_or_of_none(text in any::<String>()) {
        let token = subjects::token(&text);
        prop_assert!(!token.contains(['.', ' ', '*', '>']));
        let name = subjects::name(&token);
        prop_assert_eq!(name.as_deref(), Some(text.as_str()));
        if let Some(name) = subjects::name(&text) {
            prop_assert_eq!(subjects::token(&name), text.clone());
        }
        let _ = subjects::read_bounce(&text);
        let _ = BodyFormat::of(&text);
    }
}

/// Lengths of four gigabytes with nothing behind them, alone and where a message has a list, text or binary.
#[test]
fn a_length_that_lies_takes_no_memory() {
    for head in [0xdd_u8, 0xdf, 0xc6, 0xdb] {
        let lie = [head, 0xff, 0xff, 0xff, 0xff];
        decode_as_everything(&lie);
        for field in
            ["invocations", "payload", "vms", "result", "items", "endings", "logs", "reason", "status"]
        {
            let mut bytes = vec![0x81, 0xa0 | field.len() as u8];
            bytes.extend(field.as_bytes());
            bytes.extend(lie);
            decode_as_everything(&bytes);
        }
    }
}

/// Maps in maps in maps: the decoder has a limit of its own, and the stack survives.
#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for head in [&b"\x81\xa1a"[..], b"\x91", b"\x81\xa6answer"] {
        decode_as_everything(&head.repeat(200_000));
    }
}
