//! One run: what the plugin streams, checked and handed on; what it asks, answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Coverage, Digest, Error, Result, ScopeId};
use futures::stream;
use plugins::{Ending, Removed, Sink};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use transport::Reach;

use crate::broker::Broker;
use crate::manifest::Manifest;
use crate::observe::{self, Bounds, clean};
use crate::process::Running;
use crate::proto;
use crate::proto::from_plugin::What;

/// Largest message, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 4 * 1_024 * 1_024;
/// Most scopes of a run.
const SCOPES: usize = 10_000;
/// Most nodes and edges of a run.
const OBSERVATIONS: usize = 5_000_000;
/// Largest checkpoint of a scope, in bytes.
const CHECKPOINT_BYTES: usize = 64 * 1_024;
/// How often the process and the job are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Most messages of a run that say nothing new: progress.
const PROGRESS: u64 = 10_000;

/// What a run is about.
pub(crate) struct Job<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) settings: &'a Map<String, Value>,
    pub(crate) reach: &'a dyn Reach,
    /// Whose checkpoints those of this run are: of this program, told these settings.
    pub(crate) basis: Digest,
}

/// What the last readings of scopes left for this run.
pub(crate) type Checkpoints = Vec<(ScopeId, Vec<u8>)>;

/// What was said of a scope that has no verdict yet.
#[derive(Debug, Default)]
struct Open {
    is_shown: bool,
    removed: Removed,
}

/// Where a scope is.
#[derive(Debug)]
enum State {
    Open(Open),
    Done,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With a verdict about each of its scopes.
    Read,
    /// A Diff that can begin from none of its checkpoints, and why: nothing was shown.
    StartOver(String),
}

struct Run<'a, 's> {
    bounds: Bounds<'a>,
    broker: Broker<'a>,
    sink: &'s mut dyn Sink,
    scopes: BTreeMap<ScopeId, State>,
    observations: usize,
    progress: u64,
    /// What a Diff was told that it may begin from; empty in a Discover.
    offered: BTreeMap<ScopeId, Vec<u8>>,
    basis: Digest,
}

/// Why a run did not end well.
enum Ended {
    /// The plugin's fault, in words for the scopes' coverage and the job.
    Plugin(String),
    /// Not the plugin's fault: the database is away, the job was cancelled.
    Host(Error),
    /// Nobody's fault: see [`Outcome::StartOver`].
    StartOver(String),
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self::Plugin(why)
    }
}

impl Run<'_, '_> {
    /// A scope that may still be shown.
    fn open(&mut self, own: &str) -> Result<(ScopeId, &mut Open), Ended> {
        let scope = self.bounds.scope(own)?;
        if self.scopes.len() >= SCOPES && !self.scopes.contains_key(&scope) {
            return Err(Ended::Plugin(format!("it shows more than {SCOPES} scopes")));
        }
        match self.scopes.entry(scope.clone()).or_insert_with(|| State::Open(Open::default())) {
            State::Open(open) => Ok((scope, open)),
            State::Done => Err(Ended::Plugin(format!("it goes on with the scope `{own}`, whose verdict it gave"))),
        }
    }

    /// A scope whose checkpoint the plugin was given.
    fn open_since(&mut self, own: &str) -> Result<(ScopeId, &mut Open), Ended> {
        let scope = self.bounds.scope(own)?;
        if self.offered.contains_key(&scope) {
            return self.open(own);
        }
        Err(Ended::Plugin(format!("it tells a difference of the scope `{own}`, for which it was given no checkpoint")))
    }

    async fn done(
        &mut self,
        scope: ScopeId,
        said: Coverage,
        since: Option<Removed>,
        checkpoint: Vec<u8>,
    ) -> Result<(), Ended> {
        if checkpoint.len() > CHECKPOINT_BYTES {
            return Err(Ended::Plugin(format!("its checkpoint is larger than {CHECKPOINT_BYTES} bytes")));
        }
        self.scopes.insert(scope.clone(), State::Done);
        let coverage = self.broker.borne_out(&scope, said);
        let ending = Ending { coverage, since, checkpoint, basis: self.basis };
        self.sink.scope_ended(scope, ending).await.map_err(Ended::Host)
    }

    fn count(&mut self, more: usize) -> Result<(), Ended> {
        self.observations += more;
        if self.observations > OBSERVATIONS {
            return Err(Ended::Plugin(format!("it shows more than {OBSERVATIONS} nodes and edges")));
        }
        Ok(())
    }

