//! A plugin run over what `transport::open` opens for a credential, as a server or a relay runs it, and what it showed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Coverage, Page, Result, ScopeId, Secret};
use plugins::{Plugin, Sink};
use serde_json::{Map, Value, json};
use testkit::{TestClock, TestRng};
use tokio_util::sync::CancellationToken;
use transport::{Guard, OpenCredential, Opening, Recorder, TaskReach};

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub(crate) nodes: BTreeMap<String, Value>,
    pub(crate) edges: BTreeSet<String>,
    pub(crate) scopes: BTreeMap<String, Coverage>,
}

#[async_trait]
impl Sink for Kept {
    async fn page(&mut self, page: Page) -> Result<()> {
        assert!(!self.scopes.contains_key(page.scope.as_str()), "a page behind the end of {}", page.scope);
        let nodes = page.nodes.into_iter();
        self.nodes.extend(nodes.map(|node| (node.id.to_string(), Value::Object(node.properties))));
        let edges = page.edges.into_iter();
        self.edges.extend(edges.map(|edge| {
            let properties =
                if edge.properties.is_empty() { String::new() } else { json!(edge.properties).to_string() };
            format!("{} {} {}{properties}", edge.source, edge.edge_type, edge.target)
        }));
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        assert!(self.scopes.insert(scope.to_string(), coverage).is_none(), "{scope} ended twice");
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

pub(crate) fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}

pub(crate) fn reach(
    plugin: &str,
    config: &Map<String, Value>,
    credential: Option<(&str, Value)>,
) -> (TaskReach, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let opened = transport::open(Opening {
        plugin,
        config,
        credential: credential.map(|(kind, secret)| OpenCredential {
            id: domain::CredentialId::generate(&TestClock::default(), &TestRng::default()),
            kind: kind.to_owned(),
            secret: Secret::new(secret.to_string()),
        }),
        guard: Guard::loopback(true),
        call_timeout: Duration::from_secs(20),
        pacer: Arc::default(),
        memory: &transport::Budget::default(),
        recorder: Arc::clone(&recorder),
        clock: Arc::new(crypto::system::SystemClock),
        rng: Arc::new(crypto::system::SystemRng),
        cancelled: CancellationToken::new(),
        host_keys: Arc::new(transport::NoHostKeys),
    });
    (opened.map_err(|error| error.to_string()).unwrap(), recorder)
}

pub(crate) async fn collected(plugin: &dyn Plugin, config: &Map<String, Value>, reach: &TaskReach) -> Result<Kept> {
    let mut kept = Kept::default();
    for task in plugin.plan(config, reach).await? {
        plugin.run(&task, reach, &mut kept).await?;
    }
    // What a plugin shows it says in its manifest: of a relay a server takes nothing else.
    let types = plugin.manifest().node_types;
    for id in kept.nodes.keys() {
        let id: domain::NodeId = id.parse().unwrap();
        assert!(types.iter().any(|known| known == id.node_type()), "{} is in no manifest", id.node_type());
    }
    Ok(kept)
}
