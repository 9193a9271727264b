//! The Common Expression Language (<https://github.com/google/cel-spec>), evaluated directly over borrowed JSON.
//!
//! Why our own: a rule runs a hundred thousand times a minute over properties that must not be copied, must stop at a cost bound, and
//! must be refused when it names a property that no collector delivers.
//!
//! **Not here:** messages (`Type{...}`), optional syntax (`?.`), user-defined functions.
//!
//! Invariants:
//! - parsing and evaluation are bounded: bytes, nesting, height of the tree, steps; no input overflows the stack;
//! - evaluation has no effect and depends on nothing but the snapshot, the node and `now`;
//! - regular expressions are linear in time and limited in size.

mod compile;
mod eval;
mod function;
mod lex;
mod parse;
mod time_part;
mod value;

#[cfg(test)]
mod conformance;

use crate::schema::Schema;
use crate::snapshot::{Node, NodeIndex, Snapshot};

pub(crate) use compile::Reads;
pub(crate) use eval::{Fault, Machine};
pub(crate) use value::Value;

/// Steps that one evaluation may take.
pub const COST_MAX: u64 = 1_000_000;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CelError {
    /// Where, as a byte offset into the expression.
    pub at: usize,
    /// What to change.
    pub message: String,
}

impl CelError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Box<str>),
    Bytes(Box<[u8]>),
}

/// What an expression may name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope<'s> {
    /// Known types and properties; nothing is checked without it.
    pub(crate) schema: Option<&'s Schema>,
    /// The types that `node` can have.
    pub(crate) node_types: &'s [String],
}

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Program {
    root: compile::Expr,
    reads: Reads,
}

impl Program {
    /// Parses and checks an expression.
    pub(crate) fn compile(text: &str, scope: Scope<'_>) -> Result<Self, CelError> {
        let (root, reads) = compile::compile(&parse::parse(text)?, scope)?;
        Ok(Self { root, reads })
    }

    /// Which properties of the judged node it reads.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Evaluates it about one node.
    pub(crate) fn eval<'a>(&'a self, machine: &mut Machine<'a>) -> Result<Value<'a>, Fault> {
        machine.run(&self.root)
    }
}

/// A node of a snapshot at a moment: what an expression is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) index: NodeIndex,
    pub(crate) node: &'a Node,
    pub(crate) now: domain::Timestamp,
}
