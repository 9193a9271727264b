//! Rules: packs of them in YAML with conditions in CEL, their evaluation over a snapshot of the graph, and what that changes about
//! findings and controls.
//!
//! **Not for** storing findings, reading files, watching them or asking the clock: packs come in as text, time as a value, and changes go
//! out as values.
//!
//! Invariants:
//! - a [`Ruleset`] is valid as a whole: every error of every pack is reported with file, line and column, and a set with one error does
//!   not exist, so that the caller keeps the one it has;
//! - an evaluation is a function of ruleset, snapshot and time: the same three give the same bytes;
//! - no rule, however written, runs without a bound; a rule that cannot be evaluated about a node, or needs a property of it that was
//!   not read, neither passes nor fails;
//! - the diff of findings is idempotent: applied once, a second one is empty.
#![warn(missing_docs)]

pub mod builtin;
mod cel;
mod evaluate;
mod finding;
mod framework;
mod pack;
mod patch;
mod rule;
mod ruleset;
mod schema;
pub mod schema_doc;
mod snapshot;
mod template;
mod unread;
mod yaml;

pub use cel::COST_MAX;
pub use evaluate::{
    ControlOutcome, ControlResult, Evaluation, Failure, RuleOutcome, Verdict, evaluate, judge, risk_score,
};
pub use finding::{Cause, CurrentFinding, Facts, FindingChange, Resolution, diff_findings};
pub use framework::{Control, Framework, Frameworks};
pub use patch::{About, Form, Patch};
pub use rule::{Pack, Rule};
pub use ruleset::{Catalog, PackError, Ruleset, load};
pub use schema::{Reading, Schema, Shape};
pub use snapshot::{Direction, Node, NodeIndex, Snapshot, SnapshotBuilder};
