//! One collector's run: what it shows now against what was said last, and the difference as a part of a report.
//!
//! [`Source`] is the seam for other systems: Linux has one; macOS and Windows get theirs when there are plugins for them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use crypto::system::SystemClock;
use domain::{Clock, Coverage, CredentialId, Digest, Error, Page, Result, ScopeId, Timestamp};
use inventory::{EdgeKey, Held, NodeKey, Prepared};
use plugins::{HostPlugin, JobConfig, Plugin, Sink, TaskSpec};
use serde_json::{Value, json};
use transport::{AwsReach, CallRecord, HostReach, LocalHost, Reach, Recorder};
use wire::report::{ARTIFACT_BYTES, Scope};

use crate::memory::{Memory, Said};
use crate::report::{Items, Part};

/// Most bytes of changed items of one scope in one report: what is over it is left for another, and the scope is not called complete.
const ITEMS_BYTES: usize = 6 * 1_024 * 1_024;
/// Most bytes of kept replies that one scope sends along.
const ARTIFACTS_BYTES: usize = 256 * 1_024;
/// The collectors of the `host` plugin, and the package managers that it asks: each is one scope, and runs by itself.
const COLLECTORS: &[&str] =
    &["machine", "accounts", "sudo", "mounts", "ports", "services", "packages", "firewall", "connections", "integrity"];
const MANAGERS: &[&str] = &["dpkg", "rpm", "apk", "pip", "npm", "cargo", "gem", "go"];

/// What can be collected on this system.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// The machine: 16 hex digits.
    fn machine(&self) -> &str;
    /// The scopes that it shows.
    fn scopes(&self) -> &[String];
    /// Collects one of them.
    async fn collect(&self, scope: &str, sink: &mut dyn Sink) -> Result<()>;
    /// The calls that were made for a scope since the last time.
    fn calls(&self, scope: &ScopeId) -> Vec<CallRecord>;
    /// SHA-256 of the settings.
    fn settings(&self) -> Digest;
}

/// This machine under Linux.
pub(crate) struct LinuxHost {
    machine: String,
    settings: JobConfig,
    scopes: Vec<String>,
    reach: Local,
    recorder: Arc<Recorder>,
}

struct Local(LocalHost);

impl Reach for Local {
    fn aws(&self) -> Option<&dyn AwsReach> {
        None
    }
    fn host(&self) -> Option<&dyn HostReach> {
        Some(&self.0)
    }
    fn credential(&self) -> Option<CredentialId> {
        None
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// The texts of a list among the settings, which the plugin has checked; all without one.
fn chosen(settings: &JobConfig, key: &str, all: &[&str]) -> Vec<String> {
    let asked: Option<Vec<&str>> =
        settings.get(key).and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_str).collect());
    all.iter()
        .filter(|name| asked.as_ref().is_none_or(|asked| asked.contains(name)))
        .map(|name| (*name).to_owned())
        .collect()
}

impl LinuxHost {
    /// Finds out which machine this is.
    pub(crate) async fn open(settings: JobConfig) -> Result<Self> {
        HostPlugin.check(&settings)?;
        let recorder = Arc::new(Recorder::default());
        let named = LocalHost::new(Arc::new(SystemClock), Arc::clone(&recorder), "local".to_owned());
        let tasks = HostPlugin.plan(&settings, &Local(named)).await?;
        let machine =
            tasks.into_iter().next().map(|task| task.key).ok_or_else(|| Error::internal("no task was planned"))?;
        let reach = Local(LocalHost::new(Arc::new(SystemClock), Arc::clone(&recorder), machine.clone()));
        let managers = chosen(&settings, "package_managers", MANAGERS);
        let scopes = chosen(&settings, "collectors", COLLECTORS).into_iter().flat_map(|name| match name.as_str() {
            "packages" => managers.iter().map(|manager| format!("packages.{manager}")).collect(),
            _ => vec![name],
        });
        Ok(Self { machine, scopes: scopes.collect(), settings, reach, recorder })
    }
}

#[async_trait]
impl Source for LinuxHost {
    fn machine(&self) -> &str {
        &self.machine
    }

    fn scopes(&self) -> &[String] {
        &self.scopes
    }

    async fn collect(&self, scope: &str, sink: &mut dyn Sink) -> Result<()> {
        let mut settings = self.settings.clone();
        match scope.strip_prefix("packages.") {
            Some(manager) => {
                settings.insert("collectors".to_owned(), json!(["packages"]));
                settings.insert("package_managers".to_owned(), json!([manager]));
            }
            None => _ = settings.insert("collectors".to_owned(), json!([scope])),
        }
        let params = [("machine".to_owned(), self.machine.clone().into()), ("config".to_owned(), settings.into())];
        let task = TaskSpec { key: self.machine.clone(), params: params.into_iter().collect() };
        HostPlugin.run(&task, &self.reach, sink).await
    }

