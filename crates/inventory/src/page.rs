//! A page of observations, checked against the limits and made ready to compare: keys, canonical JSON, content hashes.

use std::collections::HashSet;

use domain::{EdgeObservation, Error, Limits, NodeId, NodeObservation, Page, Properties, Result, SourceId};
use serde_json::Value;

use crate::{ContentHash, EdgeKey, NodeKey, ScopeKey};

/// What nodes and edges have in common.
pub trait Item {
    /// The kind of key.
    type Key: Copy + Eq + Ord + std::hash::Hash;
    /// Which one.
    fn key(&self) -> Self::Key;
    /// What it holds.
    fn hash(&self) -> ContentHash;
}

/// A node as a page shows it.
#[derive(Debug)]
pub struct NodeItem<'p> {
    /// Its key.
    pub key: NodeKey,
    /// Its id.
    pub id: &'p NodeId,
    /// Its name.
    pub name: &'p str,
    /// Its properties as JSON with sorted keys.
    pub properties: String,
    /// Its tags as JSON with sorted keys.
    pub tags: String,
    /// The hash of name, properties and tags.
    pub hash: ContentHash,
}

/// An edge as a page shows it.
#[derive(Debug)]
pub struct EdgeItem<'p> {
    /// Its key.
    pub key: EdgeKey,
    /// The node that it leaves.
    pub source: NodeKey,
    /// The node that it reaches.
    pub target: NodeKey,
    /// Its type.
    pub edge_type: &'p str,
    /// What tells it from its siblings.
    pub discriminator: &'p str,
    /// Its properties as JSON with sorted keys.
    pub properties: String,
    /// The hash of the properties.
    pub hash: ContentHash,
}

impl Item for NodeItem<'_> {
    type Key = NodeKey;
    fn key(&self) -> NodeKey {
        self.key
    }
    fn hash(&self) -> ContentHash {
        self.hash
    }
}

impl Item for EdgeItem<'_> {
    type Key = EdgeKey;
    fn key(&self) -> EdgeKey {
        self.key
    }
    fn hash(&self) -> ContentHash {
        self.hash
    }
}

/// A page that is within every limit, in the order of keys; of two items with one key the first stays.
#[derive(Debug)]
pub struct Prepared<'p> {
    /// The scope that shows it.
    pub scope: ScopeKey,
    /// Its nodes.
    pub nodes: Vec<NodeItem<'p>>,
    /// Its edges.
    pub edges: Vec<EdgeItem<'p>>,
    /// Ends of its edges that are none of its nodes.
    pub ends: Vec<(NodeKey, &'p NodeId)>,
}

/// Whether a value is nested at most `levels` deep. Looks no deeper than that.
fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_shallow(member, levels - 1)),
        _ => true,
    }
}

fn text_of(value: &impl serde::Serialize, what: &str, owner: &dyn std::fmt::Display) -> Result<String> {
    let text = serde_json::to_string(value).map_err(Error::internal)?;
    if text.len() > Limits::PROPERTIES_BYTES {
        let (is, max) = (text.len(), Limits::PROPERTIES_BYTES);
        return Err(Error::invalid(
            "properties",
            format!("the {what} of `{owner}` are {is} bytes of JSON: send at most {max}"),
        ));
    }
    Ok(text)
}

fn properties_of(properties: &Properties, owner: &dyn std::fmt::Display) -> Result<String> {
    if !properties.values().all(|value| is_shallow(value, Limits::PROPERTIES_DEPTH - 1)) {
        let max = Limits::PROPERTIES_DEPTH;
        return Err(Error::invalid(
            "properties",
            format!("the properties of `{owner}` are nested too deep: send at most {max} levels"),
        ));
    }
    text_of(properties, "properties", owner)
}

fn short<'t>(text: &'t str, field: &'static str, owner: &dyn std::fmt::Display) -> Result<&'t str> {
    if text.len() > Limits::NODE_ID_BYTES || text.contains('\0') {
        let max = Limits::NODE_ID_BYTES;
        return Err(Error::invalid(
            field,
            format!("the {field} of `{owner}` must have at most {max} bytes and no NUL character"),
        ));
    }
    Ok(text)
}

fn node(seen: &NodeObservation) -> Result<NodeItem<'_>> {
    let NodeObservation { id, name, properties, tags } = seen;
    let (name, properties, tags) =
        (short(name, "name", id)?, properties_of(properties, id)?, text_of(tags, "tags", id)?);
    let hash = ContentHash::of_node(name, &properties, &tags);
    Ok(NodeItem { key: NodeKey::of(id), id, name, properties, tags, hash })
}

fn edge(seen: &EdgeObservation) -> Result<EdgeItem<'_>> {
    let EdgeObservation { source, target, edge_type, discriminator, properties } = seen;
    let discriminator = short(discriminator, "discriminator", source)?;
    let properties = properties_of(properties, source)?;
    let (source, target) = (NodeKey::of(source), NodeKey::of(target));
    let (key, hash) = (EdgeKey::of(source, edge_type, target, discriminator), ContentHash::of_edge(&properties));
    Ok(EdgeItem { key, source, target, edge_type: edge_type.as_str(), discriminator, properties, hash })
}

