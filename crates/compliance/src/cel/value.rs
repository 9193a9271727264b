//! Values of CEL, borrowed from the snapshot and the rule wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Literal;
use crate::snapshot::{Node, NodeIndex, Snapshot};

pub(crate) const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    List(List<'a>),
    Map(Map<'a>),
    /// A node, and the properties of the edge that led to it.
    Node(NodeIndex, &'a Node, Option<&'a Json>),
    /// Nanoseconds since 1970.
    Timestamp(i128),
    /// Nanoseconds.
    Duration(i128),
    Type(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) enum List<'a> {
    Json(&'a [Json]),
    Nodes(&'a [NodeIndex], &'a Snapshot),
    Owned(Rc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub(crate) enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>),
    Owned(Rc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// A key of a map: numbers that are equal are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    Bool(bool),
    Int(i128),
    Str(Cow<'a, str>),
}

impl<'a> Key<'a> {
    pub(super) fn new(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(i128::from(*i)),
            Value::Uint(u) => Self::Int(i128::from(*u)),
            Value::Double(d) => Self::Int(whole(*d)?),
            Value::Str(s) => Self::Str(s.clone()),
            _ => return None,
        })
    }

    pub(super) fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => {
                i64::try_from(*i).map(Value::Int).or_else(|_| u64::try_from(*i).map(Value::Uint)).unwrap_or(Value::Null)
            }
            Self::Str(s) => Value::Str(s.clone()),
        }
    }
}

/// A double without fraction that lies within ±2^64, as an integer.
#[expect(clippy::cast_possible_truncation, reason = "the range was checked and i128 holds it")]
pub(super) fn whole(d: f64) -> Option<i128> {
    (d.fract() == 0.0 && d.abs() <= 18_446_744_073_709_551_616.0).then_some(d as i128)
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(u)) => Self::Uint(u),
                _ => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Self::Str(Cow::Borrowed(s)),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }
}

impl<'a> From<&'a Literal> for Value<'a> {
    fn from(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(b) => Self::Bool(*b),
            Literal::Int(i) => Self::Int(*i),
            Literal::Uint(u) => Self::Uint(*u),
            Literal::Double(d) => Self::Double(*d),
            Literal::Str(s) => Self::Str(Cow::Borrowed(s)),
            Literal::Bytes(b) => Self::Bytes(Cow::Borrowed(b)),
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Nodes(nodes, _) => nodes.len(),
            Self::Owned(items) => items.len(),
        }
    }

    pub(super) fn at(&self, i: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items) => items.get(i).map(Value::from),
            Self::Nodes(nodes, snapshot) => {
                let at = *nodes.get(i)?;
                snapshot.node(at).map(|node| Value::Node(at, node, None))
            }
            Self::Owned(items) => items.get(i).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.at(i))
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map) => map.len(),
            Self::Owned(map) => map.len(),
        }
    }

    pub(super) fn get(&self, key: &Value<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Json(map), Value::Str(key)) => map.get(&**key).map(Value::from),
            (Self::Json(_), _) => None,
            (Self::Owned(map), key) => map.get(&Key::new(key)?).cloned(),
        }
    }

    pub(super) fn field(&self, name: &'a str) -> Option<Value<'a>> {
        match self {
            Self::Json(map) => map.get(name).map(Value::from),
            Self::Owned(map) => map.get(&Key::Str(Cow::Borrowed(name))).cloned(),
        }
    }

    pub(super) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(map) => map.keys().map(|key| Value::Str(Cow::Borrowed(key))).collect(),
            Self::Owned(map) => map.keys().map(Key::value).collect(),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Owned(Rc::new(items)))
    }

    /// The name of its type, as `type()` gives it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) | Self::Node(..) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
        }
    }

    /// How much work it is to look at all of it, roughly; containers count once per element (and are walked by who needs that).
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Str(s) => s.len() / 32,
            Self::Bytes(b) => b.len() / 32,
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            _ => 0,
        }
    }

    /// The value as JSON for people to read, cut to a size that fits a finding.
    pub(crate) fn to_json(&self, depth: usize) -> Json {
        const ITEMS: usize = 16;
        const CHARS: usize = 160;
        let cut = |text: &str| match text.char_indices().nth(CHARS) {
            Some((end, _)) => Json::String(format!("{}…", text.get(..end).unwrap_or_default())),
            None => Json::String(text.to_owned()),
        };
        match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(i) => Json::from(*i),
            Self::Uint(u) => Json::from(*u),
            Self::Double(d) => {
                serde_json::Number::from_f64(*d).map_or_else(|| Json::String(d.to_string()), Json::Number)
            }
            Self::Str(s) => cut(s),
            Self::Bytes(b) => {
                let mut hex = String::new();
                for byte in b.iter().take(CHARS) {
                    let digit = |nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
                    hex.extend([digit(byte >> 4), digit(byte & 15)]);
                }
                cut(&hex)
            }
            Self::List(_) | Self::Map(_) if depth == 0 => Json::String("…".to_owned()),
            Self::List(list) => {
                let mut items: Vec<Json> = list.iter().take(ITEMS).map(|item| item.to_json(depth - 1)).collect();
                if list.len() > ITEMS {
                    items.push(Json::String(format!("… {} more", list.len() - ITEMS)));
                }
                Json::Array(items)
            }
            Self::Map(map) => {
                let entry = |key: Value<'a>| Some((key.display(), map.get(&key)?.to_json(depth - 1)));
                Json::Object(map.keys().into_iter().take(ITEMS).filter_map(entry).collect())
            }
            Self::Node(_, node, _) => Json::String(node.id.to_string()),
            Self::Timestamp(_) | Self::Duration(_) | Self::Type(_) => Json::String(self.display()),
        }
    }

    /// The value as text, as `string()` and a message give it.
    pub(crate) fn display(&self) -> String {
        match self {
            Self::Str(s) => s.to_string(),
            Self::Timestamp(nanos) => timestamp_text(*nanos).unwrap_or_default(),
            Self::Duration(nanos) => duration_text(*nanos),
            Self::Type(name) => (*name).to_owned(),
            Self::Double(d) => d.to_string(),
            other => match other.to_json(4) {
                Json::String(text) => text,
                json => json.to_string(),
            },
        }
    }
}

