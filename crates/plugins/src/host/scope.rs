//! One collector's view of the host: bounded reads that note what could not be read, and a bounded way out for what was seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::{Coverage, EdgeObservation, Limits, NodeId, NodeObservation, Page, Properties, Result, ScopeId, Tags};
use serde_json::{Value, json};
use transport::{CallError, CallTag, DirEntry, FileKind, FileStat, HostReach, Reply};

use super::text;
use crate::Sink;

/// Largest configuration file that is read; larger ones are a problem, not a fact.
const FILE_BYTES: usize = 8 * 1_024 * 1_024;
/// Observations per page: small pages keep memory flat on both sides.
const PAGE: usize = 1_000;
/// Problems that a coverage names; the rest is counted.
const PROBLEMS_NAMED: usize = 5;
/// Most paths that one pattern expands to.
const GLOB_PATHS: usize = 2_000;

/// Which machine, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The node ids' region.
    pub(crate) site: String,
    /// 16 hex digits.
    pub(crate) machine: String,
}

impl Identity {
    /// The scope of one collector.
    pub(super) fn scope(&self, collector: &str) -> Result<ScopeId> {
        format!("host:{}:{collector}", self.machine).parse()
    }

    /// The id of something on this machine; what a node id cannot hold is replaced.
    pub(super) fn node(&self, node_type: &str, resource: &str) -> Result<NodeId> {
        let resource = text::printable(resource, 800);
        NodeId::new("host", &self.site, node_type, &format!("{}/{resource}", self.machine))
    }

    /// The machine's own id.
    pub(super) fn machine_node(&self) -> Result<NodeId> {
        NodeId::new("host", &self.site, "host.machine", &self.machine)
    }
}

/// Why something was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Denied,
    Other,
}

/// Reads of one scope.
pub(super) struct Source<'a> {
    pub(super) reach: &'a dyn HostReach,
    scope: ScopeId,
    problems: Vec<(Problem, String)>,
    names: BTreeMap<u32, String>,
    group_names: BTreeMap<u32, String>,
}

impl<'a> Source<'a> {
    pub(super) fn new(reach: &'a dyn HostReach, scope: ScopeId) -> Self {
        Self { reach, scope, problems: Vec::new(), names: BTreeMap::new(), group_names: BTreeMap::new() }
    }

    /// A tag of this scope.
    pub(super) fn tag(&self, keep: bool) -> CallTag {
        CallTag { scope: self.scope.clone(), about: None, keep }
    }

    /// Notes that something was read but not understood, or not read.
    pub(super) fn problem(&mut self, what: impl Into<String>) {
        self.problems.push((Problem::Other, text::printable(&what.into(), 300)));
    }

    /// Notes a failed call; what is not there is no problem.
    pub(super) fn failed(&mut self, what: &str, error: &CallError) {
        match error {
            CallError::NotFound(_) => {}
            CallError::Denied(_) => {
                self.problems.push((Problem::Denied, text::printable(&format!("{what}: {error}"), 300)));
            }
            other => self.problem(format!("{what}: {other}")),
        }
    }

    /// How many problems there are; with [`Self::section_since`] it tells how one part went.
    pub(super) fn mark(&self) -> usize {
        self.problems.len()
    }

