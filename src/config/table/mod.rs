//! The table of settings, by theme. One entry: name, type, default, how it may change, whether it
//! has an effect yet, and what it is for.

mod accepted;
mod cluster;
mod groups;
mod node;
mod topics;

use super::kind::Kind;
use super::setting::{Effect, Setting, Synonym, Update};

macro_rules! settings {
    ($($name:literal $kind:expr, $default:expr, $update:ident $effect:ident, $doc:literal;)*) => {
        &[$(super::Setting {
            name: $name,
            kind: $kind,
            default: $default,
            update: super::Update::$update,
            effect: super::Effect::$effect,
            synonyms: &[],
            doc: $doc,
        }),*]
    };
}
use settings;

/// Settings of a node.
pub(super) const BROKER: &[&[Setting]] = &[
    node::SETTINGS,
    topics::DEFAULTS,
    cluster::SETTINGS,
    groups::SETTINGS,
    accepted::SETTINGS,
];

/// Settings of a topic.
pub(super) const TOPIC: &[Setting] = topics::TOPIC;

const INT_MAX: i64 = i32::MAX as i64;
const SHORT_MAX: i64 = i16::MAX as i64;

const BOOLEAN: Kind = Kind::Boolean;
const TEXT: Kind = Kind::Text(&[]);
const LIST: Kind = Kind::List(&[]);

const fn int(min: i64) -> Kind {
    Kind::Int { min, max: INT_MAX }
}

const fn int_to(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn short(min: i64) -> Kind {
    Kind::Short {
        min,
        max: SHORT_MAX,
    }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}

const fn double(min: f64, max: f64) -> Kind {
    Kind::Double { min, max }
}
