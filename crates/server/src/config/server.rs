//! `[server]` and `[acme]`: where the server listens, its certificate, and what connections may take.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{As, Key};

/// `[server]`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    /// Where the API listens; default `127.0.0.1:8443`. Port 0 picks a free one.
    #[schema(value_type = String)]
    pub(crate) listen: SocketAddr,
    /// Where `/metrics` listens, in plain HTTP for a scraper on the same host; default `127.0.0.1:9464`, empty for off.
    pub(crate) metrics_listen: String,
    /// Where everything that is kept lies; default `data`.
    #[schema(value_type = String)]
    pub(crate) data_dir: PathBuf,
    /// DNS names and addresses besides `localhost`, `127.0.0.1`, `::1` and the host's name that the made certificate is good for.
    pub(crate) names: Vec<String>,
    /// PEM file of a certificate chain to use instead of a made one; read again when it changes.
    #[schema(value_type = Option<String>)]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of its key (PKCS #8).
    #[schema(value_type = Option<String>)]
    pub(crate) certificate_key: Option<PathBuf>,
    /// How long requests and tasks at work may take to end after a stop was asked for, in seconds; default 10.
    pub(crate) drain_s: u64,
    /// Connections at a time; default 4,096, or fewer where the process may not open as many files.
    pub(crate) connections_max: usize,
    /// Connections at a time from one IPv4 address or IPv6 network (/64); default 256, 0 for no limit of its own.
    pub(crate) connections_per_address: usize,
    /// Requests at work at a time; default 512. More are answered with 503.
    pub(crate) requests_max: usize,
    /// Of these, from one IPv4 address or IPv6 network (/64); default 128, 0 for no limit of its own.
    pub(crate) requests_per_address: usize,
    /// How long a TLS handshake may take, in seconds; default 10.
    pub(crate) handshake_s: u64,
    /// How long a request's head may take over HTTP/1.1, also the first after silence, in seconds; default 15.
    pub(crate) headers_s: u64,
    /// How long a request may take, with its body, in seconds; default 30. Streams may take longer.
    pub(crate) request_s: u64,
    /// How long a connection may be without a request, in seconds; default 60.
    pub(crate) idle_s: u64,
    /// How long a client may leave what it is sent unread, in seconds; default 30.
    pub(crate) stall_s: u64,
    /// Where other servers of the same PostgreSQL reach this one, to pass on what is for a relay that hangs here; default: nowhere. Port 0 picks a
    /// free one. Not for anybody else: keep it inside.
    #[schema(value_type = Option<String>)]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// The `HOST:PORT` by which they reach it; default: `peer_listen`.
    pub(crate) peer_address: Option<String>,
    /// Where browsers and identity providers reach the server, e.g. `https://cairn.example.com`; default: `https://` and `listen`.
    pub(crate) public_url: Option<String>,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443),
            metrics_listen: "127.0.0.1:9464".to_owned(),
            data_dir: PathBuf::from("data"),
            names: Vec::new(),
            certificate: None,
            certificate_key: None,
            drain_s: 10,
            connections_max: 4_096,
            connections_per_address: 256,
            requests_max: 512,
            requests_per_address: 128,
            handshake_s: 10,
            headers_s: 15,
            request_s: 30,
            idle_s: 60,
            stall_s: 30,
            peer_listen: None,
            peer_address: None,
            public_url: None,
        }
    }
}

/// What the environment may set of `[server]`.
pub(super) const KEYS: &[Key] = &[
    ("listen", As::Text),
    ("metrics_listen", As::Text),
    ("data_dir", As::Text),
    ("names", As::List),
    ("certificate", As::Text),
    ("certificate_key", As::Text),
    ("drain_s", As::Bare),
    ("connections_max", As::Bare),
    ("connections_per_address", As::Bare),
    ("requests_max", As::Bare),
    ("requests_per_address", As::Bare),
    ("handshake_s", As::Bare),
    ("headers_s", As::Bare),
    ("request_s", As::Bare),
    ("idle_s", As::Bare),
    ("stall_s", As::Bare),
    ("peer_listen", As::Text),
    ("peer_address", As::Text),
    ("public_url", As::Text),
];

