//! Requests: strict JSON bodies, query strings, ids in paths, pages of lists.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, JsonRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use domain::{Error, Limits, Secret};
use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::problem::Failure;

/// A JSON body; what does not fit is told with its place.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        SignedBody::from_request(request, state).await.map(|SignedBody(value, _)| Self(value))
    }
}

/// The same with the bytes as they came, which somebody signed.
pub(crate) struct SignedBody<T>(pub(crate) T, pub(crate) Bytes);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for SignedBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let refuse = |message: String| Failure::from(Error::Invalid { field: None, message });
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(refuse("send `Content-Type: application/json`".to_owned()));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                Failure::from(Error::Limit { which: "bytes of a request body", max: Limits::BODY_BYTES as u64 })
            }
            _ => refuse("the request's body broke off: send it again".to_owned()),
        })?;
        let axum::Json(value) = axum::Json::<T>::from_bytes(&bytes).map_err(|rejection| {
            let text = told(&rejection.body_text());
            refuse(if matches!(rejection, JsonRejection::JsonDataError(_)) {
                text
            } else {
                format!("the body is not JSON: {text}")
            })
        })?;
        // What became a map took the last of several equal names; which one was meant is not ours to guess.
        serde_json::from_slice::<Unique>(&bytes).map_err(|error| refuse(clean(&error.to_string())))?;
        Ok(Self(value, bytes))
    }
}

/// A JSON value whose objects name each member once, or what is wrong with it.
pub(crate) fn strict(bytes: &[u8]) -> Result<serde_json::Value, String> {
    serde_json::from_slice::<Unique>(bytes).map_err(|error| clean(&error.to_string()))?;
    serde_json::from_slice(bytes).map_err(|error| clean(&error.to_string()))
}

/// JSON whose objects name each member once.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if let Some(twice) = seen.replace(name) {
                return Err(de::Error::custom(format!(
                    "the member `{}` is there twice: send it once",
                    twice.escape_debug()
                )));
            }
        }
        Ok(self)
    }
}

/// A message that is fit to be read: of a long one the beginning and the end, since the reason is behind the place.
fn clean(text: &str) -> String {
    let text: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    match (text.get(..120), text.get(text.len().saturating_sub(180)..)) {
        (Some(begin), Some(end)) if text.len() > 300 => begin.iter().chain(&['…']).chain(end).collect(),
        _ => text.into_iter().collect(),
    }
}

/// serde's words without axum's before them and without the value that did not fit: the field and the place are enough, and a value could be
/// a secret in the wrong place.
fn told(text: &str) -> String {
    let text = text.split_once(": ").map_or(text, |(_, words)| words);
    for problem in ["invalid type: ", "invalid value: "] {
        if let Some((before, rest)) = text.split_once(problem)
            && let Some((value, expected)) = rest.rsplit_once(", expected ")
        {
            let kind = value.split(' ').next().unwrap_or_default();
            return clean(&format!("{before}{problem}{kind}, expected {expected}"));
        }
    }
    clean(text)
}

/// A path's parameters. One that is not even text is in no path that exists.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_| Error::NotFound { what: "path" }.into())
    }
}

/// A query string; unknown parameters are refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| Error::Invalid { field: None, message: told(&rejection.body_text()) }.into())
    }
}

/// `limit` and `page`, as every list takes them.
#[derive(Debug, Default, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// 1 to 500; default 100.
    pub(crate) limit: Option<String>,
    /// `next_page` of the page before.
    pub(crate) page: Option<String>,
}

/// The limit of a list.
pub(crate) fn limit(text: Option<&str>) -> Result<u32, Error> {
    match text {
        None => Ok(Limits::LIST_ITEMS_DEFAULT),
        Some(text) => match text.parse::<u32>() {
            Ok(limit) if (1..=Limits::LIST_ITEMS).contains(&limit) => Ok(limit),
            _ => Err(Error::invalid("limit", format!("use a whole number from 1 to {}", Limits::LIST_ITEMS))),
        },
    }
}

tokio::task_local! {
    static PLACE: Place;
}

/// Where pages are good: a page's key is sealed with the path of its list, so that one that was made up, changed, or taken from another list
/// or tenant is refused.
pub(crate) struct Place {
    key: Arc<Secret>,
    path: String,
}

impl Place {
    pub(crate) fn new(key: Arc<Secret>, path: &str) -> Self {
        Self { key, path: path.to_owned() }
    }

    /// Runs a request's work in its place.
    pub(crate) async fn scope<F: Future>(self, work: F) -> F::Output {
        PLACE.scope(self, work).await
    }

    fn mac(&self, key: &str) -> String {
        // No JSON Web Token's signed text begins like this, so the two uses of the key cannot be mixed up.
        URL_SAFE_NO_PAD
            .encode(crypto::hmac_sha256(self.key.expose(), format!("cairn/page/v1\0{}\0{key}", self.path).as_bytes()))
    }
}

/// Where a page begins.
pub(crate) fn after<K: std::str::FromStr>(page: Option<&str>) -> Result<Option<K>, Error> {
    let parse = |text: &str| {
        let (key, mac) = text.rsplit_once('.')?;
        let expected = PLACE.try_with(|place| place.mac(key)).ok()?;
        if crypto::constant_time_eq(mac.as_bytes(), expected.as_bytes()) { key.parse::<K>().ok() } else { None }
    };
    page.map(|text| {
        parse(text).ok_or_else(|| Error::invalid("page", "use the `next_page` of the page before, with the same path"))
    })
    .transpose()
}

/// Where the next page begins, for the caller to send back.
pub(crate) fn next<K: ToString>(key: Option<K>) -> Option<String> {
    let key = key?.to_string();
    PLACE.try_with(|place| format!("{key}.{}", place.mac(&key))).ok()
}

/// A parameter that is one of a kind's words; what it is not is told with its name.
pub(crate) fn word<T: std::str::FromStr<Err = Error>>(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, Error> {
    let told = |error| match error {
        Error::Invalid { message, .. } => Error::invalid(field, message),
        other => other,
    };
    text.map(|text| text.parse().map_err(told)).transpose()
}

/// A number between 1 and a maximum.
pub(crate) fn number(field: &'static str, text: Option<&str>, default: u32, max: u32) -> Result<u32, Error> {
    let Some(text) = text else { return Ok(default) };
    within(field, text.parse().unwrap_or_default(), max)
}

/// The same of one that is a number already.
pub(crate) fn within(field: &'static str, number: u32, max: u32) -> Result<u32, Error> {
    if (1..=max).contains(&number) {
        Ok(number)
    } else {
        Err(Error::invalid(field, format!("use a whole number from 1 to {max}")))
    }
}

/// An id in a path. One that does not parse names nothing, like one that nobody has.
pub(crate) fn id<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::NotFound { what })
}

/// A page for the wire.
pub(crate) fn list<T, K: ToString, W>(page: store::Page<T, K>, map: impl Fn(T) -> W) -> axum::Json<wire::List<W>> {
    axum::Json(wire::List { items: page.items.into_iter().map(map).collect(), next_page: next(page.next) })
}

/// All of a short list.
pub(crate) fn whole<T>(items: Vec<T>) -> axum::Json<wire::List<T>> {
    axum::Json(wire::List { items, next_page: None })
}
