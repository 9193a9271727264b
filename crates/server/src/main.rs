//! `cairn-server`: the HTTPS API, the job runner and the compliance engine in one process.
//!
//! **Not for** anything but configuration, wiring and shutdown: the work is in the crates below.
//!
//! Invariants:
//! - a start that cannot be completed changes nothing that exists;
//! - a stop loses nothing: requests drain, and tasks that are cut off are taken up again by the next start.

mod allocator;
mod bootstrap;
mod catalog;
mod config;
mod datadir;
mod evaluate;
mod fips;
mod listen;
mod logs;
mod reach;
mod redact;
mod runner;
mod sign;
mod sink;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng, Secret};
use store::{OpenOptions, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, process_environment};
use crate::datadir::DataDir;

/// The version, and in a FIPS build the module that does the cryptography.
const VERSION: &str = if crypto::fips::is_fips_build() {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS build: AWS-LC-FIPS)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Finds what a company runs and proves with signed evidence whether it is compliant.
#[derive(Debug, Parser)]
#[command(name = "cairn-server", version = VERSION)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything that is kept lies [default: data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8443]; port 0 picks a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Write the port that is listened on to this file.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// On the first start, take the first administrator's password from this file (0600) instead of printing one.
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// About the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and the rule packs without starting.
    Check,
}

