//! What every request goes through: an id, a span, limits, and the headers of the answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use domain::{Clock, Limits, RequestId, Rng};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::admission::{Admission, Admitted};
use crate::condition::Conditional;
use crate::page::Place;
use crate::problem;
use crate::scim;
use crate::state::ApiState;

tokio::task_local! {
    static REQUEST: RequestId;
}

/// The id of the request that this task answers.
pub(crate) fn request_id() -> Option<RequestId> {
    REQUEST.try_with(|id| *id).ok()
}

const SECURITY_HEADERS: [(HeaderName, &str); 8] = [
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The answer to what never became a request, with a request id and the headers that every answer has.
pub fn refusal(clock: &dyn Clock, rng: &dyn Rng, status: StatusCode, message: &str) -> http::Response<Vec<u8>> {
    let id = RequestId::generate(clock, rng);
    tracing::info!(%id, status = status.as_u16(), message, "refused what is no request");
    metrics::counter!("cairn_http_malformed_total", "status" => status.as_u16().to_string()).increment(1);
    let problem = wire::problem::Problem {
        request_id: id.to_string(),
        code: "invalid".to_owned(),
        message: message.to_owned(),
        field: None,
    };
    // A document of four texts can always be written.
    let mut response = http::Response::new(serde_json::to_vec(&problem).unwrap_or_default());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put_headers(response.headers_mut(), id);
    response
}

fn put_headers(headers: &mut HeaderMap, id: RequestId) {
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
}

/// A method as metrics know it: whoever invents methods makes no series of their own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A request's place among those at work. What becomes a connection to a destination leaves it: those have bounds of their own.
#[derive(Clone)]
pub(crate) struct AtWork(Arc<Mutex<Option<Admitted>>>);

impl AtWork {
    /// Gives the place back.
    pub(crate) fn leave(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn outermost(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let id = RequestId::generate(&**state.store.clock(), &**state.store.rng());
    let method = request.method().clone();
    // The matched path, never the raw one: ids are in the audit log, and a raw path could carry anything.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(no route)".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id = %id, method = %method, path);
    let place = Place::new(state.jwt_secret.clone(), request.uri().path());
    let began = Instant::now();
    let work = async {
        let mut response = next.run(request).await;
        put_headers(response.headers_mut(), id);
        let (status, took) = (response.status().as_u16(), began.elapsed());
        metrics::counter!("cairn_http_requests_total", "method" => known(&method), "path" => path.clone(), "status" => status.to_string())
            .increment(1);
        metrics::histogram!("cairn_http_request_seconds", "path" => path.clone()).record(took.as_secs_f64());
        tracing::info!(status, took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX), "answered");
        response
    };
    REQUEST.scope(id, place.scope(work.instrument(span))).await
}

/// Whether a query string carries a token: by the parameter's name, or by what every token of ours begins with.
fn holds_token(query: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.to_ascii_lowercase();
        name.ends_with("token")
            || ["authorization", "bearer", "jwt"].contains(&name.as_str())
            || value.starts_with("eyJ")
            || crypto::api_key::is_shaped(value)
            || crypto::cli_session::is_shaped(value)
            || crypto::enrollment::is_shaped(value)
    })
}

/// Longest path and query, in bytes: over HTTP/1.1 the listener refuses it before.
const TARGET_BYTES: usize = 8 * 1_024;

/// What is wrong with a request whatever it asks for.
fn unfit(request: &Request) -> Option<Response> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES {
        let message = "the address is longer than 8 KiB".to_owned();
        return Some(problem::answer(StatusCode::URI_TOO_LONG, "invalid", message, None));
    }
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > Limits::BODY_BYTES as u64) {
        // At once: whoever says so need not begin, and nobody waits for what is never read.
        let max = Limits::BODY_BYTES as u64;
        let error = domain::Error::Limit { which: "bytes of a request body", max };
        return Some(problem::Failure(error).into_response());
    }
    let coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if request.headers().get_all(header::CONTENT_ENCODING).iter().any(coded) {
        let message = "a compressed body is not unpacked: send it as it is".to_owned();
        return Some(problem::answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", message, None));
    }
    None
}

async fn bounded(
    State((state, conditional)): State<(ApiState, Arc<Conditional>)>,
    request: Request,
    next: Next,
) -> Response {
    // What goes on to a cluster is the cluster's: its bodies, its own marks in the URL and its time.
    if request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str().starts_with(crate::tunnel::PATH)) {
        return next.run(request).await;
    }
    if let Some(refused) = unfit(&request) {
        return refused;
    }
    if request.uri().query().is_some_and(holds_token) {
        return problem::answer(
            StatusCode::BAD_REQUEST,
            "invalid",
            "a token in the URL ends up in logs: send it as `Authorization: Bearer …`".to_owned(),
            None,
        );
    }
    if let Some(message) = conditional.unread(&request) {
        if request.uri().path().starts_with(scim::ROOT) {
            return scim::unfit(message);
        }
        return problem::answer(StatusCode::BAD_REQUEST, "invalid", message, None);
    }
    let limit = Duration::from_millis(state.settings.request_ms);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem::Failure(domain::Error::Unavailable {
            message: "the request took too long: ask for less, or try again".to_owned(),
            detail: "request timeout".to_owned(),
        })
        .into_response(),
    }
}

/// Wraps the routes.
pub(crate) fn apply(router: Router<ApiState>, conditional: Conditional, state: ApiState) -> Router {
    let requests = Admission::new("requests", state.settings.requests_max, state.settings.requests_per_address);
    router
        .layer(middleware::from_fn_with_state((state.clone(), Arc::new(conditional)), bounded))
        .layer(middleware::from_fn(move |mut request: Request, next: Next| {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
            // Whoever restarts a server that does not answer must not do so because it is busy: this question takes no place and no work.
            let is_alive = request.uri().path() == "/healthz";
            let admitted = (!is_alive).then(|| requests.admit(peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))));
            async move {
                match admitted {
                    None => next.run(request).await,
                    Some(Some(admitted)) => {
                        let place = AtWork(Arc::new(Mutex::new(Some(admitted))));
                        request.extensions_mut().insert(place.clone());
                        let response = next.run(request).await;
                        place.leave();
                        response
                    }
                    Some(None) => problem::Failure(domain::Error::Unavailable {
                        message: "too many requests are at work: try again in a second".to_owned(),
                        detail: "request limit".to_owned(),
                    })
                    .into_response(),
                }
            }
        }))
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            problem::Failure(domain::Error::internal("a handler panicked")).into_response()
        }))
        .layer(DefaultBodyLimit::max(Limits::BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), outermost))
        .with_state(state)
}
