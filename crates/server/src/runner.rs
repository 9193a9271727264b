//! The worker: claims work, plans jobs, runs tasks, has the graph judged when a job's tasks have ended, makes the jobs of schedules.
//!
//! A claim is held by a lease that is renewed while the work goes on. When the server stops, held work goes back to the queue; when it is
//! killed, the lease runs out and the work is claimed again. Either way a task begins from its start, and ingest is idempotent.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::{OpCtx, ops};
use api::ports::{Catalog as _, Evaluate as _};
use domain::{Clock, Error, JobId, RelayId, Result, Rng, SourceId};
use gateway::{Connected, broke_off};
use plugins::{JobConfig, Plugin, TaskSpec};
use serde_json::json;
use store::{Begun, Claim, Lease, NewTask, Purpose, Store, TaskOutcome, TaskProgress, WorkKind};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use transport::aws::Pacer;
use transport::{Budget, OpenCredential, Recorder};
use wire::relay::{TaskStart, Work};

use crate::catalog::Installed;
use crate::config::DiscoverySection;
use crate::evaluate::Evaluator;
use crate::own_services::OwnServices;
use crate::reach::{Errand, Opener};
use crate::remote;
use crate::sign::Signer;
use crate::sink::{Progress, StoreSink, TaskParts};

mod validate;

/// How long an idle worker waits before it looks for work that makes no sign here: expired leases, due schedules, another server's work.
const IDLE: Duration = Duration::from_secs(1);
/// Pieces of work at relays at a time: they cost this server little.
const PLACED: usize = 32;
/// How many of them may be one tenant's: no tenant alone keeps the relays of the others waiting.
const PLACED_EACH: u32 = 16;
/// How often progress is written.
const PROGRESS: Duration = Duration::from_secs(1);
/// Most lines that the progress of one try of a task leaves in the job's log.
const LINES_MAX: u32 = 300;

/// The plugins of this server: those of this program, and those of others in the folder that the configuration names.
pub(crate) fn plugins(section: &DiscoverySection) -> Result<Vec<Arc<dyn Plugin>>> {
    let mut plugins = plugins::all()?;
    #[cfg(feature = "ssh")]
    plugins.push(Arc::new(plugins::SshLinuxPlugin));
    for folder in section.plugins_dir.as_deref().map(guest::load_all).transpose()?.into_iter().flatten() {
        let name = folder.manifest.name.clone();
        if plugins.iter().any(|own| own.manifest().name == name) {
            let why = format!("`{}`: the name `{name}` is a built-in plugin's", folder.path.display());
            return Err(Error::invalid("plugins_dir", why));
        }
        tracing::info!(plugin = name, version = folder.manifest.version, digest = %folder.digest, "plugin of others taken");
        let surroundings = guest::Surroundings::own(section.plugin_runtimes.clone());
        plugins.push(Arc::new(guest::GuestPlugin::new(folder, surroundings)));
    }
    Ok(plugins)
}

/// Runs work until it is stopped.
pub(crate) struct Runner {
    store: Store,
    installed: Arc<Installed>,
    evaluator: Arc<Evaluator>,
    signer: Arc<Signer>,
    opener: Opener,
    workers: usize,
    lease_ms: i64,
    name: String,
    relays: Arc<api::Relays>,
    /// Held by the one worker that looks for the work of relays: the others wait for their turn, and ask the database nothing.
    turn: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// What the keeper of a claim saw, and what it has to write.
struct Held {
    /// The job was cancelled, or the lease was lost: stop.
    over: CancellationToken,
    /// Which of the two.
    lost: CancellationToken,
    progress: Arc<Mutex<Progress>>,
}

impl Runner {
    #[expect(clippy::too_many_arguments, reason = "each is a different part of the server")]
    pub(crate) fn new(
        store: Store,
        installed: Arc<Installed>,
        evaluator: Arc<Evaluator>,
        signer: Arc<Signer>,
        section: &DiscoverySection,
        relays: Arc<api::Relays>,
        own_services: OwnServices,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Self {
        let opener = Opener {
            store: store.clone(),
            pacer: Arc::new(Pacer::default()),
            loopback_targets: section.loopback_targets,
            special_targets: section.special_targets.clone(),
            own_services,
            call_timeout: Duration::from_secs(u64::from(section.call_timeout_s)),
            memory: Budget::new(
                section.targets_mib * 1_024 * 1_024,
                NonZero::new(section.workers).unwrap_or(NonZero::<usize>::MIN),
            ),
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
        };
        let name = format!("{}-{}", signer.host(), std::process::id());
        Self {
            store,
            installed,
            evaluator,
            signer,
            opener,
            workers: section.workers,
            lease_ms: i64::from(section.lease_s) * 1_000,
            name,
            relays,
            turn: tokio::sync::Mutex::default(),
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
        }
    }

    /// Works until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut workers = JoinSet::new();
        for number in 0..self.workers + PLACED {
            workers.spawn(Arc::clone(&self).worker(stop.clone(), number >= self.workers));
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                resume_unwind(panic);
            }
        }
    }

