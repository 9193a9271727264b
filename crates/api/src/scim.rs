//! SCIM 2.0 (RFC 7643, RFC 7644): users and groups that an identity provider provisions.
//!
//! A provider is known by its own token and sees what it provisioned, nothing else. It can make accounts, end them and put them into groups; what a
//! group gives is decided in the tenants (`group_role`), and no attribute named like a role is looked at.

mod filter;
mod patch;
mod resource;
mod schema;

use access::OpCtx;
use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use domain::{Error, Rng};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ProviderRow, ScimPage};

use crate::page::{self, Path};
use crate::state::ApiState;
use crate::{caller, cookie};

const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const PREFIX: &str = "scim_";
/// Most resources of one answer.
const COUNT_MAX: i64 = 200;

/// A provisioning token: 238 random bits, so that one unsalted hash is enough to keep it.
pub(crate) fn new_token(rng: &dyn Rng) -> String {
    format!("{PREFIX}{}", crypto::token::random_token(rng, 40))
}

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/scim/v2/Users", get(user_list).post(user_create))
        .route("/scim/v2/Users/{id}", get(user_show).put(user_change).patch(user_change).delete(user_delete))
        .route("/scim/v2/Groups", get(group_list).post(group_create))
        .route("/scim/v2/Groups/{id}", get(group_show).put(group_change).patch(group_change).delete(group_delete))
        .route("/scim/v2/ServiceProviderConfig", get(config))
        .route("/scim/v2/ResourceTypes", get(resource_types))
        .route("/scim/v2/ResourceTypes/{id}", get(resource_type))
        .route("/scim/v2/Schemas", get(schemas))
        .route("/scim/v2/Schemas/{id}", get(schema_show))
        .route("/scim/v2/{*rest}", any(nothing))
}

/// Below which path all of it is.
pub(crate) const ROOT: &str = "/scim/v2/";

/// Whether a change looks at this condition: that of what is there looks at its version.
pub(crate) fn reads_condition(method: &Method, path: &str, name: &HeaderName) -> bool {
    let is_change = [Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    *name == header::IF_MATCH && is_change && ["/scim/v2/Users/{id}", "/scim/v2/Groups/{id}"].contains(&path)
}

/// A refusal of a request that is wrong whatever it is about.
pub(crate) fn unfit(message: String) -> Response {
    Refusal { status: StatusCode::BAD_REQUEST, kind: None, detail: message }.into_response()
}

/// An error in SCIM's own form.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    kind: Option<&'static str>,
    detail: String,
}

type Answer<T = Response> = Result<T, Refusal>;

fn refusal(kind: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, kind: Some(kind), detail: detail.into() }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, kind) = match &error {
            Error::Invalid { .. } => (StatusCode::BAD_REQUEST, Some("invalidValue")),
            Error::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
            Error::Forbidden { .. } | Error::StepUpRequired => (StatusCode::FORBIDDEN, None),
            Error::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            Error::Conflict { .. } => (StatusCode::CONFLICT, Some("uniqueness")),
            Error::Precondition { .. } => (StatusCode::PRECONDITION_FAILED, None),
            Error::Limit { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Some("tooMany")),
            Error::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, None),
            Error::Unavailable { message, detail } => {
                tracing::warn!(message, detail, "unavailable");
                (StatusCode::SERVICE_UNAVAILABLE, None)
            }
            Error::Internal { detail } => {
                tracing::error!(detail, "internal error");
                (StatusCode::INTERNAL_SERVER_ERROR, None)
            }
        };
        Self { status, kind, detail: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"schemas": [ERROR], "status": self.status.as_u16().to_string(), "detail": self.detail});
        if let (Some(kind), Some(body)) = (self.kind, body.as_object_mut()) {
            body.insert("scimType".to_owned(), json!(kind));
        }
        let mut response = document(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn document(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/scim+json")], body.to_string()).into_response()
}

/// A resource with its version, so that a change can name the one that it was made from.
fn resource(status: StatusCode, body: &Value) -> Response {
    let mut response = document(status, body);
    let text =
        |path: &str| body.pointer(path).and_then(Value::as_str).and_then(|text| HeaderValue::from_str(text).ok());
    if let Some(version) = text("/meta/version") {
        response.headers_mut().insert(header::ETAG, version);
    }
    if let (StatusCode::CREATED, Some(location)) = (status, text("/meta/location")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The provider that calls.
pub(crate) struct Provider {
    row: ProviderRow,
    ctx: OpCtx,
}

impl FromRequestParts<ApiState> for Provider {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Refusal> {
        let token = match cookie::token(&parts.headers)? {
            Some((token, false)) if token.starts_with(PREFIX) => token,
            _ => return Err(Error::Unauthenticated.into()),
        };
        let row = state.store.scim_provider(crypto::sha256(token.as_bytes())).await?.ok_or(Error::Unauthenticated)?;
        let ctx = OpCtx::user(
            access::Actor::System { part: "scim" },
            access::Grants::default(),
            caller::request(state),
            caller::address(parts),
            state.store.clock().clone(),
            state.store.rng().clone(),
        );
        Ok(Self { row, ctx })
    }
}

/// A JSON body, as SCIM's type or as plain JSON.
pub(crate) struct Body(Value);

impl FromRequest<ApiState> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !["application/scim+json", "application/json"].contains(&kind.as_str()) {
            return Err(refusal("invalidSyntax", "send `Content-Type: application/scim+json`"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|_| {
            Refusal::from(Error::Limit { which: "bytes of a request body", max: domain::Limits::BODY_BYTES as u64 })
        })?;
        page::strict(&bytes).map(Self).map_err(|message| refusal("invalidSyntax", message))
    }
}

/// What a list is asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    filter: Option<String>,
    start_index: Option<String>,
    count: Option<String>,
    attributes: Option<String>,
    excluded_attributes: Option<String>,
}

pub(crate) struct Query(Ask);

impl FromRequestParts<ApiState> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<Ask>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|_| refusal("invalidValue", "the query string is not as SCIM defines it"))
    }
}

