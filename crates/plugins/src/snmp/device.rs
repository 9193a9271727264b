//! One device at work: its tables, and a bounded way out for what they show.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{Coverage, EdgeObservation, Error, NodeId, NodeObservation, Page, Properties, Result, ScopeId, Tags};
use futures::SinkExt as _;
use futures::channel::mpsc;
use serde_json::{Map, Value};
use transport::{CallError, CallTag, Oid, SnmpReach, SnmpValue};

use crate::host::text;

/// Observations per page.
const PAGE: usize = 1_000;
/// Longest text of a property, in bytes.
const TEXT: usize = 2_000;
/// Longest name of a thing of a device, in bytes.
const NAME: usize = 255;

/// What a device's work hands over.
pub(super) enum Event {
    Page(Page),
    Done(ScopeId, Coverage),
    /// A target has come to its end.
    Target(String),
}

/// Where it goes; waits while nobody takes it.
#[derive(Clone)]
pub(super) struct Out(mpsc::Sender<Event>);

impl Out {
    pub(super) fn channel(waiting: usize) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(waiting);
        (Self(sender), receiver)
    }

    pub(super) async fn send(&mut self, event: Event) -> Result<()> {
        self.0.send(event).await.map_err(|_| Error::conflict("the task has ended"))
    }
}

/// A device that is known.
pub(super) struct Device<'a> {
    pub(super) snmp: &'a dyn SnmpReach,
    pub(super) address: SocketAddr,
    pub(super) site: &'a str,
    /// See `identity.rs`.
    pub(super) id: String,
    pub(super) out: Out,
    /// Whether the last walk ended because nobody answered.
    pub(super) silent: AtomicBool,
}

impl Device<'_> {
    /// After a walk that nobody answered: whether the device answers anything.
    pub(super) async fn is_there(&self) -> std::result::Result<(), CallError> {
        if !self.silent.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let tag = CallTag {
            scope: self.scope_id("system").map_err(|error| CallError::Malformed(error.to_string()))?,
            about: None,
            keep: false,
        };
        self.snmp.get(self.address, &[Oid::new(vec![1, 3, 6, 1, 2, 1, 1, 2, 0])], &tag).await.map(drop)
    }

    pub(super) fn scope_id(&self, table: &str) -> Result<ScopeId> {
        format!("snmp:{}:{table}", self.id).parse()
    }

    /// The id of something of this device.
    pub(super) fn node(&self, kind: &str, resource: &str) -> Result<NodeId> {
        let resource = text::printable(resource, 700);
        NodeId::new("snmp", self.site, &format!("snmp.{kind}"), &format!("{}/{resource}", self.id))
    }

    /// The device's own id.
    pub(super) fn chassis(&self) -> Result<NodeId> {
        NodeId::new("snmp", self.site, "snmp.chassis", &self.id)
    }

    /// An interface's id.
    pub(super) fn interface(&self, name: &str) -> Result<NodeId> {
        self.node("interface", name)
    }

    pub(super) fn scope(&self, table: &str) -> Result<Scope<'_>> {
        let scope = self.scope_id(table)?;
        Ok(Scope {
            device: self,
            out: self.out.clone(),
            page: Page { scope, nodes: Vec::new(), edges: Vec::new() },
            seen: HashSet::new(),
            edges: BTreeSet::new(),
            failed: None,
            problems: 0,
        })
    }
}

/// The rows of a table: index, then column, then value.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<Vec<u32>, Row>);

/// A row of a table.
#[derive(Debug, Default)]
pub(super) struct Row(BTreeMap<u32, SnmpValue>);

impl Row {
    /// Adds another table's columns of the same index, under higher numbers.
    pub(super) fn add(&mut self, above: u32, other: Self) {
        self.0.extend(other.0.into_iter().map(|(column, value)| (column.saturating_add(above), value)));
    }

    pub(super) fn value(&self, column: u32) -> Option<&SnmpValue> {
        self.0.get(&column)
    }

    pub(super) fn number(&self, column: u32) -> Option<i64> {
        self.value(column)?.number()
    }

    /// A number from 0 to 2^32 - 1, such as an interface's.
    pub(super) fn index(&self, column: u32) -> Option<u32> {
        self.number(column)?.try_into().ok()
    }

    pub(super) fn octets(&self, column: u32) -> Option<&[u8]> {
        self.value(column)?.octets()
    }

    /// A text for people, if there is one.
    pub(super) fn text(&self, column: u32) -> Option<String> {
        self.octets(column).and_then(words)
    }

