//! For load balancers and generators of clients.

use axum::Json;
use axum::extract::State;

use crate::problem::Answer;
use crate::state::ApiState;

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, description = "alive", body = String)))]
pub(crate) async fn health_show() -> &'static str {
    "ok\n"
}

/// The server can do its work: the database answers and it is not draining.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, description = "ready", body = String)))]
pub(crate) async fn ready_show(State(state): State<ApiState>) -> Answer<&'static str> {
    if *state.draining.borrow() {
        return Err(domain::Error::Unavailable {
            message: "the server is stopping".to_owned(),
            detail: "draining".to_owned(),
        }
        .into());
    }
    state.store.ping().await?;
    Ok(if crypto::fips::is_fips_build() { "ready (FIPS build: AWS-LC-FIPS)\n" } else { "ready\n" })
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", security(()), responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi_show() -> Json<utoipa::openapi::OpenApi> {
    Json(crate::openapi())
}
