//! From an address to the channel's socket: TCP, by a proxy where there is one, TLS, and the upgrade to WebSocket.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use domain::{Network, Rng};
use fleet::Identity;
use gateway::websocket;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Environment;

/// How long one step may take.
const STEP: Duration = Duration::from_secs(15);

/// An HTTP proxy that connects to where it is told (`CONNECT`, RFC 9110, section 9.3.6).
#[derive(Clone)]
pub(crate) struct Proxy {
    address: String,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// `host:port` of an address with a scheme.
pub(crate) fn authority(url: &str, scheme: &str, port: u16) -> Option<String> {
    let rest = url.strip_prefix(scheme)?.strip_suffix('/').unwrap_or(url.strip_prefix(scheme)?);
    if rest.is_empty() || rest.contains(['/', '?', '#', '\r', '\n', ' ']) {
        return None;
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']') && port.parse::<u16>().is_ok());
    Some(if has_port { rest.to_owned() } else { format!("{rest}:{port}") })
}

/// A host without its port and the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl Proxy {
    /// The proxy of the environment for this server; none where `NO_PROXY` names it or it is this machine.
    pub(crate) fn of(environment: Environment<'_>, server: &str) -> anyhow::Result<Option<Self>> {
        let either = |upper: &str, lower: &str| environment(upper).or_else(|| environment(lower));
        let Some(url) = either("HTTPS_PROXY", "https_proxy") else { return Ok(None) };
        let target = authority(server, "https://", 443).unwrap_or_default();
        let host = host_of(&target).to_ascii_lowercase();
        let excepted = either("NO_PROXY", "no_proxy").unwrap_or_default().to_ascii_lowercase();
        let names = |entry: &str| {
            let entry = entry.trim().trim_start_matches('.');
            let inside = || Some(entry.parse::<Network>().ok()?.contains(host.parse().ok()?));
            !entry.is_empty()
                && (entry == "*" || host == entry || host.ends_with(&format!(".{entry}")) || inside() == Some(true))
        };
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") || excepted.split(',').any(names) {
            return Ok(None);
        }
        let wrong = "HTTPS_PROXY is `http://host:port` or `http://user:password@host:port`";
        let rest = url.strip_prefix("http://").context(wrong)?;
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let address = authority(&format!("http://{place}"), "http://", 80).context(wrong)?;
        let authorization = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let both = [&unescape(user)[..], b":", &unescape(password)].concat();
            format!("Basic {}", STANDARD.encode(both))
        });
        Ok(Some(Self { address, authorization }))
    }
}

/// A part of a URL's login as it is meant: what a URL cannot hold stands there as `%` and two hex digits (RFC 3986, section 2.1).
fn unescape(part: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            behind.first_chunk::<2>().filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    out
}

/// Ends a step that takes too long.
async fn within<T>(what: &str, step: impl Future<Output = std::io::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(STEP, step).await {
        Ok(done) => done.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: no answer within {} s", STEP.as_secs()),
    }
}

/// Connects, by the proxy where there is one.
pub(crate) async fn tcp(authority: &str, proxy: Option<&Proxy>) -> anyhow::Result<TcpStream> {
    let Some(proxy) = proxy else {
        return within(&format!("`{authority}` cannot be reached"), TcpStream::connect(authority)).await;
    };
    let mut stream =
        within(&format!("the proxy `{}` cannot be reached", proxy.address), TcpStream::connect(&proxy.address)).await?;
    let login = proxy.authorization.as_ref().map(|value| format!("proxy-authorization: {value}\r\n"));
    let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{}\r\n", login.unwrap_or_default());
    within("the proxy does not read", stream.write_all(request.as_bytes())).await?;
    // Byte by byte: what follows the head belongs to TLS.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= websocket::HEAD_BYTES_MAX {
            bail!("the proxy's answer is too long");
        }
        head.push(within("the proxy does not answer", stream.read_u8()).await?);
    }
    let line = head.split(|byte| *byte == b'\r').next().map(String::from_utf8_lossy).unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        _ => bail!("the proxy does not connect: {}", line.escape_debug()),
    }
}

/// The server does not know the credential any more: only enrolling anew helps.
#[derive(Debug, thiserror::Error)]
#[error("it was revoked, its credential expired, or a copy of its key is in use")]
pub(crate) struct Ended;

/// The channel's socket, and what came with the answer.
pub(crate) type Socket = (TlsStream<TcpStream>, BytesMut);

/// Opens the channel of this relay.
pub(crate) async fn channel(
    server: &str,
    proxy: Option<&Proxy>,
    tls: &Arc<rustls::ClientConfig>,
    identity: &Identity,
    rng: &dyn Rng,
) -> anyhow::Result<Socket> {
    let authority = authority(server, "https://", 443).context("RELAY_SERVER is `https://host:port`")?;
    let stream = tcp(&authority, proxy).await?;
    let _ = stream.set_nodelay(true);
    let name = ServerName::try_from(host_of(&authority).to_owned())?;
    let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let mut socket = within(&format!("no TLS with `{authority}`"), connecting).await?;

    let path = format!("/api/v1/relays/{}/channel", identity.id());
    let signed = identity.sign("GET", &path, b"").await?;
    let key = websocket::new_key(rng);
    let headers = [("authorization", signed.authorization.as_str()), ("dpop", signed.proof.as_str())];
    let request = websocket::request(&authority, &path, &key, &headers);
    within("the server does not read", socket.write_all(&request)).await?;
    let mut buffer = BytesMut::new();
    loop {
        match websocket::read_answer(&key, &mut buffer) {
            Ok(true) => return Ok((socket, buffer)),
            Ok(false) => {}
            Err(error) => {
                if let websocket::WebSocketError::Refused(answer) = &error
                    && let Some(time) = answer.time.as_deref().and_then(|time| time.parse().ok())
                {
                    identity.adjust(time);
                }
                let said = reason(&mut socket, buffer).await;
                let ended = said.as_ref().is_some_and(|(code, _)| code == "unauthenticated");
                let text = said.map_or_else(|| "the channel was not opened".to_owned(), |(_, message)| message);
                let error = anyhow::Error::new(error).context(text);
                return Err(if ended { error.context(Ended) } else { error });
            }
        }
        if within("the server does not answer", socket.read_buf(&mut buffer)).await? == 0 {
            bail!("the server closed the connection instead of answering");
        }
    }
}