/// RFC 3339 in UTC, with as many decimals as are needed.
pub(super) fn timestamp_text(nanos: i128) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// Parses RFC 3339; CEL's timestamps lie in the years 1 to 9999.
pub(super) fn parse_timestamp(text: &str) -> Option<i128> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    in_range(nanos)
}

/// A moment within the years 1 to 9999.
pub(super) fn in_range(nanos: i128) -> Option<i128> {
    let seconds = nanos.div_euclid(NANOS_PER_SECOND);
    (-62_135_596_800..=253_402_300_799).contains(&seconds).then_some(nanos)
}

/// A length of time within about ±10,000 years, as protobuf's.
pub(super) fn duration_in_range(nanos: i128) -> Option<i128> {
    (nanos.abs() <= 315_576_000_000 * NANOS_PER_SECOND).then_some(nanos)
}

fn duration_text(nanos: i128) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, rest) = (nanos / NANOS_PER_SECOND.unsigned_abs(), nanos % NANOS_PER_SECOND.unsigned_abs());
    let decimals = format!("{rest:09}");
    let decimals = decimals.trim_end_matches('0');
    let dot = if decimals.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{dot}{decimals}s")
}

/// Parses `1h30m`, `-1.5s`, `10ms`: signed decimal numbers, each with a unit of h, m, s, ms, us, ns.
pub(super) fn parse_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() || text.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let units = [
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
            ("h", 3_600 * NANOS_PER_SECOND),
            ("m", 60 * NANOS_PER_SECOND),
            ("s", NANOS_PER_SECOND),
        ];
        let (unit, size) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        rest = tail.get(unit.len()..)?;
        let (int, frac) = number.split_once('.').unwrap_or((number, ""));
        if int.is_empty() && frac.is_empty() {
            return None;
        }
        let int: i128 = if int.is_empty() { 0 } else { int.parse().ok()? };
        let frac_value: i128 = if frac.is_empty() { 0 } else { frac.get(..frac.len().min(18))?.parse().ok()? };
        let scale = 10i128.checked_pow(u32::try_from(frac.len().min(18)).ok()?)?;
        total = total.checked_add(int.checked_mul(size)?)?.checked_add(frac_value.checked_mul(size)? / scale)?;
    }
    duration_in_range(if negative { -total } else { total })
}

/// Whether two values are equal; values of different types are not, except that numbers compare across their types. `None` when the
/// budget ran out.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, budget: &mut u64) -> Option<bool> {
    *budget = budget.checked_sub(1 + u64::try_from(a.weight()).unwrap_or(u64::MAX))?;
    Some(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) | (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Node(a, ..), Value::Node(b, ..)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Some(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a, &b, budget)? {
                    return Some(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Some(false);
            }
            for key in a.keys() {
                let (Some(left), Some(right)) = (a.get(&key), b.get(&key)) else { return Some(false) };
                if !equal(&left, &right, budget)? {
                    return Some(false);
                }
            }
            true
        }
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    })
}

/// The order of two numbers of any type; `None` for NaN and for what is no number.
pub(super) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let integer = |value: &Value<'_>| match value {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => integer(b).and_then(|b| compare_integer(b, *a)).map(Ordering::reverse),
        (a, Value::Double(b)) => integer(a).and_then(|a| compare_integer(a, *b)),
        _ => Some(integer(a)?.cmp(&integer(b)?)),
    }
}

/// Exact, also where a double cannot hold the integer.
fn compare_integer(i: i128, d: f64) -> Option<Ordering> {
    if d.is_nan() {
        return None;
    }
    if d.abs() > 18_446_744_073_709_551_616.0 {
        return Some(if d > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = whole(d.floor())?;
    Some(i.cmp(&floor).then(if d.fract() == 0.0 { Ordering::Equal } else { Ordering::Less }))
}
