//! `klamm link promote`: mirrors become writable, and what of each was and was not copied is told.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::describe::age;
use super::warn_of_silence;
use crate::cli::failure::Failure;
use crate::cli::report::{Table, counted, error_json, or_dash};
use crate::cli::session::Session;
use crate::client::Admin;
use crate::client::admin::{Each, Links, MirrorDescription, MirrorProgress};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// How long to wait until the leaders of promoted partitions know of it.
const SETTLING: Duration = Duration::from_secs(10);

/// Most partitions that are promoted by one request.
const PARTITIONS_MAX: usize = 10_000;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
#[command(after_help = "\
For each partition: up to which offset it was copied, how far the source was when it was last heard
of, and how many offsets between the two are missing here. What the source took after it was last
heard of cannot be known. A promotion cannot be undone; --dry-run shows the table and changes
nothing.

With --all the link goes on to make mirrors of topics that appear at the source: pause or delete it
when the source is given up.")]
pub struct PromoteOptions {
    #[arg(value_name = "TOPIC", required_unless_present = "all")]
    topics: Vec<String>,
    /// All mirrors
    #[arg(long, conflicts_with = "topics")]
    all: bool,
    /// Only mirrors of this link
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
    /// Only show what would be missing
    #[arg(long)]
    dry_run: bool,
}

/// One partition of a mirror that was promoted, or could be.
struct Line {
    topic: String,
    partition: i32,
    leader_epoch: LeaderEpoch,
    copied_end: Option<Offset>,
    source_end: Option<Offset>,
    seen_at: Option<Timestamp>,
    fault: Option<String>,
}

impl Line {
    fn missing(&self) -> Option<i64> {
        Some(self.source_end?.since(self.copied_end?).max(0))
    }
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: PromoteOptions,
) -> Result<(), Failure> {
    let before = session.call(admin.describe_links(None)).await?;
    let link = options.link.as_deref();
    let mut results = Each::new();
    for topics in at_once(&before, &options) {
        let asked = admin.promote_mirrors(link, topics.as_deref(), options.dry_run);
        results.extend(session.call(asked).await?);
    }
    let after = match options.dry_run {
        true => before.clone(),
        false => settled(session, admin, &results).await?,
    };
    warn_of_silence(session, &after);
    let lines = lines(&before, &after, &results);
    let now = session.env.wall();
    let json = json(&lines, &results, options.dry_run);
    session.answer(&json, &text(&lines, &results, options.dry_run, now))?;
    session.check_each(&results, |topic| format!("topic '{topic}'"))
}

/// Topics to ask for at once: the controller takes no more partitions in one request. `None`: all
/// that there are, of which none is known.
fn at_once(before: &Links, options: &PromoteOptions) -> Vec<Option<Vec<String>>> {
    let wanted: Vec<&String> = match options.all {
        false => options.topics.iter().collect(),
        true => {
            let link = options
                .link
                .as_ref()
                .and_then(|name| before.links.get(name));
            let is_meant = |mirror: &&MirrorDescription| match (&options.link, link) {
                (None, _) => true,
                (Some(_), link) => link.is_some_and(|link| link.id == mirror.link),
            };
            let open = before.mirrors.values();
            let open = open
                .filter(|mirror| mirror.state != "PROMOTED")
                .filter(is_meant);
            open.map(|mirror| &mirror.topic).collect()
        }
    };
    let mut all: Vec<Option<Vec<String>>> = Vec::new();
    let mut left = 0;
    for topic in wanted {
        let mirror = before.mirrors.get(topic);
        let count = mirror.map_or(1, |mirror| mirror.partitions.len());
        match all.last_mut() {
            Some(Some(topics)) if count <= left => {
                topics.push(topic.clone());
                left -= count;
            }
            _ => {
                all.push(Some(vec![topic.clone()]));
                left = PARTITIONS_MAX.saturating_sub(count);
            }
        }
    }
    if all.is_empty() {
        all.push(None);
    }
    all
}

