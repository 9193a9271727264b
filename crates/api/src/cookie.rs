//! Browser sessions by cookie, and the proof that a change was asked for by our own page.
//!
//! A cookie comes along whoever wrote the page, so it is not enough for a change: the browser has to say that the request is from this origin
//! (`Sec-Fetch-Site`, `Origin`), and the request has to be one that a form cannot make (a JSON body, or the header `X-Cairn-Request`).

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use domain::{Error, Timestamp};
use wire::session::{SecondStepNeeded, SessionCreated};

use crate::state::ApiState;

/// The browser session's token. The prefix makes browsers take it from this host over HTTPS only, for all paths.
pub(crate) const SESSION: &str = "__Host-cairn_session";
/// A sign-in with a provider that has begun in this browser.
pub(crate) const LOGIN: &str = "__Host-cairn_login";
/// A sign-in whose first step was done in this browser, and which waits for the second.
const SECOND_STEP: &str = "__Host-cairn_second_step";
/// What a page of ours sends with a change that has no JSON body.
const REQUEST_HEADER: &str = "x-cairn-request";

/// The one cookie of this name. Two of one name come from somebody who planted one.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        let Ok(line) = line.to_str() else { continue };
        for pair in line.split(';') {
            if let Some((key, value)) = pair.split_once('=')
                && key.trim() == name
                && found.replace(value.trim()).is_some()
            {
                return Err(Error::Invalid { field: None, message: format!("the cookie `{name}` is there twice") });
            }
        }
    }
    Ok(found)
}

/// Sets a cookie that only this host's HTTPS requests carry and no script reads. `Lax`: a sign-in ends with a redirect from another site.
pub(crate) fn set(name: &str, value: &str, seconds: i64) -> Result<HeaderValue, Error> {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::from_str(&text).map_err(Error::internal)
}

/// Makes the browser forget a cookie.
pub(crate) fn clear(name: &str) -> Result<HeaderValue, Error> {
    set(name, "", 0)
}

/// Seconds until then.
fn seconds_to(state: &ApiState, end: Timestamp) -> i64 {
    end.as_seconds() - state.store.clock().now().as_seconds()
}

/// Gives a new session to its browser (`by_cookie`), where no script reads the token, or to the client in the answer.
pub(crate) fn hand_over(
    state: &ApiState,
    mut session: SessionCreated,
    by_cookie: bool,
) -> Result<(HeaderMap, Json<SessionCreated>), Error> {
    let mut headers = HeaderMap::new();
    if by_cookie {
        let token = std::mem::take(&mut session.token);
        headers.append(header::SET_COOKIE, set(SESSION, &token, seconds_to(state, session.expires_at))?);
        headers.append(header::SET_COOKIE, clear(SECOND_STEP)?);
    }
    Ok((headers, Json(session)))
}

/// Gives the token between the two steps to the browser or to the client, as [`hand_over`] does a session's.
pub(crate) fn hold_over(
    state: &ApiState,
    mut needed: SecondStepNeeded,
    by_cookie: bool,
) -> Result<(HeaderMap, Json<SecondStepNeeded>), Error> {
    let mut headers = HeaderMap::new();
    if by_cookie {
        let token = std::mem::take(&mut needed.token);
        headers.append(header::SET_COOKIE, set(SECOND_STEP, &token, seconds_to(state, needed.expires_at))?);
    }
    Ok((headers, Json(needed)))
}

/// The token between the two steps: the one that was sent, or with `by_cookie` the browser's.
pub(crate) fn second_step_token(headers: &HeaderMap, sent: String, by_cookie: bool) -> Result<String, Error> {
    match (by_cookie, sent.is_empty()) {
        (false, _) => Ok(sent),
        (true, false) => Err(Error::invalid("token", "send the token or `cookie`, not both")),
        (true, true) => find(headers, SECOND_STEP)?.map(str::to_owned).ok_or(Error::Unauthenticated),
    }
}

