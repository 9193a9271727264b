//! YAML with places: a tree that remembers where each value stands, and the way from a character of a scalar back to the file.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Spanned, budget, options};

/// A position in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool,
    Int(i64),
    Float,
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Place, Tree)>),
}

impl Kind {
    /// What it is, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "a yes/no value",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Parses one document within a budget; the error is its place and what is wrong.
pub(crate) fn parse(text: &str) -> Result<Tree, (Place, String)> {
    let options = options! {
        budget: budget! {
            max_documents: 1,
            max_depth: 16,
            max_aliases: 64,
            max_anchors: 64,
            max_events: 200_000,
            max_nodes: 100_000,
            max_merge_keys: 64,
            max_recorded_anchor_events: 20_000,
            flow_nesting_limit: 16,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000, max_replay_stack_depth: 8 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    let parsed = serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options).map(tree).map_err(|error| {
        let place = error.location().map_or_else(Place::default, place);
        let words = error.without_snippet().to_string();
        let words = words.lines().next().unwrap_or_default();
        (place, words.split(" at line ").next().unwrap_or_default().to_owned())
    })?;
    match duplicate(&parsed) {
        Some((place, key)) => Err((place, format!("`{key}` is given twice in this map"))),
        None => Ok(parsed),
    }
}

/// The first key that a map has twice.
fn duplicate(tree: &Tree) -> Option<(Place, &str)> {
    match &tree.kind {
        Kind::List(items) => items.iter().find_map(duplicate),
        Kind::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            entries.iter().find_map(
                |(key, place, value)| {
                    if seen.insert(key) { duplicate(value) } else { Some((*place, key.as_str())) }
                },
            )
        }
        _ => None,
    }
}

fn place(at: serde_saphyr::Location) -> Place {
    Place { line: at.line(), column: at.column() }
}

fn tree(node: Spanned<Node>) -> Tree {
    let kind = match node.value {
        Node::Null => Kind::Null,
        Node::Bool => Kind::Bool,
        Node::Int(i) => Kind::Int(i),
        Node::Float => Kind::Float,
        Node::Text(text) => Kind::Text(text),
        Node::List(items) => Kind::List(items.into_iter().map(tree).collect()),
        Node::Map(entries) => {
            Kind::Map(entries.into_iter().map(|(key, value)| (key.value, place(key.referenced), tree(value))).collect())
        }
    };
    Tree { place: place(node.referenced), kind }
}

/// As it comes from the parser.
enum Node {
    Null,
    Bool,
    Int(i64),
    Float,
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Bool)
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Int(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
                i64::try_from(value).map(Node::Int).map_err(E::custom)
            }

            fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
                i64::try_from(value).map(Node::Int).map_err(E::custom)
            }

            fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
                i64::try_from(value).map(Node::Int).map_err(E::custom)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Float)
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Node, E> {
                Err(E::custom("binary values are not used here"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut entries: Vec<(Spanned<String>, Spanned<Node>)> = Vec::new();
                while let Some(entry) = access.next_entry::<Spanned<String>, Spanned<Node>>()? {
                    if entries.len() >= 20_000 {
                        return Err(A::Error::custom("the map has more than 20000 entries"));
                    }
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

/// The place in the file of a byte of a scalar.
///
/// A scalar's text is its source but for indentation, folded line ends, quotes and escapes. So the two are walked side by side by
/// their visible characters.
pub(crate) fn place_within(file: &str, scalar: Place, text: &str, at: usize) -> Place {
    let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let wanted = visible(text.get(..at).unwrap_or(text));
    let is_end = wanted > 0 && wanted == visible(text);
    let first_line = usize::try_from(scalar.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let first_column = usize::try_from(scalar.column.saturating_sub(1)).unwrap_or(0);
    let mut seen = 0;
    let mut quote = None;
    let mut in_block = false;
    let mut last = scalar;
    for (number, line) in file.lines().enumerate().skip(first_line) {
        let skip = if number == first_line { first_column } else { 0 };
        let mut chars = line.chars().enumerate().skip(skip).peekable();
        if number == first_line {
            match chars.peek().map(|(_, c)| *c) {
                Some(c @ ('"' | '\'')) => {
                    quote = Some(c);
                    chars.next();
                }
                Some('|' | '>') => {
                    in_block = true;
                    continue;
                }
                _ => {}
            }
        }
        while let Some((column, c)) = chars.next() {
            if c.is_whitespace() {
                continue;
            }
            let escaped = match quote {
                Some('"') if c == '\\' => true,
                Some('\'') if c == '\'' => chars.peek().is_some_and(|(_, next)| *next == '\''),
                _ => false,
            };
            let here =
                Place { line: u64::try_from(number + 1).unwrap_or(0), column: u64::try_from(column + 1).unwrap_or(0) };
            if seen == wanted {
                return here;
            }
            if escaped {
                chars.next();
            }
            last = Place { column: here.column + 1, ..here };
            seen += 1;
            if is_end && seen == wanted {
                return last;
            }
        }
        if seen > wanted + 65_536 && !in_block {
            break;
        }
    }
    last
}
