use std::io::{Read, Write};
use std::time::Instant;

use super::*;

/// One question over a connection of its own: status, head and body.
fn ask(
    server: &MetadataServer,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn server() -> MetadataServer {
    MetadataServer::start("127.0.0.1:0", "vm-spot").unwrap()
}

#[test]
fn azure_announces_starts_and_forgets_an_event() {
    let server = server();
    let target = "/metadata/scheduledevents?api-version=2020-07-01";
    let read = || {
        let (status, _, body) = ask(&server, "GET", target, "Metadata: true\r\n", "");
        assert_eq!(status, 200);
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    assert_eq!(ask(&server, "GET", target, "", "").0, 400);
    assert_eq!(read()["Events"].as_array().unwrap().len(), 0);
    server.evict(Duration::from_secs(30));
    let document = read();
    let event = &document["Events"][0];
    assert_eq!(
        (event["EventType"].as_str(), event["EventStatus"].as_str()),
        (Some("Preempt"), Some("Scheduled"))
    );
    assert!(event["NotBefore"].as_str().unwrap().ends_with("GMT"));
    assert_eq!(event["Resources"][0], "vm-spot");
    let ack = serde_json::json!({ "StartRequests": [{ "EventId": event["EventId"] }] }).to_string();
    assert_eq!(ask(&server, "POST", target, "Metadata: true\r\n", "{").0, 400);
    assert_eq!(ask(&server, "POST", target, "Metadata: true\r\n", &ack).0, 200);
    let begun = read();
    assert_eq!(
        (begun["Events"][0]["EventStatus"].as_str(), begun["Events"][0]["NotBefore"].as_str()),
        (Some("Started"), Some(""))
    );
    assert!(begun["DocumentIncarnation"].as_u64() > document["DocumentIncarnation"].as_u64());
    // Already approved: 200 all the same.
    assert_eq!(ask(&server, "POST", target, "Metadata: true\r\n", &ack).0, 200);
    server.call_off();
    assert_eq!(read()["Events"].as_array().unwrap().len(), 0);
}

#[test]
fn aws_says_nothing_without_a_token_and_404_before_the_notice() {
    let server = server();
    let action = "/latest/meta-data/spot/instance-action";
    assert_eq!(ask(&server, "GET", action, "", "").0, 401);
    let ttl = |seconds: &str| format!("X-aws-ec2-metadata-token-ttl-seconds: {seconds}\r\n");
    assert_eq!(ask(&server, "PUT", "/latest/api/token", &ttl("0"), "").0, 400);
    let (status, _, token) = ask(&server, "PUT", "/latest/api/token", &ttl("60"), "");
    assert_eq!(status, 200);
    let header = format!("X-aws-ec2-metadata-token: {token}\r\n");
    assert_eq!(ask(&server, "GET", action, &header, "").0, 404);
    server.evict(Duration::from_secs(120));
    let (status, _, body) = ask(&server, "GET", action, &header, "");
    assert!(status == 200 && body.contains("\"terminate\"") && body.contains('Z'), "{body}");
    server.forget_tokens();
    assert_eq!(ask(&server, "GET", action, &header, "").0, 401);
}

#[test]
fn gcp_holds_a_question_until_the_value_changes() {
    let server = server();
    let path = "/computeMetadata/v1/instance/preempted";
    assert_eq!(ask(&server, "GET", path, "", "").0, 403);
    let flavour = "Metadata-Flavor: Google\r\n";
    let (_, head, body) = ask(&server, "GET", path, flavour, "");
    assert_eq!(body, "FALSE");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let target = format!("{path}?wait_for_change=true&timeout_sec=60&last_etag={etag}");
            (ask(&server, "GET", &target, flavour, "").2, Instant::now())
        });
        while server.questions().len() < 3 {
            std::thread::yield_now();
        }
        let evicted = Instant::now();
        server.evict(Duration::from_secs(30));
        let (body, at) = waiting.join().unwrap();
        assert!(body == "TRUE" && at > evicted);
    });
    // Nothing changes: the answer comes when its time is over.
    let (_, head, _) = ask(&server, "GET", path, flavour, "");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let target = format!("{path}?wait_for_change=true&timeout_sec=1&last_etag={etag}");
    assert_eq!(ask(&server, "GET", &target, flavour, "").2, "TRUE");
}
