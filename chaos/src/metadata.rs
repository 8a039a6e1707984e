//! The metadata service of three clouds in one, as a VM sees it: Azure Scheduled Events, AWS IMDSv2, GCP.
//!
//! **Knows:** one machine, its name and what is to become of it.
//! **Promises:** what the clouds document, header by header, so that their own clients take it for the real thing:
//! Azure asks for `Metadata: true`, AWS for a token that can run out, GCP for `Metadata-Flavor` and holds a question
//! until the value changes. And, where a test wants that, a service that is slow, absent, talks nonsense or lies.
//! **Gives up:** everything else those services say of a machine, and speed: each connection has a thread.
//!
//! Bind it to 169.254.169.254 port 80 inside a network namespace, or to a port of the loopback.

mod aws;
mod azure;
pub mod dates;
mod gcp;
mod http;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Answer, Question};

/// Where every cloud has it.
pub const ADDRESS: &str = "169.254.169.254:80";

/// How the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temper {
    /// As documented.
    #[default]
    Faithful,
    /// Every answer takes so long.
    Slow(Duration),
    /// Takes the connection and closes it.
    Absent,
    /// Says 200 and something that nobody can read.
    Garbage,
    /// Says 200 and goes on for ever.
    Endless,
    /// Says this status whatever is asked.
    Refusing(u16),
    /// Well-formed answers with absurd values.
    Lying,
}

/// What is to become of the machine.
#[derive(Debug, Default)]
struct Fate {
    name: String,
    temper: Temper,
    /// Grows with every change; Azure shows it, GCP makes its ETag of it.
    change: u64,
    azure: azure::Events,
    aws: aws::Tokens,
    /// When it will be evicted, in unix milliseconds.
    evicted_at: Option<u64>,
    rebalance_at: Option<u64>,
    questions: Vec<String>,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Shared {
    fate: Mutex<Fate>,
    changed: Condvar,
    /// Read by the threads of connections between two questions.
    stopping: AtomicBool,
}

impl Shared {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions that are remembered for tests.
const REMEMBERED: usize = 10_000;

/// A metadata service, until it is dropped.
#[derive(Debug)]
pub struct MetadataServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl MetadataServer {
    /// For the machine `name`, at `address` (port 0 takes a free one).
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(address: &str, name: &str) -> io::Result<Self> {
        Self::serve(TcpListener::bind(address)?, name)
    }

