//! Evaluation: a walk over the compiled tree with a budget of steps.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::compile::{Expr, Fold, FoldKind, Op};
use super::parse::{Logic, Operator};
use super::value::{Key, List, Map, Value, compare_numbers, duration_in_range, equal, in_range};
use super::{COST_MAX, Subject, function};
use crate::snapshot::{Lack, Node, NodeIndex, Snapshot};

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// Where in the expression, as a byte offset.
    pub(crate) at: usize,
    pub(crate) cause: Cause,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cause {
    /// The budget ran out: nothing absorbs this.
    Cost,
    /// A field, key, index or value that is not there.
    Missing(Box<str>),
    /// A node, or nodes, that nobody has read: whether they are there is not known.
    Unread(Box<str>),
    /// Anything else.
    Other(Cow<'static, str>),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cost => write!(f, "cost limit of {COST_MAX} steps reached"),
            Self::Missing(what) => write!(f, "there is no `{what}`"),
            Self::Unread(what) => f.write_str(what),
            Self::Other(message) => f.write_str(message),
        }
    }
}

/// What a function says when it has no value.
pub(super) type Refusal = Cow<'static, str>;

/// One evaluation after another about one subject.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) budget: u64,
    locals: Vec<Value<'a>>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(subject: Subject<'a>) -> Self {
        Self { subject, budget: COST_MAX, locals: Vec::new() }
    }

    /// Turns to another node.
    pub(crate) fn turn_to(&mut self, index: NodeIndex, node: &'a Node) {
        self.subject.index = index;
        self.subject.node = node;
    }

    /// Evaluates with a full budget.
    pub(super) fn run(&mut self, expr: &'a Expr) -> Result<Value<'a>, Fault> {
        self.budget = COST_MAX;
        self.locals.clear();
        self.eval(expr)
    }

    pub(super) fn charge(&mut self, steps: usize, at: usize) -> Result<(), Fault> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.budget = self.budget.checked_sub(steps).ok_or(Fault { at, cause: Cause::Cost })?;
        Ok(())
    }

    fn eval(&mut self, expr: &'a Expr) -> Result<Value<'a>, Fault> {
        let at = expr.at;
        self.charge(1, at)?;
        Ok(match &expr.op {
            Op::Literal(literal) => Value::from(literal),
            Op::Node => Value::Node(self.subject.index, self.subject.node, None),
            Op::Props => Value::from(&self.subject.node.properties),
            Op::Now => Value::Timestamp(i128::from(self.subject.now.as_millis()) * 1_000_000),
            Op::Local(slot) => self.locals.get(*slot).cloned().unwrap_or(Value::Null),
            Op::Type(name) => Value::Type(name),
            Op::Select(operand, field) => {
                let operand = self.eval(operand)?;
                self.field(&operand, field, at)?.ok_or_else(|| missing(at, field))?
            }
            Op::Has(operand, field) => {
                let operand = self.eval(operand)?;
                Value::Bool(self.field(&operand, field, at)?.is_some())
            }
            Op::Index(parts) => {
                let (operand, index) = parts.as_ref();
                let (operand, index) = (self.eval(operand)?, self.eval(index)?);
                self.index(&operand, &index, at)?
            }
            Op::Not(operand) => match self.eval(operand)? {
                Value::Bool(b) => Value::Bool(!b),
                other => return Err(no_overload(at, "!", &[&other])),
            },
            Op::Negate(operand) => match self.eval(operand)? {
                Value::Int(i) => Value::Int(i.checked_neg().ok_or_else(|| overflow(at))?),
                Value::Double(d) => Value::Double(-d),
                Value::Duration(d) => Value::Duration(-d),
                other => return Err(no_overload(at, "-", &[&other])),
            },
            Op::Logic(logic, operands) => self.logic(*logic, operands, at)?,
            Op::Binary(operator, sides) => {
                let (left, right) = sides.as_ref();
                self.binary(*operator, left, right, at)?
            }
            Op::Ternary(parts) => {
                let [test, yes, no] = parts.as_ref();
                match self.eval(test)? {
                    Value::Bool(true) => self.eval(yes)?,
                    Value::Bool(false) => self.eval(no)?,
                    other => return Err(no_overload(at, "?:", &[&other])),
                }
            }
            Op::List(items) => Value::list(items.iter().map(|item| self.eval(item)).collect::<Result<_, _>>()?),
            Op::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value) in entries {
                    let key = self.eval(key)?;
                    let key = Key::new(&key).ok_or_else(|| other(at, "a map's key is a string, a number or a bool"))?;
                    if map.insert(key, self.eval(value)?).is_some() {
                        return Err(other(at, "the map has one key twice"));
                    }
                }
                Value::Map(Map::Owned(Rc::new(map)))
            }
            Op::Call(function, args) => {
                let args = args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
                self.charge(args.iter().map(Value::weight).sum(), at)?;
                function::call(self, *function, &args, at)?
            }
            Op::Matches(text, regex) => match self.eval(text)? {
                Value::Str(text) => {
                    self.charge(text.len() / 8, at)?;
                    Value::Bool(regex.is_match(&text))
                }
                other => return Err(no_overload(at, "matches", &[&other])),
            },
            Op::Default(parts) => {
                let (value, fallback) = parts.as_ref();
                let depth = self.locals.len();
                match self.eval(value) {
                    Ok(Value::Null) => self.eval(fallback)?,
                    Err(Fault { cause: Cause::Missing(_), .. }) => {
                        self.locals.truncate(depth);
                        self.eval(fallback)?
                    }
                    done => done?,
                }
            }
            Op::Fold(_) | Op::Neighbors { .. } | Op::NodesOf(..) => match self.list(expr)? {
                (list, None) => list,
                (_, Some(unread)) => return Err(unread),
            },
        })
    }

    /// A value that may be a list which is not known to be complete: the list of what was read, and what of it was not.
    fn list(&mut self, expr: &'a Expr) -> Result<(Value<'a>, Option<Fault>), Fault> {
        let at = expr.at;
        let snapshot = self.subject.snapshot;
        match &expr.op {
            Op::Fold(fold) => self.fold(fold, at),
            Op::Neighbors { of, edge, direction, node_type, scopes } => {
                let (index, origin) = match of {
                    None => (self.subject.index, self.subject.node),
                    Some(of) => match self.eval(of)? {
                        Value::Node(index, node, _) => (index, node),
                        other => return Err(no_overload(at, "neighbors", &[&other])),
                    },
                };
                let mut lack =
                    scopes.iter().find_map(|scope| lack_of(snapshot.lack(origin, scope, false), node_type, at));
                let mut found = Vec::new();
                for (index, edge) in snapshot.neighbors(index, edge, *direction, node_type) {
                    self.charge(1, at)?;
                    match snapshot.node(index) {
                        Some(node) if Snapshot::is_unread(node) => {
                            lack = lack.or_else(|| lack_of(Some(Lack::Node(&node.id)), node_type, at));
                        }
                        Some(node) => found.push(Value::Node(index, node, edge)),
                        None => {}
                    }
                }
                Ok((Value::list(found), lack))
            }
            Op::NodesOf(node_type, scopes) => {
                let node = self.subject.node;
                let lack = scopes.iter().find_map(|scope| lack_of(snapshot.lack(node, scope, true), node_type, at));
                Ok((Value::List(List::Nodes(snapshot.peers_of_type(node, node_type), snapshot)), lack))
            }
            _ => self.eval(expr).map(|value| (value, None)),
        }
    }

    /// A field of a map or node; an error where the value cannot have fields.
    fn field(&mut self, of: &Value<'a>, field: &'a str, at: usize) -> Result<Option<Value<'a>>, Fault> {
        let snapshot = self.subject.snapshot;
        match of {
            Value::Map(map) => Ok(map.field(field)),
            Value::Node(_, node, edge) => Ok(match field {
                "props" => Some(Value::from(&node.properties)),
                "tags" => Some(Value::from(&node.tags)),
                "id" => Some(Value::text(&*node.id)),
                "name" => Some(Value::text(&*node.name)),
                "type" => Some(Value::text(snapshot.type_of(node))),
                "region" => Some(Value::text(snapshot.region_of(node))),
                "provider" => Some(Value::text(snapshot.provider_of(node))),
                "edge" => Some(edge.map_or_else(|| Value::Map(Map::Owned(Rc::default())), Value::from)),
                _ => None,
            }),
            Value::Null => Err(missing(at, field)),
            other => Err(no_overload(at, "field selection", &[other])),
        }
    }

    fn index(&mut self, of: &Value<'a>, index: &Value<'a>, at: usize) -> Result<Value<'a>, Fault> {
        match (of, index) {
            (Value::List(list), index) => {
                let position = match Key::new(index) {
                    Some(Key::Int(i)) => usize::try_from(i).ok(),
                    _ => return Err(no_overload(at, "[]", &[of, index])),
                };
                position.and_then(|i| list.at(i)).ok_or_else(|| missing(at, &format!("[{}]", index.display())))
            }
            (Value::Map(map), index) => map.get(index).ok_or_else(|| missing(at, &index.display())),
            (Value::Node(..), Value::Str(Cow::Borrowed(field))) => {
                self.field(of, field, at)?.ok_or_else(|| missing(at, field))
            }
            (Value::Null, index) => Err(missing(at, &index.display())),
            _ => Err(no_overload(at, "[]", &[of, index])),
        }
    }

    /// CEL's `&&` and `||`: the deciding value wins over errors, whichever side it is on.
    fn logic(&mut self, logic: Logic, operands: &'a [Expr], at: usize) -> Result<Value<'a>, Fault> {
        let deciding = logic == Logic::Or;
        let mut first_fault = None;
        let depth = self.locals.len();
        for operand in operands {
            match self.eval(operand) {
                Ok(Value::Bool(b)) if b == deciding => return Ok(Value::Bool(deciding)),
                Ok(Value::Bool(_)) => {}
                Ok(other) => {
                    let sign = if deciding { "||" } else { "&&" };
                    first_fault.get_or_insert(no_overload(at, sign, &[&other]));
                }
                Err(fault) if fault.cause == Cause::Cost => return Err(fault),
                Err(fault) => {
                    self.locals.truncate(depth);
                    first_fault.get_or_insert(fault);
                }
            }
        }
        first_fault.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn same(&mut self, left: &Value<'a>, right: &Value<'a>, at: usize) -> Result<bool, Fault> {
        equal(left, right, &mut self.budget).ok_or(Fault { at, cause: Cause::Cost })
    }

    fn binary(&mut self, operator: Operator, left: &'a Expr, right: &'a Expr, at: usize) -> Result<Value<'a>, Fault> {
        let left = self.eval(left)?;
        if let (Operator::In, Op::List(items)) = (operator, &right.op) {
            // A written list is not built to be searched.
            let mut found = false;
            for item in items {
                let item = self.eval(item)?;
                found = found || self.same(&left, &item, at)?;
            }
            return Ok(Value::Bool(found));
        }
        let right = self.eval(right)?;
        let order = |wanted: fn(Ordering) -> bool, sign| match compare(&left, &right) {
            Some(order) => Ok(Value::Bool(order.is_some_and(wanted))),
            None => Err(no_overload(at, sign, &[&left, &right])),
        };
        match operator {
            Operator::Equal => Ok(Value::Bool(self.same(&left, &right, at)?)),
            Operator::NotEqual => Ok(Value::Bool(!self.same(&left, &right, at)?)),
            Operator::Less => order(Ordering::is_lt, "<"),
            Operator::LessEqual => order(Ordering::is_le, "<="),
            Operator::Greater => order(Ordering::is_gt, ">"),
            Operator::GreaterEqual => order(Ordering::is_ge, ">="),
            Operator::In => match &right {
                Value::List(list) => {
                    for item in list.iter() {
                        if self.same(&left, &item, at)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                Value::Map(map) => Ok(Value::Bool(map.get(&left).is_some())),
                _ => Err(no_overload(at, "in", &[&left, &right])),
            },
            Operator::Add => {
                self.charge(left.weight() + right.weight(), at)?;
                add(&left, &right, at)
            }
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                arithmetic(operator, &left, &right, at)
            }
        }
    }

    /// A macro. Of a list that was not read completely `exists` is true and `all` is false where what was read decides it; anything else
    /// lacks what the list lacks.
    fn fold(&mut self, fold: &'a Fold, at: usize) -> Result<(Value<'a>, Option<Fault>), Fault> {
        let (range, lack) = self.list(&fold.range)?;
        let keys;
        let items = match &range {
            Value::List(list) => list,
            Value::Map(map) => {
                self.charge(map.len(), at)?;
                keys = List::Owned(Rc::new(map.keys()));
                &keys
            }
            other => return Err(no_overload(at, "a macro", &[other])),
        };
        let (mut kept, mut count, mut first_fault) = (Vec::new(), 0usize, None);
        let absorbs = matches!(fold.kind, FoldKind::All | FoldKind::Exists);
        let slot = self.locals.len();
        for item in items.iter() {
            self.locals.truncate(slot);
            self.locals.push(item.clone());
            let holds = match fold.test.as_ref().map(|test| self.eval(test)) {
                None => true,
                Some(Ok(Value::Bool(holds))) => holds,
                Some(result) => {
                    let fault = match result {
                        Err(fault) => fault,
                        Ok(value) => no_overload(at, "the macro's predicate", &[&value]),
                    };
                    if !absorbs || fault.cause == Cause::Cost {
                        return Err(fault);
                    }
                    first_fault.get_or_insert(fault);
                    continue;
                }
            };
            match (fold.kind, holds) {
                (FoldKind::All, false) | (FoldKind::Exists, true) => {
                    self.locals.truncate(slot);
                    return Ok((Value::Bool(holds), None));
                }
                (FoldKind::ExistsOne, true) => count += 1,
                (FoldKind::Filter, true) => kept.push(item),
                (FoldKind::Map, true) => {
                    if let Some(yields) = &fold.yields {
                        self.locals.truncate(slot + 1);
                        kept.push(self.eval(yields)?);
                    }
                }
                _ => {}
            }
        }
        self.locals.truncate(slot);
        if let Some(fault) = first_fault {
            return Err(fault);
        }
        let value = match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(count == 1),
            FoldKind::Filter | FoldKind::Map => Value::list(kept),
        };
        Ok((value, lack))
    }
}