/// The token of a request: of its one `Authorization` header, or of the session's cookie. Both at once is refused, since they could be two
/// people's. `true`: it came by cookie.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<(&str, bool)>, Error> {
    let cookie = find(headers, SESSION)?;
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next(), cookie) {
        (None, _, cookie) => Ok(cookie.map(|token| (token, true))),
        (Some(_), _, Some(_)) => Err(Error::Invalid {
            field: None,
            message: "send `Authorization` or the session's cookie, not both".to_owned(),
        }),
        (Some(value), None, None) => {
            let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
            Ok(token.map(|token| (token, false)))
        }
        (Some(_), Some(_), None) => Ok(None),
    }
}

/// Whether the request is a change.
pub(crate) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| "a header that is not text"),
        _ => Err("a header that is there twice"),
    }
}

/// Why a change that comes by cookie is not taken for one of our own pages', if it is not.
fn proof(parts: &Parts, public_url: &str) -> Result<(), &'static str> {
    let headers = &parts.headers;
    let site = one(headers, &HeaderName::from_static("sec-fetch-site"))?;
    if site.is_some_and(|site| site != "same-origin") {
        return Err("another site");
    }
    let host = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    let host = host.or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    match one(headers, &header::ORIGIN)? {
        Some(origin) => {
            let is_host = host.is_some_and(|host| origin.strip_prefix("https://") == Some(host));
            if !is_host && origin != public_url {
                return Err("another origin");
            }
        }
        None if site.is_none() => return Err("no origin"),
        None => {}
    }
    let kind = one(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if is_json || headers.contains_key(REQUEST_HEADER) { Ok(()) } else { Err("a form") }
}

/// What a request says of where it was made.
pub(crate) struct SameOrigin(Result<(), &'static str>);

impl SameOrigin {
    /// Looks at a request.
    pub(crate) fn of(parts: &Parts, state: &ApiState) -> Self {
        Self(proof(parts, &state.settings.public_url))
    }

    /// Why it is refused.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.0.err()
    }

    /// What a request that gets or uses a cookie has to prove.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.map_err(|why| Error::Forbidden {
            message: format!(
                "a change by cookie has to come from this server's own page, and this comes from {why}: send `Origin`, and JSON or the \
                 header `X-Cairn-Request`"
            ),
        })
    }
}

impl FromRequestParts<ApiState> for SameOrigin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts, state))
    }
}

/// Longest page that a sign-in leads back to, in bytes: a provider's answer finds it in a cookie again.
const PAGE_BYTES_MAX: usize = 2_048;

/// What a part of an address says, if it is written in characters that no browser changes, and says no control character.
fn decoded(part: &str) -> Option<Vec<u8>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~?=&:@,+!*'()".contains(&byte);
    let mut bytes = part.bytes().enumerate();
    let mut said = Vec::with_capacity(part.len());
    while let Some((at, byte)) = bytes.next() {
        if byte == b'%' {
            let pair = part.get(at + 1..at + 3).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            let byte = u8::from_str_radix(pair, 16).ok().filter(|byte| !byte.is_ascii_control())?;
            said.push(byte);
            bytes.nth(1);
        } else if plain(byte) {
            said.push(byte);
        } else {
            return None;
        }
    }
    Some(said)
}