    /// The same inside the network namespace that `namespace` (such as `/proc/7/ns/net`) names: at the address that
    /// machines there find it at. The caller stays where it is.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the address cannot be had there.
    pub fn start_inside(namespace: &std::path::Path, address: &str, name: &str) -> io::Result<Self> {
        let place = std::fs::File::open(namespace)?;
        let address = address.to_owned();
        // A thread of its own, since entering is for the whole thread; the socket stays in that namespace.
        let bound = std::thread::spawn(move || {
            // SAFETY: the descriptor is open.
            if unsafe { libc::setns(place.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            TcpListener::bind(address)
        });
        let listener = bound.join().map_err(|_| io::Error::other("the thread that binds has panicked"))??;
        Self::serve(listener, name)
    }

    fn serve(listener: TcpListener, name: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.fate().name = name.to_owned();
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let (accepting, of_thread) = (Arc::clone(&listener), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("metadata".into()).spawn(move || {
            for stream in accepting.incoming() {
                if of_thread.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&of_thread);
                // A connection that gets no thread is closed, as an overloaded service would.
                let _ = std::thread::Builder::new().spawn(move || converse(&stream, &shared));
            }
        })?;
        Ok(Self { shared, address, listener, thread: Some(thread) })
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The machine will be evicted in so long: all three clouds say so from now on.
    pub fn evict(&self, left: Duration) {
        let at = dates::unix_ms() + u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2);
        self.change(|fate| {
            fate.evicted_at = Some(at);
            let name = fate.name.clone();
            fate.azure.schedule("Preempt", vec![name], at, fate.change);
        });
    }

    /// An Azure event of some kind for some machines, which the others do not hear of.
    pub fn azure_event(&self, kind: &str, machines: &[&str], left: Duration) {
        let at = dates::unix_ms() + u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2);
        let machines = machines.iter().map(|name| (*name).to_owned()).collect();
        self.change(|fate| fate.azure.schedule(kind, machines, at, fate.change));
    }

    /// The eviction was called off.
    pub fn call_off(&self) {
        self.change(|fate| {
            fate.evicted_at = None;
            fate.azure.clear();
        });
    }

    /// Azure begins with what it announced: `Started`, and `NotBefore` is empty.
    pub fn begin(&self) {
        self.change(|fate| fate.azure.start_all());
    }

    /// AWS thinks that the machine may go soon.
    pub fn recommend_rebalance(&self) {
        self.change(|fate| fate.rebalance_at = Some(dates::unix_ms()));
    }

    /// Every token that AWS gave out is void.
    pub fn forget_tokens(&self) {
        self.change(|fate| fate.aws.forget());
    }

    /// From the next question on it behaves so.
    pub fn behave(&self, temper: Temper) {
        self.change(|fate| fate.temper = temper);
    }

    /// What was asked until now, as `GET /path?query`.
    pub fn questions(&self) -> Vec<String> {
        self.shared.fate().questions.clone()
    }

    /// The Azure events that somebody has acknowledged.
    pub fn acknowledged(&self) -> Vec<String> {
        self.shared.fate().azure.acknowledged().to_vec()
    }

    fn change(&self, how: impl FnOnce(&mut Fate)) {
        let mut fate = self.shared.fate();
        fate.change += 1;
        how(&mut fate);
        drop(fate);
        self.shared.changed.notify_all();
    }
}

impl Drop for MetadataServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.change(|fate| fate.stopping = true);
        // SAFETY: the descriptor is open. This makes `accept` come back, in whatever namespace the socket is.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.thread.take() {
            // It cannot be told better what went wrong there.
            let _ = thread.join();
        }
    }
}

/// Answers questions until the other side has none left.
fn converse(stream: &TcpStream, shared: &Shared) {
    let mut reader = http::Reader::new(stream);
    while let Some(question) = reader.next(|| shared.stopping.load(Ordering::Relaxed)) {
        let temper = {
            let mut fate = shared.fate();
            if fate.questions.len() < REMEMBERED {
                let line = format!("{} {}", question.method, question.target);
                fate.questions.push(line);
            }
            fate.temper
        };
        let answer = match temper {
            Temper::Faithful | Temper::Lying => answer(&question, shared),
            Temper::Slow(pause) => {
                wait(shared, pause);
                answer(&question, shared)
            }
            Temper::Absent => return,
            Temper::Garbage => Answer::text(200, "\u{0}\u{1}{\"Events\":[{]]}}<html>nonsense"),
            Temper::Endless => return http::endless(stream, || shared.stopping.load(Ordering::Relaxed)),
            Temper::Refusing(status) => Answer::text(status, "no"),
        };
        if answer.send(stream).is_err() {
            return;
        }
    }
}

fn wait(shared: &Shared, pause: Duration) {
    let fate = shared.fate();
    // Whether it was woken early does not matter to anybody.
    let _ = shared.changed.wait_timeout_while(fate, pause, |fate| !fate.stopping);
}

fn answer(question: &Question, shared: &Shared) -> Answer {
    let path = question.path();
    if path.starts_with("/metadata/") {
        azure::answer(question, &mut shared.fate())
    } else if path.starts_with("/latest/") {
        aws::answer(question, &mut shared.fate())
    } else if path == "/" || path.starts_with("/computeMetadata/") {
        gcp::answer(question, shared)
    } else {
        Answer::text(404, "")
    }
}

#[cfg(test)]
mod tests;