/// How things stand once the leaders know where the copies end, or after a while.
async fn settled(
    session: &mut Session,
    admin: &Admin,
    results: &Each<String, Vec<LeaderEpoch>>,
) -> Result<Links, Failure> {
    let deadline = session.env.now().plus(SETTLING);
    loop {
        let all = session.call(admin.describe_links(None)).await?;
        let promoted = results.iter().filter(|(_, result)| result.is_ok());
        let mut mirrors = promoted.filter_map(|(topic, _)| all.mirrors.get(topic));
        let is_settled = mirrors.all(|mirror| {
            let mut partitions = mirror.partitions.values();
            mirror.state == "PROMOTED"
                && partitions.all(|one| one.copied_end.is_some() || one.leader.is_none())
        });
        if is_settled || session.env.now() >= deadline {
            return Ok(all);
        }
        let pause = session.env.sleep(LOOK);
        session.interrupt.or(pause).await?;
    }
}

/// What was copied is as it is now, what the source had as it was last heard of before.
fn lines(before: &Links, after: &Links, results: &Each<String, Vec<LeaderEpoch>>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (topic, result) in results {
        let (Ok(epochs), Some(now)) = (result, after.mirrors.get(topic)) else {
            continue;
        };
        for (partition, one) in &now.partitions {
            let mirror = before.mirrors.get(topic);
            let known = mirror.and_then(|mirror| mirror.partitions.get(partition));
            let source = |of: fn(&MirrorProgress) -> Option<Offset>| known.and_then(of);
            let at = usize::try_from(*partition).ok();
            let epoch = at.and_then(|at| epochs.get(at)).copied();
            lines.push(Line {
                topic: topic.clone(),
                partition: *partition,
                leader_epoch: epoch.unwrap_or(one.leader_epoch),
                copied_end: one.copied_end,
                source_end: source(|one| one.source_log_end),
                seen_at: known.and_then(|known| known.seen_at),
                fault: one.fault.as_ref().map(|fault| fault.name.clone()),
            });
        }
    }
    lines
}

fn text(
    lines: &[Line],
    results: &Each<String, Vec<LeaderEpoch>>,
    dry_run: bool,
    now: Timestamp,
) -> String {
    let mut table = Table::new(&[
        "topic",
        ">partition",
        ">copied to",
        ">source end",
        ">missing",
        ">source heard",
        "fault",
    ]);
    for line in lines {
        table.row(vec![
            line.topic.clone(),
            line.partition.to_string(),
            or_dash(line.copied_end),
            or_dash(line.source_end),
            or_dash(line.missing()),
            or_dash(line.seen_at.map(|at| format!("{} ago", age(at, now)))),
            or_dash(line.fault.as_ref()),
        ]);
    }
    let done = results.values().filter(|result| result.is_ok()).count();
    let done = counted(u64::try_from(done).unwrap_or(u64::MAX), "topic");
    let verb = if dry_run {
        "could be promoted"
    } else {
        "promoted"
    };
    match table.is_empty() {
        true => format!("{done} {verb}"),
        false => format!("{}\n\n{done} {verb}. {}", table.text(), summary(lines)),
    }
}

fn summary(lines: &[Line]) -> String {
    let count = |count: usize| counted(u64::try_from(count).unwrap_or(u64::MAX), "partition");
    let missing: Vec<i64> = lines.iter().filter_map(Line::missing).collect();
    let behind = missing.iter().filter(|missing| **missing > 0).count();
    let offsets: i64 = missing.iter().copied().fold(0, i64::saturating_add);
    let unknown = lines.len() - missing.len();
    let mut text = match behind {
        0 => format!(
            "Nothing that the source was seen to have is missing in {}",
            count(missing.len())
        ),
        _ => format!(
            "{} of {} lack{} {} that the source was seen to have",
            behind,
            count(missing.len()),
            if behind == 1 { "s" } else { "" },
            counted(offsets.unsigned_abs(), "offset"),
        ),
    };
    if unknown > 0 {
        text.push_str(&format!("; of {} it is not known", count(unknown)));
    }
    text.push('.');
    text
}

