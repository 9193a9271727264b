//! Configuration: one TOML file, every key also as `CAIRN_<SECTION>_<KEY>`, flags on top. Read once, here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use domain::{Clock, Secret};
use secrets::Stores;
use serde::Deserialize;

/// The whole configuration. Unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) server: ServerSection,
    pub(crate) acme: AcmeSection,
    pub(crate) database: DatabaseSection,
    pub(crate) session: SessionSection,
    pub(crate) discovery: DiscoverySection,
    pub(crate) identity: IdentitySection,
    pub(crate) log: LogSection,
    pub(crate) audit: AuditSection,
    /// `[keys]`: what keeps the master key.
    pub(crate) keys: secrets::ProviderSettings,
    /// `[[secrets]]`: the stores that references name.
    pub(crate) secrets: Vec<secrets::Declaration>,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    /// Where the API listens; default `127.0.0.1:8443`. Port 0 picks a free one.
    pub(crate) listen: SocketAddr,
    /// Where `/metrics` listens, in plain HTTP for a scraper on the same host; default `127.0.0.1:9464`, empty for off.
    pub(crate) metrics_listen: String,
    /// Where everything that is kept lies; default `data`.
    pub(crate) data_dir: PathBuf,
    /// DNS names and addresses besides `localhost`, `127.0.0.1`, `::1` and the host's name that the made certificate is good for.
    pub(crate) names: Vec<String>,
    /// PEM file of a certificate chain to use instead of a made one; read again when it changes.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of its key (PKCS #8).
    pub(crate) certificate_key: Option<PathBuf>,
    /// How long requests and tasks at work may take to end after a stop was asked for, in seconds; default 10.
    pub(crate) drain_s: u64,
    /// Connections at a time; default 4,096, or fewer where the process may not open as many files.
    pub(crate) connections_max: usize,
    /// Connections at a time from one IPv4 address or IPv6 network (/64); default 256, 0 for no limit of its own.
    pub(crate) connections_per_address: usize,
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
            handshake_s: 10,
            headers_s: 15,
            request_s: 30,
            idle_s: 60,
            stall_s: 30,
            public_url: None,
        }
    }
}

/// `[acme]`.
#[derive(Debug, Default, Deserialize)]
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
    pub(crate) eab_key_file: Option<PathBuf>,
    /// PEM file of certificate authorities to trust when talking to the ACME server, beside the public ones.
    pub(crate) roots: Option<PathBuf>,
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabaseSection {
    /// `postgres://user:password@host/database`; default: SQLite in the data directory.
    pub(crate) url: Option<String>,
    /// PostgreSQL: the password of `url`, mostly a secret reference.
    pub(crate) password: Option<String>,
    /// PostgreSQL: the role that owns the tables. Without it `url` is that role, and connections become `cairn_app`.
    pub(crate) owner_url: Option<String>,
    /// The master key's file: 32 bytes as 64 hex digits, mode 0600; default `master.key` in the data directory, made on first start.
    pub(crate) master_key_file: Option<PathBuf>,
}

/// `[session]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SessionSection {
    /// How long a session lives, in minutes; default 480 (8 h), at most 1,440.
    pub(crate) lifetime_min: u32,
    /// How long a session lives without being used, in minutes; default 60, at least 5.
    pub(crate) idle_min: u32,
    /// How long a password or a second factor counts as a fresh proof, in minutes; default 15, at most 60.
    pub(crate) step_up_min: u32,
    /// Whether everybody needs a second factor: `optional` or `required`; default `optional`.
    pub(crate) second_factor: String,
    /// The console's address as a browser shows it, e.g. `https://cairn.example.org`: what passkeys are for; default none, which turns them off.
    pub(crate) passkey_origin: String,
    /// bcrypt's cost; default 12, from 10 to 14.
    pub(crate) bcrypt_cost: u32,
    /// How passwords are stored: `bcrypt`, or `pbkdf2`, which is what a FIPS build verifies; default `bcrypt` (in a FIPS build `pbkdf2` in any case).
    /// With `pbkdf2`, a password that is stored otherwise is stored anew at its next use.
    pub(crate) password_hash: String,
}

impl Default for SessionSection {
    fn default() -> Self {
        Self {
            lifetime_min: 480,
            idle_min: 60,
            step_up_min: 15,
            second_factor: "optional".to_owned(),
            passkey_origin: String::new(),
            bcrypt_cost: 12,
            password_hash: "bcrypt".to_owned(),
        }
    }
}