impl Ask {
    /// How many to skip and how many to show.
    fn window(&self) -> Answer<(i64, i64)> {
        let number = |text: &Option<String>, default: i64| match text {
            None => Ok(default),
            Some(text) => {
                text.parse::<i64>().map_err(|_| refusal("invalidValue", "startIndex and count are whole numbers"))
            }
        };
        let (start, count) = (number(&self.start_index, 1)?, number(&self.count, 100)?);
        Ok((start.clamp(1, i64::from(u32::MAX)) - 1, count.clamp(0, COUNT_MAX)))
    }

    fn wants(&self, attribute: &str) -> bool {
        let names = |list: &Option<String>, attribute: &str| {
            list.as_ref()
                .map(|list| list.split(',').any(|name| filter::core(name.trim()).eq_ignore_ascii_case(attribute)))
        };
        names(&self.excluded_attributes, attribute) != Some(true) && names(&self.attributes, attribute) != Some(false)
    }

    /// The resource with the attributes that were asked for; its schemas and its id are always there.
    fn project(&self, mut resource: Value) -> Value {
        if let Some(members) = resource.as_object_mut() {
            members.retain(|name, _| ["schemas", "id"].contains(&name.as_str()) || self.wants(name));
        }
        resource
    }

    fn list<T>(&self, page: ScimPage<T>, skip: i64, show: impl Fn(T) -> Value) -> Response {
        let resources: Vec<Value> = page.items.into_iter().map(|item| self.project(show(item))).collect();
        let body = json!({
            "schemas": [LIST],
            "totalResults": page.total,
            "startIndex": skip + 1,
            "itemsPerPage": resources.len(),
            "Resources": resources,
        });
        document(StatusCode::OK, &body)
    }
}

