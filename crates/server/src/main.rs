//! `cairn-server`: the HTTPS API, the job runner and the compliance engine in one process.
//!
//! **Not for** anything but configuration, wiring and shutdown: the work is in the crates below.
//!
//! Invariants:
//! - a start that cannot be completed changes nothing that exists;
//! - a stop loses nothing: requests drain, and tasks that are cut off are taken up again by the next start.

mod acme;
mod allocator;
mod authority;
mod backup;
mod bootstrap;
mod catalog;
mod certificate;
mod config;
mod datadir;
mod doctor;
mod evaluate;
mod fips;
mod forward;
mod identity;
mod keys;
mod listen;
mod log_signer;
mod logs;
mod names;
mod posture;
mod reach;
mod redact;
mod runner;
mod sign;
mod sink;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng, Secret};
use secrets::Stores;
use store::{OpenOptions, Store, VaultOptions};
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
    /// Take a database that is older than this data directory has seen, as after restoring a backup on purpose; the audit log says so.
    #[arg(long)]
    accept_vault_rollback: bool,
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
    /// Write everything but the master key into one encrypted file, while the server works.
    Backup(backup::BackupArguments),
    /// Make an empty data directory and an empty database what a backup says.
    Restore(backup::RestoreArguments),
    /// Look at everything that a server needs, and change nothing. Exit code 1 when something failed.
    Doctor {
        /// How the result is written.
        #[arg(short, long, value_enum, default_value = "table")]
        output: doctor::Format,
    },
    /// About the keys that seal and sign, while the server is stopped.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Replace keys: the data keys unless an option names others.
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
#[group(multiple = true)]
struct Rotate {
    /// The installation's master key.
    #[arg(long)]
    master: bool,
    /// With `--master`, where the new master key is read from (a secret reference), when `keys.master` is one.
    #[arg(long, value_name = "REFERENCE", requires = "master")]
    to: Option<String>,
    /// The data keys of the platform and of every tenant.
    #[arg(long)]
    data: bool,
    /// The data key of one tenant.
    #[arg(long, value_name = "TENANT-ID", conflicts_with = "data")]
    tenant: Option<domain::TenantId>,
    /// The key that signs evidence.
    #[arg(long)]
    evidence: bool,
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
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
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

fn configure(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = config::load(arguments.config.as_deref(), &process_environment)?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    }
    if let Some(data_dir) = &arguments.data_dir {
        config.server.data_dir.clone_from(data_dir);
    }
    Ok(config)
}

/// Resolves what the configuration refers to, and refuses what would be unsafe.
async fn settle(config: &mut Config, file: Option<&Path>) -> anyhow::Result<Stores> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = Stores::declare(std::mem::take(&mut config.secrets), &config::surroundings(&clock))?;
    let jwt_secret = config::jwt_secret(&process_environment, &stores).await?;
    posture::check(config, file, jwt_secret.as_ref())?;
    config.database.resolve(&stores).await?;
    Ok(stores)
}

/// False: what was asked about is not as it should be, and has been told.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    // Before any key is made or used; libraries that ask for a default get the same provider.
    crypto::fips::self_test()?;
    crypto::tls::install();
    // Everything that the server makes is for its owner only, also what libraries make (the database's files).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let file = arguments.config.as_deref();
    // Two threads serve; collecting and hashing run on the blocking pool.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let settled = configure(&arguments).and_then(|mut config| {
        let stores = runtime.block_on(settle(&mut config, file))?;
        Ok((config, stores))
    });
    if let Some(Command::Doctor { output }) = arguments.command {
        let report = match &settled {
            Ok((config, stores)) => runtime.block_on(doctor::examine(config, stores, &SystemClock)),
            Err(error) => doctor::Report::unreadable(error),
        };
        report.write(output)?;
        return Ok(report.is_ok());
    }
    let (config, stores) = settled?;
    if let Some(Command::Config { command: ConfigCommand::Check }) = arguments.command {
        secrets::KeyProvider::of(&config.keys, &stores)?;
        catalog::Installed::load(runner::plugins()?, config.discovery.packs.clone())?;
        for section in &config.audit.forward {
            forward::Forward::open(section, "localhost")?;
        }
        say("the configuration is valid");
        return Ok(true);
    }
    match &arguments.command {
        Some(Command::Backup(backup)) => {
            return runtime.block_on(backup::create(&config, &stores, file, backup)).map(|()| true);
        }
        Some(Command::Restore(restore)) => {
            return runtime.block_on(backup::restore(&config, &stores, restore)).map(|()| true);
        }
        _ => {}
    }
    logs::start(&config.log)?;
    match arguments.command {
        Some(Command::Keys { command: KeysCommand::Rotate(what) }) => runtime.block_on(rotate(&config, &stores, what)),
        _ => runtime.block_on(serve(config, stores, arguments)),
    }
    .map(|()| true)
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

