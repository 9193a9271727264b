//! From a YAML file to a pack and its rules. Reading goes on after an error, so that one look shows all of them.

use std::collections::BTreeMap;

use domain::Severity;

use crate::cel::{CelError, Program, Scope};
use crate::patch::{Form, Patch};
use crate::rule::{Pack, Rule, default_risk};
use crate::ruleset::{Catalog, PackError};
use crate::schema::{did_you_mean, suggestion};
use crate::template::Template;
use crate::unread::Needs;
use crate::yaml::{self, Kind, Place, Tree};

/// Largest pack file, in bytes.
const FILE_BYTES: usize = 1_024 * 1_024;
/// Most rules in a pack.
const RULES: usize = 5_000;

const PACK_KEYS: [&str; 5] = ["id", "version", "title", "source", "description"];
const PATCH_KEYS: [&str; 3] = ["form", "where", "text"];
const RULE_KEYS: [&str; 14] = [
    "id",
    "title",
    "severity",
    "node_type",
    "when",
    "condition",
    "message",
    "values",
    "remediation",
    "patch",
    "rationale",
    "controls",
    "references",
    "risk",
];

/// What was read of one file.
pub(crate) struct Read {
    pub(crate) pack: Pack,
    pub(crate) pack_place: Place,
    pub(crate) rules: Vec<(Rule, Place)>,
}

/// Reads a file; what is wrong goes to `errors`.
pub(crate) fn read(catalog: &Catalog, path: &str, text: &str, errors: &mut Vec<PackError>) -> Option<Read> {
    let mut reader = Reader { catalog, path, text, errors };
    if text.len() > FILE_BYTES {
        reader.error(Place { line: 1, column: 1 }, format!("the file is larger than {FILE_BYTES} bytes: split it"));
        return None;
    }
    match yaml::parse(text) {
        Ok(tree) => reader.file(&tree),
        Err((place, message)) => {
            reader.error(place, message);
            None
        }
    }
}

struct Reader<'r> {
    catalog: &'r Catalog,
    path: &'r str,
    text: &'r str,
    errors: &'r mut Vec<PackError>,
}

type Entries<'t> = BTreeMap<&'t str, &'t Tree>;

