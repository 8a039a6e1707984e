//! Wires between a house and its NATS, which can be cut, made slow, and broken again and again.
//!
//! **Knows:** connections by the name that each client tells NATS.
//! **Promises:** what is sent into a wire comes out of it, once, in order, as long as both ends live and it is not broken: a cut wire holds it, as
//! a network that is partitioned does, and delivers late. A wire that breaks resets both ends, and what it held is lost; what came out before came out
//! whole. Nobody else's wire is touched. A new connection of one who is cut off is cut off, too, and that of one whose wires break breaks.
//! **Gives up:** TLS, whose clients tell no name that we could read; loss without a break: TCP hides it, and what it costs is time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use policies::chance::SplitMix64;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Where wires are given orders, by NATS.
pub const CONTROL: &str = "windfall.chaos.wires";

/// Chunks that one direction of a wire holds, and bytes of one: then whoever sends waits, as with a full socket.
const CHUNKS: usize = 256;
const CHUNK: usize = 64 << 10;
/// A client's first line is not longer than this.
const CONNECT_MAX: usize = 64 << 10;
/// What is sent into a wire so shortly before it breaks is lost with it.
const LOST: Duration = Duration::from_millis(20);
/// Names that are remembered although nobody of that name is connected.
const NAMES: usize = 1_000;

/// How a wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// As if it were not there.
    #[default]
    Whole,
    /// Nothing comes through, and nothing is lost.
    Cut,
    /// Everything takes so long, each way: from, to.
    Slow {
        /// At least, ms.
        from_ms: u64,
        /// At most, ms.
        to_ms: u64,
    },
    /// Each connection breaks when it is so old, or has been so for so long: from, to.
    Breaks {
        /// At least, ms.
        from_ms: u64,
        /// At most, ms.
        to_ms: u64,
    },
}

/// An order, on [`CONTROL`]; answered with the [`Obeyed`] as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose wires: the name of the connection.
    pub name: String,
    /// How they are from now on.
    pub condition: Condition,
    /// For so long, ms; then they mend by themselves. 0: until the next order.
    #[serde(default)]
    pub for_ms: u64,
}

/// The answer to an [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// How many wires that concerns.
    pub wires: usize,
}

/// All wires of one house.
#[derive(Debug, Default)]
pub struct Wires {
    named: Mutex<BTreeMap<String, Named>>,
}

/// The wires of one name.
#[derive(Debug, Default)]
struct Named {
    condition: watch::Sender<Condition>,
    /// Each wire has one of these.
    laid: Arc<()>,
    /// How many there have been.
    count: u64,
}

impl Named {
    fn wires(&self) -> usize {
        Arc::strong_count(&self.laid) - 1
    }
}

impl Wires {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, all wires of this name are so. Returns how many there are.
    pub fn set(&self, name: &str, condition: Condition) -> usize {
        let mut all = self.locked();
        let named = all.entry(name.to_owned()).or_default();
        named.condition.send_replace(condition);
        named.wires()
    }

    fn lay_one(&self, name: &str) -> (watch::Receiver<Condition>, Arc<()>, SplitMix64) {
        let mut all = self.locked();
        if all.len() > NAMES {
            all.retain(|_, named| named.wires() > 0 || *named.condition.borrow() != Condition::Whole);
        }
        let named = all.entry(name.to_owned()).or_default();
        named.count += 1;
        let chance = SplitMix64::of(2 + named.count, name);
        (named.condition.subscribe(), Arc::clone(&named.laid), chance)
    }