/// What the server says about a refusal, as a code and a message, as far as it comes soon and is short.
async fn reason(socket: &mut TlsStream<TcpStream>, mut buffer: BytesMut) -> Option<(String, String)> {
    const ANSWER_BYTES: usize = 16 * 1_024;
    let read = async {
        loop {
            let body = buffer.windows(4).position(|window| window == b"\r\n\r\n").and_then(|at| buffer.get(at + 4..));
            if let Some(problem) = body.and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok()) {
                let text = |name: &str| Some(problem.get(name)?.as_str()?.to_owned());
                return Some((text("code")?, text("message")?));
            }
            if buffer.len() > ANSWER_BYTES || !matches!(socket.read_buf(&mut buffer).await, Ok(1..)) {
                return None;
            }
        }
    };
    let (code, message) = tokio::time::timeout(Duration::from_secs(2), read).await.ok().flatten()?;
    let clean = message.chars().take(500).map(|character| if character.is_control() { ' ' } else { character });
    Some((code, clean.collect()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (url, expect) in [
            ("https://a.example", Some("a.example:443")),
            ("https://a.example/", Some("a.example:443")),
            ("https://a.example:8443", Some("a.example:8443")),
            ("https://[::1]", Some("[::1]:443")),
            ("https://[::1]:1", Some("[::1]:1")),
            ("https://", None),
            ("http://a.example", None),
            ("https://a.example/path", None),
            ("https://a\r\nb", None),
        ] {
            assert_eq!(authority(url, "https://", 443).as_deref(), expect, "{url}");
        }
        assert_eq!((host_of("[::1]:443"), host_of("a.example:1")), ("::1", "a.example"));
    }

    #[test]
    fn the_proxy_of_the_environment_is_used_unless_the_server_is_excepted() {
        let of = |pairs: &[(&str, &str)], server: &str| {
            let owned: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let environment = move |name: &str| owned.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone());
            Proxy::of(&environment, server)
        };
        let proxy = ("HTTPS_PROXY", "http://user:word@proxy.example:3128");
        let found = of(&[proxy], "https://cairn.example").unwrap().unwrap();
        assert_eq!(found.address, "proxy.example:3128");
        assert_eq!(found.authorization.as_deref(), Some("Basic dXNlcjp3b3Jk"));
        // What a URL cannot hold is escaped there, as the other calls of this program read it.
        for (login, meant) in [
            ("user:p%40ss%3Aword", "user:p@ss:word"),
            ("us%65r", "user:"),
            ("u:100%", "u:100%"),
            ("u:%zz%4", "u:%zz%4"),
        ] {
            let found =
                of(&[("HTTPS_PROXY", &format!("http://{login}@p:1"))], "https://cairn.example").unwrap().unwrap();
            assert_eq!(found.authorization, Some(format!("Basic {}", STANDARD.encode(meant))), "{login}");
        }
        assert!(of(&[proxy], "https://127.0.0.1:8443").unwrap().is_none());
        assert!(of(&[], "https://cairn.example").unwrap().is_none());
        for excepted in ["cairn.example", ".example", "x, CAIRN.example", "*"] {
            assert!(of(&[proxy, ("NO_PROXY", excepted)], "https://cairn.example").unwrap().is_none(), "{excepted}");
        }
        assert!(of(&[proxy, ("NO_PROXY", "airn.example")], "https://cairn.example").unwrap().is_some());
        let network = ("NO_PROXY", "localhost,10.0.0.0/8");
        assert!(of(&[proxy, network], "https://10.1.2.3:8443").unwrap().is_none());
        assert!(of(&[proxy, network], "https://192.0.2.1:8443").unwrap().is_some());
        assert!(of(&[("HTTPS_PROXY", "ftp://x")], "https://cairn.example").is_err());
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect_and_its_refusal_is_told() {
        for (answer, expect) in
            [("HTTP/1.1 200 OK\r\nvia: x\r\n\r\n", None), ("HTTP/1.1 407 Login\r\n\r\n", Some("407"))]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let proxy = Proxy { address, authorization: Some("Basic eA==".to_owned()) };
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 1_024];
                let length = stream.read(&mut head).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.write_all(b"!").await.unwrap();
                (String::from_utf8(head[..length].to_vec()).unwrap(), stream)
            };
            let (dialed, (head, _stream)) = tokio::join!(tcp("cairn.example:443", Some(&proxy)), serving);
            assert!(
                head.starts_with("CONNECT cairn.example:443 HTTP/1.1\r\n") && head.contains("Basic eA=="),
                "{head}"
            );
            match (dialed, expect) {
                (Ok(mut stream), None) => assert_eq!(stream.read_u8().await.unwrap(), b'!'),
                (Err(error), Some(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (other, _) => panic!("{other:?}"),
            }
        }
    }
}
