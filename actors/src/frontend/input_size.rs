//! How large an argument is, where its function says which part of it counts.
//!
//! **Knows:** the field that the annotation `input-size` names (`image`, or `job.rows` for one inside another), and the argument.
//! **Promises:** one pass over the argument and no copy of it. Text counts its bytes, so base64 counts as it is sent, a third
//! more than what it stands for: sizes are told apart by powers of two, and all of a function's are the same. A list counts its
//! items, an object its members, a number itself, rounded down. What is missing, negative or neither is 0: a size like any other.
//! **Gives up:** functions whose work hangs on several fields at once.

use std::fmt;

use crate::store::FunctionDefinition;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The size of the input in a call's argument, where its function names a field for that; nothing is read where it does not.
pub(super) fn size_of_input(function: &FunctionDefinition, argument: &[u8]) -> Option<u32> {
    Some(measure(&function.input_size()?, argument))
}

/// The size of `field` in an argument.
fn measure(field: &str, argument: &[u8]) -> u32 {
    let mut decoder = serde_json::Deserializer::from_slice(argument);
    // The door has found it to be an object; what is none has no fields.
    let size = Part { field }.deserialize(&mut decoder).unwrap_or(0);
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The rest of the way to the field; empty where it is this.
#[derive(Clone, Copy)]
struct Part<'f> {
    field: &'f str,
}

impl Part<'_> {
    fn is_this(self) -> bool {
        self.field.is_empty()
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
        Ok(if self.is_this() { number } else { 0 })
    }

    fn visit_i64<E>(self, number: i64) -> Result<u64, E> {
        Ok(if self.is_this() { number.max(0).unsigned_abs() } else { 0 })
    }

    fn visit_f64<E>(self, number: f64) -> Result<u64, E> {
        // Saturates, and takes what is negative for 0.
        Ok(if self.is_this() { number as u64 } else { 0 })
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.is_this() { text.len() as u64 } else { 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(if self.is_this() { count } else { 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<u64, A::Error> {
        let (name, field) = self.field.split_once('.').unwrap_or((self.field, ""));
        let (mut count, mut size) = (0, 0);
        while let Some(found) = members.next_key_seed(Named { name })? {
            count += 1;
            if found && !self.is_this() {
                size = members.next_value_seed(Part { field })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(if self.is_this() { count } else { size })
    }
}

/// Whether a member has this name.
struct Named<'f> {
    name: &'f str,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        Ok(std::borrow::Cow::<str>::deserialize(deserializer)? == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(field: &str, argument: &str) -> u32 {
        measure(field, argument.as_bytes())
    }

    #[test]
    fn text_counts_its_bytes_lists_their_items_and_a_number_is_its_own_size() {
        let argument = r#"{"a":1,"text":"f\u00fcnf","list":[[1,2],{"x":3},"y"],"n":12345,"half":7.9,"object":{"p":1,"q":[]}}"#;
        assert_eq!(size("text", argument), 5);
        assert_eq!(size("list", argument), 3);
        assert_eq!(size("n", argument), 12_345);
        assert_eq!(size("half", argument), 7);
        assert_eq!(size("object", argument), 2);
    }

    #[test]
    fn a_field_inside_another_is_named_with_a_point() {
        let argument = r#"{"job":{"rows":[1,2,3],"deep":{"er":"four"}},"rows":[1]}"#;
        assert_eq!(size("job.rows", argument), 3);
        assert_eq!(size("job.deep.er", argument), 4);
        assert_eq!(size("rows", argument), 1);
        assert_eq!(size("job.rows.length", argument), 0, "a list has no members");
    }

    #[test]
    fn what_is_missing_or_no_size_is_nothing() {
        for argument in
            [r#"{}"#, r#"{"n":null}"#, r#"{"n":true}"#, r#"{"n":-3}"#, r#"{"n":-0.5}"#, "[1]", "", "{"]
        {
            assert_eq!(size("n", argument), 0, "{argument}");
        }
        assert_eq!(size("n", r#"{"n":1e300}"#), u32::MAX);
        assert_eq!(size("n", r#"{"n":18446744073709551615}"#), u32::MAX);
    }

    #[test]
    fn names_are_compared_as_they_are_meant() {
        assert_eq!(size("ü", r#"{"\u00fc":"abc"}"#), 3);
    }
}
