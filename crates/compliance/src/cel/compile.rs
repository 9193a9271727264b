//! From syntax to what is evaluated: names are resolved, macros expanded, literal patterns compiled, node types and properties checked.

use std::collections::BTreeSet;
use std::rc::Rc;

use regex::Regex;

use super::function::{self, Function};
use super::parse::{Ast, Kind, Logic, Operator};
use super::{CelError, Literal, Scope};
use crate::schema::{Shape, suggestion};
use crate::snapshot::Direction;

/// Fields of a node in CEL.
pub(super) const NODE_FIELDS: [&str; 8] = ["id", "type", "name", "region", "provider", "tags", "props", "edge"];
/// Largest compiled pattern, in bytes.
const PATTERN_BYTES: usize = 512 * 1_024;
/// Longest pattern, in bytes.
const PATTERN_TEXT_BYTES: usize = 1_024;
/// Macro variables that may be in scope at once.
const LOCALS: usize = 16;

/// What is evaluated.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) at: usize,
    pub(super) op: Op,
}

#[derive(Debug)]
pub(super) enum Op {
    Literal(Literal),
    Node,
    Props,
    Now,
    Local(usize),
    Type(&'static str),
    Select(Box<Expr>, Box<str>),
    Has(Box<Expr>, Box<str>),
    Index(Box<(Expr, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Logic(Logic, Box<[Expr]>),
    Binary(Operator, Box<(Expr, Expr)>),
    Ternary(Box<[Expr; 3]>),
    List(Box<[Expr]>),
    Map(Box<[(Expr, Expr)]>),
    Call(Function, Box<[Expr]>),
    /// A literal pattern, compiled once.
    Matches(Box<Expr>, Regex),
    Fold(Box<Fold>),
    /// The first, or the second where a part of the first is missing or null.
    Default(Box<(Expr, Expr)>),
    Neighbors {
        of: Option<Box<Expr>>,
        edge: Box<str>,
        direction: Direction,
        node_type: Box<str>,
        /// The scopes that show nodes of the type.
        scopes: Box<[Box<str>]>,
    },
    /// The type, and the scopes that show its nodes.
    NodesOf(Box<str>, Box<[Box<str>]>),
}

/// A macro over a list or a map's keys.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) kind: FoldKind,
    pub(super) range: Expr,
    /// The predicate; of `map` without filter there is none.
    pub(super) test: Option<Expr>,
    /// What `map` yields.
    pub(super) yields: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// What is known of a value before it exists.
#[derive(Debug, Clone)]
enum Hint<'s> {
    Any,
    Node(Rc<[String]>),
    Nodes(Rc<[String]>),
    Props(Rc<[String]>),
    /// Something with these fields, or a list of such.
    Shape(&'s Shape),
}

/// Which properties of the judged node an expression reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// By name.
    pub(crate) names: BTreeSet<String>,
    /// `has(props.name)`: the expression itself says what holds where the property is missing.
    pub(crate) tested: BTreeSet<String>,
    /// It reads properties by computed names, or all of them.
    pub(crate) all: bool,
}

struct Compiler<'s> {
    scope: Scope<'s>,
    locals: Vec<(String, Hint<'s>)>,
    reads: Reads,
    /// Mentions of `node` and `props` that no field was selected of (yet).
    whole: usize,
}

/// Checks a syntax tree.
pub(super) fn compile(ast: &Ast, scope: Scope<'_>) -> Result<(Expr, Reads), CelError> {
    let mut compiler = Compiler { scope, locals: Vec::new(), reads: Reads::default(), whole: 0 };
    let (expr, _) = compiler.expr(ast)?;
    compiler.reads.all = compiler.whole > 0;
    Ok((expr, compiler.reads))
}

/// `props` or `node.props`: the judged node's own.
fn is_own_properties(expr: &Expr) -> bool {
    match &expr.op {
        Op::Props => true,
        Op::Select(of, field) => matches!(of.op, Op::Node) && &**field == "props",
        _ => false,
    }
}

/// Compiles a pattern of RE2's syntax within the limits.
pub(crate) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_TEXT_BYTES {
        return Err(format!("the pattern is longer than {PATTERN_TEXT_BYTES} bytes"));
    }
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES)
        .nest_limit(32)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "the pattern is too large when compiled: lower its repeat counts".to_owned()
            }
            other => format!("the pattern is wrong: {}", other.to_string().lines().last().unwrap_or_default().trim()),
        })
}