fn lack_of(lack: Option<Lack<'_>>, node_type: &str, at: usize) -> Option<Fault> {
    let what = match lack? {
        Lack::Node(id) => format!("the neighbor `{id}` was not read"),
        Lack::Scope("") => format!("not every `{node_type}` was read"),
        Lack::Scope(place) => format!("not every `{node_type}` was read in `{place}`"),
        Lack::All => format!("no `{node_type}` was looked for"),
    };
    Some(Fault { at, cause: Cause::Unread(what.into()) })
}

fn missing(at: usize, what: &str) -> Fault {
    Fault { at, cause: Cause::Missing(what.into()) }
}

pub(super) fn other(at: usize, message: impl Into<Cow<'static, str>>) -> Fault {
    Fault { at, cause: Cause::Other(message.into()) }
}

fn overflow(at: usize) -> Fault {
    other(at, "the number does not fit in 64 bits")
}

pub(super) fn no_overload(at: usize, what: &str, args: &[&Value<'_>]) -> Fault {
    let types: Vec<&str> = args.iter().map(|arg| arg.type_name()).collect();
    other(at, format!("`{what}` does not take {}", types.join(" and ")))
}

/// The order of two values: outer `None` where they have none, inner `None` where one is NaN.
#[expect(clippy::option_option, reason = "NaN compares, but is neither less, equal nor greater")]
fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) | (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            compare_numbers(a, b)
        }
        _ => return None,
    })
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>, at: usize) -> Result<Value<'a>, Fault> {
    let moment = |nanos| in_range(nanos).map(Value::Timestamp).ok_or_else(|| other(at, "the time is out of range"));
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(|| overflow(at)),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint).ok_or_else(|| overflow(at)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::Str(a), Value::Str(b)) => Ok(Value::text(format!("{a}{b}"))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes(Cow::Owned([&**a, &**b].concat()))),
        (Value::List(a), Value::List(b)) => Ok(Value::list(a.iter().chain(b.iter()).collect())),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => moment(t + d),
        (Value::Duration(a), Value::Duration(b)) => length(a + b, at),
        _ => Err(no_overload(at, "+", &[left, right])),
    }
}

