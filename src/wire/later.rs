//! Bytes of a message whose number is known when it is encoded, and which come as it is sent.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Where such bytes come from. To be asked by one at a time.
pub trait Source: Send + Sync {
    /// The next of them, `None` after the last. After an error the message cannot be completed.
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;
}

/// So many bytes of a message, yet to come.
#[derive(Clone)]
pub struct Later {
    len: usize,
    source: Arc<dyn Source>,
}

impl Later {
    /// `source` gives `len` bytes, unless it fails.
    pub fn new(len: usize, source: Arc<dyn Source>) -> Self {
        Self { len, source }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As [`Source::next`].
    pub async fn next(&self) -> io::Result<Option<Bytes>> {
        self.source.next().await
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to come", self.len)
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && Arc::ptr_eq(&self.source, &other.source)
    }
}

impl Eq for Later {}

/// A part of an encoded message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Bytes(Bytes),
    Later(Later),
}

impl Part {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Later(later) => later.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
