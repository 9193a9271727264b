//! What a request to an API server asks for, as Kubernetes' own `RequestInfo` resolver reads it.
//!
//! A path is passed on byte by byte, so it has to mean the same to everybody on the way: dot segments, empty segments and encoded separators are
//! refused and never repaired. No name in Kubernetes holds any of them. So does a query: what is written down of it is text, so a part of it that the API
//! server would read and that is no text is refused.

use std::borrow::Cow;

use http::Method;

use super::Refusal;

/// Longest path and query together, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 * 1_024;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for what is no resource the method in lower
    /// case. Empty for a method that means nothing there.
    pub verb: &'static str,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// The API group; empty for the core.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The resource, in plural; empty where it is none.
    pub resource: String,
    /// Such as `exec`, `log`, `status`; mostly empty.
    pub subresource: String,
    /// The object's name; empty for all of them.
    pub name: String,
    /// The path, decoded, without a query.
    pub path: String,
}

const MALFORMED: Refusal = Refusal::Malformed("the path is none of an API server: use segments between single slashes");
const NOT_TEXT: Refusal =
    Refusal::Malformed("the query holds bytes that are not UTF-8: write it as UTF-8, percent-encoded");

/// Reads a request. `path` and `query` are as they came, without the `?`.
pub fn resolve(method: &Method, path: &str, query: Option<&str>) -> Result<Call, Refusal> {
    let verb = match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => return Err(Refusal::Malformed("no API server knows this method")),
    };
    if path.len() + query.map_or(0, str::len) > TARGET_BYTES_MAX {
        return Err(Refusal::Malformed("the path and the query together are longer than 8 KiB"));
    }
    if pairs(query).any(|(key, value)| key.is_none() || value.is_none()) {
        return Err(NOT_TEXT);
    }
    let all = segments(path)?;
    let mut call = Call { verb, path: format!("/{}", all.join("/")), ..Call::default() };
    let parts: Vec<&str> = all.iter().map(Cow::as_ref).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(call),
    };
    call.is_resource = true;
    (call.group, call.version) = (group.to_owned(), version.to_owned());
    let rest = match rest {
        // Of old: `/api/v1/watch/pods`.
        [verb @ ("watch" | "proxy")] => {
            return Err(Refusal::Malformed(if *verb == "watch" { "a watch of nothing" } else { "a proxy to nothing" }));
        }
        ["watch", rest @ ..] => {
            call.verb = "watch";
            rest
        }
        ["proxy", rest @ ..] => {
            call.verb = "proxy";
            rest
        }
        _ => {
            call.verb = match verb {
                "get" | "head" => "get",
                "post" => "create",
                "put" => "update",
                "patch" => "patch",
                "delete" => "delete",
                _ => "",
            };
            rest
        }
    };
    let rest = match rest {
        ["namespaces", namespace, more @ ..] => {
            (*namespace).clone_into(&mut call.namespace);
            match more {
                // A namespace's own subresources belong to it.
                [] | ["status" | "finalize", ..] => rest,
                _ => more,
            }
        }
        _ => rest,
    };
    let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    (call.resource, call.name) = (at(0), at(1));
    if call.verb != "proxy" {
        call.subresource = at(2);
    }
    if call.name.is_empty() && call.verb == "get" {
        call.verb = if is_set(query, "watch") { "watch" } else { "list" };
        call.name = named_by_selector(query).unwrap_or_default();
    } else if call.name.is_empty() && call.verb == "delete" {
        call.verb = "deletecollection";
    }
    Ok(call)
}

/// The segments of a path, decoded: each means what it shows.
fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Refusal> {
    let rest = path.strip_prefix('/').ok_or(MALFORMED)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return if path == "/" { Ok(Vec::new()) } else { Err(MALFORMED) };
    }
    rest.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    if !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(MALFORMED);
    }
    let decoded = decode(raw).ok_or(MALFORMED)?;
    let is_odd = |character: char| character.is_control() || matches!(character, '/' | '\\' | '%');
    if matches!(&*decoded, "" | "." | "..") || decoded.contains(is_odd) {
        return Err(MALFORMED);
    }
    Ok(decoded)
}

/// Undoes percent-encoding, and in a query `+` for a space; none when it is broken.
fn unescape(text: &str, is_query: bool) -> Option<Cow<'_, [u8]>> {
    if !text.contains(['%', '+']) {
        return Some(text.as_bytes().into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    Some(out.into())
}

/// Bytes as text; none where they are not UTF-8.
fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// Undoes percent-encoding in a path; none when it is broken or not UTF-8.
fn decode(part: &str) -> Option<Cow<'_, str>> {
    unescape(part, false).and_then(text)
}

