//! Agents and relays as callers: a credential, and a proof that this request is by the one whose it is.
//!
//! Invariants:
//! - a credential alone is good for nothing, and neither it nor a proof is good where a session or a key is asked for, or the other way
//!   round: they come under a scheme of their own;
//! - whoever calls is let in only under their own id, and only with the body that they signed;
//! - a proof is good once: on this server at once, on every server soon after, and before an operation that is marked so (ADR 0029);
//! - two who use one key are noticed by the numbers of their proofs, and neither is let in any more;
//! - the credential's hash is paid once per credential and process, but the rows are read at every request.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::{Actor, FleetOperation, FleetPermit, Grants, OpCtx};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crypto::ed25519::{PublicKey, SigningKey};
use crypto::jwt::Claims;
use crypto::possession::{self, Statement};
use crypto::{hmac_sha256, password};
use domain::{Error, FleetCredentialId, FleetId, FleetKind, RequestId, Rng, TenantId, Timestamp};
use serde_json::json;
use store::{CloneSign, FoundUnit, LiveUnit, Seen};
use tokio::sync::RwLock;

use crate::caller;
use crate::problem::{self, Failure};
use crate::session::hashing;
use crate::state::ApiState;

/// How far a proof's time may be from ours, in seconds.
const SKEW_S: i64 = 60;
/// How far behind the one that was written down a number may be and count as late; beyond, it is a copy's.
const LATE: i64 = 32;
/// Once a number is so far ahead, it is written down before the request goes on.
const AHEAD: i64 = 16;
/// Who is seen is written down at least so often.
const SEEN_MS: i64 = 60_000;
/// How many of a signer's last proofs this process remembers.
const REMEMBERED: usize = 64;
/// How many signers each of two generations remembers.
const GENERATION: usize = 8_192;
/// A refusal of one of the fleet is recorded at most this often by one process.
const REFUSAL_MS: i64 = 60_000;
/// How long a credential lives: a year.
const CREDENTIAL_S: i64 = 365 * 24 * 3_600;
/// bcrypt's cost for credentials. A cost makes guessing dear; nobody guesses a signature, and ten thousand agents that come back at once have
/// to be let in within seconds.
const COST: u32 = 4;
/// The role of the key that signs credentials.
const KEY_ROLE: &str = "fleet";
/// The header in which a refusal for the time tells ours.
const SERVER_TIME: HeaderName = HeaderName::from_static("cairn-time");
const PROOF: HeaderName = HeaderName::from_static("dpop");

const fn audience(kind: FleetKind) -> &'static str {
    match kind {
        FleetKind::Agent => "cairn-agent",
        FleetKind::Relay => "cairn-relay",
    }
}

/// Why one of the fleet gets no answer.
#[derive(Debug)]
pub(crate) enum FleetFailure {
    /// As everybody else.
    Failure(Failure),
    /// Its clock differs too much from ours.
    ClockSkew { by_s: i64, now: Timestamp },
    /// The proof was used before, or a later one came in first: the next one may be good.
    Replayed,
}

impl From<Failure> for FleetFailure {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Error> for FleetFailure {
    fn from(error: Error) -> Self {
        Self::Failure(error.into())
    }
}

impl IntoResponse for FleetFailure {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Failure(failure) => failure.into_response(),
            Self::ClockSkew { by_s, now } => {
                let side = if by_s < 0 { "behind" } else { "ahead of" };
                let message = format!(
                    "the proof's time is {} s {side} the server's, which is {now}: sign anew",
                    by_s.unsigned_abs()
                );
                let mut response = problem::answer(StatusCode::UNAUTHORIZED, "clock_skew", message, None);
                if let Ok(now) = HeaderValue::from_str(&now.to_string()) {
                    response.headers_mut().insert(SERVER_TIME, now);
                }
                response
            }
            Self::Replayed => {
                let message = "the proof was used before, or one that was signed later came in first: sign anew";
                problem::answer(StatusCode::UNAUTHORIZED, "proof_replayed", message.to_owned(), None)
            }
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("DPoP algs=\"EdDSA\""));
        }
        response
    }
}

type Mac = [u8; 32];

