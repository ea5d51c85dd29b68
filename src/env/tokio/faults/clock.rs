//! A wall clock that is off by what a file says.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::env::{Clock, Timer};
use crate::types::{Instant, Timestamp};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct OffsetClock {
    inner: Arc<dyn Clock>,
    offset_ms: Arc<AtomicI64>,
}

impl OffsetClock {
    pub(super) fn start(inner: Arc<dyn Clock>, path: PathBuf) -> io::Result<Self> {
        let offset_ms = Arc::new(AtomicI64::new(read(&path)));
        let weak = Arc::downgrade(&offset_ms);
        std::thread::Builder::new()
            .name("clock-faults".to_owned())
            .spawn(move || {
                while let Some(offset_ms) = weak.upgrade() {
                    offset_ms.store(read(&path), Ordering::Relaxed);
                    std::thread::sleep(LOOK_EVERY);
                }
            })?;
        Ok(Self { inner, offset_ms })
    }
}

/// No file, or none that can be read: the clock is right.
fn read(path: &PathBuf) -> i64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

impl Clock for OffsetClock {
    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall(&self) -> Timestamp {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        Timestamp(self.inner.wall().0.saturating_add(offset))
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.inner.timer()
    }
}