/// The pairs of a query that Go's parser reads: those without `;` whose encoding is whole. Go looks at bytes; what is not UTF-8 is none here.
fn pairs(query: Option<&str>) -> impl Iterator<Item = (Option<Cow<'_, str>>, Option<Cow<'_, str>>)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (unescape(key, true)?, unescape(value, true)?);
        Some((text(key), text(value)))
    })
}

/// The values of a query's parameter. [`resolve`] refuses a query with one that is not UTF-8.
fn values<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    pairs(query).filter_map(move |(key, value)| if key? == name { value } else { None })
}

/// The first of them.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    values(query, name).next()
}

/// All of them.
pub(super) fn parameters(query: Option<&str>, name: &str) -> Vec<String> {
    values(query, name).map(Cow::into_owned).collect()
}

/// Whether a parameter says yes: anything but `false` and `0` does, also nothing.
pub(super) fn is_set(query: Option<&str>, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
}

/// A list of the one object that a field selector names is about that object.
fn named_by_selector(query: Option<&str>) -> Option<String> {
    let selector = parameter(query, "fieldSelector")?;
    let name = selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value).to_owned())
    })?;
    let is_plain = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '%', '\\', '=']);
    is_plain.then_some(name)
}

impl Call {
    /// Whether it is what every client reads to find its way: which groups, versions and resources there are, and the version of the server.
    pub(crate) fn is_discovery(&self) -> bool {
        if self.is_resource || !matches!(self.verb, "get" | "head") {
            return false;
        }
        let parts: Vec<&str> = self.path.split('/').skip(1).collect();
        matches!(
            parts.as_slice(),
            ["api" | "apis" | "version" | "healthz" | "livez" | "readyz"] | ["api" | "apis", _] | ["apis", _, _]
        ) || parts.first() == Some(&"openapi")
    }

    /// Whether it asks the API server who the caller itself is there, or what it may do.
    pub(crate) fn is_self_review(&self) -> bool {
        self.verb == "create"
            && self.subresource.is_empty()
            && matches!(
                (self.group.as_str(), self.resource.as_str()),
                ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                    | ("authentication.k8s.io", "selfsubjectreviews")
            )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(request: &str, expect: &str) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let shown = match resolve(&method.parse().unwrap(), path, query) {
            Err(refusal) => format!("refused: {}", refusal.status().0.as_u16()),
            Ok(call) if !call.is_resource => format!("{} {}", call.verb, call.path),
            Ok(call) => {
                let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
                let of = if call.subresource.is_empty() {
                    call.resource.clone()
                } else {
                    format!("{}/{}", call.resource, call.subresource)
                };
                format!(
                    "{} {}/{} {of} ns={} name={}",
                    or_dash(call.verb),
                    or_dash(&call.group),
                    call.version,
                    or_dash(&call.namespace),
                    or_dash(&call.name)
                )
            }
        };
        assert_eq!(shown, expect, "{request}");
    }