fn main() -> std::process::ExitCode {
    allocator::tune(&process_environment);
    let arguments = Arguments::parse();
    match run(arguments) {
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

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before any key is made or used; libraries that ask for a default get the same provider.
    crypto::fips::self_test()?;
    crypto::tls::install();
    // Everything that the server makes is for its owner only, also what libraries make (the database's files).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut config = config::load(arguments.config.as_deref(), &process_environment)?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    }
    if let Some(data_dir) = &arguments.data_dir {
        config.server.data_dir.clone_from(data_dir);
    }
    if let Some(Command::Config { command: ConfigCommand::Check }) = arguments.command {
        config::jwt_secret(&process_environment)?;
        catalog::Installed::load(runner::plugins()?, config.discovery.packs.clone())?;
        say("the configuration is valid");
        return Ok(());
    }
    logs::start(&config.log)?;
    // Two threads serve; collecting and hashing run on the blocking pool.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config, arguments))
}

/// Ctrl-C and SIGTERM, listened for from the beginning: one that comes while the server starts is not lost and does not kill it.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn open_store(
    config: &Config,
    data: &DataDir,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<Store> {
    let file = data.join("cairn.db");
    let key_file = config.database.master_key_file.clone().unwrap_or_else(|| data.join("master.key"));
    let (url, may_make) = match &config.database.url {
        Some(url) => (url.clone(), true),
        None => (format!("sqlite:{}", file.display()), !file.exists()),
    };
    for url in [Some(&url), config.database.owner_url.as_ref()].into_iter().flatten() {
        fips::check_database(crypto::fips::is_fips_build(), url, process_environment("PGPASSWORD").is_some())?;
    }
    let master = datadir::master_key(&key_file, may_make, &**rng)?;
    let options = OpenOptions {
        url,
        owner_url: config.database.owner_url.clone(),
        master,
        blobs: data.join("blobs"),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
    };
    Ok(Store::open(options).await?)
}

async fn jwt_secret(store: &Store) -> anyhow::Result<Secret> {
    if let Some(secret) = config::jwt_secret(&process_environment)? {
        return Ok(secret);
    }
    let rng = Arc::clone(store.rng());
    let make = move || {
        let mut bytes = [0u8; 48];
        rng.fill(&mut bytes);
        Ok(Secret::new(bytes.to_vec()))
    };
    Ok(store.installation_secret("jwt_secret", make).await?)
}

async fn serve(config: Config, arguments: Arguments) -> anyhow::Result<()> {
    let mut stop_signals = StopSignals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let data = DataDir::open(&config.server.data_dir)?;
    let tls = tls::load(&config.server, &data)?;
    let installed = Arc::new(catalog::Installed::load(runner::plugins()?, config.discovery.packs.clone())?);
    let listener = listen::bind(config.server.listen, "server.listen").await?;
    let store = open_store(&config, &data, &clock, &rng).await?;
    let address = listener.local_addr()?;
    let signer = sign::Signer::open(&store, &data).await?;
    let installation = store.installation_id().await?;
    if !store.has_users().await? {
        let password_file = arguments.admin_password_file.as_deref();
        let (cost, own_host) = (config.session.bcrypt_cost, config.discovery.own_host);
        if let Some(password) = bootstrap::first_start(&store, &clock, &rng, password_file, cost, own_host).await? {
            say(&format!(
                "\n  First administrator:  {}\n  One-time password:    {password}\n  (shown once; you choose your own at the first login)\n",
                bootstrap::ADMIN
            ));
        }
    }
    say(&format!("  Listening on:         https://{address}\n  Certificate SHA-256:  {}\n", tls.fingerprint));

    let stop = CancellationToken::new();
    let (draining, draining_seen) = tokio::sync::watch::channel(false);
    let evaluator = Arc::new(evaluate::Evaluator::new(store.clone(), Arc::clone(&installed), Arc::clone(&signer)));
    let settings = api::Settings {
        installation,
        session_ms: i64::from(config.session.lifetime_min) * 60_000,
        idle_ms: i64::from(config.session.idle_min) * 60_000,
        step_up_ms: i64::from(config.session.step_up_min) * 60_000,
        second_factor_required: config.session.second_factor == "required",
        relying_party: webauthn::RelyingParty::of_origin(&config.session.passkey_origin),
        bcrypt_cost: config.session.bcrypt_cost,
        pbkdf2: config.session.password_hash == "pbkdf2",
        ..api::Settings::default()
    };
    let state = api::ApiState::new(
        store.clone(),
        settings,
        jwt_secret(&store).await?,
        signer.public(),
        Arc::clone(&installed) as Arc<dyn api::ports::Catalog>,
        Arc::clone(&evaluator) as Arc<dyn api::ports::Evaluate>,
        Arc::new(sign::Exporter::new(store.clone(), Arc::clone(&signer), Arc::clone(&installed))),
        draining_seen,
    );
    let metrics = metrics(&config, &stop).await?;
    let runner =
        runner::Runner::new(store.clone(), Arc::clone(&installed), evaluator, signer, &config.discovery, &clock, &rng);
    let working = tokio::spawn(Arc::new(runner).run(stop.clone()));
    let watching = tokio::spawn(Arc::clone(&installed).watch(stop.clone()));
    let drain = Duration::from_secs(config.server.drain_s);
    let serving = tokio::spawn(listen::serve(
        listener,
        Some(tls.config),
        api::router(state),
        config.server.connections_max,
        stop.clone(),
        drain,
    ));
    if let Some(file) = &arguments.port_file {
        datadir::write_private(file, format!("{}\n", address.port()).as_bytes())?;
    }
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "ready");

    stop_signals.wait().await;
    tracing::info!("stopping: requests and tasks at work may end");
    let _ = draining.send(true);
    stop.cancel();
    let _ = serving.await;
    let _ = tokio::time::timeout(drain, working).await;
    let _ = watching.await;
    if let Some(metrics) = metrics {
        let _ = metrics.await;
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// `/metrics` on its own listener, so that it can be kept inside.
async fn metrics(config: &Config, stop: &CancellationToken) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    if config.server.metrics_listen.is_empty() {
        return Ok(None);
    }
    let address = config.server.metrics_listen.parse().context("server.metrics_listen")?;
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let recorder = builder.set_buckets(&[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics were started twice"))?;
    let listener = match listen::bind(address, "server.metrics_listen").await {
        Ok(listener) => listener,
        // A second installation on one machine should not fail for want of a port that nobody asked for.
        Err(error) if config.server.metrics_listen == config::ServerSection::default().metrics_listen => {
            tracing::warn!(error = format!("{error:#}"), "no metrics");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (upkeep, ending) = (handle.clone(), stop.clone());
    tokio::spawn(async move {
        // Samples pile up until they are folded into their buckets, also when nobody scrapes.
        while !ending.is_cancelled() {
            upkeep.run_upkeep();
            tokio::select! {
                () = ending.cancelled() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    });
    let router = axum::Router::new().route("/metrics", axum::routing::get(move || std::future::ready(handle.render())));
    let stop = stop.clone();
    Ok(Some(tokio::spawn(listen::serve(listener, None, router, 64, stop, Duration::from_secs(1)))))
}
