//! API keys: how a request that brings one becomes a caller, and how they are made, rotated and revoked.
//!
//! Invariants:
//! - a key whose checksum is wrong costs no look into the database;
//! - every key that is refused after that costs one bcrypt and gets the same answer, whatever is wrong with it;
//! - bcrypt is paid once per secret and process, but the key's rows are read at every request: what is remembered is only that these bytes
//!   belong to that stored hash, so that nothing that ends or changes a key has to be told to anybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::{Actor, Grants, OpCtx, Permission, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::api_key::ApiKey;
use crypto::{hmac_sha256, password};
use domain::{ApiKeyId, Error, Limits, Network, RequestId, Rng, TenantId, Timestamp};
use store::{ApiKeyRow, FoundApiKey, LiveApiKey, NewApiKey, NewApiKeySecret};
use tokio::sync::Semaphore;
use wire::List;
use wire::api_key::{ApiKey as ApiKeyDocument, ApiKeyCreate, ApiKeyCreated, ApiKeyRotate};
use wire::session::Me;

use crate::caller::{self, Caller};
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::{Answer, Failure};
use crate::session::{hashing, my_tenants};
use crate::state::ApiState;

/// How many verified keys each of two generations remembers.
const GENERATION: usize = 4_096;
/// A key that is refused is recorded at most this often by one process.
const REFUSAL_MS: i64 = 60_000;
/// How long the old secret stays good where a rotation does not say, and at most.
const OVERLAP_S: u32 = 24 * 3_600;
const OVERLAP_S_MAX: u32 = 30 * 24 * 3_600;

/// What a process remembers of keys.
pub(crate) struct Keys {
    mac_key: [u8; 32],
    verified: Mutex<Generations>,
    refused: Mutex<HashMap<ApiKeyId, Timestamp>>,
    /// How many keys that this process does not know may be looked up and hashed at a time: more are told to come again, so that a flood of
    /// bad ones takes neither the database nor the places of other requests, and delays sign-ins, which are hashed in the same line, only
    /// by so much.
    line: Semaphore,
}

type Mac = [u8; 32];

/// Verified keys by their MAC, each with the MAC of what they were verified against. The newer generation is filled; when it is full it
/// becomes the older one, whose members are then forgotten unless they are used.
#[derive(Default)]
struct Generations {
    newer: HashMap<Mac, Mac>,
    older: HashMap<Mac, Mac>,
}

impl Generations {
    fn insert(&mut self, key: Mac, verdict: Mac) {
        if self.newer.len() >= GENERATION && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, verdict);
    }

    fn recall(&mut self, key: Mac) -> Option<Mac> {
        if let Some(verdict) = self.newer.get(&key) {
            return Some(*verdict);
        }
        let verdict = self.older.remove(&key)?;
        self.insert(key, verdict);
        Some(verdict)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
    /// Nothing remembered yet. The key of this process is random, so that what it remembers says nothing to anybody else.
    pub(crate) fn new(rng: &dyn Rng, cores: usize) -> Self {
        let mut mac_key = [0; 32];
        rng.fill(&mut mac_key);
        Self {
            mac_key,
            verified: Mutex::default(),
            refused: Mutex::default(),
            line: Semaphore::new(cores.saturating_mul(2)),
        }
    }

    /// Stands for the key's bytes. No stored hash is empty, so that it is no [`Keys::verdict`].
    fn mac(&self, key: &ApiKey) -> Mac {
        hmac_sha256(&self.mac_key, key.expose().as_bytes())
    }

    /// Stands for everything that bcrypt's verdict depends on: these bytes, that stored hash.
    fn verdict(&self, key: &ApiKey, stored: &str) -> Mac {
        hmac_sha256(&self.mac_key, [key.expose(), "\0", stored].concat().as_bytes())
    }

    /// Whether a refusal of this key is to be recorded now.
    fn is_new(&self, id: ApiKeyId, now: Timestamp) -> bool {
        let mut refused = lock(&self.refused);
        refused.retain(|_, at| now.millis_since(*at) < REFUSAL_MS);
        refused.insert(id, now).is_none()
    }
}