/// What a process remembers under a key: the newer generation is filled; when it is full it becomes the older one, whose members are then
/// forgotten unless they are used.
struct Generations<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq + Copy, V: Default> Generations<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        if !self.newer.contains_key(&key) {
            let kept = self.older.remove(&key).unwrap_or_default();
            if self.newer.len() >= GENERATION {
                self.older = std::mem::take(&mut self.newer);
            }
            self.newer.insert(key, kept);
        }
        self.newer.entry(key).or_default()
    }
}

/// The last proofs of one signer: numbers and ids.
#[derive(Debug, Default)]
struct Recent(VecDeque<(i64, String)>);

/// What a proof is, by what was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fresh,
    Replayed,
    Cloned(CloneSign),
}

impl Recent {
    /// Judges a proof, and remembers it if it is fresh. `written`: the number and the id of the last one that was written down.
    fn judge(&mut self, written: (i64, &str), number: i64, id: &str) -> Verdict {
        let same = |seen: &(i64, String)| seen.0 == number && seen.1 == id;
        if self.0.iter().any(same) || written == (number, id) {
            return Verdict::Replayed;
        }
        if number == written.0 || self.0.iter().any(|seen| seen.0 == number) {
            return Verdict::Cloned(CloneSign::SameNumber);
        }
        match written.0.checked_sub(number) {
            Some(behind) if behind >= LATE => return Verdict::Cloned(CloneSign::OldNumber),
            Some(behind) if behind > 0 => return Verdict::Replayed,
            _ => {}
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((number, id.to_owned()));
        Verdict::Fresh
    }
}

/// What a process remembers of agents and relays.
pub(crate) struct Fleet {
    mac_key: [u8; 32],
    /// Verified credentials: the MAC of one, with the MAC of it and of the hash that it was verified against.
    verified: Mutex<Generations<Mac, Mac>>,
    recent: Mutex<Generations<FleetId, Recent>>,
    refused: Mutex<HashMap<u128, Timestamp>>,
    keys: RwLock<Option<Keys>>,
}

/// The keys that sign credentials.
#[derive(Clone)]
struct Keys {
    newest: Arc<SigningKey>,
    all: Arc<[PublicKey]>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Nothing remembered yet.
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        let mut mac_key = [0; 32];
        rng.fill(&mut mac_key);
        Self {
            mac_key,
            verified: Mutex::default(),
            recent: Mutex::default(),
            refused: Mutex::default(),
            keys: RwLock::default(),
        }
    }

    fn mac(&self, credential: &str) -> Mac {
        hmac_sha256(&self.mac_key, credential.as_bytes())
    }

    fn verdict(&self, credential: &str, stored: &str) -> Mac {
        hmac_sha256(&self.mac_key, [credential, "\0", stored].concat().as_bytes())
    }

    /// Whether a refusal is to be recorded now.
    pub(crate) fn is_new(&self, id: u128, now: Timestamp) -> bool {
        let mut refused = lock(&self.refused);
        refused.retain(|_, at| now.millis_since(*at) < REFUSAL_MS);
        refused.len() < GENERATION && refused.insert(id, now).is_none()
    }
}

async fn keys(state: &ApiState) -> Result<Keys, Error> {
    if let Some(keys) = &*state.fleet.keys.read().await {
        return Ok(keys.clone());
    }
    let mut kept = state.fleet.keys.write().await;
    if let Some(keys) = &*kept {
        return Ok(keys.clone());
    }
    let newest = state.store.signing_key(KEY_ROLE).await?;
    let all = state.store.signing_keys(KEY_ROLE).await?.into_iter().map(|row| row.public).collect();
    Ok(kept.insert(Keys { newest: Arc::new(newest), all }).clone())
}

/// A credential that was made: what is shown once, and what is stored.
pub(crate) struct Made {
    pub(crate) credential: String,
    pub(crate) stored: store::NewFleetCredential,
}

/// Makes a credential for a key.
pub(crate) async fn make(state: &ApiState, id: FleetId, tenant: TenantId, key: &PublicKey) -> Result<Made, Error> {
    let (clock, rng) = (state.store.clock(), state.store.rng());
    let credential = FleetCredentialId::generate(&**clock, &**rng);
    let now = clock.now().as_seconds();
    let expires = now.saturating_add(CREDENTIAL_S);
    let claims = json!({
        "iss": state.settings.installation,
        "aud": audience(id.kind()),
        "sub": id,
        "ten": tenant,
        "cnf": possession::confirmation(key),
        "jti": credential,
        "iat": now,
        "exp": expires,
    });
    let text = possession::sign_credential(&claims, &keys(state).await?.newest);
    let (hashed, rng) = (text.clone(), Arc::clone(rng));
    let hash = hashing(state, move || password::hash_password(&hashed, COST, &*rng)).await?;
    let expires_at = Timestamp::from_millis(expires.saturating_mul(1_000));
    let stored = store::NewFleetCredential { id: credential, hash: hash.map_err(Error::internal)?, expires_at };
    Ok(Made { credential: text, stored })
}