/// `[discovery]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DiscoverySection {
    /// Tasks at work at a time; default 4.
    pub(crate) workers: usize,
    /// How long a worker may hold a task without a sign of life, in seconds; default 30.
    pub(crate) lease_s: u32,
    /// Discover the machine that the server runs on when it starts for the first time; default true.
    pub(crate) own_host: bool,
    /// How long one call to a target may take from connecting to its last byte, in seconds; default 30.
    pub(crate) call_timeout_s: u32,
    /// Let `endpoint_url` settings name this machine, for test doubles; default false.
    pub(crate) loopback_targets: bool,
    /// A folder of rule packs to use instead of the built-in ones; read again when a file changes.
    pub(crate) packs: Option<PathBuf>,
}

impl Default for DiscoverySection {
    fn default() -> Self {
        Self { workers: 4, lease_s: 30, call_timeout_s: 30, own_host: true, loopback_targets: false, packs: None }
    }
}

/// `[identity]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentitySection {
    /// PEM file of certificate authorities to trust for identity providers beside the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Let an identity provider be this machine, for trying one out; default false.
    pub(crate) loopback: bool,
}

/// `[log]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives by target; default `info`.
    pub(crate) level: String,
    /// `text` or `json`; default `text`.
    pub(crate) format: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "text".to_owned() }
    }
}

/// `[audit]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditSection {
    /// Where audit records are sent, each as a `[[audit.forward]]`; default nowhere.
    pub(crate) forward: Vec<ForwardSection>,
}

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardKind {
    /// RFC 5424 messages over TLS (RFC 5425).
    Syslog,
    /// Splunk's HTTP event collector.
    SplunkHec,
}

/// `[[audit.forward]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardSection {
    /// Its name: under it the database keeps how far it has come, so a new name begins at the first record.
    pub(crate) name: String,
    /// `syslog` or `splunk-hec`.
    pub(crate) kind: ForwardKind,
    /// `tls://HOST:PORT` for syslog, the collector's whole HTTPS address for Splunk.
    pub(crate) url: String,
    /// `jsonl`, `cef` or `ocsf`; default `jsonl`.
    #[serde(default = "default_format")]
    pub(crate) format: String,
    /// Slugs of tenants, `platform`, or `*` for all; default all.
    #[serde(default = "default_logs")]
    pub(crate) logs: Vec<String>,
    /// PEM file of certificate authorities to trust beside the public ones.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// Splunk: file (0600) that holds the token.
    #[serde(default)]
    pub(crate) token_file: Option<PathBuf>,
    /// Whether the destination may be this machine; default false.
    #[serde(default)]
    pub(crate) loopback: bool,
}

fn default_format() -> String {
    "jsonl".to_owned()
}

fn default_logs() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Every key that the environment may set.
const KEYS: &[(&str, &str)] = &[
    ("server", "listen"),
    ("server", "metrics_listen"),
    ("server", "data_dir"),
    ("server", "names"),
    ("server", "certificate"),
    ("server", "certificate_key"),
    ("server", "drain_s"),
    ("server", "connections_max"),
    ("server", "connections_per_address"),
    ("server", "handshake_s"),
    ("server", "headers_s"),
    ("server", "request_s"),
    ("server", "idle_s"),
    ("server", "stall_s"),
    ("acme", "directory"),
    ("acme", "terms_agreed"),
    ("acme", "contact"),
    ("acme", "eab_key_id"),
    ("acme", "eab_key_file"),
    ("acme", "roots"),
    ("server", "public_url"),
    ("database", "url"),
    ("database", "password"),
    ("database", "owner_url"),
    ("database", "master_key_file"),
    ("session", "lifetime_min"),
    ("session", "idle_min"),
    ("session", "step_up_min"),
    ("session", "second_factor"),
    ("session", "passkey_origin"),
    ("session", "bcrypt_cost"),
    ("session", "password_hash"),
    ("discovery", "workers"),
    ("discovery", "lease_s"),
    ("discovery", "call_timeout_s"),
    ("discovery", "own_host"),
    ("discovery", "loopback_targets"),
    ("discovery", "packs"),
    ("identity", "ca_file"),
    ("identity", "loopback"),
    ("log", "level"),
    ("log", "format"),
    ("keys", "provider"),
    ("keys", "master"),
    ("keys", "store"),
    ("keys", "key"),
];

