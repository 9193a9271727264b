//! The address of a server: `https://HOST[:PORT]` and nothing else, so that one server has one spelling.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Server(Url);

impl Server {
    /// The address of a path on the server.
    pub(crate) fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// The host, and the port where it is not 443.
    pub(crate) fn authority(&self) -> String {
        let host = self.host();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The host.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether it is this machine: then no proxy is in between.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Server {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!("`{text}` is not a server's address: {why}"))
                .hint("for example https://127.0.0.1:8443")
        };
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url: Url = full.parse().map_err(|e| wrong(&format!("{e}")))?;
        if url.scheme() != "https" {
            return Err(wrong("use https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("give the user with --user, and the password when you are asked for it"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("leave out what follows the host and port"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Failure| serde::de::Error::custom(e.message))
    }
}

/// A path of the API from its parts: each is one segment whatever it holds.
pub(crate) fn route(parts: &[&str]) -> Result<String, Failure> {
    let mut path = "/api/v1".to_owned();
    for part in parts {
        // An URL parser takes these for directions, also when they are percent-encoded.
        if matches!(*part, "" | "." | "..") {
            return Err(Failure::usage(format!("`{part}` is not a name or an id")));
        }
        path.push('/');
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_spelling() {
        for (input, expect) in [
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://cairn.example.com/", "https://cairn.example.com"),
            ("https://CAIRN.example.com:443", "https://cairn.example.com"),
            ("cairn.example.com:8443", "https://cairn.example.com:8443"),
            ("https://[::1]:1", "https://[::1]:1"),
        ] {
            assert_eq!(input.parse::<Server>().unwrap().to_string(), expect);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_the_reason() {
        for (input, why) in [
            ("http://a", "use https"),
            ("https://ann:pw@a", "--user"),
            ("https://a/api", "leave out"),
            ("https://a?x", "leave out"),
            ("https://", "host"),
            ("ftp://a", "use https"),
        ] {
            let failure = input.parse::<Server>().unwrap_err();
            assert!(failure.message.contains(why), "{input}: {}", failure.message);
            assert_eq!(failure.exit, crate::failure::Exit::Usage);
        }
    }

    #[test]
    fn this_machine_is_recognised() {
        let loopback = |text: &str| text.parse::<Server>().unwrap().is_loopback();
        assert!(loopback("https://127.0.0.1:1") && loopback("https://[::1]") && loopback("https://localhost"));
        assert!(
            !loopback("https://example.com")
                && !loopback("https://10.0.0.1")
                && !loopback("https://127.0.0.1.example.com")
        );
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        let server: Server = "https://a".parse().unwrap();
        let path = route(&["tenants", "acme", "nodes", "aws:us-east-1:aws.s3.bucket:a/../b?c#d%2e é"]).unwrap();
        assert_eq!(
            server.url(&path, &[("as_of", "a&b=c")]).as_str(),
            "https://a/api/v1/tenants/acme/nodes/aws%3Aus-east-1%3Aaws.s3.bucket%3Aa%2F..%2Fb%3Fc%23d%252e%20%C3%A9?as_of=a%26b%3Dc"
        );
        for bad in ["", ".", ".."] {
            assert!(route(&["tenants", bad, "nodes"]).is_err());
        }
        assert!(route(&["tenants", "%2e%2e"]).unwrap().ends_with("/%252e%252e"));
    }
}
