//! What the agent said last of each scope, so that it says only what changed: in memory, and one file per scope for the next start.
//!
//! A file that is missing or damaged costs one whole report of its scope, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use domain::{Coverage, Digest};
use inventory::{ContentHash, EdgeKey, Held, NodeKey};
use serde::{Deserialize, Serialize};

use crate::disk;

const MAGIC: &str = "cairn-agent scope 1";
/// Most kept replies of a scope that are remembered as sent.
const ARTIFACTS: usize = 20_000;

/// What was said of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) held: Held,
    pub(crate) coverage: Coverage,
    pub(crate) digest: Digest,
    /// The kept replies that were sent along.
    pub(crate) artifacts: BTreeSet<Digest>,
}

/// What was said of all scopes. `whole`: those that the next report has to tell from the beginning.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    scopes: BTreeMap<String, Said>,
    whole: BTreeSet<String>,
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Header {
    magic: String,
    name: String,
    coverage: Coverage,
    digest: Digest,
    nodes: usize,
    edges: usize,
    artifacts: Vec<Digest>,
}

impl Said {
    fn to_bytes(&self, name: &str) -> serde_json::Result<Vec<u8>> {
        let header = Header {
            magic: MAGIC.to_owned(),
            name: name.to_owned(),
            coverage: self.coverage.clone(),
            digest: self.digest,
            nodes: self.held.nodes.len(),
            edges: self.held.edges.len(),
            artifacts: self.artifacts.iter().take(ARTIFACTS).copied().collect(),
        };
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        let nodes = self.held.nodes.iter().map(|(key, hash)| (key.0, hash.0));
        let edges = self.held.edges.iter().map(|(key, hash)| (key.0, hash.0));
        for (key, hash) in nodes.chain(edges) {
            bytes.extend_from_slice(&key.to_be_bytes());
            bytes.extend_from_slice(&hash.to_be_bytes());
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<(String, Self)> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let header: Header = serde_json::from_slice(bytes.get(..end)?).ok()?;
        let (pairs, rest) = bytes.get(end + 1..)?.as_chunks::<16>();
        let is_whole = rest.is_empty() && pairs.len() == header.nodes.checked_add(header.edges)?.checked_mul(2)?;
        if header.magic != MAGIC || !is_whole {
            return None;
        }
        let mut pairs = pairs.chunks_exact(2).filter_map(|pair| match pair {
            [key, hash] => Some((u128::from_be_bytes(*key), ContentHash(u128::from_be_bytes(*hash)))),
            _ => None,
        });
        let mut held = Held::default();
        held.nodes.extend(pairs.by_ref().take(header.nodes).map(|(key, hash)| (NodeKey(key), hash)));
        held.edges.extend(pairs.map(|(key, hash)| (EdgeKey(key), hash)));
        let artifacts = header.artifacts.into_iter().collect();
        let said = Self { held, coverage: header.coverage, digest: header.digest, artifacts };
        // A flipped bit is a changed state, which the digest tells.
        (said.held.digest(&said.coverage) == said.digest).then_some((header.name, said))
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("scopes")
}

fn file(state: &Path, name: &str) -> PathBuf {
    folder(state).join(format!("{name}.scope"))
}

impl Memory {
    /// What the last run wrote down.
    pub(crate) fn load(state: &Path) -> Self {
        let mut memory = Self::default();
        for entry in std::fs::read_dir(folder(state)).into_iter().flatten().flatten() {
            let said = std::fs::read(entry.path()).ok().and_then(|bytes| Said::from_bytes(&bytes));
            memory.scopes.extend(said);
        }
        memory
    }

    /// What was said of a scope, unless the next report has to tell it from the beginning.
    pub(crate) fn base(&self, name: &str) -> Option<&Said> {
        if self.whole.contains(name) { None } else { self.scopes.get(name) }
    }

    /// What was said of a scope, also if it has to be told again.
    pub(crate) fn said(&self, name: &str) -> Option<&Said> {
        self.scopes.get(name)
    }

    /// Takes over what a report says, and writes it down if there is a place for it.
    pub(crate) fn keep(&mut self, name: &str, said: Said, state: Option<&Path>) -> std::io::Result<()> {
        let written = match state {
            Some(state) => disk::make_folder(&folder(state))
                .and_then(|()| disk::replace(&file(state, name), &said.to_bytes(name).map_err(std::io::Error::other)?)),
            None => Ok(()),
        };
        self.whole.remove(name);
        self.scopes.insert(name.to_owned(), said);
        written
    }

    /// The scopes that are not collected any more.
    pub(crate) fn others(&self, names: &[String]) -> Vec<String> {
        self.scopes.keys().filter(|name| !names.contains(name)).cloned().collect()
    }

    /// Forgets a scope.
    pub(crate) fn forget(&mut self, name: &str, state: &Path) {
        self.scopes.remove(name);
        self.whole.remove(name);
        // A file that stays is read at the next start, and forgotten again.
        let _ = std::fs::remove_file(file(state, name));
    }

    /// Has these scopes told from the beginning.
    pub(crate) fn tell_whole<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.whole.extend(names.into_iter().map(str::to_owned));
    }

    /// Which scopes have to be told from the beginning.
    pub(crate) fn untold(&self) -> impl Iterator<Item = &str> {
        self.whole.iter().map(String::as_str)
    }

    /// The digests of all scopes.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.scopes.iter().map(|(name, said)| (name.as_str(), said.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let mut held = Held::default();
        held.nodes.insert(NodeKey(1), ContentHash(10));
        held.nodes.insert(NodeKey(2), ContentHash(20));
        held.edges.insert(EdgeKey(3), ContentHash(30));
        let coverage = Coverage::Partial { reason: "denied".to_owned() };
        let digest = held.digest(&coverage);
        Said { held, coverage, digest, artifacts: [crypto::sha256(b"a")].into() }
    }

    #[test]
    fn the_next_run_knows_what_this_one_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::load(dir.path());
        assert!(memory.base("sudo").is_none());
        memory.keep("sudo", said(), Some(dir.path())).unwrap();
        assert_eq!(Memory::load(dir.path()).base("sudo"), Some(&said()));
        memory.forget("sudo", dir.path());
        assert!(Memory::load(dir.path()).base("sudo").is_none());
    }

    #[test]
    fn a_damaged_file_costs_a_whole_report_and_nothing_else() {
        let bytes = said().to_bytes("sudo").unwrap();
        assert!(Said::from_bytes(&bytes).is_some());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            if let Some((name, read)) = Said::from_bytes(&damaged) {
                // A changed name or a changed list of what was sent is not part of the state.
                assert!(name != "sudo" || read.artifacts != said().artifacts, "byte {at}");
            }
            assert!(Said::from_bytes(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
