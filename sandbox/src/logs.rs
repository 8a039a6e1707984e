//! What a function writes to its standard output and error, as lines, up to a limit.
//!
//! **Knows:** bytes as they come from two pipes.
//! **Promises:** never holds more than the limit and one line; says so, in the words OpenWhisk's users know,
//! when something was left out.
//! **Gives up:** the order between the two streams within one reading; a pipe does not tell.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{LogLine, Stream};

/// The most lines of one run. A line costs memory even if it is empty, so bytes alone do not bound them.
const LINES_MAX: usize = 100_000;

/// The log of one run.
pub(crate) struct LogBook {
    lines: Vec<LogLine>,
    unfinished: [Vec<u8>; 2],
    /// Bytes that may still be taken.
    room: u64,
    limit: u64,
    overflowed: bool,
}

impl LogBook {
    /// An empty log that takes `limit` bytes, newlines included.
    pub(crate) fn new(limit: u64) -> Self {
        Self { lines: Vec::new(), unfinished: Default::default(), room: limit, limit, overflowed: false }
    }

    /// Takes what was read from `stream`.
    pub(crate) fn take(&mut self, stream: Stream, mut bytes: &[u8]) {
        let unix_us = now();
        while !bytes.is_empty() && !self.overflowed {
            let end = bytes.iter().position(|b| *b == b'\n');
            let length = end.map_or(bytes.len(), |end| end + 1);
            let taken = length.min(usize::try_from(self.room).unwrap_or(usize::MAX));
            self.room -= taken as u64;
            let (now, rest) = bytes.split_at(length);
            let text = now[..taken].strip_suffix(b"\n").unwrap_or(&now[..taken]);
            let unfinished = &mut self.unfinished[stream as usize];
            if taken < length {
                self.overflowed = true;
                unfinished.extend_from_slice(text);
            } else if end.is_none() {
                unfinished.extend_from_slice(text);
            } else {
                let line = if unfinished.is_empty() {
                    String::from_utf8_lossy(text).into_owned()
                } else {
                    unfinished.extend_from_slice(text);
                    whole(unfinished)
                };
                self.lines.push(LogLine { unix_us, stream, text: line });
                self.overflowed = self.lines.len() >= LINES_MAX;
            }
            bytes = rest;
        }
    }

    /// The lines; unfinished ones are finished, and a last one says if something was left out.
    pub(crate) fn finish(mut self) -> Vec<LogLine> {
        if self.lines.is_empty() && !self.overflowed && self.unfinished.iter().all(Vec::is_empty) {
            return self.lines; // The usual case reads no clock.
        }
        let unix_us = now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let unfinished = &mut self.unfinished[stream as usize];
            if !unfinished.is_empty() {
                let text = whole(unfinished);
                self.lines.push(LogLine { unix_us, stream, text });
            }
        }
        if self.overflowed {
            let limit = self.limit;
            let text = format!(
                "Logs were truncated because the total bytes size exceeds the limit of {limit} bytes."
            );
            self.lines.push(LogLine { unix_us, stream: Stream::Stderr, text });
        }
        self.lines
    }
}

fn whole(unfinished: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(unfinished).into_owned();
    unfinished.clear();
    text
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(book: LogBook) -> Vec<String> {
        book.finish().into_iter().map(|line| format!("{}: {}", line.stream.as_str(), line.text)).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces_of_each_stream() {
        let mut book = LogBook::new(1000);
        book.take(Stream::Stdout, "a\nb".as_bytes());
        book.take(Stream::Stderr, b"oops");
        book.take(Stream::Stdout, "\u{fc}\n\nlast".as_bytes());
        assert_eq!(texts(book), ["stdout: a", "stdout: bü", "stdout: ", "stdout: last", "stderr: oops"]);
    }

    #[test]
    fn a_letter_split_between_two_readings_is_whole_again() {
        let mut book = LogBook::new(1000);
        book.take(Stream::Stdout, &"é".as_bytes()[..1]);
        book.take(Stream::Stdout, &"é\n".as_bytes()[1..]);
        assert_eq!(texts(book), ["stdout: é"]);
    }

    #[test]
    fn what_exceeds_the_limit_is_cut_and_the_last_line_says_so() {
        let mut book = LogBook::new(8);
        for _ in 0..1000 {
            book.take(Stream::Stdout, b"12345\n");
        }
        let warning =
            "stderr: Logs were truncated because the total bytes size exceeds the limit of 8 bytes.";
        assert_eq!(texts(book), ["stdout: 12345", "stdout: 12", warning]);
    }

    #[test]
    fn exactly_the_limit_is_not_too_much() {
        let mut book = LogBook::new(6);
        book.take(Stream::Stdout, b"12345\n");
        assert_eq!(texts(book), ["stdout: 12345"]);
    }

    #[test]
    fn empty_lines_do_not_take_memory_without_end() {
        let mut book = LogBook::new(u64::MAX);
        book.take(Stream::Stdout, &vec![b'\n'; LINES_MAX * 3]);
        assert_eq!(book.finish().len(), LINES_MAX + 1);
    }
}