    /// The cases of Kubernetes' own table (`requestinfo_test.go`), and those around them.
    #[test]
    fn a_request_is_read_as_the_api_server_reads_it() {
        for (request, expect) in [
            ("GET /api/v1/namespaces", "list -/v1 namespaces ns=- name=-"),
            ("GET /api/v1/namespaces/other", "get -/v1 namespaces ns=other name=other"),
            ("PUT /api/v1/namespaces/other/finalize", "update -/v1 namespaces/finalize ns=other name=other"),
            ("PUT /api/v1/namespaces/other/status", "update -/v1 namespaces/status ns=other name=other"),
            ("GET /api/v1/namespaces/other/pods", "list -/v1 pods ns=other name=-"),
            ("HEAD /api/v1/namespaces/other/pods", "list -/v1 pods ns=other name=-"),
            ("GET /api/v1/namespaces/other/pods/foo", "get -/v1 pods ns=other name=foo"),
            ("HEAD /api/v1/namespaces/other/pods/foo", "get -/v1 pods ns=other name=foo"),
            ("GET /api/v1/pods", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/proxy/namespaces/other/pods/foo", "proxy -/v1 pods ns=other name=foo"),
            ("GET /api/v1/proxy/namespaces/other/pods/foo/sub/path", "proxy -/v1 pods ns=other name=foo"),
            ("GET /api/v1/watch/pods", "watch -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=true", "watch -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=false", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=0", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch", "watch -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=FALSE&watch=1", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?%77atch=1", "watch -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?a;watch=1", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=1;%ff", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=1%2&%ff%", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?watch=%C3%A9", "watch -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods/foo?watch=1", "get -/v1 pods ns=- name=foo"),
            ("GET /api/v1/watch/namespaces/other/pods", "watch -/v1 pods ns=other name=-"),
            ("GET /api/v1/namespaces/other/pods/foo/log?follow=true", "get -/v1 pods/log ns=other name=foo"),
            ("POST /api/v1/namespaces/other/pods/foo/exec?command=id", "create -/v1 pods/exec ns=other name=foo"),
            ("GET /api/v1/namespaces/other/pods/foo/exec", "get -/v1 pods/exec ns=other name=foo"),
            (
                "POST /api/v1/namespaces/other/services/https:web:443/proxy/a/b",
                "create -/v1 services/proxy ns=other name=https:web:443",
            ),
            ("POST /api/v1/namespaces/other/pods", "create -/v1 pods ns=other name=-"),
            ("PATCH /api/v1/namespaces/other/pods/foo", "patch -/v1 pods ns=other name=foo"),
            ("DELETE /api/v1/namespaces/other/pods/foo", "delete -/v1 pods ns=other name=foo"),
            ("DELETE /api/v1/namespaces/other/pods", "deletecollection -/v1 pods ns=other name=-"),
            ("OPTIONS /api/v1/pods", "- -/v1 pods ns=- name=-"),
            ("PUT /apis/apps/v1/namespaces/a/deployments/b/scale", "update apps/v1 deployments/scale ns=a name=b"),
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
                "get rbac.authorization.k8s.io/v1 clusterroles ns=- name=system:node",
            ),
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io/v1 clusterroles ns=- name=system:node",
            ),
            ("GET /api/v1/pods?fieldSelector=metadata.name%3Dfoo", "list -/v1 pods ns=- name=foo"),
            ("GET /api/v1/pods?watch=1&fieldSelector=metadata.name==foo", "watch -/v1 pods ns=- name=foo"),
            ("GET /api/v1/pods?fieldSelector=metadata.name!=foo", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/pods?fieldSelector=metadata.name=a/b", "list -/v1 pods ns=- name=-"),
            ("GET /api/v1/namespaces/a/pods/", "list -/v1 pods ns=a name=-"),
            ("GET /", "get /"),
            ("GET /api", "get /api"),
            ("GET /api/v1/", "get /api/v1"),
            ("GET /apis/apps/v1", "get /apis/apps/v1"),
            ("GET /apis/apps", "get /apis/apps"),
            ("POST /openapi/v3", "post /openapi/v3"),
            ("GET /metrics", "get /metrics"),
            ("GET /API/v1/pods", "get /API/v1/pods"),
        ] {
            check(request, expect);
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for request in [
            "GET //api/v1/pods",
            "GET /api//v1/pods",
            "GET /api/v1/pods//",
            "GET //",
            "GET /api/v1/namespaces/a/pods/../../b/secrets",
            "GET /api/v1/namespaces/a/pods/%2e%2e/%2E./b",
            "GET /api/v1/./pods",
            "GET /api/v1/namespaces/a%2Fpods",
            "GET /api/v1/namespaces/a%5cpods",
            "GET /api/v1/namespaces/a\\pods",
            "GET /api/v1/namespaces/a%252Fpods",
            "GET /api/v1/namespaces/a%00",
            "GET /api/v1/namespaces/a%0d%0ax",
            "GET /api/v1/namespaces/a%C2%85",
            "GET /api/v1/namespaces/%ff",
            "GET /api/v1/namespaces/a%",
            "GET /api/v1/namespaces/a%2",
            "GET /api/v1/namespaces/a%zz",
            "GET /api/v1/namespaces/a%+1",
            "GET /api/v1/namespaces/é",
            "GET api/v1/pods",
            "OPTIONS *",
            "GET ",
            "GET /api/v1/watch",
            "GET /apis/apps/v1/proxy",
            "CONNECT /api/v1/pods",
            "TRACE /api/v1/pods",
            "get /api/v1/pods",
            "PROPFIND /api/v1/pods",
            // Go reads the parts of a query byte by byte: dropping one here would tell of another request than the one that goes on.
            "GET /api/v1/pods?watch=%ff",
            "GET /api/v1/pods?limit=1&watch=1&x%C3=y",
            "GET /api/v1/pods?fieldSelector=metadata.name=a%80",
            "POST /api/v1/namespaces/a/pods/web/exec?command=sh&command=-c&command=rm+-rf+/srv+%23%ff&stdout=true",
            "POST /api/v1/namespaces/a/pods/web/exec?command=%C0%AF",
            "POST /api/v1/nodes/n/proxy/run/a/web/app?cmd=id%ED%A0%80",
            "GET /version?%FE",
        ] {
            check(request, "refused: 400");
        }
        check(&format!("GET /{}", "a".repeat(TARGET_BYTES_MAX)), "refused: 400");
    }

    /// The resolver as Kubernetes writes it, step by step on decoded parts.
    fn oracle(method: &str, path: &str) -> Option<(String, String, String, String, String)> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if parts.len() < 3 || !["api", "apis"].contains(&parts[0]) {
            return None;
        }
        let has_group = parts.remove(0) == "apis";
        let mut group = "";
        if has_group {
            if parts.len() < 3 {
                return None;
            }
            group = parts.remove(0);
        }
        parts.remove(0);
        let mut verb = match method {
            "GET" => "get",
            "POST" => "create",
            _ => "delete",
        };
        if parts[0] == "watch" || parts[0] == "proxy" {
            if parts.len() < 2 {
                return None;
            }
            verb = parts.remove(0);
        }
        let mut namespace = "";
        if parts[0] == "namespaces" && parts.len() > 1 {
            namespace = parts[1];
            if parts.len() > 2 && parts[2] != "status" && parts[2] != "finalize" {
                parts.drain(..2);
            }
        }
        let subresource = if parts.len() >= 3 && verb != "proxy" { parts[2] } else { "" };
        let name = if parts.len() >= 2 { parts[1] } else { "" };
        if name.is_empty() && verb == "get" {
            verb = "list";
        }
        if name.is_empty() && verb == "delete" {
            verb = "deletecollection";
        }
        Some([verb, group, namespace, name, &format!("{}/{subresource}", parts[0])].map(str::to_owned).into())
    }

