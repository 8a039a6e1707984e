//! Two Frontends of one house: what is changed at one is served by the other, and limits hold for both together.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use actors::store::NamespaceLimits;
use common::house::{House, action, python};
use common::http::Http;
use common::{eventually, free_port};
use messages::{HEADER_STATUS, subjects};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LATE: Duration = Duration::from_millis(150);

/// A way to the server on which everything that comes back comes late.
async fn slow_way_to(port: u16) -> u16 {
    let slow = free_port();
    let listener = TcpListener::bind(("127.0.0.1", slow)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    let _ = sender.send((tokio::time::Instant::now() + LATE, buffer[..read].to_vec()));
                }
            });
            tokio::spawn(async move {
                while let Some((due, bytes)) = receiver.recv().await {
                    tokio::time::sleep_until(due).await;
                    if to_client.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_changed_a_function_finds_the_change_at_every_frontend() {
    let house = House::start().await;
    let slow = house.door_at(slow_way_to(house.server.port).await).await;
    let other = Http { address: slow.address, key: house.guest.as_text() };
    // The Frontends have to hear of each other first.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    house.action("echo").await;
    for round in 0..3 {
        let before = house.last_revision();
        let code = format!("def main(args): return {{'round': {round}}}");
        assert_eq!(house.http.put(&action("echo?overwrite=true"), &python(&code)).await.status, 200);
        assert_eq!(other.post(&action("echo?blocking=true"), &json!({})).await.status, 200);
        assert!(house.last_revision() > before, "round {round}: the old code was served");
    }
    assert_eq!(house.http.send("DELETE", &action("echo"), &[], b"").await.status, 200);
    assert_eq!(other.post(&action("echo?blocking=true"), &json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_calls_of_every_door_and_every_frontend() {
    let house = House::start().await;
    let another = house.another_door().await;
    let limits = NamespaceLimits { invocations_per_minute: Some(9), concurrent_invocations: None };
    let here = house.tenant("busy", limits).await;
    let there = Http { address: another.address, key: here.key.clone() };
    let nats = async_nats::connect(house.server.settings().url).await.expect("a user of NATS");
    assert_eq!(here.put(&action("echo"), &python("def main(args): return args")).await.status, 200);
    let by_nats = async || {
        let subject = subjects::invoke("busy", "echo");
        let reply = nats.request(subject, "{}".into()).await.expect("an answer");
        reply.headers.unwrap().get(HEADER_STATUS).unwrap().to_string()
    };
    // So that all calls are of one minute.
    let into_minute = Duration::from_millis(actors::clock::unix_ms() % 60_000);
    if into_minute > Duration::from_secs(45) {
        tokio::time::sleep(Duration::from_secs(60) - into_minute).await;
    }
    for _ in 0..3 {
        assert_eq!(here.post(&action("echo?blocking=true"), &json!({})).await.status, 200);
        assert_eq!(there.post(&action("echo?blocking=true"), &json!({})).await.status, 200);
        assert_eq!(by_nats().await, "success");
    }
    // Nine were taken; within half a second every Frontend and every door knows.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for http in [&here, &there] {
        let refused = http.post(&action("echo?blocking=true"), &json!({})).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!(refused.error().contains("allowed: 9"), "{refused:?}");
    }
    assert_eq!(by_nats().await, "refused");
    eventually("others are not touched", async || {
        house.http.put(&action("echo"), &python("def main(args): return args")).await.status != 429
            && house.http.post(&action("echo?blocking=true"), &json!({})).await.status == 200
    })
    .await;
}
