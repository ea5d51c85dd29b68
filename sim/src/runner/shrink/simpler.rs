//! Simpler forms of the parts of a plan.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::plan::{Fault, Plan, Role};

fn object(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn from_object<T: DeserializeOwned>(object: Map<String, Value>) -> Option<T> {
    serde_json::from_value(Value::Object(object)).ok()
}

/// The default of a structure, then the structure with each of its fields as the default has it.
pub(crate) fn toward_default<T>(of: &T) -> Vec<T>
where
    T: Clone + Default + PartialEq + Serialize + DeserializeOwned,
{
    let (fields, default) = (object(of), object(&T::default()));
    let mut found = vec![T::default()];
    for (name, value) in &default {
        let mut one = fields.clone();
        one.insert(name.clone(), value.clone());
        found.extend(from_object(one));
    }
    found.retain(|simpler| simpler != of);
    found
}

/// One thing about a role that is simpler.
pub(crate) type Simpler = Vec<(&'static str, Value)>;

/// What can be simpler about a role: everything at once, then each thing.
pub(crate) fn roles(of: &Role) -> Vec<Simpler> {
    let simplest = [
        ("batch_records", json!(1)),
        ("committed", json!(false)),
        ("compression", json!("none")),
        ("freeze_percent", json!(0)),
        ("idempotent", json!(false)),
        ("in_flight", json!(1)),
        ("instance", Value::Null),
        ("keys", json!(0)),
        ("leave_percent", json!(0)),
        ("library", json!(false)),
        ("repeat_percent", json!(0)),
        ("restart_percent", json!(0)),
        ("retries", json!(false)),
        ("session", json!(false)),
        ("tombstone_percent", json!(0)),
        ("value_bytes", json!(16)),
        ("vanish_percent", json!(0)),
    ];
    let fields = object(of);
    let all: Simpler = simplest
        .into_iter()
        .filter(|(name, value)| fields.get(*name).is_some_and(|is| is != value))
        .collect();
    if all.is_empty() {
        return Vec::new();
    }
    let each: Vec<Simpler> = all.iter().map(|one| vec![one.clone()]).collect();
    std::iter::once(all).chain(each).collect()
}

/// The role with those fields.
pub(crate) fn joined(role: &Role, simpler: &Simpler) -> Role {
    let mut fields = object(role);
    for (name, value) in simpler {
        fields.insert((*name).to_owned(), value.clone());
    }
    from_object(fields).unwrap_or_else(|| role.clone())
}

/// How long a fault lasts.
pub(crate) fn durations(of: &mut Fault) -> Vec<&mut u64> {
    match of {
        Fault::Kill { down_ms, .. }
        | Fault::PowerLoss { down_ms, .. }
        | Fault::PowerLossAt { down_ms, .. }
        | Fault::Revote { down_ms, .. }
        | Fault::Stop { down_ms, .. } => vec![down_ms],
        Fault::Rolling { down_ms, pause_ms } => vec![down_ms, pause_ms],
        Fault::Pause { for_ms, .. }
        | Fault::Cut { for_ms, .. }
        | Fault::Stall { for_ms, .. }
        | Fault::Slow { for_ms, .. }
        | Fault::Refuse { for_ms, .. }
        | Fault::Swizzle { for_ms, .. }
        | Fault::Split { for_ms, .. }
        | Fault::Isolate { for_ms, .. }
        | Fault::Full { for_ms, .. }
        | Fault::StallDisk { for_ms, .. } => vec![for_ms],
        Fault::SlowDisk {
            latency_max_ms,
            for_ms,
            ..
        } => vec![latency_max_ms, for_ms],
        _ => Vec::new(),
    }
}

/// The plan with everything in half the time.
pub(crate) fn sooner(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.length_ms = plan.length_ms.div_ceil(2);
    for fault in &mut plan.faults {
        fault.at_ms /= 2;
    }
    for client in &mut plan.clients {
        client.start_ms /= 2;
    }
    plan
}