    /// `url.ParseQuery` and `url.QueryUnescape` as Go writes them, on bytes; what they report as an error is left out of what they give back.
    fn go_query(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        fn unescape(s: &[u8]) -> Option<Vec<u8>> {
            let is_hex = |at: usize| s.get(at).is_some_and(u8::is_ascii_hexdigit);
            let (mut out, mut i) = (Vec::new(), 0);
            while i < s.len() {
                match s[i] {
                    b'%' => {
                        if !is_hex(i + 1) || !is_hex(i + 2) {
                            return None;
                        }
                        out.push(u8::from_str_radix(std::str::from_utf8(&s[i + 1..i + 3]).unwrap(), 16).unwrap());
                        i += 2;
                    }
                    b'+' => out.push(b' '),
                    byte => out.push(byte),
                }
                i += 1;
            }
            Some(out)
        }
        let mut all = Vec::new();
        for part in query.as_bytes().split(|byte| *byte == b'&') {
            if part.contains(&b';') || part.is_empty() {
                continue;
            }
            let (key, value) = match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &part[part.len()..]),
            };
            if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
                all.push((key, value));
            }
        }
        all
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_query_is_what_go_reads_or_it_is_refused(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "command", "c%6fmmand", "=", "=", "&", "&", ";", "+", "%20", "%ff", "%C3%A9", "%C3", "%A9", "%", "%4", "%zz", "a", "=sh",
                ]),
                0..16,
            ),
        ) {
            let query = parts.concat();
            let theirs = go_query(&query);
            let is_text = theirs.iter().all(|(key, value)| [key, value].iter().all(|part| std::str::from_utf8(part).is_ok()));
            prop_assert_eq!(resolve(&Method::GET, "/api/v1/pods", Some(&query)).is_ok(), is_text, "{}", query);
            if is_text {
                let theirs = theirs.into_iter().filter(|(key, _)| key == b"command").map(|(_, value)| String::from_utf8(value).unwrap());
                prop_assert_eq!(parameters(Some(&query), "command"), theirs.collect::<Vec<_>>(), "{}", query);
            }
        }

        #[test]
        fn it_agrees_with_kubernetes_own_steps(
            method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
            parts in prop::collection::vec(
                prop::sample::select(vec!["api", "apis", "v1", "apps", "namespaces", "watch", "proxy", "pods", "status", "finalize", "a", "b"]),
                1..9,
            ),
        ) {
            let path = format!("/{}", parts.join("/"));
            let ours = resolve(&method.parse().unwrap(), &path, None).ok().filter(|call| call.is_resource).map(|call| {
                let of = format!("{}/{}", call.resource, call.subresource);
                (call.verb.to_owned(), call.group, call.namespace, call.name, of)
            });
            prop_assert_eq!(ours, oracle(method, &path));
        }

        #[test]
        fn whatever_comes_is_read_or_refused_and_what_is_read_has_no_odd_segment(path in "(/|[a-z%2eEfF5c.]|[ -~]|\\PC){0,40}") {
            if let Ok(call) = resolve(&Method::GET, &path, None) {
                prop_assert!(call.path == "/" || call.path.split('/').skip(1).all(|part| !["", ".", ".."].contains(&part)), "{:?}", call);
                prop_assert!(!call.path.contains(['%', '\\']) && !call.path.contains(char::is_control));
                // What goes on is what was read: decoding the path once gives the same.
                let decoded = decode(&path).unwrap();
                let trimmed = decoded.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(&decoded);
                prop_assert_eq!(trimmed, &call.path);
            }
        }
    }
}
