//! `klamm config explain` and `list`: what a node started here would use, and why. No cluster is
//! asked.

use std::path::Path;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::node::NodeOptions;
use super::super::report::{Table, or_dash};
use super::super::session::Session;
use crate::client::config::edits;
use crate::config::{
    BrokerConfig, BrokerDefaults, Effect, Explanation, Setting, Source, Update, broker_settings,
    topic_setting, topic_settings,
};
use crate::env::{Env, OpenMode};

/// Largest settings file that is read, in bytes.
const FILE_MAX: usize = 4 << 20;

pub async fn explain(session: &mut Session, key: &str, node: &NodeOptions) -> Result<(), Failure> {
    let defaults = load(session, node).await?;
    if let Some(found) = defaults.explain(key) {
        return session.answer(&explanation_json(&found), &explanation_text(&found));
    }
    let Some(setting) = topic_setting(key) else {
        let near = nearest(key).map_or_else(String::new, |name| format!("did you mean '{name}'? "));
        return Err(Failure::Failed(format!(
            "'{key}' is not a setting of a node or topic; {near}`klamm config list` shows all"
        )));
    };
    let (value, source) = defaults.for_topic(setting);
    let value = value.map(std::borrow::Cow::into_owned);
    let broker_keys: Vec<&str> = setting
        .synonyms
        .iter()
        .map(|synonym| synonym.name)
        .collect();
    let json = json!({
        "name": setting.name, "scope": "topic", "value": value, "source": source.to_string(),
        "values": setting.kind.to_string(), "documentation": setting.doc,
        "broker_settings": broker_keys,
    });
    let mut lines = vec![
        format!("{} = {}", setting.name, or_dash(value)),
        format!("  from      {source} (a topic that does not set it)"),
        format!("  values    {}", setting.kind),
    ];
    if !broker_keys.is_empty() {
        lines.push(format!("  of nodes  {}", broker_keys.join(", ")));
    }
    lines.push(format!(
        "  changes   klamm config alter --topic T --add {key}=VALUE"
    ));
    lines.push(format!("\n{}", setting.doc));
    session.answer(&json, &lines.join("\n"))
}

pub async fn list(session: &mut Session, node: &NodeOptions, changed: bool) -> Result<(), Failure> {
    let defaults = load(session, node).await?;
    let mut all: Vec<Explanation> = broker_settings()
        .filter_map(|setting| defaults.explain(setting.name))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.retain(|one| !changed || one.source != Source::Default);
    let mut table = Table::new(&["name", "value", "source", "changes by"]);
    for one in &all {
        let (name, source) = (one.name.clone(), one.source.to_string());
        table.row(vec![
            name,
            or_dash(one.value.as_ref()),
            source,
            update(one.update).to_owned(),
        ]);
    }
    let list: Vec<Value> = all.iter().map(explanation_json).collect();
    let topic: Vec<Value> = topic_settings().map(topic_json).collect();
    let text = if table.is_empty() {
        String::new()
    } else {
        table.text()
    };
    session.answer(&json!({ "settings": list, "topic_settings": topic }), &text)
}

fn topic_json(setting: &Setting) -> Value {
    json!({
        "name": setting.name, "values": setting.kind.to_string(), "documentation": setting.doc,
    })
}

async fn load(session: &Session, node: &NodeOptions) -> Result<BrokerDefaults, Failure> {
    let file = match &node.properties {
        Some(path) => Some(read(&session.env, path).await?),
        None => None,
    };
    let overrides = node
        .overrides
        .iter()
        .map(|one| (one.key.clone(), one.value.clone()));
    let environment = session.environment.iter().cloned();
    let loaded = BrokerConfig::load(file.as_deref(), environment, overrides)
        .map_err(|errors| Failure::Usage(errors.to_string()))?;
    Ok(loaded.config.defaults().clone())
}

async fn read(env: &Env, path: &Path) -> Result<String, Failure> {
    let refused = |why: String| Failure::Usage(format!("{} {why}", path.display()));
    let file = env.disk.open(path, OpenMode::Read).await;
    let file = file.map_err(|error| refused(format!("cannot be read: {error}")))?;
    let bytes = file.read_at(0, FILE_MAX).await;
    let bytes = bytes.map_err(|error| refused(format!("cannot be read: {error}")))?;
    if bytes.len() == FILE_MAX {
        return Err(refused("is too large for a settings file".to_owned()));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| refused("is not UTF-8 text".to_owned()))
}

fn update(update: Update) -> &'static str {
    match update {
        Update::ReadOnly => "restart",
        Update::PerBroker => "alter, per broker",
        Update::ClusterWide => "alter",
    }
}

fn effect(effect: Effect) -> Option<&'static str> {
    match effect {
        Effect::Works => None,
        Effect::NotYet => Some("accepted, without effect in this version"),
        Effect::Silent => Some("accepted for compatibility; nothing here corresponds to it"),
    }
}

fn explanation_json(one: &Explanation) -> Value {
    let hidden = one.hidden.iter();
    let hidden = hidden
        .map(|given| json!({ "value": given.value, "source": given.source.to_string() }))
        .collect::<Vec<Value>>();
    json!({
        "name": one.name, "scope": "node", "value": one.value, "source": one.source.to_string(),
        "hidden": hidden, "default": one.default, "values": one.values,
        "has_effect": one.effect == Effect::Works, "changes_by": update(one.update),
        "documentation": one.documentation,
    })
}

fn explanation_text(one: &Explanation) -> String {
    let mut lines = vec![
        format!("{} = {}", one.name, or_dash(one.value.as_ref())),
        format!("  from     {}", one.source),
    ];
    for given in &one.hidden {
        lines.push(format!("  hides    {} ({})", given.value, given.source));
    }
    lines.push(format!("  default  {}", or_dash(one.default)));
    lines.push(format!("  values   {}", one.values));
    lines.push(format!("  changes  by {}", update(one.update)));
    lines.extend(effect(one.effect).map(|text| format!("  effect   {text}")));
    lines.push(format!("\n{}", one.documentation));
    lines.join("\n")
}

/// The setting that `key` is a misspelling of, if there is one.
fn nearest(key: &str) -> Option<&'static str> {
    let names = broker_settings()
        .chain(topic_settings())
        .map(|setting| setting.name);
    let (distance, name) = names.map(|name| (edits(key, name), name)).min()?;
    (distance <= key.len() / 3).then_some(name)
}
