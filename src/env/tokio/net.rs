//! TCP on the operating system's sockets.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpListener, TcpStream, lookup_host};
use socket2::{Domain, Protocol, Socket, Type};

use crate::env::{BoxFuture, Listener, Net, Stream};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

pub(super) struct TcpNet;

impl Net for TcpNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (host, port) = split_address(address)?;
            let socket = if host.is_empty() {
                bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).or_else(|error| {
                    if error.kind() == io::ErrorKind::AddrInUse {
                        return Err(error);
                    }
                    // A machine without IPv6.
                    bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
                })?
            } else {
                bind_first(lookup_host((host, port)).await?)?
            };
            let listener = TcpListener::from_std(socket.into())?;
            let local = listener.local_addr()?;
            Ok(Box::new(Listening { listener, local }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let target = split_address(address)?;
            Connection::new(TcpStream::connect(target).await?)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        Box::pin(async move {
            let mut addresses: Vec<String> = match lookup_host((host, 0)).await {
                Ok(found) => found.map(|address| address.ip().to_string()).collect(),
                // The resolver's own verdicts carry no error number of the operating system.
                Err(error) if error.raw_os_error().is_none() => Vec::new(),
                Err(error) => return Err(error),
            };
            addresses.sort();
            addresses.dedup();
            Ok(addresses)
        })
    }
}

/// Host (without brackets, perhaps empty) and port of `host:port`.
fn split_address(address: &str) -> io::Result<(&str, u16)> {
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

/// The first of `addresses` that can be listened on.
fn bind_first(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Socket> {
    let mut result = Err(io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the host stands for no address",
    ));
    for address in addresses {
        result = bind(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All interfaces means those of IPv4 too.
        socket.set_only_v6(false)?;
    }
    // A restarted broker must get its port back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

struct Listening {
    listener: TcpListener,
    local: SocketAddr,
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Connection::new(stream)
        })
    }

    fn local_address(&self) -> String {
        self.local.to_string()
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        stream.set_nodelay(true)?;
        Ok(Box::new(Self {
            peer: plain(stream.peer_addr()?),
            local: plain(stream.local_addr()?),
            stream,
        }))
    }
}

/// An IPv4 address that reached an IPv6 socket, as the IPv4 address it is.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    if ip == address.ip() {
        address
    } else {
        SocketAddr::new(ip, address.port())
    }
}

impl Stream for Connection {
    fn peer_address(&self) -> String {
        self.peer.to_string()
    }

    fn local_address(&self) -> String {
        self.local.to_string()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
