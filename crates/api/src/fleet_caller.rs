//! Agents and relays as callers: a credential, and a proof that this request is by the one whose it is.
//!
//! Invariants:
//! - a credential alone is good for nothing, and neither it nor a proof is good where a session or a key is asked for, or the other way
//!   round: they come under a scheme of their own;
//! - whoever calls is let in only under their own id, and only with the body that they signed;
//! - a proof is good once: on this server at once, on every server soon after, and before an operation that is marked so (ADR 0029);
//! - two who use one key are noticed by the numbers of their proofs, and neither is let in any more;
//! - the credential's hash is paid once per credential and process, but the rows are read at every request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use access::{Actor, FleetOperation, FleetPermit, Grants, OpCtx};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crypto::ed25519::PublicKey;
use crypto::jwt::Claims;
use crypto::password;
use crypto::possession::{self, Statement};
use domain::{Error, FleetCredentialId, FleetId, FleetKind, RequestId, TenantId, Timestamp};
use serde_json::json;
use store::{CloneSign, FoundUnit, LiveUnit, Seen};

use crate::caller;
use crate::fleet_connections::Carrier;
use crate::fleet_memory::{Keys, Mac, Named, Verdict, Verified};
use crate::problem::{self, Failure};
use crate::session::hashing;
use crate::state::ApiState;

/// How far a proof's time may be from ours, in seconds: no more than what a relay forgives a token, so that one that would refuse tokens is told
/// the time.
const SKEW_S: i64 = gateway::destination_token::LEEWAY_S_MAX;
/// Once a number is so far ahead, it is written down before the request goes on.
pub(crate) const AHEAD: i64 = 16;
/// Who is seen is written down at least so often.
const SEEN_MS: i64 = 60_000;
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

/// Reads a credential that is ours, in its time, and bound to this key. Its signature is verified once per process: a credential that is remembered
/// says what it said then. What was not signed by us is not remembered.
async fn named(state: &ApiState, credential: &str, mac: Mac, key: &PublicKey) -> Result<Named, Error> {
    let verified = if let Some(verified) = state.fleet.recall(mac) {
        verified
    } else {
        let verified = verify(state, credential, key).await?.ok_or(Error::Unauthenticated)?;
        state.fleet.remember(mac, verified);
        verified
    };
    let in_time = verified.times.check(state.store.clock().now().as_seconds()).is_ok();
    if in_time && verified.key == *key { Ok(verified.named) } else { Err(Error::Unauthenticated) }
}

/// A credential whose signature is ours, and that is bound to this key.
async fn verify(state: &ApiState, credential: &str, key: &PublicKey) -> Result<Option<Verified>, Error> {
    let Ok(claims) = possession::verify_credential(credential, &keys(state).await?.all) else { return Ok(None) };
    let bound = possession::is_bound_to(&claims, key);
    let claims = Claims::new(&claims);
    let ours = claims.text("iss") == Some(state.settings.installation.as_str());
    let verified = || {
        let id: FleetId = claims.text("sub")?.parse().ok()?;
        let for_kind = claims.text("aud") == Some(audience(id.kind()));
        let tenant = claims.text("ten")?.parse().ok()?;
        let credential = claims.text("jti")?.parse().ok()?;
        let named = Named { id, tenant, credential };
        for_kind.then_some(Verified::new(named, *key, claims.times()?))
    };
    Ok(if bound && ours { verified() } else { None })
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
        let digest = crypto::sha256(credential.as_bytes());
        let for_us = statement.audience.as_deref() == Some(state.settings.installation.as_str());
        if !for_us || statement.token != digest {
            return Err(Error::Unauthenticated.into());
        }
        let mac = state.fleet.mac(&digest);
        let named = named(state, &credential, mac, &key).await?;
        check_time(state, &statement)?;
        let version = version(&parts.headers);
        let asked = Instant::now();
        let (request, ip) = (caller::request(state), caller::address(parts));
        let caller = Self::judge(state, (credential, mac), named, (key, statement), version, (request, ip)).await;
        if matches!(&caller, Err(FleetFailure::Failure(Failure(Error::Unauthenticated)))) {
            state.fleet.forget(mac);
        }
        if let (Ok(caller), Some(carrier)) = (&caller, parts.extensions.get::<Carrier>()) {
            state.connections().hold(caller.unit.id, carrier, asked);
        }
        caller
    }
}

fn context(state: &ApiState, actor: Actor, request: RequestId, ip: Option<IpAddr>) -> OpCtx {
    OpCtx::user(actor, Grants::default(), request, ip, Arc::clone(state.store.clock()), Arc::clone(state.store.rng()))
}

impl FleetCaller {
    /// What comes after everything that needs no database.
    async fn judge(
        state: &ApiState,
        (credential, mac): (String, Mac),
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
        if unit.public_key != key.as_bytes() || !is_stored(state, credential, mac, &unit.hash).await? {
            return refuse("not what is stored").await;
        }
        let ctx = context(state, unit.actor(), request, ip);
        let verdict = if superseded {
            Verdict::Cloned(CloneSign::OldCredential)
        } else {
            state.fleet.judge(unit.id, (unit.number, &unit.proof_id), statement.number, &statement.id)
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
async fn is_stored(state: &ApiState, credential: String, mac: Mac, stored: &str) -> Result<bool, Error> {
    if state.fleet.is_stored(mac, stored) {
        return Ok(true);
    }
    let hash = stored.to_owned();
    let matches = hashing(state, move || password::verify_password(&credential, &hash)).await?;
    if matches {
        state.fleet.note_stored(mac, stored);
    }
    Ok(matches)
}

/// An agent that proved who it is and has not sent too many reports: asked before any of the report is read.
pub(crate) struct Reporter(pub(crate) FleetCaller);

impl FromRequestParts<ApiState> for Reporter {
    type Rejection = FleetFailure;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, FleetFailure> {
        let caller = FleetCaller::from_request_parts(parts, state).await?;
        state.fleet.report(caller.unit.id, state.store.clock().now(), state.settings.reports_per_min)?;
        Ok(Self(caller))
    }
}
