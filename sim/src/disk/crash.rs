//! What a loss of power leaves.
//!
//! Everything that is not durable is drawn: a change of names is kept whole or not at all, a write
//! also in some of its sectors. Draws for different changes are independent, so that a later change
//! can be kept where an earlier one is not, in the same file or another. With `in_order` instead,
//! the disk is as it was at an earlier moment, and only the one write at that moment may be torn.

use klamm::env::Rng;

use super::counts::{Count, Counts};
use super::inode::SECTOR;
use super::platter::Platter;
use crate::plan::CrashOptions;

/// What is kept of one change.
pub(super) enum Kept {
    Nothing,
    Whole,
    /// Some parts, each with where it begins. Whether the file has become as long as the whole
    /// would make it: zeros where there is no part then.
    Torn {
        grown: bool,
        parts: Vec<(usize, Part)>,
    },
}

/// A part of a write within one sector.
pub(super) enum Part {
    /// As written, up to this position.
    New(usize),
    Garbage(Vec<u8>),
}

/// Draws for one loss of power.
struct Draws<'a> {
    options: CrashOptions,
    rng: &'a mut Rng,
    counts: &'a mut Counts,
    /// In order, the first change that is not kept whole.
    limit: Option<u64>,
}

impl Platter {
    /// Keeps of what is not durable what the draws say.
    pub(super) fn lose_power(&mut self, options: CrashOptions, rng: &mut Rng, counts: &mut Counts) {
        counts.add(Count::PowerLosses, 1);
        let limit = options.in_order.then(|| {
            let later = self.pending_after_the_durable();
            let loses = options.drop_percent > 0 || options.tear_percent > 0;
            let kept = rng.below(later.len() as u64 + 1);
            let first = usize::try_from(kept).ok().and_then(|at| later.get(at));
            first.copied().filter(|_| loses).unwrap_or(u64::MAX)
        });
        let mut draws = Draws {
            options,
            rng,
            counts,
            limit,
        };
        self.make_names_durable(|number| draws.name(number));
        self.begin_anew();
        for inode in self.inodes() {
            inode.lose_power(|number, range| draws.change(number, range));
        }
        self.recount();
    }
}

impl Draws<'_> {
    fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.below(100) < u64::from(percent)
    }

    fn name(&mut self, number: u64) -> bool {
        let kept = match self.limit {
            Some(limit) => number < limit,
            None => !self.happens(self.options.names_percent),
        };
        let count = if kept {
            Count::KeptNames
        } else {
            Count::LostNames
        };
        self.counts.add(count, 1);
        kept
    }

    /// `range`: the bytes of a write; none for a truncate.
    fn change(&mut self, number: u64, range: Option<(usize, usize)>) -> Kept {
        let kept = match self.limit {
            Some(limit) if number < limit => Kept::Whole,
            Some(limit) if number > limit => Kept::Nothing,
            Some(_) => match range {
                Some(range) if self.happens(self.options.tear_percent) => self.prefix(range),
                _ => Kept::Nothing,
            },
            None => self.any(range),
        };
        let count = match &kept {
            Kept::Nothing => Count::DroppedWrites,
            Kept::Whole => Count::KeptWrites,
            Kept::Torn { .. } => Count::TornWrites,
        };
        self.counts.add(count, 1);
        kept
    }

    fn any(&mut self, range: Option<(usize, usize)>) -> Kept {
        let draw = self.rng.below(100);
        let dropped = u64::from(self.options.drop_percent);
        let torn = dropped + u64::from(self.options.tear_percent);
        match range {
            _ if draw < dropped => Kept::Nothing,
            Some(range) if draw < torn => self.tear(range),
            _ => Kept::Whole,
        }
    }

    fn tear(&mut self, (pos, end): (usize, usize)) -> Kept {
        let grown = self.rng.below(2) == 0;
        let mut parts = Vec::new();
        for (start, sector_end) in sectors(pos, end) {
            if self.rng.below(2) == 0 {
                parts.push((start, Part::New(sector_end)));
            } else if self.happens(self.options.garbage_percent) {
                self.counts.add(Count::GarbageSectors, 1);
                let seeds = std::iter::from_fn(|| Some(self.rng.bytes::<16>()));
                let garbage = seeds.flatten().take(sector_end - start).collect();
                parts.push((start, Part::Garbage(garbage)));
            }
        }
        Kept::Torn { grown, parts }
    }

    /// The first sectors.
    fn prefix(&mut self, (pos, end): (usize, usize)) -> Kept {
        let all: Vec<(usize, usize)> = sectors(pos, end).collect();
        let kept = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
        let parts = all.into_iter().take(kept);
        Kept::Torn {
            grown: false,
            parts: parts.map(|(start, end)| (start, Part::New(end))).collect(),
        }
    }
}

/// The sectors between two positions, the first and the last as far as they are between.
fn sectors(pos: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = pos;
    std::iter::from_fn(move || {
        let this = start;
        start = ((this / SECTOR + 1) * SECTOR).min(end);
        (this < end).then_some((this, start))
    })
}
