//! One exchange with a sandbox's process: a message in, a line out, logs drained meanwhile.
//!
//! **Knows:** the four pipes and the process's descriptor.
//! **Promises:** a function that writes without end blocks neither itself nor us; never holds more of an
//! answer than its limit and a page; when the answer is there, everything that was logged before it is too.
//! **Gives up:** a second exchange after one that was abandoned: the two sides are out of step then.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::Stream;
use crate::birth::Letter;
use crate::hold::Hold;
use crate::logs::LogBook;
use crate::measure::Meter;
use crate::pipes::{Spout, Tap};

/// How much is read from one pipe before the others get their turn.
const READ_MAX: usize = 65_536;

/// How often one log is read before the others get their turn.
const TURNS_MAX: u32 = 8;

thread_local! {
    /// Shared by all sandboxes of a thread: between two polls nothing is in it.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With a line, without its newline.
    Line(Bytes),
    /// With a line that is too long: its beginning, and how long it is.
    TooLong { truncated: Bytes, length: u64 },
    /// The process ended, or closed its answer pipe. `unseen` if it had not read a byte of the message.
    Gone { unseen: bool },
    /// It took too long.
    TimedOut,
}

/// Our ends of a process's pipes.
pub(crate) struct Talk {
    pub(crate) orders: Spout,
    pub(crate) answers: Tap,
    pub(crate) stdout: Tap,
    pub(crate) stderr: Tap,
    /// Readable when the process has ended.
    pub(crate) end: AsyncFd<Arc<Hold>>,
    /// What has been read of the current answer.
    pub(crate) answer: Vec<u8>,
    /// Whether the process waits for an order and nothing else is under way.
    pub(crate) in_step: bool,
    /// Lines that nobody's run wrote.
    pub(crate) late_lines: u32,
}

/// The limits of one exchange.
pub(crate) struct Bounds {
    pub(crate) timeout: Duration,
    pub(crate) answer_limit: u64,
}

impl Talk {
    /// Sends `message` and waits for a line. `in_step` is set again only if the line was the only one.
    pub(crate) async fn exchange(
        &mut self,
        message: &[u8],
        bounds: &Bounds,
        book: &mut LogBook,
        meter: &mut Meter,
    ) -> Ended {
        self.in_step = false;
        self.answer.clear();
        let started = Instant::now();
        let deadline = after(started, bounds.timeout);
        let mut state = State { sent: 0, length: 0, is_whole: false, has_more: false, is_gone: false };
        let mut timer = pin!(tokio::time::sleep_until(deadline.min(meter.first_tick(started))));
        let timed_out = poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| self.advance(cx, message, bounds, book, &mut state, buffer));
            if state.is_whole || state.is_gone {
                return Poll::Ready(false);
            }
            while timer.as_mut().poll_elapsed(cx) {
                let now = Instant::now();
                if now >= deadline {
                    return Poll::Ready(true);
                }
                timer.as_mut().reset(deadline.min(meter.tick(now)));
            }
            Poll::Pending
        })
        .await;
        BUFFER.with_borrow_mut(|buffer| self.drain_logs(book, buffer));
        if timed_out {
            return Ended::TimedOut;
        }
        if state.is_whole {
            self.in_step = !state.has_more && !state.is_gone;
            let truncated = Bytes::copy_from_slice(&self.answer);
            self.answer.clear();
            self.answer.shrink_to(READ_MAX);
            return if state.length > bounds.answer_limit {
                Ended::TooLong { truncated, length: state.length }
            } else {
                Ended::Line(truncated)
            };
        }
        let unseen = state.sent == 0 || self.orders.unread() >= state.sent;
        Ended::Gone { unseen }
    }

    /// Everything that can be done without waiting; asks to be woken for the rest.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
        bounds: &Bounds,
        book: &mut LogBook,
        state: &mut State,
        buffer: &mut [u8],
    ) {
        while state.sent < message.len() && !state.is_gone {
            match self.orders.poll_write(cx, &message[state.sent..]) {
                Poll::Ready(Ok(sent)) => state.sent += sent,
                // It closed its input or is gone; its answer may be in the pipe none the less.
                Poll::Ready(Err(_)) => state.is_gone = true,
                Poll::Pending => break,
            }
        }
        // Whether it has ended is asked before the answer is read, so that an answer that was written
        // just before the end is seen.
        if matches!(self.end.poll_read_ready(cx), Poll::Ready(_)) {
            state.is_gone = true;
        }
        while !state.is_whole {
            let length = match self.answers.poll_read(cx, buffer) {
                Poll::Ready(Ok(length)) if length > 0 => length,
                Poll::Ready(_) => {
                    state.is_gone = true;
                    break;
                }
                Poll::Pending if state.is_gone => match self.answers.read_now(buffer) {
                    Some(length) => length,
                    None => break,
                },
                Poll::Pending => break,
            };
            state.take(&buffer[..length], bounds.answer_limit, &mut self.answer);
        }
        for (tap, stream) in [(&mut self.stdout, Stream::Stdout), (&mut self.stderr, Stream::Stderr)] {
            let mut turns = 0;
            while let Poll::Ready(Ok(length)) = tap.poll_read(cx, buffer) {
                if length == 0 {
                    break;
                }
                book.take(stream, &buffer[..length]);
                turns += 1;
                if turns == TURNS_MAX {
                    // Others, and our own timer, must come to their turn; then we go on.
                    cx.waker().wake_by_ref();
                    break;
                }
            }
        }
    }

    /// Reads both logs until nothing is there: what was written before the answer is in the pipes.
    fn drain_logs(&mut self, book: &mut LogBook, buffer: &mut [u8]) {
        // Bounded, because something else in the sandbox may go on writing.
        for (tap, stream) in [(&mut self.stdout, Stream::Stdout), (&mut self.stderr, Stream::Stderr)] {
            for _ in 0..64 {
                let Some(length) = tap.read_now(buffer) else { break };
                book.take(stream, &buffer[..length]);
            }
        }
    }

    /// Between two runs: takes what nobody asked for, so that a thread that goes on writing is not blocked.
    /// False if the sandbox is of no more use. No system call if nothing has happened.
    pub(crate) fn look_after(&mut self, cx: &mut Context<'_>) -> bool {
        BUFFER.with_borrow_mut(|buffer| {
            for tap in [&mut self.stdout, &mut self.stderr] {
                // Bounded: what is left is for the next time.
                for _ in 0..TURNS_MAX {
                    let Poll::Ready(Ok(length)) = tap.poll_read(cx, buffer) else { break };
                    if length == 0 {
                        break;
                    }
                    let lines = buffer[..length].iter().filter(|b| **b == b'\n').count();
                    self.late_lines =
                        self.late_lines.saturating_add(u32::try_from(lines.max(1)).unwrap_or(u32::MAX));
                }
            }
            if self.answers.poll_read(cx, buffer).is_ready() {
                // An answer to no order, or the end.
                self.in_step = false;
            }
        });
        if matches!(self.end.poll_read_ready(cx), Poll::Ready(_)) {
            self.in_step = false;
        }
        self.in_step
    }
}