    pub(super) fn ip(&self, column: u32) -> Option<[u8; 4]> {
        match self.value(column)? {
            SnmpValue::IpAddress(bytes) => Some(*bytes),
            _ => None,
        }
    }

    pub(super) fn mac(&self, column: u32) -> Option<String> {
        self.octets(column).and_then(mac)
    }
}

/// A text of a device for a property: no control characters, trimmed, cut; nothing where it is empty.
pub(super) fn words(bytes: &[u8]) -> Option<String> {
    // Agents in C count the end of a text as its part.
    let text = text::printable(&text::lossy(bytes).replace('\0', ""), TEXT);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A text that is to be a part of an id: shorter.
pub(super) fn label(bytes: &[u8]) -> Option<String> {
    words(bytes).map(|text| text::printable(&text, NAME).trim_end().to_owned())
}

/// A hardware address of six bytes that is one: `00:11:22:aa:bb:cc`.
pub(super) fn mac(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 6] = bytes.try_into().ok()?;
    (bytes != [0; 6]).then(|| bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A table of a device that is shown: what of it was read, and what was seen in it.
pub(super) struct Scope<'a> {
    device: &'a Device<'a>,
    out: Out,
    page: Page,
    seen: HashSet<NodeId>,
    edges: BTreeSet<(NodeId, NodeId, &'static str)>,
    failed: Option<CallError>,
    problems: usize,
}

impl Scope<'_> {
    /// Evidence keeps what was read where it says so.
    pub(super) fn tag(&self, keep: bool) -> CallTag {
        CallTag { scope: self.page.scope.clone(), about: None, keep }
    }

    /// Walks columns of a table. What failed is remembered; what came is here.
    pub(super) async fn table(&mut self, entry: &[u32], columns: &[u32]) -> Table {
        let roots: Vec<Oid> = columns.iter().map(|column| Oid::new([entry, &[*column]].concat())).collect();
        let walked = self.device.snmp.walk(self.device.address, &roots, &self.tag(false)).await;
        if matches!(walked.failed, Some(CallError::Timeout(_))) {
            self.device.silent.store(true, Ordering::Relaxed);
        }
        self.failed = self.failed.take().or(walked.failed);
        let mut table = Table::default();
        for ((root, column), found) in roots.iter().zip(columns).zip(walked.columns) {
            for (oid, value) in found {
                if let Some(index) = oid.below(root) {
                    table.0.entry(index.to_vec()).or_default().0.insert(*column, value);
                }
            }
        }
        table
    }

    /// Whether every walk so far came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.failed.is_none()
    }

    /// Notes a row that was not understood.
    pub(super) fn problem(&mut self) {
        self.problems += 1;
    }

    async fn flush_if(&mut self, limit: usize) -> Result<()> {
        if self.page.nodes.len() + self.page.edges.len() < limit {
            return Ok(());
        }
        let empty = Page { scope: self.page.scope.clone(), nodes: Vec::new(), edges: Vec::new() };
        self.out.send(Event::Page(std::mem::replace(&mut self.page, empty))).await
    }

    /// Shows something of the device, and that the device contains it; the first of two with one id wins.
    pub(super) async fn node(&mut self, kind: &str, resource: &str, name: &str, properties: Value) -> Result<NodeId> {
        let id = self.device.node(kind, resource)?;
        let chassis = self.device.chassis()?;
        if self.show(id.clone(), name, properties).await? {
            self.edge(&chassis, &id, "contains", Properties::new()).await?;
        }
        Ok(id)
    }

    /// Shows a node, once. Tells whether it is new.
    pub(super) async fn show(&mut self, id: NodeId, name: &str, properties: Value) -> Result<bool> {
        if !self.seen.insert(id.clone()) {
            return Ok(false);
        }
        let Value::Object(properties) = properties else { return Ok(false) };
        let properties: Map<String, Value> = properties.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let name = text::printable(name, NAME);
        self.page.nodes.push(NodeObservation { id, name, properties, tags: Tags::new() });
        self.flush_if(PAGE).await?;
        Ok(true)
    }

    /// Shows an edge, once.
    pub(super) async fn edge(
        &mut self,
        source: &NodeId,
        target: &NodeId,
        edge_type: &'static str,
        properties: Properties,
    ) -> Result<()> {
        if self.edges.insert((source.clone(), target.clone(), edge_type)) {
            self.page.edges.push(EdgeObservation {
                source: source.clone(),
                target: target.clone(),
                edge_type: edge_type.parse()?,
                discriminator: String::new(),
                properties,
            });
        }
        self.flush_if(PAGE).await
    }

    /// Ends with nothing but an error, which it gives back.
    pub(super) async fn done_with(mut self, error: CallError) -> Result<std::result::Result<(), CallError>> {
        self.failed = Some(error.clone());
        self.done().await.map(|()| Err(error))
    }

    /// Hands over the rest and says how much was seen. A table of which nothing was shown is one that the device does not have.
    pub(super) async fn done(mut self) -> Result<()> {
        self.flush_if(1).await?;
        let nothing = self.seen.is_empty();
        let coverage = match self.failed {
            Some(CallError::Cancelled) => return Err(Error::conflict("the job was cancelled")),
            Some(error @ CallError::Denied(_)) if nothing => Coverage::Denied { reason: error.to_string() },
            Some(error) if nothing => Coverage::Failed { reason: error.to_string() },
            Some(error) => Coverage::Partial { reason: error.to_string() },
            None if self.problems > 0 => {
                Coverage::Partial { reason: format!("{} rows were not understood", self.problems) }
            }
            None if nothing => {
                Coverage::Absent { reason: "the device shows no such table, or an empty one".to_owned() }
            }
            None => Coverage::Complete,
        };
        self.out.send(Event::Done(self.page.scope, coverage)).await
    }
}

