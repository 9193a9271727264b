//! A host and a port of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::Error;

/// A name or address in its one spelling (lower case, no brackets), and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// A host that is already known apart from its port; none where it is no host.
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let fits = (1..=253).contains(&host.len()) && host.bytes().all(letter) && !host.starts_with('-');
        let is_address = host.parse::<IpAddr>();
        if !fits || port == 0 || (host.contains(':') && is_address.is_err()) {
            return None;
        }
        let host = is_address.map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string());
        Some(Self { host, port })
    }

    /// Reads `HOST`, `HOST:PORT`, an IPv6 address or `[IPv6]:PORT`.
    pub fn read(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            None => default_port,
            Some(port) => port.parse().ok().filter(|_| digits(port))?,
        };
        Self::new(host, port)
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for HostPort {
    type Err = Error;

    /// With the port of SSH where none is named.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text, 22).ok_or_else(|| {
            let shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
            Error::invalid("address", format!("`{shown}` is no HOST, HOST:PORT or [IPv6]:PORT"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, want) in [
            ("Web1.Example", Some("web1.example:22")),
            ("web1:2222", Some("web1:2222")),
            ("10.0.0.1", Some("10.0.0.1:22")),
            ("[2001:DB8::0:1]:2222", Some("[2001:db8::1]:2222")),
            ("2001:db8::1", Some("[2001:db8::1]:22")),
            ("[2001:db8::1]", Some("[2001:db8::1]:22")),
            ("web1:0", None),
            ("web1:", None),
            ("web1:+22", None),
            ("web1:65536", None),
            ("-oProxyCommand=x", None),
            ("a b", None),
            ("a\nb", None),
            ("a:b:c", None),
            ("[web]:22", None),
            ("[::1]22", None),
            ("", None),
        ] {
            assert_eq!(HostPort::read(text, 22).map(|found| found.to_string()).as_deref(), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_as_the_same(text in "\\PC{0,40}") {
            if let Some(found) = HostPort::read(&text, 22) {
                prop_assert_eq!(HostPort::read(&found.to_string(), 22), Some(found));
            }
        }
    }
}