fn length<'a>(nanos: i128, at: usize) -> Result<Value<'a>, Fault> {
    duration_in_range(nanos).map(Value::Duration).ok_or_else(|| other(at, "the duration is out of range"))
}

fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>, at: usize) -> Result<Value<'a>, Fault> {
    use Operator::{Divide, Modulo, Multiply, Subtract};
    let sign = match operator {
        Subtract => "-",
        Multiply => "*",
        Divide => "/",
        _ => "%",
    };
    if matches!((operator, right), (Divide | Modulo, Value::Int(0) | Value::Uint(0)))
        && matches!(left, Value::Int(_) | Value::Uint(_))
    {
        return Err(other(at, "division by zero"));
    }
    match (operator, left, right) {
        (_, Value::Int(a), Value::Int(b)) => match operator {
            Subtract => a.checked_sub(*b),
            Multiply => a.checked_mul(*b),
            Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Int)
        .ok_or_else(|| overflow(at)),
        (_, Value::Uint(a), Value::Uint(b)) => match operator {
            Subtract => a.checked_sub(*b),
            Multiply => a.checked_mul(*b),
            Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Uint)
        .ok_or_else(|| overflow(at)),
        (Subtract, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        (Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        (Subtract, Value::Timestamp(t), Value::Duration(d)) => {
            in_range(t - d).map(Value::Timestamp).ok_or_else(|| other(at, "the time is out of range"))
        }
        (Subtract, Value::Timestamp(a), Value::Timestamp(b)) | (Subtract, Value::Duration(a), Value::Duration(b)) => {
            length(a - b, at)
        }
        _ => Err(no_overload(at, sign, &[left, right])),
    }
}
