//! The settings of a relay: environment variables, read once, here. A value may be `file:PATH`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use domain::{Network, RelayId, Secret};
use fleet::{ClientCertificate, Tls, Trust};

use crate::cluster::ClusterSettings;
use crate::dial::Proxy;
use crate::direct::Direct;

/// The environment, as a function so that tests bring their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the operator decides.
pub(crate) struct Settings {
    /// `RELAY_SERVER`: `https://host:port`.
    pub(crate) server: String,
    /// `RELAY_NAME`: the name under which it enrolls; default the machine's.
    pub(crate) name: String,
    /// `RELAY_ID`: which relay this has to be; a start with another identity is refused.
    pub(crate) id: Option<RelayId>,
    /// `RELAY_DATA_DIR`: the folder of the identity; default `/var/lib/cairn-relay`. Nothing else is ever written.
    pub(crate) data_dir: PathBuf,
    /// `RELAY_NETWORKS`: the only networks that its tasks may connect to, between commas; default all.
    pub(crate) networks: Vec<Network>,
    /// `RELAY_TARGETS_MIB`: memory for the answers of all SSH and SNMP targets that are read at a time, in MiB, 32 to 1,048,576; default 256.
    pub(crate) targets_mib: u64,
    /// `RELAY_LISTEN`: where agents that do not reach the server connect to, `address:port`; default nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// `RELAY_LISTEN_CONNECTIONS`: connections of agents at a time; default 1,024.
    pub(crate) listen_connections: usize,
    /// `RELAY_CLUSTER_…`: the cluster that it serves; default none.
    pub(crate) cluster: Option<ClusterSettings>,
    /// `RELAY_SSH_…`: the way to hosts without the server between; default none.
    pub(crate) ssh: Option<Direct>,
    /// `RELAY_LOG`: `error`, `warn`, `info`, `debug`; default `info`.
    pub(crate) log: String,
    /// `HTTPS_PROXY`, unless `NO_PROXY` names the server.
    pub(crate) proxy: Option<Proxy>,
    /// The machine's name.
    pub(crate) host: String,
    token: Option<String>,
    authority: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
}

/// The way to hosts without the server between. A build without SSH has none, and says so.
fn ssh(environment: Environment<'_>) -> anyhow::Result<Option<Direct>> {
    let direct = Direct::read(environment, "SSH")?;
    if direct.is_some() && !cfg!(feature = "ssh") {
        bail!("RELAY_SSH_LISTEN: this build takes nobody to hosts (a FIPS build does not)");
    }
    Ok(direct)
}

fn targets_mib(environment: Environment<'_>) -> anyhow::Result<u64> {
    let Some(text) = environment("RELAY_TARGETS_MIB") else { return Ok(256) };
    let number = text.parse().ok().filter(|number| (32..=1_048_576).contains(number));
    number.context("RELAY_TARGETS_MIB is a whole number from 32 to 1,048,576")
}

impl Settings {
    /// The ports on which it listens.
    pub(crate) fn own_ports(&self) -> Vec<u16> {
        let cluster = self.cluster.as_ref().and_then(|cluster| cluster.direct.as_ref());
        let direct = [cluster, self.ssh.as_ref()].into_iter().flatten().map(Direct::port);
        self.listen.iter().map(SocketAddr::port).chain(direct).collect()
    }

