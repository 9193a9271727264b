//! Configuration: one TOML file, each key also as `CAIRN_<SECTION>_<KEY>`. Read once, here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use plugins::{HostPlugin, JobConfig, Plugin as _};
use serde::Deserialize;

/// Where the configuration lies when nothing else is said.
pub(crate) const FILE: &str = "/etc/cairn-agent/agent.toml";
/// Where state lies when nothing else is said.
const STATE: &str = "/var/lib/cairn-agent";

/// The whole configuration. Unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) agent: AgentSection,
    pub(crate) host: HostSection,
}

/// `[agent]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgentSection {
    /// The server, e.g. `https://cairn.example.com:8443`; needed to enroll and to report.
    pub(crate) server: Option<String>,
    /// The listener of a relay through which the server is reached, `host:port`; default none.
    pub(crate) relay: Option<String>,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Where the identity, the spool and what was reported last are kept; default `/var/lib/cairn-agent`.
    pub(crate) state_dir: PathBuf,
    /// Seconds from one collection to the next, give or take a tenth; default 300, from 1 to 86,400.
    pub(crate) interval_s: u64,
    /// Most bytes of reports that wait for the server; the oldest go first; default 67,108,864 (64 MiB).
    pub(crate) spool_bytes_max: u64,
    /// Percent of one core that collecting may take on average: costly collectors run less often; default 0.4, from 0.01 to 100.
    pub(crate) cpu_percent_max: f64,
    /// Watch the files of `host.integrity_paths` and report a change within seconds; default true.
    pub(crate) watch: bool,
    /// Say only what is wrong; default false.
    pub(crate) quiet: bool,
}

impl Default for AgentSection {
    fn default() -> Self {
        Self {
            server: None,
            relay: None,
            ca_file: None,
            state_dir: PathBuf::from(STATE),
            interval_s: 300,
            spool_bytes_max: 64 * 1_024 * 1_024,
            cpu_percent_max: 0.4,
            watch: true,
            quiet: false,
        }
    }
}

/// `[host]`: the settings of the plugin `host`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HostSection {
    /// Where the host stands: the region of its node ids; default `local`.
    pub(crate) site: Option<String>,
    /// Which collectors to run; default all.
    pub(crate) collectors: Vec<String>,
    /// Which package managers to ask; default all.
    pub(crate) package_managers: Vec<String>,
    /// Files whose SHA-256 is watched; default: accounts, sudo, ssh, PAM and login programs.
    pub(crate) integrity_paths: Vec<String>,
}

impl HostSection {
    /// As the plugin takes it.
    pub(crate) fn settings(&self) -> JobConfig {
        let mut settings = JobConfig::new();
        if let Some(site) = &self.site {
            settings.insert("site".to_owned(), site.clone().into());
        }
        let lists = [
            ("collectors", &self.collectors),
            ("package_managers", &self.package_managers),
            ("integrity_paths", &self.integrity_paths),
        ];
        for (key, list) in lists {
            if !list.is_empty() {
                settings.insert(key.to_owned(), list.clone().into());
            }
        }
        settings
    }
}

/// What a key's value looks like in the environment.
enum Kind {
    Text,
    Number,
    Decimal,
    Flag,
    List,
}

/// Every key that the environment may set.
const KEYS: &[(&str, &str, Kind)] = &[
    ("agent", "server", Kind::Text),
    ("agent", "relay", Kind::Text),
    ("agent", "ca_file", Kind::Text),
    ("agent", "state_dir", Kind::Text),
    ("agent", "interval_s", Kind::Number),
    ("agent", "spool_bytes_max", Kind::Number),
    ("agent", "cpu_percent_max", Kind::Decimal),
    ("agent", "watch", Kind::Flag),
    ("agent", "quiet", Kind::Flag),
    ("host", "site", Kind::Text),
    ("host", "collectors", Kind::List),
    ("host", "package_managers", Kind::List),
    ("host", "integrity_paths", Kind::List),
];

/// The environment, as a function so that tests bring their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn value(name: &str, kind: &Kind, text: &str) -> anyhow::Result<toml::Value> {
    Ok(match kind {
        Kind::Text => toml::Value::String(text.to_owned()),
        Kind::Number => toml::Value::Integer(text.parse().with_context(|| format!("`{name}` is not a whole number"))?),
        Kind::Decimal => toml::Value::Float(text.parse().with_context(|| format!("`{name}` is not a number"))?),
        Kind::Flag => {
            toml::Value::Boolean(text.parse().with_context(|| format!("`{name}` is neither true nor false"))?)
        }
        Kind::List => {
            toml::Value::Array(text.split(',').map(|item| toml::Value::String(item.trim().to_owned())).collect())
        }
    })
}

