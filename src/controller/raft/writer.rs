//! The task that writes a log file.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::RaftOpenError;
use super::directory::{UNFINISHED, failed, log_path, make};
use super::kept::{Kept, Standing};
use super::log_file::{self, Owner, Slot};
use super::types::{LogId, TypeConfig};
use crate::env::{Env, File};

/// After so long without a write, the note that the last one is durable is made durable itself.
const IDLE: Duration = Duration::from_millis(50);
/// Orders written together at most.
const GROUP_MAX: usize = 256;

/// Who waits for a write.
pub(super) enum Done {
    Callback(IOFlushed<TypeConfig>),
    Answer(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, outcome: io::Result<()>) {
        match self {
            Self::Callback(callback) => callback.io_completed(outcome),
            // Whoever asked may be gone: what happened has happened all the same.
            Self::Answer(answer) => drop(answer.send(outcome)),
        }
    }
}

/// Who waits, and what is remembered once that is written.
type Waiting = (Done, Standing);

/// What is to be written.
pub(super) enum Order {
    Write {
        bodies: Vec<Bytes>,
        done: Done,
        /// What is remembered with it.
        standing: Standing,
        /// False in mutants alone.
        is_synced: bool,
    },
    /// In time, with a later write.
    Committed(Option<LogId>),
    /// A new file in place of this one, with this in it.
    Rewrite(Box<Kept>),
}

/// The log file that is written to.
pub(super) struct Writer {
    env: Arc<Env>,
    directory: PathBuf,
    owner: Owner,
    number: u64,
    file: Arc<dyn File>,
    position: u64,
    /// The newest that was written.
    slot: Slot,
    /// Whether a sync has covered it.
    is_slot_durable: bool,
    committed: Option<LogId>,
    /// The index after the newest entry that was written.
    end: u64,
    /// What went wrong; nothing is written from then on.
    broken: Option<String>,
}

impl Writer {
    /// Makes the log file `number` with `kept` in it.
    pub async fn make(
        env: &Arc<Env>,
        directory: PathBuf,
        owner: Owner,
        number: u64,
        kept: &Kept,
    ) -> Result<Self, RaftOpenError> {
        let (content, slot) = log_file::encode_file(number, owner, kept);
        let path = log_path(&directory, number);
        let file = make(&*env.disk, &directory, &path, content).await?;
        Ok(Self {
            env: env.clone(),
            directory,
            owner,
            number,
            file,
            position: slot.position,
            slot,
            is_slot_durable: true,
            committed: kept.committed,
            end: kept.standing().end(),
            broken: None,
        })
    }

    /// Goes on with a file that ends at its slot.
    pub fn resume(
        env: &Arc<Env>,
        directory: PathBuf,
        owner: Owner,
        number: u64,
        file: Arc<dyn File>,
        (slot, kept): (Slot, &Kept),
    ) -> Self {
        Self {
            env: env.clone(),
            directory,
            owner,
            number,
            file,
            position: slot.position,
            slot,
            is_slot_durable: true,
            committed: slot.committed,
            end: kept.standing().end(),
            broken: None,
        }
    }