    /// Lays a wire to `server` for everybody who comes; never comes back.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, server: String) {
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    let (wires, server) = (Arc::clone(&self), server.clone());
                    // How a connection ends is its own ends' business.
                    tokio::spawn(async move { drop(wires.lay(client, &server).await) });
                }
                // Too many open files, most likely.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Does what is ordered on [`CONTROL`], until the connection is closed.
    ///
    /// # Errors
    /// Nobody can listen there.
    pub async fn obey(self: Arc<Self>, nats: Client) -> Result<(), async_nats::SubscribeError> {
        let mut orders = nats.subscribe(CONTROL).await?;
        while let Some(message) = orders.next().await {
            let Ok(order) = serde_json::from_slice::<Order>(&message.payload) else { continue };
            let obeyed = Obeyed { wires: self.set(&order.name, order.condition) };
            if order.for_ms > 0 {
                let wires = Arc::clone(&self);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(order.for_ms)).await;
                    wires.set(&order.name, Condition::Whole);
                });
            }
            if let (Some(reply), Ok(answer)) = (message.reply, serde_json::to_vec(&obeyed)) {
                // Who does not hear it asks again.
                let _ = nats.publish(reply, answer.into()).await;
            }
        }
        Ok(())
    }

    async fn lay(&self, client: TcpStream, server: &str) -> io::Result<()> {
        let mut server = TcpStream::connect(server).await?;
        let mut client = client;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, to_server) = server.split();
        let first = introduce(&mut from_client, &mut to_client, &mut from_server).await?;
        let name = name(&first).unwrap_or_default();
        let (condition, _laid, chance) = self.lay_one(&name);
        let carried = async {
            tokio::join!(
                pump(from_client, to_server, condition.clone(), first, SplitMix64::of(1, &name)),
                pump(from_server, to_client, condition.clone(), BytesMut::new(), SplitMix64::of(2, &name)),
            )
        };
        tokio::select! {
            _ = carried => {}
            () = breaks(condition.clone(), chance) => {
                // Nobody reads any more: what comes now stays in the sockets, and goes with them.
                tokio::time::sleep(LOST).await;
                client.set_zero_linger()?;
                server.set_zero_linger()?;
            }
        }
        Ok(())
    }
}

