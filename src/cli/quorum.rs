//! `klamm quorum`: describe, add-voter, remove-voter.

use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::report::{Table, listed, or_dash, pairs};
use super::session::Session;
use super::time_text;
use crate::client::Admin;
use crate::client::admin::{QuorumDescription, QuorumEndpoint, QuorumMember};
use crate::types::{BrokerId, Uuid};

/// The controllers that keep the cluster's metadata, and their votes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm quorum describe           who leads, who votes, how far each member is
  klamm quorum add-voter 4        give controller 4, which follows, a vote
  klamm quorum remove-voter 2     take the vote of controller 2

A change needs a majority of the voters. To replace a voter that is gone for good, remove it and
add its successor; with an odd number of voters the quorum bears the loss of the most of them.")]
pub struct QuorumCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Who leads, who votes, who follows, and how far each member is
    Describe,
    /// Give a controller that follows the quorum a vote
    AddVoter {
        /// The controller's node.id
        id: i32,
        /// Of its metadata directory (directory.id in its meta.properties); known if it follows
        #[arg(long, value_name = "UUID")]
        directory_id: Option<Uuid>,
        /// Where its controller listener is; known if it follows
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<Address>,
        /// Name of its controller listener
        #[arg(long, value_name = "NAME", default_value = "CONTROLLER")]
        listener: String,
    },
    /// Take a controller's vote away
    RemoveVoter {
        /// The controller's node.id
        id: i32,
        /// Of its metadata directory, if there is doubt
        #[arg(long, value_name = "UUID")]
        directory_id: Option<Uuid>,
    },
}

/// `HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.rsplit_once(':');
        let found = split.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match found {
            Some((host, port)) if !host.is_empty() && port != 0 => Ok(Self {
                host: host.trim_matches(['[', ']']).to_owned(),
                port,
            }),
            _ => Err(format!("'{text}' is not HOST:PORT, such as node-4:9093")),
        }
    }
}

pub async fn run(session: &mut Session, command: QuorumCommand) -> Result<(), Failure> {
    let admin = session.admin().await?;
    match command.action {
        Action::Describe => describe(session, &admin).await,
        Action::AddVoter {
            id,
            directory_id,
            address,
            listener,
        } => {
            let endpoint = address.map(|Address { host, port }| QuorumEndpoint {
                listener,
                host,
                port,
            });
            add_voter(session, &admin, BrokerId(id), directory_id, endpoint).await
        }
        Action::RemoveVoter { id, directory_id } => {
            remove_voter(session, &admin, BrokerId(id), directory_id).await
        }
    }
}

async fn describe(session: &mut Session, admin: &Admin) -> Result<(), Failure> {
    let quorum = session.call(admin.describe_quorum()).await?;
    let voters = quorum.voters.iter().map(|member| (member, "voter"));
    let observers = quorum.observers.iter().map(|member| (member, "observer"));
    let mut table = Table::new(&[
        ">id",
        "role",
        ">end",
        ">lag",
        "last heard of",
        "address",
        "directory",
    ]);
    let mut list = Vec::new();
    for (member, role) in voters.chain(observers) {
        let is_leader = quorum.leader == Some(member.id);
        let lag = lag(&quorum, member);
        table.row(vec![
            member.id.to_string(),
            if is_leader { "leader" } else { role }.to_owned(),
            or_dash(member.log_end_offset),
            or_dash(lag),
            match (is_leader, member.last_fetch) {
                (true, _) => "now".to_owned(),
                (false, heard) => or_dash(heard.map(time_text::rfc3339)),
            },
            listed(member.endpoints.iter().map(address)),
            or_dash((!member.directory_id.is_zero()).then_some(member.directory_id)),
        ]);
        list.push(json!({
            "id": member.id.0, "role": role, "leader": is_leader,
            "log_end_offset": member.log_end_offset.map(|end| end.0), "lag": lag,
            "last_fetch": member.last_fetch.map(|time| time.0),
            "last_caught_up": member.last_caught_up.map(|time| time.0),
            "directory_id": member.directory_id.to_string(),
            "endpoints": member.endpoints.iter().map(|one| json!({
                "listener": one.listener, "host": one.host, "port": one.port,
            })).collect::<Vec<Value>>(),
        }));
    }
    let head = pairs(&[
        ("Leader", or_dash(quorum.leader)),
        ("Leader epoch", quorum.leader_epoch.to_string()),
        ("High watermark", quorum.high_watermark.to_string()),
        ("Voters", quorum.voters.len().to_string()),
    ]);
    let json = json!({
        "leader": quorum.leader.map(|id| id.0), "leader_epoch": quorum.leader_epoch,
        "high_watermark": quorum.high_watermark.0, "members": list,
    });
    session.answer(&json, &format!("{head}\n\n{}", table.text()))
}

/// How far the member is behind the leader.
fn lag(quorum: &QuorumDescription, member: &QuorumMember) -> Option<i64> {
    let leader = quorum
        .voters
        .iter()
        .find(|one| Some(one.id) == quorum.leader)?;
    Some(leader.log_end_offset?.since(member.log_end_offset?).max(0))
}

fn address(endpoint: &QuorumEndpoint) -> String {
    match endpoint.host.contains(':') {
        true => format!("[{}]:{}", endpoint.host, endpoint.port),
        false => format!("{}:{}", endpoint.host, endpoint.port),
    }
}

async fn add_voter(
    session: &mut Session,
    admin: &Admin,
    id: BrokerId,
    directory_id: Option<Uuid>,
    endpoint: Option<QuorumEndpoint>,
) -> Result<(), Failure> {
    let quorum = session.call(admin.describe_quorum()).await?;
    let known = quorum.observers.iter().find(|member| member.id == id);
    let directory_id = directory_id.or(known
        .map(|member| member.directory_id)
        .filter(|known| !known.is_zero()));
    let endpoints = match endpoint {
        Some(endpoint) => vec![endpoint],
        None => known.map(|one| one.endpoints.clone()).unwrap_or_default(),
    };
    let Some(directory_id) = directory_id.filter(|_| !endpoints.is_empty()) else {
        return Err(Failure::Failed(format!(
            "nothing is known of controller {id}: start it, so that it follows the quorum (`klamm \
             quorum describe` shows it then), or say --directory-id and --address"
        )));
    };
    session
        .call(admin.add_voter(id, directory_id, &endpoints))
        .await?;
    let text = format!("controller {id} has a vote");
    let json = json!({ "voter": id.0, "directory_id": directory_id.to_string() });
    session.answer(&json, &text)
}

async fn remove_voter(
    session: &mut Session,
    admin: &Admin,
    id: BrokerId,
    directory_id: Option<Uuid>,
) -> Result<(), Failure> {
    let directory_id = match directory_id {
        Some(directory_id) => directory_id,
        None => {
            let quorum = session.call(admin.describe_quorum()).await?;
            let known = quorum.voters.iter().find(|member| member.id == id);
            let Some(known) = known else {
                let voters = listed(quorum.voters.iter().map(|member| member.id));
                return Err(Failure::Failed(format!(
                    "controller {id} has no vote: the voters are {voters}"
                )));
            };
            known.directory_id
        }
    };
    session.call(admin.remove_voter(id, directory_id)).await?;
    let text = format!("controller {id} has no vote any more");
    let json = json!({ "voter": id.0, "directory_id": directory_id.to_string() });
    session.answer(&json, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let address = |host: &str, port| {
            Ok(Address {
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!("node-4:9093".parse(), address("node-4", 9093));
        assert_eq!("[::1]:9093".parse(), address("::1", 9093));
        for bad in ["", "node-4", ":9093", "node-4:0", "node-4:x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
