//! What a process holds of the network: streams and listeners. Those of a process that has ended
//! fail, and do nothing to the network, also when they are dropped.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use klamm::env::{BoxFuture, Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Network;
use super::connection::{Connection, Scene};
use crate::world::Life;

/// One end of a connection.
pub(super) struct SimStream {
    pub(super) network: Arc<Network>,
    pub(super) life: Arc<Life>,
    pub(super) connection: u64,
    /// 0 connected, 1 accepted.
    pub(super) side: usize,
    pub(super) local: String,
    pub(super) peer: String,
}

impl SimStream {
    fn act<T>(
        &self,
        act: impl FnOnce(&mut Connection, &mut Scene<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.life.check()?;
        let done = self.network.with(|state, now| {
            let (connection, mut scene) = state.connection(self.connection, now)?;
            Some(act(connection, &mut scene))
        });
        done.unwrap_or_else(|| Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
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
        if self.life.is_alive() {
            self.network.close(self.connection, self.side);
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.act(|connection, scene| connection.read(self.side, cx.waker(), buffer, scene))
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
        Poll::Ready(self.life.check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.act(|connection, scene| {
            connection.finish(self.side, scene);
            Poll::Ready(Ok(()))
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.act(|connection, scene| connection.write(self.side, cx.waker(), slices, scene))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A listening port.
pub(super) struct SimListener {
    pub(super) network: Arc<Network>,
    pub(super) life: Arc<Life>,
    /// Host and port.
    pub(super) place: (usize, u16),
    pub(super) shown: String,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async {
            let accept = std::future::poll_fn(|cx| {
                self.life.check()?;
                self.network.accept(self.place, cx.waker()).map(Ok)
            });
            let (connection, [peer, local]) = accept.await.map_err(|error: io::Error| error)?;
            self.life.event(format_args!("accept {peer}"));
            Ok(Box::new(SimStream {
                network: Arc::clone(&self.network),
                life: Arc::clone(&self.life),
                connection,
                side: 1,
                local,
                peer,
            }) as Box<dyn Stream>)
        })
    }

    fn local_address(&self) -> String {
        self.shown.clone()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        // After the end of the process the port may be another's.
        if self.life.is_alive() {
            self.network.stop_listening(self.place);
        }
    }
}