/// The environment, as a function so that tests bring their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The keys of the file, if one is named, with the environment's over them; not checked.
pub(crate) fn table(file: Option<&Path>, environment: Environment<'_>) -> anyhow::Result<toml::Table> {
    let mut table = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
            text.parse::<toml::Table>().with_context(|| format!("`{}` is not valid TOML", path.display()))?
        }
        None => toml::Table::new(),
    };
    for (section, key) in KEYS {
        let name = format!("CAIRN_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = environment(&name) else { continue };
        let section = table.entry(*section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(section) = section.as_table_mut() else {
            bail!("`{name}` is set, but the file's section is not a table")
        };
        section.insert((*key).to_owned(), value(key, &text));
    }
    Ok(table)
}

/// Reads the file, if one is named, and the environment over it.
pub(crate) fn load(file: Option<&Path>, environment: Environment<'_>) -> anyhow::Result<Config> {
    let table = table(file, environment)?;
    let config: Config =
        toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| invalid(&error.to_string()))?;
    check(&config)?;
    Ok(config)
}

/// What the parser says of a wrong value quotes the value, which may be a password that was written as a number: only the rest is shown.
fn invalid(text: &str) -> anyhow::Error {
    let shown = match text.rsplit_once(", expected") {
        Some((_, rest)) if text.starts_with("invalid") => format!("a value is of the wrong type, expected{rest}"),
        _ => text.to_owned(),
    };
    anyhow::anyhow!("the configuration is not valid: {}", shown.trim_end())
}

/// A value from the environment in the type that its key has: a list is split at commas, numbers and booleans are told by their look.
fn value(key: &str, text: &str) -> toml::Value {
    match key {
        "names" | "contact" => {
            toml::Value::Array(text.split(',').map(|name| toml::Value::String(name.trim().to_owned())).collect())
        }
        "listen" | "metrics_listen" | "data_dir" | "certificate" | "certificate_key" | "url" | "owner_url"
        | "password" | "provider" | "master" | "store" | "key" | "master_key_file" | "second_factor"
        | "passkey_origin" | "public_url" | "ca_file" | "packs" | "directory" | "roots" | "eab_key_id"
        | "eab_key_file" | "level" | "format" => toml::Value::String(text.to_owned()),
        _ => match (text.parse::<i64>(), text.parse::<bool>()) {
            (Ok(number), _) => toml::Value::Integer(number),
            (_, Ok(flag)) => toml::Value::Boolean(flag),
            _ => toml::Value::String(text.to_owned()),
        },
    }
}

fn check(config: &Config) -> anyhow::Result<()> {
    for (at, forward) in config.audit.forward.iter().enumerate() {
        if forward.name.is_empty() || forward.name.len() > 64 {
            bail!("audit.forward: give each a name of 1 to 64 characters");
        }
        if config.audit.forward.iter().skip(at + 1).any(|other| other.name == forward.name) {
            bail!("audit.forward: two are named `{}`", forward.name.escape_debug());
        }
    }
    if !(10..=14).contains(&config.session.bcrypt_cost) {
        bail!("session.bcrypt_cost is {}: use 10 to 14", config.session.bcrypt_cost);
    }
    if !["bcrypt", "pbkdf2"].contains(&config.session.password_hash.as_str()) {
        bail!("session.password_hash is `{}`: use bcrypt or pbkdf2", config.session.password_hash.escape_debug());
    }
    if !(1..=1_440).contains(&config.session.lifetime_min) {
        bail!("session.lifetime_min is {}: use 1 to 1,440 minutes", config.session.lifetime_min);
    }
    if !(5..=1_440).contains(&config.session.idle_min) {
        bail!("session.idle_min is {}: use 5 to 1,440 minutes", config.session.idle_min);
    }
    if !(1..=60).contains(&config.session.step_up_min) {
        bail!("session.step_up_min is {}: use 1 to 60 minutes", config.session.step_up_min);
    }
    if !["optional", "required"].contains(&config.session.second_factor.as_str()) {
        bail!("session.second_factor is `{}`: use optional or required", config.session.second_factor.escape_debug());
    }
    let origin = &config.session.passkey_origin;
    if !origin.is_empty() && webauthn::RelyingParty::of_origin(origin).is_none() {
        bail!(
            "session.passkey_origin is `{}`: use `https://` and a domain in lower case, with the port where it is not 443, and nothing behind it",
            origin.escape_debug()
        );
    }
    if !(1..=64).contains(&config.discovery.workers) {
        bail!("discovery.workers is {}: use 1 to 64", config.discovery.workers);
    }
    if !(5..=600).contains(&config.discovery.lease_s) {
        bail!("discovery.lease_s is {}: use 5 to 600 seconds", config.discovery.lease_s);
    }
    if !(1..=600).contains(&config.discovery.call_timeout_s) {
        bail!("discovery.call_timeout_s is {}: use 1 to 600 seconds", config.discovery.call_timeout_s);
    }
    if config.server.certificate.is_some() != config.server.certificate_key.is_some() {
        bail!("server.certificate and server.certificate_key go together: set both or neither");
    }
    if let Some(name) = config.server.names.iter().find(|name| !crate::names::is_valid(name)) {
        bail!("server.names holds `{}`: use DNS names and addresses, without scheme or port", name.escape_debug());
    }
    if config.server.connections_max == 0 {
        bail!("server.connections_max is 0: use 1 or more");
    }
    for (key, seconds) in [
        ("handshake_s", config.server.handshake_s),
        ("headers_s", config.server.headers_s),
        ("request_s", config.server.request_s),
        ("idle_s", config.server.idle_s),
        ("stall_s", config.server.stall_s),
    ] {
        if !(1..=3_600).contains(&seconds) {
            bail!("server.{key} is {seconds}: use 1 to 3,600 seconds");
        }
    }
    if config.acme.eab_key_id.is_some() != config.acme.eab_key_file.is_some() {
        bail!("acme.eab_key_id and acme.eab_key_file go together: set both or neither");
    }
    if config.acme.directory.is_some() {
        if !config.acme.terms_agreed {
            bail!("acme.terms_agreed is not true: read the ACME server's terms of service, then set it");
        }
        if config.server.certificate.is_some() {
            bail!("server.certificate and acme.directory exclude each other: unset one");
        }
        if crate::acme::orderable(&config.server.names).is_empty() {
            bail!("acme.directory is set, but server.names holds no DNS name to order a certificate for");
        }
    }
    if let Some(url) = &config.server.public_url
        && !url
            .strip_prefix("https://")
            .is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
    {
        bail!("server.public_url is `{}`: use https://HOST or https://HOST:PORT", url.escape_debug());
    }
    if !["text", "json"].contains(&config.log.format.as_str()) {
        bail!("log.format is `{}`: use text or json", config.log.format.escape_debug());
    }
    if !config.server.metrics_listen.is_empty() && config.server.metrics_listen.parse::<SocketAddr>().is_err() {
        bail!(
            "server.metrics_listen is `{}`: use ADDRESS:PORT, or nothing for off",
            config.server.metrics_listen.escape_debug()
        );
    }
    Ok(())
}

