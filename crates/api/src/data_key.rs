//! Data keys, for those who manage the platform.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use store::RotationOf;
use wire::List;
use wire::data_key::{DataKey, DataKeyRotate, DataKeys, DataKeysRotated};

use crate::caller::Caller;
use crate::page::Body;
use crate::problem::Answer;
use crate::state::ApiState;

fn data_keys(of: store::DataKeys) -> DataKeys {
    let key = |row: store::DataKeyRow| DataKey {
        version: row.version,
        created_at: row.created_at,
        seals: row.seals,
        values: row.values,
    };
    DataKeys { tenant: of.tenant, keys: of.keys.into_iter().map(key).collect() }
}

/// The data keys of the platform and of every tenant, and how far a rotation has come.
#[utoipa::path(get, path = "/api/v1/data-keys", tag = "data-keys", responses((status = 200, description = "data keys", body = List<DataKeys>)))]
pub(crate) async fn data_key_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<DataKeys>>> {
    let permit = caller.platform_permit::<ops::DataKeyList>().await?;
    let items = state.store.data_key_list(permit).await?.into_iter().map(data_keys).collect();
    Ok(Json(List { items, next_page: None }))
}

/// Makes new data keys, which seal from now on; what older ones sealed is sealed anew in the background.
#[utoipa::path(post, path = "/api/v1/data-keys/rotate", tag = "data-keys", request_body = DataKeyRotate,
    responses((status = 202, description = "begun", body = DataKeysRotated)))]
pub(crate) async fn data_key_rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<DataKeyRotate>,
) -> Answer<(StatusCode, Json<DataKeysRotated>)> {
    let permit = caller.platform_permit::<ops::DataKeyRotate>().await?;
    let of = body.tenant.map_or(RotationOf::All, RotationOf::Tenant);
    let keys = state.store.write_platform(permit).await?.data_key_rotate(of).await?;
    Ok((StatusCode::ACCEPTED, Json(DataKeysRotated { keys })))
}
