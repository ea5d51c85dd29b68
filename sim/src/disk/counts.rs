//! How often what happened to a disk.

use std::collections::BTreeMap;

macro_rules! counts {
    ($($variant:ident => $name:literal,)*) => {
        #[derive(Clone, Copy)]
        pub(super) enum Count {
            $($variant,)*
        }

        const NAMES: &[&str] = &[$($name,)*];
    };
}

counts! {
    Writes => "writes",
    WrittenBytes => "written bytes",
    Truncates => "truncates",
    Reads => "reads",
    Syncs => "syncs",
    DirectorySyncs => "directory syncs",
    NameChanges => "name changes",
    FailedSyncsKept => "failed syncs, pages kept in cache",
    FailedSyncsReverted => "failed syncs, pages reverted",
    FailedWrites => "failed writes",
    FailedReads => "failed reads",
    NoSpace => "refusals for lack of space",
    SlowCalls => "slowed calls",
    Stalls => "stalls",
    PowerLosses => "power losses",
    KeptWrites => "unsynced writes kept by power losses",
    TornWrites => "unsynced writes torn by power losses",
    DroppedWrites => "unsynced writes dropped by power losses",
    GarbageSectors => "sectors of garbage left by power losses",
    KeptNames => "unsynced name changes kept by power losses",
    LostNames => "unsynced name changes lost by power losses",
    RottenBits => "rotten bits",
    MisdirectedWrites => "misdirected writes",
    LostWrites => "lost writes",
    LostDisks => "lost disks",
}

#[derive(Debug)]
pub(super) struct Counts([u64; NAMES.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Counts {
    pub(super) fn add(&mut self, count: Count, amount: u64) {
        self.0[count as usize] += amount;
    }

    /// Those that are not zero.
    pub(super) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let pairs = NAMES.iter().copied().zip(self.0);
        pairs.filter(|(_, count)| *count > 0).collect()
    }
}