/// A caller with a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyCaller {
    pub(crate) key: LiveApiKey,
    /// The public id of the secret that was sent.
    lookup: String,
}

impl KeyCaller {
    /// Whether the key is still what it was, for what goes on after the request began.
    pub(crate) async fn check_again(&self, state: &ApiState, ip: Option<IpAddr>) -> Result<(), Error> {
        match state.store.api_key_find(&self.lookup, ip).await? {
            FoundApiKey::Live(live) if live.hash == self.key.hash && live.membership == self.key.membership => Ok(()),
            _ => Err(Error::Unauthenticated),
        }
    }
}

fn context(state: &ApiState, actor: Actor, grants: Grants, request: RequestId, ip: Option<IpAddr>) -> OpCtx {
    OpCtx::user(actor, grants, request, ip, Arc::clone(state.store.clock()), Arc::clone(state.store.rng()))
}

/// The caller whose key this is. The error is the same for everything that is wrong with a key.
pub(crate) async fn authenticate(
    state: &ApiState,
    token: &str,
    request: RequestId,
    ip: Option<IpAddr>,
) -> Result<(KeyCaller, OpCtx), Failure> {
    let key = ApiKey::parse(token).ok_or(Error::Unauthenticated)?;
    let lookup = key.id().to_owned();
    let live = match verify(state, key, ip).await? {
        Ok(live) => live,
        Err(None) => return Err(Error::Unauthenticated.into()),
        Err(Some((id, tenant, reason))) => {
            if state.keys.is_new(id, state.store.clock().now()) {
                let ctx = context(state, Actor::System { part: "login" }, Grants::default(), request, ip);
                state.store.api_key_refused(&ctx, tenant, id, reason).await?;
            }
            return Err(Error::Unauthenticated.into());
        }
    };
    let (tenant, role) = (live.membership.tenant, live.membership.role);
    let actor = Actor::ApiKey { id: live.id, name: live.name.clone(), tenant };
    let grants = Grants { platform_admin: false, tenants: vec![(tenant, role)] };
    let ctx = context(state, actor, grants, request, ip);
    caller::write_down(state.store.api_key_used(&ctx, &live)).await;
    Ok((KeyCaller { key: live, lookup }, ctx))
}