fn did_you_mean<'c>(name: &str, known: impl IntoIterator<Item = &'c str>) -> String {
    suggestion(name, known).map_or_else(String::new, |best| format!(": did you mean `{best}`?"))
}

impl<'s> Compiler<'s> {
    fn expr(&mut self, ast: &Ast) -> Result<(Expr, Hint<'s>), CelError> {
        let mut hint = Hint::Any;
        let op = match &ast.kind {
            Kind::Literal(literal) => Op::Literal(literal.clone()),
            Kind::Ident(name) => {
                let (op, known) = self.ident(name, ast.at)?;
                hint = known;
                op
            }
            Kind::Select(operand, field) => {
                let (operand, known) = self.select(operand, field, ast.at, false)?;
                hint = known;
                Op::Select(Box::new(operand), field.as_str().into())
            }
            Kind::Index(operand, index) => {
                let (list, known) = self.expr(operand)?;
                let (index, _) = self.expr(index)?;
                match (known, &index.op) {
                    (Hint::Nodes(types), _) => hint = Hint::Node(types),
                    (known, Op::Literal(Literal::Str(field))) => {
                        hint = self.check_field(&known, field, index.at)?;
                        self.note(&list, field, false);
                    }
                    (known @ Hint::Shape(_), _) => hint = known,
                    _ => {}
                }
                Op::Index(Box::new((list, index)))
            }
            Kind::Call { target, name, args } => {
                let (op, known) = self.call(target.as_deref(), name, args, ast.at)?;
                hint = known;
                op
            }
            Kind::List(items) => Op::List(self.all(items)?),
            Kind::Map(entries) => {
                let entries: Result<Vec<_>, _> =
                    entries.iter().map(|(key, value)| Ok((self.expr(key)?.0, self.expr(value)?.0))).collect();
                Op::Map(entries?.into())
            }
            Kind::Not(operand) => Op::Not(Box::new(self.expr(operand)?.0)),
            Kind::Negate(operand) => Op::Negate(Box::new(self.expr(operand)?.0)),
            Kind::Logic(logic, operands) => Op::Logic(*logic, self.all(operands)?),
            Kind::Binary(operator, left, right) => {
                Op::Binary(*operator, Box::new((self.expr(left)?.0, self.expr(right)?.0)))
            }
            Kind::Ternary(parts) => {
                let [test, yes, no] = parts.as_ref();
                Op::Ternary(Box::new([self.expr(test)?.0, self.expr(yes)?.0, self.expr(no)?.0]))
            }
        };
        Ok((Expr { at: ast.at, op }, hint))
    }

    fn all(&mut self, asts: &[Ast]) -> Result<Box<[Expr]>, CelError> {
        asts.iter().map(|ast| self.expr(ast).map(|(expr, _)| expr)).collect()
    }

    /// Notes what a selection reads of the judged node.
    fn note(&mut self, operand: &Expr, field: &str, tested: bool) {
        if is_own_properties(operand) {
            self.whole = self.whole.saturating_sub(1);
            let reads = &mut self.reads;
            (if tested { &mut reads.tested } else { &mut reads.names }).insert(field.to_owned());
        } else if matches!(operand.op, Op::Node) && field != "props" {
            self.whole = self.whole.saturating_sub(1);
        }
    }

    fn ident(&mut self, name: &str, at: usize) -> Result<(Op, Hint<'s>), CelError> {
        if let Some(slot) = self.locals.iter().rposition(|(local, _)| local == name) {
            let hint = self.locals.get(slot).map_or(Hint::Any, |(_, hint)| hint.clone());
            return Ok((Op::Local(slot), hint));
        }
        let types = || Rc::from(self.scope.node_types);
        self.whole += usize::from(matches!(name, "node" | "props"));
        Ok(match name {
            "node" => (Op::Node, Hint::Node(types())),
            "props" => (Op::Props, Hint::Props(types())),
            "now" => (Op::Now, Hint::Any),
            _ => {
                let Some((_, type_name)) = function::TYPE_NAMES.iter().find(|(word, _)| *word == name) else {
                    let known = self.locals.iter().map(|(local, _)| local.as_str()).chain(["node", "props", "now"]);
                    return Err(CelError::new(at, format!("`{name}` is not known here{}", did_you_mean(name, known))));
                };
                (Op::Type(type_name), Hint::Any)
            }
        })
    }

    fn select(&mut self, operand: &Ast, field: &str, at: usize, tested: bool) -> Result<(Expr, Hint<'s>), CelError> {
        let (operand, known) = self.expr(operand)?;
        let hint = self.check_field(&known, field, at)?;
        self.note(&operand, field, tested);
        Ok((operand, hint))
    }

