//! One mapping from the inner error to HTTP; two messages, of which the caller gets one.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::Error;
use wire::problem::Problem;

use crate::layers;

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<access::Denied> for Failure {
    fn from(denied: access::Denied) -> Self {
        Self(denied.into())
    }
}

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, Failure>;

fn status(error: &Error) -> StatusCode {
    match error {
        Error::Invalid { .. } => StatusCode::BAD_REQUEST,
        Error::Unauthenticated => StatusCode::UNAUTHORIZED,
        Error::Forbidden { .. } | Error::StepUpRequired => StatusCode::FORBIDDEN,
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        Error::Conflict { .. } => StatusCode::CONFLICT,
        Error::Precondition { .. } => StatusCode::PRECONDITION_FAILED,
        Error::Limit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Builds an error answer; the request id is the one of the task that is answering.
pub(crate) fn answer(status: StatusCode, code: &str, message: String, field: Option<&str>) -> Response {
    let problem = Problem {
        request_id: layers::request_id().map(|id| id.to_string()).unwrap_or_default(),
        code: code.to_owned(),
        message,
        field: field.map(str::to_owned),
    };
    (status, Json(problem)).into_response()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.0;
        match &error {
            Error::Internal { detail } => tracing::error!(detail, "internal error"),
            Error::Unavailable { message, detail } => tracing::warn!(message, detail, "unavailable"),
            other => tracing::debug!(code = other.code(), "refused"),
        }
        let field = match &error {
            Error::Invalid { field, .. } => *field,
            _ => None,
        };
        let retry = match &error {
            Error::Throttled { wait_s } => Some(HeaderValue::from(*wait_s)),
            Error::Unavailable { .. } => Some(HeaderValue::from_static("1")),
            _ => None,
        };
        let status = status(&error);
        let mut response = answer(status, error.code(), error.to_string(), field);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(retry) = retry {
            headers.insert(header::RETRY_AFTER, retry);
        }
        response
    }
}

/// No such path.
pub(crate) async fn no_route() -> Response {
    answer(StatusCode::NOT_FOUND, "not_found", "there is no such path".to_owned(), None)
}

/// The path exists, the method does not.
pub(crate) async fn no_method() -> Response {
    answer(StatusCode::METHOD_NOT_ALLOWED, "invalid", "this path does not take this method".to_owned(), None)
}
