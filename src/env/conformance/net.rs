//! Promises of `Net`: what TCP does, on one machine without faults.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::{fails, ok, soon};
use crate::env::{Env, Listener, Stream};

const HERE: &str = "127.0.0.1:0";

async fn listen(env: &Env) -> Box<dyn Listener> {
    ok("listen", soon(env, "listen", env.net.listen(HERE)).await)
}

/// A connection: the side that connected and the side that accepted.
async fn pair(env: &Env) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut listener = listen(env).await;
    let address = listener.local_address();
    soon(env, "a connection", async {
        let connected = ok("connect", env.net.connect(&address).await);
        let accepted = ok("accept", listener.accept().await);
        (connected, accepted)
    })
    .await
}

/// Bytes whose order shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at + at / 251) % 251).unwrap_or_default())
        .collect()
}

async fn read_all(env: &Env, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    ok(
        "read to the end",
        soon(env, "the end of a stream", stream.read_to_end(&mut bytes)).await,
    );
    bytes
}

fn assert_same(what: &str, got: &[u8], sent: &[u8]) {
    assert_eq!(got.len(), sent.len(), "{what}: count of bytes");
    let differs = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!(differs, None, "{what}: first byte that differs");
}

pub(super) async fn bytes_come_back_from_an_echo(env: &Env, _dir: &Path) {
    let (mut near, mut far) = pair(env).await;
    let echo = env.spawn("echo", async move {
        let mut buffer = vec![0; 1000];
        while let Ok(count) = far.read(&mut buffer).await {
            if count == 0 || far.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    });
    for len in [1, 100, 5000] {
        let sent = pattern(len);
        let mut got = vec![0; len];
        // No flush: a write goes out by itself.
        ok("write", near.write_all(&sent).await);
        let read = soon(env, "an echo", near.read_exact(&mut got)).await;
        ok("read", read);
        assert_same("echo", &got, &sent);
    }
    drop(near);
    soon(env, "the end of the echo", echo.join()).await;
}

pub(super) async fn port_zero_takes_a_free_port(env: &Env, _dir: &Path) {
    let (one, other) = (listen(env).await, listen(env).await);
    for listener in [&one, &other] {
        let address = listener.local_address();
        let port = address.rsplit_once(':').map(|(_, port)| port.to_owned());
        assert!(
            port.as_ref().is_some_and(|port| port != "0"),
            "`{address}` tells no port"
        );
    }
    assert_ne!(one.local_address(), other.local_address());
}

pub(super) async fn a_taken_address_is_in_use(env: &Env, _dir: &Path) {
    let listener = listen(env).await;
    let second = env.net.listen(&listener.local_address()).await;
    fails("a second listener", ErrorKind::AddrInUse, second);
}

pub(super) async fn a_dropped_listener_frees_its_address(env: &Env, _dir: &Path) {
    let listener = listen(env).await;
    let address = listener.local_address();
    drop(listener);
    let again = ok("listen again", env.net.listen(&address).await);
    assert_eq!(again.local_address(), address);
}

pub(super) async fn a_connection_is_refused_where_nobody_listens(env: &Env, _dir: &Path) {
    let listener = listen(env).await;
    let address = listener.local_address();
    drop(listener);
    let result = soon(env, "a refusal", env.net.connect(&address)).await;
    fails("connect", ErrorKind::ConnectionRefused, result);
}

pub(super) async fn both_ends_know_the_addresses(env: &Env, _dir: &Path) {
    let mut listener = listen(env).await;
    let address = listener.local_address();
    let connected = ok("connect", env.net.connect(&address).await);
    let accepted = ok("accept", soon(env, "accept", listener.accept()).await);
    assert_eq!(connected.peer_address(), address, "the address dialled");
    assert_eq!(accepted.local_address(), address, "where it arrived");
    assert_eq!(accepted.peer_address(), connected.local_address());
    assert_ne!(connected.local_address(), address);
}

pub(super) async fn a_half_closed_stream_still_carries_the_other_way(env: &Env, _dir: &Path) {
    let (mut near, mut far) = pair(env).await;
    ok("write", near.write_all(b"question").await);
    ok("shutdown", near.shutdown().await);
    assert_eq!(read_all(env, &mut far).await, b"question");
    ok("write back", far.write_all(b"answer").await);
    drop(far);
    assert_eq!(read_all(env, &mut near).await, b"answer");
}

pub(super) async fn a_dropped_stream_ends_the_other_side(env: &Env, _dir: &Path) {
    let (mut near, far) = pair(env).await;
    drop(far);
    let mut buffer = [0; 8];
    // An end or a reset; never silence, never bytes.
    if let Ok(count) = soon(env, "the end of a stream", near.read(&mut buffer)).await {
        assert_eq!(count, 0, "bytes that nobody wrote");
    }
}

pub(super) async fn a_writer_waits_for_a_peer_that_does_not_read(env: &Env, _dir: &Path) {
    const LIMIT: usize = 64 << 20;
    let (mut near, mut far) = pair(env).await;
    let chunk = pattern(1 << 20);
    let mut sent = 0;
    while sent < LIMIT {
        let written = near.write(&chunk[sent % chunk.len()..]);
        match env.timeout(Duration::from_millis(300), written).await {
            Ok(result) => sent += ok("write", result),
            Err(_) => break,
        }
    }
    assert!(sent < LIMIT, "{sent} bytes went to a peer that reads none");
    let mut got = vec![0; sent];
    let read = soon(env, "what was written", far.read_exact(&mut got)).await;
    ok("read", read);
    for (number, piece) in got.chunks(chunk.len()).enumerate() {
        let what = format!("chunk {number}");
        assert_same(&what, piece, &chunk[..piece.len()]);
    }
    let more = soon(env, "a write after reading", near.write(b"more")).await;
    assert!(ok("write", more) > 0, "the writer stayed blocked");
}

pub(super) async fn large_vectored_writes_arrive_in_order(env: &Env, _dir: &Path) {
    let (mut near, mut far) = pair(env).await;
    assert!(near.is_write_vectored(), "vectored writes are supported");
    let sent = pattern(4 << 20);
    let to_send = sent.clone();
    let writer = env.spawn("vectored writer", async move {
        let mut at = 0;
        while at < to_send.len() {
            let slices: Vec<IoSlice<'_>> = to_send[at..]
                .chunks(7001)
                .take(900)
                .map(IoSlice::new)
                .collect();
            let written = ok("vectored write", near.write_vectored(&slices).await);
            assert!(written > 0, "a vectored write of nothing");
            at += written;
        }
    });
    let got = read_all(env, &mut far).await;
    assert_same("vectored writes", &got, &sent);
    soon(env, "the writer", writer.join()).await;
}

pub(super) async fn an_address_stands_for_itself(env: &Env, _dir: &Path) {
    let found = ok("resolve", env.net.resolve("127.0.0.1").await);
    assert_eq!(found, ["127.0.0.1"]);
}

pub(super) async fn a_malformed_address_is_invalid_input(env: &Env, _dir: &Path) {
    for address in ["", "host", "host:", "host:port", "host:70000"] {
        let listened = env.net.listen(address).await;
        fails(address, ErrorKind::InvalidInput, listened);
        let connected = env.net.connect(address).await;
        fails(address, ErrorKind::InvalidInput, connected);
    }
}