    fn calls(&self, scope: &ScopeId) -> Vec<CallRecord> {
        // What was read to find out which machine this is belongs to no scope.
        if let Ok(planning) = "host:plan".parse() {
            self.recorder.take(&planning);
        }
        self.recorder.take(scope)
    }

    fn settings(&self) -> Digest {
        crypto::sha256(Value::Object(self.settings.clone()).to_string().as_bytes())
    }
}

/// What a run of one collector says.
pub(crate) struct Collected {
    /// The scope.
    pub(crate) name: String,
    /// What there is to say; nothing when nothing changed.
    pub(crate) part: Option<Part>,
    /// What will have been said then.
    pub(crate) said: Said,
}

/// Compares what is shown with what was said.
struct Comparing<'a> {
    source: &'a dyn Source,
    clock: &'a dyn Clock,
    name: &'a str,
    base: Option<&'a Said>,
    earlier: Option<&'a Said>,
    now: Held,
    items: Items,
    room: Room,
    overflow: bool,
    done: Option<(Option<Part>, Said)>,
}

impl Comparing<'_> {
    fn take(&mut self, page: &Page) -> Result<()> {
        // Keys and hashes of what is shown do not depend on who shows it; the server knows this agent as its source.
        let prepared = Prepared::new(&domain::SourceId::plugin("agent")?, page)?;
        // Of two with one key the first counts, as it does at the server.
        let hashes: HashMap<_, _> = prepared.nodes.iter().map(|item| (item.key, item.hash)).collect();
        for node in &page.nodes {
            let key = NodeKey::of(&node.id);
            let (Some(hash), false) = (hashes.get(&key), self.now.nodes.contains_key(&key)) else { continue };
            let is_same = self.base.is_some_and(|said| said.held.nodes.get(&key) == Some(hash));
            if !is_same {
                if self.items.len() > self.room.items {
                    self.overflow = true;
                    continue;
                }
                self.items.node(node).map_err(Error::internal)?;
            }
            self.now.nodes.insert(key, *hash);
        }
        let hashes: HashMap<_, _> = prepared.edges.iter().map(|item| (item.key, item.hash)).collect();
        for edge in &page.edges {
            let (source, target) = (NodeKey::of(&edge.source), NodeKey::of(&edge.target));
            let key = EdgeKey::of(source, &edge.edge_type, target, &edge.discriminator);
            let (Some(hash), false) = (hashes.get(&key), self.now.edges.contains_key(&key)) else { continue };
            let is_same = self.base.is_some_and(|said| said.held.edges.get(&key) == Some(hash));
            if !is_same {
                if self.items.len() > self.room.items {
                    self.overflow = true;
                    continue;
                }
                self.items.edge(edge).map_err(Error::internal)?;
            }
            self.now.edges.insert(key, *hash);
        }
        Ok(())
    }

    fn end(&mut self, scope: &ScopeId, mut coverage: Coverage) -> Result<()> {
        if self.overflow {
            coverage =
                Coverage::Partial { reason: "it is larger than one report: the rest comes with the next".to_owned() };
        }
        let calls = self.source.calls(scope);
        let mut now = std::mem::take(&mut self.now);
        let (mut gone_nodes, mut gone_edges) = (Vec::new(), Vec::new());
        if let Some(base) = self.base {
            if coverage.may_close() {
                gone_nodes = base.held.nodes.keys().filter(|key| !now.nodes.contains_key(key)).copied().collect();
                gone_edges = base.held.edges.keys().filter(|key| !now.edges.contains_key(key)).copied().collect();
            } else {
                now.keep(&base.held);
            }
        }
        let digest = now.digest(&coverage);
        if let Some(base) = self.base.filter(|base| base.digest == digest) {
            self.done = Some((None, base.clone()));
            return Ok(());
        }
        // Of a reply that was sent along before, the digest is enough: also where the scope is told anew, the server has the bytes.
        let before = self.earlier.map(|said| &said.artifacts);
        let (mut artifacts, mut sent, mut room) = (Vec::new(), std::collections::BTreeSet::new(), self.room.artifacts);
        for record in &calls {
            let (Some(bytes), Ok(response)) = (&record.kept, &record.outcome) else { continue };
            if before.is_some_and(|before| before.contains(&response.digest)) {
                sent.insert(response.digest);
            } else if bytes.len() <= ARTIFACT_BYTES.min(room) && sent.insert(response.digest) {
                room -= bytes.len();
                artifacts.push(&**bytes);
            }
        }
        let at: Timestamp = self.clock.now();
        let head = Scope {
            name: self.name.to_owned(),
            base: self.base.map(|base| base.digest),
            digest,
            coverage: coverage.clone(),
            nodes: now.nodes.len() as u64,
            edges: now.edges.len() as u64,
            calls: calls.len() as u64,
            started: calls.iter().map(|call| call.started).min().unwrap_or(at),
            finished: calls.iter().map(|call| call.finished).max().unwrap_or(at),
        };
        let items = std::mem::take(&mut self.items);
        let told = calls.get(..calls.len().min(self.room.items / 256)).unwrap_or_default();
        let part = items.finish(head, (&gone_nodes, &gone_edges), told, &artifacts).map_err(Error::internal)?;
        self.done = Some((Some(part), Said { held: now, coverage, digest, artifacts: sent }));
        Ok(())
    }
}

