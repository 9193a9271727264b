//! What one scope shows, by keys and content hashes: enough to tell what changed since, and to name the whole by a digest.

use std::collections::BTreeMap;

use crypto::Sha256;
use domain::{Coverage, Digest};

use crate::{ContentHash, EdgeKey, NodeKey, Prepared};

/// What a scope shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its nodes.
    pub nodes: BTreeMap<NodeKey, ContentHash>,
    /// Its edges.
    pub edges: BTreeMap<EdgeKey, ContentHash>,
}

impl Held {
    /// Adds a page; of two showings of one item the first counts.
    pub fn add(&mut self, page: &Prepared<'_>) {
        for node in &page.nodes {
            self.nodes.entry(node.key).or_insert(node.hash);
        }
        for edge in &page.edges {
            self.edges.entry(edge.key).or_insert(edge.hash);
        }
    }

    /// Adds what an earlier reading showed and this one, which did not see everything, neither showed nor disproved.
    pub fn keep(&mut self, earlier: &Self) {
        for (key, hash) in &earlier.nodes {
            self.nodes.entry(*key).or_insert(*hash);
        }
        for (key, hash) in &earlier.edges {
            self.edges.entry(*key).or_insert(*hash);
        }
    }

    /// Names this state: two readings have one digest if and only if they show the same and saw as much.
    pub fn digest(&self, coverage: &Coverage) -> Digest {
        let mut hash = Sha256::new();
        let reason = coverage.reason().unwrap_or_default();
        for part in ["cairn held v1", coverage.as_str(), reason] {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut items = |count: usize, items: &mut dyn Iterator<Item = (u128, u128)>| {
            hash.update(&u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
            for (key, content) in items {
                hash.update(&key.to_be_bytes());
                hash.update(&content.to_be_bytes());
            }
        };
        items(self.nodes.len(), &mut self.nodes.iter().map(|(key, content)| (key.0, content.0)));
        items(self.edges.len(), &mut self.edges.iter().map(|(key, content)| (key.0, content.0)));
        hash.finish()
    }
}

/// Names the state of several scopes, each by its name and digest, in whatever order they come.
pub fn state_digest<'a>(scopes: impl IntoIterator<Item = (&'a str, Digest)>) -> Digest {
    let sorted: BTreeMap<&str, Digest> = scopes.into_iter().collect();
    let mut hash = Sha256::new();
    hash.update(b"cairn state v1");
    for (name, digest) in sorted {
        hash.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(digest.as_bytes());
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use domain::Page;
    use serde_json::json;

    use super::*;

    fn held(nodes: &[(&str, u32)], edges: &[&str]) -> Held {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(id, value)| json!({"id": format!("a:r:a.x:{id}"), "name": "n", "properties": {"v": value}}))
            .collect();
        let edges: Vec<_> = edges
            .iter()
            .map(|to| json!({"source": "a:r:a.x:1", "target": format!("a:r:a.x:{to}"), "type": "in"}))
            .collect();
        let page: Page = serde_json::from_value(json!({"scope": "s", "nodes": nodes, "edges": edges})).unwrap();
        let mut held = Held::default();
        held.add(&Prepared::new(&"a".parse().unwrap(), &page).unwrap());
        held
    }

    #[test]
    fn a_digest_tells_every_difference_and_no_order() {
        let one = held(&[("1", 1), ("2", 2)], &["2"]);
        assert_eq!(one.digest(&Coverage::Complete), held(&[("2", 2), ("1", 1)], &["2"]).digest(&Coverage::Complete));
        let partial = |reason: &str| Coverage::Partial { reason: reason.to_owned() };
        let mut seen = vec![one.digest(&Coverage::Complete), one.digest(&partial("a")), one.digest(&partial("b"))];
        for other in [held(&[("1", 1)], &["2"]), held(&[("1", 1), ("2", 3)], &["2"]), held(&[("1", 1), ("2", 2)], &[])]
        {
            seen.push(other.digest(&Coverage::Complete));
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn a_state_is_the_same_whatever_the_order_of_its_scopes() {
        let (a, b) = (crypto::sha256(b"a"), crypto::sha256(b"b"));
        assert_eq!(state_digest([("x", a), ("y", b)]), state_digest([("y", b), ("x", a)]));
        assert_ne!(state_digest([("x", a), ("y", b)]), state_digest([("x", b), ("y", a)]));
        assert_ne!(state_digest([("x", a)]), state_digest([("x", a), ("y", b)]));
    }

    #[test]
    fn what_a_partial_reading_did_not_see_is_kept_with_its_old_content() {
        let before = held(&[("1", 1), ("2", 2)], &["2"]);
        let mut now = held(&[("1", 9)], &[]);
        now.keep(&before);
        assert_eq!(now, held(&[("1", 9), ("2", 2)], &["2"]));
    }
}
