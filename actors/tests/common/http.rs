//! A small HTTP/1.1 client that can also send nonsense.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// The text of an error, after looking whether it has the form that clients expect.
    pub fn error(&self) -> String {
        let body = self.json();
        assert!(body["code"].as_str().is_some_and(|code| !code.is_empty()), "no code: {body}");
        assert_eq!(self.header("x-request-id"), body["code"].as_str());
        body["error"].as_str().unwrap_or_else(|| panic!("no error: {body}")).to_owned()
    }
}

/// A client with one key.
#[derive(Clone)]
pub struct Http {
    pub address: SocketAddr,
    pub key: String,
}

impl Http {
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], b"").await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    /// With the key, unless an `Authorization` is given; an empty one leaves it out.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: windfall\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Authorization") {
            let basic = base64::engine::general_purpose::STANDARD.encode(&self.key);
            head.push_str(&format!("Authorization: Basic {basic}\r\n"));
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await.expect("an answer")
    }

    /// Sends bytes as they are and hangs up; `None` where the server said nothing that is HTTP.
    pub async fn throw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection to the door");
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        // A connection that the server has reset already is an answer too.
        let reading = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
        let _ = reading.await.expect("an end of the answer");
        parse(&answer)
    }

    /// Sends bytes as they are and reads until the server closes; `None` where it said nothing that is HTTP.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection to the door");
        let (mut reader, mut writer) = stream.split();
        // The server may answer and close before it has read all.
        let writing = async {
            let _ = writer.write_all(bytes).await;
            std::future::pending::<()>().await
        };
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(60), reader.read_to_end(&mut answer));
        tokio::select! {
            () = writing => {}
            read = reading => drop(read.expect("an end of the answer")),
        }
        parse(&answer)
    }
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Some(Reply { status, headers, body: answer[end + 4..].to_vec() })
}