#[async_trait]
impl Sink for Comparing<'_> {
    async fn page(&mut self, page: Page) -> Result<()> {
        self.take(&page)
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.end(&scope, coverage)
    }

    fn progress(&mut self, _done: u64, _total: u64, _what: &str) {}
}

/// How much of a report one scope may fill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    items: usize,
    artifacts: usize,
}

impl Room {
    /// What fits nearly always.
    pub(crate) const USUAL: Self = Self { items: ITEMS_BYTES, artifacts: ARTIFACTS_BYTES };
    /// What fits always: text that does not get smaller when it is packed.
    pub(crate) const LEAST: Self = Self { items: ITEMS_BYTES / 64, artifacts: 0 };
}

/// Runs one collector and says what changed.
pub(crate) async fn collect(
    source: &dyn Source,
    name: &str,
    memory: &Memory,
    room: Room,
    clock: &dyn Clock,
) -> Result<Collected> {
    let mut comparing = Comparing {
        source,
        clock,
        name,
        base: memory.base(name),
        earlier: memory.said(name),
        now: Held::default(),
        items: Items::default(),
        room,
        overflow: false,
        done: None,
    };
    source.collect(name, &mut comparing).await?;
    let (part, said) = comparing.done.ok_or_else(|| Error::internal(format!("`{name}` was not collected")))?;
    Ok(Collected { name: name.to_owned(), part, said })
}