    /// How the part since `mark` went.
    pub(super) fn section_since(&self, mark: usize) -> &'static str {
        match self.problems.get(mark..).unwrap_or_default() {
            [] => "complete",
            some if some.iter().all(|(kind, _)| *kind == Problem::Denied) => "denied",
            _ => "partial",
        }
    }

    /// Whether everything since `mark` was read: what was not found then is not there.
    pub(super) fn read_since(&self, mark: usize) -> bool {
        self.problems.len() == mark
    }

    fn reason(&self) -> String {
        let named: Vec<&str> = self.problems.iter().take(PROBLEMS_NAMED).map(|(_, what)| what.as_str()).collect();
        let more = self.problems.len().saturating_sub(PROBLEMS_NAMED);
        if more > 0 { format!("{}; and {more} more", named.join("; ")) } else { named.join("; ") }
    }

    /// The bytes of a file, if they could be read.
    pub(super) async fn bytes(&mut self, path: &str, max: usize, keep: bool) -> Option<Reply> {
        let tag = self.tag(keep);
        match self.reach.read(path, max, &tag).await {
            Ok(reply) => Some(reply),
            Err(error) => {
                self.failed(path, &error);
                None
            }
        }
    }

    /// A configuration file's text, kept for evidence; invalid UTF-8 is replaced.
    pub(super) async fn config(&mut self, path: &str) -> Option<String> {
        self.bytes(path, FILE_BYTES, true).await.map(|reply| text::lossy(&reply.body))
    }

    /// A file's text that evidence does not need.
    pub(super) async fn peek(&mut self, path: &str, max: usize) -> Option<String> {
        self.bytes(path, max, false).await.map(|reply| text::lossy(&reply.body))
    }

    /// A one-line file of proc or sys, trimmed, whose absence or refusal says nothing.
    pub(super) async fn value(&mut self, path: &str, keep: bool) -> Option<String> {
        let tag = self.tag(keep);
        let reply = self.reach.read(path, 64 * 1_024, &tag).await.ok()?;
        Some(text::printable(text::lossy(&reply.body).trim(), 4_096))
    }

    /// A directory's entries; empty when it is not there.
    pub(super) async fn list(&mut self, path: &str) -> Vec<DirEntry> {
        let tag = self.tag(false);
        match self.reach.list(path, Some(&tag)).await {
            Ok(entries) => entries,
            Err(error) => {
                self.failed(path, &error);
                Vec::new()
            }
        }
    }

    /// `lstat`, if it is there.
    pub(super) async fn stat(&mut self, path: &str) -> Option<FileStat> {
        let tag = self.tag(true);
        match self.reach.stat(path, &tag).await {
            Ok(stat) => Some(stat),
            Err(error) => {
                self.failed(path, &error);
                None
            }
        }
    }

    /// What a path is at the end of its links (at most 16), if it is there.
    pub(super) async fn stat_followed(&mut self, path: &str) -> Option<FileStat> {
        let mut path = path.to_owned();
        for _ in 0..16 {
            let stat = self.stat(&path).await?;
            if stat.kind != FileKind::Link {
                return Some(stat);
            }
            let target = match self.reach.read_link(&path).await {
                Ok(target) => target,
                Err(error) => {
                    self.failed(&path, &error);
                    return None;
                }
            };
            path = text::join(text::parent(&path), &target);
        }
        self.problem(format!("{path}: more than 16 links deep"));
        None
    }

    /// Whether a path is there, links followed.
    pub(super) async fn exists(&mut self, path: &str) -> bool {
        self.stat_followed(path).await.is_some()
    }

    /// Whether any of the paths is there.
    pub(super) async fn any_exists(&mut self, paths: &[&str]) -> bool {
        for path in paths {
            if self.exists(path).await {
                return true;
            }
        }
        false
    }

    /// The paths that match a pattern with `*`, `?` or `[…]` in any component, sorted.
    pub(super) async fn glob(&mut self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for base in found {
                if !part.contains(['*', '?', '[']) {
                    next.push(format!("{base}/{part}"));
                    continue;
                }
                let dir = if base.is_empty() { "/" } else { &base };
                // A pattern looks into places that need not be there or be directories.
                let tag = self.tag(false);
                let entries = match self.reach.list(dir, Some(&tag)).await {
                    Ok(entries) => entries,
                    Err(error @ CallError::Denied(_)) => {
                        self.failed(dir, &error);
                        continue;
                    }
                    Err(_) => continue,
                };
                let hidden = part.starts_with('.');
                next.extend(
                    entries
                        .iter()
                        .filter(|entry| (hidden || !entry.name.starts_with('.')) && text::matches(part, &entry.name))
                        .map(|entry| format!("{base}/{}", entry.name)),
                );
            }
            if next.len() > GLOB_PATHS {
                self.problem(format!("{pattern}: more than {GLOB_PATHS} paths match"));
                next.truncate(GLOB_PATHS);
            }
            found = next;
        }
        found
    }

    /// Learns the names of owners, for [`Self::file`].
    pub(super) async fn learn_names(&mut self) {
        if let Some(passwd) = self.config("/etc/passwd").await {
            self.names = text::ids(&passwd);
        }
        if let Some(group) = self.config("/etc/group").await {
            self.group_names = text::ids(&group);
        }
    }

    /// The file object of the schema.
    pub(super) async fn file(&mut self, path: &str) -> Value {
        match self.stat_followed(path).await {
            Some(stat) => self.file_of(path, &stat),
            None => json!({ "path": path, "exists": false }),
        }
    }

    /// The file object of a known file.
    pub(super) fn file_of(&self, path: &str, stat: &FileStat) -> Value {
        let bit = |mask: u32| stat.mode & mask != 0;
        json!({
            "path": path, "exists": true, "kind": kind(stat.kind), "mode": text::octal(stat.mode),
            "uid": stat.uid, "gid": stat.gid, "owner": self.names.get(&stat.uid), "group": self.group_names.get(&stat.gid),
            "world_readable": bit(0o004), "world_writable": bit(0o002), "group_readable": bit(0o040), "group_writable": bit(0o020),
            "sticky": bit(0o1000),
        })
    }
}

/// A file kind's word.
pub(super) fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "dir",
        FileKind::Link => "link",
        FileKind::Other => "other",
    }
}

