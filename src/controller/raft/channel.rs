//! The consensus library's channels and locks: tokio's, which are fair and deterministic.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft::OptionalSend;
use openraft::async_runtime::{
    Mpsc, MpscReceiver, MpscSender, MpscWeakSender, Mutex, Oneshot, OneshotSender, SendError,
    TryRecvError,
};
use tokio::sync::{mpsc, oneshot};

pub struct EnvMpsc;

pub struct Sender<T>(mpsc::Sender<T>);

pub struct WeakSender<T>(mpsc::WeakSender<T>);

pub struct Receiver<T>(mpsc::Receiver<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Mpsc for EnvMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(buffer);
        (Sender(sender), Receiver(receiver))
    }
}

impl<T: OptionalSend> MpscSender<EnvMpsc, T> for Sender<T> {
    async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.0.send(value).await;
        sent.map_err(|refused| SendError(refused.0))
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.downgrade())
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        self.0.recv().await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.try_recv().map_err(|error| match error {
            mpsc::error::TryRecvError::Empty => TryRecvError::Empty,
            mpsc::error::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }
}

impl<T: OptionalSend> MpscWeakSender<EnvMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        self.0.upgrade().map(Sender)
    }
}

pub struct EnvOneshot;

pub struct Once<T>(oneshot::Sender<T>);

pub struct OnceReceiver<T>(oneshot::Receiver<T>);

/// The sender was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sender is gone")]
pub struct SenderGone;

impl Oneshot for EnvOneshot {
    type Sender<T: OptionalSend> = Once<T>;
    type Receiver<T: OptionalSend> = OnceReceiver<T>;
    type ReceiverError = SenderGone;

    fn channel<T: OptionalSend>() -> (Once<T>, OnceReceiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Once(sender), OnceReceiver(receiver))
    }
}

impl<T: OptionalSend> OneshotSender<T> for Once<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

impl<T> Future for OnceReceiver<T> {
    type Output = Result<T, SenderGone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.0).poll(cx);
        received.map(|result| result.map_err(|_| SenderGone))
    }
}

pub struct EnvMutex<T>(tokio::sync::Mutex<T>);

impl<T: OptionalSend + 'static> Mutex<T> for EnvMutex<T> {
    type Guard<'a> = tokio::sync::MutexGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(tokio::sync::Mutex::new(value))
    }

    async fn lock(&self) -> Self::Guard<'_> {
        self.0.lock().await
    }
}
