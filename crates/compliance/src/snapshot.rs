//! The graph at one moment, in memory and compact: what rules are evaluated over.
//!
//! It also knows what is not in it: nodes that edges name and nobody has read, and scopes that were not read to their end. A rule that asks
//! for these gets an error instead of a list that looks complete.
//!
//! Nodes are sorted by id, so that everything computed from a snapshot is in one order whatever order it was filled in. Adjacency is in
//! compressed rows of 32-bit indices, in both directions.

use std::collections::HashMap;

use serde_json::Value as Json;

/// A node's place in its snapshot.
pub type NodeIndex = u32;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its whole id.
    pub id: Box<str>,
    /// Its name for people.
    pub name: Box<str>,
    /// Its facts: an object.
    pub properties: Json,
    /// Its tags: an object of strings.
    pub tags: Json,
    kind: u32,
    region: u32,
    provider: u32,
    account: u32,
    /// The account or, where there is none, the machine that it is part of: what scopes are read by.
    owner: u32,
    /// Only named by an edge.
    unread: bool,
}

/// Which way an edge is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From source to target.
    Out,
    /// From target to source.
    In,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    edge_type: u32,
    node: NodeIndex,
    /// Index of the edge's properties; [`NO_PROPERTIES`] when there are none.
    properties: u32,
}

const NO_PROPERTIES: u32 = u32::MAX;
/// The symbol of the empty text.
const EMPTY: u32 = 0;

/// Compressed rows: the links of node `n` are `links[starts[n]..starts[n + 1]]`, sorted by edge type and then by node.
#[derive(Debug, Default)]
struct Adjacency {
    starts: Vec<u32>,
    links: Vec<Link>,
}

impl Adjacency {
    fn of(&self, node: NodeIndex) -> &[Link] {
        let at = |i: usize| self.starts.get(i).and_then(|start| usize::try_from(*start).ok()).unwrap_or(0);
        let row = index(node);
        self.links.get(at(row)..at(row + 1)).unwrap_or_default()
    }

    fn build(nodes: usize, mut edges: Vec<(NodeIndex, Link)>) -> Self {
        edges.sort_by_key(|(from, link)| (*from, link.edge_type, link.node, link.properties));
        let mut starts = Vec::with_capacity(nodes + 1);
        let mut seen = 0u32;
        let mut rest = edges.iter().peekable();
        for node in 0..nodes {
            starts.push(seen);
            while rest.next_if(|(from, _)| index(*from) == node).is_some() {
                seen += 1;
            }
        }
        starts.push(seen);
        Self { starts, links: edges.into_iter().map(|(_, link)| link).collect() }
    }
}

/// The machine of a host's node, whose resource is `<machine>` or `<machine>/…`; nothing for other nodes.
fn machine(id: &str) -> &str {
    let resource = id.strip_prefix("host:").and_then(|rest| rest.splitn(3, ':').nth(2)).unwrap_or_default();
    resource.split('/').next().unwrap_or_default()
}

/// An index as a `usize`: every supported machine has at least 32 bits.
fn index(small: u32) -> usize {
    usize::try_from(small).unwrap_or(usize::MAX)
}

fn small(large: usize) -> u32 {
    u32::try_from(large).unwrap_or(u32::MAX)
}

/// Where resources that belong to no region stand, in node ids and in scopes.
const GLOBAL: &str = "global";

/// Which scopes were read to their end, by what they show and whose they are: the place and whether.
#[derive(Debug)]
struct Coverage {
    scopes: HashMap<(u32, u32), Vec<(u32, bool)>>,
    /// The symbol of [`GLOBAL`].
    global: u32,
}

/// What a list of nodes lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack<'s> {
    /// A node that an edge names.
    Node(&'s str),
    /// The scope that shows such nodes was not read to its end, in this place.
    Scope(&'s str),
    /// No scope that shows such nodes was read.
    All,
}

/// The graph at one moment; built by [`SnapshotBuilder`].
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Node>,
    symbols: Vec<Box<str>>,
    symbol_of: HashMap<Box<str>, u32>,
    by_type: HashMap<u32, Vec<NodeIndex>>,
    by_account: HashMap<(u32, u32), Vec<NodeIndex>>,
    outgoing: Adjacency,
    incoming: Adjacency,
    edge_properties: Vec<Json>,
    /// None: everything was read.
    coverage: Option<Coverage>,
    unread: usize,
}

impl Snapshot {
    /// How many nodes there are, without those that are only named.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.unread
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node at an index.
    pub fn node(&self, at: NodeIndex) -> Option<&Node> {
        self.nodes.get(index(at))
    }