    pub(crate) fn read(environment: Environment<'_>) -> anyhow::Result<Self> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let server =
            environment("RELAY_SERVER").context("set RELAY_SERVER to the server's address, `https://host:port`")?;
        let id = environment("RELAY_ID").map(|id| id.parse()).transpose();
        let networks = environment("RELAY_NETWORKS").unwrap_or_default();
        let networks = networks.split(',').map(str::trim).filter(|text| !text.is_empty());
        let listen = environment("RELAY_LISTEN").map(|text| text.parse());
        let connections = environment("RELAY_LISTEN_CONNECTIONS").map(|text| text.parse());
        let path = |name| environment(name).map(PathBuf::from);
        let certificate = match (path("RELAY_CLIENT_CERT"), path("RELAY_CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("RELAY_CLIENT_CERT and RELAY_CLIENT_KEY go together: set both or neither"),
        };
        Ok(Self {
            proxy: Proxy::of(environment, &server)?,
            server,
            name: environment("RELAY_NAME").unwrap_or_else(|| host.clone()),
            id: id.context("RELAY_ID")?,
            data_dir: path("RELAY_DATA_DIR").unwrap_or_else(|| PathBuf::from("/var/lib/cairn-relay")),
            networks: networks.map(str::parse).collect::<Result<_, _>>().context("RELAY_NETWORKS")?,
            targets_mib: targets_mib(environment)?,
            listen: listen.transpose().context("RELAY_LISTEN is `address:port`, such as `10.0.0.7:8444`")?,
            listen_connections: connections
                .transpose()
                .context("RELAY_LISTEN_CONNECTIONS is a number")?
                .unwrap_or(1_024),
            cluster: ClusterSettings::read(environment)?,
            ssh: ssh(environment)?,
            log: environment("RELAY_LOG").unwrap_or_else(|| "info".to_owned()),
            host,
            token: environment("RELAY_TOKEN"),
            authority: path("RELAY_CA_CERT"),
            certificate,
        })
    }

    /// `RELAY_TOKEN`: an enrollment token, used once.
    pub(crate) fn token(&self) -> anyhow::Result<Option<Secret>> {
        let Some(token) = &self.token else { return Ok(None) };
        match token.strip_prefix("file:") {
            None => Ok(Some(Secret::new(token.clone()))),
            Some(path) => fleet::read_token(Path::new(path)).context("RELAY_TOKEN").map(Some),
        }
    }

    /// `RELAY_CA_CERT`: the authorities to trust instead of the system's; `RELAY_CLIENT_CERT`, `RELAY_CLIENT_KEY`: for servers that ask for a
    /// certificate.
    pub(crate) fn tls(&self) -> anyhow::Result<Tls> {
        let trust = match &self.authority {
            Some(path) => Trust::of_file(path).context("RELAY_CA_CERT")?,
            None => Trust::System,
        };
        let mut tls = Tls::new(trust);
        if let Some((certificate, key)) = &self.certificate {
            let certificate =
                ClientCertificate::of_files(certificate, key).context("RELAY_CLIENT_CERT, RELAY_CLIENT_KEY")?;
            tls.certificate = Some(certificate);
        }
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::read(&move |name| owned.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let server = ("RELAY_SERVER", "https://cairn.example:8443");
        let settings = read(&[server]).unwrap();
        assert!(settings.listen.is_none(), "there is no listener unless it is asked for");
        assert!(settings.token().unwrap().is_none() && settings.networks.is_empty() && settings.proxy.is_none());
        for (pairs, expect) in [
            (&[][..], "RELAY_SERVER"),
            (&[server, ("RELAY_ID", "agt_x")], "RELAY_ID"),
            (&[server, ("RELAY_NETWORKS", "10.0.0.1/8")], "RELAY_NETWORKS"),
            (&[server, ("RELAY_CLIENT_CERT", "x.pem")], "RELAY_CLIENT_KEY"),
            (&[server, ("RELAY_LISTEN", "8444")], "RELAY_LISTEN"),
            (&[server, ("RELAY_LISTEN_CONNECTIONS", "many")], "RELAY_LISTEN_CONNECTIONS"),
            (&[server, ("RELAY_SSH_LISTEN", "127.0.0.1:0")], "RELAY_SSH_CERT"),
            (&[server, ("RELAY_SSH_CA", "ca.pem")], "RELAY_SSH_LISTEN"),
            (&[server, ("RELAY_SSH_LISTEN", "7422")], "RELAY_SSH_LISTEN is `address:port`"),
            (&[server, ("HTTPS_PROXY", "socks5://proxy")], "HTTPS_PROXY"),
        ] {
            let error = format!("{:#}", read(pairs).err().unwrap());
            assert!(error.contains(expect), "{expect}: {error}");
        }
    }
}
