//! `klamm link wait`: until everything that the source has is copied.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::options::Seconds;
use crate::cli::report::counted;
use crate::cli::session::Session;
use crate::client::Admin;
use crate::client::admin::{LinkDescription, Links, MirrorDescription};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = "\
Shows how far the copy is, and ends once every mirror of the link has all that its source was seen
to have. A partition with a fault is an error at once: nothing comes of waiting.")]
pub struct WaitOptions {
    #[arg(value_name = "NAME")]
    link: String,
    /// Longest time to wait; for ever unless given
    #[arg(long, value_name = "SECONDS")]
    within: Option<Seconds>,
}

/// How far a link is.
#[derive(Default)]
struct Far {
    /// Offsets that the source has, and those of them that are here.
    wanted: i64,
    copied: i64,
    partitions: u64,
    /// Some partition's source was not heard of yet.
    is_unknown: bool,
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: WaitOptions,
) -> Result<(), Failure> {
    let until = options
        .within
        .map(|within| session.env.now().plus(within.0));
    let names = [options.link.clone()];
    let bar = session.terminal.progress(Some(0), false);
    loop {
        let all = session.call(admin.describe_links(Some(&names))).await?;
        let link = all.links.get(&options.link);
        let link =
            link.ok_or_else(|| Failure::Failed(format!("there is no link '{}'", options.link)))?;
        let far = Far::of(&all, link)?;
        bar.set_length(u64::try_from(far.wanted).unwrap_or(0));
        bar.set_position(u64::try_from(far.copied).unwrap_or(0));
        let left = far.wanted - far.copied;
        bar.set_message(match &link.error {
            Some(error) => error.clone(),
            None => format!("{left} offsets to copy"),
        });
        // Before the source was looked at there is nothing to be complete.
        if left == 0 && !far.is_unknown && link.seen_at.is_some() && all.unreachable.is_empty() {
            bar.finish_and_clear();
            let text = format!(
                "{}: {} have all that the source was seen to have, {}",
                options.link,
                counted(far.partitions, "partition"),
                counted(u64::try_from(far.copied).unwrap_or(0), "offset"),
            );
            let json = json!({
                "link": options.link, "partitions": far.partitions, "copied": far.copied,
            });
            return session.answer(&json, &text);
        }
        if until.is_some_and(|until| session.env.now() >= until) {
            bar.finish_and_clear();
            return Err(Failure::OutOfTime(format!(
                "link '{}' has {left} offsets to copy yet",
                options.link
            )));
        }
        let pause = session.env.sleep(LOOK);
        session.interrupt.or(pause).await?;
    }
}

impl Far {
    fn of(all: &Links, link: &LinkDescription) -> Result<Self, Failure> {
        let mut far = Self::default();
        let mirrors = all.mirrors.values();
        for mirror in mirrors.filter(|one| one.link == link.id && one.state != "PROMOTED") {
            far.add(mirror)?;
        }
        Ok(far)
    }

    fn add(&mut self, mirror: &MirrorDescription) -> Result<(), Failure> {
        let topic = &mirror.topic;
        if let Some(reason) = &mirror.reason {
            return Err(Failure::Failed(format!("{topic}: {reason}")));
        }
        for (partition, one) in &mirror.partitions {
            if let Some(fault) = &one.fault {
                let text = format!("{topic}-{partition}: {}", fault.text);
                return Err(Failure::Failed(text));
            }
            self.partitions += 1;
            match (one.source_log_start, one.source_log_end, one.copied_end) {
                (Some(start), Some(end), Some(copied)) => {
                    let wanted = end.since(start).max(0);
                    self.wanted += wanted;
                    self.copied += copied.since(start).clamp(0, wanted);
                }
                _ => self.is_unknown = true,
            }
        }
        Ok(())
    }
}
