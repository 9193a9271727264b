//! One piece of work: opens its credential, runs its plugin, says how it ended.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::sealed::{Recipient, Sealed};
use domain::{Clock, Error, Network, Rng};
use gateway::StreamHandle;
use plugins::{Checks, Plugin, TaskSpec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use transport::aws::Pacer;
use transport::guard::Services;
use transport::{Budget, Guard, OpenCredential, Opening, Recorder, TaskReach};
use wire::frame::{MessageKind, Reason};
use wire::relay::{Ended, PlannedTask, SealedCredential, TaskStart, Work};

use crate::config::Settings;
use crate::door::Doors;
use crate::host_keys::AskedHostKeys;
use crate::log::Log;
use crate::sink::RelaySink;

/// How long the server may take to say what a stream is for.
const BEGINNING: Duration = Duration::from_mins(1);

/// How long a validation may take: the server waits a little longer, and has what was tried until then.
const VALIDATING: Duration = Duration::from_secs(50);

/// Tasks that read SSH and SNMP targets at a time; others wait with their first target.
const TASKS: NonZero<usize> = NonZero::new(4).unwrap();

/// Answers about host keys that wait to be taken: one is asked for at a time, and others may be given up.
const ANSWERS: usize = 128;

/// Runs the work that comes.
pub(crate) struct Worker {
    plugins: BTreeMap<&'static str, Arc<dyn Plugin>>,
    recipient: Recipient,
    pacer: Arc<Pacer>,
    memory: Budget,
    networks: Vec<Network>,
    own_ports: Vec<u16>,
    log: Log,
    /// To what the relay serves.
    doors: Doors,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Worker {
    pub(crate) fn new(
        settings: &Settings,
        log: Log,
        doors: Doors,
        own_ports: Vec<u16>,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        #[cfg_attr(not(feature = "ssh"), expect(unused_mut, reason = "nothing is added in a build without SSH"))]
        let mut all = plugins::all()?;
        #[cfg(feature = "ssh")]
        all.push(Arc::new(plugins::SshLinuxPlugin));
        let plugins = all.into_iter().map(|plugin| (plugin.manifest().name, plugin)).collect();
        Ok(Self {
            plugins,
            recipient: Recipient::generate().context("no key can be made")?,
            pacer: Arc::default(),
            memory: Budget::new(settings.targets_mib.saturating_mul(1_024 * 1_024), TASKS),
            networks: settings.networks.clone(),
            own_ports,
            log,
            doors,
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
        })
    }

    /// The plugins that it can run.
    pub(crate) fn plugins(&self) -> Vec<String> {
        self.plugins.keys().map(|name| (*name).to_owned()).collect()
    }

    /// What credentials are sealed to.
    pub(crate) fn sealing_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.recipient.public())
    }

    /// Does what a stream asks for.
    pub(crate) async fn run(self: Arc<Self>, stream: StreamHandle) {
        let start = match tokio::time::timeout(BEGINNING, stream.recv()).await {
            Ok(Ok(message)) if message.kind == MessageKind::Start => {
                serde_json::from_slice::<TaskStart>(&message.bytes)
            }
            Ok(Ok(message)) if message.kind == MessageKind::Follow => {
                return self.log.send(stream, &message.bytes).await;
            }
            Ok(Ok(message)) if message.kind == MessageKind::Connect => {
                return self.doors.serve(stream, &message.bytes).await;
            }
            _ => return stream.close(Reason::Protocol, "the stream does not begin with what is to be done"),
        };
        let start = match start {
            Ok(start) => start,
            Err(error) => return stream.close(Reason::Protocol, &error.to_string()),
        };
        let (cancelled, stream) = (CancellationToken::new(), Arc::new(stream));
        let (answers, came) = mpsc::channel(ANSWERS);
        let (job, plugin) = (start.job, start.plugin.clone());
        tracing::info!(%job, plugin, "a task begins");
        let ended = tokio::select! {
            ended = self.work(&stream, start, &cancelled, came) => ended,
            () = told_to_stop(&stream, &cancelled, &answers) => {
                tracing::info!(%job, "the task was taken away");
                return;
            }
        };
        let ended = match ended {
            Ok(()) => Ended::Completed {},
            Err(_) if cancelled.is_cancelled() => Ended::Cancelled {},
            Err(error @ Error::Unavailable { .. }) => Ended::Retry { error: words(&error) },
            Err(error) => Ended::Failed { error: words(&error) },
        };
        tracing::info!(%job, ended = ?ended, "a task ended");
        let document = serde_json::to_vec(&ended).unwrap_or_default();
        if stream.send(MessageKind::Ended, document).await.is_ok() {
            // The server closes the stream once it has what it needs.
            let _ = tokio::time::timeout(BEGINNING, stream.recv()).await;
        }
    }

    async fn work(
        &self,
        stream: &Arc<StreamHandle>,
        start: TaskStart,
        cancelled: &CancellationToken,
        answers: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), Error> {
        let plugin = self.plugins.get(start.plugin.as_str()).ok_or_else(|| {
            Error::invalid("plugin", format!("this relay has no plugin `{}`: update it", start.plugin.escape_debug()))
        })?;
        plugin.check(&start.config)?;
        let recorder = Arc::new(Recorder::default());
        let host_keys = AskedHostKeys::new(Arc::clone(stream), answers);
        let reach = self.open(&start, Arc::clone(&recorder), cancelled.clone(), host_keys)?;
        match start.work {
            Work::Plan {} => {
                let tasks = plugin.plan(&start.config, &reach).await?;
                let tasks: Vec<_> =
                    tasks.into_iter().map(|task| PlannedTask { key: task.key, params: task.params }).collect();
                let document = serde_json::to_vec(&tasks).map_err(Error::internal)?;
                stream.send(MessageKind::Planned, document).await.map_err(crate::sink::lost)
            }
            Work::Validate {} => {
                let checks = Checks::default();
                let tried = tokio::time::timeout(VALIDATING, plugin.validate(&start.config, &reach, &checks)).await;
                let document = serde_json::to_vec(&checks.all()).map_err(Error::internal)?;
                stream.send(MessageKind::Checked, document).await.map_err(crate::sink::lost)?;
                tried.unwrap_or_else(|_| {
                    let message = format!("it took longer than {} s: not everything was tried", VALIDATING.as_secs());
                    Err(Error::Invalid { field: None, message })
                })
            }
            Work::Run { key, params } => {
                let spec = TaskSpec { key, params };
                let mut sink = RelaySink::new(stream, recorder);
                let progress = sink.progress_sender();
                tokio::select! {
                    ran = plugin.run(&spec, &reach, &mut sink) => ran,
                    error = progress => Err(error),
                }
            }
        }
    }

    fn open(
        &self,
        start: &TaskStart,
        recorder: Arc<Recorder>,
        cancelled: CancellationToken,
        host_keys: AskedHostKeys,
    ) -> Result<TaskReach, Error> {
        let credential = start.credential.as_ref().map(|sealed| self.unseal(start, sealed)).transpose()?;
        let opened = transport::open(Opening {
            plugin: &start.plugin,
            config: &start.config,
            credential,
            guard: guard(start, &self.networks, &self.own_ports),
            call_timeout: Duration::from_millis(start.call_timeout_ms.clamp(1_000, 600_000)),
            pacer: Arc::clone(&self.pacer),
            memory: &self.memory,
            recorder,
            clock: Arc::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            cancelled,
            host_keys: Arc::new(host_keys),
        });
        opened.map_err(|error| Error::Invalid { field: None, message: error.to_string() })
    }

    fn unseal(&self, start: &TaskStart, sealed: &SealedCredential) -> Result<OpenCredential, Error> {
        let broken = || Error::Unavailable {
            message: "the credential was sealed to another process of this relay".to_owned(),
            detail: String::new(),
        };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| broken());
        let place = wire::relay::sealing_place(start.job, sealed.id);
        let ciphertext = Sealed { enc: decode(&sealed.enc)?, ciphertext: decode(&sealed.sealed)? };
        let opened = self.recipient.open(wire::relay::SEALING_USE, place.as_bytes(), &ciphertext);
        let secret = opened.map_err(|_| broken())?;
        Ok(OpenCredential { id: sealed.id, kind: sealed.kind.clone(), secret })
    }
}

