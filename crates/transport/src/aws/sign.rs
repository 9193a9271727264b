//! One signed call of an AWS service that speaks JSON, for [`crate::web::WebClient`]: what secret stores need of AWS.

use domain::Timestamp;
use http::{HeaderName, HeaderValue, Method};

use super::credentials::SigningKeys;
use super::sigv4;
use crate::web::{WebError, WebRequest};

const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

/// What is called.
#[derive(Debug)]
pub struct JsonCall<'a> {
    /// Scheme, host and port.
    pub url: &'a str,
    /// To sign for.
    pub region: &'a str,
    /// To sign for.
    pub service: &'a str,
    /// `Service.Operation`.
    pub target: &'a str,
    /// The request's JSON.
    pub body: String,
}

/// The call as a request, signed with these keys.
pub fn json_request(call: JsonCall<'_>, keys: &SigningKeys, now: Timestamp) -> Result<WebRequest, WebError> {
    let wrong = |why| WebError::Url { url: call.url.chars().take(200).collect(), why };
    let (_, host) = call.url.split_once("://").ok_or_else(|| wrong("is not a URL such as `https://host:port`"))?;
    let mut headers = vec![
        ("host".to_owned(), host.to_owned()),
        ("content-type".to_owned(), MEDIA_TYPE.to_owned()),
        ("x-amz-date".to_owned(), sigv4::amz_date(now)),
        ("x-amz-target".to_owned(), call.target.to_owned()),
    ];
    if let Some(token) = &keys.session_token {
        let token = token.expose_str().ok_or_else(|| wrong("cannot be called: the session token is not text"))?;
        headers.push(("x-amz-security-token".to_owned(), token.to_owned()));
    }
    let request = sigv4::Request {
        method: "POST",
        path: "/",
        encode_path: true,
        query: &[],
        headers: &headers,
        body_digest: crypto::sha256(call.body.as_bytes()),
    };
    let scope = sigv4::Scope {
        access_key_id: &keys.access_key_id,
        secret_access_key: keys.secret_access_key.expose(),
        region: call.region,
        service: call.service,
        time: now,
    };
    let authorization = sigv4::authorization(&request, &scope);
    let mut out = WebRequest::new(Method::POST, &format!("{}/", call.url))?.body(MEDIA_TYPE, call.body);
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| wrong("cannot be called: a key or token holds odd characters"))
    };
    // The client sets `host` from the URL, and `body` has set the media type.
    for (name, text) in headers.iter().skip(2) {
        out = out.secret_header(
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("cannot be called"))?,
            value(text)?,
        );
    }
    Ok(out.secret_header(http::header::AUTHORIZATION, value(&authorization)?))
}
