//! The leader of a partition, as a pure machine.
//!
//! It knows how far the log reaches, how much of it is durable here, and who waits for which
//! offset. The high watermark is the smallest durable end over the in-sync replicas; with this
//! broker as the only one it is the local durable end. It never goes back while the machine lives.
//!
//! The invariant: `high_watermark <= durable_end <= log_end_offset`, and a waiter is acknowledged
//! exactly when the high watermark has reached the end it waits for.

use std::collections::VecDeque;

use crate::types::Offset;

/// What happened to the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<W> {
    /// A batch that ends at `end` was given to the log; `waiter` wants to know when it is safe.
    Appended { end: Offset, waiter: Option<W> },
    /// A batch that is in the log already was sent again; `waiter` wants to know when it is safe.
    Repeated { end: Offset, waiter: Option<W> },
    /// Everything below `end` is durable on this broker.
    Durable { end: Offset },
    /// A write or sync failed: nothing past the durable end can be relied on.
    StorageFailed,
    /// The log was cut back to its durable end and takes appends again.
    StorageRecovered { end: Offset },
}

/// What the driver must do, in the order given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect<W> {
    /// Let readers see everything below this offset.
    Expose(Offset),
    /// The waiter's batch is safe.
    Acknowledge(W),
    /// The waiter's batch may or may not survive.
    Refuse(W),
}

/// A partition this broker leads.
#[derive(Debug)]
pub struct Partition<W> {
    log_end_offset: Offset,
    durable_end: Offset,
    high_watermark: Offset,
    /// Ascending by end: batches are appended in order.
    waiting: VecDeque<(Offset, W)>,
    storage_failed: bool,
}

impl<W: Copy> Partition<W> {
    /// A leader whose log was just opened: all that recovery kept is durable.
    #[must_use]
    pub fn new(log_end_offset: Offset) -> Self {
        Self {
            log_end_offset,
            durable_end: log_end_offset,
            high_watermark: log_end_offset,
            waiting: VecDeque::new(),
            storage_failed: false,
        }
    }

    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether appends are refused until the storage has recovered.
    #[must_use]
    pub fn is_storage_failed(&self) -> bool {
        self.storage_failed
    }

    pub fn step(&mut self, event: Event<W>, effects: &mut Vec<Effect<W>>) {
        match event {
            Event::Appended { end, waiter } => {
                assert!(
                    end > self.log_end_offset,
                    "an append must move the log end forward"
                );
                self.log_end_offset = end;
                self.wait_for(end, waiter, effects);
            }
            Event::Repeated { waiter, .. } if crate::mutant!("duplicate-acked-before-durable") => {
                effects.extend(waiter.map(Effect::Acknowledge));
            }
            Event::Repeated { end, waiter } => self.wait_for(end, waiter, effects),
            Event::Durable { end } => self.on_durable(end, effects),
            Event::StorageFailed => {
                self.storage_failed = true;
                effects.extend(
                    self.waiting
                        .drain(..)
                        .map(|(_, waiter)| Effect::Refuse(waiter)),
                );
            }
            Event::StorageRecovered { end } => {
                assert!(
                    end >= self.high_watermark,
                    "recovery cut what readers had seen"
                );
                self.storage_failed = false;
                self.log_end_offset = end;
                // A batch whose completion was not taken in before the failure may be in it, and
                // when it is sent again nothing more is appended that could expose it.
                self.on_durable(end, effects);
            }
        }
    }

    fn wait_for(&mut self, end: Offset, waiter: Option<W>, effects: &mut Vec<Effect<W>>) {
        let Some(waiter) = waiter else { return };
        if end <= self.high_watermark {
            effects.push(Effect::Acknowledge(waiter));
            return;
        }
        let at = self.waiting.partition_point(|(waited, _)| *waited <= end);
        self.waiting.insert(at, (end, waiter));
    }