impl ServerSection {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.certificate.is_some() != self.certificate_key.is_some() {
            bail!("server.certificate and server.certificate_key go together: set both or neither");
        }
        if let Some(name) = self.names.iter().find(|name| !crate::names::is_valid(name)) {
            bail!("server.names holds `{}`: use DNS names and addresses, without scheme or port", name.escape_debug());
        }
        if self.connections_max == 0 {
            bail!("server.connections_max is 0: use 1 or more");
        }
        if self.requests_max == 0 {
            bail!("server.requests_max is 0: use 1 or more");
        }
        for (key, seconds) in [
            ("handshake_s", self.handshake_s),
            ("headers_s", self.headers_s),
            ("request_s", self.request_s),
            ("idle_s", self.idle_s),
            ("stall_s", self.stall_s),
        ] {
            if !(1..=3_600).contains(&seconds) {
                bail!("server.{key} is {seconds}: use 1 to 3,600 seconds");
            }
        }
        if let Some(url) = &self.public_url
            && !url
                .strip_prefix("https://")
                .is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
        {
            bail!("server.public_url is `{}`: use https://HOST or https://HOST:PORT", url.escape_debug());
        }
        if let Some(address) = &self.peer_address {
            if self.peer_listen.is_none() {
                bail!("server.peer_address is set without server.peer_listen: set both, or neither");
            }
            let parts = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if parts.is_none() || address.contains(['/', '@', ' ']) {
                bail!("server.peer_address is `{}`: use HOST:PORT", address.escape_debug());
            }
        }
        if !self.metrics_listen.is_empty() && self.metrics_listen.parse::<SocketAddr>().is_err() {
            bail!(
                "server.metrics_listen is `{}`: use ADDRESS:PORT, or nothing for off",
                self.metrics_listen.escape_debug()
            );
        }
        Ok(())
    }
}

/// `[acme]`.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AcmeSection {
    /// The directory of an ACME server, such as `https://acme-v02.api.letsencrypt.org/directory`; default: none. The certificate is
    /// ordered for the DNS names of `server.names`, each of which has to lead to this server's port 443.
    pub(crate) directory: Option<String>,
    /// Whether the ACME server's terms of service are agreed to, without which there is no account; default false.
    pub(crate) terms_agreed: bool,
    /// Mail addresses that the ACME server may write to.
    pub(crate) contact: Vec<String>,
    /// The key id that the ACME server gave for an account that exists there already (external account binding); default: none.
    pub(crate) eab_key_id: Option<String>,
    /// The file with that key in base64url, mode 0600.
    #[schema(value_type = Option<String>)]
    pub(crate) eab_key_file: Option<PathBuf>,
    /// PEM file of certificate authorities to trust when talking to the ACME server, beside the public ones.
    #[schema(value_type = Option<String>)]
    pub(crate) roots: Option<PathBuf>,
}

/// What the environment may set of `[acme]`.
pub(super) const ACME_KEYS: &[Key] = &[
    ("directory", As::Text),
    ("terms_agreed", As::Bare),
    ("contact", As::List),
    ("eab_key_id", As::Text),
    ("eab_key_file", As::Text),
    ("roots", As::Text),
];

impl AcmeSection {
    pub(super) fn check(&self, server: &ServerSection) -> anyhow::Result<()> {
        if self.eab_key_id.is_some() != self.eab_key_file.is_some() {
            bail!("acme.eab_key_id and acme.eab_key_file go together: set both or neither");
        }
        if self.directory.is_some() {
            if !self.terms_agreed {
                bail!("acme.terms_agreed is not true: read the ACME server's terms of service, then set it");
            }
            if server.certificate.is_some() {
                bail!("server.certificate and acme.directory exclude each other: unset one");
            }
            if crate::acme::orderable(&server.names).is_empty() {
                bail!("acme.directory is set, but server.names holds no DNS name to order a certificate for");
            }
        }
        Ok(())
    }
}
