//! What a crash left beside a log's own files: temporary ones, removals and compactions that were
//! decided and not finished.

use super::super::error::{Corruption, LogError};
use super::super::files;
use super::super::header_page::{SegmentId, decode_page};
use super::super::roll::remove_if_there;
use super::super::segment::foreign;
use super::{Opening, read_page};
use crate::env::{DirEntry, OpenMode};
use crate::types::Offset;

impl Opening<'_> {
    /// Removes what crashes left behind and finishes compactions that were decided. The listing
    /// afterwards.
    pub(super) async fn tidy(&mut self, listed: Vec<DirEntry>) -> Result<Vec<DirEntry>, LogError> {
        let disk = &*self.env.disk;
        let mut changed = false;
        for entry in &listed {
            let name = &entry.name;
            let stale = [files::DELETED, files::CLEANED, files::TEMPORARY];
            if stale.iter().any(|suffix| name.ends_with(suffix)) {
                tracing::trace!(target: "klamm::probe", name = "leftover-removed");
                remove_if_there(disk, &self.dir.join(name)).await?;
                self.report.tidied.push(format!("removed {name}"));
                changed = true;
            } else if let Some(name) = name.strip_suffix(files::SWAP)
                && let Some(base) = files::base_offset_in(name, files::LOG)
            {
                self.finish_swap(base, &listed).await?;
                changed = true;
            }
        }
        if !changed {
            return Ok(listed);
        }
        disk.list(self.dir).await.map_err(LogError::io(self.dir))
    }

    /// Puts a compacted segment in the place of its sources: it was complete and durable before it
    /// got its name.
    async fn finish_swap(&mut self, base: Offset, listed: &[DirEntry]) -> Result<(), LogError> {
        let disk = &*self.env.disk;
        let target = files::path(self.dir, base, files::LOG);
        let swap = files::suffixed(&target, files::SWAP);
        let opened = disk.open(&swap, OpenMode::Read).await;
        let file = opened.map_err(LogError::io(&swap))?;
        let page = read_page(&*file).await.map_err(LogError::io(&swap))?;
        let refused = |found: String| Corruption {
            path: swap.clone(),
            position: 0,
            offset: base,
            found,
            expected: "a complete compacted segment".to_owned(),
        };
        let (id, slot) = decode_page(&page).map_err(refused)?;
        if SegmentId::new(&self.options.identity, base, id.generation) != id {
            return Err(refused(foreign(&id)).into());
        }
        let slot = slot.ok_or_else(|| refused("no valid durable slot".to_owned()))?;
        for entry in listed {
            let within = files::base_offset_in(&entry.name, files::LOG)
                .is_some_and(|other| other > base && other < slot.end_offset);
            if within {
                remove_if_there(disk, &self.dir.join(&entry.name)).await?;
            }
        }
        tracing::trace!(target: "klamm::probe", name = "compaction-finished-at-start");
        let synced = disk.sync_dir(self.dir).await;
        synced.map_err(LogError::io(self.dir))?;
        let renamed = disk.rename(&swap, &target).await;
        renamed.map_err(LogError::io(&swap))?;
        let synced = disk.sync_dir(self.dir).await;
        synced.map_err(LogError::io(self.dir))?;
        self.report
            .tidied
            .push(format!("put {base} compacted in place"));
        Ok(())
    }
}
