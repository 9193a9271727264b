//! Control frameworks: which control ids exist. Titles are kept where the text is in the public domain.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A control.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Its id as its framework writes it, e.g. `AC-2(1)`.
    pub id: String,
    /// Its title; empty where the framework's text is licensed.
    #[serde(default)]
    pub title: String,
    /// Its family, e.g. `AC`.
    #[serde(default)]
    pub family: String,
    /// The baselines that select it, e.g. `low`.
    #[serde(default)]
    pub baselines: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    version: String,
    #[serde(rename = "source")]
    _source: serde_json::Value,
    controls: Vec<Control>,
}

/// A framework: its controls in its own order.
#[derive(Debug)]
pub struct Framework {
    /// Its id in packs, e.g. `nist-800-53-r5`.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// Its version.
    pub version: String,
    /// Its controls.
    pub controls: Vec<Control>,
}

/// Known frameworks by id.
#[derive(Debug, Default)]
pub struct Frameworks {
    frameworks: BTreeMap<String, (Framework, BTreeMap<String, usize>)>,
}

impl Frameworks {
    /// Reads framework files, given as path and text.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, String> {
        let mut frameworks = BTreeMap::new();
        for (path, text) in files {
            let file: File = serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            let index = file.controls.iter().enumerate().map(|(at, control)| (control.id.clone(), at)).collect();
            let File { id, title, version, controls, .. } = file;
            frameworks.insert(id.clone(), (Framework { id, title, version, controls }, index));
        }
        Ok(Self { frameworks })
    }

    /// Every framework, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Framework> {
        self.frameworks.values().map(|(framework, _)| framework)
    }

    /// A framework.
    pub fn find(&self, id: &str) -> Option<&Framework> {
        self.frameworks.get(id).map(|(framework, _)| framework)
    }

    /// A control of a framework.
    pub fn control(&self, framework: &str, id: &str) -> Option<&Control> {
        let (framework, index) = self.frameworks.get(framework)?;
        index.get(id).and_then(|at| framework.controls.get(*at))
    }
}
