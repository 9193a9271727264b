//! One function for each parser of bytes that somebody else wrote: what a fuzzer calls, and what the ordinary tests call with its corpus.
//!
//! **Not for** production code: nothing depends on this crate but `fuzz/`, which needs a nightly compiler and is no member of the workspace.
//!
//! Invariant: each function takes any bytes, ends soon, and panics only where the parser broke a promise.

use std::io::Cursor;

use bytes::BytesMut;
use gateway::session::{Session, Timing};
use gateway::websocket::{Side, read, read_answer};
use wire::frame::Frame;

/// A parser and its name, which is also that of its folder in `fuzz/corpus` and of its file in `fuzz/fuzz_targets`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name },)*];
    };
}

targets! { frame session websocket name_text token note bundle pack manifest passkey known_hosts snmp scan }

/// A frame of the relay channel: what the decoder takes, it writes in the same bytes.
#[expect(clippy::missing_panics_doc, reason = "it panics where a promise is broken")]
pub fn frame(bytes: &[u8]) {
    if let Ok((frame, length)) = Frame::read(bytes) {
        let mut out = Vec::new();
        assert!(frame.encode(&mut out).is_ok(), "what was read is written");
        assert_eq!(Some(out.as_slice()), bytes.get(..length), "in the same bytes");
    }
}

/// A session under frames of a peer that keeps no rules: each two bytes of length, then so many bytes.
pub fn session(bytes: &[u8]) {
    for mut session in [Session::server(Timing::default()), Session::relay(Timing::default())] {
        if session.link_up(0, 0).is_err() {
            return;
        }
        let _ = session.open();
        let mut rest = bytes;
        while let [a, b, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*a, *b])).min(after.len());
            let (frame, next) = after.split_at(length);
            if session.receive(0, frame).is_err() {
                break;
            }
            while session.transmit().is_some() {}
            while session.take(1).is_some() {}
            rest = next;
        }
    }
}

/// Frames of a WebSocket of either side, and the answer to a handshake.
pub fn websocket(bytes: &[u8]) {
    for side in [Side::Server, Side::Client] {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Ok(_)) = read(side, &mut buffer) {}
    }
    let _ = read_answer("dGhlIHNhbXBsZSBub25jZQ==", &mut BytesMut::from(bytes));
}

/// Ids and names that stand in requests: what is taken is written as it was read.
#[expect(clippy::missing_panics_doc, reason = "it panics where a promise is broken")]
pub fn name_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(network) = text.parse::<domain::Network>() {
        assert_eq!(network.to_string().parse::<domain::Network>().ok(), Some(network), "one spelling");
    }
    if let Ok(id) = text.parse::<domain::NodeId>() {
        assert_eq!(id.to_string(), text, "an id is its text");
    }
    if let Ok(scope) = text.parse::<domain::ScopeId>() {
        assert_eq!(scope.to_string(), text, "a scope is its text");
    }
    if let Ok(at) = text.parse::<domain::Timestamp>() {
        assert_eq!(at.to_string().parse::<domain::Timestamp>().ok(), Some(at), "a time comes back");
    }
    let _ = (transport::guard::host_and_port(text, 22), transport::https::origin(text));
}

/// Tokens: sessions, keys of machines, tokens of other issuers. None of them is good, since nobody here has a key.
#[expect(clippy::missing_panics_doc, reason = "it panics where a promise is broken")]
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(crypto::jwt::verify_hs256(text, b"a key that no seed was signed with").is_err(), "nobody signed it");
    let keys = crypto::jws::KeySet::parse(include_bytes!("../../../fuzz/corpus/token/jwks"));
    assert!(keys.is_ok_and(|keys| crypto::jws::verify(text, &keys).is_err()), "nobody signed it with this key");
    let none = crypto::es512::KeySet::new(Vec::new());
    assert!(crypto::es512::verify_jwt(text, &none).is_err(), "there is no key");
    let _ = (crypto::jws::KeySet::parse(bytes), crypto::es512::KeySet::parse(bytes));
    if let Some(key) = crypto::api_key::ApiKey::parse(text) {
        assert_eq!(key.expose(), text, "a key is its text");
    }
}

/// Signed notes, checkpoints, proofs and tiles of a transparency log.
#[expect(clippy::missing_panics_doc, reason = "it panics where a promise is broken")]
pub fn note(bytes: &[u8]) {
    if let Some(hashes) = evidence::tile::tile_hashes(bytes) {
        assert_eq!(evidence::tile::tile_bytes(&hashes), bytes, "a tile is its bytes");
    }
    let _ = evidence::tile::bundle_entries(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(note) = text.parse::<evidence::note::Note>() {
        let _ = evidence::Checkpoint::of(&note);
    }
    let _ = (text.parse::<evidence::note::NoteKey>(), text.parse::<evidence::LogProof>());
}

/// An evidence bundle: a ZIP that anybody may hand to the verifier.
pub fn bundle(bytes: &[u8]) {
    let _ = evidence::verify_bundle(Cursor::new(bytes), None);
}

/// A rule pack: YAML, CEL, patterns.
pub fn pack(bytes: &[u8]) {
    let (Ok(text), Ok(catalog)) = (std::str::from_utf8(bytes), compliance::builtin::catalog()) else { return };
    let _ = compliance::load(&catalog, &[("fuzzed.yaml", text)], crypto::sha256);
}

/// The manifest of somebody else's plugin.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = guest::Manifest::read(text);
}

/// What a browser returns when a passkey is made: CBOR, COSE, authenticator data.
pub fn passkey(bytes: &[u8]) {
    let client = br#"{"type":"webauthn.create","challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","origin":"https://cairn.example.org"}"#;
    let Some(party) = webauthn::RelyingParty::of_origin("https://cairn.example.org") else { return };
    let _ = webauthn::register(&party, &[0; 32], webauthn::UserVerification::Any, client, bytes);
}

/// The host keys of a job's settings.
pub fn known_hosts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = transport::ssh::KnownHosts::parse(text);
}

/// A datagram of an SNMP agent.
pub fn snmp(bytes: &[u8]) {
    transport::untrusted::snmp(bytes);
}

/// What a scanned host answers: packets, TLS handshakes, certificates.
pub fn scan(bytes: &[u8]) {
    transport::untrusted::scan(bytes);
}
