//! Names of entities, as OpenWhisk allows them.

use super::answer::Refusal;

/// Longest name, in characters.
const LONGEST: usize = 256;

/// Whether a name is 1 to 256 of letters, digits, `_`, `@`, `.`, space, `&` and `-`, begins with a letter, digit
/// or `_`, and does not end with a space.
pub(super) fn is_legal(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = name.as_bytes();
    bytes.len() <= LONGEST
        && bytes.first().is_some_and(|first| word(*first))
        && bytes.last().is_some_and(|last| *last != b' ')
        && bytes.iter().all(|byte| word(*byte) || b"@ .&-".contains(byte))
}

/// The name, or what is wrong with it.
pub(super) fn checked(name: &str) -> Result<&str, Refusal> {
    let length = name.chars().count();
    if is_legal(name) {
        Ok(name)
    } else if length > LONGEST {
        Err(Refusal::bad_request(format!("Name longer than allowed: {length} > {LONGEST}.")))
    } else {
        Err(Refusal::bad_request("The name of the entity contains illegal characters."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_legal_shape_pass() {
        let longest = "x".repeat(256);
        for name in ["a", "_", "7", "AbC", "a b", "a@b.c", "a&b", "a-b", "a.", "a  b", "a-", longest.as_str()]
        {
            assert!(checked(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_of_every_illegal_shape_are_refused() {
        let too_long = "x".repeat(257);
        for name in [
            "",
            " ",
            " a",
            "a ",
            "-a",
            ".a",
            "@a",
            "&a",
            "hi+there",
            "$hola",
            "dora?",
            "a/b",
            "a\tb",
            "a\nb",
            "a\0",
            "ä",
            "日本",
            "a:b",
            "a%b",
            too_long.as_str(),
        ] {
            assert!(checked(name).is_err(), "{name:?}");
        }
    }
}
