//! Functions of CEL's standard, and the few that security rules need.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::compile::compile_pattern;
use super::eval::{Fault, Machine, Refusal, no_overload, other};
use super::time_part::{TimePart, part};
use super::value::{NANOS_PER_SECOND, Value, parse_duration, parse_timestamp, timestamp_text, whole};

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    LowerAscii,
    UpperAscii,
    Trim,
    Split,
    Replace,
    Join,
    ToInt,
    ToUint,
    ToDouble,
    ToText,
    ToBool,
    ToBytes,
    ToTimestamp,
    ToDuration,
    TypeOf,
    Dyn,
    AsList,
    CidrContains,
    IsPublicCidr,
    IsAnyCidr,
    PortIn,
    DaysBetween,
    AgeDays,
    Part(TimePart),
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Global,
    Method,
    Both,
}

/// A line of the function table.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) function: Function,
    form: Form,
    /// Arguments with the receiver.
    pub(super) arity: RangeInclusive<usize>,
}

impl Entry {
    pub(super) fn allows(&self, method: bool) -> bool {
        self.form == Form::Both || (self.form == Form::Method) == method
    }
}

const fn entry(name: &'static str, function: Function, form: Form, least: usize, most: usize) -> Entry {
    Entry { name, function, form, arity: least..=most }
}

/// Every function.
pub(super) const TABLE: [Entry; 38] = [
    entry("size", Function::Size, Form::Both, 1, 1),
    entry("contains", Function::Contains, Form::Method, 2, 2),
    entry("startsWith", Function::StartsWith, Form::Method, 2, 2),
    entry("endsWith", Function::EndsWith, Form::Method, 2, 2),
    entry("matches", Function::Matches, Form::Both, 2, 2),
    entry("lowerAscii", Function::LowerAscii, Form::Method, 1, 1),
    entry("upperAscii", Function::UpperAscii, Form::Method, 1, 1),
    entry("trim", Function::Trim, Form::Method, 1, 1),
    entry("split", Function::Split, Form::Method, 2, 2),
    entry("replace", Function::Replace, Form::Method, 3, 3),
    entry("join", Function::Join, Form::Method, 1, 2),
    entry("int", Function::ToInt, Form::Global, 1, 1),
    entry("uint", Function::ToUint, Form::Global, 1, 1),
    entry("double", Function::ToDouble, Form::Global, 1, 1),
    entry("string", Function::ToText, Form::Global, 1, 1),
    entry("bool", Function::ToBool, Form::Global, 1, 1),
    entry("bytes", Function::ToBytes, Form::Global, 1, 1),
    entry("timestamp", Function::ToTimestamp, Form::Global, 1, 1),
    entry("duration", Function::ToDuration, Form::Global, 1, 1),
    entry("type", Function::TypeOf, Form::Global, 1, 1),
    entry("dyn", Function::Dyn, Form::Global, 1, 1),
    entry("as_list", Function::AsList, Form::Global, 1, 1),
    entry("cidr_contains", Function::CidrContains, Form::Global, 2, 2),
    entry("is_public_cidr", Function::IsPublicCidr, Form::Global, 1, 1),
    entry("is_any_cidr", Function::IsAnyCidr, Form::Global, 1, 1),
    entry("port_in", Function::PortIn, Form::Global, 3, 3),
    entry("days_between", Function::DaysBetween, Form::Global, 2, 2),
    entry("age_days", Function::AgeDays, Form::Global, 1, 1),
    entry("getFullYear", Function::Part(TimePart::FullYear), Form::Method, 1, 1),
    entry("getMonth", Function::Part(TimePart::Month), Form::Method, 1, 1),
    entry("getDate", Function::Part(TimePart::Date), Form::Method, 1, 1),
    entry("getDayOfMonth", Function::Part(TimePart::DayOfMonth), Form::Method, 1, 1),
    entry("getDayOfWeek", Function::Part(TimePart::DayOfWeek), Form::Method, 1, 1),
    entry("getDayOfYear", Function::Part(TimePart::DayOfYear), Form::Method, 1, 1),
    entry("getHours", Function::Part(TimePart::Hours), Form::Method, 1, 1),
    entry("getMinutes", Function::Part(TimePart::Minutes), Form::Method, 1, 1),
    entry("getSeconds", Function::Part(TimePart::Seconds), Form::Method, 1, 1),
    entry("getMilliseconds", Function::Part(TimePart::Milliseconds), Form::Method, 1, 1),
];

/// Names of types as values, e.g. `type(x) == string`.
pub(super) const TYPE_NAMES: [(&str, &str); 10] = [
    ("bool", "bool"),
    ("int", "int"),
    ("uint", "uint"),
    ("double", "double"),
    ("string", "string"),
    ("bytes", "bytes"),
    ("list", "list"),
    ("map", "map"),
    ("null_type", "null_type"),
    ("type", "type"),
];