    /// Carries orders out until nobody can give any.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = match self.is_settled() {
                true => orders.recv().await,
                false => match self.env.timeout(IDLE, orders.recv()).await {
                    Ok(order) => order,
                    Err(_) => {
                        self.settle().await;
                        continue;
                    }
                },
            };
            let Some(order) = order else {
                break;
            };
            let mut group = vec![order];
            while group.len() < GROUP_MAX
                && let Ok(order) = orders.try_recv()
            {
                group.push(order);
            }
            self.carry_out(group).await;
        }
        if !self.is_settled() {
            self.settle().await;
        }
    }

    async fn carry_out(&mut self, group: Vec<Order>) {
        let (mut bodies, mut waiting, mut sync) = (Vec::new(), Vec::new(), false);
        for order in group {
            match order {
                Order::Write {
                    bodies: more,
                    done,
                    standing,
                    is_synced,
                } => {
                    bodies.extend(more);
                    waiting.push((done, standing));
                    sync |= is_synced;
                }
                Order::Committed(committed) => self.committed = committed,
                Order::Rewrite(kept) => {
                    self.write(&mut bodies, &mut waiting, sync).await;
                    self.rewrite(&kept).await;
                }
            }
        }
        self.write(&mut bodies, &mut waiting, sync).await;
    }

    /// Writes and syncs a group, and answers those who wait for it.
    async fn write(&mut self, bodies: &mut Vec<Bytes>, waiting: &mut Vec<Waiting>, sync: bool) {
        if waiting.is_empty() {
            return;
        }
        for (_, standing) in waiting.iter() {
            if standing.end() < self.end {
                standing.tell("cutting", None);
            }
            self.end = standing.end();
        }
        let frames = log_file::encode_frames(self.number, self.position, bodies);
        bodies.clear();
        let outcome = match &self.broken {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => self.append(frames, sync).await,
        };
        if let Err(error) = &outcome {
            self.break_off(error);
        }
        for (done, standing) in waiting.drain(..) {
            if outcome.is_ok() {
                standing.tell("confirmed", None);
            }
            done.tell(match (&outcome, &self.broken) {
                (Err(error), Some(reason)) => Err(io::Error::new(error.kind(), reason.clone())),
                (Err(error), None) => Err(io::Error::new(error.kind(), error.to_string())),
                (Ok(()), _) => Ok(()),
            });
        }
    }

    async fn append(&mut self, frames: Bytes, sync: bool) -> io::Result<()> {
        let end = self.position + frames.len() as u64;
        let written = self.file.write_at(self.position, vec![frames]);
        let synced = match sync {
            true => self.file.sync(),
            false => Box::pin(std::future::ready(Ok(()))),
        };
        self.position = end;
        written.await?;
        synced.await?;
        self.note();
        Ok(())
    }

    /// Notes that everything written is durable. The note itself becomes so with the next sync.
    fn note(&mut self) {
        self.slot = Slot {
            turn: self.slot.turn + 1,
            position: self.position,
            committed: self.committed,
        };
        self.is_slot_durable = false;
        let (at, bytes) = self.slot.encode();
        // Not awaited: a call happens, in order with the next write; its failure would be that
        // write's sync's as well.
        drop(self.file.write_at(at, vec![bytes]));
    }

    /// Whether the disk says all there is to say.
    fn is_settled(&self) -> bool {
        let says_all = self.is_slot_durable && self.slot.committed == self.committed;
        self.broken.is_some() || says_all
    }

    /// Makes the newest note durable.
    async fn settle(&mut self) {
        if self.is_slot_durable {
            self.note();
        }
        match self.file.sync().await {
            Ok(()) => self.is_slot_durable = true,
            Err(error) => self.break_off(&error),
        }
    }

    fn break_off(&mut self, error: &io::Error) {
        if self.broken.is_none() {
            let remedy = match error.kind() {
                ErrorKind::StorageFull => "make room there, and start the node again",
                _ => "look after the disk before the node is started again",
            };
            let at = self.directory.display();
            let reason = format!("the metadata log in {at} cannot be written: {error}: {remedy}");
            tracing::error!("{reason}");
            self.broken = Some(reason);
        }
    }

    /// Goes on with a new file that holds `kept`, the effect of everything written so far.
    async fn rewrite(&mut self, kept: &Kept) {
        if self.broken.is_some() {
            return;
        }
        match self.try_rewrite(kept).await {
            Ok(()) => {}
            Err(RaftOpenError::Io { path, error }) if is_without_room(&path, &error) => {
                // This file has the same and more, and the next attempt begins anew.
                tracing::warn!(path = %path.display(), "no room to shorten the metadata log");
            }
            Err(error) => self.break_off(&io::Error::other(error.to_string())),
        }
    }

    async fn try_rewrite(&mut self, kept: &Kept) -> Result<(), RaftOpenError> {
        let old = log_path(&self.directory, self.number);
        let (directory, committed) = (self.directory.clone(), self.committed);
        let next = self.number + 1;
        *self = Self::make(&self.env.clone(), directory, self.owner, next, kept).await?;
        self.committed = committed.max(kept.committed);
        tracing::trace!(target: "klamm::probe", name = "raft-log-rewritten");
        self.env.disk.remove(&old).await.map_err(failed(&old))
    }
}

/// Whether a file was not made for lack of room, and does not have its name yet.
fn is_without_room(path: &Path, error: &io::Error) -> bool {
    let is_unfinished = path.extension().is_some_and(|ending| ending == UNFINISHED);
    error.kind() == ErrorKind::StorageFull && is_unfinished
}