type Refused = Option<(ApiKeyId, TenantId, &'static str)>;

/// Looks the key up and checks the secret, from memory or by bcrypt; for a key that is refused anyway bcrypt's time is spent all the same.
async fn verify(state: &ApiState, key: ApiKey, ip: Option<IpAddr>) -> Result<Result<LiveApiKey, Refused>, Error> {
    let in_line = || {
        state.keys.line.try_acquire().map_err(|_| Error::Unavailable {
            message: "too many API keys are being checked: try again in a second".to_owned(),
            detail: "line of API keys".to_owned(),
        })
    };
    let known = lock(&state.keys.verified).recall(state.keys.mac(&key));
    let place = if known.is_none() { Some(in_line()?) } else { None };
    let found = state.store.api_key_find(key.id(), ip).await?;
    let stored = match &found {
        FoundApiKey::Live(live) if known == Some(state.keys.verdict(&key, &live.hash)) => {
            return Ok(Ok(LiveApiKey::clone(live)));
        }
        FoundApiKey::Live(live) => Some(live.hash.clone()),
        FoundApiKey::Refused { .. } | FoundApiKey::Unknown => None,
    };
    let _place = match place {
        Some(place) => place,
        None => in_line()?,
    };
    let cost = state.settings.bcrypt_cost;
    let (key, matches) = hashing(state, move || {
        let matches = if let Some(stored) = &stored {
            password::verify_password(key.expose(), stored)
        } else {
            password::spend_like(cost);
            false
        };
        (key, matches)
    })
    .await?;
    Ok(match found {
        FoundApiKey::Live(live) if matches => {
            lock(&state.keys.verified).insert(state.keys.mac(&key), state.keys.verdict(&key, &live.hash));
            Ok(*live)
        }
        FoundApiKey::Live(live) => Err(Some((live.id, live.membership.tenant, "wrong secret"))),
        FoundApiKey::Refused { id, tenant, reason } => Err(Some((id, tenant, reason))),
        FoundApiKey::Unknown => Err(None),
    })
}

/// What a key is told about itself.
pub(crate) fn me(caller: &KeyCaller) -> Me {
    let key = &caller.key;
    let mut tenants = my_tenants(std::slice::from_ref(&key.membership), true);
    for tenant in &mut tenants {
        tenant.can.retain(|name| {
            !Permission::ALL.iter().any(|permission| permission.is_for_people() && permission.as_str() == name)
        });
    }
    Me {
        kind: "api-key".to_owned(),
        id: key.id.to_string(),
        email: None,
        name: key.name.to_string(),
        session: None,
        expires_at: key.expires_at,
        idle_ends_at: None,
        idle_ms: None,
        must_change_password: false,
        platform_admin: false,
        has_second_factor: false,
        has_password: false,
        must_add_second_factor: false,
        tenants,
    }
}

fn document(row: ApiKeyRow) -> ApiKeyDocument {
    ApiKeyDocument {
        id: row.id,
        name: row.name,
        role: row.role.to_string(),
        state: row.state.as_str().to_owned(),
        owner: row.owner,
        owner_email: row.owner_email,
        networks: row.networks.iter().map(Network::to_string).collect(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
        last_used_at: row.last_used_at,
        last_used_ip: row.last_used_ip,
        old_secret_until: row.old_secret_until,
    }
}

/// A new secret and its stored form.
async fn new_secret(state: &ApiState) -> Result<(String, NewApiKeySecret), Error> {
    let key = ApiKey::generate(&**state.store.rng());
    let (text, lookup) = (key.expose().to_owned(), key.id().to_owned());
    let (cost, rng) = (state.settings.bcrypt_cost, state.store.rng().clone());
    let hash = hashing(state, move || password::hash_password(key.expose(), cost, &*rng)).await?;
    Ok((text, NewApiKeySecret { lookup, hash: hash.map_err(Error::internal)? }))
}

/// The tenant's API keys, without secrets.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/api-keys", tag = "api-keys",
    params(("tenant" = String, Path, description = "id or slug"), Paging), responses((status = 200, description = "keys", body = List<ApiKeyDocument>)))]
pub(crate) async fn api_key_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<ApiKeyDocument>>> {
    let permit = caller.permit::<ops::ApiKeyList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.api_key_list(after, limit).await?, document))
}

/// Makes an API key, and shows it this once.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/api-keys", tag = "api-keys", params(("tenant" = String, Path, description = "id or slug")),
    request_body = ApiKeyCreate, responses((status = 201, description = "made", body = ApiKeyCreated)))]
pub(crate) async fn api_key_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<ApiKeyCreate>,
) -> Answer<(StatusCode, Json<ApiKeyCreated>)> {
    let permit = caller.permit::<ops::ApiKeyCreate>(&tenant).await?;
    if body.networks.len() > Limits::KEY_NETWORKS {
        return Err(Error::invalid("networks", format!("name at most {} networks", Limits::KEY_NETWORKS)).into());
    }
    if body.expires_at.is_some_and(|expires_at| expires_at <= state.store.clock().now()) {
        return Err(Error::invalid("expires_at", "use a time that is still to come").into());
    }
    let networks = body.networks.iter().map(|text| text.parse()).collect::<Result<Vec<Network>, Error>>()?;
    let new = NewApiKey { name: body.name.parse()?, role: body.role.parse()?, networks, expires_at: body.expires_at };
    let (shown, secret) = new_secret(&state).await?;
    let row = state.store.write(permit).await?.api_key_create(&new, &secret).await?;
    Ok((StatusCode::CREATED, Json(ApiKeyCreated { api_key: document(row), secret: shown })))
}

