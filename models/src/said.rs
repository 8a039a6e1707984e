//! What an ONNX file says of itself, for a runtime that does not tell.
//!
//! **Knows:** of `onnx.proto` the operator sets (`ModelProto.opset_import`, field 8) and the metadata (`metadata_props`, field 14).
//! **Promises:** bytes that are no protocol buffer are none; nothing is taken from beyond the end.
//! **Gives up:** the graph; whoever runs it reads that.

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// The version of ONNX's own operator set.
    pub opset: u32,
    /// What stands under a metadata key.
    pub value: Option<String>,
}

/// Reads it; `None` where the bytes are no protocol buffer.
pub(crate) fn said(bytes: &[u8], key: &str) -> Option<Said> {
    let mut said = Said::default();
    for field in Fields(bytes) {
        match field? {
            (8, Value::Bytes(set)) => {
                let (domain, version) = opset(set)?;
                // ONNX's own has no name, or this one.
                if domain.is_empty() || domain == "ai.onnx" {
                    said.opset = u32::try_from(version).ok()?;
                }
            }
            (14, Value::Bytes(property)) => {
                let (name, value) = pair(property)?;
                if name == key {
                    said.value = Some(value.to_owned());
                }
            }
            _ => {}
        }
    }
    Some(said)
}

fn opset(bytes: &[u8]) -> Option<(&str, u64)> {
    let (mut domain, mut version) = ("", 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) => domain = std::str::from_utf8(text).ok()?,
            (2, Value::Number(number)) => version = number,
            _ => {}
        }
    }
    Some((domain, version))
}

fn pair(bytes: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) => key = std::str::from_utf8(text).ok()?,
            (2, Value::Bytes(text)) => value = std::str::from_utf8(text).ok()?,
            _ => {}
        }
    }
    Some((key, value))
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width, which nothing here has.
    Fixed,
}

/// The fields of a message, one after another; `None` in place of one that is cut or of no known kind, and then the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &[u8] = include_bytes!("../allocator.onnx");

    #[test]
    fn our_model_says_its_operator_set_and_its_features() {
        let said = said(MODEL, crate::FEATURES_KEY).unwrap();
        assert_eq!(said.opset, 17);
        assert_eq!(said.value, Some(crate::features::OURS.columns().names().join(",")));
    }

    #[test]
    fn what_is_cut_or_turned_over_is_none_or_says_something_else() {
        for length in 0..MODEL.len() {
            let _ = said(&MODEL[..length], crate::FEATURES_KEY);
        }
        for at in 0..MODEL.len() {
            let mut damaged = MODEL.to_vec();
            damaged[at] ^= 0xff;
            let _ = said(&damaged, crate::FEATURES_KEY);
        }
        assert_eq!(said(b"this is no model", "x"), None);
        assert_eq!(said(&[0x42, 0xff, 0xff, 0xff, 0xff, 0x7f], "x"), None, "longer than all there is");
    }
}
