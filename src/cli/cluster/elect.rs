//! `klamm cluster elect`: elections at the user's wish.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::place::{self, TopicChoice};
use crate::cli::report::error_json;
use crate::cli::session::Session;
use crate::client::Admin;
use crate::client::admin::ElectionKind;
use crate::types::ErrorCode;

#[derive(Args, Debug)]
pub struct ElectOptions {
    #[arg(value_name = "TOPIC[:PARTITION,...]", required_unless_present = "all")]
    topics: Vec<TopicChoice>,
    /// All partitions of the cluster
    #[arg(long, conflicts_with = "topics")]
    all: bool,
    /// Where no replica in sync is alive, take one that may lack acknowledged records: they are
    /// lost for good
    #[arg(long)]
    unclean: bool,
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: ElectOptions,
) -> Result<(), Failure> {
    let kind = match options.unclean {
        true => ElectionKind::Unclean,
        false => ElectionKind::Preferred,
    };
    let chosen = match options.all {
        true => None,
        false => Some(place::chosen(session, admin, &options.topics).await?),
    };
    let mut results = session
        .call(admin.elect_leaders(kind, chosen.as_deref()))
        .await?;
    let mut lines = Vec::new();
    let mut list = Vec::new();
    for (partition, result) in &mut results {
        let is_needless =
            matches!(result, Err(error) if error.code == ErrorCode::ElectionNotNeeded);
        match (&*result, kind) {
            (Ok(()), _) => lines.push(format!("{partition} leader elected")),
            (Err(_), ElectionKind::Preferred) if is_needless => {
                lines.push(format!(
                    "{partition} is led by its preferred replica already"
                ));
            }
            (Err(_), ElectionKind::Unclean) if is_needless => {
                lines.push(format!("{partition} has a leader already"));
            }
            (Err(_), _) => {}
        }
        let elected = result.is_ok();
        if is_needless {
            *result = Ok(());
        }
        list.push(json!({
            "topic": &*partition.topic, "partition": partition.partition, "elected": elected,
            "error": error_json(result.as_ref().err()),
        }));
    }
    if results.is_empty() {
        lines.push("Every partition has the leader it should have.".to_owned());
    }
    session.answer(
        &json!({ "partitions": Value::Array(list) }),
        &lines.join("\n"),
    )?;
    session.check_each(&results, |partition| {
        format!("electing a leader of {partition}")
    })
}