/// One API key, without its secret.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/api-keys/{api_key}", tag = "api-keys",
    params(("tenant" = String, Path, description = "id or slug"), ("api_key" = String, Path, description = "the key's id")),
    responses((status = 200, description = "key", body = ApiKeyDocument)))]
pub(crate) async fn api_key_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<ApiKeyDocument>> {
    let permit = caller.permit::<ops::ApiKeyList>(&tenant).await?;
    Ok(Json(document(state.store.read(permit).await?.api_key_show(page::id(&id, "api key")?).await?)))
}

/// Gives a key a new secret, shown this once, and makes the caller its owner. The old secret stays good for a while, unless its owner could
/// not give the key's role any more.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/api-keys/{api_key}/rotate", tag = "api-keys",
    params(("tenant" = String, Path, description = "id or slug"), ("api_key" = String, Path, description = "the key's id")),
    request_body = ApiKeyRotate, responses((status = 200, description = "rotated", body = ApiKeyCreated)))]
pub(crate) async fn api_key_rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<ApiKeyRotate>,
) -> Answer<Json<ApiKeyCreated>> {
    let permit = caller.permit::<ops::ApiKeyRotate>(&tenant).await?;
    let overlap_s = body.overlap_s.unwrap_or(OVERLAP_S);
    if overlap_s > OVERLAP_S_MAX {
        return Err(Error::invalid("overlap_s", format!("use at most {OVERLAP_S_MAX} (30 days)")).into());
    }
    let id = page::id(&id, "api key")?;
    let (shown, secret) = new_secret(&state).await?;
    let old_until = state.store.clock().now().plus_millis(i64::from(overlap_s) * 1_000);
    let row = state.store.write(permit).await?.api_key_rotate(id, &secret, old_until).await?;
    Ok(Json(ApiKeyCreated { api_key: document(row), secret: shown }))
}

/// Revokes a key: from the next request on it is refused, on every server.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/api-keys/{api_key}", tag = "api-keys",
    params(("tenant" = String, Path, description = "id or slug"), ("api_key" = String, Path, description = "the key's id")),
    responses((status = 204, description = "revoked")))]
pub(crate) async fn api_key_revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::ApiKeyRevoke>(&tenant).await?;
    state.store.write(permit).await?.api_key_revoke(page::id(&id, "api key")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_16_what_is_remembered_is_about_these_bytes_and_that_stored_hash() {
        let rng = testkit::TestRng::seeded(1);
        let (keys, others) = (Keys::new(&rng, 1), Keys::new(&rng, 1));
        let (one, two) = (ApiKey::generate(&rng), ApiKey::generate(&rng));
        let verdict = keys.verdict(&one, "$2b$04$a");
        assert_eq!(keys.verdict(&ApiKey::parse(one.expose()).unwrap(), "$2b$04$a"), verdict);
        for other in [
            keys.verdict(&one, "$2b$31$a"),
            keys.verdict(&one, ""),
            keys.verdict(&two, "$2b$04$a"),
            others.verdict(&one, "$2b$04$a"),
            keys.mac(&one),
        ] {
            assert_ne!(other, verdict);
        }
        assert!(keys.mac(&one) != keys.mac(&two) && keys.mac(&one) != others.mac(&one));
    }

    #[test]
    fn what_is_used_is_remembered_and_what_is_not_is_forgotten() {
        let mac = |n: usize| crypto::sha256(&n.to_be_bytes()).0;
        let mut known = Generations::default();
        known.insert(mac(0), mac(7));
        known.insert(mac(1), mac(8));
        for n in 2..GENERATION * 3 {
            known.insert(mac(n), mac(9));
            assert_eq!(known.recall(mac(0)), Some(mac(7)), "{n}");
        }
        assert_eq!(known.recall(mac(1)), None);
        known.insert(mac(0), mac(1));
        assert_eq!(known.recall(mac(0)), Some(mac(1)), "the last verdict counts");
        assert!(known.newer.len() + known.older.len() <= 2 * GENERATION);
    }
}
