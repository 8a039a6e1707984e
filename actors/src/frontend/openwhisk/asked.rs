//! A request's head: its path in decoded pieces, its query, its headers.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

use super::answer::Refusal;

/// What is asked, without its body.
pub(super) struct Asked {
    pub method: Method,
    /// The path's pieces, percent-decoded; a slash at the end is told apart by `ends_with_slash`.
    pub segments: Vec<String>,
    pub ends_with_slash: bool,
    query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub transaction: String,
}

impl Asked {
    pub(super) fn new(parts: Parts, transaction: String) -> Result<Self, Refusal> {
        let path = parts.uri.path().trim_start_matches('/');
        let (path, ends_with_slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let decoded = |text| percent_decoded(text, false).ok_or_else(|| Refusal::bad_request(BROKEN_ESCAPE));
        let segments = match path {
            "" => Vec::new(),
            path => path.split('/').map(decoded).collect::<Result<_, _>>()?,
        };
        let query = parts.uri.query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decoded(key, true).zip(percent_decoded(value, true));
            decoded.ok_or_else(|| Refusal::bad_request(BROKEN_ESCAPE))
        });
        Ok(Self {
            // What answers GET answers HEAD; the server leaves the body out.
            method: if parts.method == Method::HEAD { Method::GET } else { parts.method },
            segments,
            ends_with_slash,
            query: pairs.collect::<Result<_, _>>()?,
            headers: parts.headers,
            transaction,
        })
    }

    /// Refuses every other method.
    pub(super) fn only(&self, allowed: &[Method]) -> Result<(), Refusal> {
        if allowed.contains(&self.method) { Ok(()) } else { Err(Refusal::method_not_allowed(allowed)) }
    }

    /// A query parameter; the first, where it is given more than once.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that is yes or no.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.parameter(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "yes" | "on" | "1") => Ok(true),
            Some("false" | "no" | "off" | "0") => Ok(false),
            Some(other) => {
                Err(malformed(name, &format!("'{}' is not a valid Boolean value", shortened(other))))
            }
        }
    }

    /// How many entries of a list, and how many to leave out.
    pub(super) fn page(&self, collection: &str, default: usize, max: usize) -> Result<Page, Refusal> {
        let number = |name: &str| match self.parameter(name) {
            None => Ok(None),
            Some(text) => text.parse::<i64>().map(Some).map_err(|_| {
                let text = shortened(text);
                malformed(name, &format!("The value '{text}' is not an integer for {collection}."))
            }),
        };
        let limit = match number("limit")? {
            None => default,
            Some(0) => max,
            Some(limit) => usize::try_from(limit).ok().filter(|limit| *limit <= max).ok_or_else(|| {
                let text = format!("The value '{limit}' is not in the range of 0 to {max} for {collection}.");
                malformed("limit", &text)
            })?,
        };
        let skip = number("skip")?.unwrap_or(0);
        let skip = usize::try_from(skip).map_err(|_| {
            let text = format!("The value '{skip}' is not greater than or equal to 0 for {collection}.");
            malformed("skip", &text)
        })?;
        Ok(Page { skip, limit })
    }

    /// A query parameter that is a time in milliseconds since the Unix epoch.
    pub(super) fn time(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let time = text.parse::<i64>().map_err(|_| {
            let text = shortened(text);
            malformed(name, &format!("Parameter is not a valid value for epoch seconds: {text}"))
        })?;
        // Before 1970 nothing ran.
        Ok(Some(u64::try_from(time).unwrap_or(0)))
    }
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub skip: usize,
    pub limit: usize,
}

const BROKEN_ESCAPE: &str = "The request's URL holds a broken percent escape or is not UTF-8.";

pub(super) fn malformed(parameter: &str, detail: &str) -> Refusal {
    Refusal::bad_request(format!("The query parameter '{parameter}' was malformed:\n{detail}"))
}

/// What a caller sent, short enough to be sent back.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// `None` where an escape is broken or what comes out is not UTF-8.
fn percent_decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'%' => {
                let (high, low) = (tail.first()?, tail.get(1)?);
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = &tail[2..];
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Result<Asked, Refusal> {
        let request = axum::http::Request::builder().uri(uri).body(()).unwrap();
        Asked::new(request.into_parts().0, String::new())
    }

    #[test]
    fn a_path_is_taken_apart_and_decoded() {
        let asked = asked("/api/v1/a%20b/c%2Fd/").unwrap();
        assert_eq!(asked.segments, ["api", "v1", "a b", "c/d"]);
        assert!(asked.ends_with_slash);
        assert!(self::asked("/").unwrap().segments.is_empty());
        assert_eq!(self::asked("/a//b").unwrap().segments, ["a", "", "b"]);
        // A plus is a plus in a path and a space in a query.
        assert_eq!(self::asked("/hi+there").unwrap().segments, ["hi+there"]);
        assert_eq!(self::asked("/?name=hi+there").unwrap().parameter("name"), Some("hi there"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for uri in ["/a%", "/a%2", "/a%zz", "/%ff", "/?a=%ff", "/?%=1"] {
            assert!(asked(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn pages_stay_within_their_range() {
        let page = |query: &str| asked(&format!("/?{query}")).unwrap().page("actions", 30, 200);
        assert_eq!(page("").unwrap(), Page { skip: 0, limit: 30 });
        assert_eq!(page("limit=0&skip=7").unwrap(), Page { skip: 7, limit: 200 });
        assert_eq!(page("limit=200").unwrap().limit, 200);
        for wrong in ["limit=201", "limit=-1", "limit=x", "skip=-1", "skip=", "limit=99999999999999999999"] {
            let refusal = page(wrong).unwrap_err();
            let value = wrong.split_once('=').unwrap().1;
            assert!(refusal.error.contains(&format!("'{value}'")), "{}", refusal.error);
        }
    }
}
