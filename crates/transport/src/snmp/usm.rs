//! The user-based security model (RFC 3414): engines, their clocks, what may be believed of an answer.
//!
//! Invariants:
//! - an answer counts only under the security level at which it was asked for; only reports may have less;
//! - the clock of an engine moves by authenticated messages only, but for the first guess, which the engine itself corrects;
//! - no salt is used twice under one key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crypto::usm::{LocalKey, PrivacyKey};
use domain::Rng;
use tokio::time::Instant;

use super::credentials::User;
use super::message::{self, Ask, FLAG_AUTH, FLAG_PRIVACY, FLAG_REPORTABLE, Pdu, V3};
use super::value::Oid;
use crate::CallError;

/// How old an answer may be, in seconds (RFC 3414, 2.2.3).
const WINDOW_S: u32 = 150;
/// usmStats: what a report is about is its one object.
const USM_STATS: [u32; 9] = [1, 3, 6, 1, 6, 3, 15, 1, 1];
const UNKNOWN_CONTEXTS: [u32; 9] = [1, 3, 6, 1, 6, 3, 12, 1, 5];

/// An engine's boots and time.
#[derive(Debug, Clone, Copy)]
struct EngineClock {
    boots: u32,
    time: u32,
    at: Instant,
    /// An authenticated message said so.
    proven: bool,
}

impl EngineClock {
    fn now(&self) -> (u32, u32) {
        let passed = u32::try_from(self.at.elapsed().as_secs()).unwrap_or(u32::MAX);
        (self.boots, self.time.saturating_add(passed).min(i32::MAX.unsigned_abs()))
    }
}

/// An engine as one user reaches it.
pub(super) struct Engine {
    pub(super) id: Vec<u8>,
    clock: Mutex<EngineClock>,
    authentication: Option<LocalKey>,
    privacy: Option<PrivacyKey>,
    salt: AtomicU64,
}

/// Why an answer is not one.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Not to be believed, or not understood: wait on.
    Strange(&'static str),
    /// The engine says what time it has: ask again.
    Clock,
    /// The address has another engine now: ask it who it is.
    Engine,
    /// The engine refuses.
    Refused(CallError),
}

fn unusable(error: crypto::CryptoError) -> CallError {
    CallError::Credential(error.to_string())
}

/// Asks who is there: a message without engine, user and security.
pub(super) fn discovery(message_id: i32, request_id: i32) -> Vec<u8> {
    let data = message::scoped(&[], &[], Ask::Get, request_id, &[]);
    let message = V3 {
        id: message_id,
        flags: FLAG_REPORTABLE,
        engine_id: &[],
        boots: 0,
        time: 0,
        user: &[],
        code: &[],
        salt: &[],
        data: &data,
    };
    message.write().0
}

/// Who answered a discovery.
pub(super) fn discovered(datagram: &[u8], user: &User, rng: &dyn Rng) -> Result<Engine, NoAnswer> {
    let (answer, _) = message::read_v3(datagram).map_err(|error| NoAnswer::Strange(error.0))?;
    // RFC 3411: 5 to 32 bytes.
    if answer.engine_id.len() < 5 {
        return Err(NoAnswer::Strange("an answer to the discovery without an engine id"));
    }
    let key = |master: &crypto::usm::MasterKey| master.localize(answer.engine_id).map_err(unusable);
    let keys = || {
        let authentication = user.authentication.as_ref().map(|(_, master)| key(master)).transpose()?;
        let privacy = user
            .privacy
            .as_ref()
            .map(|(kind, master)| key(master)?.privacy(*kind, answer.engine_id).map_err(unusable))
            .transpose()?;
        Ok((authentication, privacy))
    };
    let (authentication, privacy) = keys().map_err(NoAnswer::Refused)?;
    let mut salt = [0; 8];
    rng.fill(&mut salt);
    Ok(Engine {
        id: answer.engine_id.to_vec(),
        clock: Mutex::new(EngineClock { boots: answer.boots, time: answer.time, at: Instant::now(), proven: false }),
        authentication,
        privacy,
        salt: AtomicU64::new(u64::from_be_bytes(salt)),
    })
}