/// How far an exchange is.
struct State {
    sent: usize,
    length: u64,
    is_whole: bool,
    has_more: bool,
    is_gone: bool,
}

impl State {
    fn take(&mut self, bytes: &[u8], limit: u64, answer: &mut Vec<u8>) {
        let end = bytes.iter().position(|b| *b == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let room = usize::try_from(limit.saturating_sub(self.length)).unwrap_or(usize::MAX);
        answer.extend_from_slice(&line[..line.len().min(room)]);
        self.length += line.len() as u64;
        self.is_whole = end.is_some();
        self.has_more = end.is_some_and(|end| end + 1 < bytes.len());
    }
}

/// Sends a letter, and returns what its reader has to complain about: nothing if it has become a program.
pub(crate) async fn tell(orders: &mut Spout, letter: &Letter, status: &mut Tap) -> io::Result<String> {
    let text = serde_json::to_vec(letter).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let message = [&length.to_le_bytes()[..], &text].concat();
    let mut sent = 0;
    let mut trouble = Vec::new();
    poll_fn(|cx| {
        while sent < message.len() {
            match orders.poll_write(cx, &message[sent..]) {
                Poll::Ready(Ok(more)) => sent += more,
                // It has given up, and says why on the other pipe.
                Poll::Ready(Err(_)) => sent = message.len(),
                Poll::Pending => break,
            }
        }
        let mut buffer = [0u8; 4096];
        loop {
            match status.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(length)) if trouble.len() < 65_536 => {
                    trouble.extend_from_slice(&buffer[..length])
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await?;
    Ok(String::from_utf8_lossy(&trouble).into_owned())
}

/// A moment far enough away for those who would wait for ever.
fn after(start: Instant, span: Duration) -> Instant {
    start.checked_add(span).unwrap_or(start + Duration::from_secs(30 * 365 * 86_400))
}

/// Polling a timer for whether it has fired.
trait Elapsed {
    fn poll_elapsed(self, cx: &mut Context<'_>) -> bool;
}

impl Elapsed for std::pin::Pin<&mut tokio::time::Sleep> {
    fn poll_elapsed(self, cx: &mut Context<'_>) -> bool {
        std::future::Future::poll(self, cx).is_ready()
    }
}

/// Waits until a process has ended, or until `patience` is over.
pub(crate) async fn ended(end: &AsyncFd<Arc<Hold>>, patience: Duration) -> io::Result<()> {
    match tokio::time::timeout(patience, end.readable()).await {
        Ok(readable) => readable.map(|_| ()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