/// SHA-256 of the running program.
pub(crate) fn own_digest() -> std::io::Result<Digest> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(Path::new("/proc/self/exe"))?;
    let (mut hash, mut piece) = (crypto::Sha256::new(), vec![0u8; 64 * 1_024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            length => hash.update(piece.get(..length).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use domain::{NodeObservation, Properties};
    use wire::report::Line;

    use super::*;

    /// A machine that shows what the test says.
    #[derive(Default)]
    struct Scripted {
        nodes: Mutex<Vec<(u32, &'static str)>>,
        partial: Mutex<bool>,
    }

    impl Scripted {
        fn shows(&self, nodes: &[(u32, &'static str)], partial: bool) {
            *self.nodes.lock().unwrap() = nodes.to_vec();
            *self.partial.lock().unwrap() = partial;
        }
    }

    #[async_trait]
    impl Source for Scripted {
        fn machine(&self) -> &'static str {
            "00112233445566aa"
        }
        fn scopes(&self) -> &[String] {
            &[]
        }
        async fn collect(&self, _: &str, sink: &mut dyn Sink) -> Result<()> {
            let scope: ScopeId = "host:00112233445566aa:sudo".parse()?;
            let nodes = self.nodes.lock().unwrap().clone();
            let node = |(id, value): (u32, &str)| {
                let properties = Properties::from_iter([("v".to_owned(), value.into())]);
                let id = format!("host:local:host.file:00112233445566aa/{id}").parse().unwrap();
                NodeObservation { id, name: "n".to_owned(), properties, tags: [].into() }
            };
            let nodes: Vec<_> = nodes.into_iter().map(node).collect();
            let edges = nodes.windows(2).map(|pair| domain::EdgeObservation {
                source: pair[0].id.clone(),
                target: pair[1].id.clone(),
                edge_type: "contains".parse().unwrap(),
                discriminator: String::new(),
                properties: Properties::new(),
            });
            let edges: Vec<_> = edges.filter(|edge| edge.source != edge.target).collect();
            for nodes in nodes.chunks(3) {
                let (scope, edges) = (scope.clone(), edges.clone());
                sink.page(Page { scope, nodes: nodes.to_vec(), edges }).await?;
            }
            let partial = *self.partial.lock().unwrap();
            let reason = "denied".to_owned();
            sink.scope_done(scope, if partial { Coverage::Partial { reason } } else { Coverage::Complete }).await
        }
        fn calls(&self, _: &ScopeId) -> Vec<CallRecord> {
            Vec::new()
        }
        fn settings(&self) -> Digest {
            Digest([0; 32])
        }
    }

    /// Nodes that are told, keys that are told to be gone, and whether the whole is told; nothing when nothing is.
    async fn said(source: &Scripted, memory: &mut Memory) -> Option<(usize, usize, bool)> {
        let collected = collect(source, "sudo", memory, Room::USUAL, &SystemClock).await.unwrap();
        memory.keep("sudo", collected.said, None).unwrap();
        let part = collected.part?;
        let lines = std::str::from_utf8(part.text()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap());
        let (mut told, mut gone, mut whole) = (0, 0, false);
        for line in lines {
            match line {
                Line::Scope(scope) => whole = scope.base.is_none(),
                Line::Page(page) => told += page.nodes.len(),
                Line::Gone(keys) => gone += keys.nodes.len(),
                other => panic!("{other:?}"),
            }
        }
        Some((told, gone, whole))
    }

    #[tokio::test]
    async fn the_first_report_tells_the_whole_and_later_ones_what_changed() {
        let (source, mut memory) = (Scripted::default(), Memory::default());
        source.shows(&[(1, "a"), (2, "b"), (2, "again")], false);
        assert_eq!(said(&source, &mut memory).await, Some((2, 0, true)));
        assert_eq!(said(&source, &mut memory).await, None);
        source.shows(&[(1, "a"), (2, "c"), (3, "d")], false);
        assert_eq!(said(&source, &mut memory).await, Some((2, 0, false)));
        source.shows(&[(3, "d")], false);
        assert_eq!(said(&source, &mut memory).await, Some((0, 2, false)));
    }

    #[tokio::test]
    async fn every_node_and_edge_of_a_page_is_told_in_whatever_order_its_keys_are() {
        let (source, mut memory) = (Scripted::default(), Memory::default());
        let many: Vec<(u32, &str)> = (0..50).map(|id| (id, "a")).collect();
        source.shows(&many, false);
        let collected = collect(&source, "sudo", &memory, Room::USUAL, &SystemClock).await.unwrap();
        assert_eq!((collected.said.held.nodes.len(), collected.said.held.edges.len()), (50, 49));
        assert_eq!(said(&source, &mut memory).await, Some((50, 0, true)));
        source.shows(&[&many[..30], &[(30, "b")], &many[31..40]].concat(), false);
        assert_eq!(said(&source, &mut memory).await, Some((1, 10, false)));
    }

    #[tokio::test]
    async fn what_was_not_seen_for_certain_is_not_told_to_be_gone() {
        let (source, mut memory) = (Scripted::default(), Memory::default());
        source.shows(&[(1, "a"), (2, "b")], false);
        said(&source, &mut memory).await;
        source.shows(&[(1, "a")], true);
        assert_eq!(said(&source, &mut memory).await, Some((0, 0, false)), "only the coverage changed");
        assert_eq!(said(&source, &mut memory).await, None);
        source.shows(&[(1, "a")], false);
        assert_eq!(said(&source, &mut memory).await, Some((0, 1, false)));
    }

    #[tokio::test]
    async fn a_scope_that_has_to_be_told_again_is_told_as_the_whole() {
        let (source, mut memory) = (Scripted::default(), Memory::default());
        source.shows(&[(1, "a"), (2, "b")], false);
        said(&source, &mut memory).await;
        memory.tell_whole(["sudo"]);
        assert_eq!(said(&source, &mut memory).await, Some((2, 0, true)));
        assert_eq!(said(&source, &mut memory).await, None);
    }

    #[tokio::test]
    async fn this_machine_is_told_scope_by_scope() {
        let source = LinuxHost::open(JobConfig::new()).await.unwrap();
        assert_eq!(source.scopes().len(), COLLECTORS.len() - 1 + MANAGERS.len());
        let collected = collect(&source, "accounts", &Memory::default(), Room::USUAL, &SystemClock).await.unwrap();
        let text = String::from_utf8(collected.part.unwrap().text().to_vec()).unwrap();
        for line in std::fs::read_to_string("/etc/passwd").unwrap().lines() {
            let user = line.split(':').next().unwrap();
            assert!(text.contains(&format!(r#""host:local:host.user:{}/{user}","#, source.machine())), "{user}");
        }
    }
}
