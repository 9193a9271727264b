//! A set of packs that is valid as a whole.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use domain::Digest;

use crate::cel::{Program, Scope};
use crate::framework::Frameworks;
use crate::pack;
use crate::rule::{Pack, Rule};
use crate::schema::Schema;

/// Most errors that are reported at once.
const ERRORS: usize = 200;

/// What rules are checked against.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Node types and properties.
    pub schema: Schema,
    /// Frameworks and controls.
    pub frameworks: Frameworks,
}

/// What is wrong with a pack, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct PackError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// What to change.
    pub message: String,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Valid rules. Sorted by id; replaced as a whole or not at all.
#[derive(Debug)]
pub struct Ruleset {
    packs: Vec<Pack>,
    rules: Vec<Rule>,
    digest: Digest,
    pub(crate) exposed_when: BTreeMap<String, Program>,
}

impl Ruleset {
    /// The packs, by id.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// The rules, by id.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.binary_search_by(|rule| rule.id.as_str().cmp(id)).ok().and_then(|at| self.rules.get(at))
    }

    /// The SHA-256 of all files: what an evaluation was made with.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Reads packs, given as path and text. The order of the files does not matter. `sha256` is the hash function (`crypto` has it).
///
/// On error there is no ruleset: the caller goes on with the one it has.
pub fn load(
    catalog: &Catalog,
    files: &[(&str, &str)],
    sha256: impl FnOnce(&[u8]) -> Digest,
) -> Result<Ruleset, Vec<PackError>> {
    let mut files = files.to_vec();
    files.sort_unstable();
    let mut errors = Vec::new();
    let (mut packs, mut rules): (Vec<Pack>, Vec<Rule>) = (Vec::new(), Vec::new());
    let mut seen_packs: HashMap<String, String> = HashMap::new();
    let mut seen_rules: HashMap<String, String> = HashMap::new();
    for (path, text) in &files {
        let Some(read) = pack::read(catalog, path, text, &mut errors) else { continue };
        let mut duplicate = |place: crate::yaml::Place, what: &str, id: &str, first: &str| {
            let message = format!("{what} `{id}` exists already in {first}: give it another id");
            errors.push(PackError { file: (*path).to_owned(), line: place.line, column: place.column, message });
        };
        let place = |place: crate::yaml::Place| format!("{path}:{}", place.line);
        if let Some(first) = seen_packs.insert(read.pack.id.clone(), place(read.pack_place)) {
            duplicate(read.pack_place, "pack", &read.pack.id, &first);
        }
        for (rule, at) in read.rules {
            if let Some(first) = seen_rules.get(&rule.id) {
                duplicate(at, "rule", &rule.id, first);
            } else {
                seen_rules.insert(rule.id.clone(), place(at));
                rules.push(rule);
            }
        }
        packs.push(read.pack);
    }
    let mut exposed_when = BTreeMap::new();
    for (node_type, text) in catalog.schema.exposed_when() {
        let scope = Scope { schema: Some(&catalog.schema), node_types: std::slice::from_ref(node_type) };
        match Program::compile(text, scope) {
            Ok(program) => {
                exposed_when.insert(node_type.clone(), program);
            }
            Err(error) => errors.push(PackError {
                file: format!("exposed_when of {node_type}"),
                line: 1,
                column: u64::try_from(error.at + 1).unwrap_or(1),
                message: error.message,
            }),
        }
    }
    if !errors.is_empty() {
        errors.sort();
        errors.truncate(ERRORS);
        return Err(errors);
    }
    packs.sort_by(|a, b| a.id.cmp(&b.id));
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    // Lengths keep two sets apart whose texts only together are equal.
    let mut bytes = Vec::new();
    for (path, text) in &files {
        bytes.extend_from_slice(format!("{} {}\n{path}\n{text}\n", path.len(), text.len()).as_bytes());
    }
    Ok(Ruleset { packs, rules, digest: sha256(&bytes), exposed_when })
}
