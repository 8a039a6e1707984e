//! As much of HTTP/1.1 as metadata services speak.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer questions are refused by closing.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 64 << 10;
/// How often a waiting connection looks whether the service stops.
const LOOK: Duration = Duration::from_millis(100);

/// What was asked.
#[derive(Debug)]
pub(super) struct Question {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Question {
    /// Without its query. AWS's own client begins it with two slashes, and AWS takes them for one.
    pub fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        let slashes = path.len() - path.trim_start_matches('/').len();
        &path[slashes.saturating_sub(1)..]
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Questions from one connection.
pub(super) struct Reader<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub fn new(stream: &'a TcpStream) -> Self {
        // Without the timeout a silent connection would outlive the service, which is all that is lost.
        let _ = stream.set_read_timeout(Some(LOOK));
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new() }
    }

    /// The next one; none when the other side, or the service, has ended.
    pub fn next(&mut self, stopping: impl Fn() -> bool) -> Option<Question> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_MAX || !self.more(&stopping) {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let mut question = Question { method, target, headers, body: Vec::new() };
        let length: usize = question.header("content-length").unwrap_or("0").parse().ok()?;
        if length > BODY_MAX {
            return None;
        }
        while self.buffer.len() < length {
            if !self.more(&stopping) {
                return None;
            }
        }
        question.body = self.buffer.drain(..length).collect();
        Some(question)
    }

    fn more(&mut self, stopping: &impl Fn() -> bool) -> bool {
        let mut chunk = [0; 4096];
        loop {
            if stopping() {
                return false;
            }
            let mut stream = self.stream;
            match stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => {
                    self.buffer.extend_from_slice(&chunk[..length]);
                    return true;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(_) => return false,
            }
        }
    }
}

/// What is said.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain", headers: Vec::new(), body: body.into() }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, kind: "application/json", headers: Vec::new(), body: body.to_string() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    pub fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            _ => "Other",
        };
        let mut text = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\n",
            self.status,
            self.kind,
            self.body.len(),
            super::dates::rfc1123(super::dates::unix_ms())
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        stream.write_all(text.as_bytes())
    }
}

/// A body without an end, until the other side has had enough.
pub(super) fn endless(mut stream: &TcpStream, stopping: impl Fn() -> bool) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let _ = stream.set_write_timeout(Some(LOOK));
    if stream.write_all(head).is_err() {
        return;
    }
    let more = [b'['; 4096];
    while !stopping() && stream.write_all(&more).is_ok() {}
}
