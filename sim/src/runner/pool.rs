//! Work done a few at a time, on threads that mostly wait for processes.
#![expect(
    clippy::disallowed_methods,
    reason = "the threads of the runner wait for processes; no run sees them"
)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

/// Gives every item to `work`, `width` at once, and every result to `each` as it comes, until that
/// says to stop. Items begin in their order; those under way at a stop are waited for and dropped.
pub(crate) fn run<I: Send, R: Send>(
    items: impl Iterator<Item = I> + Send,
    width: usize,
    work: impl Fn(I) -> R + Sync,
    mut each: impl FnMut(R) -> ControlFlow<()>,
) {
    let items = Mutex::new(items);
    let stopped = AtomicBool::new(false);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..width.max(1) {
            let (sender, items, work, stopped) = (sender.clone(), &items, &work, &stopped);
            scope.spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(item) = item else {
                        return;
                    };
                    if sender.send(work(item)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for result in &results {
            if each(result).is_break() {
                stopped.store(true, Ordering::SeqCst);
                break;
            }
        }
        drop(results);
    });
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::run;

    #[test]
    fn every_item_is_done_once() {
        let mut done = Vec::new();
        let each = |number| {
            done.push(number);
            ControlFlow::Continue(())
        };
        run(0..100, 3, |number| number * 2, each);
        done.sort_unstable();
        assert_eq!(done, (0..100).map(|number| number * 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_stop_ends_work_on_what_has_not_begun() {
        let mut done = 0;
        let each = |_| {
            done += 1;
            if done == 5 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        run(0_u64.., 2, |number| number, each);
        assert_eq!(done, 5);
    }
}
