//! Configuration: one TOML file, every key also as `CAIRN_<SECTION>_<KEY>`, flags on top. Read once, here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use domain::Secret;
use serde::Deserialize;

/// The whole configuration. Unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) server: ServerSection,
    pub(crate) database: DatabaseSection,
    pub(crate) session: SessionSection,
    pub(crate) discovery: DiscoverySection,
    pub(crate) log: LogSection,
}

/// `[server]`.
#[derive(Debug, Deserialize)]
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
    /// PEM file of a certificate chain to use instead of a made one.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of its key (PKCS #8).
    pub(crate) certificate_key: Option<PathBuf>,
    /// How long requests and tasks at work may take to end after a stop was asked for, in seconds; default 10.
    pub(crate) drain_s: u64,
    /// Connections at a time; default 1,024.
    pub(crate) connections_max: usize,
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
            connections_max: 1_024,
        }
    }
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabaseSection {
    /// `postgres://user:password@host/database`; default: SQLite in the data directory.
    pub(crate) url: Option<String>,
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
    /// Let `endpoint_url` settings name this machine, for test doubles; default false.
    pub(crate) loopback_targets: bool,
    /// A folder of rule packs to use instead of the built-in ones; read again when a file changes.
    pub(crate) packs: Option<PathBuf>,
}

impl Default for DiscoverySection {
    fn default() -> Self {
        Self { workers: 4, lease_s: 30, own_host: true, loopback_targets: false, packs: None }
    }
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
    ("database", "url"),
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
    ("discovery", "own_host"),
    ("discovery", "loopback_targets"),
    ("discovery", "packs"),
    ("log", "level"),
    ("log", "format"),
];

/// The environment, as a function so that tests bring their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads the file, if one is named, and the environment over it.
pub(crate) fn load(file: Option<&Path>, environment: Environment<'_>) -> anyhow::Result<Config> {
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
    let config: Config = toml::Value::Table(table).try_into().context("the configuration is not valid")?;
    check(&config)?;
    Ok(config)
}

/// A value from the environment in the type that its key has: a list is split at commas, numbers and booleans are told by their look.
fn value(key: &str, text: &str) -> toml::Value {
    match key {
        "names" => {
            toml::Value::Array(text.split(',').map(|name| toml::Value::String(name.trim().to_owned())).collect())
        }
        "listen" | "metrics_listen" | "data_dir" | "certificate" | "certificate_key" | "url" | "owner_url"
        | "master_key_file" | "second_factor" | "passkey_origin" | "packs" | "level" | "format" => {
            toml::Value::String(text.to_owned())
        }
        _ => match (text.parse::<i64>(), text.parse::<bool>()) {
            (Ok(number), _) => toml::Value::Integer(number),
            (_, Ok(flag)) => toml::Value::Boolean(flag),
            _ => toml::Value::String(text.to_owned()),
        },
    }
}

fn check(config: &Config) -> anyhow::Result<()> {
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
    if config.server.certificate.is_some() != config.server.certificate_key.is_some() {
        bail!("server.certificate and server.certificate_key go together: set both or neither");
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

/// The secret of sessions from `JWT_SECRET`, where it is set.
pub(crate) fn jwt_secret(environment: Environment<'_>) -> anyhow::Result<Option<Secret>> {
    match environment("JWT_SECRET") {
        None => Ok(None),
        Some(text) if text.len() < 32 => {
            bail!("JWT_SECRET is shorter than 32 bytes: use `openssl rand -base64 48`, or unset it to have one made")
        }
        Some(text) => Ok(Some(Secret::new(text.into_bytes()))),
    }
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
            ("nonsense", "TOML"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", load(Some(&file), &none).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(jwt_secret(&|_| Some("short".to_owned())).unwrap_err().to_string().contains("32 bytes"));
    }
}