/// An index of a row, taken apart from its front. What does not fit is nothing.
pub(super) struct Index<'a>(pub(super) &'a [u32]);

impl Index<'_> {
    pub(super) fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        first.iter().map(|part| u8::try_from(*part).ok()).collect()
    }

    /// Numbers behind their count.
    pub(super) fn counted(&mut self) -> Option<Vec<u32>> {
        let count = usize::try_from(self.number()?).ok()?;
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first.to_vec())
    }

    /// An InetAddressType and InetAddress (RFC 4001): the address as text. A zone is the interface's number.
    pub(super) fn inet(&mut self) -> Option<(u32, String)> {
        let kind = self.number()?;
        let count = usize::try_from(self.number()?).ok()?;
        let bytes = self.bytes(count)?;
        Some((kind, inet(kind, &bytes)?))
    }
}

/// An InetAddress as text; empty where the type is unknown(0) and there are no bytes.
pub(super) fn inet(kind: u32, bytes: &[u8]) -> Option<String> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let zoned = |address: String, zone: &[u8; 4]| format!("{address}%{}", u32::from_be_bytes(*zone));
    match kind {
        0 if bytes.is_empty() => Some(String::new()),
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        2 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        3 => {
            let (address, zone) = bytes.split_first_chunk::<4>()?;
            Some(zoned(Ipv4Addr::from(*address).to_string(), zone.try_into().ok()?))
        }
        4 => {
            let (address, zone) = bytes.split_first_chunk::<16>()?;
            Some(zoned(Ipv6Addr::from(*address).to_string(), zone.try_into().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_addresses_of_devices_are_made_fit_for_properties() {
        assert_eq!(words(b" \x1b[31mred\0 ").as_deref(), Some("[31mred"));
        assert_eq!(words(b"\xff\xfe").as_deref(), Some("\u{fffd}\u{fffd}"));
        assert_eq!((words(b""), words(b" \0\r\n")), (None, None));
        assert_eq!(label(&[b'x'; 5_000]).map(|text| text.len()), Some(NAME));
        assert_eq!(mac(&[0, 0x1b, 0x21, 1, 2, 0xff]).as_deref(), Some("00:1b:21:01:02:ff"));
        assert_eq!((mac(&[0; 6]), mac(b"12345"), mac(&[])), (None, None, None));
    }

    #[test]
    fn an_index_is_taken_apart_or_refused() {
        let read = |parts: &[u32]| Index(parts).inet();
        assert_eq!(read(&[1, 4, 10, 0, 0, 1]), Some((1, "10.0.0.1".into())));
        let mut v6 = vec![2, 16];
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(read(&v6), Some((2, "2001:db8::7".into())));
        let mut zoned = vec![4, 20, 0xfe, 0x80];
        zoned.extend([0; 13]);
        zoned.extend([1, 0, 0, 0, 3]);
        assert_eq!(read(&zoned), Some((4, "fe80::1%3".into())));
        assert_eq!(read(&[0, 0]), Some((0, String::new())));
        for bad in [&[][..], &[1], &[1, 4, 10, 0, 0], &[1, 4, 10, 0, 0, 256], &[1, 3, 1, 2, 3], &[2, 4, 1, 2, 3, 4]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(read(&[1, u32::MAX, 1]), None);
        assert_eq!(Index(&[u32::MAX]).counted(), None);
    }
}
