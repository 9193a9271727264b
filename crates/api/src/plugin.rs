//! The plugins that are installed.

use axum::Json;
use axum::extract::State;
use wire::List;
use wire::credential::Plugin;

use crate::caller::Caller;
use crate::page;
use crate::problem::Answer;
use crate::state::ApiState;

/// Every plugin with its settings and credential types.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", responses((status = 200, description = "plugins", body = List<Plugin>)))]
pub(crate) async fn plugin_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Plugin>>> {
    caller.may_work()?;
    Ok(page::whole(state.catalog.plugins().to_vec()))
}
