//! XML and JSON replies as one shape: objects with the names of `name.rs`, lists as arrays, numbers and booleans as such.

use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Number, Value};

use super::name::snake;
use super::table::{Protocol, XmlFacts};

/// Deepest nesting that is read.
const DEPTH: usize = 64;
/// Objects whose keys people chose: kept as they are.
const VERBATIM: &[&str] = &["tags", "variables", "labels", "docker_labels"];

/// Reads a reply's body; an error says what is wrong with it.
pub(crate) fn parse(protocol: Protocol, facts: Option<&XmlFacts>, body: &[u8]) -> Result<Value, String> {
    match protocol {
        Protocol::Json | Protocol::RestJson => {
            if body.iter().all(u8::is_ascii_whitespace) {
                return Ok(Value::Object(Map::new()));
            }
            let value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
            Ok(json(value, "", false))
        }
        Protocol::Query | Protocol::Ec2 | Protocol::RestXml => {
            let root = read_xml(body)?;
            let none = XmlFacts::default();
            let facts = facts.unwrap_or(&none);
            let result =
                root.children.iter().find(|child| protocol == Protocol::Query && child.name.ends_with("Result"));
            let root = result.unwrap_or(&root);
            if root.children.is_empty() {
                let text = root.text.trim();
                let mut object = Map::new();
                if !text.is_empty() {
                    object.insert(snake(&root.name), Value::String(text.to_owned()));
                }
                return Ok(Value::Object(object));
            }
            Ok(object(root, "", facts))
        }
    }
}

/// Numbers that are times, by their key, become RFC 3339 text.
fn time_of(key: &str, number: &Number) -> Option<Value> {
    const SECONDS: std::ops::Range<f64> = 1e8..1e11;
    let named = ["date", "time", "timestamp", "_at", "not_after", "not_before"].iter().any(|end| key.ends_with(end));
    let value = number.as_f64().filter(|_| named)?;
    let millis = if SECONDS.contains(&value) {
        value * 1_000.0
    } else if (1e11..1e14).contains(&value) {
        value
    } else {
        return None;
    };
    #[expect(clippy::cast_possible_truncation, reason = "the range above fits")]
    let moment = domain::Timestamp::from_millis(millis.round() as i64);
    Some(Value::String(moment.to_string()))
}

fn json(value: Value, key: &str, verbatim: bool) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let name = if verbatim { name } else { snake(&name) };
                let inner = VERBATIM.contains(&name.as_str());
                let value = json(value, &name, inner);
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| json(item, key, false)).collect(),
        Value::Number(number) => time_of(key, &number).unwrap_or(Value::Number(number)),
        other => other,
    }
}

#[derive(Default)]
struct Element {
    name: String,
    /// The attribute `xsi:type`, the only one that AWS uses for data.
    kind: Option<String>,
    text: String,
    children: Vec<Element>,
}

fn start(tag: &BytesStart<'_>) -> Element {
    let kind = tag.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == "type");
    let kind = kind.and_then(|attribute| {
        attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
    });
    Element { name: tag.local_name().as_ref().to_owned(), kind, ..Element::default() }
}

fn entity(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, String> {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return Ok(c);
    }
    match reference.xml10_content().as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => Err(format!("no XML: unknown entity `{}`", other.escape_debug())),
    }
}

fn read_xml(body: &[u8]) -> Result<Element, String> {
    let text = std::str::from_utf8(body).map_err(|_| "no XML: not UTF-8".to_owned())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| format!("no XML: {error}"))?;
        let depth = open.len();
        let Some(top) = open.last_mut() else { return Err("no XML: an end without a start".to_owned()) };
        match event {
            Event::Start(tag) if depth <= DEPTH => open.push(start(&tag)),
            Event::Start(_) => return Err(format!("XML is nested deeper than {DEPTH}")),
            Event::Empty(tag) => top.children.push(start(&tag)),
            Event::End(_) => {
                let done = open.pop().unwrap_or_default();
                open.last_mut().ok_or("no XML: an end without a start")?.children.push(done);
            }
            Event::Text(text) => top.text.push_str(&text.xml10_content()),
            Event::CData(text) => top.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => top.text.push(entity(&reference)?),
            Event::DocType(_) => return Err("XML with a document type is refused".to_owned()),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(mut document), true) if document.children.len() == 1 => {
            document.children.pop().ok_or_else(|| "no XML".to_owned())
        }
        _ => Err("no XML: not one complete element".to_owned()),
    }
}

impl XmlFacts {
    fn says(set: &std::collections::BTreeSet<String>, parent: &str, name: &str) -> bool {
        set.contains(name) || set.contains(&format!("{parent}/{name}"))
    }
}

/// A whole number of at most ten digits (longer ones are ids), or a boolean.
pub(crate) fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.len() <= 10 && (text == "0" || !text.starts_with(['0', '+', '-'])) => {
            text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from)
        }
        _ => Value::String(text.to_owned()),
    }
}