/// What may be a target here: what the tenant's policy names, inside of the relay's networks, and never where the relay itself listens. What the server's installation lets be a target of
/// its own machine says nothing of this one.
fn guard(start: &TaskStart, networks: &[Network], own_ports: &[u16]) -> Guard {
    let guard = Guard::default().allowing(start.special_networks.iter().copied()).within(networks);
    guard.keeping_from(Services::here(own_ports.iter().copied()))
}

/// Waits until the server takes the work away; passes on that it was cancelled, and answers.
async fn told_to_stop(stream: &StreamHandle, cancelled: &CancellationToken, answers: &mpsc::Sender<Vec<u8>>) {
    // Anything else is the end of the stream, or as good as that; so are more answers than there were questions.
    while let Ok(message) = stream.recv().await {
        match message.kind {
            MessageKind::Cancel => cancelled.cancel(),
            MessageKind::HostKeyAnswered if answers.try_send(message.bytes).is_ok() => {}
            _ => break,
        }
    }
    cancelled.cancel();
}

/// What may be told of an error: never its detail.
fn words(error: &Error) -> String {
    if let Error::Internal { detail } = error {
        tracing::error!(detail, "a task failed");
    }
    error.to_string().chars().take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_64_only_the_tenants_policy_lets_a_relay_reach_its_own_machine_and_never_the_servers_switch() {
        let start = |special: &[&str]| TaskStart {
            job: domain::JobId::generate(&crypto::system::SystemClock, &crypto::system::SystemRng),
            work: Work::Plan {},
            plugin: "host".to_owned(),
            config: serde_json::Map::new(),
            credential: None,
            call_timeout_ms: 1_000,
            special_networks: special.iter().map(|text| text.parse().unwrap()).collect(),
            loopback_targets: true,
        };
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(guard(&start(&[]), &[], &[]).check(loopback).is_err());
        assert!(guard(&start(&["127.0.0.0/8"]), &[], &[]).check(loopback).is_ok());
        assert!(guard(&start(&["127.0.0.0/8"]), &["10.0.0.0/8".parse().unwrap()], &[]).check(loopback).is_err());
        let own = guard(&start(&["127.0.0.0/8"]), &[], &[8444]);
        assert!(own.check_at((loopback, 8444).into()).is_err(), "the relay's own listener");
        assert!(own.check_at((loopback, 22).into()).is_ok());
    }
}
