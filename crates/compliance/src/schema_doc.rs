//! From the collectors' property lists in `docs/schema` to the schema that rules are checked against. Used by the example `schema`, which
//! writes `packs/schema/*.json`, and by the test that says when that was forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What the plugin `aws` adds to nodes of every type (`aws.md`).
const OF_EVERY_AWS_NODE: [&str; 2] = ["account_id", "unread"];

/// The schema file for the AWS types, from `aws-properties.md` and `aws-types.md`.
pub fn aws(properties: &str, table: &str) -> Value {
    let mut types: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut current = None;
    for line in properties.lines() {
        if let Some(node_type) = line.strip_prefix("## ") {
            current = Some(types.entry(node_type.trim()).or_default());
        } else if let (Some(entry), Some(fields)) = (line.strip_prefix("- "), current.as_mut()) {
            fields.extend(field(&entry.replace('`', "")));
        }
    }
    for fields in types.values_mut() {
        fields.extend(OF_EVERY_AWS_NODE.map(|name| (name.to_owned(), Value::Null)));
    }
    json!({ "source": "docs/schema/aws-properties.md, docs/schema/aws-types.md", "types": types, "reading": added(table), "scopes": scopes(table, "### ") })
}

/// The scopes that show nodes of each type: "scope `name`" in the heading of a type or below it. One whose name depends on what is found
/// (`packages.<manager>`) is left out.
fn scopes<'t>(text: &'t str, heading: &str) -> BTreeMap<&'t str, BTreeSet<&'t str>> {
    let mut out: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let told = match line.strip_prefix(heading) {
            Some(rest) => {
                current = rest.split_whitespace().next().filter(|word| word.contains('.'));
                rest
            }
            None if line.starts_with("scope `") => line,
            None => continue,
        };
        let name = told.split_once("scope `").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name);
        if let (Some(node_type), Some(name)) = (current, name.filter(|name| !name.contains('<'))) {
            out.entry(node_type).or_default().insert(name);
        }
    }
    out
}

/// The properties that calls of their own add: each is present when its call was answered. Deeper ones (`a[].b`) are left out.
fn added(table: &str) -> Value {
    let mut out: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut current = "";
    for line in table.lines() {
        if let Some(node_type) = line.strip_prefix("### ") {
            current = node_type.trim();
        } else if let Some(list) = line.strip_prefix("added properties: ") {
            let names = list.split('`').skip(1).step_by(2).filter(|name| is_word(name));
            out.entry(current).or_default().extend(names.map(|name| (name, "present")));
        }
    }
    json!(out)
}

/// The schema file for the types of `network-scan.md`. Its scopes are made of what was asked for, so none is known here by name.
pub fn network_scan(text: &str) -> Value {
    json!({ "source": "docs/schema/network-scan.md", "types": types(text, "network.") })
}

/// The types whose names begin so, and their properties: tables, and shapes such as `{name: type, ...}`.
fn types(text: &str, prefix: &str) -> BTreeMap<String, Map<String, Value>> {
    let mut types: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let word = heading.split_whitespace().next().unwrap_or_default();
            current = Some(word.to_owned());
            if word.starts_with(prefix) {
                types.entry(word.to_owned()).or_default();
            }
            continue;
        }
        let Some(section) = &current else { continue };
        let Some(fields) = types.get_mut(section) else { continue };
        if let Some(row) = line.strip_prefix("| ") {
            let cells: Vec<&str> = row.split(" | ").collect();
            if let [name, shape, ..] = cells.as_slice()
                && is_word(name)
                && *name != "property"
            {
                fields.extend(field(&format!("{name}: {}", shape.replace('`', ""))));
            }
        } else if line.starts_with("`{") || line.starts_with("file object") {
            let inner = line.split_once('{').map_or("", |(_, rest)| rest);
            fields.extend(fields_of(inner.split('`').next().unwrap_or_default()));
            if line.starts_with("file object") {
                let object = text.lines().find(|line| line.starts_with("**File object**")).unwrap_or_default();
                fields.extend(fields_of(object.split_once('{').map_or("", |(_, rest)| rest)));
            }
        }
    }
    types
}

/// The schema file for the host types: `host.md`.
pub fn host(text: &str) -> Value {
    let types = types(text, "host.");
    let mut reading = BTreeMap::from([("host.machine", sections(text))]);
    for line in text.lines().filter(|line| line.starts_with("| `host.")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, node_type, properties, sign, ..] = cells.as_slice() else { continue };
        let sign = sign.split_once('`').map_or(json!("present"), |(_, word)| json!({ "not": word }));
        let properties = properties.split(", ").map(|property| (property.to_owned(), sign.clone()));
        reading.entry(node_type).or_default().extend(properties);
    }
    json!({ "source": "docs/schema/host.md", "types": types, "reading": reading, "scopes": scopes(text, "## ") })
}

/// The schema file for the SNMP types: `snmp.md`.
pub fn snmp(text: &str) -> Value {
    let mut types: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            current = heading.split_whitespace().next().filter(|word| word.starts_with("snmp."));
        } else if let (Some(node_type), Some(inner)) = (current, line.strip_prefix("`{")) {
            types.entry(node_type).or_default().extend(fields_of(inner.split('`').next().unwrap_or_default()));
        }
    }
    json!({ "source": "docs/schema/snmp.md", "types": types, "reading": {}, "scopes": scopes(text, "## ") })
}

/// The properties of `host.machine` that a section of the same name tells about, and those that belong to one.
fn sections(text: &str) -> Map<String, Value> {
    let row = text.lines().find(|line| line.starts_with("| sections |")).unwrap_or_default();
    let names = row.split('`').find(|part| part.contains("sshd ")).unwrap_or_default();
    let own = names.split_whitespace().map(|name| (name, name));
    own.chain([("sysctl_configured", "sysctl")])
        .map(|(name, section)| (name.to_owned(), json!({ "section": section })))
        .collect()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The fields up to the brace that closes the one before `text`.
fn fields_of(text: &str) -> Map<String, Value> {
    let mut out = Map::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in text.char_indices() {
        let ends = depth == 0 && matches!(c, ',' | '}');
        if ends {
            out.extend(field(text.get(start..at).unwrap_or_default()));
            start = at + 1;
        }
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth == 0 => break,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    out
}

/// `name: type`, `name[] {…}`, `name {a, b}`: the name and the shape below it; nothing is known below a map or a file object.
fn field(text: &str) -> Option<(String, Value)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '*')).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    let opaque =
        rest.contains("map ") || rest.contains("map,") || rest.ends_with("map") || rest.contains("file object");
    let below = match rest.split_once('{') {
        Some((_, inner)) if !opaque && !inner.starts_with("...") => fields_of(inner),
        _ => Map::new(),
    };
    Some((name.to_owned(), if below.is_empty() { Value::Null } else { Value::Object(below) }))
}