/// Whom a credential names, as this installation signed it.
struct Named {
    id: FleetId,
    tenant: TenantId,
    credential: FleetCredentialId,
}

/// Reads a credential that is ours, in its time, and bound to this key.
async fn named(state: &ApiState, credential: &str, key: &PublicKey) -> Result<Named, Error> {
    let claims =
        possession::verify_credential(credential, &keys(state).await?.all).map_err(|_| Error::Unauthenticated)?;
    let bound = possession::is_bound_to(&claims, key);
    let claims = Claims::new(&claims);
    let in_time = claims.check_times(state.store.clock().now().as_seconds()).is_ok();
    let ours = claims.text("iss") == Some(state.settings.installation.as_str());
    let named = || {
        let id: FleetId = claims.text("sub")?.parse().ok()?;
        let for_kind = claims.text("aud") == Some(audience(id.kind()));
        let tenant = claims.text("ten")?.parse().ok()?;
        let credential = claims.text("jti")?.parse().ok()?;
        for_kind.then_some(Named { id, tenant, credential })
    };
    if bound && in_time && ours { named().ok_or(Error::Unauthenticated) } else { Err(Error::Unauthenticated) }
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The version in `User-Agent: cairn-agent/1.2.3`, so that an upgrade shows at the next request.
fn version(headers: &HeaderMap) -> Option<String> {
    let (_, version) = one(headers, &header::USER_AGENT)?.split_once('/')?;
    crate::enrollment::version(version).ok()
}

/// The proof of a request: whose it is, and what it says. That it is of this request and of now is checked here; the token, the installation
/// and the body are not.
pub(crate) fn proof(parts: &Parts) -> Result<(PublicKey, Statement), Error> {
    let proof = one(&parts.headers, &PROOF).ok_or(Error::Unauthenticated)?;
    let (key, statement) = possession::verify_proof(proof).map_err(|_| Error::Unauthenticated)?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if statement.method == parts.method.as_str() && statement.target == target {
        Ok((key, statement))
    } else {
        Err(Error::Unauthenticated)
    }
}

/// Refuses a proof of another time, and says which time it is.
pub(crate) fn check_time(state: &ApiState, statement: &Statement) -> Result<(), FleetFailure> {
    let now = state.store.clock().now();
    let by_s = statement.at_s.saturating_sub(now.as_seconds());
    if by_s.saturating_abs() > SKEW_S { Err(FleetFailure::ClockSkew { by_s, now }) } else { Ok(()) }
}

/// An agent or a relay that proved who it is.
pub(crate) struct FleetCaller {
    ctx: OpCtx,
    unit: LiveUnit,
    key: PublicKey,
    statement: Statement,
    /// What its program says that it is.
    version: String,
    /// Whether the proof was written down as used.
    written: bool,
    state: ApiState,
}

impl FromRequestParts<ApiState> for FleetCaller {
    type Rejection = FleetFailure;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, FleetFailure> {
        let credential = one(&parts.headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("DPoP "));
        let credential = credential.ok_or(Error::Unauthenticated)?.to_owned();
        let (key, statement) = proof(parts)?;
        let named = named(state, &credential, &key).await?;
        let for_us = statement.audience.as_deref() == Some(state.settings.installation.as_str());
        if !for_us || statement.token != crypto::sha256(credential.as_bytes()) {
            return Err(Error::Unauthenticated.into());
        }
        check_time(state, &statement)?;
        let version = version(&parts.headers);
        let (request, ip) = (caller::request(state), caller::address(parts));
        Self::judge(state, credential, named, (key, statement), version, (request, ip)).await
    }
}

fn context(state: &ApiState, actor: Actor, request: RequestId, ip: Option<IpAddr>) -> OpCtx {
    OpCtx::user(actor, Grants::default(), request, ip, Arc::clone(state.store.clock()), Arc::clone(state.store.rng()))
}

impl FleetCaller {
    /// What comes after everything that needs no database.
    async fn judge(
        state: &ApiState,
        credential: String,
        named: Named,
        (key, statement): (PublicKey, Statement),
        version: Option<String>,
        (request, ip): (RequestId, Option<IpAddr>),
    ) -> Result<Self, FleetFailure> {
        let refuse = async |reason: &str| {
            if state.fleet.is_new(named.id.as_uuid().as_u128(), state.store.clock().now()) {
                let ctx = context(state, Actor::System { part: "login" }, request, ip);
                let kind = named.id.kind();
                let change = store::Change::to(store::Category::Authentication, kind.as_str(), named.id)
                    .outcome(store::Outcome::Deny)
                    .detail(json!({"reason": reason}));
                let action = if kind == FleetKind::Agent { "agent_use" } else { "relay_use" };
                state.store.record(&ctx, Some(named.tenant), action, &change).await?;
            }
            Err(FleetFailure::from(Error::Unauthenticated))
        };
        let (unit, superseded) = match state.store.fleet_find(named.tenant, named.id, named.credential).await? {
            FoundUnit::Live(unit) => (*unit, false),
            FoundUnit::Superseded(unit) => (*unit, true),
            FoundUnit::Refused { reason } => return refuse(reason).await,
            // Signed by us and not there: a database that was restored, or a key that somebody else has.
            FoundUnit::Unknown => return Err(Error::Unauthenticated.into()),
        };
        if unit.public_key != key.as_bytes() || !is_stored(state, credential, &unit.hash).await? {
            return refuse("not what is stored").await;
        }
        let ctx = context(state, unit.actor(), request, ip);
        let verdict = if superseded {
            Verdict::Cloned(CloneSign::OldCredential)
        } else {
            let mut recent = lock(&state.fleet.recent);
            recent.entry(unit.id).judge((unit.number, &unit.proof_id), statement.number, &statement.id)
        };
        match verdict {
            Verdict::Fresh => {}
            Verdict::Replayed => return Err(FleetFailure::Replayed),
            Verdict::Cloned(sign) => {
                state.store.fleet_cloned(&ctx, &unit, sign, statement.number).await?;
                return Err(Error::Unauthenticated.into());
            }
        }
        let version = version.unwrap_or_else(|| unit.version.clone());
        let mut caller = Self { ctx, unit, key, statement, version, written: false, state: state.clone() };
        caller.write_down_if_due().await?;
        Ok(caller)
    }

    async fn write_down(&self) -> Result<(), FleetFailure> {
        let Statement { number, id, .. } = &self.statement;
        let seen = Seen { number: *number, proof_id: id, version: &self.version };
        if self.state.store.fleet_seen(&self.ctx, &self.unit, &seen).await? {
            return Ok(());
        }
        // It ended meanwhile, or another server saw a greater number, which the next proof is judged by.
        self.check_again().await?;
        Err(FleetFailure::Replayed)
    }

    async fn write_down_if_due(&mut self) -> Result<(), FleetFailure> {
        let (unit, now) = (&self.unit, self.state.store.clock().now());
        let ip = self.ctx.ip().map(|ip| ip.to_canonical().to_string());
        let ahead = self.statement.number.saturating_sub(unit.number) >= AHEAD;
        let unseen = unit.last_seen_at.is_none_or(|at| now.millis_since(at) >= SEEN_MS);
        let other = unit.last_seen_ip != ip || unit.version != self.version;
        if ahead || unseen || !unit.used_before || other {
            self.write_down().await?;
            self.written = true;
        }
        Ok(())
    }

    /// Who it is.
    pub(crate) fn unit(&self) -> &LiveUnit {
        &self.unit
    }

    /// The key that it proved to hold.
    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it would still be let in, for what goes on after the request began.
    pub(crate) async fn check_again(&self) -> Result<(), Error> {
        match self.state.store.fleet_find(self.unit.tenant, self.unit.id, self.unit.credential).await? {
            FoundUnit::Live(_) => Ok(()),
            _ => Err(Error::Unauthenticated),
        }
    }

    /// A permit for one operation on itself, which a path names by `id`; `body` is the request's, as it came. A denial is recorded before it is
    /// answered.
    pub(crate) async fn permit<O: FleetOperation>(
        &self,
        id: &str,
        body: &[u8],
    ) -> Result<FleetPermit<O>, FleetFailure> {
        if self.statement.body != crypto::sha256(body) {
            return Err(Error::Unauthenticated.into());
        }
        let permit = match self.ctx.authorize_fleet::<O>() {
            Ok(permit) => permit,
            Err(denied) => {
                self.state.store.fleet_denied(&self.ctx, &self.unit, O::NAME, "another kind").await?;
                return Err(Failure::from(denied).into());
            }
        };
        if id != self.unit.id.to_string() {
            self.state.store.fleet_denied(&self.ctx, &self.unit, O::NAME, "another id").await?;
            let message = format!("this is `{}`, and may speak for nobody else", self.unit.id);
            return Err(Error::Forbidden { message }.into());
        }
        if O::ONCE && !self.written {
            self.write_down().await?;
        }
        Ok(permit)
    }
}

/// Whether a credential is the one whose hash is stored, from memory or by hashing.
async fn is_stored(state: &ApiState, credential: String, stored: &str) -> Result<bool, Error> {
    let (mac, verdict) = (state.fleet.mac(&credential), state.fleet.verdict(&credential, stored));
    if *lock(&state.fleet.verified).entry(mac) == verdict {
        return Ok(true);
    }
    let stored = stored.to_owned();
    let matches = hashing(state, move || password::verify_password(&credential, &stored)).await?;
    if matches {
        *lock(&state.fleet.verified).entry(mac) = verdict;
    }
    Ok(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: (i64, &str) = (100, "written");

    #[test]
    fn attack_24_numbers_tell_a_copy_from_a_late_or_repeated_proof() {
        let late = 100 - LATE + 1;
        for (number, id, expect) in [
            (101, "a", Verdict::Fresh),
            (101 + (1 << 20), "a", Verdict::Fresh),
            (100, "written", Verdict::Replayed),
            (100, "other", Verdict::Cloned(CloneSign::SameNumber)),
            (99, "a", Verdict::Replayed),
            (late, "a", Verdict::Replayed),
            (late - 1, "a", Verdict::Cloned(CloneSign::OldNumber)),
            (0, "a", Verdict::Cloned(CloneSign::OldNumber)),
        ] {
            assert_eq!(Recent::default().judge(WRITTEN, number, id), expect, "{number} {id}");
        }
        let mut recent = Recent::default();
        assert_eq!(recent.judge(WRITTEN, 105, "a"), Verdict::Fresh);
        assert_eq!(recent.judge(WRITTEN, 105, "a"), Verdict::Replayed);
        assert_eq!(recent.judge(WRITTEN, 105, "b"), Verdict::Cloned(CloneSign::SameNumber));
        // One that was signed before and comes after is not held against anybody.
        assert_eq!(recent.judge(WRITTEN, 104, "c"), Verdict::Fresh);
        // Also one that is repeated long after is no copy's.
        assert_eq!(recent.judge((100_000, "later"), 104, "c"), Verdict::Replayed);
    }

    #[test]
    fn two_who_use_one_key_are_told_apart_within_the_late_ones_whatever_numbers_the_copy_chooses() {
        // The copy may know where its original is, and stays ahead of it by any step.
        for ahead in 1..=LATE * 2 {
            let (mut recent, mut written) = (Recent::default(), (0, "0".to_owned()));
            let mut noticed = None;
            let (mut original, mut copy) = (0, 0);
            for round in 0..=LATE {
                copy = (original + ahead).max(copy + 1);
                original += 1;
                for (number, who) in [(copy, "copy"), (original, "original")] {
                    let id = format!("{who} {round}");
                    match recent.judge((written.0, &written.1), number, &id) {
                        Verdict::Fresh if number - written.0 >= AHEAD => written = (number, id),
                        Verdict::Fresh | Verdict::Replayed => {}
                        Verdict::Cloned(_) => noticed = noticed.or(Some(round)),
                    }
                }
            }
            assert!(noticed.is_some(), "{ahead}");
        }
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let mut known = Generations::<usize, usize>::default();
        *known.entry(0) = 7;
        for n in 1..GENERATION * 3 {
            *known.entry(n) = n;
            assert_eq!(*known.entry(0), 7, "{n}");
        }
        assert!(known.newer.len() + known.older.len() <= 2 * GENERATION);
        let mut recent = Recent::default();
        for number in 1..1_000 {
            recent.judge((0, "0"), number, "x");
        }
        assert_eq!(recent.0.len(), REMEMBERED);
    }
}
