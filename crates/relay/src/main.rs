//! `cairn-relay`: runs a server's tasks in a network that the server does not reach. It dials out and needs no port of its own, but for agents that
//! do not reach the server.
//!
//! **Not for** deciding what is discovered or keeping what was seen: the server does both.
//!
//! Invariants:
//! - a credential comes sealed to this process, is opened for one task, and is wiped with it; it is never written anywhere;
//! - nothing is written but the identity, into its folder;
//! - the server's certificate is always verified;
//! - none of its tasks ends unseen: where one breaks off, it stops, to be started again.

mod allocator;
mod certificate;
mod cluster;
mod config;
mod dial;
mod direct;
mod door;
mod host_keys;
#[cfg(feature = "ssh")]
mod hosts;
mod link;
mod listen;
mod log;
mod recording;
mod sink;
mod standing;
mod task;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use clap::Parser;
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, FleetId, FleetKind, Rng};
use fleet::{Client, Connection, Enrolling, Folder, Identity};
use gateway::Tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Settings, process_environment};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version, and in a FIPS build the module that does the cryptography.
const SHOWN: &str = if crypto::fips::is_fips_build() {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS build: AWS-LC-FIPS)")
} else {
    VERSION
};
const PROGRAM: &str = concat!("cairn-relay/", env!("CARGO_PKG_VERSION"));

/// Runs a server's tasks in a network that the server does not reach.
///
/// Settings come from the environment: RELAY_SERVER, RELAY_TOKEN (at the first start), RELAY_NAME, RELAY_ID, RELAY_DATA_DIR, RELAY_CA_CERT,
/// RELAY_CLIENT_CERT, RELAY_CLIENT_KEY, RELAY_NETWORKS, RELAY_LISTEN, RELAY_LISTEN_CONNECTIONS, RELAY_LOG, HTTPS_PROXY, NO_PROXY; for a
/// Kubernetes cluster RELAY_CLUSTER_NAME, RELAY_CLUSTER_API, RELAY_CLUSTER_ACCOUNT_DIR, RELAY_CLUSTER_ROLES,
/// RELAY_CLUSTER_NAMESPACE_ROLES, RELAY_CLUSTER_GROUPS,
/// RELAY_CLUSTER_BINDINGS, RELAY_CLUSTER_ACT_AS, RELAY_CLUSTER_ACT_AS_GROUPS, and to be reached without the server RELAY_CLUSTER_LISTEN, RELAY_CLUSTER_ADDRESS, RELAY_CLUSTER_CERT, RELAY_CLUSTER_KEY, RELAY_CLUSTER_CA; for users who come to hosts
/// without the server between RELAY_SSH_LISTEN, RELAY_SSH_ADDRESS, RELAY_SSH_CERT, RELAY_SSH_KEY, RELAY_SSH_CA.
#[derive(Debug, Parser)]
#[command(name = "cairn-relay", version = SHOWN)]
struct Arguments {}

fn main() -> std::process::ExitCode {
    allocator::tune(&process_environment);
    let _arguments = Arguments::parse();
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "what an operator must see at the terminal, also when logs go elsewhere")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn run() -> anyhow::Result<()> {
    crypto::system::keep_memory_private().context("core dumps cannot be turned off")?;
    crypto::fips::self_test()?;
    crypto::tls::install();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let settings = Settings::read(&process_environment)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = log::start(&settings.log, &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(settings, log, clock))
}

/// Opens the identity of the folder, or enrolls where there is none yet.
async fn identity(
    settings: &Settings,
    connection: &Connection,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<Identity> {
    let folder = Folder::open(&settings.data_dir)?;
    let identity = if Identity::is_in(&folder)? {
        Identity::open(folder, Arc::clone(clock), Arc::clone(rng))?
    } else {
        let token = settings.token()?.with_context(|| {
            format!(
                "`{}` holds no identity: set RELAY_TOKEN to an enrollment token (`cairn relays tokens create`)",
                settings.data_dir.display()
            )
        })?;
        let who = Enrolling { kind: FleetKind::Relay, name: &settings.name, version: VERSION };
        connection.enroll(folder, &token, who, Arc::clone(clock), Arc::clone(rng)).await?
    };
    let FleetId::Relay(id) = identity.id() else {
        anyhow::bail!(
            "`{}` holds the identity of an agent: give the relay a folder of its own",
            settings.data_dir.display()
        )
    };
    if let Some(expected) = settings.id
        && expected != id
    {
        anyhow::bail!("RELAY_ID is `{expected}`, and `{}` holds the identity of `{id}`", settings.data_dir.display());
    }
    Ok(identity)
}

async fn serve(mut settings: Settings, log: log::Log, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let tls = settings.tls()?;
    let connection = Connection::new(&settings.server, &tls, PROGRAM)?;
    let identity = Arc::new(identity(&settings, &connection, &clock, &rng).await?);
    say(&format!("  Relay:   {}\n  Server:  {}\n", identity.id(), connection.server()));
    // Tokens and certificates are judged by the clock of who signs them.
    let clock: Arc<dyn Clock> = Arc::clone(&identity) as Arc<dyn Clock>;
    let client = Client::new(connection, identity);
    let tasks = Tasks::default();
    let (stop, ended) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let recordings = recording::Recordings::new(client.clone(), Arc::clone(&clock), Arc::clone(&rng));
    let own_ports = settings.own_ports();
    let service = match settings.cluster.take() {
        Some(cluster) => Some(cluster::Service::open(cluster, client.clone(), recordings.clone(), &clock, &rng).await?),
        None => None,
    };
    let doors = door::Doors {
        cluster: service.as_ref().map(|service| service.door(&stop)),
        #[cfg(feature = "ssh")]
        hosts: hosts::Hosts::new(client.clone(), &settings, own_ports.clone(), recordings.clone(), &stop, &clock, &rng),
    };
    #[cfg(feature = "ssh")]
    let hosts = doors.hosts.clone();
    #[cfg(feature = "ssh")]
    let (looking, taking) = {
        let listener = hosts.open_direct(settings.ssh.take()).await?;
        let looking = tasks.spawn("hosts", hosts.clone().look_after());
        (looking, listener.map(|it| tasks.spawn("the way in to hosts", hosts.clone().listen(it))))
    };
    let worker = Arc::new(task::Worker::new(&settings, log, doors, own_ports, &clock, &rng)?);
    let listener = listen::Listener::bind(&settings, Arc::clone(&ended)).await?;
    let listening = listener.map(|listener| tasks.spawn("the listener for agents", listener.run(stop.clone())));
    let serving = service.map(|service| tasks.spawn("the access proxy", service.run(tasks.clone(), stop.clone())));
    let linked = link::Link::new(&settings, client, &tls, worker, Arc::clone(&rng), ended)?;
    let linking = tasks.spawn("the link to the server", linked.run(tasks.clone(), stop.clone()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tasks.broken() => {}
    }
    tracing::info!("stopping: the server gives the tasks at work to somebody else");
    stop.cancel();
    if let Some(listening) = listening {
        listening.await.context("the listener for agents ended badly")?;
    }
    if let Some(serving) = serving {
        serving.await.context("the access proxy ended badly")?;
    }
    #[cfg(feature = "ssh")]
    {
        if let Some(taking) = taking {
            taking.await.context("the way in to hosts ended badly")?;
        }
        hosts.wait_told().await;
        looking.abort();
    }
    recordings.wait_told().await;
    linking.await.context("the link ended badly")?;
    Ok(tasks.check()?)
}