/// What the stores of secrets need of the process.
pub(crate) fn surroundings(clock: &Arc<dyn Clock>) -> secrets::Surroundings {
    secrets::Surroundings { environment: Arc::new(process_environment), clock: Arc::clone(clock) }
}

/// The secret of sessions from `JWT_SECRET`, where it is set: itself, or what it refers to.
pub(crate) async fn jwt_secret(environment: Environment<'_>, stores: &Stores) -> anyhow::Result<Option<Secret>> {
    let Some(value) = environment("JWT_SECRET") else { return Ok(None) };
    let secret = stores.resolve(&value).await.context("JWT_SECRET")?;
    if secret.expose().len() < 32 {
        bail!("JWT_SECRET is shorter than 32 bytes: use `openssl rand -base64 48`, or unset it to have one made")
    }
    Ok(Some(secret))
}

impl DatabaseSection {
    /// Puts what its references mean in their place.
    pub(crate) async fn resolve(&mut self, stores: &Stores) -> anyhow::Result<()> {
        let (url, owner_url) = (self.resolved_url(stores).await?, self.resolved_owner_url(stores).await?);
        (self.url, self.owner_url, self.password) = (url, owner_url, None);
        Ok(())
    }

    /// `url` with its references resolved and its password in it; none for SQLite in the data directory.
    async fn resolved_url(&self, stores: &Stores) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.url else {
            anyhow::ensure!(self.password.is_none(), "database.password needs a database.url");
            return Ok(None);
        };
        let url = text(stores, url, "database.url").await?;
        let Some(password) = &self.password else { return Ok(Some(url)) };
        let password = text(stores, password, "database.password").await?;
        let with = || {
            let (scheme, rest) = url.split_once("://")?;
            let (user, rest) = rest.split_once('@')?;
            (!user.contains(':'))
                .then(|| format!("{scheme}://{user}:{}@{rest}", transport::aws::sigv4::encode(&password, b"")))
        };
        match with() {
            Some(url) => Ok(Some(url)),
            None => bail!("database.password needs a database.url of the form `postgres://user@host/database`"),
        }
    }

    /// `owner_url` with its reference resolved.
    async fn resolved_owner_url(&self, stores: &Stores) -> anyhow::Result<Option<String>> {
        match &self.owner_url {
            Some(url) => text(stores, url, "database.owner_url").await.map(Some),
            None => Ok(None),
        }
    }
}