impl Engine {
    fn flags(&self) -> u8 {
        (if self.authentication.is_some() { FLAG_AUTH } else { 0 })
            | (if self.privacy.is_some() { FLAG_PRIVACY } else { 0 })
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, EngineClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request, encrypted and authenticated as the user's credential has it.
    pub(super) fn request(
        &self,
        user: &User,
        message_id: i32,
        ask: Ask,
        request_id: i32,
        oids: &[Oid],
    ) -> Result<Vec<u8>, CallError> {
        let mut data = message::scoped(&self.id, user.context.as_bytes(), ask, request_id, oids);
        let (boots, time) = self.clock().now();
        let mut salt = Vec::new();
        if let Some(key) = &self.privacy {
            let number = self.salt.fetch_add(1, Ordering::Relaxed);
            salt = key.seal(boots, time, number, &mut data).map_err(unusable)?.to_vec();
        }
        let code = vec![0; user.authentication.as_ref().map_or(0, |(kind, _)| kind.code_bytes())];
        let message = V3 {
            id: message_id,
            flags: self.flags() | FLAG_REPORTABLE,
            engine_id: &self.id,
            // Who is not authenticated says no time (RFC 3414, 3.1).
            boots: if self.authentication.is_some() { boots } else { 0 },
            time: if self.authentication.is_some() { time } else { 0 },
            user: user.name.as_bytes(),
            code: &code,
            salt: &salt,
            data: &data,
        };
        let (mut bytes, at) = message.write();
        if let Some(key) = &self.authentication {
            let code = key.sign(&bytes).map_err(unusable)?;
            if let Some(place) = bytes.get_mut(at..at + code.len()) {
                place.copy_from_slice(&code);
            }
        }
        Ok(bytes)
    }

    /// The answer to a request, if it is one.
    pub(super) fn answer(&self, user: &User, datagram: &[u8], request_id: i32) -> Result<Pdu, NoAnswer> {
        let strange = NoAnswer::Strange;
        let (answer, at) = message::read_v3(datagram).map_err(|error| strange(error.0))?;
        let authenticated = answer.flags & FLAG_AUTH != 0;
        if answer.flags & FLAG_PRIVACY != 0 && !authenticated {
            return Err(strange("an encrypted answer that is not authenticated"));
        }
        let same_engine = answer.engine_id == self.id;
        if authenticated {
            let key = self.authentication.as_ref().ok_or(strange("an authenticated answer to a plain request"))?;
            if !same_engine || answer.user != user.name.as_bytes() {
                return Err(strange("an answer of another engine or for another user"));
            }
            let mut zeroed = datagram.to_vec();
            if let Some(code) = zeroed.get_mut(at..at + answer.code.len()) {
                code.fill(0);
            }
            key.verify(&zeroed, answer.code).map_err(|_| strange("an answer that this user's key does not verify"))?;
            self.hear(answer.boots, answer.time)?;
        }
        let pdu = if answer.flags & FLAG_PRIVACY == 0 {
            message::read_scoped(answer.data, false).map_err(|error| strange(error.0))?
        } else {
            let key = self.privacy.as_ref().ok_or(strange("an encrypted answer to a plain request"))?;
            let salt = answer.salt.try_into().map_err(|_| strange("a salt of other than 8 bytes"))?;
            let mut data = answer.data.to_vec();
            key.open(answer.boots, answer.time, salt, &mut data)
                .map_err(|_| strange("an answer that this user's key does not decrypt"))?;
            message::read_scoped(&data, true).map_err(|error| strange(error.0))?
        };
        if pdu.report {
            return Err(self.reported(&pdu, authenticated));
        }
        if answer.flags & (FLAG_AUTH | FLAG_PRIVACY) != self.flags() {
            return Err(strange("an answer with less security than the request"));
        }
        if !same_engine || answer.user != user.name.as_bytes() || pdu.request_id != request_id {
            return Err(strange("an answer to another request"));
        }
        Ok(pdu)
    }

    /// Takes the time of an authenticated message, if it is not an old one (RFC 3414, 3.2.7b).
    fn hear(&self, boots: u32, time: u32) -> Result<(), NoAnswer> {
        let mut clock = self.clock();
        let (own_boots, own_time) = clock.now();
        let old = boots < own_boots || (boots == own_boots && time.saturating_add(WINDOW_S) < own_time);
        if clock.proven && old {
            return Err(NoAnswer::Strange("an old answer"));
        }
        if !clock.proven || boots > own_boots || time > own_time {
            *clock = EngineClock { boots, time, at: Instant::now(), proven: true };
        }
        Ok(())
    }

    fn reported(&self, pdu: &Pdu, authenticated: bool) -> NoAnswer {
        // Of this device only: whoever forges a report must not end the reading of all others.
        let refused = |why: &str| NoAnswer::Refused(CallError::Denied(why.to_owned()));
        let Some((oid, _)) = pdu.varbinds.first() else { return NoAnswer::Strange("a report about nothing") };
        if oid.parts().starts_with(&UNKNOWN_CONTEXTS) {
            return refused("the device has no such `context`");
        }
        match oid.parts().strip_prefix(&USM_STATS[..]) {
            Some([1, ..]) => {
                refused("the device refuses this security level: its user has other authentication or privacy settings")
            }
            // Authenticated where there is a key: a forged one would let anybody set our clock.
            Some([2, ..]) if authenticated || self.authentication.is_none() => NoAnswer::Clock,
            Some([2, ..]) => NoAnswer::Strange("a report about the time that is not authenticated"),
            Some([3, ..]) => refused("the device does not know this `username`"),
            Some([4, ..]) => NoAnswer::Engine,
            Some([5, ..]) => {
                refused("the device refuses the authentication: `auth_password` or `auth_protocol` is another")
            }
            Some([6, ..]) => refused("the device cannot decrypt: `privacy_password` or `privacy_protocol` is another"),
            _ => NoAnswer::Refused(CallError::Malformed(format!("a report about {oid}"))),
        }
    }
}