fn json(lines: &[Line], results: &Each<String, Vec<LeaderEpoch>>, dry_run: bool) -> Value {
    let topics = results.iter().map(|(topic, result)| {
        let of_topic = lines.iter().filter(|line| line.topic == *topic);
        let partitions = of_topic.map(|line| {
            json!({
                "partition": line.partition, "leader_epoch": line.leader_epoch.0,
                "copied_end": line.copied_end.map(|at| at.0),
                "source_log_end": line.source_end.map(|at| at.0),
                "missing": line.missing(),
                "source_seen_at": line.seen_at.map(|at| at.0), "fault": line.fault,
            })
        });
        let partitions: Vec<Value> = partitions.collect();
        json!({
            "topic": topic, "promoted": result.is_ok() && !dry_run, "partitions": partitions,
            "error": error_json(result.as_ref().err()),
        })
    });
    let topics: Vec<Value> = topics.collect();
    json!({ "dry_run": dry_run, "topics": topics })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;

    fn line(partition: i32, copied: Option<i64>, source: Option<i64>) -> Line {
        Line {
            topic: "orders".to_owned(),
            partition,
            leader_epoch: LeaderEpoch(4),
            copied_end: copied.map(Offset),
            source_end: source.map(Offset),
            seen_at: None,
            fault: None,
        }
    }

    fn mirror(topic: &str, state: &str, partitions: i32) -> (String, MirrorDescription) {
        let progress = MirrorProgress {
            leader: None,
            leader_epoch: LeaderEpoch(0),
            source_epoch: None,
            fault: None,
            log_start_offset: None,
            log_end_offset: None,
            copied_end: None,
            source_log_start: None,
            source_log_end: None,
            seen_at: None,
            caught_up_at: None,
            error: None,
        };
        let mirror = MirrorDescription {
            topic: topic.to_owned(),
            topic_id: Uuid([1; 16]),
            link: Uuid([2; 16]),
            source_topic: topic.to_owned(),
            state: state.to_owned(),
            reason: None,
            partitions: (0..partitions).map(|at| (at, progress.clone())).collect(),
        };
        (topic.to_owned(), mirror)
    }

    #[test]
    fn many_mirrors_are_promoted_by_several_requests() {
        let mirrors = [
            mirror("a", "ACTIVE", 6000),
            mirror("b", "FAILED", 4000),
            mirror("c", "PROMOTED", 1),
            mirror("d", "ACTIVE", 1),
        ];
        let before = Links {
            mirrors: mirrors.into(),
            ..Links::default()
        };
        let all = PromoteOptions {
            topics: Vec::new(),
            all: true,
            link: None,
            dry_run: false,
        };
        let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(at_once(&before, &all), [of(&["a", "b"]), of(&["d"])]);
        let named = PromoteOptions {
            topics: vec!["c".to_owned(), "x".to_owned(), "c".to_owned()],
            all: false,
            ..all
        };
        assert_eq!(at_once(&before, &named), [of(&["c", "x", "c"])]);
        let unknown = PromoteOptions {
            topics: Vec::new(),
            all: true,
            link: Some("nowhere".to_owned()),
            dry_run: false,
        };
        assert_eq!(at_once(&before, &unknown), [None]);
    }

    #[test]
    fn what_is_missing_is_counted_and_what_is_not_known_is_said() {
        let all = [
            line(0, Some(7), Some(9)),
            line(1, Some(9), Some(9)),
            line(2, Some(3), None),
        ];
        assert_eq!(
            summary(&all),
            "1 of 2 partitions lacks 2 offsets that the source was seen to have; of 1 partition \
             it is not known."
        );
        assert_eq!(
            summary(&all[1..2]),
            "Nothing that the source was seen to have is missing in 1 partition."
        );
        // The copy may have got further than was last heard of the source.
        assert_eq!(line(0, Some(9), Some(7)).missing(), Some(0));
    }
}
