//! Conditions of changes: `ETag` with what is read, `If-Match` and `If-None-Match` with what is changed (RFC 9110, 8.8.3, 13.1.1 and 13.1.2).
//!
//! Invariant: no change is made by a request whose condition nobody reads. What reads it says so in the OpenAPI document; whatever does not, a new
//! route as well, refuses it.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use domain::{Condition, Error, States, Version};
use serde::Serialize;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::problem::Failure;
use crate::scim;

/// A document with the version of what it says, for who changes it.
pub(crate) struct Tagged<T>(pub(crate) T, pub(crate) Version);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.1)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The condition of a request.
pub(crate) struct If(pub(crate) Condition);

impl<S: Send + Sync> FromRequestParts<S> for If {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // What `If-Match` compares is the same to the last byte; `If-None-Match` looks at what a tag means.
        let only = states(&parts.headers, &header::IF_MATCH, false)?;
        let never = states(&parts.headers, &header::IF_NONE_MATCH, true)?;
        Ok(Self(Condition { only, never }))
    }
}

/// The changes that read a condition, by method and path.
pub(crate) struct Conditional(HashSet<(Method, String)>);

impl Conditional {
    /// Those that the document says `If-Match` of.
    pub(crate) fn of(document: &OpenApi) -> Self {
        let reads = |operation: &Operation| {
            operation.parameters.iter().flatten().any(|parameter| match parameter {
                RefOr::T(one) => {
                    matches!(one.parameter_in, ParameterIn::Header)
                        && one.name.eq_ignore_ascii_case(header::IF_MATCH.as_str())
                }
                RefOr::Ref(_) => false,
            })
        };
        let mut found = HashSet::new();
        for (path, item) in &document.paths.paths {
            let changes = [
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
            ];
            for (method, _) in changes.into_iter().filter(|(_, operation)| operation.as_ref().is_some_and(reads)) {
                found.insert((method, path.clone()));
            }
        }
        Self(found)
    }

    /// Why a request is refused: it names a condition that nothing would look at. What only reads is done whatever else it says; a cache
    /// may ask whether it has the newest.
    pub(crate) fn unread(&self, request: &Request) -> Option<String> {
        let method = request.method();
        if method.is_safe() {
            return None;
        }
        let name =
            [header::IF_MATCH, header::IF_NONE_MATCH].into_iter().find(|it| request.headers().contains_key(it))?;
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let is_read = if path.starts_with(scim::ROOT) {
            scim::reads_condition(method, path, &name)
        } else {
            self.0.contains(&(method.clone(), path.to_owned()))
        };
        let told = || format!("this takes no `{name}`: nothing is changed; read what is there, then send it without");
        (!is_read).then(told)
    }
}

fn states(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Option<States>, Error> {
    let mut all: Option<States> = None;
    for value in headers.get_all(name) {
        let read = value.to_str().ok().and_then(|text| tags(text.trim(), weak));
        all = match (all, read) {
            (None, Some(states)) => Some(states),
            (Some(States::These(before)), Some(States::These(more))) => {
                Some(States::These(before.into_iter().chain(more).collect()))
            }
            _ => {
                let message = format!(
                    "send `{name}` as `*`, or as the `ETag` that came with what you read, in its quotation marks"
                );
                return Err(Error::Invalid { field: None, message });
            }
        };
    }
    Ok(all)
}

/// `*`, or tags between commas, which may stand in a tag too. `weak`: whether those that begin with `W/` count.
fn tags(text: &str, weak: bool) -> Option<States> {
    if text == "*" {
        return Some(States::Any);
    }
    let (mut tags, mut rest) = (Vec::new(), text);
    loop {
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if tag.contains(' ') {
            return None;
        }
        if weak || !is_weak {
            tags.push(tag.to_owned());
        }
        rest = match after.trim_start() {
            "" => return Some(States::These(tags)),
            after => after.strip_prefix(',')?.trim_start(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_rfc_9110_writes_them() {
        let these = |tags: &[&str]| Some(States::These(tags.iter().map(|&tag| tag.to_owned()).collect()));
        for (text, strong, weak) in [
            ("*", Some(States::Any), Some(States::Any)),
            ("\"a\"", these(&["a"]), these(&["a"])),
            ("\"a\", \"b,c\" ,W/\"d\"", these(&["a", "b,c"]), these(&["a", "b,c", "d"])),
            ("W/\"a\"", these(&[]), these(&["a"])),
            ("\"\"", these(&[""]), these(&[""])),
            ("", None, None),
            ("a", None, None),
            ("\"a", None, None),
            ("\"a\" \"b\"", None, None),
            ("\"a\",", None, None),
            ("*, \"a\"", None, None),
            ("w/\"a\"", None, None),
            ("\"a b\"", None, None),
        ] {
            assert_eq!(tags(text, false), strong, "{text}");
            assert_eq!(tags(text, true), weak, "{text}");
        }
    }

    #[test]
    fn several_lines_are_one_list_and_any_stands_alone() {
        let states = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::IF_MATCH, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            states(&headers, &header::IF_MATCH, false)
        };
        assert_eq!(states(&[]).unwrap(), None);
        let both = Some(States::These(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(states(&["\"a\"", "\"b\""]).unwrap(), both);
        for wrong in [&["*", "\"a\""] as &[_], &["\"a\"", "*"], &["*", "*"], &["\u{e9}"], &["\"a\"", ""]] {
            let Error::Invalid { message, .. } = states(wrong).unwrap_err() else { panic!("{wrong:?}") };
            assert!(message.contains("if-match"), "{message}");
        }
    }
}
