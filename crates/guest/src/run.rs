//! One run: what the plugin streams, checked and handed on; what it asks, answered.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Coverage, Error, Result, ScopeId};
use futures::stream;
use plugins::Sink;
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
/// How often the process and the job are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Most messages of a run that say nothing new: progress.
const PROGRESS: u64 = 10_000;

/// What a run is about.
pub(crate) struct Job<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) settings: &'a Map<String, Value>,
    pub(crate) reach: &'a dyn Reach,
}

/// Where a scope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

/// What a run ended with.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What a Diff may begin from.
    pub(crate) checkpoint: Vec<u8>,
    /// Scopes that a Diff said are unchanged.
    pub(crate) unchanged: Vec<ScopeId>,
}

struct Run<'a, 's> {
    bounds: Bounds<'a>,
    broker: Broker<'a>,
    sink: &'s mut dyn Sink,
    scopes: BTreeMap<ScopeId, State>,
    observations: usize,
    progress: u64,
    /// Whether the plugin was asked for what changed, and not for all.
    diff: bool,
    outcome: Outcome,
}

/// Why a run did not end well.
enum Ended {
    /// The plugin's fault, in words for the scopes' coverage and the job.
    Plugin(String),
    /// Not the plugin's fault: the database is away, the job was cancelled.
    Host(Error),
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self::Plugin(why)
    }
}

impl Run<'_, '_> {
    /// A scope that may still be shown.
    fn open(&mut self, own: &str) -> Result<ScopeId, Ended> {
        let scope = self.bounds.scope(own)?;
        if self.scopes.len() >= SCOPES && !self.scopes.contains_key(&scope) {
            return Err(Ended::Plugin(format!("it shows more than {SCOPES} scopes")));
        }
        match self.scopes.entry(scope.clone()).or_insert(State::Open) {
            State::Open => Ok(scope),
            State::Done => Err(Ended::Plugin(format!("it goes on with the scope `{own}`, whose verdict it gave"))),
        }
    }

    async fn done(&mut self, scope: ScopeId, said: Coverage) -> Result<(), Ended> {
        self.scopes.insert(scope.clone(), State::Done);
        let coverage = self.broker.borne_out(&scope, said);
        self.sink.scope_done(scope, coverage).await.map_err(Ended::Host)
    }

    /// Takes one message; a reply where it was a call, and whether it was the last one.
    async fn take(&mut self, what: Option<What>) -> Result<(Option<proto::CallReply>, bool), Ended> {
        match what {
            Some(What::Page(page)) => {
                self.open(&page.scope)?;
                let page = self.bounds.page(page)?;
                self.observations += page.nodes.len() + page.edges.len();
                if self.observations > OBSERVATIONS {
                    return Err(Ended::Plugin(format!("it shows more than {OBSERVATIONS} nodes and edges")));
                }
                match self.sink.page(page).await {
                    Ok(()) => {}
                    // What the checks of the graph refuse, the plugin sent.
                    Err(Error::Invalid { message, .. }) => return Err(Ended::Plugin(message)),
                    Err(error @ Error::Limit { .. }) => return Err(Ended::Plugin(error.to_string())),
                    Err(error) => return Err(Ended::Host(error)),
                }
            }
            Some(What::ScopeDone(done)) => {
                let scope = self.open(&done.scope)?;
                let said = observe::coverage(done.verdict, &done.reason)?;
                self.done(scope, said).await?;
            }
            Some(What::Progress(progress)) => {
                self.progress += 1;
                if self.progress > PROGRESS {
                    return Err(Ended::Plugin(format!("it tells its progress more than {PROGRESS} times")));
                }
                self.sink.progress(progress.done, progress.total, &clean(&progress.message, 200));
            }
            Some(What::Call(call)) => {
                let scope = self.open(&call.scope)?;
                return Ok((Some(self.broker.call(scope, call).await), false));
            }
            Some(What::Unchanged(_)) if !self.diff => {
                return Err(Ended::Plugin(
                    "it says that a scope is unchanged where all of it was asked for".to_owned(),
                ));
            }
            Some(What::Unchanged(unchanged)) => {
                let scope = self.open(&unchanged.scope)?;
                self.scopes.insert(scope.clone(), State::Done);
                self.outcome.unchanged.push(scope);
            }
            Some(What::Done(done)) => {
                if done.checkpoint.len() > 64 * 1_024 {
                    return Err(Ended::Plugin("its checkpoint is larger than 64 KiB".to_owned()));
                }
                self.outcome.checkpoint = done.checkpoint;
                return Ok((None, true));
            }
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
            let Some(message) = next.map_err(|status| told(&status))? else {
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

/// Runs `Discover`, or `Diff` from a checkpoint, to its end. Every scope that was begun gets a verdict.
pub(crate) async fn run(
    running: &mut Running,
    job: &Job<'_>,
    checkpoint: Option<Vec<u8>>,
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
        diff: checkpoint.is_some(),
        outcome: Outcome::default(),
    };
    let limits = job.manifest.limits;
    let silence = Duration::from_secs(limits.silence_s);
    let start = proto::Start {
        settings_json: Value::Object(job.settings.clone()).to_string(),
        credential_id: credential.map(|id| id.to_string()).unwrap_or_default(),
        checkpoint: checkpoint.clone().unwrap_or_default(),
    };
    let deadline = Instant::now() + Duration::from_secs(limits.run_s);
    let mut client = running.client();
    let working = async {
        let (replies, mut queue) = mpsc::channel(1);
        let begin = proto::FromHost { what: Some(proto::from_host::What::Start(start)) };
        let _ = replies.send(begin).await;
        let sent = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let begun = async {
            match checkpoint {
                Some(_) => client.diff(sent).await,
                None => client.discover(sent).await,
            }
        };
        let begun = tokio::time::timeout(silence, begun).await;
        let begun = begun.map_err(|_| format!("it was silent for {} s", silence.as_secs()))?;
        let mut messages = begun.map_err(|status| told(&status))?.into_inner();
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
            let open: Vec<ScopeId> = run.open_scopes();
            for scope in open {
                let reason = "the plugin ended without a verdict about it".to_owned();
                run.sink.scope_done(scope, Coverage::Partial { reason }).await?;
            }
            Ok(run.outcome)
        }
        Err(Ended::Host(error)) => Err(error),
        Err(Ended::Plugin(why)) => {
            let why = if last_words.is_empty() { why } else { format!("{why}; {last_words}") };
            for scope in run.open_scopes() {
                run.sink.scope_done(scope, Coverage::Failed { reason: clean(&why, 500) }).await?;
            }
            Err(Error::Invalid { field: None, message: format!("the plugin `{}`: {why}", job.manifest.name) })
        }
    }
}

impl Run<'_, '_> {
    fn open_scopes(&self) -> Vec<ScopeId> {
        self.scopes.iter().filter(|(_, state)| **state == State::Open).map(|(scope, _)| scope.clone()).collect()
    }
}
