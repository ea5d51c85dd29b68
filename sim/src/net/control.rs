//! What a scenario does to the network.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::link::matches;
use super::{Network, State};
use crate::plan::LinkOptions;

/// The faults of a world's network. Hosts are named as their nodes, `*` is any; faults are one-way
/// but for [`NetworkControl::reset`], and never touch what a host says to itself.
///
/// Cuts, stalls and refusals are counted: each lasts until its own end, and one over the same hosts
/// does not shorten it. An end without a beginning does nothing.
#[derive(Clone)]
pub struct NetworkControl {
    pub(crate) network: Arc<Network>,
}

impl NetworkControl {
    /// How good links are for which nothing else is set.
    pub fn set_default(&self, options: LinkOptions) {
        self.change(|state| state.links.rules.default = options);
        self.wake_writers();
    }

    /// How good links from `from` to `to` are, or as good as others again. Of several that fit a
    /// link the last set counts. Bytes that are under way already keep their time.
    pub fn set_link(&self, from: &str, to: &str, options: Option<LinkOptions>) {
        let what = if options.is_some() { "slow" } else { "usual" };
        self.event(format_args!("{what} {from}>{to}"));
        self.change(|state| state.links.rules.set_options(from, to, options));
        self.wake_writers();
    }

    /// How good links between hosts of different clusters are for which nothing else is set, until
    /// all is healed. `clusters` are numbers, by the names of hosts.
    pub fn set_wide(&self, clusters: BTreeMap<String, usize>, options: LinkOptions) {
        self.event(format_args!("wide"));
        self.change(|state| state.links.rules.set_wide(clusters, options));
    }

    /// What is sent from `from` to `to` is lost until [`NetworkControl::heal`], also what is under
    /// way. Afterwards data come again, from 0.2 s to a little over 1 s later, but no lost reset
    /// does. Who has data that nobody acknowledges gives the connection up after 15 s.
    pub fn cut(&self, from: &str, to: &str) {
        self.event(format_args!("cut {from}>{to}"));
        self.change(|state| {
            state.counts.cuts += 1;
            state.links.rules.set_cut(from, to, true);
        });
    }

    /// Ends a cut between the same hosts.
    pub fn heal(&self, from: &str, to: &str) {
        self.event(format_args!("heal {from}>{to}"));
        self.change(|state| state.links.rules.set_cut(from, to, false));
    }

    /// What is sent from `from` to `to` waits until [`NetworkControl::unstall`], also what is under
    /// way; nothing is lost and nobody gives up, but those who connect.
    pub fn stall(&self, from: &str, to: &str) {
        self.event(format_args!("stall {from}>{to}"));
        self.change(|state| {
            state.counts.stalls += 1;
            state.links.rules.set_stalled(from, to, true);
        });
    }

    /// Ends a stall between the same hosts.
    pub fn unstall(&self, from: &str, to: &str) {
        self.event(format_args!("unstall {from}>{to}"));
        self.change(|state| state.links.rules.set_stalled(from, to, false));
    }

    /// Resets the connections between `from` and `to`, whoever made them, at both ends. Of the
    /// bytes not read yet a drawn part from the first on, which may end inside a frame, can still
    /// be read before the error. An end that a cut hides learns nothing.
    pub fn reset(&self, from: &str, to: &str) {
        self.event(format_args!("reset {from}>{to}"));
        self.change(|state| {
            state.each(|connection, scene| {
                let hosts = [0, 1].map(|side| connection.ends[side].host);
                let [one, other] = hosts.map(|host| scene.links.hosts[host].name.as_str());
                let fits = matches((from, to), one, other) || matches((from, to), other, one);
                if hosts[0] != hosts[1] && fits {
                    connection.reset(scene);
                }
            });
        });
    }

    /// Whether the host refuses new connections from others.
    pub fn refuse(&self, host: &str, refuses: bool) {
        let what = if refuses { "refuse" } else { "admit" };
        self.event(format_args!("{what} {host}"));
        self.change(|state| state.links.rules.set_refused(host, refuses));
    }

    /// Ends everything but the default options; hosts without power stay so.
    pub fn heal_all(&self) {
        self.event(format_args!("heal all"));
        self.change(|state| state.links.rules.clear());
        self.wake_writers();
    }

    /// Names of all hosts, in the order they were made.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        self.network.with(|state, _| {
            let hosts = state.links.hosts.iter();
            hosts.map(|host| host.name.clone()).collect()
        })
    }

    /// How often each kind of thing befell somebody so far.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.network.with(|state, _| {
            let counts = &state.counts;
            BTreeMap::from([
                ("accept queue overflows", counts.overflows),
                ("connect timeouts", counts.connect_timeouts),
                ("connections", counts.connections),
                ("cut bytes", counts.cut_bytes),
                ("cuts", counts.cuts),
                ("refusals", counts.refusals),
                ("resets", counts.resets),
                ("splits", state.links.splits()),
                ("stalls", counts.stalls),
                ("timeouts", counts.timeouts),
            ])
        })
    }

    fn event(&self, what: fmt::Arguments<'_>) {
        let trace = self.network.with(|state, _| state.trace.clone());
        trace.event("network", what);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.network.change(change);
    }

    fn wake_writers(&self) {
        self.change(|state| state.each(|connection, scene| connection.wake_writers(scene)));
    }
}
