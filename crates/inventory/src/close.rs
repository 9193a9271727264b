//! What a finished scope no longer shows.

use std::collections::HashMap;
use std::hash::Hash;

use domain::{Coverage, Timestamp};

use crate::plan::{Current, Past};
use crate::{ContentHash, ScopeKey};

/// The content that another scope shows of a node or an edge, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which scope.
    pub scope: ScopeKey,
    /// Since when.
    pub since: Timestamp,
    /// The content.
    pub hash: ContentHash,
}

/// A node or an edge whose owner no longer shows it while another scope does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOver<K> {
    /// Which one.
    pub key: K,
    /// The scope whose claim becomes the content.
    pub to: ScopeKey,
    /// The version to keep; none when both scopes show the same.
    pub past: Option<Past>,
    /// Since when the content is as it is.
    pub at: Timestamp,
}

/// What leaves a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departures<K> {
    /// Gone, from this moment on.
    pub close: Vec<(K, Timestamp)>,
    /// Kept under another scope.
    pub hand_over: Vec<HandOver<K>>,
}

impl<K> Departures<K> {
    /// Whether nothing leaves.
    pub fn is_empty(&self) -> bool {
        self.close.is_empty() && self.hand_over.is_empty()
    }
}

/// What leaves a scope that was read with this coverage. `unseen`: what the graph holds of that which the task did not show; what the
/// scope does not own, or is closed already, stays as it is. `claims`: who else shows it.
#[expect(clippy::implicit_hasher, reason = "callers fill plain maps")]
pub fn plan_close<K: Copy + Eq + Ord + Hash>(
    coverage: &Coverage,
    scope: ScopeKey,
    unseen: &HashMap<K, Current>,
    claims: &HashMap<K, Vec<Claim>>,
    now: Timestamp,
) -> Departures<K> {
    let mut leaving = Departures { close: Vec::new(), hand_over: Vec::new() };
    if !coverage.may_close() {
        return leaving;
    }
    for (key, current) in unseen {
        if current.scope != scope || current.closed_at.is_some() || !current.observed {
            continue;
        }
        let at = current.next(now);
        let heir = claims.get(key).into_iter().flatten().min_by_key(|claim| (claim.since, claim.scope));
        match heir {
            None => leaving.close.push((*key, at)),
            Some(heir) if heir.hash == current.hash => {
                leaving.hand_over.push(HandOver { key: *key, to: heir.scope, past: None, at: current.valid_from });
            }
            Some(heir) => leaving.hand_over.push(HandOver { key: *key, to: heir.scope, past: current.past(at), at }),
        }
    }
    // A map has no order: rows are locked and written in one order everywhere.
    leaving.close.sort_unstable();
    leaving.hand_over.sort_unstable_by_key(|hand_over| hand_over.key);
    leaving
}
