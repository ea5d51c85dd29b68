//! Accepts connections, within the limits of the settings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::{self, Serving};
use crate::env::Listener;

/// Pause after a connection could not be accepted (too many open files, for one).
const PAUSE: Duration = Duration::from_millis(50);

/// Open connections by the address they come from.
#[derive(Default)]
pub struct Admission {
    by_host: Mutex<BTreeMap<String, usize>>,
}

/// Counts a connection until it is dropped.
struct Admitted {
    admission: Arc<Admission>,
    host: String,
}

impl Admission {
    /// `None` when a limit is reached.
    fn admit(self: &Arc<Self>, host: &str, total_max: usize, host_max: usize) -> Option<Admitted> {
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = by_host.values().sum();
        let of_host = by_host.get(host).copied().unwrap_or(0);
        if total >= total_max || of_host >= host_max {
            return None;
        }
        *by_host.entry(host.to_owned()).or_default() += 1;
        Some(Admitted {
            admission: self.clone(),
            host: host.to_owned(),
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut by_host = self
            .admission
            .by_host
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                by_host.remove(&self.host);
            }
        }
    }
}

/// Accepts until the broker is stopping. Then nobody listens any more: who connected only to be
/// sent away without an answer might take that for a server that speaks another protocol, and not
/// try again elsewhere.
pub async fn serve(serving: Arc<Serving>, mut listener: Box<dyn Listener>, index: usize) {
    let admission = Arc::new(Admission::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = serving.drain.started() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                serving.env.sleep(PAUSE).await;
                continue;
            }
        };
        let peer = stream.peer_address();
        let host = peer
            .rsplit_once(':')
            .map_or(peer.as_str(), |(host, _)| host);
        let network = &serving.network;
        let admitted = admission.admit(
            host,
            network.max_connections,
            network.max_connections_per_ip,
        );
        let Some(admitted) = admitted else {
            tracing::trace!(target: "klamm::probe", name = "connection-refused");
            tracing::warn!(
                %peer,
                "connection refused: max.connections or max.connections.per.ip is reached"
            );
            continue;
        };
        let shared = serving.clone();
        let body = async move {
            connection::serve(shared, stream, index).await;
            drop(admitted);
        };
        serving.env.spawn("connection", body).detach();
    }
}

#[cfg(test)]
mod tests;
