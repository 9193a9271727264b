//! Identity: 128 bits of SHA-256 over a kind and the parts of a name.
//!
//! 128 bits keep rows and indexes small; two of 2^40 names clash with a probability below 2^-48.

use std::fmt;
use std::str::FromStr;

use crypto::Sha256;
use domain::{EdgeType, Error, NodeId, ScopeId, SourceId};

/// The first 128 bits of SHA-256 over the kind and each part, every one behind its length.
fn digest(kind: &str, parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    digest.0.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl From<u128> for $name {
            fn from(bits: u128) -> Self {
                Self(bits)
            }
        }

        impl From<$name> for u128 {
            fn from(key: $name) -> Self {
                key.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let wrong = || Error::Invalid { field: None, message: "a key is 32 lower-case hex digits".to_owned() };
                if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(wrong());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
            }
        }
    )*};
}

keys! {
    /// A node, by its id. Written as 32 hex digits, as in a list's next page.
    NodeKey
    /// An edge, by its ends, type and discriminator.
    EdgeKey
    /// A scope, by its id. Zero is nobody: the owner of placeholders.
    ScopeKey
    /// What a version of a node or edge holds.
    ContentHash
}

impl NodeKey {
    /// The key of a node.
    pub fn of(id: &NodeId) -> Self {
        Self(digest("cairn node v1", &[id.as_str().as_bytes()]))
    }
}

impl ScopeKey {
    /// The key of a scope as one source reads it. A plugin's own scopes begin with its name, which says the source already.
    pub fn of(source: &SourceId, id: &ScopeId) -> Self {
        let (source, id) = (source.as_str(), id.as_str());
        if id.strip_prefix(source).is_some_and(|rest| rest.starts_with(':')) {
            return Self(digest("cairn scope v1", &[id.as_bytes()]));
        }
        Self(digest("cairn scope v2", &[source.as_bytes(), id.as_bytes()]))
    }
}

impl EdgeKey {
    /// The key of an edge.
    pub fn of(source: NodeKey, edge_type: &EdgeType, target: NodeKey, discriminator: &str) -> Self {
        let (source, target) = (source.0.to_be_bytes(), target.0.to_be_bytes());
        Self(digest("cairn edge v1", &[&source, edge_type.as_str().as_bytes(), &target, discriminator.as_bytes()]))
    }
}

impl ContentHash {
    /// The hash of a node's version. Properties and tags are JSON with sorted keys.
    pub(crate) fn of_node(name: &str, properties: &str, tags: &str) -> Self {
        Self(digest("cairn node content v1", &[name.as_bytes(), properties.as_bytes(), tags.as_bytes()]))
    }

    /// The hash of an edge's version.
    pub(crate) fn of_edge(properties: &str) -> Self {
        Self(digest("cairn edge content v1", &[properties.as_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_what_they_are() {
        // Stored keys must mean the same in every version of Cairn. The expected bits are those of
        // `printf '\0\0\0\0\0\0\0\rcairn node v1\0\0\0\0\0\0\0\x11aws:r:aws.vpc:v-1' | sha256sum`.
        let id: NodeId = "aws:r:aws.vpc:v-1".parse().unwrap();
        assert_eq!(NodeKey::of(&id).to_string(), "6b5a4e49edaf55e52230b15dd69b970d");
    }

    #[test]
    fn text_form_round_trips() {
        let key = NodeKey(0x0abc << 64);
        assert_eq!(key.to_string().parse::<NodeKey>().unwrap(), key);
        for bad in ["", "0", "0000000000000000000000000000000G", "+0000000000000000000000000000000", &"0".repeat(33)] {
            assert!(bad.parse::<NodeKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(ContentHash::of_node("a", "bc", ""), ContentHash::of_node("ab", "c", ""));
        assert_ne!(digest("a", &[b"b"]), digest("ab", &[]));
    }
}