/// The store and where its master key comes from.
async fn open_store(
    config: &Config,
    data: &DataDir,
    stores: &Stores,
    accept_rollback: bool,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<(Store, keys::Source)> {
    let file = data.join(datadir::DATABASE);
    let (url, exists) = match &config.database.url {
        Some(url) => (url.clone(), true),
        None => (format!("sqlite:{}", file.display()), file.exists()),
    };
    for url in [Some(&url), config.database.owner_url.as_ref()].into_iter().flatten() {
        fips::check_database(crypto::fips::is_fips_build(), url, process_environment("PGPASSWORD").is_some())?;
    }
    let source = keys::Source::of(config, data.path(), stores)?;
    let master = source.open(stores, &url, exists, &**rng).await?;
    let vault = VaultOptions { witness: Some(data.join(datadir::WITNESS)), accept_rollback, ..VaultOptions::default() };
    let options = OpenOptions {
        url,
        owner_url: config.database.owner_url.clone(),
        master,
        vault,
        blobs: data.join(datadir::BLOBS),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
    };
    Ok((Store::open(options).await?, source))
}

/// `keys rotate`: the data directory's lock says that no server runs on it meanwhile.
async fn rotate(config: &Config, stores: &Stores, what: Rotate) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let data = DataDir::open(&config.server.data_dir)?;
    anyhow::ensure!(
        config.database.url.is_some() || data.join(datadir::DATABASE).exists(),
        "there is no database in `{}` yet: start the server once first",
        config.server.data_dir.display()
    );
    let (store, source) = open_store(config, &data, stores, false, &clock, &rng).await?;
    let ctx = OpCtx::system_platform("keys", Arc::clone(&clock), Arc::clone(&rng));
    if what.master {
        source.rotate(&store, stores, what.to.as_deref(), &ctx).await?;
        say("the master key was replaced: every data key is sealed with the new one");
    }
    if what.evidence {
        let key = store
            .write_platform(ctx.authorize_platform::<ops::SigningKeyRotate>()?)
            .await?
            .signing_key_rotate(sign::EVIDENCE)
            .await?;
        say(&format!("evidence is signed with the key {} from now on", key.fingerprint()));
    }
    if what.data || what.tenant.is_some() || !(what.master || what.evidence) {
        let of = what.tenant.map_or(store::RotationOf::All, store::RotationOf::Tenant);
        let unit = store.write_platform(ctx.authorize_platform::<ops::DataKeyRotate>()?).await?;
        let keys = unit.data_key_rotate(of).await?;
        let values = keys::Resealer::new(&store).run_once().await?;
        say(&format!("{keys} data keys were replaced, {values} values sealed anew"));
    }
    store.close().await;
    Ok(())
}

