//! The last line before the log: what looks like a secret does not get out, whoever wrote it.
//!
//! For the programs that log: the server and the relay. **Not for** being relied on: secrets have types without `Debug`, and nothing that logs should ever hold one. What is here is for the library
//! or the line that nobody thought of. It knows forms, not values, so it can miss a secret without a form, and blanks out what only looks like one.
//!
//! Invariant: a line of JSON stays one.

use std::io::{self, Write};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use tracing_subscriber::fmt::MakeWriter;

const BLANK: &str = "[redacted]";

/// Every form, each with what stays of it in front (`keep`). No form takes a quote or a lone backslash, so a line of JSON stays one.
const FORMS: &str = r#"(?xi)
  # PEM private keys, also with their line breaks escaped, also cut off.
  (?P<keep_pem> -----BEGIN\ [A-Z\ ]{0,20}PRIVATE\ KEY----- ) (?: [A-Za-z0-9+/=\s:,-] | \\{1,4}[nrt] )+
  # Tokens of ours: API keys, command-line sessions, enrollment tokens.
| (?P<keep_ours> \b (?:sk|cs|et) _ ) [A-Za-z0-9_.-]{8,}
  # JSON Web Tokens, whole or cut off: a header in base64url begins with `{"`.
| \b (?-i:eyJ) [A-Za-z0-9_-]{8,} (?: \. [A-Za-z0-9_=-]* )*
  # The secret that stands beside the id of an AWS key.
| (?P<keep_aws> \b (?-i: (?:AKIA|ASIA) [A-Z0-9]{12,20} ) [^A-Za-z0-9/+]{1,8} (?: [a-z_]{1,24} [^A-Za-z0-9/+]{1,8} )? ) [A-Za-z0-9/+]{30,}=*
  # Credentials of HTTP.
| (?P<keep_http> \b bearer \s+ | authorization [\\"']* \s* [:=] \s* [\\"']* (?: basic | splunk ) \s+ ) [A-Za-z0-9._~+/=-]{6,}
  # Passwords in URLs.
| (?P<keep_url> [a-z][a-z0-9+.-]* :// [^\s:/@"'\\]* : ) [^\s@"'\\/]+ (?P<after_url> @ )
  # `password=...`, `"client_secret": "..."`, and their like.
| (?P<keep_name> (?: password | passwd | passphrase | secret | secret_access_key | session_token | api_?key | access_token | refresh_token | id_token )
    [\\"']* \s* [=:] \s* [\\"']* ) [^\s"'\\,;&{}\[\]()]+
"#;

#[expect(clippy::expect_used, reason = "the pattern is a constant, and a test compiles it")]
static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(FORMS).expect("the pattern compiles"));

/// The text without what looks like a secret.
pub fn redact(text: &str) -> std::borrow::Cow<'_, str> {
    PATTERN.replace_all(text, |found: &Captures<'_>| {
        let part = |names: &[&str]| names.iter().find_map(|name| found.name(name)).map_or("", |part| part.as_str());
        let keep = part(&["keep_pem", "keep_ours", "keep_aws", "keep_http", "keep_url", "keep_name"]);
        format!("{keep}{BLANK}{}", part(&["after_url"]))
    })
}

/// Wraps what makes writers, one for each event.
#[derive(Debug, Clone)]
pub struct Redacting<M>(pub M);

/// Collects one event's bytes and writes them when it is dropped: a secret that comes in two pieces is seen whole.
pub struct Event<W: Write> {
    inner: W,
    bytes: Vec<u8>,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacting<M> {
    type Writer = Event<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Event { inner: self.0.make_writer(), bytes: Vec::new() }
    }
}

impl<W: Write> Write for Event<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Event<W> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        // There is nowhere to complain about a log that cannot be written.
        let _ = self.inner.write_all(redact(&text).as_bytes()).and_then(|()| self.inner.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in forms that the filter knows, with a secret part that must not come out.
    fn secrets() -> Vec<(String, String)> {
        let hex = "0123456789abcdef0123456789abcdef";
        let pem = format!("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{hex}\n-----END PRIVATE KEY-----");
        let rsa = format!("-----BEGIN RSA PRIVATE KEY-----\nMIIEow{hex}\n");
        [
            (format!("sk_{hex}_x"), hex),
            (format!("cs_abcdefghij.{hex}"), hex),
            (format!("token et_{hex} was used"), hex),
            (format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{hex}"), hex),
            (format!("eyJhbGciOiJIUzI1NiJ9.{hex}"), hex),
            (format!("AKIAIOSFODNN7EXAMPLE {hex}12345678"), hex),
            (format!("AKIAIOSFODNN7EXAMPLE:{hex}+/3456=="), hex),
            (format!("Authorization: Bearer {hex}"), hex),
            (format!("authorization=bearer   {hex}"), hex),
            (format!("Authorization: Basic {hex}=="), hex),
            (format!("Authorization: Splunk {hex}"), hex),
            (format!("cannot reach postgres://cairn:{hex}@db/cairn"), hex),
            (format!("password={hex}"), hex),
            (format!("user=x PASSWORD = '{hex}' host=y"), hex),
            (format!(r#"{{"client_secret":"{hex}","a":1}}"#), hex),
            (format!("aws_secret_access_key: {hex}"), hex),
            (format!("x_api_key={hex}&y=1"), hex),
            ("password=short".to_owned(), "short"),
            (pem, hex),
            (rsa, hex),
        ]
        .into_iter()
        .map(|(text, secret)| (text, secret.to_owned()))
        .collect()
    }

    #[test]
    fn what_looks_like_a_secret_is_blanked_out_and_what_stands_around_it_stays() {
        for (text, secret) in secrets() {
            let clean = redact(&text);
            assert!(!clean.contains(&secret) && clean.contains(BLANK), "{text} became {clean}");
            assert_eq!(redact(&clean), clean, "once is enough");
        }
        assert_eq!(
            redact("cannot reach postgres://cairn:hunter2@db/cairn: refused"),
            "cannot reach postgres://cairn:[redacted]@db/cairn: refused"
        );
        assert_eq!(redact(r#"{"password":"hunter2","user":"ann"}"#), r#"{"password":"[redacted]","user":"ann"}"#);
        assert_eq!(redact("token et_0123456789abcdef was used"), "token et_[redacted] was used");
        assert_eq!(
            redact("key AKIAIOSFODNN7EXAMPLE was used by job_01"),
            "key AKIAIOSFODNN7EXAMPLE was used by job_01"
        );
    }

    #[test]
    fn what_a_log_is_read_for_stays_as_it_is() {
        for text in [
            "2026-01-01T00:00:00Z  INFO request{id=req_01jxyz method=POST path=/api/v1/sessions}: api::layers: answered status=201 took_us=900",
            "usr_01h455vb4pex5vsknk084sn02q changed ses_01h455vb4pex5vsknk084sn02q of ten_01h455vb4pex5vsknk084sn02q",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "arn:aws:iam::123456789012:role/packet_filters",
            "https://127.0.0.1:8443/api/v1/me",
            "the password was changed; basic settings apply to bearers",
            "market_overview_and_more_text basket_sk",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
