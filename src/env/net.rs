//! Byte streams between nodes. The promise is TCP's and no more.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

/// A node's network.
pub trait Net: Send + Sync + 'static {
    /// Listens on `address`, `host:port`; an empty host means every interface. Port 0 takes a free
    /// one. Fails with `AddrInUse` when the
    /// address is taken.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `address`, `host:port`. May take for ever (a peer that drops packets): give it
    /// a time-out. `ConnectionRefused` where nobody listens.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Addresses that `host` stands for, as text without port; empty when it stands for none.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>>;
}

/// A listening socket; dropping it stops listening.
pub trait Listener: Send {
    /// The next connection. Errors are of one connection or pass (too many open files): the
    /// listener stays usable.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// The address listened on, `ip:port`, with the port that was taken.
    fn local_address(&self) -> String;
}

/// One connection. Bytes arrive in order and unchanged or not at all; they may be split and
/// delayed in any way; the stream may end in an error at any point, and an error says nothing
/// about which of the written bytes arrived. Dropping closes it. Writes are not held back for
/// more (no Nagle delay); vectored writes are supported.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The other end, `ip:port`.
    fn peer_address(&self) -> String;

    /// This end, `ip:port`: the address the peer dialled.
    fn local_address(&self) -> String;
}

/// Host and port of `host:port`: the form of every address here. An IPv6 host stands in brackets,
/// which are taken off; an empty host means every interface.
///
/// # Errors
/// `InvalidInput` for any other form.
pub fn split_address(address: &str) -> io::Result<(&str, u16)> {
    let parts = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{address}` is not of the form host:port"),
        ));
    };
    let unbracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    Ok((unbracketed.unwrap_or(host), port))
}
