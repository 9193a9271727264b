//! Serving: what a start opens and begins, and what a stop waits for.

use std::sync::Arc;
use std::time::Duration;

use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng, Secret};
use gateway::Tasks;
use secrets::Stores;
use store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::config::{self, Config, process_environment};
use crate::datadir::{self, DataDir};
use crate::own_services::OwnServices;
use crate::{
    acme, backup, bootstrap, catalog, certificate, evaluate, forward, identity, keys, listen, log_signer, metrics,
    open_store, peers, recordings, relays, report, reviews, runner, say, sign, tls,
};

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

pub(crate) async fn serve(config: Config, stores: Stores, arguments: Arguments) -> anyhow::Result<()> {
    let mut stop_signals = StopSignals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let data = Arc::new(DataDir::open(&config.server.data_dir)?);
    let certificates = certificate::Certificates::open(&config.server, Arc::clone(&data), Arc::clone(&clock))?;
    let acme = acme::Acme::open(&config, Arc::clone(&data), Arc::clone(&certificates), Arc::clone(&clock))?;
    let tls = tls::server_configs(Arc::clone(&certificates), acme.is_some())?;
    let installed =
        Arc::new(catalog::Installed::load(runner::plugins(&config.discovery)?, config.discovery.packs.clone())?);
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
        requests_max: config.server.requests_max,
        requests_per_address: config.server.requests_per_address,
        reports_per_min: config.discovery.reports_per_min,
        public_url: config.server.public_url.clone().unwrap_or_else(|| format!("https://{address}")),
        forwards: config.audit.forward.iter().map(forward::settings).collect(),
        console: console(),
        ..api::Settings::default()
    };
    let place = format!("{}:{}", signer.host(), address.port());
    let relays = Arc::new(api::Relays::new(relay_settings(config.discovery.lease_s), Arc::clone(&rng), place));
    let peers = peers::Peers::open(&config, &store, &relays).await?;
    let recordings = recordings::Recordings::new(&store, &signer);
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
    .with_web(identity::client(&config.identity)?)
    .with_relays(Arc::clone(&relays))
    .with_reports(Arc::new(report::Reports::new(store.clone(), Arc::clone(&installed), Arc::clone(&signer))))
    .with_recordings(Arc::clone(&recordings) as Arc<dyn api::ports::Record>)
    .with_certificates(Arc::clone(&certificates) as Arc<dyn api::ports::Certify>);
    let state = match &peers {
        Some(peers) => state.with_peers(Arc::clone(peers) as Arc<dyn api::ports::Peers>),
        None => state,
    };
    let tasks = Tasks::default();
    let checking = tasks.spawn("identity providers", identity::check(state.clone(), stop.clone()));
    let limits = listen::Limits::new(&config.server, raise_file_limit());
    let metrics = metrics::serve(&config, limits, &tasks, &clock, &rng, &stop).await?;
    let own_ports =
        [Some(address.port()), metrics.as_ref().map(|(port, _)| *port), peers.as_ref().map(|peers| peers.port())];
    let own_ports = own_ports.into_iter().flatten().collect();
    let own_services = OwnServices::new(&store, own_ports, &config.discovery.own_targets).await?;
    let runner = runner::Runner::new(
        store.clone(),
        Arc::clone(&installed),
        evaluator,
        signer,
        &config.discovery,
        Arc::clone(&relays),
        own_services,
        &clock,
        &rng,
    );
    let attending =
        tasks.spawn("relays", relays::keep(store.clone(), relays, Arc::clone(state.connections()), stop.clone()));
    let listening = {
        let store = store.clone();
        tasks.spawn("notices of the database", async move { store.listen().await })
    };
    let recording = tasks.spawn("recordings", recordings.keep(stop.clone()));
    let passing = peers.map(|peers| tasks.spawn("peers", peers.keep(stop.clone())));
    let working = tasks.spawn("jobs", Arc::new(runner).run(stop.clone()));
    let resealing = tasks.spawn("resealing", keys::Resealer::new(&store).run(stop.clone()));
    let keeping = tasks.spawn("keys", keys::keep(Arc::clone(&stores), stop.clone()));
    let watching = tasks.spawn("rule packs", Arc::clone(&installed).watch(stop.clone()));
    let certifying = tasks.spawn("certificates", certificates.keep(stop.clone()));
    let ordering = acme.map(|acme| tasks.spawn("acme", acme.keep(stop.clone())));
    let forwarding: Vec<_> = forwards
        .into_iter()
        .map(|it| forward::run(it, store.clone(), Arc::clone(&clock), Arc::clone(&rng), stop.clone()))
        .map(|forward| tasks.spawn("audit.forward", forward))
        .collect();
    let signing = tasks.spawn("log signatures", log_signer::run(store.clone(), stop.clone()));
    let reviewing = tasks.spawn("reviews", reviews::keep(store.clone(), stop.clone()));
    let drain = Duration::from_secs(config.server.drain_s);
    let requests = listen::serve(
        listener,
        Some(tls),
        api::router(state),
        limits,
        Arc::clone(&clock),
        Arc::clone(&rng),
        stop.clone(),
        drain,
    );
    let serving = tasks.spawn("requests", requests);
    if let Some(file) = &arguments.port_file {
        datadir::write_private(file, format!("{}\n", address.port()).as_bytes())?;
    }
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "ready");

    tokio::select! {
        () = stop_signals.wait() => {}
        () = tasks.broken() => {}
    }
    tracing::info!("stopping: requests and tasks at work may end");
    let _ = draining.send(true);
    stop.cancel();
    let _ = serving.await;
    let _ = tokio::time::timeout(drain, working).await;
    listening.abort();
    let _ = tokio::time::timeout(drain, attending).await;
    let _ = watching.await;
    let _ = recording.await;
    if let Some(passing) = passing {
        let _ = passing.await;
    }
    let _ = tokio::join!(certifying, resealing, keeping);
    if let Some(ordering) = ordering {
        let _ = ordering.await;
    }
    let _ = tokio::join!(signing, reviewing);
    let _ = tokio::time::timeout(drain, futures::future::join_all(forwarding)).await;
    let _ = tokio::time::timeout(drain, checking).await;
    if let Some((_, metrics)) = metrics {
        let _ = metrics.await;
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(tasks.check()?)
}

/// A relay's session is kept for as long as a lease, after which its tasks are given to somebody else anyway.
/// The web console that was built into this binary.
fn console() -> api::Console {
    let asset = |file: &console::File| api::Asset { name: file.name, bytes: file.bytes, brotli: file.brotli };
    api::Console::new(console::FILES.iter().map(asset))
}

fn relay_settings(lease_s: u32) -> gateway::HubSettings {
    gateway::HubSettings { resume: Duration::from_secs(lease_s.into()), ..gateway::HubSettings::default() }
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