async fn text(stores: &Stores, value: &str, key: &str) -> anyhow::Result<String> {
    let secret = stores.resolve_text(value).await.with_context(|| key.to_owned())?;
    Ok(secret.expose_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn defaults_are_valid() {
        let config = load(None, &none).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8443");
        assert_eq!(config.session.lifetime_min, 480);
    }

    #[test]
    fn every_key_is_in_the_operators_manual() {
        let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate.md")).unwrap();
        for (section, key) in KEYS {
            assert!(manual.contains(&format!("`{section}.{key}`")), "docs/operate.md says nothing of {section}.{key}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cairn.toml");
        std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:1\"\n[discovery]\nworkers = 2\n").unwrap();
        let environment = |name: &str| (name == "CAIRN_SERVER_LISTEN").then(|| "127.0.0.1:2".to_owned());
        let config = load(Some(&file), &environment).unwrap();
        assert_eq!((config.server.listen.port(), config.discovery.workers), (2, 2));
    }

    #[test]
    fn mistakes_say_what_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cairn.toml");
        for (text, expected) in [
            ("[server]\nlissten = \"x\"\n", "lissten"),
            ("[session]\nbcrypt_cost = 4\n", "use 10 to 14"),
            ("[session]\nidle_min = 1\n", "use 5 to 1,440"),
            ("[session]\nstep_up_min = 0\n", "use 1 to 60"),
            ("[session]\nsecond_factor = \"yes\"\n", "optional or required"),
            ("[session]\npasskey_origin = \"https://127.0.0.1\"\n", "a domain"),
            ("[server]\ncertificate = \"a.pem\"\n", "go together"),
            ("[session]\npassword_hash = \"md5\"\n", "bcrypt or pbkdf2"),
            ("[log]\nformat = \"xml\"\n", "text or json"),
            ("[server]\nnames = [\"https://a\"]\n", "without scheme or port"),
            ("[server]\nidle_s = 0\n", "1 to 3,600"),
            ("[acme]\ndirectory = \"https://a.example/dir\"\n", "terms_agreed"),
            ("[acme]\ndirectory = \"https://a.example/dir\"\nterms_agreed = true\n", "no DNS name"),
            ("[server]\npublic_url = \"https://a.example/\"\n", "https://HOST"),
            ("[server]\npublic_url = \"http://a.example\"\n", "https://HOST"),
            ("nonsense", "TOML"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", load(Some(&file), &none).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        std::fs::write(&file, "[database]\npassword = 1234567\n").unwrap();
        let error = format!("{:#}", load(Some(&file), &none).unwrap_err());
        assert!(error.contains("expected a string") && !error.contains("1234567"), "{error}");
    }

    fn stores(declarations: &str) -> Stores {
        let file: Config = toml::from_str(declarations).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(testkit::TestClock::default());
        let environment =
            |name: &str| (name == "CAIRN_TEST").then(|| "a secret of thirty-two bytes, or more".to_owned());
        Stores::declare(file.secrets, &secrets::Surroundings { environment: Arc::new(environment), clock }).unwrap()
    }

    #[tokio::test]
    async fn any_secret_value_may_be_a_reference() {
        let dir = tempfile::tempdir().unwrap();
        crate::datadir::write_private(&dir.path().join("password"), b"p@ss:word\n").unwrap();
        let stores =
            stores(&format!("[[secrets]]\nname = \"local\"\nkind = \"file\"\nsettings.path = {:?}\n", dir.path()));
        let jwt = jwt_secret(&|_| Some("env:CAIRN_TEST".to_owned()), &stores).await.unwrap().unwrap();
        assert_eq!(jwt.expose_str(), Some("a secret of thirty-two bytes, or more"));
        let short = jwt_secret(&|_| Some("short".to_owned()), &stores).await.unwrap_err();
        assert!(short.to_string().contains("32 bytes"));
        let missing = format!("{:#}", jwt_secret(&|_| Some("env:NOT_SET".to_owned()), &stores).await.unwrap_err());
        assert!(
            missing.contains("JWT_SECRET") && missing.contains("`env`") && missing.contains("NOT_SET"),
            "{missing}"
        );
        let mut database = DatabaseSection { url: Some("postgres://cairn@db/cairn".to_owned()), ..Default::default() };
        assert_eq!(database.resolved_url(&stores).await.unwrap().unwrap(), "postgres://cairn@db/cairn");
        database.password = Some("local:password".to_owned());
        assert_eq!(database.resolved_url(&stores).await.unwrap().unwrap(), "postgres://cairn:p%40ss%3Aword@db/cairn");
        database.url = Some("postgres://cairn:other@db/cairn".to_owned());
        assert!(database.resolved_url(&stores).await.is_err());
    }
}
