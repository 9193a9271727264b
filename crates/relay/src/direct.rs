//! The way in without the server, to the cluster or to hosts: where it listens, with which certificate, and how users find it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::Timestamp;
use gateway::kubernetes::{Listener, PER_ADDRESS, STALL};
use tokio::net::TcpListener;

use crate::certificate::Certificate;
use crate::config::Environment;

/// What the operator says of it, as `RELAY_CLUSTER_…` and `RELAY_SSH_…`.
#[derive(Debug)]
pub(crate) struct Direct {
    /// `CLUSTER` or `SSH`.
    of: &'static str,
    /// `RELAY_CLUSTER_LISTEN`, `RELAY_SSH_LISTEN`: where users connect to, `address:port`.
    listen: SocketAddr,
    /// `RELAY_CLUSTER_ADDRESS`, `RELAY_SSH_ADDRESS`: how they reach it, `host:port`; without a port the one that is listened on.
    address: String,
    /// `RELAY_CLUSTER_CERT` and `RELAY_CLUSTER_KEY`, `RELAY_SSH_CERT` and `RELAY_SSH_KEY`: its certificate with the chain, and the key, in PEM; read again when they change.
    certificate: PathBuf,
    key: PathBuf,
    /// `RELAY_CLUSTER_CA`, `RELAY_SSH_CA`: the authority that users are told to trust, in PEM; default those of their systems.
    authority: Option<PathBuf>,
}

impl Direct {
    /// What the environment says; none: there is no such way.
    pub(crate) fn read(environment: Environment<'_>, of: &'static str) -> anyhow::Result<Option<Self>> {
        let said = |name: &str| environment(&format!("RELAY_{of}_{name}"));
        let listen = said("LISTEN").map(|text| text.parse()).transpose();
        let listen = listen.with_context(|| format!("RELAY_{of}_LISTEN is `address:port`, such as `0.0.0.0:6443`"))?;
        match (listen, said("ADDRESS"), said("CERT"), said("KEY")) {
            (None, None, None, None) if said("CA").is_none() => Ok(None),
            (Some(listen), Some(address), Some(certificate), Some(key)) => Ok(Some(Self {
                of,
                listen,
                address,
                certificate: certificate.into(),
                key: key.into(),
                authority: said("CA").map(PathBuf::from),
            })),
            _ => bail!(
                "RELAY_{of}_LISTEN, RELAY_{of}_ADDRESS, RELAY_{of}_CERT and RELAY_{of}_KEY go together: set all of them, or none (with RELAY_{of}_CA) to be \
                 reached through the server only"
            ),
        }
    }

    /// The port that it is to listen on.
    pub(crate) fn port(&self) -> u16 {
        self.listen.port()
    }

    /// How long a user may not take what is sent to them: a program in a cluster is gone then, a person at a terminal may have stopped it.
    fn stall(&self) -> Duration {
        if self.of == "SSH" { Duration::from_mins(15) } else { STALL }
    }

    /// How many connections one address may have: SSH hosts are reached by people, a cluster also by programs.
    fn per_address(&self) -> usize {
        if self.of == "SSH" { PER_ADDRESS / 4 } else { PER_ADDRESS }
    }

    /// Listens; with what users are told of it.
    pub(crate) async fn open(&self) -> anyhow::Result<(Listener, Way)> {
        let certificate = Arc::new(Certificate::open(self.of, self.certificate.clone(), self.key.clone())?);
        let socket = TcpListener::bind(self.listen).await.with_context(|| {
            format!("cannot listen on `{}`: set RELAY_{}_LISTEN to another address", self.listen, self.of)
        })?;
        let own = socket.local_addr()?;
        let has_port = self.address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { self.address.clone() } else { format!("{}:{}", self.address, own.port()) };
        tracing::info!(address = %own, way = self.of, "the way in without the server is open");
        let way =
            Way { of: self.of, address, authority: self.authority.clone(), certificate: Arc::clone(&certificate) };
        let tls = Box::new(move || certificate.now());
        Ok((Listener { socket, tls, stall: self.stall(), per_address: self.per_address() }, way))
    }
}

/// How users come in without the server.
pub(crate) struct Way {
    of: &'static str,
    address: String,
    authority: Option<PathBuf>,
    certificate: Arc<Certificate>,
}

impl Way {
    /// When its certificate ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.certificate.ends()
    }

    /// Its address, and the authority that users are told to trust, in PEM (empty: those of their systems). None while no user would take its
    /// certificate: they are not sent where they would be stopped.
    pub(crate) fn told(&self, now: Timestamp) -> anyhow::Result<Option<(String, String)>> {
        if !self.certificate.is_good(now) {
            return Ok(None);
        }
        let authority = match &self.authority {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("RELAY_{}_CA", self.of))?,
            None => String::new(),
        };
        Ok(Some((self.address.clone(), authority)))
    }
}
