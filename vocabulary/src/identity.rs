//! Who and which: ids that cannot be mistaken for one another.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

/// One call of a function: 128 bits, of which the first 48 are the milliseconds since the Unix epoch
/// at which it was accepted, so that ids sort by time. Printed as 32 lower-case hexadecimal digits,
/// which is also what OpenWhisk's clients expect of an activation id.
///
/// On the wire it is 16 bytes of binary where the format has binary, else its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvocationId(pub u128);

impl InvocationId {
    /// An id for an invocation accepted at `unix_ms`, told apart from others of the same millisecond
    /// by the low 80 bits of `chance`.
    pub fn new(unix_ms: u64, chance: u128) -> Self {
        Self((u128::from(unix_ms & 0xffff_ffff_ffff) << 80) | (chance & ((1 << 80) - 1)))
    }

    /// When it was accepted, in milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for InvocationId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let well_formed =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        well_formed.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or_else(|| {
            ParseIdError {
                text: text.chars().take(64).collect(),
                expected: "an invocation id: 32 lower-case hexadecimal digits",
            }
        })
    }
}

impl Serialize for InvocationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for InvocationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrBytes;

        impl Visitor<'_> for TextOrBytes {
            type Value = InvocationId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("16 bytes or 32 lower-case hexadecimal digits")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<InvocationId, E> {
                let bytes: [u8; 16] = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(InvocationId(u128::from_be_bytes(bytes)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InvocationId, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(TextOrBytes)
        } else {
            deserializer.deserialize_bytes(TextOrBytes)
        }
    }
}

/// The n-th try of one invocation, counted from 1: the fencing token. An answer to an older attempt is
/// dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first try.
    pub const FIRST: Attempt = Attempt(1);

    /// The try after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which build of a function's definition: grows with every update, in the order the store saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A 64-bit id with its own printed form, so that each kind is recognised in a log.
macro_rules! id64 {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .filter(|digits| {
                        !digits.is_empty()
                            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                    })
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError {
                        text: text.chars().take(64).collect(),
                        expected: concat!("an id of the form ", $prefix, "<lower-case hexadecimal>"),
                    })
            }
        }
    };
}

id64!(
    /// A machine that runs functions. Never used again for another machine within one cluster.
    VmId, "vm-"
);
id64!(
    /// A function, from its creation to its deletion; made again under the same name it is another one,
    /// so that neither profile nor warm sandboxes of the old one are taken for its own.
    FunctionId, "fn-"
);
id64!(
    /// What is deployed and judged together: the functions of one package, or one function by itself.
    ApplicationId, "app-"
);
id64!(
    /// A running Controller; a restarted one is another one.
    ControllerId, "controller-"
);
id64!(
    /// A running Frontend; a restarted one is another one.
    FrontendId, "frontend-"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocation_ids_sort_by_the_time_of_acceptance() {
        let earlier = InvocationId::new(1_700_000_000_000, u128::MAX);
        let later = InvocationId::new(1_700_000_000_001, 0);
        assert!(earlier < later);
        assert_eq!(earlier.unix_ms(), 1_700_000_000_000);
    }

    #[test]
    fn an_invocation_id_is_read_only_in_its_one_printed_form() {
        let id = InvocationId::new(1, 0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "AB",
            "0",
            &"g".repeat(32),
            &"A".repeat(32),
            &"0".repeat(33),
            "+0000000000000000000000000000000",
        ] {
            assert!(wrong.parse::<InvocationId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_invocation_id_is_sixteen_bytes_on_the_wire_and_text_for_people() {
        let id = InvocationId(7);
        let bytes = rmp_serde::to_vec_named(&id).unwrap();
        assert_eq!(bytes.len(), 18); // bin8 header and 16 bytes
        assert_eq!(rmp_serde::from_slice::<InvocationId>(&bytes).unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<InvocationId>(&format!("\"{id}\"")).unwrap(), id);
        assert!(rmp_serde::from_slice::<InvocationId>(&[0xc4, 2, 1, 2]).is_err());
    }

    #[test]
    fn ids_of_one_kind_are_not_read_as_another() {
        assert_eq!("vm-1f".parse(), Ok(VmId(31)));
        assert!("fn-1f".parse::<VmId>().is_err());
        assert!("vm-".parse::<VmId>().is_err());
        assert!("vm-+1".parse::<VmId>().is_err());
    }
}
