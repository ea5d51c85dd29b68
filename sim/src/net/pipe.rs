//! One direction of a connection, and the stream made of two.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use klamm::env::{Rng, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::elapsed;

/// Bytes under way that a writer need not wait for.
const WINDOW: usize = 256 << 10;

/// Bytes on their way from a writer to a reader.
pub(crate) struct Pipe {
    /// When each piece arrives, in order.
    pieces: VecDeque<(Duration, Bytes)>,
    buffered: usize,
    last_arrival: Duration,
    /// When the writer's end arrives.
    end: Option<Duration>,
    reset: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether both ends are on one host, which takes no time.
    near: bool,
    rng: Arc<Mutex<Rng>>,
}

impl Pipe {
    pub(crate) fn new(near: bool, rng: Arc<Mutex<Rng>>) -> Self {
        Self {
            pieces: VecDeque::new(),
            buffered: 0,
            last_arrival: Duration::ZERO,
            end: None,
            reset: false,
            reader_gone: false,
            reader: None,
            writer: None,
            near,
            rng,
        }
    }

    fn draw(&self, bound: usize) -> usize {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(rng.below(bound as u64)).unwrap_or_default()
    }

    /// `count`, or now and then a part of it; never 0 unless `count` is.
    fn some_of(&self, count: usize) -> usize {
        if count > 1 && self.draw(4) == 0 {
            1 + self.draw(count - 1)
        } else {
            count
        }
    }

    /// When what leaves now arrives: never before what left earlier.
    fn arrival(&mut self) -> Duration {
        let delay = if self.near { 0 } else { 1 + self.draw(4) };
        let arrival = elapsed() + Duration::from_millis(delay as u64);
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }

    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.pieces.clear();
        self.wake_both();
    }

    fn finish(&mut self) {
        if self.end.is_none() {
            self.end = Some(self.arrival());
            self.wake_both();
        }
    }

    fn wake_both(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.reset || self.reader_gone {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = WINDOW - self.buffered;
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.some_of(offered.min(room));
        let mut bytes = BytesMut::with_capacity(count);
        for slice in slices {
            let part = slice.len().min(count - bytes.len());
            bytes.extend_from_slice(&slice[..part]);
        }
        let arrival = self.arrival();
        self.pieces.push_back((arrival, bytes.freeze()));
        self.buffered += count;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    /// Bytes that have arrived, or when to look again.
    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Result<(), Look> {
        if self.reset {
            return Err(Look::Reset);
        }
        let now = elapsed();
        let wanted = self.some_of(buffer.remaining());
        let before = buffer.filled().len();
        while let Some((arrival, piece)) = self.pieces.front_mut() {
            let read = buffer.filled().len() - before;
            let count = piece.len().min(wanted - read);
            if *arrival > now || count == 0 {
                break;
            }
            buffer.put_slice(&piece[..count]);
            piece.advance(count);
            self.buffered -= count;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
            return Ok(());
        }
        let next = self.pieces.front().map(|(arrival, _)| *arrival);
        match next.or(self.end) {
            Some(at) if at <= now => Ok(()),
            at => {
                self.reader = Some(cx.waker().clone());
                Err(at.map_or(Look::WhenWoken, |at| Look::In(at - now)))
            }
        }
    }
}

enum Look {
    In(Duration),
    WhenWoken,
    Reset,
}

pub(crate) fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One end of a connection.
pub(crate) struct SimStream {
    local: String,
    peer: String,
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

impl SimStream {
    pub(crate) fn new(
        local: String,
        peer: String,
        incoming: Arc<Mutex<Pipe>>,
        outgoing: Arc<Mutex<Pipe>>,
    ) -> Self {
        Self {
            local,
            peer,
            incoming,
            outgoing,
        }
    }
}

impl Stream for SimStream {
    fn peer_address(&self) -> String {
        self.peer.clone()
    }

    fn local_address(&self) -> String {
        self.local.clone()
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        lock(&self.outgoing).finish();
        let mut incoming = lock(&self.incoming);
        incoming.reader_gone = true;
        incoming.wake_both();
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let look = lock(&self.incoming).read(cx, buffer);
        match look {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Look::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Err(Look::WhenWoken) => Poll::Pending,
            Err(Look::In(span)) => {
                // A sleep is at least a millisecond long, so it never is over at once.
                let sleep = std::pin::pin!(madsim::time::sleep(span));
                if sleep.poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.outgoing).finish();
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.outgoing).write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
