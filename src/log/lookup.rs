//! Finding records by time.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{Corruption, ReadError};
use super::reader::LogReader;
use super::segment::Segment;
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{BatchError, RecordBatch};

/// Bytes looked through at once.
const LOOK_BYTES: usize = 1 << 20;

/// A record found by time.
pub type FoundRecord = (Timestamp, Offset, LeaderEpoch);

/// A segment as a search sees it.
enum Candidate {
    Sealed(Arc<Segment>),
    /// The one that was active when the search began: it may be sealed by now.
    Active(Offset),
}

impl LogReader {
    /// The first record below `up_to` whose timestamp is `at` or later. Records are looked at one
    /// by one: the batch that holds the answer is decompressed.
    pub async fn offset_for_timestamp(
        &self,
        at: Timestamp,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        loop {
            let changes = self.shared.view().changes;
            match self.search_timestamp(at, up_to).await {
                // The log changed under the search: what it met says nothing.
                Err(_) if self.shared.view().changes != changes => {}
                found => return found,
            }
        }
    }

    async fn search_timestamp(
        &self,
        at: Timestamp,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        for (candidate, span) in self.candidates(up_to) {
            let Some(start) = self.start_in(&candidate, at).await? else {
                continue;
            };
            let from = start.max(span.0);
            let found = self.first_since(at, from, span.1.min(up_to)).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record below `up_to` that has the largest timestamp of all.
    pub async fn offset_of_max_timestamp(
        &self,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        loop {
            let changes = self.shared.view().changes;
            match self.search_largest(up_to).await {
                Err(_) if self.shared.view().changes != changes => {}
                found => return found,
            }
        }
    }

    async fn search_largest(&self, up_to: Offset) -> Result<Option<FoundRecord>, ReadError> {
        let mut best: Option<FoundRecord> = None;
        for (candidate, span) in self.candidates(up_to) {
            let (largest, offset) = self.largest_in(&candidate).await?;
            if best.is_some_and(|best| largest <= best.0) {
                continue;
            }
            let whole = offset >= span.0 && span.1 <= up_to;
            let from = if whole { offset } else { span.0 };
            let found = self.largest_between(from, span.1.min(up_to)).await?;
            if let Some(found) = found
                && best.is_none_or(|best| found.0 > best.0)
            {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// All segments with records below `up_to`, and the offsets to look at in each.
    fn candidates(&self, up_to: Offset) -> Vec<(Candidate, (Offset, Offset))> {
        let view = self.shared.view();
        let start = view.log_start_offset;
        let mut found: Vec<_> = view
            .sealed
            .iter()
            .filter(|segment| segment.end_offset > start && segment.base_offset < up_to)
            .map(|segment| {
                let span = (segment.base_offset.max(start), segment.end_offset);
                (Candidate::Sealed(segment.clone()), span)
            })
            .collect();
        let active = view.active.base_offset;
        if active < up_to && view.log_end_offset > active.max(start) {
            found.push((
                Candidate::Active(active),
                (active.max(start), view.log_end_offset),
            ));
        }
        found
    }

    /// Where to begin to look for `at`; `None` when the segment has nothing that late.
    async fn start_in(
        &self,
        candidate: &Candidate,
        at: Timestamp,
    ) -> Result<Option<Offset>, ReadError> {
        match self.as_it_is(candidate) {
            Candidate::Sealed(segment) => {
                let early = |times: super::segment::SegmentTimes| times.largest < at;
                if segment.times().is_some_and(early) {
                    return Ok(None);
                }
                let opened = self.shared.open_segment(&segment).await?;
                let index = &opened.index;
                Ok((index.max_timestamp >= at).then(|| index.before_timestamp(at)))
            }
            Candidate::Active(_) => {
                let view = self.shared.view();
                let index = &view.active.index;
                Ok((index.max_timestamp >= at).then(|| index.before_timestamp(at)))
            }
        }
    }

    async fn largest_in(&self, candidate: &Candidate) -> Result<(Timestamp, Offset), ReadError> {
        match self.as_it_is(candidate) {
            Candidate::Sealed(segment) => {
                let opened = self.shared.open_segment(&segment).await?;
                let index = &opened.index;
                Ok((index.max_timestamp, index.max_timestamp_offset()))
            }
            Candidate::Active(_) => {
                let view = self.shared.view();
                let index = &view.active.index;
                Ok((index.max_timestamp, index.max_timestamp_offset()))
            }
        }
    }

    /// The candidate as the log has it now: a roll may have sealed it since the search began.
    fn as_it_is(&self, candidate: &Candidate) -> Candidate {
        match candidate {
            Candidate::Sealed(segment) => Candidate::Sealed(segment.clone()),
            Candidate::Active(base) => {
                let view = self.shared.view();
                let mut sealed = view.sealed.iter();
                match sealed.find(|segment| segment.base_offset == *base) {
                    Some(segment) => Candidate::Sealed(segment.clone()),
                    None => Candidate::Active(*base),
                }
            }
        }
    }

    async fn first_since(
        &self,
        at: Timestamp,
        mut from: Offset,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        let least = from;
        while from < up_to {
            let batches = self.batches(&mut from, up_to).await?;
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                if batch.header.max_timestamp < at {
                    continue;
                }
                for record in self.records(&batch)? {
                    let record = record.map_err(|error| self.unreadable(&batch, &error))?;
                    if record.timestamp >= at && record.offset >= least {
                        let epoch = batch.header.leader_epoch;
                        return Ok(Some((record.timestamp, record.offset, epoch)));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn largest_between(
        &self,
        mut from: Offset,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        let least = from;
        let mut best: Option<FoundRecord> = None;
        while from < up_to {
            let batches = self.batches(&mut from, up_to).await?;
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                if best.is_some_and(|best| batch.header.max_timestamp <= best.0) {
                    continue;
                }
                for record in self.records(&batch)? {
                    let record = record.map_err(|error| self.unreadable(&batch, &error))?;
                    let larger = best.is_none_or(|best| record.timestamp > best.0);
                    if larger && record.offset >= least {
                        let epoch = batch.header.leader_epoch;
                        best = Some((record.timestamp, record.offset, epoch));
                    }
                }
            }
        }
        Ok(best)
    }

    /// The next batches from `from` on, which moves behind them; none when there are no more.
    async fn batches(
        &self,
        from: &mut Offset,
        up_to: Offset,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        let read = self.read(*from, up_to, LOOK_BYTES, true).await?;
        *from = read.end;
        let mut bytes: Bytes = read.concat();
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let batch = RecordBatch::split_first(&mut bytes);
            batches.push(batch.map_err(|error| self.damaged(*from, error.to_string()))?);
        }
        Ok(batches)
    }

    fn records(&self, batch: &RecordBatch) -> Result<crate::wire::batch::RecordIter, ReadError> {
        batch
            .records()
            .map_err(|error| self.unreadable(batch, &error))
    }

    fn unreadable(&self, batch: &RecordBatch, error: &BatchError) -> ReadError {
        self.damaged(batch.header.base_offset, error.to_string())
    }

    fn damaged(&self, offset: Offset, found: String) -> ReadError {
        ReadError::Corrupt(Corruption {
            path: self.shared.dir.clone(),
            position: 0,
            offset,
            found,
            expected: "records".to_owned(),
        })
    }
}