    fn on_durable(&mut self, end: Offset, effects: &mut Vec<Effect<W>>) {
        if self.storage_failed || end <= self.durable_end {
            return;
        }
        assert!(
            end <= self.log_end_offset,
            "more is durable than was appended"
        );
        self.durable_end = end;
        self.high_watermark = end;
        effects.push(Effect::Expose(end));
        while let Some((waited, waiter)) = self.waiting.front().copied() {
            if waited > end {
                break;
            }
            self.waiting.pop_front();
            effects.push(Effect::Acknowledge(waiter));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(partition: &mut Partition<u32>, event: Event<u32>) -> Vec<Effect<u32>> {
        let mut effects = Vec::new();
        partition.step(event, &mut effects);
        effects
    }

    #[test]
    fn an_append_is_acknowledged_only_once_it_is_durable() {
        let mut partition = Partition::new(Offset(10));
        let appended = Event::Appended {
            end: Offset(12),
            waiter: Some(1),
        };
        assert_eq!(step(&mut partition, appended), vec![]);
        assert_eq!(partition.high_watermark(), Offset(10));
        assert_eq!(
            step(&mut partition, Event::Durable { end: Offset(12) }),
            vec![Effect::Expose(Offset(12)), Effect::Acknowledge(1)]
        );
    }

    #[test]
    fn a_repeated_batch_waits_until_the_first_copy_is_durable() {
        let mut partition = Partition::new(Offset(0));
        step(
            &mut partition,
            Event::Appended {
                end: Offset(2),
                waiter: None,
            },
        );
        let repeated = Event::Repeated {
            end: Offset(2),
            waiter: Some(7),
        };
        assert_eq!(step(&mut partition, repeated), vec![]);
        assert_eq!(
            step(&mut partition, Event::Durable { end: Offset(2) }),
            vec![Effect::Expose(Offset(2)), Effect::Acknowledge(7)]
        );
        assert_eq!(step(&mut partition, repeated), vec![Effect::Acknowledge(7)]);
    }

    #[test]
    fn a_failed_sync_refuses_everyone_who_waits() {
        let mut partition = Partition::new(Offset(0));
        step(
            &mut partition,
            Event::Appended {
                end: Offset(1),
                waiter: Some(1),
            },
        );
        step(
            &mut partition,
            Event::Appended {
                end: Offset(2),
                waiter: Some(2),
            },
        );
        let refused = step(&mut partition, Event::StorageFailed);
        assert_eq!(refused, vec![Effect::Refuse(1), Effect::Refuse(2)]);
        assert!(partition.is_storage_failed());
        assert_eq!(
            step(&mut partition, Event::Durable { end: Offset(2) }),
            vec![]
        );
        step(&mut partition, Event::StorageRecovered { end: Offset(0) });
        assert!(!partition.is_storage_failed());
    }

    #[test]
    fn what_a_recovery_kept_is_seen_without_another_append() {
        let mut partition = Partition::new(Offset(0));
        let appended = Event::Appended {
            end: Offset(2),
            waiter: Some(1),
        };
        step(&mut partition, appended);
        step(&mut partition, Event::StorageFailed);
        assert_eq!(
            step(&mut partition, Event::StorageRecovered { end: Offset(2) }),
            vec![Effect::Expose(Offset(2))]
        );
        let repeated = Event::Repeated {
            end: Offset(2),
            waiter: Some(2),
        };
        assert_eq!(step(&mut partition, repeated), vec![Effect::Acknowledge(2)]);
    }

    proptest! {
        #[test]
        fn acknowledged_means_below_the_high_watermark(
            moves in proptest::collection::vec((0_u8..4, 1_i64..5), 1..60)
        ) {
            let mut partition = Partition::new(Offset(0));
            let mut ends = std::collections::BTreeMap::new();
            let (mut end, mut durable, mut high) = (0, 0, 0);
            for (id, (kind, amount)) in moves.into_iter().enumerate() {
                let id = u32::try_from(id).expect("few moves");
                let event = match kind {
                    0 | 1 => {
                        end += amount;
                        ends.insert(id, end);
                        Event::Appended { end: Offset(end), waiter: Some(id) }
                    }
                    2 => {
                        durable = (durable + amount).min(end);
                        Event::Durable { end: Offset(durable) }
                    }
                    _ if partition.is_storage_failed() => {
                        end = durable;
                        Event::StorageRecovered { end: Offset(end) }
                    }
                    _ => {
                        ends.insert(id, end);
                        Event::Repeated { end: Offset(end), waiter: Some(id) }
                    }
                };
                for effect in step(&mut partition, event) {
                    if let Effect::Acknowledge(id) = effect {
                        prop_assert!(ends[&id] <= partition.high_watermark().0);
                    }
                }
                prop_assert!(partition.high_watermark().0 >= high);
                high = partition.high_watermark().0;
                prop_assert!(high <= end);
            }
        }
    }
}