/// Whether the browser may be sent there after a sign-in: a path of ours, in one spelling that no browser takes for another host or a new
/// header. Ids of what a page shows hold slashes and more, so whatever is escaped behind the first part stays what it is; that one names the
/// kind of page, and is written as it is. No part is empty or made of dots, also where something in between takes escapes away.
pub(crate) fn is_local_page(next: &str) -> bool {
    let (path, query) = next.split_once('?').unwrap_or((next, ""));
    let Some(path) = path.strip_prefix('/') else { return false };
    let mut parts = path.split('/');
    let is_first = parts.next().is_some_and(|first| {
        decoded(first).is_some() && !first.contains('%') && first.bytes().any(|byte| byte != b'.') || path.is_empty()
    });
    let rest = parts.all(|part| decoded(part).is_some_and(|said| said.iter().any(|byte| *byte != b'.')));
    next.len() <= PAGE_BYTES_MAX && is_first && rest && decoded(query).is_some()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn attack_45_only_a_path_of_ours_is_a_page_to_go_to() {
        for next in [
            "/",
            "/?a=b",
            "/findings",
            "/nodes/aws%3Aeu-west-1",
            "/device?code=ABCD-EFGH",
            "/a/b?x=1&y=a%20b",
            "/t/default/nodes/k8s%3Aprod%3Ak8s.pod%3Akube-system%2Fproxy%2F1",
            "/t/default/nodes/host%3Alocal%3Ahost.user%3Aacme%5Cann%20(100%25)",
            "/t/default/nodes/caf%C3%A9!*'~",
            "/t/default/nodes?name=a%2Fb%5C%25&type=x+y",
            "/t/default/findings?text=%2F%2Fevil.example",
        ] {
            assert!(is_local_page(next), "{next}");
        }
        for next in [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/%5cevil.example",
            "/%2fevil.example",
            "/%2Fevil.example",
            "/%252fevil.example",
            "/%2f/evil.example",
            "/.%2fevil.example",
            "/t/%2e%2e//evil.example",
            "/t/..//evil.example",
            "/.//evil.example",
            "/./evil.example",
            "/../evil.example",
            "/t/%2E%2e/evil.example",
            "/t//evil.example",
            "/t/",
            "/%74/default",
            "/t/a%7f",
            "/t/a%00",
            "/t/a?x=%0d%0aset-cookie:x=y",
            "/t/a?x=\\",
            "?/t/a",
            "",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "https://evil.example",
            "https:evil.example",
            "evil.example",
            "/a%0d%0aset-cookie:x=y",
            "/a\r\nset-cookie: x=y",
            "/\tevil.example",
            "/%09/evil.example",
            "/a%",
            "/a%0",
            "/a%zz",
            "/a b",
            "/ä",
            "/\u{202e}",
            " /a",
            "/a#b",
        ] {
            assert!(!is_local_page(next), "{next:?}");
        }
        assert!(!is_local_page(&format!("/{}", "a".repeat(2_048))));
        assert!(is_local_page(&format!("/{}", "a".repeat(2_047))));
    }

    fn asked(headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut request = Request::post("/api/v1/x").header("host", "cairn.example:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        proof(&request.body(()).unwrap().into_parts().0, "https://public.example")
    }

    #[test]
    fn attack_43_a_change_needs_our_origin_and_what_no_form_can_send() {
        let (origin, json) = (("origin", "https://cairn.example:8443"), ("content-type", "application/json"));
        for good in [
            &[origin, json][..],
            &[origin, ("x-cairn-request", "1")],
            &[origin, json, ("sec-fetch-site", "same-origin")],
            &[json, ("sec-fetch-site", "same-origin")],
            &[("origin", "https://public.example"), json],
        ] {
            assert_eq!(asked(good), Ok(()), "{good:?}");
        }
        for bad in [
            &[][..],
            &[json],
            &[origin],
            &[origin, ("content-type", "text/plain")],
            &[origin, ("content-type", "text/plain; application/json")],
            &[origin, ("content-type", "application/x-www-form-urlencoded")],
            &[("origin", "null"), json],
            &[("origin", ""), json],
            &[("origin", "https://evil.example"), json],
            &[("origin", "https://cairn.example"), json],
            &[("origin", "http://cairn.example:8443"), json],
            &[("origin", "https://cairn.example:8443.evil.example"), json],
            &[("origin", "https://evil-cairn.example:8443"), json],
            &[("origin", "https://public.example/"), json],
            &[origin, origin, json],
            &[origin, json, ("sec-fetch-site", "cross-site")],
            &[origin, json, ("sec-fetch-site", "same-site")],
            &[origin, json, ("sec-fetch-site", "none")],
        ] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bearer_and_a_cookie_at_once_are_refused_and_two_cookies_too() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let cookie = ("cookie", "a=b; __Host-cairn_session=t; c=d");
        assert_eq!(token(&headers(&[cookie])).unwrap(), Some(("t", true)));
        assert_eq!(token(&headers(&[("authorization", "Bearer u")])).unwrap(), Some(("u", false)));
        assert_eq!(token(&headers(&[("authorization", "Basic u")])).unwrap(), None);
        assert_eq!(token(&headers(&[])).unwrap(), None);
        assert!(token(&headers(&[cookie, ("authorization", "Bearer u")])).is_err());
        assert!(token(&headers(&[cookie, ("cookie", "__Host-cairn_session=x")])).is_err());
        assert_eq!(token(&headers(&[("cookie", "cairn_session=t; x__Host-cairn_session=t")])).unwrap(), None);
    }
}