/// One collector at work: what it reads and what it shows.
pub(super) struct Scope<'a> {
    pub(super) source: Source<'a>,
    pub(super) host: Identity,
    sink: &'a mut dyn Sink,
    page: Page,
    seen: HashSet<NodeId>,
    edges: BTreeSet<(NodeId, NodeId, &'static str)>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        reach: &'a dyn HostReach,
        host: &Identity,
        collector: &str,
        sink: &'a mut dyn Sink,
    ) -> Result<Self> {
        let scope = host.scope(collector)?;
        Ok(Self {
            source: Source::new(reach, scope.clone()),
            host: host.clone(),
            sink,
            page: Page { scope, nodes: Vec::new(), edges: Vec::new() },
            seen: HashSet::new(),
            edges: BTreeSet::new(),
        })
    }

    async fn flush_if(&mut self, limit: usize) -> Result<()> {
        if self.page.nodes.len() + self.page.edges.len() < limit {
            return Ok(());
        }
        let empty = Page { scope: self.page.scope.clone(), nodes: Vec::new(), edges: Vec::new() };
        self.sink.page(std::mem::replace(&mut self.page, empty)).await
    }

    /// Shows the machine itself.
    pub(super) async fn machine(&mut self, name: &str, properties: Value) -> Result<()> {
        let id = self.host.machine_node()?;
        self.show(id, name, properties).await
    }

    /// Shows something on the machine and that the machine contains it; the first of two with one id wins.
    pub(super) async fn node(
        &mut self,
        node_type: &str,
        resource: &str,
        name: &str,
        properties: Value,
    ) -> Result<NodeId> {
        let id = self.host.node(node_type, resource)?;
        if !self.seen.contains(&id) {
            let machine = self.host.machine_node()?;
            self.show(id.clone(), name, properties).await?;
            self.edge(&machine, &id, "contains").await?;
        }
        Ok(id)
    }

    async fn show(&mut self, id: NodeId, name: &str, properties: Value) -> Result<()> {
        self.seen.insert(id.clone());
        let name = text::printable(name, 200);
        self.page.nodes.push(NodeObservation { id, name, properties: bounded(properties), tags: Tags::new() });
        self.flush_if(PAGE).await
    }

    /// Shows an edge, once.
    pub(super) async fn edge(&mut self, source: &NodeId, target: &NodeId, edge_type: &'static str) -> Result<()> {
        if self.edges.insert((source.clone(), target.clone(), edge_type)) {
            self.page.edges.push(EdgeObservation {
                source: source.clone(),
                target: target.clone(),
                edge_type: edge_type.parse()?,
                discriminator: String::new(),
                properties: Properties::new(),
            });
        }
        self.flush_if(PAGE).await
    }

    /// Hands over the rest and says how much was seen: `absent` with why, or what the problems say.
    pub(super) async fn done(mut self, absent: Option<String>) -> Result<()> {
        self.flush_if(1).await?;
        let reason = self.source.reason();
        let coverage = match absent {
            _ if self.source.problems.iter().any(|(kind, _)| *kind == Problem::Other) && self.seen.is_empty() => {
                Coverage::Failed { reason }
            }
            _ if self.source.problems.is_empty() => {
                absent.map_or(Coverage::Complete, |reason| Coverage::Absent { reason })
            }
            _ if self.seen.is_empty() => Coverage::Denied { reason },
            _ => Coverage::Partial { reason },
        };
        self.sink.scope_done(self.page.scope, coverage).await
    }
}

/// Properties without nulls, within the limit on their size whatever the host's files say.
fn bounded(value: Value) -> Properties {
    let (mut text_bytes, mut items) = (4_096, 2_000);
    loop {
        let Value::Object(map) = trimmed(value.clone(), text_bytes, items) else { return Properties::new() };
        let size = serde_json::to_vec(&map).map_or(usize::MAX, |bytes| bytes.len());
        if size <= Limits::PROPERTIES_BYTES || items < 8 {
            return map;
        }
        (text_bytes, items) = (text_bytes / 2, items / 2);
    }
}

fn trimmed(value: Value, text_bytes: usize, items: usize) -> Value {
    match value {
        Value::String(text) => Value::String(text::printable(&text, text_bytes)),
        Value::Array(list) => list.into_iter().take(items).map(|item| trimmed(item, text_bytes, items)).collect(),
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .take(items)
            .map(|(key, value)| (text::printable(&key, 200), trimmed(value, text_bytes, items)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_properties_are_cut_to_the_limit() {
        let list: Vec<Value> = (0..5_000).map(|i| Value::String(format!("{i}{}", "x".repeat(5_000)))).collect();
        let map = bounded(json!({ "list": list, "none": null, "kept": "a" }));
        assert!(serde_json::to_vec(&map).unwrap().len() <= Limits::PROPERTIES_BYTES);
        assert_eq!(map.get("kept"), Some(&json!("a")));
        assert!(!map.contains_key("none"));
    }
}
