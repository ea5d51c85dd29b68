//! What is to be made and changed here, so that a link has a mirror of every topic of its source
//! that it is to copy. Doing it twice does no harm.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::TopicId;

/// A topic of the source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovered {
    /// Its name there.
    pub source_name: String,
    /// Zero where the source has none.
    pub id: TopicId,
    pub partitions: i32,
    /// Settings that the topic has of its own, those only that this cluster can have. `None`: not
    /// known at the moment.
    pub settings: Option<BTreeMap<String, String>>,
    /// Clusters, by id, that its records came through before that one.
    pub provenance: Vec<String>,
}

/// A source as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub cluster_id: String,
    /// Those that the link is to copy, by what their mirrors are called.
    pub topics: BTreeMap<String, Discovered>,
    /// Mirrors of those that the source says it does not have.
    pub missing: BTreeSet<String>,
}

/// A topic here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Here {
    /// An active mirror of the link, of this topic of the source. `None`: anything else.
    pub mirrors: Option<TopicId>,
    /// Of an active mirror of the link, what its topic is called at the source.
    pub source_name: Option<String>,
    /// A mirror of the link, whatever has become of it.
    pub is_of_link: bool,
    pub partitions: i32,
    /// Those that mirrors have from their source.
    pub settings: BTreeMap<String, String>,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Create {
        name: String,
        source_name: String,
        source_id: TopicId,
        partitions: i32,
        settings: BTreeMap<String, String>,
    },
    /// Give it so many partitions in all.
    Grow { name: String, partitions: i32 },
    /// Change these settings; `None`: back to the default.
    Configure {
        name: String,
        settings: BTreeMap<String, Option<String>>,
    },
    /// Another topic has the name of its source.
    Recreated { name: String, source_id: TopicId },
    /// The source has it no more.
    Deleted { name: String },
}

