//! Configuration: one TOML file, every key also as `CAIRN_<SECTION>_<KEY>`, flags on top. Read once, here.

mod database;
mod discovery;
mod identity;
mod log;
mod schema;
mod server;
mod session;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use utoipa::ToSchema;

pub(crate) use database::{DatabaseSection, jwt_secret, surroundings};
pub(crate) use discovery::DiscoverySection;
pub(crate) use identity::IdentitySection;
pub(crate) use log::{AuditSection, ForwardKind, ForwardSection, LogSection};
pub(crate) use schema::schema;
pub(crate) use server::{AcmeSection, ServerSection};
pub(crate) use session::SessionSection;

/// The whole configuration. Unknown keys are refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) server: ServerSection,
    #[serde(default)]
    pub(crate) acme: AcmeSection,
    #[serde(default)]
    pub(crate) database: DatabaseSection,
    #[serde(default)]
    pub(crate) session: SessionSection,
    #[serde(default)]
    pub(crate) discovery: DiscoverySection,
    #[serde(default)]
    pub(crate) identity: IdentitySection,
    #[serde(default)]
    pub(crate) log: LogSection,
    #[serde(default)]
    pub(crate) audit: AuditSection,
    /// `[keys]`: what keeps the master key.
    #[serde(default)]
    pub(crate) keys: secrets::ProviderSettings,
    /// `[[secrets]]`: the stores that references name.
    #[serde(default)]
    pub(crate) secrets: Vec<secrets::Declaration>,
}

/// How a key's value is written in the environment.
#[derive(Debug, Clone, Copy)]
enum As {
    Text,
    /// Texts between commas.
    List,
    /// A number or a boolean, told by its look.
    Bare,
}

impl As {
    fn value(self, text: &str) -> toml::Value {
        let string = |text: &str| toml::Value::String(text.to_owned());
        match self {
            Self::Text => string(text),
            Self::List => toml::Value::Array(text.split(',').map(|part| string(part.trim())).collect()),
            Self::Bare => match (text.parse::<i64>(), text.parse::<bool>()) {
                (Ok(number), _) => toml::Value::Integer(number),
                (_, Ok(flag)) => toml::Value::Boolean(flag),
                _ => string(text),
            },
        }
    }
}

/// A key of a section that the environment may set.
type Key = (&'static str, As);

/// The section of the crate `secrets`.
const KEYS_KEYS: &[Key] = &[("provider", As::Text), ("master", As::Text), ("store", As::Text), ("key", As::Text)];

/// Every key that the environment may set, with its section.
fn keys() -> impl Iterator<Item = (&'static str, &'static str, As)> {
    let sections = [
        ("server", server::KEYS),
        ("acme", server::ACME_KEYS),
        ("database", database::KEYS),
        ("session", session::KEYS),
        ("discovery", discovery::KEYS),
        ("identity", identity::KEYS),
        ("log", log::KEYS),
        ("keys", KEYS_KEYS),
    ];
    sections.into_iter().flat_map(|(section, keys)| keys.iter().map(move |(key, written)| (section, *key, *written)))
}

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
    for (section, key, written) in keys() {
        let name = format!("CAIRN_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = environment(&name) else { continue };
        let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(section) = section.as_table_mut() else {
            bail!("`{name}` is set, but the file's section is not a table")
        };
        section.insert(key.to_owned(), written.value(&text));
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

fn check(config: &Config) -> anyhow::Result<()> {
    config.audit.check()?;
    config.session.check()?;
    config.discovery.check()?;
    config.server.check()?;
    config.acme.check(&config.server)?;
    if config.server.peer_listen.is_some() && config.database.url.is_none() {
        bail!(
            "server.peer_listen is set, and a database in a file has one server: unset it, or set database.url to PostgreSQL"
        );
    }
    config.log.check()
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
        for (section, key, _) in keys() {
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
}
