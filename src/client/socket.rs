//! The task that owns a connection's socket: writes requests in order, reads responses, and hands
//! each to whoever waits for it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::input::Input;
use crate::env::Stream;

/// Slices written at once.
const SLICES_MAX: usize = 32;

/// A request on its way. The outbox needs no bound of its own: each entry holds a permit.
pub(super) struct Outgoing {
    pub slices: Vec<Bytes>,
    pub permit: OwnedSemaphorePermit,
    pub then: Then,
}

pub(super) enum Then {
    Answer(Waiting),
    /// No answer comes; the sender hears when the last byte was written.
    Written(oneshot::Sender<()>),
}

pub(super) struct Waiting {
    pub correlation_id: i32,
    pub reply: oneshot::Sender<Bytes>,
}

/// Owns the socket.
pub(super) struct Socket {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    inbox: mpsc::UnboundedReceiver<Outgoing>,
    input: Input,
    output: VecDeque<Bytes>,
    /// Bytes queued and bytes written since the beginning.
    queued: u64,
    written: u64,
    waiting: VecDeque<(Waiting, OwnedSemaphorePermit)>,
    /// Who hears when so many bytes were written.
    telling: VecDeque<(u64, oneshot::Sender<()>, OwnedSemaphorePermit)>,
}

impl Socket {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        inbox: mpsc::UnboundedReceiver<Outgoing>,
        response_max: usize,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            inbox,
            input: Input::new(response_max),
            output: VecDeque::new(),
            queued: 0,
            written: 0,
            waiting: VecDeque::new(),
            telling: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self, ended: Arc<OnceLock<String>>) {
        let reason = loop {
            if let Err(reason) = self.turn().await {
                break reason;
            }
        };
        // Set before the waiting senders are dropped, so that callers find the reason.
        let _ = ended.set(reason);
    }

    async fn turn(&mut self) -> Result<(), String> {
        let input = self.input.for_read()?;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.output.len().min(SLICES_MAX);
        for (slice, bytes) in slices.iter_mut().zip(&self.output) {
            *slice = IoSlice::new(bytes);
        }
        tokio::select! {
            biased;
            read = self.reader.read_buf(input) => match read {
                Ok(0) => Err("the broker closed it".to_owned()),
                Ok(_) => self.deliver(),
                Err(error) => Err(error.to_string()),
            },
            written = self.writer.write_vectored(&slices[..count]), if count > 0 => match written {
                Ok(0) => Err("the socket takes no more".to_owned()),
                Ok(count) => {
                    self.wrote(count);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            next = self.inbox.recv(), if count < SLICES_MAX => match next {
                Some(outgoing) => {
                    self.queue(outgoing);
                    Ok(())
                }
                None => Err("closed by this client".to_owned()),
            },
        }
    }

    fn queue(&mut self, outgoing: Outgoing) {
        self.queued += outgoing.slices.iter().map(|s| s.len() as u64).sum::<u64>();
        self.output.extend(outgoing.slices);
        match outgoing.then {
            Then::Answer(waiting) => self.waiting.push_back((waiting, outgoing.permit)),
            Then::Written(teller) => {
                self.telling
                    .push_back((self.queued, teller, outgoing.permit));
            }
        }
    }

    fn wrote(&mut self, mut count: usize) {
        self.written += count as u64;
        while let Some((_, teller, _permit)) = self
            .telling
            .pop_front_if(|(until, _, _)| *until <= self.written)
        {
            // Whoever asked may have gone.
            let _ = teller.send(());
        }
        while let Some(first) = self.output.front_mut() {
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.output.pop_front();
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        while let Some(frame) = self.input.take()? {
            let Some(prefix) = frame.first_chunk::<4>() else {
                return Err("a response without a correlation id".to_owned());
            };
            let correlation_id = i32::from_be_bytes(*prefix);
            let Some((waiting, _permit)) = self.waiting.pop_front() else {
                return Err("a response that nobody asked for".to_owned());
            };
            if waiting.correlation_id != correlation_id {
                return Err(format!(
                    "response {correlation_id} where {} was due",
                    waiting.correlation_id
                ));
            }
            // The caller may have gone; then nobody wants the answer.
            let _ = waiting.reply.send(frame);
        }
        Ok(())
    }
}
