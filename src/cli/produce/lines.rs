//! Lines out of chunks of bytes. A line is bounded; nothing is held but the line under way and
//! the chunk it came from.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::super::terminal::Input;
use crate::env::File;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// Where bytes come from.
pub enum Chunks {
    Stream(Input),
    File {
        file: Arc<dyn File>,
        position: u64,
        total: u64,
    },
}

impl Chunks {
    /// Bytes there are in all, where that is known.
    pub fn total(&self) -> Option<u64> {
        match self {
            Self::Stream(_) => None,
            Self::File { total, .. } => Some(*total),
        }
    }

    /// The next bytes; `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Stream(input) => input.recv().await.transpose(),
            Self::File { file, position, .. } => {
                let bytes = file.read_at(*position, READ_BYTES).await?;
                *position += bytes.len() as u64;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
        }
    }
}

/// Why there is no next line.
#[derive(Debug)]
pub enum LineError {
    Read(io::Error),
    /// Lines count from 1; the limit is in bytes.
    TooLong {
        line: u64,
        limit: usize,
    },
}

/// Lines without their ends (`\n` or `\r\n`). A last line without an end counts, an empty rest
/// does not.
pub struct Lines {
    chunks: Chunks,
    chunk: Bytes,
    partial: BytesMut,
    limit: usize,
    count: u64,
    position: u64,
}

impl Lines {
    pub fn new(chunks: Chunks, limit: usize) -> Self {
        Self {
            chunks,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            limit,
            count: 0,
            position: 0,
        }
    }

    /// Lines given out.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes consumed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next line; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let end = self.chunk.iter().position(|byte| *byte == b'\n');
            let len = end.unwrap_or(self.chunk.len());
            // Two bytes of room for the end.
            if self.partial.len() + len > self.limit + 2 {
                return Err(LineError::TooLong {
                    line: self.count + 1,
                    limit: self.limit,
                });
            }
            if let Some(end) = end {
                self.position += end as u64 + 1;
                let mut line = self.chunk.split_to(end + 1);
                line.truncate(end);
                if !self.partial.is_empty() {
                    self.partial.extend_from_slice(&line);
                    line = self.partial.split().freeze();
                }
                return Ok(Some(self.given(line)));
            }
            self.position += self.chunk.len() as u64;
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            match self.chunks.next().await.map_err(LineError::Read)? {
                Some(chunk) => self.chunk = chunk,
                None if self.partial.is_empty() => return Ok(None),
                None => {
                    let line = self.partial.split().freeze();
                    return Ok(Some(self.given(line)));
                }
            }
        }
    }

    fn given(&mut self, mut line: Bytes) -> Bytes {
        self.count += 1;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn lines_of(chunks: &[&'static str], limit: usize) -> Result<Vec<String>, LineError> {
        let (sender, receiver) = tokio::sync::mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender
                .try_send(Ok(Bytes::from_static(chunk.as_bytes())))
                .expect("there is room");
        }
        drop(sender);
        let mut lines = Lines::new(Chunks::Stream(receiver), limit);
        let mut found = Vec::new();
        while let Some(line) = lines.next().now_or_never().expect("everything is there")? {
            found.push(String::from_utf8(line.to_vec()).expect("text"));
        }
        Ok(found)
    }

    #[test]
    fn lines_do_not_depend_on_how_bytes_arrive() {
        let whole = ["one\ntwo\r\n\nlast"];
        let split = ["o", "ne\ntw", "o\r", "\n", "\nla", "st"];
        for chunks in [whole.as_slice(), split.as_slice()] {
            assert_eq!(
                lines_of(chunks, 10).expect("short lines"),
                ["one", "two", "", "last"]
            );
        }
        assert!(lines_of(&[], 10).expect("nothing").is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_it_is_held() {
        let refused = lines_of(&["ok\n", "0123456789", "0123456789"], 10);
        assert!(matches!(
            refused,
            Err(LineError::TooLong { line: 2, limit: 10 })
        ));
    }
}