    /// The index of the node with this id.
    pub fn find(&self, id: &str) -> Option<NodeIndex> {
        let at = self.nodes.binary_search_by(|node| (*node.id).cmp(id)).ok()?;
        self.nodes.get(at).filter(|node| !node.unread).map(|_| small(at))
    }

    /// What of the nodes that `scope` shows was not read around `of`: in its region and where nothing has a region, or everywhere when it has
    /// no region itself or `everywhere` is asked for.
    pub(crate) fn lack(&self, of: &Node, scope: &str, everywhere: bool) -> Option<Lack<'_>> {
        let coverage = self.coverage.as_ref()?;
        let Some(name) = self.symbol_of.get(scope) else { return Some(Lack::All) };
        let everywhere = everywhere || of.region == coverage.global;
        let here = |place: u32| everywhere || place == of.region || place == EMPTY || place == coverage.global;
        let mut any = false;
        for (place, read) in coverage.scopes.get(&(*name, of.owner)).into_iter().flatten() {
            if here(*place) {
                any = true;
                if !read {
                    return Some(Lack::Scope(self.symbol(*place)));
                }
            }
        }
        (!any).then_some(Lack::All)
    }

    /// Whether a node is only named by an edge.
    pub(crate) fn is_unread(node: &Node) -> bool {
        node.unread
    }

    /// Every node of a type, by id.
    pub fn nodes_of_type(&self, node_type: &str) -> &[NodeIndex] {
        let symbol = self.symbol_of.get(node_type);
        symbol.and_then(|symbol| self.by_type.get(symbol)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nodes of a type in the account (`account_id`) of `node`; all of that type when `node` belongs to no account.
    pub fn peers_of_type(&self, node: &Node, node_type: &str) -> &[NodeIndex] {
        if node.account == EMPTY {
            return self.nodes_of_type(node_type);
        }
        let key = self.symbol_of.get(node_type).map(|symbol| (*symbol, node.account));
        key.and_then(|key| self.by_account.get(&key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nodes that edges of a type lead to, with the edges' properties. `*` is any type of edge or node.
    pub fn neighbors<'s>(
        &'s self,
        node: NodeIndex,
        edge_type: &str,
        direction: Direction,
        node_type: &str,
    ) -> impl Iterator<Item = (NodeIndex, Option<&'s Json>)> + use<'s> {
        let links = if direction == Direction::Out { &self.outgoing } else { &self.incoming }.of(node);
        let wanted =
            |text: &str| if text == "*" { Ok(None) } else { self.symbol_of.get(text).copied().map(Some).ok_or(()) };
        let (edge, target) = (wanted(edge_type), wanted(node_type));
        links.iter().filter_map(move |link| {
            let (Ok(edge), Ok(target)) = (edge, target) else { return None };
            if edge.is_some_and(|edge| edge != link.edge_type) {
                return None;
            }
            if target.is_some_and(|target| self.node(link.node).is_none_or(|node| node.kind != target)) {
                return None;
            }
            Some((link.node, self.edge_properties.get(index(link.properties))))
        })
    }

    fn symbol(&self, symbol: u32) -> &str {
        self.symbols.get(index(symbol)).map(|text| &**text).unwrap_or_default()
    }

    /// A node's type.
    pub fn type_of(&self, node: &Node) -> &str {
        self.symbol(node.kind)
    }

    /// A node's region.
    pub fn region_of(&self, node: &Node) -> &str {
        self.symbol(node.region)
    }

    /// A node's provider.
    pub fn provider_of(&self, node: &Node) -> &str {
        self.symbol(node.provider)
    }
}

/// Fills a [`Snapshot`] in any order.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    nodes: Vec<Node>,
    edges: Vec<(Box<str>, Box<str>, u32, u32)>,
    symbols: Vec<Box<str>>,
    symbol_of: HashMap<Box<str>, u32>,
    edge_properties: Vec<Json>,
    coverage: Option<Coverage>,
}

impl SnapshotBuilder {
    /// An empty one.
    pub fn new() -> Self {
        let mut builder = Self::default();
        builder.intern("");
        builder
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(symbol) = self.symbol_of.get(text) {
            return *symbol;
        }
        let symbol = small(self.symbols.len());
        self.symbols.push(text.into());
        self.symbol_of.insert(text.into(), symbol);
        symbol
    }

    /// Adds a node; of two with one id the first stays. Properties and tags that are no object count as empty.
    #[expect(clippy::too_many_arguments, reason = "a node's seven columns, in the order of the table")]
    pub fn node(
        &mut self,
        id: &str,
        node_type: &str,
        name: &str,
        region: &str,
        provider: &str,
        tags: Json,
        properties: Json,
    ) -> &mut Self {
        let object = |value: Json| if value.is_object() { value } else { Json::Object(serde_json::Map::new()) };
        let properties = object(properties);
        let account = properties.get("account_id").and_then(Json::as_str).unwrap_or_default().to_owned();
        let node = Node {
            id: id.into(),
            name: name.into(),
            tags: object(tags),
            kind: self.intern(node_type),
            region: self.intern(region),
            provider: self.intern(provider),
            account: self.intern(&account),
            owner: self.intern(if account.is_empty() { machine(id) } else { &account }),
            unread: false,
            properties,
        };
        self.nodes.push(node);
        self
    }

    /// Adds a node of which nothing is known but that edges name it.
    pub fn unread_node(&mut self, id: &str, node_type: &str) -> &mut Self {
        let empty = || Json::Object(serde_json::Map::new());
        self.node(id, node_type, "", "", "", empty(), empty());
        if let Some(node) = self.nodes.last_mut() {
            node.unread = true;
        }
        self
    }

    /// Adds a scope (`aws:<account>:<region>:<name>`, `host:<machine>:<name>`) and whether it was read to its end when it was last read.
    /// Without a call of this, everything counts as read.
    pub fn scope(&mut self, id: &str, read: bool) -> &mut Self {
        let parts: Vec<&str> = id.splitn(4, ':').collect();
        let (owner, place, name) = match parts.as_slice() {
            [_, owner, place, name] => (*owner, *place, *name),
            [_, owner, name] => (*owner, "", *name),
            _ => ("", "", id),
        };
        let (owner, place, name) = (self.intern(owner), self.intern(place), self.intern(name));
        self.scopes_known();
        if let Some(coverage) = &mut self.coverage {
            coverage.scopes.entry((name, owner)).or_default().push((place, read));
        }
        self
    }

    /// Says that every scope that was read is told by [`SnapshotBuilder::scope`], also when there is none.
    pub fn scopes_known(&mut self) -> &mut Self {
        let global = self.intern(GLOBAL);
        self.coverage.get_or_insert_with(|| Coverage { scopes: HashMap::new(), global });
        self
    }

    /// Adds an edge. One whose ends are not both in the snapshot when it is built is left out.
    pub fn edge(&mut self, source_id: &str, target_id: &str, edge_type: &str, properties: Json) -> &mut Self {
        let edge_type = self.intern(edge_type);
        let has_facts = properties.as_object().is_some_and(|object| !object.is_empty());
        let at = if has_facts { small(self.edge_properties.len()) } else { NO_PROPERTIES };
        if has_facts {
            self.edge_properties.push(properties);
        }
        self.edges.push((source_id.into(), target_id.into(), edge_type, at));
        self
    }

    /// The finished snapshot.
    pub fn build(mut self) -> Snapshot {
        self.nodes.sort_by(|a, b| (&a.id, a.unread).cmp(&(&b.id, b.unread)));
        self.nodes.dedup_by(|later, first| later.id == first.id);
        let mut by_type: HashMap<u32, Vec<NodeIndex>> = HashMap::new();
        let mut by_account: HashMap<(u32, u32), Vec<NodeIndex>> = HashMap::new();
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.unread) {
            by_type.entry(node.kind).or_default().push(small(at));
            if node.account != EMPTY {
                by_account.entry((node.kind, node.account)).or_default().push(small(at));
            }
        }
        let mut outgoing = Vec::with_capacity(self.edges.len());
        let mut incoming = Vec::with_capacity(self.edges.len());
        {
            let at: HashMap<&str, NodeIndex> =
                self.nodes.iter().enumerate().map(|(at, node)| (&*node.id, small(at))).collect();
            for (source, target, edge_type, properties) in &self.edges {
                if let (Some(source), Some(target)) = (at.get(&**source), at.get(&**target)) {
                    let link = |node| Link { edge_type: *edge_type, node, properties: *properties };
                    outgoing.push((*source, link(*target)));
                    incoming.push((*target, link(*source)));
                }
            }
        }
        let count = self.nodes.len();
        Snapshot {
            unread: self.nodes.iter().filter(|node| node.unread).count(),
            coverage: self.coverage,
            nodes: self.nodes,
            symbols: self.symbols,
            symbol_of: self.symbol_of,
            by_type,
            by_account,
            outgoing: Adjacency::build(count, outgoing),
            incoming: Adjacency::build(count, incoming),
            edge_properties: self.edge_properties,
        }
    }
}
