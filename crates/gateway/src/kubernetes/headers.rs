//! What goes on of a request's headers, and what comes back of a response's.
//!
//! A request goes on with an allow-list: whatever is not known to be harmless stays behind, also what `Connection` names. The proxy's own are set
//! last, so that nothing of the client can stand beside them.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use super::{Identity, Refusal};

/// What a client may say to an API server besides the request itself. None of it says who it is or by which way it came.
const ALLOWED: [&str; 25] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "kubectl-command",
    "kubectl-session",
    "pragma",
    "range",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-stream-protocol-version",
];
/// What concerns one connection only (RFC 9110, section 7.6.1), besides what `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// A token in place of a subprotocol, which API servers take for a credential.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// The id under which the API server's own audit log knows a request.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// What a request turns its connection into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// `SPDY/3.1`.
    Spdy,
    /// `websocket`.
    WebSocket,
}

impl Upgrade {
    /// As it is written in the header `Upgrade`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spdy => "SPDY/3.1",
            Self::WebSocket => "websocket",
        }
    }

    /// What a request asks for.
    pub fn asked(method: &Method, version: Version, headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        if !words(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return Ok(None);
        }
        let asked: Vec<&str> = words(headers, &header::UPGRADE).collect();
        let is = |upgrade: Self| asked.iter().any(|word| word.eq_ignore_ascii_case(upgrade.name()));
        let upgrade = match (is(Self::Spdy), is(Self::WebSocket), asked.len()) {
            // Some other protocol (h2c): it stays what it is.
            (false, false, _) => return Ok(None),
            (true, false, 1) => Self::Spdy,
            (false, true, 1) if method == Method::GET => Self::WebSocket,
            _ => return Err(Refusal::Malformed("ask for one upgrade: `SPDY/3.1`, or `websocket` with GET")),
        };
        let has_body = headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
        if has_body || version != Version::HTTP_11 {
            return Err(Refusal::Malformed("an upgrade comes with HTTP/1.1 and without a body"));
        }
        Ok(Some(upgrade))
    }
}

/// The words of a header that is a list.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// The bearer token of a request: one, in the one place for it.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let missing =
        || Refusal::Unauthenticated("bring a token of this destination (`cairn tokens add` makes one)".to_owned());
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(missing()) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || !token.bytes().all(is_token) {
        return Err(missing());
    }
    Ok(token)
}

/// The headers that go on: what is allowed of the client's, then who it is, then the proxy's own credential.
pub fn forward(
    client: &HeaderMap,
    identity: &Identity,
    upgrade: Option<Upgrade>,
    host: &HeaderValue,
    audit_id: &HeaderValue,
    credential: &HeaderValue,
) -> HeaderMap {
    let named: Vec<&str> = words(client, &header::CONNECTION).collect();
    let mut out = HeaderMap::with_capacity(client.len() + identity.groups().len() + 6);
    out.insert(header::HOST, host.clone());
    for (name, value) in client {
        let is_upgrades = name.as_str().starts_with("sec-websocket-") || name == "x-stream-protocol-version";
        // A length is the message's own, whatever `Connection` says of it: without it a body would have no end.
        let is_named =
            name != header::CONTENT_LENGTH && named.iter().any(|word| word.eq_ignore_ascii_case(name.as_str()));
        if ALLOWED.contains(&name.as_str()) && !is_named && (upgrade.is_some() || !is_upgrades) {
            out.append(name.clone(), value.clone());
        }
    }
    if let Some(upgrade) = upgrade {
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(header::UPGRADE, HeaderValue::from_static(upgrade.name()));
        let protocols: Vec<&str> = words(client, &header::SEC_WEBSOCKET_PROTOCOL)
            .filter(|protocol| !protocol.to_ascii_lowercase().starts_with(TOKEN_PROTOCOL))
            .collect();
        if upgrade == Upgrade::WebSocket && !protocols.is_empty()
            // Words of a header are a header.
            && let Ok(protocols) = HeaderValue::from_str(&protocols.join(", "))
        {
            out.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
    }
    out.insert(AUDIT_ID, audit_id.clone());
    out.insert(IMPERSONATE_USER, identity.user().clone());
    for group in identity.groups() {
        out.append(IMPERSONATE_GROUP, group.clone());
    }
    out.insert(header::AUTHORIZATION, credential.clone());
    out
}

/// Takes away what concerns the connection to the API server only.
pub fn backward(headers: &mut HeaderMap, upgraded: Option<Upgrade>) {
    let named: Vec<HeaderName> = words(headers, &header::CONNECTION).filter_map(|word| word.parse().ok()).collect();
    for name in named.iter().filter(|name| **name != header::CONTENT_LENGTH) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(upgrade) = upgraded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade.name()));
    }
}