impl<'p> Prepared<'p> {
    /// Checks and hashes a page.
    pub fn new(source: &SourceId, page: &'p Page) -> Result<Self> {
        if page.nodes.len() + page.edges.len() > Limits::PAGE_OBSERVATIONS {
            return Err(Error::Limit { which: "nodes and edges in one page", max: Limits::PAGE_OBSERVATIONS as u64 });
        }
        let mut shown = HashSet::with_capacity(page.nodes.len());
        let mut nodes = Vec::with_capacity(page.nodes.len());
        for item in page.nodes.iter().map(node) {
            let item = item?;
            if shown.insert(item.key) {
                nodes.push(item);
            }
        }
        let mut keys = HashSet::with_capacity(page.edges.len());
        let (mut edges, mut ends) = (Vec::with_capacity(page.edges.len()), Vec::new());
        for observed in &page.edges {
            let item = edge(observed)?;
            for (key, id) in [(item.source, &observed.source), (item.target, &observed.target)] {
                if shown.insert(key) {
                    ends.push((key, id));
                }
            }
            if keys.insert(item.key) {
                edges.push(item);
            }
        }
        // Keys are hashes: in their order a database finds each page of its indexes once, in any other it comes back to it.
        nodes.sort_unstable_by_key(|node| node.key);
        edges.sort_unstable_by_key(|edge| edge.key);
        ends.sort_unstable_by_key(|(key, _)| *key);
        Ok(Self { scope: ScopeKey::of(source, &page.scope), nodes, edges, ends })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(nodes: serde_json::Value, edges: serde_json::Value) -> Page {
        serde_json::from_value(json!({"scope": "s", "nodes": nodes, "edges": edges})).unwrap()
    }

    fn source() -> SourceId {
        "a".parse().unwrap()
    }

    fn refusal(page: &Page) -> String {
        Prepared::new(&source(), page).unwrap_err().to_string()
    }

    #[test]
    fn properties_are_sorted_whatever_their_order_was() {
        // Hashes compare texts: a `serde_json` built to keep the order of keys would make every reordering a change.
        let page =
            page(json!([{"id": "a:r:a.x:1", "name": "n", "properties": {"b": {"z": 1, "y": 2}, "a": 3}}]), json!([]));
        assert_eq!(Prepared::new(&source(), &page).unwrap().nodes[0].properties, r#"{"a":3,"b":{"y":2,"z":1}}"#);
    }

    #[test]
    fn the_first_of_two_with_one_key_stays() {
        let page = page(
            json!([{"id": "a:r:a.x:1", "name": "first"}, {"id": "a:r:a.x:1", "name": "second"}]),
            json!([
                {"source": "a:r:a.x:1", "target": "a:r:a.x:2", "type": "in", "properties": {"n": 1}},
                {"source": "a:r:a.x:1", "target": "a:r:a.x:2", "type": "in", "properties": {"n": 2}},
            ]),
        );
        let prepared = Prepared::new(&source(), &page).unwrap();
        assert_eq!(prepared.nodes.iter().map(|node| node.name).collect::<Vec<_>>(), ["first"]);
        assert_eq!(prepared.edges.iter().map(|edge| &*edge.properties).collect::<Vec<_>>(), [r#"{"n":1}"#]);
        assert_eq!(prepared.ends.iter().map(|(_, id)| id.resource()).collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn what_is_over_a_limit_is_refused_by_name() {
        let id = "a:r:a.x:1";
        let nested = (0..Limits::PROPERTIES_DEPTH).fold(json!(1), |inner, _| json!({ "k": inner }));
        assert!(
            Prepared::new(&source(), &page(json!([{"id": id, "name": "n", "properties": nested}]), json!([]))).is_ok()
        );
        let deeper = json!({ "k": nested });
        let message = refusal(&page(json!([{"id": id, "name": "n", "properties": deeper}]), json!([])));
        assert_eq!(message, "the properties of `a:r:a.x:1` are nested too deep: send at most 32 levels");

        let large = json!({"k": "x".repeat(Limits::PROPERTIES_BYTES)});
        let message = refusal(&page(json!([{"id": id, "name": "n", "properties": large}]), json!([])));
        assert_eq!(message, "the properties of `a:r:a.x:1` are 262152 bytes of JSON: send at most 262144");

        for name in ["a\0b".to_owned(), "x".repeat(1_025)] {
            let message = refusal(&page(json!([{"id": id, "name": name}]), json!([])));
            assert_eq!(message, "the name of `a:r:a.x:1` must have at most 1024 bytes and no NUL character");
        }
        let many = vec![json!({"id": id, "name": "n"}); Limits::PAGE_OBSERVATIONS + 1];
        assert_eq!(refusal(&page(json!(many), json!([]))), "over the limit of 10000 nodes and edges in one page");
    }
}