    /// Refuses a field that a node or its properties cannot have.
    fn check_field(&self, hint: &Hint<'s>, field: &str, at: usize) -> Result<Hint<'s>, CelError> {
        match hint {
            Hint::Node(types) => match field {
                "props" => Ok(Hint::Props(types.clone())),
                _ if NODE_FIELDS.contains(&field) => Ok(Hint::Any),
                _ => {
                    let known = NODE_FIELDS.iter().copied();
                    Err(CelError::new(at, format!("a node has no `{field}`{}", did_you_mean(field, known))))
                }
            },
            Hint::Props(types) => {
                let Some(schema) = self.scope.schema else { return Ok(Hint::Any) };
                let mut below = Hint::Any;
                for node_type in types.iter() {
                    let Some(known) = schema.properties(node_type) else { continue };
                    let Some(shape) = known.get(field) else {
                        let hint = did_you_mean(field, known.keys().map(String::as_str));
                        return Err(CelError::new(at, format!("`{node_type}` has no property `{field}`{hint}")));
                    };
                    below = if types.len() == 1 { Hint::Shape(shape) } else { Hint::Any };
                }
                Ok(below)
            }
            Hint::Shape(Shape::Fields(known)) => known.get(field).map(Hint::Shape).ok_or_else(|| {
                let hint = did_you_mean(field, known.keys().map(String::as_str));
                CelError::new(at, format!("there is no `{field}` here{hint}"))
            }),
            Hint::Shape(Shape::Any(())) | Hint::Any | Hint::Nodes(_) => Ok(Hint::Any),
        }
    }

    fn call(&mut self, target: Option<&Ast>, name: &str, args: &[Ast], at: usize) -> Result<(Op, Hint<'s>), CelError> {
        match (target, name, args) {
            (None, "has", [Ast { kind: Kind::Select(operand, field), at, .. }]) => {
                let (operand, _) = self.select(operand, field, *at, true)?;
                return Ok((Op::Has(Box::new(operand), field.as_str().into()), Hint::Any));
            }
            (None, "has", _) => {
                return Err(CelError::new(at, "`has` takes one field selection such as `has(props.name)`"));
            }
            (None, "default", [value, fallback]) => {
                let (value, hint) = self.expr(value)?;
                return Ok((Op::Default(Box::new((value, self.expr(fallback)?.0))), hint));
            }
            (_, "neighbors", _) => return self.neighbors(target, args, at),
            (None, "nodes_of", [Ast { kind: Kind::Literal(Literal::Str(node_type)), at, .. }]) => {
                let hint = self.node_hint(node_type, *at)?;
                return Ok((Op::NodesOf(node_type.clone(), self.shown_by(node_type)), hint));
            }
            (None, "nodes_of", _) => return Err(CelError::new(at, "`nodes_of` takes a node type in quotes")),
            (Some(range), _, args) => {
                if let Some(kind) = fold_kind(name, args.len()) {
                    return self.fold(kind, range, args, at);
                }
                if let ("matches", [Ast { kind: Kind::Literal(Literal::Str(pattern)), at, .. }]) = (name, args) {
                    let regex = compile_pattern(pattern).map_err(|message| CelError::new(*at, message))?;
                    return Ok((Op::Matches(Box::new(self.expr(range)?.0), regex), Hint::Any));
                }
            }
            (None, "matches", [text, Ast { kind: Kind::Literal(Literal::Str(pattern)), at, .. }]) => {
                let regex = compile_pattern(pattern).map_err(|message| CelError::new(*at, message))?;
                return Ok((Op::Matches(Box::new(self.expr(text)?.0), regex), Hint::Any));
            }
            _ => {}
        }
        let Some(entry) = function::TABLE.iter().find(|entry| entry.name == name && entry.allows(target.is_some()))
        else {
            let known = function::TABLE.iter().map(|entry| entry.name).chain(MACROS);
            return Err(CelError::new(at, format!("there is no function `{name}`{}", did_you_mean(name, known))));
        };
        let mut all = Vec::with_capacity(args.len() + 1);
        let mut hint = Hint::Any;
        for arg in target.into_iter().chain(args) {
            let (arg, known) = self.expr(arg)?;
            all.push(arg);
            if entry.function == Function::AsList {
                hint = known;
            }
        }
        if !entry.arity.contains(&all.len()) {
            let (least, most) = (*entry.arity.start(), *entry.arity.end());
            let own = usize::from(target.is_some());
            let wanted =
                if least == most { (least - own).to_string() } else { format!("{} to {}", least - own, most - own) };
            return Err(CelError::new(at, format!("`{name}` takes {wanted} arguments here, not {}", args.len())));
        }
        Ok((Op::Call(entry.function, all.into()), hint))
    }

    fn node_hint(&self, node_type: &str, at: usize) -> Result<Hint<'s>, CelError> {
        if node_type == "*" {
            return Ok(Hint::Any);
        }
        if let Some(schema) = self.scope.schema {
            schema.check_type(node_type).map_err(|message| CelError::new(at, message))?;
        }
        Ok(Hint::Nodes(Rc::from([node_type.to_owned()])))
    }