    /// `placed`: does the work of relays that hang here, and no other.
    async fn worker(self: Arc<Self>, stop: CancellationToken, placed: bool) {
        let mut relays = self.relays.hub.count();
        let mut turn = None;
        while !stop.is_cancelled() {
            if placed && turn.is_none() {
                turn = Some(self.turn.lock().await);
            }
            let claimed = if placed {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = relays.wait_for(|count| *count > 0) => {}
                }
                self.store.work_claim_placed(&self.name, self.lease_ms, self.relays.server, PLACED_EACH).await
            } else {
                self.store.work_claim(&self.name, self.lease_ms).await
            };
            match claimed {
                Ok(Some(claim)) => {
                    turn = None;
                    // One that breaks off (a plugin's fault) takes its own work along, and no worker.
                    if broke_off(self.hold(claim, &stop)).await {
                        tracing::error!("work broke off: it waits for its lease to end");
                    }
                }
                Ok(None) => {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.store.work_wait(IDLE) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(?error, "cannot look for work");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(IDLE) => {}
                    }
                }
            }
        }
    }

    /// Does claimed work while keeping its lease; gives it back when the server stops first.
    async fn hold(&self, claim: Claim, stop: &CancellationToken) {
        let held = Held { over: CancellationToken::new(), lost: CancellationToken::new(), progress: Arc::default() };
        let ended = tokio::select! {
            biased;
            ended = self.work(&claim, &held) => Some(ended),
            () = held.lost.cancelled() => None,
            () = self.keep(&claim, &held) => None,
            () = stop.cancelled() => {
                if let Err(error) = self.store.work_release(&claim).await {
                    tracing::warn!(?error, "cannot give work back: it waits for its lease to end");
                }
                None
            }
        };
        match ended {
            Some(Err(error)) => tracing::error!(?error, kind = ?claim.kind, "work failed"),
            Some(Ok(())) => {}
            None => tracing::info!(kind = ?claim.kind, "work was taken away"),
        }
    }

    /// Renews the lease and writes progress, until the claim is lost.
    async fn keep(&self, claim: &Claim, held: &Held) {
        let renew_every = Duration::from_millis(u64::try_from(self.lease_ms / 3).unwrap_or(1_000));
        let mut since_renewal = Duration::ZERO;
        let (mut written, mut lines) = (Progress::default(), 0);
        loop {
            tokio::time::sleep(PROGRESS).await;
            since_renewal += PROGRESS;
            let progress = held.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if claim.kind == WorkKind::Task && progress != written {
                let is_told = lines < LINES_MAX && !progress.message.is_empty() && progress.message != written.message;
                lines += u32::from(is_told);
                let reading: Option<Vec<_>> = (progress.reading != written.reading).then(|| progress.shown());
                let news = TaskProgress {
                    done: progress.done,
                    total: progress.total,
                    message: &progress.message,
                    is_told,
                    reading: reading.as_deref(),
                };
                if let Err(error) = self.progress(claim, &news).await {
                    tracing::debug!(?error, "progress not written");
                }
                written = progress;
            }
            // Also between renewals somebody may have cancelled: looking costs one statement a second.
            match self.store.work_renew(claim, self.lease_ms).await {
                Ok(Lease::Held) => since_renewal = Duration::ZERO,
                Ok(Lease::Cancelled) => held.over.cancel(),
                Ok(Lease::Lost) => {
                    held.over.cancel();
                    held.lost.cancel();
                    return;
                }
                Err(error) if since_renewal > renew_every * 2 => {
                    tracing::warn!(?error, "the lease cannot be renewed");
                    held.over.cancel();
                    return;
                }
                Err(error) => tracing::debug!(?error, "the lease was not renewed yet"),
            }
        }
    }

    async fn progress(&self, claim: &Claim, progress: &TaskProgress<'_>) -> Result<()> {
        let permit = self.ctx(claim).authorize::<ops::JobRun>(claim.tenant)?;
        self.store.write(permit).await?.task_progress(claim, progress).await
    }

    fn ctx(&self, claim: &Claim) -> OpCtx {
        OpCtx::system("runner", claim.tenant, Arc::clone(&self.clock), Arc::clone(&self.rng))
    }

    async fn work(&self, claim: &Claim, held: &Held) -> Result<()> {
        match claim.kind {
            WorkKind::Plan => self.plan(claim, held).await,
            WorkKind::Task => self.task(claim, held).await,
            WorkKind::Judge => self.judge(claim).await,
            WorkKind::Schedule => self.unit(claim).await?.schedule_due(claim).await.map(drop),
            WorkKind::Evaluate => self.judge_reported(claim).await,
            WorkKind::Validate => self.validate(claim, held).await,
        }
    }

    async fn unit(&self, claim: &Claim) -> Result<store::Write<ops::JobRun>> {
        self.store.write(self.ctx(claim).authorize::<ops::JobRun>(claim.tenant)?).await
    }

    async fn plan(&self, claim: &Claim, held: &Held) -> Result<()> {
        let Begun::Run(job) = self.unit(claim).await?.job_started(claim).await? else { return Ok(()) };
        let planned = self.tasks(claim, held, &job).await;
        match planned {
            Ok(tasks) => {
                let tasks = tasks.into_iter().map(|task| NewTask { key: task.key, params: task.params }).collect();
                self.unit(claim).await?.job_planned(claim, tasks).await
            }
            // A relay that is away comes back.
            Err(Error::Unavailable { .. }) if job.relay.is_some() && claim.attempt < store::ATTEMPTS_MAX => {
                self.store.work_postpone(claim).await
            }
            Err(error) => self.unit(claim).await?.job_unplanned(claim, &told(&error)).await,
        }
    }

    async fn tasks(&self, claim: &Claim, held: &Held, job: &store::JobRow) -> Result<Vec<TaskSpec>> {
        let plugin = self.plugin(&job.plugin)?;
        plugin.check(&job.config)?;
        if let Some(relay) = job.relay {
            let connected = self.connected(relay)?;
            let start = self.start(claim, job.into(), &connected, Work::Plan {}).await?;
            return remote::plan(&connected, &start, &held.over).await;
        }
        let recorder = Arc::new(Recorder::default());
        let reach = self.opener.open(&self.ctx(claim), claim.tenant, job.into(), recorder, held.over.clone()).await?;
        plugin.plan(&job.config, &reach).await
    }

    fn connected(&self, relay: RelayId) -> Result<Connected> {
        self.relays.hub.relay(relay).ok_or_else(|| Error::Unavailable {
            message: "the relay is not connected".to_owned(),
            detail: String::new(),
        })
    }

    /// What a relay is told. Its use of the credential is in the audit log before it is sealed, and a target that this server would refuse is
    /// refused here already.
    async fn start(&self, claim: &Claim, errand: Errand<'_>, connected: &Connected, work: Work) -> Result<TaskStart> {
        let opened = self.opener.credential(&self.ctx(claim), claim.tenant, errand).await?;
        self.start_with(claim, errand, connected, work, opened.as_ref()).await
    }

    async fn start_with(
        &self,
        claim: &Claim,
        errand: Errand<'_>,
        connected: &Connected,
        work: Work,
        opened: Option<&OpenCredential>,
    ) -> Result<TaskStart> {
        let special_networks = self.opener.policy(&self.ctx(claim), claim.tenant).await?;
        self.opener.check(errand, opened, &special_networks)?;
        let job = match errand.purpose {
            Purpose::Job(job) => job,
            Purpose::Validation(id) => JobId::from_uuid(id.as_uuid()),
        };
        let mut start = TaskStart {
            job,
            work,
            plugin: errand.plugin.to_owned(),
            config: errand.config.clone(),
            credential: None,
            call_timeout_ms: u64::try_from(self.opener.call_timeout.as_millis()).unwrap_or(u64::MAX),
            special_networks,
            loopback_targets: false,
        };
        start.credential = opened.map(|credential| remote::seal(connected, &start, credential)).transpose()?;
        Ok(start)
    }

    fn plugin(&self, name: &str) -> Result<Arc<dyn Plugin>> {
        self.installed
            .plugin(name)
            .ok_or_else(|| Error::invalid("plugin", format!("this server has no plugin `{name}`")))
    }

    async fn task(&self, claim: &Claim, held: &Held) -> Result<()> {
        let Begun::Run(run) = self.unit(claim).await?.task_started(claim).await? else { return Ok(()) };
        let spec = TaskSpec { key: run.task.key.clone(), params: run.task.params.clone() };
        let outcome = match self.collect(claim, held, &run.job, &spec).await {
            Ok(()) => TaskOutcome::Completed,
            Err(_) if held.over.is_cancelled() => TaskOutcome::Cancelled,
            Err(error @ Error::Unavailable { .. }) => TaskOutcome::Retry(told(&error)),
            Err(error) => TaskOutcome::Failed(told(&error)),
        };
        let last = held.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if outcome == TaskOutcome::Completed && last.total > 0 {
            let (done, total, message) = (last.done, last.total, last.message.as_str());
            let news = TaskProgress { done, total, message, is_told: false, reading: None };
            // Its end counts, and not how far it was.
            if let Err(error) = self.progress(claim, &news).await {
                tracing::debug!(?error, "progress not written");
            }
        }
        self.unit(claim).await?.task_finished(claim, outcome).await?;
        self.store.relax().await
    }

    async fn judge(&self, claim: &Claim) -> Result<()> {
        let permit = self.ctx(claim).authorize::<ops::EvaluationRun>(claim.tenant)?;
        let failed = self.evaluator.evaluate(permit).await.err().map(|error| told(&error));
        self.unit(claim).await?.job_judged(claim, failed.as_deref()).await.map(drop)
    }

    /// Judges what agents reported; a job's own judgement is tied to the job's end.
    async fn judge_reported(&self, claim: &Claim) -> Result<()> {
        let began = self.clock.now();
        let permit = self.ctx(claim).authorize::<ops::EvaluationRun>(claim.tenant)?;
        let outcome = self.evaluator.evaluate(permit).await;
        self.store.work_nudged(claim, began, outcome.is_err()).await?;
        outcome.map(drop)
    }

    async fn collect(&self, claim: &Claim, held: &Held, job: &store::JobRow, spec: &TaskSpec) -> Result<()> {
        let (plugin, ctx) = (self.plugin(&job.plugin)?, self.ctx(claim));
        let recorder = Arc::new(Recorder::default());
        let remote = match job.relay {
            None => None,
            Some(relay) => {
                let connected = self.connected(relay)?;
                let work = Work::Run { key: spec.key.clone(), params: spec.params.clone() };
                let start = self.start(claim, job.into(), &connected, work).await?;
                Some((relay, connected, start))
            }
        };
        let mut sink = StoreSink::new(TaskParts {
            store: self.store.clone(),
            signer: Arc::clone(&self.signer),
            ruleset: self.installed.ruleset(),
            ctx,
            job: job.id,
            claim: claim.clone(),
            manifest: plugin.manifest(),
            program: plugin.program(),
            source: match job.relay {
                Some(relay) => SourceId::on_relay(&job.plugin, relay)?,
                None => SourceId::plugin(&job.plugin)?,
            },
            config_sha256: config_digest(&job.config, spec),
            recorder: Arc::clone(&recorder),
            over: held.over.clone(),
            progress: Arc::clone(&held.progress),
            relay: remote.as_ref().map(|(relay, connected, _)| (*relay, Arc::clone(&connected.hello))),
        })
        .await?;
        if let Some((_, connected, start)) = &remote {
            let host_keys = self.opener.host_keys(&self.ctx(claim), claim.tenant, job.into());
            return remote::run(connected, start, &mut sink, &recorder, &held.over, &host_keys).await;
        }
        let reach = self.opener.open(&self.ctx(claim), claim.tenant, job.into(), recorder, held.over.clone()).await?;
        plugin.run(spec, &reach, &mut sink).await
    }
}

/// SHA-256 of what the collector was told: job settings and task parameters, as canonical JSON.
fn config_digest(config: &JobConfig, spec: &TaskSpec) -> domain::Digest {
    let told = json!({"config": config, "task": spec.key, "params": spec.params});
    crypto::sha256(told.to_string().as_bytes())
}

/// What people may read of an error that ended a task.
fn told(error: &Error) -> String {
    match error {
        Error::Internal { detail } => {
            tracing::error!(detail, "task failed");
            error.to_string()
        }
        other => other.to_string(),
    }
}
