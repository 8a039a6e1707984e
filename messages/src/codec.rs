//! Messages as bytes and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not the message they should be. The receiver counts and drops them.
#[derive(Debug, thiserror::Error)]
#[error("not a {expected} message ({length} bytes): {source}")]
pub struct DecodeError {
    expected: &'static str,
    length: usize,
    source: rmp_serde::decode::Error,
}

/// Most messages fit in this, so that a buffer is not grown several times on the way of every invocation.
const USUAL_SIZE: usize = 768;

/// A message as a MessagePack map.
pub fn encode<M: Serialize>(message: &M) -> bytes::Bytes {
    let mut buffer = Vec::with_capacity(USUAL_SIZE);
    rmp_serde::encode::write_named(&mut buffer, message)
        .expect("messages hold only types that MessagePack can carry");
    buffer.into()
}

/// How deep maps and lists may stand in one another. No message comes near it; the decoder's own limit of 1,024
/// overflows the stack of a thread.
const DEPTH_LIMIT: usize = 32;

/// A message read from a MessagePack map; fields it does not know are skipped.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, DecodeError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_LIMIT);
    M::deserialize(&mut decoder).map_err(|source| DecodeError {
        expected: short_name::<M>(),
        length: bytes.len(),
        source,
    })
}

fn short_name<M>() -> &'static str {
    let full = std::any::type_name::<M>();
    full.rsplit("::").next().unwrap_or(full)
}
