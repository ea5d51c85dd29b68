//! What every `Env` must show, as checks that both implementations run.
//!
//! Each check is one promise of the contracts in the modules beside this one, takes an `Env` and an
//! empty directory on its disk, and panics with what it saw when the promise does not hold. What a
//! power loss leaves cannot be shown on a real machine: the simulator's own tests do that.

mod clock;
mod disk;
mod entropy;
mod file;
mod net;
mod task;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use super::{BoxFuture, Env};

/// One promise.
#[derive(Clone, Copy)]
pub struct Claim {
    /// The promise in words, joined by `_`.
    pub name: &'static str,
    /// Shows it, with a directory to work in that exists and is empty.
    pub check: for<'a> fn(&'a Env, &'a Path) -> BoxFuture<'a, ()>,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! claims {
    ($($module:ident { $($name:ident,)* })*) => {
        &[$($(Claim {
            name: stringify!($name),
            check: |env, dir| Box::pin($module::$name(env, dir)),
        },)*)*]
    };
}

const ALL: &[Claim] = claims! {
    clock {
        now_never_goes_back,
        a_sleep_is_never_short,
        a_timer_that_was_never_set_stays_pending,
        a_timer_set_in_the_past_fires_at_once,
        a_fired_timer_stays_fired_until_it_is_reset,
        a_reset_brings_a_timer_forward,
        a_reset_puts_a_timer_off,
        a_cleared_timer_stays_pending,
        work_wins_a_tie_with_its_time_out,
        a_time_out_ends_work_that_does_not_end,
    }
    net {
        bytes_come_back_from_an_echo,
        port_zero_takes_a_free_port,
        a_taken_address_is_in_use,
        a_dropped_listener_frees_its_address,
        a_connection_is_refused_where_nobody_listens,
        both_ends_know_the_addresses,
        a_half_closed_stream_still_carries_the_other_way,
        a_dropped_stream_ends_the_other_side,
        a_writer_waits_for_a_peer_that_does_not_read,
        large_vectored_writes_arrive_in_order,
        an_address_stands_for_itself,
        a_malformed_address_is_invalid_input,
    }
    file {
        a_read_sees_a_completed_write,
        a_read_is_short_only_where_the_file_ends,
        a_large_read_is_whole,
        slices_are_written_one_after_another,
        a_gap_reads_as_zeros,
        a_truncate_cuts_and_grows,
        calls_take_effect_in_the_order_they_were_made,
        a_sync_covers_writes_called_before_it,
        a_dropped_call_still_happens,
        the_length_counts_calls_not_yet_carried_out,
        a_failed_write_fails_later_syncs_until_it_is_cut_off,
        a_flush_runs_beside_writes_and_syncs,
        a_flush_fails_after_a_failed_write_until_it_is_cut_off,
        many_appenders_on_many_files_keep_their_bytes,
    }
    disk {
        opening_what_is_missing_is_not_found,
        create_keeps_what_is_there,
        create_new_refuses_what_is_there,
        a_handle_for_reading_cannot_write,
        a_rename_replaces_the_file_at_its_target,
        a_removed_file_stays_usable_through_its_handle,
        what_is_missing_cannot_be_removed_or_renamed,
        a_name_of_more_than_255_bytes_is_invalid,
        a_listing_is_sorted_and_tells_lengths,
        create_dir_makes_those_above_and_is_repeatable,
        remove_dir_removes_all_within,
        sync_dir_accepts_a_directory_and_misses_a_missing_one,
        a_lock_excludes_others_until_dropped,
        space_is_told,
    }
    task {
        tasks_run_side_by_side,
        join_waits_for_the_end,
        a_dropped_task_is_aborted,
        a_detached_task_goes_on,
        a_task_knows_when_it_has_finished,
    }
    entropy {
        streams_differ_by_purpose_and_by_call,
        numbers_stay_below_their_bound_and_reach_it,
    }
};

/// Every promise, in the order of the seams.
#[must_use]
pub fn all() -> &'static [Claim] {
    ALL
}

/// A span in which anything local must have happened, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `work` gives; panics when it takes longer than anything here should.
async fn soon<T>(env: &Env, what: &str, work: impl Future<Output = T>) -> T {
    match env.timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {PATIENCE:?}"),
    }
}

/// The value of `result`; panics with the error.
fn ok<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Panics unless `result` is an error of `kind`.
fn fails<T>(what: &str, kind: std::io::ErrorKind, result: std::io::Result<T>) {
    match result {
        Ok(_) => panic!("{what}: succeeded, and should fail with {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}