fn leaf(text: &str, number: bool) -> Value {
    let text = text.trim();
    match text {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if number => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or_else(|_| Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

/// `element`'s value; `parent` is the name of the element above, without the `item` of lists.
fn value(element: &Element, parent: &str, facts: &XmlFacts) -> Value {
    let name = element.name.as_str();
    let number = XmlFacts::says(&facts.numbers, parent, name);
    let anonymous = |child: &Element| matches!(child.name.as_str(), "item" | "member");
    let list = XmlFacts::says(&facts.lists, parent, name);
    if list || (!element.children.is_empty() && element.children.iter().all(anonymous)) {
        return element.children.iter().map(|item| member(item, name, number, facts)).collect();
    }
    let pair = |entry: &Element| {
        let text = |name: &str| entry.children.iter().find(|child| child.name == name);
        Some((snake(text("key")?.text.trim()), typed(text("value")?.text.trim())))
    };
    if !element.children.is_empty()
        && element.children.iter().all(|child| child.name == "entry" && pair(child).is_some())
    {
        return element.children.iter().filter_map(pair).collect();
    }
    if element.children.is_empty() { leaf(&element.text, number) } else { object(element, name, facts) }
}

fn member(item: &Element, list: &str, number: bool, facts: &XmlFacts) -> Value {
    if item.children.is_empty() { leaf(&item.text, number) } else { object(item, list, facts) }
}

fn object(element: &Element, parent: &str, facts: &XmlFacts) -> Value {
    let mut out = Map::new();
    if let Some(kind) = &element.kind {
        out.insert("type".to_owned(), Value::String(kind.clone()));
    }
    for child in &element.children {
        let name = child.name.as_str();
        let key = facts
            .names
            .get(&format!("{parent}/{name}"))
            .or_else(|| facts.names.get(name))
            .cloned()
            .unwrap_or_else(|| snake(name));
        if XmlFacts::says(&facts.flat, parent, name) {
            let number = XmlFacts::says(&facts.numbers, parent, name);
            let item = member(child, name, number, facts);
            if let Value::Array(items) = out.entry(key).or_insert_with(|| Value::Array(vec![])) {
                items.push(item);
            }
            continue;
        }
        let value = value(child, parent, facts);
        match out.get_mut(&key) {
            None => {
                out.insert(key, value);
            }
            // An element that repeats is a list, whatever the table knows.
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn xml_and_json_become_one_shape() {
        let facts = XmlFacts {
            lists: ["groupSet".to_owned(), "Buckets".to_owned()].into(),
            flat: ["Rule".to_owned()].into(),
            numbers: ["fromPort".to_owned()].into(),
            names: [("groupSet".to_owned(), "groups".to_owned()), ("Rule".to_owned(), "rules".to_owned())].into(),
        };
        let read = |protocol, text: &str| parse(protocol, Some(&facts), text.as_bytes()).unwrap();
        assert_eq!(
            read(
                Protocol::Ec2,
                "<R><groupSet><item><groupId>sg-1</groupId><fromPort>22</fromPort><on>true</on></item></groupSet></R>"
            ),
            json!({"groups": [{"group_id": "sg-1", "from_port": 22, "on": true}]})
        );
        assert_eq!(read(Protocol::Ec2, "<R><groupSet/><x/></R>"), json!({"groups": [], "x": null}));
        assert_eq!(
            read(
                Protocol::Query,
                "<XResponse><XResult><M><entry><key>AccessKeys</key><value>2</value></entry></M></XResult><M/></XResponse>"
            ),
            json!({"m": {"access_keys": 2}})
        );
        assert_eq!(read(Protocol::RestXml, "<S><Rule><Id>a&amp;b</Id></Rule></S>"), json!({"rules": [{"id": "a&b"}]}));
        assert_eq!(
            read(Protocol::RestXml, "<LocationConstraint>eu-west-1</LocationConstraint>"),
            json!({"location_constraint": "eu-west-1"})
        );
        assert_eq!(
            read(Protocol::Json, r#"{"CreationDate":1700000000.5,"tags":{"Name":"x"},"Items":[{"KeyId":"k"}]}"#),
            json!({"creation_date": "2023-11-14T22:13:20.500Z", "tags": {"Name": "x"}, "items": [{"key_id": "k"}]})
        );
    }

    #[test]
    fn broken_and_hostile_replies_are_errors() {
        let deep = "<a>".repeat(100_000);
        for bad in [
            "",
            "<a>",
            "<a></b>",
            "text",
            "<a/><b/>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a>&x;</a>",
            "</a>",
            &deep,
        ] {
            assert!(
                parse(Protocol::Query, None, bad.as_bytes()).is_err(),
                "{}",
                bad.chars().take(20).collect::<String>()
            );
        }
        for bad in ["{", "nope", "{\"a\":}", &"[".repeat(100_000)] {
            assert!(parse(Protocol::Json, None, bad.as_bytes()).is_err());
        }
        assert!(parse(Protocol::Query, None, b"\xff").is_err());
    }
}