/// Comes back when a wire breaks.
async fn breaks(mut condition: watch::Receiver<Condition>, mut chance: SplitMix64) {
    loop {
        let now = *condition.borrow_and_update();
        let lives = match now {
            Condition::Breaks { from_ms, to_ms } => Duration::from_millis(chance.between(from_ms, to_ms)),
            // As good as for ever.
            Condition::Whole | Condition::Cut | Condition::Slow { .. } => Duration::from_secs(1 << 30),
        };
        tokio::select! {
            () = tokio::time::sleep(lives) => return,
            changed = condition.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }
}

/// Lets the server speak until the client has told its name; what the client said has not been passed on.
async fn introduce(
    client: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    server: &mut (impl AsyncRead + Unpin),
) -> io::Result<BytesMut> {
    let mut said = BytesMut::with_capacity(4_096);
    let mut told = BytesMut::with_capacity(4_096);
    while !said.contains(&b'\n') {
        if said.len() > CONNECT_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        tokio::select! {
            read = client.read_buf(&mut said) => if read? == 0 { return Err(io::ErrorKind::UnexpectedEof.into()) },
            read = server.read_buf(&mut told) => {
                if read? == 0 { return Err(io::ErrorKind::UnexpectedEof.into()) }
                to_client.write_all(&told.split()).await?;
            }
        }
    }
    Ok(said)
}

/// The name in a client's `CONNECT {...}`.
fn name(said: &[u8]) -> Option<String> {
    let line = said.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?.trim().strip_prefix("CONNECT")?;
    let told: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(told["name"].as_str()?.to_owned())
}

/// One direction of a wire.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut condition: watch::Receiver<Condition>,
    first: BytesMut,
    mut chance: SplitMix64,
) {
    let (hold, mut held) = mpsc::channel::<(Instant, Bytes)>(CHUNKS);
    let now_and_then = condition.clone();
    let read = async move {
        let mut buffer = first;
        let mut last = Instant::now();
        loop {
            if !buffer.is_empty() {
                let delay = match *now_and_then.borrow() {
                    Condition::Slow { from_ms, to_ms } => {
                        Duration::from_millis(chance.between(from_ms, to_ms))
                    }
                    Condition::Whole | Condition::Cut | Condition::Breaks { .. } => Duration::ZERO,
                };
                // Order is kept: nothing comes out before what went in first.
                last = last.max(Instant::now() + delay);
                if hold.send((last, buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
            buffer.reserve(CHUNK);
            if !matches!(from.read_buf(&mut buffer).await, Ok(read) if read > 0) {
                return;
            }
        }
    };
    let write = async move {
        // A sender that is gone means that the wires are: then nothing stands in the way any more.
        while let Some((due, chunk)) = held.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let _ = condition.wait_for(|condition| *condition != Condition::Cut).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = condition.wait_for(|condition| *condition != Condition::Cut).await;
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A server that greets and then says everything again, and wires to it.
    async fn echo() -> (Arc<Wires>, std::net::SocketAddr) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = server.accept().await {
                tokio::spawn(async move {
                    peer.write_all(b"INFO {}\r\n").await.unwrap();
                    let (mut read, mut write) = peer.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let wires = Wires::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&wires).serve(listener, address));
        (wires, there)
    }

    async fn connected(to: std::net::SocketAddr, name: &str) -> TcpStream {
        let mut client = TcpStream::connect(to).await.unwrap();
        hears(&mut client, "INFO {}\r\n").await;
        let connect = format!("CONNECT {{\"name\":\"{name}\",\"verbose\":false}}\r\n");
        client.write_all(connect.as_bytes()).await.unwrap();
        client
    }

    async fn hears(client: &mut TcpStream, expected: &str) {
        let mut heard = vec![0; expected.len()];
        tokio::time::timeout(SOON, client.read_exact(&mut heard)).await.expect("in time").unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    async fn hears_nothing(client: &mut TcpStream) {
        let mut heard = [0; 1];
        let read = tokio::time::timeout(Duration::from_millis(300), client.read(&mut heard)).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn a_cut_wire_holds_what_is_sent_and_nobody_elses() {
        let (wires, there) = echo().await;
        let mut cut = connected(there, "one").await;
        hears(&mut cut, "CONNECT {\"name\":\"one\",\"verbose\":false}\r\n").await;
        let mut other = connected(there, "other").await;
        hears(&mut other, "CONNECT {\"name\":\"other\",\"verbose\":false}\r\n").await;
        assert_eq!(wires.set("one", Condition::Cut), 1);
        cut.write_all(b"late").await.unwrap();
        other.write_all(b"prompt").await.unwrap();
        hears(&mut other, "prompt").await;
        hears_nothing(&mut cut).await;
        // Who connects anew is cut off, too: greeted and then not heard.
        let mut again = connected(there, "one").await;
        hears_nothing(&mut again).await;
        assert_eq!(wires.set("one", Condition::Whole), 2);
        hears(&mut cut, "late").await;
        hears(&mut again, "CONNECT {\"name\":\"one\",\"verbose\":false}\r\n").await;
    }

    #[tokio::test]
    async fn a_slow_wire_takes_its_time_each_way_and_keeps_the_order() {
        let (wires, there) = echo().await;
        let mut client = connected(there, "one").await;
        hears(&mut client, "CONNECT {\"name\":\"one\",\"verbose\":false}\r\n").await;
        wires.set("one", Condition::Slow { from_ms: 50, to_ms: 150 });
        let at = Instant::now();
        for number in 0..20 {
            client.write_all(format!("{number:02}").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let all: String = (0..20).map(|number| format!("{number:02}")).collect();
        hears(&mut client, &all).await;
        assert!(at.elapsed() >= Duration::from_millis(100), "{:?}", at.elapsed());
    }

    #[tokio::test]
    async fn a_wire_that_breaks_resets_both_ends_and_the_next_one_breaks_too_until_it_is_over() {
        let (wires, there) = echo().await;
        let greeting = "CONNECT {\"name\":\"one\",\"verbose\":false}\r\n";
        let mut other = connected(there, "other").await;
        hears(&mut other, "CONNECT {\"name\":\"other\",\"verbose\":false}\r\n").await;
        let mut first = connected(there, "one").await;
        hears(&mut first, greeting).await;
        wires.set("one", Condition::Breaks { from_ms: 50, to_ms: 100 });
        for mut client in [first, connected(there, "one").await] {
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await.expect("it ends");
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        other.write_all(b"whole").await.unwrap();
        hears(&mut other, "whole").await;
        wires.set("one", Condition::Whole);
        let mut client = connected(there, "one").await;
        hears(&mut client, greeting).await;
        hears_nothing(&mut client).await;
        client.write_all(b"whole").await.unwrap();
        hears(&mut client, "whole").await;
    }

    #[tokio::test]
    async fn the_end_of_one_end_is_the_end_of_the_other() {
        let (_wires, there) = echo().await;
        let mut client = connected(there, "one").await;
        hears(&mut client, "CONNECT {\"name\":\"one\",\"verbose\":false}\r\n").await;
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    }

    #[test]
    fn a_client_tells_its_name_in_its_first_line() {
        assert_eq!(name(b"CONNECT {\"name\":\"vm-3\",\"user\":\"u\"}\r\nPING\r\n").as_deref(), Some("vm-3"));
        for nameless in ["CONNECT {}\r\n", "PING\r\n", "CONNECT {\r\n", "\u{0}\n"] {
            assert_eq!(name(nameless.as_bytes()), None, "{nameless:?}");
        }
    }
}