    /// The scopes that have to be read for a list of nodes of a type to be complete.
    fn shown_by(&self, node_type: &str) -> Box<[Box<str>]> {
        self.scope.schema.into_iter().flat_map(|schema| schema.scopes(node_type)).map(Box::from).collect()
    }

    fn neighbors(&mut self, target: Option<&Ast>, args: &[Ast], at: usize) -> Result<(Op, Hint<'s>), CelError> {
        let texts: Vec<(&str, usize)> = args
            .iter()
            .filter_map(|arg| match &arg.kind {
                Kind::Literal(Literal::Str(text)) => Some((&**text, arg.at)),
                _ => None,
            })
            .collect();
        let (&[(edge, edge_at), (direction, direction_at), (node_type, type_at)], 3) = (texts.as_slice(), args.len())
        else {
            let message = "`neighbors` takes an edge type, \"out\" or \"in\", and a node type, each in quotes";
            return Err(CelError::new(at, message));
        };
        let direction = match direction {
            "out" => Direction::Out,
            "in" => Direction::In,
            other => {
                return Err(CelError::new(direction_at, format!("`{other}` is no direction: use \"out\" or \"in\"")));
            }
        };
        if let Some(schema) = self.scope.schema.filter(|_| edge != "*") {
            schema.check_edge(edge).map_err(|message| CelError::new(edge_at, message))?;
        }
        let hint = self.node_hint(node_type, type_at)?;
        let of = target.map(|target| self.expr(target)).transpose()?.map(|(expr, _)| Box::new(expr));
        // `node.neighbors(...)` reads no property of the node.
        if of.as_ref().is_some_and(|of| matches!(of.op, Op::Node)) {
            self.whole = self.whole.saturating_sub(1);
        }
        let scopes = self.shown_by(node_type);
        Ok((Op::Neighbors { of, edge: edge.into(), direction, node_type: node_type.into(), scopes }, hint))
    }

    fn fold(&mut self, kind: FoldKind, range: &Ast, args: &[Ast], at: usize) -> Result<(Op, Hint<'s>), CelError> {
        let (range, range_hint) = self.expr(range)?;
        let Some((Ast { kind: Kind::Ident(variable), .. }, rest)) = args.split_first() else {
            return Err(CelError::new(at, "the first argument of a macro is the name of its variable"));
        };
        if self.locals.len() >= LOCALS {
            return Err(CelError::new(at, format!("more than {LOCALS} macros are nested")));
        }
        let item_hint = match &range_hint {
            Hint::Nodes(types) => Hint::Node(types.clone()),
            Hint::Shape(shape) => Hint::Shape(shape),
            _ => Hint::Any,
        };
        self.locals.push((variable.clone(), item_hint));
        let parts = self.all(rest);
        self.locals.pop();
        let mut parts = parts?.into_vec();
        let yields = if kind == FoldKind::Map { parts.pop() } else { None };
        let hint = if kind == FoldKind::Filter { range_hint } else { Hint::Any };
        Ok((Op::Fold(Box::new(Fold { kind, range, test: parts.pop(), yields })), hint))
    }
}

const MACROS: [&str; 10] =
    ["has", "default", "all", "exists", "exists_one", "filter", "map", "neighbors", "nodes_of", "matches"];

fn fold_kind(name: &str, args: usize) -> Option<FoldKind> {
    Some(match (name, args) {
        ("all", 2) => FoldKind::All,
        ("exists", 2) => FoldKind::Exists,
        ("exists_one" | "existsOne", 2) => FoldKind::ExistsOne,
        ("filter", 2) => FoldKind::Filter,
        ("map", 2 | 3) => FoldKind::Map,
        _ => return None,
    })
}