    /// Takes one message; a reply where it was a call, and whether it was the last one.
    async fn take(&mut self, what: Option<What>) -> Result<(Option<proto::CallReply>, bool), Ended> {
        match what {
            Some(What::Page(page)) => {
                self.open(&page.scope)?.1.is_shown = true;
                let page = self.bounds.page(page)?;
                self.count(page.nodes.len() + page.edges.len())?;
                match self.sink.page(page).await {
                    Ok(()) => {}
                    // What the checks of the graph refuse, the plugin sent.
                    Err(Error::Invalid { message, .. }) => return Err(Ended::Plugin(message)),
                    Err(error @ Error::Limit { .. }) => return Err(Ended::Plugin(error.to_string())),
                    Err(error) => return Err(Ended::Host(error)),
                }
            }
            Some(What::ScopeDone(done)) => {
                let said = observe::coverage(done.verdict, &done.reason)?;
                if !done.since_checkpoint {
                    let (scope, open) = self.open(&done.scope)?;
                    if open.removed != Removed::default() {
                        return Err(Ended::Plugin(format!(
                            "it names what is gone in the scope `{}`, and not that it showed only the difference",
                            done.scope
                        )));
                    }
                    self.done(scope, said, None, done.checkpoint).await?;
                    return Ok((None, false));
                }
                let (scope, open) = self.open_since(&done.scope)?;
                if matches!(said, Coverage::Absent { .. }) {
                    return Err(Ended::Plugin("ABSENT is said of a whole scope, and not of a difference".to_owned()));
                }
                let removed = std::mem::take(&mut open.removed);
                self.done(scope, said, Some(removed), done.checkpoint).await?;
            }
            Some(What::Gone(gone)) => {
                self.count(gone.nodes.len() + gone.edges.len())?;
                let scope = gone.scope.clone();
                let removed = self.bounds.gone(gone)?;
                let (_, open) = self.open_since(&scope)?;
                open.removed.nodes.extend(removed.nodes);
                open.removed.edges.extend(removed.edges);
            }
            Some(What::Progress(progress)) => {
                self.progress += 1;
                if self.progress > PROGRESS {
                    return Err(Ended::Plugin(format!("it tells its progress more than {PROGRESS} times")));
                }
                self.sink.progress(progress.done, progress.total, &clean(&progress.message, 200));
            }
            Some(What::Call(call)) => {
                let (scope, _) = self.open(&call.scope)?;
                return Ok((Some(self.broker.call(scope, call).await), false));
            }
            Some(What::Unchanged(unchanged)) => {
                let (scope, open) = self.open_since(&unchanged.scope)?;
                if open.is_shown || open.removed != Removed::default() {
                    return Err(Ended::Plugin(format!(
                        "it says that the scope `{}` is unchanged, and what changed in it",
                        unchanged.scope
                    )));
                }
                self.done(scope, Coverage::Unchanged, Some(Removed::default()), unchanged.checkpoint).await?;
            }
            Some(What::Done(_)) => return Ok((None, true)),
            None => return Err(Ended::Plugin("it sent a message that says nothing".to_owned())),
        }
        Ok((None, false))
    }

    async fn stream(
        &mut self,
        messages: &mut tonic::Streaming<proto::FromPlugin>,
        replies: &mpsc::Sender<proto::FromHost>,
        silence: Duration,
    ) -> Result<(), Ended> {
        loop {
            let next = tokio::time::timeout(silence, messages.message()).await;
            let next = next.map_err(|_| format!("it was silent for {} s", silence.as_secs()))?;
            let Some(message) = next.map_err(|status| self.broke(&status))? else {
                return Err(Ended::Plugin("its stream ended without `Done`".to_owned()));
            };
            let (reply, last) = self.take(message.what).await?;
            if last {
                return Ok(());
            }
            if let Some(reply) = reply {
                let message = proto::FromHost { what: Some(proto::from_host::What::Reply(reply)) };
                // Where nobody reads any more, the stream says why.
                let _ = tokio::time::timeout(silence, replies.send(message)).await;
            }
        }
    }
}

impl Run<'_, '_> {
    /// A stream that ended with this status: a Diff that showed nothing may say that it has nothing to begin from.
    fn broke(&self, status: &tonic::Status) -> Ended {
        let nothing =
            |state: &State| matches!(state, State::Open(open) if !open.is_shown && open.removed == Removed::default());
        if status.code() == tonic::Code::FailedPrecondition
            && !self.offered.is_empty()
            && self.scopes.values().all(nothing)
        {
            return Ended::StartOver(clean(status.message(), 300));
        }
        Ended::Plugin(told(status))
    }
}

