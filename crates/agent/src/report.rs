//! A report as bytes: lines of `wire::report`, one gzip member per part (RFC 1952 lets members follow each other), so that each part's size
//! is known before it is added.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{EdgeObservation, NodeObservation};
use flate2::Compression;
use flate2::write::GzEncoder;
use inventory::{EdgeKey, NodeKey};
use transport::CallRecord;
use wire::report::{Artifact, CALLS, Call, Gone, LINE_BYTES, Line, Scope};

/// Keys per line of what is gone: 35 bytes each.
const GONE: usize = 10_000;
/// From this many bytes on a page's line is ended: one more item fits in any case.
const PAGE_BYTES: usize = LINE_BYTES - 600 * 1_024;
/// From this many bytes on a line of calls is ended.
const CALLS_BYTES: usize = LINE_BYTES / 4;

/// Lines that belong together.
#[derive(Debug, Default)]
pub(crate) struct Part {
    text: Vec<u8>,
}

impl Part {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: &Line) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.text, line)?;
        self.text.push(b'\n');
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The lines as they are.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The lines as one gzip member.
    pub(crate) fn packed(&self) -> std::io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&self.text)?;
        encoder.finish()
    }

    fn raw(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.text.extend_from_slice(piece.as_bytes());
        }
        self.text.push(b'\n');
    }
}

/// New and changed items of one scope, as lines that are short enough.
#[derive(Debug, Default)]
pub(crate) struct Items {
    lines: Part,
    nodes: String,
    edges: String,
}

impl Items {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() + self.nodes.len() + self.edges.len()
    }

    /// A new node, or one with other content.
    pub(crate) fn node(&mut self, node: &NodeObservation) -> serde_json::Result<()> {
        Self::push(&mut self.nodes, &serde_json::to_string(node)?);
        self.end_if(PAGE_BYTES);
        Ok(())
    }

    /// A new edge, or one with other content.
    pub(crate) fn edge(&mut self, edge: &EdgeObservation) -> serde_json::Result<()> {
        Self::push(&mut self.edges, &serde_json::to_string(edge)?);
        self.end_if(PAGE_BYTES);
        Ok(())
    }

    fn push(list: &mut String, item: &str) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(item);
    }

    fn end_if(&mut self, bytes: usize) {
        if self.nodes.len() + self.edges.len() >= bytes {
            self.lines.raw(&[r#"{"page":{"nodes":["#, &self.nodes, r#"],"edges":["#, &self.edges, "]}}"]);
            self.nodes.clear();
            self.edges.clear();
        }
    }

    /// The scope's part of a report.
    pub(crate) fn finish(
        mut self,
        scope: Scope,
        gone: (&[NodeKey], &[EdgeKey]),
        calls: &[CallRecord],
        artifacts: &[&[u8]],
    ) -> serde_json::Result<Part> {
        self.end_if(1);
        let mut part = Part::default();
        part.line(&Line::Scope(scope))?;
        part.text.append(&mut self.lines.text);
        for keys in gone.0.chunks(GONE) {
            let nodes = keys.iter().map(ToString::to_string).collect();
            part.line(&Line::Gone(Gone { nodes, edges: Vec::new() }))?;
        }
        for keys in gone.1.chunks(GONE) {
            let edges = keys.iter().map(ToString::to_string).collect();
            part.line(&Line::Gone(Gone { nodes: Vec::new(), edges }))?;
        }
        let mut list = String::new();
        for record in calls.iter().take(CALLS) {
            Self::push(&mut list, &serde_json::to_string(&call(record))?);
            if list.len() >= CALLS_BYTES {
                part.raw(&[r#"{"calls":["#, &std::mem::take(&mut list), "]}"]);
            }
        }
        if !list.is_empty() {
            part.raw(&[r#"{"calls":["#, &list, "]}"]);
        }
        for bytes in artifacts {
            part.line(&Line::Artifact(Artifact { base64: STANDARD.encode(bytes) }))?;
        }
        Ok(part)
    }
}

/// Longest text of an operation or an error, in characters.
const TEXT: usize = 1_000;

fn call(record: &CallRecord) -> Call {
    let response = record.outcome.as_ref().ok();
    Call {
        system: record.request.system.clone(),
        operation: record.request.operation.chars().take(TEXT).collect(),
        digest: response.map(|response| response.digest),
        size: response.map_or(0, |response| response.size),
        error: record.outcome.as_ref().err().map(|error| error.chars().take(TEXT).collect()),
        kept: record.kept.is_some(),
        started: record.started,
        finished: record.finished,
    }
}

#[cfg(test)]
mod tests {
    use domain::{Coverage, Digest, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn no_line_is_longer_than_the_server_reads_and_every_line_is_read() {
        let mut items = Items::default();
        let value = "x".repeat(100_000);
        for at in 0..40 {
            let node = json!({"id": format!("host:local:host.file:m/{at}"), "name": "n", "properties": {"v": value}});
            items.node(&serde_json::from_value(node).unwrap()).unwrap();
        }
        let scope = Scope {
            name: "integrity".to_owned(),
            base: None,
            digest: Digest([0; 32]),
            coverage: Coverage::Complete,
            nodes: 40,
            edges: 0,
            calls: 0,
            started: Timestamp::from_millis(0),
            finished: Timestamp::from_millis(0),
        };
        let gone: Vec<NodeKey> = (0..25_000).map(NodeKey).collect();
        let part = items.finish(scope, (&gone, &[]), &[], &[&vec![7; 256 * 1_024]]).unwrap();
        let text = std::str::from_utf8(part.text()).unwrap();
        let (mut nodes, mut keys) = (0, 0);
        for line in text.lines() {
            assert!(line.len() <= LINE_BYTES, "{}", line.len());
            match serde_json::from_str(line).unwrap() {
                Line::Page(page) => nodes += page.nodes.len(),
                Line::Gone(gone) => keys += gone.nodes.len(),
                _ => {}
            }
        }
        assert_eq!((nodes, keys), (40, 25_000));
    }
}
