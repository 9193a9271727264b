//! What evidence keeps of a scan: what was asked, how, and every answer, as text.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{Digest, Timestamp};

use super::engine::Outcome;
use super::{Greeted, SweepHow};

/// What a call asked for.
pub(super) struct Asked {
    pub(super) endpoint: String,
    pub(super) operation: String,
    pub(super) params: Digest,
    pub(super) started: Timestamp,
}

fn span(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    }
}

/// A digest of everything that was asked, in its order.
fn digest(addresses: impl Iterator<Item = IpAddr>, rest: &str) -> Digest {
    let mut state = crypto::Sha256::new();
    for address in addresses {
        state.update(format!("{address}\n").as_bytes());
    }
    state.update(rest.as_bytes());
    state.finish()
}

impl Asked {
    pub(super) fn sweep(addresses: &[IpAddr], how: &SweepHow, started: Timestamp) -> Self {
        let echo = if how.echo { "icmp echo" } else { "no icmp" };
        let ports = how.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let operation = format!("sweep of {} addresses, {echo}, tcp {ports}", addresses.len());
        let params = digest(addresses.iter().copied(), &operation);
        Self { endpoint: span(addresses), operation, params, started }
    }

    pub(super) fn ports(addresses: &[IpAddr], ports: &[u16], started: Timestamp) -> Self {
        let operation = format!("scan of {} ports of {} addresses", ports.len(), addresses.len());
        let params = digest(addresses.iter().copied(), &ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        Self { endpoint: span(addresses), operation, params, started }
    }

    pub(super) fn greet(at: &[(SocketAddr, bool)], started: Timestamp) -> Self {
        let addresses: Vec<IpAddr> = at.iter().map(|(at, _)| at.ip()).collect();
        let operation = format!("greetings and certificates of {} ports", at.len());
        let rest = at.iter().map(|(at, tls)| format!("{} {tls}", at.port())).collect::<Vec<_>>().join("\n");
        let params = digest(addresses.iter().copied(), &rest);
        Self { endpoint: span(&addresses), operation, params, started }
    }
}

/// What a sweep or a port scan says.
#[derive(Debug, Default)]
pub(super) struct Sweep(String);

impl Sweep {
    pub(super) fn pass(&mut self, method: &str, keys: usize, outcome: &Outcome) {
        let (answered, Outcome { tries, sent, doubt, .. }) = (outcome.answered.ones(), outcome);
        // Writing to a `String` cannot fail.
        let _ = write!(self.0, "# {method}: {answered} of {keys} answered, {sent} probes in {tries} passes");
        let _ = match doubt {
            Some(doubt) => writeln!(self.0, "; not decided: {doubt}"),
            None => writeln!(self.0, "; all decided"),
        };
    }

    pub(super) fn alive(&mut self, alive: &[IpAddr]) {
        for address in alive {
            let _ = writeln!(self.0, "{address}");
        }
    }

    pub(super) fn open(&mut self, open: &[SocketAddr]) {
        for at in open {
            let _ = writeln!(self.0, "{at}");
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// What ports showed: greetings as escaped ASCII, certificates as PEM, each once.
pub(super) fn greeted(all: &[Greeted]) -> Bytes {
    let (mut out, mut leaves) = (String::new(), std::collections::BTreeMap::new());
    for Greeted { at, greeting, tls } in all {
        let _ = match greeting {
            Ok(said) => write!(out, "{at} \"{}\"", said.escape_ascii()),
            Err(error) => write!(out, "{at} unread: {error}"),
        };
        let _ = match tls {
            Ok(None) => writeln!(out),
            Ok(Some(shown)) => {
                let digest = crypto::sha256(&shown.leaf);
                leaves.insert(digest.to_hex(), shown.leaf.as_slice());
                let accepted: Vec<&str> = shown.accepted.iter().copied().collect();
                writeln!(out, " tls {} of {} {}", shown.negotiated, accepted.join(","), digest.to_hex())
            }
            Err(error) => writeln!(out, " tls unread: {error}"),
        };
    }
    for (_, leaf) in leaves.iter().filter(|(_, leaf)| !leaf.is_empty()) {
        let text = STANDARD.encode(leaf);
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out.into()
}
