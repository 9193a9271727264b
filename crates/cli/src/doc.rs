//! JSON documents of the API as they came: with the order of their fields, written as JSON or YAML.
//!
//! **Not for** meaning: what a field says is the business of the command that shows it.
//!
//! Invariants: written text parses back to the same document, in both formats, and holds no character that a terminal acts on.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::clean::is_unsafe;
use crate::failure::{self, Failure};

/// A JSON value whose objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Doc {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Doc>),
    Map(Vec<(String, Doc)>),
}

impl Doc {
    /// What a field of an object holds.
    pub(crate) fn field(&self, name: &str) -> Option<&Doc> {
        match self {
            Self::Map(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a field; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.field(name) {
            Some(Self::Text(text)) => text,
            _ => "",
        }
    }

    /// The items of a field that is a list; none where it is not.
    pub(crate) fn items(&self, name: &str) -> &[Doc] {
        match self.field(name) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    /// A wire type as a value.
    pub(crate) fn of(value: &impl serde::Serialize) -> failure::Result<Self> {
        let text = serde_json::to_vec(value).map_err(|e| Failure::new(format!("cannot write the answer: {e}")))?;
        serde_json::from_slice(&text).map_err(|e| Failure::new(format!("cannot write the answer: {e}")))
    }

    /// The value as a wire type.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.to_json())
    }

    /// Indented JSON that ends with a line break.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, Some(0));
        out.push('\n');
        out
    }

    /// JSON on one line.
    pub(crate) fn to_compact_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, None);
        out
    }

    /// YAML in block style that ends with a line break.
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write_yaml(&mut out, 0);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    fn write_json(&self, out: &mut String, indent: Option<usize>) {
        let deeper = indent.map(|depth| depth + 1);
        let line = |out: &mut String, indent: Option<usize>| {
            if let Some(depth) = indent {
                new_line(out, depth);
            }
        };
        match self {
            Self::List(items) if !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    line(out, deeper);
                    item.write_json(out, deeper);
                }
                line(out, indent);
                out.push(']');
            }
            Self::Map(fields) if !fields.is_empty() => {
                out.push('{');
                for (i, (key, value)) in fields.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    line(out, deeper);
                    quote(out, key, Escape::Json);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write_json(out, deeper);
                }
                line(out, indent);
                out.push('}');
            }
            Self::Text(text) => quote(out, text, Escape::Json),
            plain => plain.write_plain(out),
        }
    }

    /// What both formats write alike.
    fn write_plain(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => drop(write!(out, "{number}")),
            Self::List(_) => out.push_str("[]"),
            Self::Map(_) => out.push_str("{}"),
            Self::Null | Self::Text(_) => out.push_str("null"),
        }
    }

    fn is_block(&self) -> bool {
        matches!(self, Self::List(items) if !items.is_empty())
            || matches!(self, Self::Map(fields) if !fields.is_empty())
    }

    /// Writes at the cursor; further lines begin with `depth` indents.
    fn write_yaml(&self, out: &mut String, depth: usize) {
        match self {
            Self::List(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        new_line(out, depth);
                    }
                    out.push_str("- ");
                    item.write_yaml(out, depth + 1);
                }
            }
            Self::Map(fields) if !fields.is_empty() => {
                for (i, (key, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        new_line(out, depth);
                    }
                    write_yaml_text(out, key);
                    out.push(':');
                    if value.is_block() {
                        new_line(out, depth + 1);
                    } else {
                        out.push(' ');
                    }
                    value.write_yaml(out, depth + 1);
                }
            }
            Self::Text(text) => write_yaml_text(out, text),
            plain => plain.write_plain(out),
        }
    }
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[derive(Clone, Copy)]
enum Escape {
    Json,
    Yaml,
}

/// A double-quoted string. Beyond what the format asks for, it escapes what a terminal would act on.
fn quote(out: &mut String, text: &str, escape: Escape) {
    out.push('"');
    for c in text.chars() {
        let written = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if is_unsafe(c) => match escape {
                Escape::Json => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
                Escape::Yaml => write!(out, "\\U{:08x}", u32::from(c)),
            },
            c => out.write_char(c),
        };
        // Writing to a string cannot fail.
        let _ = written;
    }
    out.push('"');
}

/// Plain where no reader of YAML 1.1 or 1.2 can take it for anything but text, else quoted.
fn write_yaml_text(out: &mut String, text: &str) {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '+');
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(word)
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(text);
    } else {
        quote(out, text, Escape::Yaml);
    }
}

impl<'de> Deserialize<'de> for Doc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Doc;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Doc, E> {
                Ok(Doc::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Doc, E> {
                Ok(Doc::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Doc, E> {
                Ok(Doc::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Doc, E> {
                Ok(Doc::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Doc, E> {
                Ok(Number::from_f64(value).map_or(Doc::Null, Doc::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Doc, E> {
                Ok(Doc::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Doc, E> {
                Ok(Doc::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Doc, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Doc::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doc, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Doc::Map(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-zA-Z0-9_:# .,\\[\\]{}&*!|>'%@`~-]{0,12}".prop_map(Value::from),
            prop::sample::select(vec![
                "null",
                "~",
                "yes",
                "No",
                "0x1f",
                "1e3",
                "1_000",
                ".inf",
                "2026-11-22",
                "- a",
                "a: b",
                "---",
                "=",
                "<<"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z0-9:# -]{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_and_yaml_parse_back_to_what_was_written(value in any_json()) {
            let doc: Doc = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&doc.to_json()).unwrap(), &value);
            prop_assert_eq!(&serde_json::from_str::<Value>(&doc.to_compact_json()).unwrap(), &value);
            let yaml = doc.to_yaml();
            prop_assert_eq!(&serde_saphyr::from_str::<Value>(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}")), &value);
            prop_assert!(!yaml.replace('\n', "").chars().any(is_unsafe));
            prop_assert!(!doc.to_json().replace('\n', "").chars().any(is_unsafe));
        }
    }

    #[test]
    fn fields_keep_the_order_of_the_api() {
        let doc: Doc = serde_json::from_str(r#"{"z":1,"a":[{"k":"b c","x":null}],"m":{},"t":"ok"}"#).unwrap();
        assert_eq!(doc.to_compact_json(), r#"{"z":1,"a":[{"k":"b c","x":null}],"m":{},"t":"ok"}"#);
        assert_eq!(doc.to_yaml(), "z: 1\na:\n  - k: \"b c\"\n    x: null\nm: {}\nt: ok\n");
        assert_eq!(Doc::List(vec![]).to_yaml(), "[]\n");
    }
}