/// Refuses a change that was made from another version than the one that stands.
fn check_version(headers: &HeaderMap, version: i64) -> Answer<()> {
    let tag = resource::version(version);
    match headers.get(header::IF_MATCH).map(HeaderValue::as_bytes) {
        Some(wanted) if wanted != b"*" && wanted != tag.as_bytes() => Err(Refusal {
            status: StatusCode::PRECONDITION_FAILED,
            kind: None,
            detail: "this was changed meanwhile: read it again".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn id<T: std::str::FromStr>(text: &str) -> Answer<T> {
    text.parse().map_err(|_| Error::NotFound { what: "resource" }.into())
}

async fn user_list(State(state): State<ApiState>, caller: Provider, Query(ask): Query) -> Answer {
    let filter = filter::users(ask.filter.as_deref())?;
    let (skip, count) = ask.window()?;
    let page = state.store.scim_user_list(caller.row.id, &filter, skip, count).await?;
    Ok(ask.list(page, skip, |row| resource::user(&state, &row)))
}

async fn user_create(State(state): State<ApiState>, caller: Provider, Body(body): Body) -> Answer {
    let new = resource::parse_user(&body)?;
    let row = state.store.scim_user_create(&caller.ctx, &caller.row, &new).await?;
    Ok(resource(StatusCode::CREATED, &resource::user(&state, &row)))
}

async fn user_show(
    State(state): State<ApiState>,
    caller: Provider,
    Path(user): Path<String>,
    Query(ask): Query,
) -> Answer {
    let row = state.store.scim_user_show(caller.row.id, id(&user)?).await?;
    Ok(resource(StatusCode::OK, &ask.project(resource::user(&state, &row))))
}

/// PUT with a whole user, PATCH with what changes of it.
async fn user_change(
    State(state): State<ApiState>,
    caller: Provider,
    Path(user): Path<String>,
    method: Method,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let before = state.store.scim_user_show(caller.row.id, id(&user)?).await?;
    check_version(&headers, before.version)?;
    let whole = if method == Method::PATCH { patch::apply(resource::user(&state, &before), &body)? } else { body };
    let new = resource::parse_user(&whole)?;
    let row = state.store.scim_user_put(&caller.ctx, &caller.row, before.user, &new, before.version).await?;
    Ok(resource(StatusCode::OK, &resource::user(&state, &row)))
}

async fn user_delete(
    State(state): State<ApiState>,
    caller: Provider,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let before = state.store.scim_user_show(caller.row.id, id(&user)?).await?;
    check_version(&headers, before.version)?;
    let version = headers.contains_key(header::IF_MATCH).then_some(before.version);
    state.store.scim_user_delete(&caller.ctx, &caller.row, before.user, version).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn group_list(State(state): State<ApiState>, caller: Provider, Query(ask): Query) -> Answer {
    let filter = filter::groups(ask.filter.as_deref())?;
    let (skip, count) = ask.window()?;
    let with_members = ask.wants("members");
    let page = state.store.scim_group_list(caller.row.id, &filter, (skip, count), with_members).await?;
    Ok(ask.list(page, skip, |row| resource::group(&state, &row)))
}

async fn group_create(State(state): State<ApiState>, caller: Provider, Body(body): Body) -> Answer {
    let new = resource::parse_group(&body)?;
    let row = state.store.scim_group_create(&caller.ctx, &caller.row, &new).await?;
    Ok(resource(StatusCode::CREATED, &resource::group(&state, &row)))
}

async fn group_show(
    State(state): State<ApiState>,
    caller: Provider,
    Path(group): Path<String>,
    Query(ask): Query,
) -> Answer {
    let row = state.store.scim_group_show(caller.row.id, id(&group)?).await?;
    Ok(resource(StatusCode::OK, &ask.project(resource::group(&state, &row))))
}

/// PUT with a whole group, PATCH with what changes of it.
async fn group_change(
    State(state): State<ApiState>,
    caller: Provider,
    Path(group): Path<String>,
    method: Method,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let before = state.store.scim_group_show(caller.row.id, id(&group)?).await?;
    check_version(&headers, before.version)?;
    let whole = if method == Method::PATCH { patch::apply(resource::group(&state, &before), &body)? } else { body };
    let new = resource::parse_group(&whole)?;
    let row = state.store.scim_group_put(&caller.ctx, &caller.row, before.id, &new, before.version).await?;
    Ok(resource(StatusCode::OK, &resource::group(&state, &row)))
}

async fn group_delete(
    State(state): State<ApiState>,
    caller: Provider,
    Path(group): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let before = state.store.scim_group_show(caller.row.id, id(&group)?).await?;
    check_version(&headers, before.version)?;
    let version = headers.contains_key(header::IF_MATCH).then_some(before.version);
    state.store.scim_group_delete(&caller.ctx, &caller.row, before.id, version).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// No such endpoint, told in SCIM's own form: one that SCIM knows and this server has not, or one that nobody knows.
async fn nothing(_: Provider, Path(rest): Path<String>) -> Refusal {
    if [".search", "Bulk", "Me"].contains(&rest.as_str()) {
        let detail = format!("`{rest}` is not supported: ask Users or Groups");
        return Refusal { status: StatusCode::NOT_IMPLEMENTED, kind: None, detail };
    }
    Error::NotFound { what: "endpoint" }.into()
}

async fn config(State(state): State<ApiState>, _: Provider) -> Answer {
    Ok(document(StatusCode::OK, &schema::config(&state.settings.public_url)))
}

fn whole(items: Vec<Value>) -> Response {
    let body = json!({
        "schemas": [LIST],
        "totalResults": items.len(),
        "startIndex": 1,
        "itemsPerPage": items.len(),
        "Resources": items,
    });
    document(StatusCode::OK, &body)
}

fn one(items: Vec<Value>, id: &str) -> Answer {
    let found = items.into_iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id));
    found.map(|item| document(StatusCode::OK, &item)).ok_or_else(|| Error::NotFound { what: "resource" }.into())
}

async fn resource_types(State(state): State<ApiState>, _: Provider) -> Answer {
    Ok(whole(schema::resource_types(&state.settings.public_url)))
}

async fn resource_type(State(state): State<ApiState>, _: Provider, Path(id): Path<String>) -> Answer {
    one(schema::resource_types(&state.settings.public_url), &id)
}

async fn schemas(State(state): State<ApiState>, _: Provider) -> Answer {
    Ok(whole(schema::schemas(&state.settings.public_url)))
}

async fn schema_show(State(state): State<ApiState>, _: Provider, Path(id): Path<String>) -> Answer {
    one(schema::schemas(&state.settings.public_url), &id)
}