/// A status in words.
pub(crate) fn told(status: &tonic::Status) -> String {
    let message = clean(status.message(), 300);
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            format!("a message is larger than {MESSAGE_BYTES} bytes, or its memory is used up: {message}")
        }
        code => format!("{code:?}: {message}"),
    }
}

/// Runs `Discover`, or `Diff` where there is something to begin from, to its end. Every scope that was begun, or offered, gets a verdict.
pub(crate) async fn run(
    running: &mut Running,
    job: &Job<'_>,
    checkpoints: Checkpoints,
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let credential = job.reach.credential();
    let source = job.manifest.source(job.settings, credential);
    let mut run = Run {
        bounds: Bounds { manifest: job.manifest, source },
        broker: Broker::new(job.manifest, job.settings, job.reach),
        sink,
        scopes: BTreeMap::new(),
        observations: 0,
        progress: 0,
        offered: checkpoints.into_iter().collect(),
        basis: job.basis,
    };
    let limits = job.manifest.limits;
    let silence = Duration::from_secs(limits.silence_s);
    let start = proto::Start {
        settings_json: Value::Object(job.settings.clone()).to_string(),
        credential_id: credential.map(|id| id.to_string()).unwrap_or_default(),
        checkpoints: run.told(),
    };
    let deadline = Instant::now() + Duration::from_secs(limits.run_s);
    let (mut client, is_diff) = (running.client(), !run.offered.is_empty());
    let working = async {
        let (replies, mut queue) = mpsc::channel(1);
        let begin = proto::FromHost { what: Some(proto::from_host::What::Start(start)) };
        let _ = replies.send(begin).await;
        let sent = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let begun = async { if is_diff { client.diff(sent).await } else { client.discover(sent).await } };
        let begun = tokio::time::timeout(silence, begun).await;
        let begun = begun.map_err(|_| format!("it was silent for {} s", silence.as_secs()))?;
        let mut messages = begun.map_err(|status| run.broke(&status))?.into_inner();
        run.stream(&mut messages, &replies, silence).await
    };
    let watching = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if job.reach.is_cancelled() {
                return Ended::Host(Error::conflict("the task was stopped"));
            }
            if Instant::now() >= deadline {
                return Ended::Plugin(format!("it ran for {} s, its limit", limits.run_s));
            }
            if let Some(why) = running.trouble() {
                return Ended::Plugin(why);
            }
        }
    };
    let ended = tokio::select! {
        biased;
        ended = working => ended,
        why = watching => Err(why),
    };
    // The process ends before anything is said about what it did.
    let last_words = running.end(matches!(ended, Err(Ended::Plugin(_)))).await;
    match ended {
        Ok(()) => {
            for scope in run.without_verdict() {
                let reason = "the plugin ended without a verdict about it".to_owned();
                run.sink.scope_done(scope, Coverage::Partial { reason }).await?;
            }
            Ok(Outcome::Read)
        }
        Err(Ended::StartOver(why)) => Ok(Outcome::StartOver(why)),
        Err(Ended::Host(error)) => Err(error),
        Err(Ended::Plugin(why)) => {
            let why = if last_words.is_empty() { why } else { format!("{why}; {last_words}") };
            for scope in run.without_verdict() {
                run.sink.scope_done(scope, Coverage::Failed { reason: clean(&why, 500) }).await?;
            }
            Err(Error::Invalid { field: None, message: format!("the plugin `{}`: {why}", job.manifest.name) })
        }
    }
}

impl Run<'_, '_> {
    /// Scopes that were begun, or whose checkpoint was given, and that did not end.
    fn without_verdict(&self) -> BTreeSet<ScopeId> {
        let begun = self.scopes.keys().chain(self.offered.keys());
        begun.filter(|scope| !matches!(self.scopes.get(scope), Some(State::Done))).cloned().collect()
    }

    /// What the plugin is told that it may begin from, by its own names of the scopes.
    fn told(&self) -> Vec<proto::Checkpoint> {
        let prefix = self.bounds.prefix();
        let own = |scope: &ScopeId| scope.as_str().strip_prefix(&prefix).unwrap_or_default().to_owned();
        let told = self
            .offered
            .iter()
            .map(|(scope, checkpoint)| proto::Checkpoint { scope: own(scope), checkpoint: checkpoint.clone() });
        told.collect()
    }
}