/// Reads the file and the environment over it. A file that was not named may be missing.
pub(crate) fn load(file: Option<&Path>, environment: Environment<'_>) -> anyhow::Result<Config> {
    let named = file.map(Path::to_path_buf).or_else(|| environment("CAIRN_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the configuration `{}`", path.display()));
        }
    };
    let mut table: toml::Table = text.parse().with_context(|| format!("`{}` is not valid TOML", path.display()))?;
    for (section, key, kind) in KEYS {
        let name = format!("CAIRN_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = environment(&name) else { continue };
        let section = table.entry(*section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(section) = section.as_table_mut() else {
            bail!("`{name}` is set, but the file's section is no table")
        };
        section.insert((*key).to_owned(), value(&name, kind, &text)?);
    }
    let config: Config = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        anyhow::anyhow!("the configuration is not valid: {}", error.to_string().trim_end())
    })?;
    check(&config)?;
    Ok(config)
}

fn check(config: &Config) -> anyhow::Result<()> {
    let AgentSection { server, interval_s, spool_bytes_max, cpu_percent_max, .. } = &config.agent;
    if let Some(server) = server
        && !server.starts_with("https://")
    {
        bail!("agent.server is `{}`: it has to begin with `https://`", server.escape_debug());
    }
    if !(1..=86_400).contains(interval_s) {
        bail!("agent.interval_s is {interval_s}: use 1 to 86,400 seconds");
    }
    if *spool_bytes_max < 1_024 * 1_024 {
        bail!("agent.spool_bytes_max is {spool_bytes_max}: use at least 1,048,576 bytes");
    }
    if !(0.01..=100.0).contains(cpu_percent_max) {
        bail!("agent.cpu_percent_max is {cpu_percent_max}: use 0.01 to 100");
    }
    HostPlugin.check(&config.host.settings()).map_err(|error| anyhow::anyhow!("host: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), &|name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_is_over_the_file_and_the_file_over_the_defaults() {
        let text = "[agent]\ninterval_s = 60\nserver = \"https://a\"\n[host]\nsite = \"fra1\"\n";
        let config = with(text, &[("CAIRN_AGENT_SERVER", "https://b"), ("CAIRN_HOST_COLLECTORS", "machine, sudo")]);
        let config = config.unwrap();
        assert_eq!(config.agent.server.as_deref(), Some("https://b"));
        assert_eq!((config.agent.interval_s, config.agent.spool_bytes_max), (60, 64 * 1_024 * 1_024));
        assert_eq!(config.host.site.as_deref(), Some("fra1"));
        assert_eq!(config.host.collectors, ["machine", "sudo"]);
    }

    #[test]
    fn an_agent_that_is_told_nothing_collects_every_five_minutes_and_takes_little() {
        let agent = with("", &[]).unwrap().agent;
        assert_eq!((agent.interval_s, agent.cpu_percent_max.to_string()), (300, "0.4".to_owned()));
        assert_eq!((agent.spool_bytes_max, agent.watch), (64 * 1_024 * 1_024, true));
    }

    #[test]
    fn mistakes_are_told_with_what_to_change() {
        for (text, part) in [
            ("[agent]\nserver = \"http://a\"\n", "has to begin with `https://`"),
            ("[agent]\ninterval_s = 0\n", "use 1 to 86,400"),
            ("[agent]\ncpu_percent_max = 0.0\n", "use 0.01 to 100"),
            ("[agent]\nspool_bytes_max = 5\n", "at least 1,048,576"),
            ("[agent]\ninsecure = true\n", "unknown field `insecure`"),
            ("[host]\ncollectors = [\"colour\"]\n", "`colour`, which is unknown: use some of machine"),
            ("[host]\nsite = \"a:b\"\n", "without `:`"),
        ] {
            let error = format!("{:#}", with(text, &[]).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = with("", &[("CAIRN_AGENT_WATCH", "perhaps")]).unwrap_err();
        assert_eq!(error.to_string(), "`CAIRN_AGENT_WATCH` is neither true nor false");
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        assert!(load(Some(Path::new("/nonexistent/agent.toml")), &|_| None).is_err());
        assert!(load(None, &|name| (name == "CAIRN_CONFIG").then(|| "/nonexistent/agent.toml".to_owned())).is_err());
    }

    #[test]
    fn no_setting_turns_the_verification_of_certificates_off() {
        // A key that does would have to be added here, and would be seen.
        let names: Vec<String> = KEYS.iter().map(|(section, key, _)| format!("{section}.{key}")).collect();
        assert_eq!(
            names.join(" "),
            "agent.server agent.relay agent.ca_file agent.state_dir agent.interval_s agent.spool_bytes_max agent.cpu_percent_max agent.watch \
             agent.quiet host.site host.collectors host.package_managers host.integrity_paths"
        );
    }
}
