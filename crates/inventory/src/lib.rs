//! From what a source showed to what changes in the graph: identity, limits, plans.
//!
//! A *page* of observations is checked and hashed ([`Prepared`]), compared with what the graph holds ([`plan_page`]), and what a finished
//! scope did not show is told apart ([`plan_close`]). The plans say which rows to write; `store` writes them.
//!
//! Who owns a node or an edge:
//! - the scope that shows it first owns it, and only the owner's content is the graph's;
//! - another scope that shows it too leaves a *claim* with its own content, and changes nothing else;
//! - when the owner, proved complete, no longer shows it, the oldest claim takes over; without one it closes;
//! - a closed node, and a node that only edges name (a *placeholder*), belong to whoever shows them next.
//!
//! **Not for** SQL, clocks, or judging what is found (`compliance`).
//!
//! Invariants:
//! - what a scope shows twice in the same way plans nothing the second time, whatever other scopes show;
//! - only [`domain::Coverage::may_close`] closes, and a scope closes only what it owns;
//! - of one item shown twice in one task the first showing counts;
//! - the intervals of one item's history never overlap, are never empty, and leave a gap exactly while it was closed.
#![warn(missing_docs)]

mod close;
mod held;
mod key;
pub mod map;
mod page;
mod plan;

pub use close::{Claim, Departures, HandOver, plan_close};
pub use held::{Held, state_digest};
pub use key::{ContentHash, EdgeKey, NodeKey, ScopeKey};
pub use page::{EdgeItem, Item, NodeItem, Prepared};
pub use plan::{Changes, Current, Known, PageChanges, PagePlan, Past, Rewrite, Seen, plan_page};
