//! What a function may be called with: one JSON object, checked without building it.

use std::fmt;

use bytes::Bytes;
use messages::BodyFormat;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// How deep maps and lists may stand in one another in MessagePack: as deep as in JSON, so that what comes in here
/// can be read by everybody behind it. The decoder's own limit would overflow the stack.
const DEPTH_LIMIT: usize = 126;

/// Why a body is no argument. The text goes to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// Not JSON, or not an object.
    #[error("the body must be one JSON object: {0}")]
    NotAnObject(String),
    /// Not MessagePack, not a map, or with what JSON cannot say.
    #[error("the body must be one MessagePack map with text keys and no binary: {0}")]
    NotAMap(String),
    /// Over the limit.
    #[error("the body has {length} bytes; {limit} are allowed")]
    TooLarge {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// A JSON object whose members are looked at and dropped.
struct AnyObject;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = AnyObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<AnyObject, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(AnyObject)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The argument in a body: JSON text, untouched where it was JSON; no body means `{}`.
pub fn read(body: Bytes, format: BodyFormat, limit: usize) -> Result<Bytes, ArgumentError> {
    if body.len() > limit {
        return Err(ArgumentError::TooLarge { length: body.len(), limit });
    }
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match format {
        BodyFormat::Json => {
            // What is skipped is not checked for UTF-8 by the parser, so that is done first.
            let text =
                std::str::from_utf8(&body).map_err(|error| ArgumentError::NotAnObject(error.to_string()))?;
            match serde_json::from_str::<AnyObject>(text) {
                Ok(AnyObject) => Ok(body),
                Err(error) => Err(ArgumentError::NotAnObject(error.to_string())),
            }
        }
        BodyFormat::MessagePack => {
            let mut decoder = rmp_serde::Deserializer::from_read_ref(&body);
            decoder.set_max_depth(DEPTH_LIMIT);
            let members: serde_json::Map<String, serde_json::Value> = Deserialize::deserialize(&mut decoder)
                .map_err(|error| ArgumentError::NotAMap(error.to_string()))?;
            let text = serde_json::to_vec(&members).expect("a map of JSON values is JSON");
            Ok(text.into())
        }
    }
}

/// A result in the caller's format.
pub fn write(result: &Bytes, format: BodyFormat) -> Bytes {
    match format {
        BodyFormat::Json => result.clone(),
        BodyFormat::MessagePack => {
            let value: serde_json::Value = serde_json::from_slice(result).unwrap_or(serde_json::Value::Null);
            rmp_serde::to_vec_named(&value).expect("JSON values are MessagePack").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &'static str) -> Result<Bytes, ArgumentError> {
        read(Bytes::from_static(body.as_bytes()), BodyFormat::Json, 100)
    }

    #[test]
    fn a_json_object_passes_untouched() {
        let text = "{ \"a\" : [1, {\"b\":null}] }\n";
        assert_eq!(json(text).unwrap(), text);
        assert_eq!(json("").unwrap(), "{}");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for wrong in ["[]", "1", "\"a\"", "null", "{", "{}{}", "{a:1}", "{\"a\":1,}", "\u{0}"] {
            assert!(matches!(json(wrong), Err(ArgumentError::NotAnObject(_))), "{wrong}");
        }
        let not_utf8 = Bytes::from_static(b"{\"a\":\"\xff\"}");
        assert!(matches!(read(not_utf8, BodyFormat::Json, 100), Err(ArgumentError::NotAnObject(_))));
        let long = Bytes::from(vec![b' '; 101]);
        assert_eq!(
            read(long, BodyFormat::Json, 100),
            Err(ArgumentError::TooLarge { length: 101, limit: 100 })
        );
    }

    #[test]
    fn messagepack_becomes_json_and_back() {
        let body = rmp_serde::to_vec_named(&serde_json::json!({"name": "x", "n": [1, -2, 0.5, null, true]}))
            .unwrap();
        let text = read(body.clone().into(), BodyFormat::MessagePack, 100).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value, serde_json::json!({"name": "x", "n": [1, -2, 0.5, null, true]}));
        let back: serde_json::Value = rmp_serde::from_slice(&write(&text, BodyFormat::MessagePack)).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn messagepack_that_is_nested_too_deeply_is_refused() {
        for (depth, is_allowed) in [(100, true), (100_000, false)] {
            let body = [b"\x81\xa1a".to_vec(), vec![0x91; depth], vec![0xc0]].concat();
            let read = read(body.into(), BodyFormat::MessagePack, 1 << 20);
            assert_eq!(read.is_ok(), is_allowed, "{depth}");
            if let Ok(text) = read {
                assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
            }
        }
    }

    #[test]
    fn broken_messagepack_is_refused() {
        for wrong in [&[0xc1][..], &[0x81, 0xa1], &[0x90], &[0x81, 0xa1, b'a', 0xc4, 1, 0], &[0x81, 1, 2]] {
            let refused = read(Bytes::copy_from_slice(wrong), BodyFormat::MessagePack, 100);
            assert!(matches!(refused, Err(ArgumentError::NotAMap(_))), "{wrong:?}: {refused:?}");
        }
    }
}