/// What to do, and what is not done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Topics of the source that are not copied, with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Plan {
    /// Given the source, this cluster's id, what is here by name, and the name of the setting that
    /// holds the provenance.
    #[must_use]
    pub fn new(
        source: &Source,
        cluster_id: &str,
        here: &BTreeMap<String, Here>,
        provenance: &str,
    ) -> Self {
        let mut plan = Self::default();
        for (name, topic) in &source.topics {
            let settings = topic.settings.clone().map(|mut settings| {
                let mut came = topic.provenance.clone();
                came.push(source.cluster_id.clone());
                settings.insert(provenance.to_owned(), came.join(","));
                settings
            });
            match here.get(name) {
                None if topic.provenance.iter().any(|id| id == cluster_id)
                    && !crate::mutant!("mirror-comes-home") =>
                {
                    let why = "its records come from this cluster";
                    plan.skip(topic, why);
                }
                None => plan.create(name, topic, settings),
                Some(known) => plan.follow(name, topic, known, settings),
            }
        }
        for name in &source.missing {
            let known = here.get(name);
            if known.is_some_and(|known| known.mirrors.is_some()) {
                plan.steps.push(Step::Deleted { name: name.clone() });
            }
        }
        plan
    }

    fn skip(&mut self, topic: &Discovered, why: &str) {
        self.skipped
            .insert(topic.source_name.clone(), why.to_owned());
    }

    fn create(
        &mut self,
        name: &str,
        topic: &Discovered,
        settings: Option<BTreeMap<String, String>>,
    ) {
        // Without its settings it might be compacted, or not, in the wrong way.
        let Some(settings) = settings else {
            self.skip(topic, "its settings are not known yet");
            return;
        };
        let settings = match crate::mutant!("mirror-with-default-settings") {
            true => BTreeMap::new(),
            false => settings,
        };
        self.steps.push(Step::Create {
            name: name.to_owned(),
            source_name: topic.source_name.clone(),
            source_id: topic.id,
            partitions: topic.partitions,
            settings,
        });
    }

    fn follow(
        &mut self,
        name: &str,
        topic: &Discovered,
        known: &Here,
        settings: Option<BTreeMap<String, String>>,
    ) {
        let Some(source_id) = known.mirrors else {
            if !known.is_of_link {
                let why = match *name == topic.source_name {
                    true => {
                        "a topic of this name is here, and is no mirror of this link".to_owned()
                    }
                    false => format!("topic '{name}' is here, and is no mirror of this link"),
                };
                self.skip(topic, &why);
            }
            return;
        };
        let is_other = !source_id.is_zero() && !topic.id.is_zero() && source_id != topic.id;
        if is_other && !crate::mutant!("mirror-recreated-unnoticed") {
            self.steps.push(Step::Recreated {
                name: name.to_owned(),
                source_id: topic.id,
            });
            return;
        }
        if topic.partitions > known.partitions {
            self.steps.push(Step::Grow {
                name: name.to_owned(),
                partitions: topic.partitions,
            });
        }
        let settings = settings.filter(|_| !crate::mutant!("mirror-with-default-settings"));
        let Some(wanted) = settings else { return };
        let mut changed: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (setting, value) in &wanted {
            if known.settings.get(setting) != Some(value) {
                changed.insert(setting.clone(), Some(value.clone()));
            }
        }
        for setting in known.settings.keys() {
            if !wanted.contains_key(setting) {
                changed.insert(setting.clone(), None);
            }
        }
        if !changed.is_empty() {
            self.steps.push(Step::Configure {
                name: name.to_owned(),
                settings: changed,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;

    const PROVENANCE: &str = "provenance";

    fn plan(source: &Source, here: &[(&str, Here)]) -> Plan {
        let here = here.iter();
        let here = here.map(|(name, known)| ((*name).to_owned(), known.clone()));
        Plan::new(source, "east", &here.collect(), PROVENANCE)
    }

    fn source(topic: Discovered) -> Source {
        Source {
            cluster_id: "west".to_owned(),
            topics: BTreeMap::from([("orders".to_owned(), topic)]),
            missing: BTreeSet::new(),
        }
    }

    fn topic(id: u8) -> Discovered {
        let settings = [("cleanup.policy", "compact")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Discovered {
            source_name: "orders".to_owned(),
            id: Uuid([id; 16]),
            partitions: 3,
            settings: Some(BTreeMap::from(settings)),
            provenance: Vec::new(),
        }
    }

    /// The mirror that a plan makes.
    fn made(plan: &Plan) -> Here {
        let [
            Step::Create {
                source_name,
                source_id,
                partitions,
                settings,
                ..
            },
        ] = plan.steps.as_slice()
        else {
            panic!("{plan:?}");
        };
        Here {
            mirrors: Some(*source_id),
            source_name: Some(source_name.clone()),
            is_of_link: true,
            partitions: *partitions,
            settings: settings.clone(),
        }
    }

    #[test]
    fn what_was_made_once_is_not_made_again() {
        let first = plan(&source(topic(1)), &[]);
        let here = made(&first);
        assert_eq!(
            here.settings.get(PROVENANCE).map(String::as_str),
            Some("west")
        );
        assert_eq!(
            plan(&source(topic(1)), &[("orders", here)]),
            Plan::default()
        );
    }

    #[test]
    fn a_mirror_grows_and_changes_with_its_source() {
        let here = made(&plan(&source(topic(1)), &[]));
        let mut later = topic(1);
        later.partitions = 5;
        let settings = [("retention.ms", "5")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        later.settings = Some(BTreeMap::from(settings));
        let wanted = [
            Step::Grow {
                name: "orders".to_owned(),
                partitions: 5,
            },
            Step::Configure {
                name: "orders".to_owned(),
                settings: BTreeMap::from([
                    ("cleanup.policy".to_owned(), None),
                    ("retention.ms".to_owned(), Some("5".to_owned())),
                ]),
            },
        ];
        assert_eq!(plan(&source(later), &[("orders", here)]).steps, wanted);
    }

    #[test]
    fn a_topic_that_came_from_here_does_not_return() {
        let mut looped = topic(1);
        looped.provenance = vec!["east".to_owned(), "north".to_owned()];
        let plan = plan(&source(looped), &[]);
        assert!(plan.steps.is_empty());
        assert!(plan.skipped.contains_key("orders"));
    }

    #[test]
    fn another_topic_under_the_name_is_told_and_nothing_of_it_followed() {
        let here = made(&plan(&source(topic(1)), &[]));
        let mut other = topic(2);
        other.partitions = 9;
        let wanted = [Step::Recreated {
            name: "orders".to_owned(),
            source_id: Uuid([2; 16]),
        }];
        assert_eq!(
            plan(&source(other), &[("orders", here.clone())]).steps,
            wanted
        );
        let mut gone = source(topic(1));
        gone.topics.clear();
        gone.missing.insert("orders".to_owned());
        let wanted = [Step::Deleted {
            name: "orders".to_owned(),
        }];
        assert_eq!(plan(&gone, &[("orders", here)]).steps, wanted);
    }

    #[test]
    fn a_topic_that_is_somebody_elses_is_left_alone() {
        let mine = Here {
            partitions: 1,
            ..Here::default()
        };
        let plan = plan(&source(topic(1)), &[("orders", mine)]);
        assert!(plan.steps.is_empty());
        assert!(plan.skipped.contains_key("orders"));
    }
}
