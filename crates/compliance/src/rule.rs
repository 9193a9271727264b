//! A rule and the pack that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use domain::Severity;

use crate::cel::Program;
use crate::patch::Patch;
use crate::template::Template;
use crate::unread::Needs;

/// A file of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its id, unique in its ruleset.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its name for people.
    pub title: String,
    /// Where its requirements come from.
    pub source: String,
    /// What it is about.
    pub description: String,
    /// The file that it was read from.
    pub path: String,
}

/// A checked rule.
#[derive(Debug)]
pub struct Rule {
    /// Its id, unique in its ruleset.
    pub id: String,
    /// What holds when it passes, in one line.
    pub title: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// The types of node that it is about.
    pub node_types: Vec<String>,
    /// What to do about a violation.
    pub remediation: String,
    /// What can be run or applied against a violation; none where nothing fits every one.
    pub patches: Vec<Patch>,
    /// Why it matters.
    pub rationale: String,
    /// Framework id -> control ids.
    pub controls: BTreeMap<String, Vec<String>>,
    /// Further reading: addresses.
    pub references: Vec<String>,
    /// Risk of a violation on a node that is not exposed, 0 to 100.
    pub risk: u8,
    /// Id of its pack.
    pub pack: String,
    /// The condition as written.
    pub condition_text: String,
    pub(crate) when: Option<(Program, Needs)>,
    pub(crate) condition: (Program, Needs),
    pub(crate) message: Template,
    pub(crate) values: Vec<(String, Program)>,
}

impl Rule {
    /// The names of the values that a failure records.
    pub fn value_names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// The properties of a node of this type without which the rule is an error: those that the schema says how to tell were read.
    pub fn needs(&self, node_type: &str) -> BTreeSet<&str> {
        let when = self.when.iter().flat_map(|(_, needs)| needs.flagged(node_type));
        when.chain(self.condition.1.flagged(node_type)).collect()
    }
}

/// Risk of a rule that states none, by its severity.
pub(crate) const fn default_risk(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 5,
        Severity::Low => 25,
        Severity::Medium => 50,
        Severity::High => 75,
        Severity::Critical => 95,
    }
}