/// Whether a response that switches protocols switches to the one that was asked for.
pub fn switches_to(headers: &HeaderMap, upgrade: Upgrade) -> bool {
    let switched: Vec<&str> = words(headers, &header::UPGRADE).collect();
    matches!(switched.as_slice(), [one] if one.eq_ignore_ascii_case(upgrade.name()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_admission as admission;
    use super::super::{OneGroup, request};
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn forwarded(client: &HeaderMap, upgrade: Option<Upgrade>) -> Vec<String> {
        let call = request::resolve(&Method::GET, "/api/v1/pods", None).unwrap();
        let identity = Identity::decide(&admission(&[("view", "")]), &call, &HeaderMap::new(), &OneGroup).unwrap();
        let value = HeaderValue::from_static;
        let out = forward(client, &identity, upgrade, &value("kube"), &value("7"), &value("Bearer proxy"));
        let mut lines: Vec<_> =
            out.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 7] = [
        "audit-id: 7",
        "authorization: Bearer proxy",
        "host: kube",
        "impersonate-group: cairn-role:view",
        "impersonate-group: cairn:dev",
        "impersonate-group: cairn:system:masters",
        "impersonate-user: cairn:alice@example.com",
    ];

    fn with_ours(more: &[&str]) -> Vec<String> {
        let mut all: Vec<_> = OURS.iter().chain(more).map(ToString::to_string).collect();
        all.sort();
        all
    }

    #[test]
    fn attack_49_what_a_connection_header_names_stays_behind_and_nothing_of_the_proxy_does() {
        for named in [
            "Impersonate-User, Authorization, Impersonate-Group, Audit-Id, Host",
            "impersonate-user,authorization",
            "close, keep-alive, Impersonate-Group",
            "Content-Length, impersonate_user",
        ] {
            let client = headers(&[
                ("connection", named),
                ("connection", "X-Remote-User, User-Agent"),
                ("authorization", "Bearer client"),
                ("authorization", "Bearer other"),
                ("impersonate-user", "system:admin"),
                ("content-length", "3"),
                ("user-agent", "kubectl"),
                ("accept", "application/json"),
            ]);
            assert_eq!(
                forwarded(&client, None),
                with_ours(&["content-length: 3", "accept: application/json"]),
                "{named}"
            );
        }
    }

    #[test]
    fn attack_48_no_spelling_of_an_identity_or_of_a_way_goes_on() {
        let client = headers(&[
            ("impersonate-user", "a"),
            ("impersonate-group", "system:masters"),
            ("impersonate-uid", "1"),
            ("impersonate-extra-x", "1"),
            ("impersonate_user", "a"),
            ("x-remote-user", "a"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("x_remote_user", "a"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil"),
            ("x_forwarded_proto", "http"),
            ("x-forwarded-uri", "/api"),
            ("x-original-url", "/api"),
            ("x-rewrite-url", "/api"),
            ("x-http-method-override", "DELETE"),
            ("forwarded", "for=10.0.0.1"),
            ("via", "1.1 evil"),
            ("x-real-ip", "10.0.0.1"),
            ("host", "evil"),
            ("cookie", "a=b"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "authorization"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("expect", "100-continue"),
            ("audit-id", "forged"),
            ("content_length", "7"),
            ("sec-websocket-protocol", "v4.channel.k8s.io"),
            ("sec-websocket-key", "x"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("user-agent", "kubectl/v1.32"),
        ]);
        assert_eq!(forwarded(&client, None), with_ours(&["user-agent: kubectl/v1.32"]));
    }

    #[test]
    fn an_upgrade_goes_on_with_what_belongs_to_it_and_without_a_token_for_a_protocol() {
        let client = headers(&[
            ("connection", "keep-alive, upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c3RvbGVu"),
            ("sec-websocket-protocol", "Base64URL.bearer.authorization.k8s.io.c3RvbGVu"),
            ("cookie", "a=b"),
        ]);
        let upgrade = Upgrade::asked(&Method::GET, Version::HTTP_11, &client).unwrap();
        assert_eq!(upgrade, Some(Upgrade::WebSocket));
        let expect = with_ours(&[
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-key: k",
            "sec-websocket-version: 13",
            "sec-websocket-protocol: v5.channel.k8s.io",
        ]);
        assert_eq!(forwarded(&client, upgrade), expect);
        let client = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]);
        let upgrade = Upgrade::asked(&Method::POST, Version::HTTP_11, &client).unwrap();
        let expect = with_ours(&[
            "connection: Upgrade",
            "upgrade: SPDY/3.1",
            "x-stream-protocol-version: v4.channel.k8s.io",
            "x-stream-protocol-version: v3.channel.k8s.io",
        ]);
        assert_eq!(forwarded(&client, upgrade), expect);
    }

    #[test]
    fn attack_50_an_upgrade_with_a_body_or_to_two_protocols_is_refused_and_one_to_another_is_none() {
        let asked = |method: Method, version, pairs: &[(&str, &str)]| {
            Upgrade::asked(&method, version, &headers(&[&[("connection", "upgrade")], pairs].concat()))
        };
        let (get, http11) = (Method::GET, Version::HTTP_11);
        for pairs in [
            &[("upgrade", "websocket"), ("content-length", "5")][..],
            &[("upgrade", "websocket"), ("transfer-encoding", "chunked")],
            &[("upgrade", "websocket, SPDY/3.1")],
            &[("upgrade", "SPDY/3.1"), ("upgrade", "websocket")],
            &[("upgrade", "websocket, h2c")],
        ] {
            assert!(asked(get.clone(), http11, pairs).is_err(), "{pairs:?}");
        }
        assert!(asked(Method::POST, http11, &[("upgrade", "websocket")]).is_err());
        assert!(asked(get.clone(), Version::HTTP_10, &[("upgrade", "websocket")]).is_err());
        assert_eq!(asked(get.clone(), http11, &[("upgrade", "h2c")]), Ok(None));
        assert_eq!(asked(get.clone(), http11, &[]), Ok(None));
        assert_eq!(
            asked(Method::POST, http11, &[("upgrade", "spdy/3.1"), ("content-length", "0")]),
            Ok(Some(Upgrade::Spdy))
        );
        assert_eq!(Upgrade::asked(&get, http11, &headers(&[("upgrade", "websocket")])), Ok(None));
    }

    #[test]
    fn a_token_comes_once_and_as_a_bearer() {
        assert_eq!(bearer(&headers(&[("authorization", "Bearer a.b-c")])), Ok("a.b-c"));
        assert_eq!(bearer(&headers(&[("authorization", "bearer x")])), Ok("x"));
        for pairs in [
            &[][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("authorization", "Basic a")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Bearer  a")],
            &[("authorization", "Bearer")],
        ] {
            assert!(bearer(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_response_loses_what_concerns_the_connection_and_keeps_its_switch() {
        let pairs = [
            ("connection", "close, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "SPDY/3.1"),
            ("content-type", "application/json"),
            ("warning", "299 - deprecated"),
        ];
        let mut response = headers(&pairs);
        backward(&mut response, None);
        assert_eq!(response, headers(&pairs[5..]));
        let mut response = headers(&pairs);
        assert!(switches_to(&response, Upgrade::Spdy) && !switches_to(&response, Upgrade::WebSocket));
        backward(&mut response, Some(Upgrade::Spdy));
        assert_eq!(response.get("upgrade").unwrap(), "SPDY/3.1");
        assert_eq!(response.get("connection").unwrap(), "Upgrade");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_the_api_server_hears_one_user_one_credential_and_only_what_is_allowed(
            pairs in prop::collection::vec(
                (
                    "[Ii]mpersonate[-_](User|GROUP|uid|extra-a)|[Xx][-_]remote[-_](user|group)|authorization|Connection|host|audit-id|user-agent|content-length|[a-z][a-z_-]{0,12}",
                    "[ -~]{0,20}|impersonate-user, authorization|system:masters",
                ),
                0..12,
            ),
            upgrade in prop::option::of(prop::sample::select(vec![Upgrade::Spdy, Upgrade::WebSocket])),
        ) {
            let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let client = headers(&borrowed);
            let lines = forwarded(&client, upgrade);
            for ours in OURS {
                prop_assert_eq!(lines.iter().filter(|line| *line == ours).count(), 1, "{}", ours);
            }
            for line in lines.iter().filter(|line| !OURS.contains(&line.as_str())) {
                let (name, _) = line.split_once(':').unwrap();
                prop_assert!(
                    ALLOWED.contains(&name) || (upgrade.is_some() && ["connection", "upgrade", "sec-websocket-protocol"].contains(&name)),
                    "{}", line
                );
            }
        }
    }
}
