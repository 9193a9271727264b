//! The keys of destination tokens: what this server signs with, and the key set that verifiers read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use crypto::es512::KeySet;
use domain::{Error, Timestamp};
use serde_json::Value;
use store::{Store, TokenKeys};
use tokio::sync::RwLock;

use crate::problem::Answer;
use crate::state::ApiState;

/// How long this server remembers the keys, in milliseconds: far shorter than a new key is known before it signs.
const REMEMBER_MS: i64 = 30_000;

/// What this process remembers of the keys.
#[derive(Default)]
pub(crate) struct Keys(RwLock<Option<(Timestamp, Arc<TokenKeys>)>>);

impl Keys {
    /// The keys as they are now, or were a moment ago.
    pub(crate) async fn now(&self, store: &Store) -> Result<Arc<TokenKeys>, Error> {
        let now = store.clock().now();
        let known = |kept: &Option<(Timestamp, Arc<TokenKeys>)>| {
            let (at, keys) = kept.as_ref()?;
            (0..REMEMBER_MS).contains(&now.millis_since(*at)).then(|| Arc::clone(keys))
        };
        if let Some(keys) = known(&*self.0.read().await) {
            return Ok(keys);
        }
        let mut kept = self.0.write().await;
        if let Some(keys) = known(&kept) {
            return Ok(keys);
        }
        let keys = Arc::new(store.token_keys().await?);
        *kept = Some((now, Arc::clone(&keys)));
        Ok(keys)
    }
}

/// The keys that verify destination tokens (RFC 7517). A new key is here ten minutes before it signs, and one that signs no more for ten
/// minutes after.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "destinations", security(()), responses((status = 200, description = "a key set", body = Object)))]
pub(crate) async fn jwks_show(State(state): State<ApiState>) -> Answer<impl IntoResponse> {
    let keys = state.token_keys.now(&state.store).await?;
    let set: Value = KeySet::new(keys.published.clone()).to_json();
    Ok(([(header::CACHE_CONTROL, "public, max-age=300")], Json(set)))
}