/// Steps that compiling a pattern costs when it is not a literal.
const PATTERN_STEPS: usize = 20_000;

fn count<'a>(n: usize) -> Value<'a> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Calls a function with as many arguments as its line of the table says.
pub(super) fn call<'a>(
    machine: &mut Machine<'a>,
    function: Function,
    args: &[Value<'a>],
    at: usize,
) -> Result<Value<'a>, Fault> {
    let refuse = |refusal: Refusal| other(at, refusal);
    let unfit = || {
        let name = TABLE.iter().find(|entry| entry.function == function).map_or("", |entry| entry.name);
        no_overload(at, name, &args.iter().collect::<Vec<_>>())
    };
    Ok(match (function, args) {
        (Function::Size, [Value::Str(s)]) => count(s.chars().count()),
        (Function::Size, [Value::Bytes(b)]) => count(b.len()),
        (Function::Size, [Value::List(list)]) => count(list.len()),
        (Function::Size, [Value::Map(map)]) => count(map.len()),
        (Function::Contains, [Value::Str(s), Value::Str(part)]) => Value::Bool(s.contains(&**part)),
        (Function::StartsWith, [Value::Str(s), Value::Str(part)]) => Value::Bool(s.starts_with(&**part)),
        (Function::EndsWith, [Value::Str(s), Value::Str(part)]) => Value::Bool(s.ends_with(&**part)),
        (Function::Matches, [Value::Str(s), Value::Str(pattern)]) => {
            machine.charge(PATTERN_STEPS + s.len() / 8, at)?;
            Value::Bool(compile_pattern(pattern).map_err(|message| other(at, message))?.is_match(s))
        }
        (Function::LowerAscii, [Value::Str(s)]) => Value::text(s.to_ascii_lowercase()),
        (Function::UpperAscii, [Value::Str(s)]) => Value::text(s.to_ascii_uppercase()),
        (Function::Trim, [Value::Str(s)]) => Value::text(s.trim().to_owned()),
        (Function::Split, [Value::Str(s), Value::Str(separator)]) => {
            machine.charge(s.len(), at)?;
            let piece = |piece: &str| Value::text(piece.to_owned());
            Value::list(if separator.is_empty() {
                s.chars().map(|c| Value::text(c.to_string())).collect()
            } else {
                s.split(&**separator).map(piece).collect()
            })
        }
        (Function::Replace, [Value::Str(s), Value::Str(from), Value::Str(to)]) => {
            let hits = s.matches(&**from).count();
            machine.charge(hits.saturating_mul(to.len()) / 32 + s.len() / 32, at)?;
            Value::text(s.replace(&**from, to))
        }
        (Function::Join, [Value::List(list), rest @ ..]) => {
            let separator = match rest {
                [] => Cow::Borrowed(""),
                [Value::Str(separator)] => separator.clone(),
                _ => return Err(unfit()),
            };
            let mut out = String::new();
            for (i, item) in list.iter().enumerate() {
                let Value::Str(item) = item else { return Err(no_overload(at, "join", &[&item])) };
                machine.charge((item.len() + separator.len()) / 32, at)?;
                if i > 0 {
                    out.push_str(&separator);
                }
                out.push_str(&item);
            }
            Value::text(out)
        }
        (Function::ToBool, [value @ Value::Bool(_)])
        | (Function::ToInt, [value @ Value::Int(_)])
        | (Function::ToUint, [value @ Value::Uint(_)])
        | (Function::ToDouble, [value @ Value::Double(_)])
        | (Function::ToText, [value @ Value::Str(_)])
        | (Function::ToBytes, [value @ Value::Bytes(_)])
        | (Function::ToTimestamp, [value @ Value::Timestamp(_)])
        | (Function::ToDuration, [value @ Value::Duration(_)])
        | (Function::Dyn, [value])
        | (Function::AsList, [value @ Value::List(_)]) => value.clone(),
        (Function::TypeOf, [value]) => Value::Type(value.type_name()),
        (Function::AsList, [Value::Null]) => Value::list(Vec::new()),
        (Function::AsList, [value]) => Value::list(vec![value.clone()]),
        (Function::ToInt, [value]) => {
            to_integer(value).and_then(|i| i64::try_from(i).ok()).map(Value::Int).ok_or_else(unfit_number(at, value))?
        }
        (Function::ToUint, [value]) => to_integer(value)
            .and_then(|i| u64::try_from(i).ok())
            .map(Value::Uint)
            .ok_or_else(unfit_number(at, value))?,
        (Function::ToDouble, [value]) => to_double(value).map(Value::Double).ok_or_else(unfit_number(at, value))?,
        (Function::ToBool, [Value::Str(s)]) => match &**s {
            "true" | "True" | "TRUE" | "t" | "1" => Value::Bool(true),
            "false" | "False" | "FALSE" | "f" | "0" => Value::Bool(false),
            _ => return Err(other(at, "the text is neither `true` nor `false`")),
        },
        (Function::ToBytes, [Value::Str(s)]) => Value::Bytes(Cow::Owned(s.as_bytes().to_vec())),
        (Function::ToText, [Value::Bytes(b)]) => {
            Value::text(std::str::from_utf8(b).map_err(|_| other(at, "the bytes are not UTF-8"))?.to_owned())
        }
        (Function::ToText, [Value::Timestamp(t)]) => {
            Value::text(timestamp_text(*t).ok_or_else(|| other(at, "the time is out of range"))?)
        }
        (
            Function::ToText,
            [value @ (Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_))],
        ) => Value::text(value.display()),
        (Function::ToTimestamp, [value]) => Value::Timestamp(moment(value).ok_or_else(|| bad_time(at))?),
        (Function::ToDuration, [Value::Str(s)]) => Value::Duration(
            parse_duration(s).ok_or_else(|| other(at, "a duration is a text such as `1h30m` or `90s`"))?,
        ),
        (Function::CidrContains, [Value::Str(outer), Value::Str(inner)]) => {
            let (outer, inner) = (cidr(outer).map_err(refuse)?, cidr(inner).map_err(refuse)?);
            Value::Bool(outer.contains(&inner))
        }
        (Function::IsPublicCidr, [Value::Str(block)]) => {
            let block = cidr(block).map_err(refuse)?;
            let special =
                SPECIAL.iter().filter_map(|special| cidr(special).ok()).any(|special| special.contains(&block));
            Value::Bool(!special)
        }
        (Function::IsAnyCidr, [Value::Str(block)]) => Value::Bool(cidr(block).map_err(refuse)?.prefix == 0),
        (Function::PortIn, [from, to, Value::Int(port)]) => {
            let bound = |value: &Value<'_>| match value {
                Value::Null | Value::Int(-1) => Ok(None),
                Value::Int(i) => Ok(Some(*i)),
                _ => Err(unfit()),
            };
            let (from, to) = (bound(from)?, bound(to)?);
            Value::Bool(from.is_none_or(|from| from <= *port) && to.is_none_or(|to| to >= *port))
        }
        (Function::DaysBetween, [a, b]) => match (moment(a), moment(b)) {
            (Some(a), Some(b)) => days(b - a),
            _ => return Err(bad_time(at)),
        },
        (Function::AgeDays, [value]) => {
            let now = i128::from(machine.subject.now.as_millis()) * 1_000_000;
            days(now - moment(value).ok_or_else(|| bad_time(at))?)
        }
        (Function::Part(which), [value]) => part(value, which).map(Value::Int).ok_or_else(unfit)?,
        _ => return Err(unfit()),
    })
}

