//! What clients may not do to a mirror: its link alone writes to it, and sets it up.

use std::collections::BTreeMap;

use crate::broker::partitions::HostedTopic;
use crate::controller::{
    AlterOperation, ClusterImage, ConfigChange, ConfigResource, PROVENANCE, Refusal, ResourceType,
    is_mirrored_setting,
};
use crate::types::ErrorCode;

/// Whether clients may not write records to a hosted topic. What is told in that case is
/// [`refuse`]'s.
pub fn is_read_only(topic: &HostedTopic) -> bool {
    topic.read_only && !crate::mutant!("mirror-written-by-clients")
}

/// Refuses what would change a topic that a link fills.
pub fn check(image: &ClusterImage, topic: &str) -> Result<(), Refusal> {
    let found = image.topic(topic);
    let mirror = found.and_then(|topic| image.mirror(topic.id));
    match mirror {
        Some(mirror) if mirror.topic.is_read_only() => Err(refuse(image, topic)),
        _ => Ok(()),
    }
}

/// Why clients only read a topic that a link fills, and what would change that.
pub fn refuse(image: &ClusterImage, topic: &str) -> Refusal {
    let found = image.topic(topic);
    let mirror = found.and_then(|topic| image.mirror(topic.id));
    let link = mirror.and_then(|mirror| image.link(mirror.topic.link));
    let of = link.map_or_else(
        || "a link".to_owned(),
        |link| format!("link '{}'", link.name),
    );
    let text = format!(
        "topic '{topic}' is a mirror that {of} fills: clients only read it. 'klamm link promote \
         {topic}' makes it a topic like any other"
    );
    Refusal::new(ErrorCode::PolicyViolation, text)
}

/// Refuses changes of settings that only the link of a mirror changes.
pub fn check_changes(
    image: &ClusterImage,
    resource: &ConfigResource,
    changes: &[ConfigChange],
) -> Result<(), Refusal> {
    let is_same = |change: &ConfigChange| {
        let known = image.config(resource);
        change.operation == AlterOperation::Set && known.get(&change.name) == change.value.as_ref()
    };
    let changed = changes.iter().filter(|change| !is_same(change));
    check_settings(image, resource, changed.map(|change| &*change.name))
}

/// As [`check_changes`], where `after` takes the place of all settings.
pub fn check_replacement(
    image: &ClusterImage,
    resource: &ConfigResource,
    after: &[(String, Option<String>)],
) -> Result<(), Refusal> {
    if resource.resource_type != ResourceType::Topic {
        return Ok(());
    }
    let before = image.config(resource);
    let given: BTreeMap<&str, Option<&String>> = after
        .iter()
        .map(|(name, value)| (&**name, value.as_ref()))
        .collect();
    // What is given back as it was, as tools do that add to what is set, changes nothing.
    let changed = given
        .iter()
        .filter(|(name, value)| before.get(**name) != **value)
        .map(|(name, _)| *name);
    let gone = before
        .keys()
        .filter(|name| !given.contains_key(name.as_str()));
    // The controller keeps it.
    let gone = gone.filter(|name| *name != PROVENANCE);
    check_settings(image, resource, changed.chain(gone.map(String::as_str)))
}

fn check_settings<'a>(
    image: &ClusterImage,
    resource: &ConfigResource,
    mut changed: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    if resource.resource_type != ResourceType::Topic {
        return Ok(());
    }
    let is_mirror = check(image, &resource.name).is_err();
    let forbidden =
        changed.find(|name| *name == PROVENANCE || (is_mirror && is_mirrored_setting(name)));
    match forbidden {
        None => Ok(()),
        Some(PROVENANCE) => Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!("{PROVENANCE} says where records come from: only links set it"),
        )),
        Some(name) => {
            let mut refusal = refuse(image, &resource.name);
            refusal.text = format!("{name} is as at the source: {}", refusal.text);
            Err(refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{LinkMode, LinkRecord, MetadataRecord, MirrorState, MirrorTopic};
    use crate::types::{Offset, Uuid};

    const LINK: Uuid = Uuid([1; 16]);
    const TOPIC: Uuid = Uuid([2; 16]);

    /// A cluster with the mirror `orders`, which keeps records for 5 ms.
    fn image(state: MirrorState) -> ClusterImage {
        let link = LinkRecord {
            id: LINK,
            name: "west".to_owned(),
            bootstrap: Vec::new(),
            source_cluster: None,
            mode: LinkMode::Exact,
            topics: Vec::new(),
            groups: Vec::new(),
            paused: false,
            bytes_per_second: None,
            replication_factor: -1,
        };
        let mirror = MirrorTopic {
            link: LINK,
            source_name: "orders".to_owned(),
            source_id: Uuid::ZERO,
            state,
            since: Vec::new(),
        };
        let config = |name: &str, value: &str| MetadataRecord::Config {
            resource: ConfigResource::topic("orders"),
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        let records = [
            MetadataRecord::Link(link),
            MetadataRecord::Topic {
                id: TOPIC,
                name: "orders".to_owned(),
            },
            config("retention.ms", "5"),
            config(PROVENANCE, "x"),
            MetadataRecord::MirrorTopic {
                topic_id: TOPIC,
                mirror,
            },
        ];
        ClusterImage::from_snapshot(Offset(5), &records).unwrap()
    }

    fn change(name: &str, operation: AlterOperation, value: Option<&str>) -> ConfigChange {
        ConfigChange {
            name: name.to_owned(),
            operation,
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn settings_of_a_mirror_are_its_sources_and_the_rest_is_free() {
        use AlterOperation::{Delete, Set};
        let topic = ConfigResource::topic("orders");
        let is_allowed =
            |image: &ClusterImage, one: ConfigChange| check_changes(image, &topic, &[one]).is_ok();
        let mirror = image(MirrorState::Active);
        assert!(!is_allowed(&mirror, change("retention.ms", Set, Some("6"))));
        assert!(!is_allowed(&mirror, change("retention.ms", Delete, None)));
        assert!(is_allowed(&mirror, change("retention.ms", Set, Some("5"))));
        assert!(is_allowed(
            &mirror,
            change("min.insync.replicas", Set, Some("2"))
        ));
        let promoted = image(MirrorState::Promoted);
        assert!(is_allowed(&promoted, change("retention.ms", Delete, None)));
        assert!(!is_allowed(&promoted, change(PROVENANCE, Delete, None)));
        assert!(check(&mirror, "orders").is_err());
        assert!(check(&promoted, "orders").is_ok() && check(&mirror, "other").is_ok());
    }

    #[test]
    fn what_replaces_all_settings_may_repeat_those_of_a_mirror() {
        let topic = ConfigResource::topic("orders");
        let setting = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let mirror = image(MirrorState::Active);
        let kept = [
            setting("retention.ms", "5"),
            setting("klamm.durability", "fsync"),
        ];
        assert_eq!(check_replacement(&mirror, &topic, &kept), Ok(()));
        let refusal = check_replacement(&mirror, &topic, &kept[1..]).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::PolicyViolation);
        assert!(refusal.text.contains("link 'west'"), "{refusal}");
        let promoted = image(MirrorState::Promoted);
        assert_eq!(check_replacement(&promoted, &topic, &[]), Ok(()));
        let forged = [setting(PROVENANCE, "y")];
        assert!(check_replacement(&promoted, &topic, &forged).is_err());
    }
}