async fn jwt_secret(store: &Store, stores: &Stores) -> anyhow::Result<Secret> {
    if let Some(secret) = config::jwt_secret(&process_environment, stores).await? {
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

async fn serve(config: Config, stores: Stores, arguments: Arguments) -> anyhow::Result<()> {
    let mut stop_signals = StopSignals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let data = Arc::new(DataDir::open(&config.server.data_dir)?);
    let certificates = certificate::Certificates::open(&config.server, Arc::clone(&data), Arc::clone(&clock))?;
    let acme = acme::Acme::open(&config, Arc::clone(&data), Arc::clone(&certificates), Arc::clone(&clock))?;
    let tls = tls::server_config(Arc::clone(&certificates), acme.is_some())?;
    let installed = Arc::new(catalog::Installed::load(runner::plugins()?, config.discovery.packs.clone())?);
    let listener = listen::bind(config.server.listen, "server.listen").await?;
    let stores = Arc::new(stores);
    let (store, _) = open_store(&config, &data, &stores, arguments.accept_vault_rollback, &clock, &rng).await?;
    let address = listener.local_addr()?;
    backup::accept_restored(&store, &clock, &rng).await?;
    let signer = sign::Signer::open(&store, &data).await?;
    let forwards = config.audit.forward.iter().map(|section| forward::Forward::open(section, signer.host()));
    let forwards = forwards.collect::<anyhow::Result<Vec<_>>>()?;
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
    let fingerprint = certificates.fingerprint().map(domain::Digest::to_hex).unwrap_or_default();
    say(&format!("  Listening on:         https://{address}\n  Fingerprint SHA-256:  {fingerprint}\n"));

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
        request_ms: config.server.request_s.saturating_mul(1_000),
        public_url: config.server.public_url.clone().unwrap_or_else(|| format!("https://{address}")),
        ..api::Settings::default()
    };
    let state = api::ApiState::new(
        store.clone(),
        settings,
        jwt_secret(&store, &stores).await?,
        signer.public(),
        Arc::clone(&installed) as Arc<dyn api::ports::Catalog>,
        Arc::clone(&evaluator) as Arc<dyn api::ports::Evaluate>,
        Arc::new(sign::Exporter::new(store.clone(), Arc::clone(&signer), Arc::clone(&installed))),
        draining_seen,
    )
    .with_web(identity::client(&config.identity)?);
    let checking = tokio::spawn(identity::check(state.clone(), stop.clone()));
    let limits = listen::Limits::new(&config.server, raise_file_limit());
    let metrics = metrics(&config, limits, &clock, &rng, &stop).await?;
    let runner =
        runner::Runner::new(store.clone(), Arc::clone(&installed), evaluator, signer, &config.discovery, &clock, &rng);
    let working = tokio::spawn(Arc::new(runner).run(stop.clone()));
    let resealing = tokio::spawn(keys::Resealer::new(&store).run(stop.clone()));
    let keeping = tokio::spawn(keys::keep(Arc::clone(&stores), stop.clone()));
    let watching = tokio::spawn(Arc::clone(&installed).watch(stop.clone()));
    let certifying = tokio::spawn(certificates.keep(stop.clone()));
    let ordering = acme.map(|acme| tokio::spawn(acme.keep(stop.clone())));
    let mut forwarding = tokio::task::JoinSet::new();
    for forward in forwards {
        forwarding.spawn(forward::run(forward, store.clone(), Arc::clone(&clock), Arc::clone(&rng), stop.clone()));
    }
    let signing = tokio::spawn(log_signer::run(store.clone(), stop.clone()));
    let drain = Duration::from_secs(config.server.drain_s);
    let serving = tokio::spawn(listen::serve(
        listener,
        Some(tls),
        api::router(state),
        limits,
        Arc::clone(&clock),
        Arc::clone(&rng),
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
    let _ = tokio::join!(certifying, resealing, keeping);
    if let Some(ordering) = ordering {
        let _ = ordering.await;
    }
    let _ = signing.await;
    let _ = tokio::time::timeout(drain, forwarding.join_all()).await;
    let _ = tokio::time::timeout(drain, checking).await;
    if let Some(metrics) = metrics {
        let _ = metrics.await;
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Lets the process open as many files as it may, since each connection is one; how many that is.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// `/metrics` on its own listener, so that it can be kept inside.
async fn metrics(
    config: &Config,
    limits: listen::Limits,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
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
    let (clock, rng, drain) = (Arc::clone(clock), Arc::clone(rng), Duration::from_secs(1));
    Ok(Some(tokio::spawn(listen::serve(listener, None, router, limits.few(), clock, rng, stop, drain))))
}
