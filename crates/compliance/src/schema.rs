//! What collectors deliver: node types, their properties two levels deep, edge types, and when a node counts as exposed. Rules are
//! checked against it, so that a misspelt property is an error of the pack and not a finding about every node.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The known names below a value; of anything else nothing is known.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Shape {
    /// These names. A list has the shape of its items.
    Fields(BTreeMap<String, Shape>),
    /// Not described.
    Any(()),
}

/// How a node shows that a property was read. Of a property without such a sign nothing is known: where it is missing, there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It is present; `null` where there is none.
    Present,
    /// `props.sections` says `complete` or `absent` of this section.
    Section(String),
    /// It is present and not this word.
    Not(String),
}

/// A schema file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "source")]
    _source: String,
    #[serde(default)]
    edges: BTreeSet<String>,
    #[serde(default)]
    types: BTreeMap<String, BTreeMap<String, Shape>>,
    #[serde(default)]
    reading: BTreeMap<String, BTreeMap<String, Reading>>,
    #[serde(default)]
    scopes: BTreeMap<String, BTreeSet<String>>,
    #[serde(default)]
    exposed_when: BTreeMap<String, String>,
}

/// Known node types, properties and edge types.
#[derive(Debug, Default)]
pub struct Schema {
    types: BTreeMap<String, BTreeMap<String, Shape>>,
    edges: BTreeSet<String>,
    reading: BTreeMap<String, BTreeMap<String, Reading>>,
    scopes: BTreeMap<String, BTreeSet<String>>,
    exposed_when: BTreeMap<String, String>,
}

impl Schema {
    /// Joins schema files, given as path and text.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, String> {
        let mut schema = Self::default();
        for (path, text) in files {
            let file: File = serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            schema.types.extend(file.types);
            schema.edges.extend(file.edges);
            schema.exposed_when.extend(file.exposed_when);
            schema.scopes.extend(file.scopes);
            for (node_type, properties) in file.reading {
                schema.reading.entry(node_type).or_default().extend(properties);
            }
        }
        for (node_type, properties) in &schema.reading {
            let known =
                schema.types.get(node_type).ok_or_else(|| format!("`reading` names the unknown type `{node_type}`"))?;
            if let Some(unknown) = properties.keys().find(|property| !known.contains_key(*property)) {
                return Err(format!("`reading` names the unknown property `{unknown}` of `{node_type}`"));
            }
        }
        if let Some(unknown) = schema.scopes.keys().find(|node_type| !schema.types.contains_key(*node_type)) {
            return Err(format!("`scopes` names the unknown type `{unknown}`"));
        }
        match schema.exposed_when.keys().find(|node_type| !schema.types.contains_key(*node_type)) {
            Some(unknown) => Err(format!("`exposed_when` names the unknown type `{unknown}`")),
            None => Ok(schema),
        }
    }

    /// Every node type with its properties.
    pub fn types(&self) -> &BTreeMap<String, BTreeMap<String, Shape>> {
        &self.types
    }

    /// Every edge type.
    pub fn edges(&self) -> &BTreeSet<String> {
        &self.edges
    }

    /// The conditions under which nodes of a type count as exposed, in CEL.
    pub fn exposed_when(&self) -> &BTreeMap<String, String> {
        &self.exposed_when
    }

    /// The names of the scopes that show nodes of a type, where they are known.
    pub fn scopes(&self, node_type: &str) -> impl Iterator<Item = &str> {
        self.scopes.get(node_type).into_iter().flatten().map(String::as_str)
    }

    /// How nodes of a type show that their properties were read.
    pub fn reading(&self, node_type: &str) -> impl Iterator<Item = (&str, &Reading)> {
        self.reading.get(node_type).into_iter().flatten().map(|(property, reading)| (property.as_str(), reading))
    }

    /// The properties of a type; `None` for a type whose names cannot be known in advance.
    pub(crate) fn properties(&self, node_type: &str) -> Option<&BTreeMap<String, Shape>> {
        self.types.get(node_type).filter(|properties| !properties.contains_key("*"))
    }

    pub(crate) fn check_type(&self, node_type: &str) -> Result<(), String> {
        if self.types.contains_key(node_type) {
            return Ok(());
        }
        let hint = suggestion(node_type, self.types.keys().map(String::as_str));
        Err(format!("no collector delivers nodes of type `{node_type}`{}", did_you_mean(hint)))
    }

    pub(crate) fn check_edge(&self, edge_type: &str) -> Result<(), String> {
        if self.edges.contains(edge_type) {
            return Ok(());
        }
        let hint = suggestion(edge_type, self.edges.iter().map(String::as_str));
        Err(format!("no collector delivers edges of type `{edge_type}`{}", did_you_mean(hint)))
    }
}

pub(crate) fn did_you_mean(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |best| format!(": did you mean `{best}`?"))
}

/// The known word that is closest to a mistaken one, if one is close.
pub(crate) fn suggestion<'c>(name: &str, known: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name: String = name.chars().take(64).collect();
    let most = 1 + name.chars().count() / 4;
    let near = known.into_iter().map(|word| (distance(&name, word), word)).filter(|(distance, _)| *distance <= most);
    near.min().map(|(_, word)| word)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_gets_the_nearest_known_one() {
        let known = ["encrypted", "enabled", "kms_key_id"];
        for (input, expect) in [
            ("encrypton", Some("encrypted")),
            ("enabld", Some("enabled")),
            ("kms_key", Some("kms_key_id")),
            ("zebra", None),
        ] {
            let expect = if input == "kms_key" { None } else { expect };
            assert_eq!(suggestion(input, known), expect, "{input}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn what_is_said_of_an_unknown_type_or_property_is_refused() {
        for text in [
            r#"{"exposed_when": {"aws.x": "true"}}"#,
            r#"{"reading": {"aws.x": {}}}"#,
            r#"{"scopes": {"aws.x": ["x.xs"]}}"#,
            r#"{"types": {"aws.y": {}}, "reading": {"aws.y": {"aws.x": "present"}}}"#,
        ] {
            let error = Schema::parse(&[("x.json", text)]).unwrap_err();
            assert!(error.contains("`aws.x`"), "{error}");
        }
    }
}