impl Reader<'_> {
    fn error(&mut self, place: Place, message: impl Into<String>) {
        let Place { line, column } = place;
        let place = Place { line: line.max(1), column: column.max(1) };
        self.errors.push(PackError {
            file: self.path.to_owned(),
            line: place.line,
            column: place.column,
            message: message.into(),
        });
    }

    fn cel_error(&mut self, tree: &Tree, text: &str, error: &CelError) {
        let place = yaml::place_within(self.text, tree.place, text, error.at);
        self.error(place, error.message.clone());
    }

    fn entries<'t>(&mut self, tree: &'t Tree, what: &str, known: &[&str]) -> Option<Entries<'t>> {
        let Kind::Map(entries) = &tree.kind else {
            self.error(tree.place, format!("{what} is a map, not {}", tree.kind.name()));
            return None;
        };
        let mut out = BTreeMap::new();
        for (key, place, value) in entries {
            if known.contains(&key.as_str()) {
                out.insert(key.as_str(), value);
            } else {
                let hint = did_you_mean(suggestion(key, known.iter().copied()));
                let hint = if hint.is_empty() { format!(": it has {}", known.join(", ")) } else { hint };
                self.error(*place, format!("{what} has no `{key}`{hint}"));
            }
        }
        Some(out)
    }

    fn words<'t>(&mut self, tree: &'t Tree, key: &str) -> Option<&'t str> {
        match &tree.kind {
            Kind::Text(text) if text.trim().is_empty() => self.error(tree.place, format!("`{key}` is empty")),
            Kind::Text(text) => return Some(text.trim_end()),
            Kind::Int(_) | Kind::Float | Kind::Bool => {
                self.error(tree.place, format!("`{key}` is text: put quotes around this"));
            }
            other => self.error(tree.place, format!("`{key}` is text, not {}", other.name())),
        }
        None
    }

    fn required<'t>(&mut self, of: &Tree, entries: &Entries<'t>, what: &str, key: &str) -> Option<&'t Tree> {
        let found = entries.get(key).copied();
        if found.is_none() {
            self.error(of.place, format!("{what} has no `{key}`: add it"));
        }
        found
    }

    fn required_words<'t>(&mut self, of: &Tree, entries: &Entries<'t>, what: &str, key: &str) -> Option<&'t str> {
        let tree = self.required(of, entries, what, key)?;
        self.words(tree, key)
    }

    fn optional_words(&mut self, entries: &Entries<'_>, key: &str) -> String {
        entries.get(key).and_then(|tree| self.words(tree, key)).unwrap_or_default().to_owned()
    }

    fn identifier(&mut self, of: &Tree, entries: &Entries<'_>, what: &str) -> Option<String> {
        let tree = self.required(of, entries, what, "id")?;
        let id = self.words(tree, "id")?;
        let valid = id.len() <= 100
            && id.split('-').all(|word| !word.is_empty())
            && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !valid {
            self.error(tree.place, format!("`{}` is no id: use at most 100 of a-z, 0-9 and -", id.escape_debug()));
            return None;
        }
        Some(id.to_owned())
    }

    /// One text or a list of them.
    fn list<'t>(&mut self, tree: &'t Tree, key: &str) -> Vec<(&'t str, &'t Tree)> {
        let items: &[Tree] = match &tree.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(tree),
        };
        items.iter().filter_map(|item| self.words(item, key).map(|words| (words, item))).collect()
    }

    fn file(&mut self, tree: &Tree) -> Option<Read> {
        let entries = self.entries(tree, "a pack file", &["pack", "rules"])?;
        let pack_tree = self.required(tree, &entries, "the file", "pack");
        let pack = pack_tree.and_then(|tree| self.pack(tree).map(|pack| (pack, tree.place)));
        let pack_id = pack.as_ref().map(|(pack, _)| pack.id.clone()).unwrap_or_default();
        let rules_tree = self.required(tree, &entries, "the file", "rules")?;
        let mut rules = Vec::new();
        match &rules_tree.kind {
            Kind::List(items) if items.len() > RULES => {
                self.error(rules_tree.place, format!("the pack has more than {RULES} rules: split it"));
            }
            Kind::List(items) => {
                rules.extend(items.iter().filter_map(|item| self.rule(item, &pack_id)));
            }
            other => self.error(rules_tree.place, format!("`rules` is a list, not {}", other.name())),
        }
        let (pack, pack_place) = pack?;
        Some(Read { pack, pack_place, rules })
    }

    fn pack(&mut self, tree: &Tree) -> Option<Pack> {
        let entries = self.entries(tree, "a pack", &PACK_KEYS)?;
        let id = self.identifier(tree, &entries, "the pack");
        let version = self.required_words(tree, &entries, "the pack", "version");
        let title = self.required_words(tree, &entries, "the pack", "title");
        let (source, description) =
            (self.optional_words(&entries, "source"), self.optional_words(&entries, "description"));
        let (version, title) = (version?.to_owned(), title?.to_owned());
        Some(Pack { id: id?, version, title, source, description, path: self.path.to_owned() })
    }

    fn program(&mut self, tree: &Tree, key: &str, scope: Scope<'_>) -> Option<Program> {
        let text = self.words(tree, key)?;
        Program::compile(text, scope).map_err(|error| self.cel_error(tree, text, &error)).ok()
    }

    /// Every part is read before the first missing one ends it, so that all errors of the rule are seen.
    fn rule(&mut self, tree: &Tree, pack: &str) -> Option<(Rule, Place)> {
        let entries = self.entries(tree, "a rule", &RULE_KEYS)?;
        let id_place = entries.get("id").map_or(tree.place, |id| id.place);
        let id = self.identifier(tree, &entries, "the rule");
        let title = self.required_words(tree, &entries, "the rule", "title").map(str::to_owned);
        let severity = self.severity(tree, &entries);
        let node_types = self.node_types(tree, &entries);
        // Without types nothing is known about properties: only syntax is checked then.
        let types = node_types.as_deref().unwrap_or_default();
        let scope = Scope { schema: Some(&self.catalog.schema), node_types: types };
        let when = entries.get("when").map(|when| self.program(when, "when", scope));
        let condition_tree = self.required(tree, &entries, "the rule", "condition");
        let condition_text = condition_tree
            .and_then(|tree| if let Kind::Text(text) = &tree.kind { Some(text.trim().to_owned()) } else { None });
        let condition = condition_tree.and_then(|condition| self.program(condition, "condition", scope));
        let message = self.required(tree, &entries, "the rule", "message").and_then(|message| {
            let text = self.words(message, "message")?;
            Template::compile(text, scope).map_err(|error| self.cel_error(message, text, &error)).ok()
        });
        let values = entries.get("values").map_or_else(|| Some(Vec::new()), |values| self.values(values, scope));
        let remediation = self.required_words(tree, &entries, "the rule", "remediation").map(str::to_owned);
        let names: Vec<&str> = values.iter().flatten().map(|(name, _)| name.as_str()).collect();
        // Where the values are wrong, what a patch may name is not known.
        let checked = entries.get("patch").filter(|_| values.is_some());
        let patches = checked.map_or_else(|| Some(Vec::new()), |patch| self.patches(patch, &names));
        let rationale = self.optional_words(&entries, "rationale");
        let controls = self.required(tree, &entries, "the rule", "controls").map(|controls| self.controls(controls));
        let references = entries.get("references").map(|list| self.list(list, "references")).unwrap_or_default();
        let references = references.into_iter().map(|(text, _)| text.to_owned()).collect();
        let risk = match entries.get("risk") {
            None => severity.map(default_risk),
            Some(risk) => self.risk(risk),
        };
        let when = match when {
            None => None,
            Some(program) => Some(program?),
        };
        let (node_types, condition) = (node_types?, condition?);
        let programs = || when.iter().chain([&condition]);
        let tested = programs().flat_map(|program| program.reads().tested.iter().cloned()).collect();
        let needs = |program: Program| {
            let needs = Needs::new(&self.catalog.schema, &node_types, &program, &tested);
            (program, needs)
        };
        let rule = Rule {
            id: id?,
            title: title?,
            severity: severity?,
            remediation: remediation?,
            patches: patches?,
            rationale,
            controls: controls?,
            references,
            risk: risk?,
            pack: pack.to_owned(),
            condition_text: condition_text?,
            when: when.map(needs),
            condition: needs(condition),
            node_types,
            message: message?,
            values: values?,
        };
        Some((rule, id_place))
    }

    /// One patch or a list of them.
    fn patches(&mut self, tree: &Tree, values: &[&str]) -> Option<Vec<Patch>> {
        let items: &[Tree] = match &tree.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(tree),
        };
        let patches: Vec<Option<Patch>> = items.iter().map(|item| self.patch(item, values)).collect();
        patches.into_iter().collect()
    }

    fn patch(&mut self, tree: &Tree, values: &[&str]) -> Option<Patch> {
        let entries = self.entries(tree, "a patch", &PATCH_KEYS)?;
        let form = self.required(tree, &entries, "the patch", "form").and_then(|form| {
            let words = self.words(form, "form")?;
            Form::parse(words).map_err(|message| self.error(form.place, message)).ok()
        });
        let place = self.required_words(tree, &entries, "the patch", "where");
        let text_tree = self.required(tree, &entries, "the patch", "text")?;
        let text = self.words(text_tree, "text")?;
        let (form, place) = (form?, place?);
        Patch::compile(form, place, text, values)
            .map_err(|(at, message)| self.cel_error(text_tree, text, &CelError { at, message }))
            .ok()
    }

    fn severity(&mut self, of: &Tree, entries: &Entries<'_>) -> Option<Severity> {
        let tree = self.required(of, entries, "the rule", "severity")?;
        let words = self.words(tree, "severity")?;
        words.parse().map_err(|error: domain::Error| self.error(tree.place, error.to_string())).ok()
    }

    fn risk(&mut self, tree: &Tree) -> Option<u8> {
        let risk = match tree.kind {
            Kind::Int(risk) => u8::try_from(risk).ok().filter(|risk| *risk <= 100),
            _ => None,
        };
        if risk.is_none() {
            self.error(tree.place, "`risk` is a whole number from 0 to 100");
        }
        risk
    }

    fn node_types(&mut self, of: &Tree, entries: &Entries<'_>) -> Option<Vec<String>> {
        let tree = self.required(of, entries, "the rule", "node_type")?;
        let list = self.list(tree, "node_type");
        let mut out: Vec<String> = Vec::new();
        let mut complete = !list.is_empty();
        for (node_type, item) in list {
            if let Err(message) = self.catalog.schema.check_type(node_type) {
                self.error(item.place, message);
                complete = false;
            } else if out.iter().any(|other| other == node_type) {
                self.error(item.place, format!("`{node_type}` is listed twice"));
            } else {
                out.push(node_type.to_owned());
            }
        }
        complete.then_some(out)
    }

    fn values(&mut self, tree: &Tree, scope: Scope<'_>) -> Option<Vec<(String, Program)>> {
        let Kind::Map(entries) = &tree.kind else {
            self.error(tree.place, format!("`values` is a map of names to CEL, not {}", tree.kind.name()));
            return None;
        };
        let programs = entries.iter().map(|(name, _, tree)| Some((name.clone(), self.program(tree, "values", scope)?)));
        // Collected first as options: an early end would hide later errors.
        programs.collect::<Vec<Option<_>>>().into_iter().collect()
    }

    fn controls(&mut self, tree: &Tree) -> BTreeMap<String, Vec<String>> {
        let mut out = BTreeMap::new();
        let Kind::Map(entries) = &tree.kind else {
            self.error(
                tree.place,
                format!("`controls` is a map of frameworks to control ids, not {}", tree.kind.name()),
            );
            return out;
        };
        if entries.is_empty() {
            self.error(tree.place, "`controls` is empty: map the rule to at least one control");
        }
        for (framework, place, list) in entries {
            let frameworks = &self.catalog.frameworks;
            if frameworks.find(framework).is_none() {
                let known: Vec<&str> = frameworks.iter().map(|framework| framework.id.as_str()).collect();
                self.error(*place, format!("there is no framework `{framework}`: known are {}", known.join(", ")));
                continue;
            }
            let mut ids: Vec<String> = Vec::new();
            for (id, item) in self.list(list, "controls") {
                if self.catalog.frameworks.control(framework, id).is_none() {
                    self.error(item.place, format!("`{framework}` has no control `{id}`"));
                } else if ids.iter().any(|other| other == id) {
                    self.error(item.place, format!("control `{id}` is listed twice"));
                } else {
                    ids.push(id.to_owned());
                }
            }
            out.insert(framework.clone(), ids);
        }
        out
    }
}