fn unfit_number(at: usize, value: &Value<'_>) -> impl FnOnce() -> Fault {
    let text = value.display();
    move || {
        other(at, format!("`{}` does not convert to that type of number", text.chars().take(40).collect::<String>()))
    }
}

fn bad_time(at: usize) -> Fault {
    other(at, "a time is a timestamp, seconds since 1970, or a text such as `2026-11-22T03:00:00Z`")
}

fn to_integer(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        Value::Double(d) => whole(d.trunc()),
        Value::Str(s) => s.parse().ok(),
        Value::Timestamp(nanos) => Some(nanos.div_euclid(NANOS_PER_SECOND)),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "CEL's double() rounds to the nearest double")]
fn to_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        Value::Str(s) => s.parse().ok(),
        _ => None,
    }
}

/// A moment: a timestamp, seconds since 1970, or RFC 3339.
fn moment(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Timestamp(nanos) => Some(*nanos),
        Value::Int(seconds) => super::value::in_range(i128::from(*seconds) * NANOS_PER_SECOND),
        Value::Str(s) => parse_timestamp(s),
        _ => None,
    }
}

/// Whole days, rounded down.
fn days<'a>(nanos: i128) -> Value<'a> {
    Value::Int(i64::try_from(nanos.div_euclid(86_400 * NANOS_PER_SECOND)).unwrap_or(i64::MAX))
}

/// A block of addresses. IPv4 and IPv6 never contain each other.
struct Cidr {
    bits: u128,
    prefix: u32,
    width: u32,
}

impl Cidr {
    fn contains(&self, inner: &Self) -> bool {
        let shift = self.width - self.prefix;
        let head = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
        self.width == inner.width && self.prefix <= inner.prefix && head(self.bits) == head(inner.bits)
    }
}

fn cidr(text: &str) -> Result<Cidr, Refusal> {
    let wrong =
        || format!("`{}` is not an address block such as `10.0.0.0/8`", text.chars().take(60).collect::<String>());
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let prefix = match prefix {
        None => width,
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(wrong)?,
    };
    Ok(Cidr { bits, prefix, width })
}

/// Blocks that are not routed on the Internet (RFC 6890 and its registry).
const SPECIAL: [&str; 20] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];
