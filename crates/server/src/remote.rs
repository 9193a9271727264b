//! Work that a relay does: sends it there, and feeds what comes back into the sink of a task that runs here.
//!
//! What a relay sends is checked like a target's reply: documents are parsed strictly, artifacts are hashed here, and a task is over
//! when its relay breaks a rule.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use domain::{Check, Coverage, Digest, Error, Limits, NodeId, Page, Result};
use gateway::{ChannelEnded, Connected, Message, StreamHandle};
use plugins::{Checks, Sink as _, TaskSpec};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use transport::{CallRecord, OpenCredential, Recorder};
use wire::frame::{MessageKind, Reason};
use wire::relay::{Ended, PlannedTask, Progress, ScopeDone, SealedCredential, TaskStart};

use crate::host_keys::RememberedHostKeys;
use crate::sink::StoreSink;

/// How long a relay may take to end a task that was cancelled.
const STOPPING: std::time::Duration = std::time::Duration::from_secs(10);
/// Most bytes of artifacts between two ends of a scope.
const ARTIFACTS_MAX: usize = 256 * 1_024 * 1_024;

fn lost(ended: ChannelEnded) -> Error {
    Error::Unavailable {
        message: format!("the relay does not work on this task any more ({ended})"),
        detail: String::new(),
    }
}

fn broken(what: &str) -> Error {
    Error::Invalid { field: None, message: format!("the relay's answer is not understood: {what}") }
}

fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| broken(&error.to_string()))
}

/// Seals a credential to the process of a relay.
pub(crate) fn seal(connected: &Connected, start: &TaskStart, credential: &OpenCredential) -> Result<SealedCredential> {
    let key = URL_SAFE_NO_PAD.decode(&connected.hello.sealing_key).map_err(|_| broken("its key is not base64url"))?;
    let place = wire::relay::sealing_place(start.job, credential.id);
    let sealed = crypto::sealed::seal_to(&key, wire::relay::SEALING_USE, place.as_bytes(), &credential.secret);
    let sealed = sealed.map_err(|error| broken(&format!("its key is of no use: {error}")))?;
    Ok(SealedCredential {
        id: credential.id,
        kind: credential.kind.clone(),
        enc: URL_SAFE_NO_PAD.encode(sealed.enc),
        sealed: URL_SAFE_NO_PAD.encode(sealed.ciphertext),
    })
}

/// Work that a relay has begun.
struct Begun<'a> {
    stream: StreamHandle,
    over: &'a CancellationToken,
    told: bool,
}

impl<'a> Begun<'a> {
    async fn new(connected: &Connected, start: &TaskStart, over: &'a CancellationToken) -> Result<Self> {
        if !connected.hello.plugins.contains(&start.plugin) {
            let message = format!("the relay has no plugin `{}`: update it", start.plugin);
            return Err(Error::Invalid { field: Some("relay"), message });
        }
        let stream = connected.channel.open().map_err(lost)?;
        stream.send(MessageKind::Start, serde_json::to_vec(start).map_err(Error::internal)?).await.map_err(lost)?;
        Ok(Self { stream, over, told: false })
    }

    /// The next message; passes on that the job was cancelled.
    async fn next(&mut self) -> Result<Message> {
        self.heard().await?.map_err(lost)
    }

    /// The same, where it matters how the stream ended.
    async fn heard(&mut self) -> Result<std::result::Result<Message, ChannelEnded>> {
        if !self.told {
            tokio::select! {
                message = self.stream.recv() => return Ok(message),
                () = self.over.cancelled() => {}
            }
            self.told = true;
            self.stream.send(MessageKind::Cancel, Bytes::new()).await.map_err(lost)?;
        }
        let heard = tokio::time::timeout(STOPPING, self.stream.recv()).await;
        heard.map_err(|_| Error::conflict("the task was stopped"))
    }
}

/// How work ended.
fn ended(bytes: &[u8]) -> Result<()> {
    match document::<Ended>(bytes)? {
        Ended::Completed {} => Ok(()),
        Ended::Failed { error } => Err(Error::Invalid { field: None, message: error }),
        Ended::Retry { error } => Err(Error::Unavailable { message: error, detail: String::new() }),
        Ended::Cancelled {} => Err(Error::conflict("the task was stopped")),
    }
}

/// Has a relay split a job into tasks.
pub(crate) async fn plan(connected: &Connected, start: &TaskStart, over: &CancellationToken) -> Result<Vec<TaskSpec>> {
    let mut begun = Begun::new(connected, start, over).await?;
    let mut planned = None;
    loop {
        let message = begun.next().await?;
        match message.kind {
            MessageKind::Planned if planned.is_none() => planned = Some(document::<Vec<PlannedTask>>(&message.bytes)?),
            MessageKind::Ended => {
                ended(&message.bytes)?;
                let planned = planned.ok_or_else(|| broken("it planned nothing"))?;
                return Ok(planned.into_iter().map(|task| TaskSpec { key: task.key, params: task.params }).collect());
            }
            _ => return Err(broken("a message that has no place in planning")),
        }
    }
}

/// Has a relay try what a job would begin with.
pub(crate) async fn validate(
    connected: &Connected,
    start: &TaskStart,
    over: &CancellationToken,
    host_keys: &RememberedHostKeys,
    checks: &Checks,
) -> Result<()> {
    let mut begun = Begun::new(connected, start, over).await?;
    loop {
        let message = match begun.heard().await? {
            Ok(message) => message,
            // A relay of a version without validations ends the stream over the word.
            Err(ended) if ended.reason == Reason::Protocol => {
                let message = "the relay does not know what a validation is: update it".to_owned();
                return Err(Error::Invalid { field: None, message });
            }
            Err(ended) => return Err(lost(ended)),
        };
        match message.kind {
            MessageKind::Checked => {
                let told: Vec<Check> = document(&message.bytes)?;
                for check in told.iter().take(Check::MAX) {
                    checks.add(&check.what, check.outcome, check.reason.as_deref());
                }
            }
            MessageKind::HostKeyAsked if trusts_first_contact(start) => {
                let answer = host_keys.answer(&document(&message.bytes)?).await?;
                let answer = serde_json::to_vec(&answer).map_err(Error::internal)?;
                begun.stream.send(MessageKind::HostKeyAnswered, answer).await.map_err(lost)?;
            }
            MessageKind::Ended => return ended(&message.bytes),
            _ => return Err(broken("a message that has no place in a validation")),
        }
    }
}

/// Whether the job lets hosts be met for the first time: only then does a relay ask about their keys.
fn trusts_first_contact(start: &TaskStart) -> bool {
    start.config.get("host_keys").is_some_and(|policy| policy == "first-use")
}

/// Has a relay run a task.
pub(crate) async fn run(
    connected: &Connected,
    start: &TaskStart,
    sink: &mut StoreSink,
    recorder: &Recorder,
    over: &CancellationToken,
    host_keys: &RememberedHostKeys,
) -> Result<()> {
    let mut begun = Begun::new(connected, start, over).await?;
    let (mut artifacts, mut held) = (HashMap::<Digest, Bytes>::new(), 0);
    let types = sink.node_types();
    loop {
        let message = begun.next().await?;
        match message.kind {
            MessageKind::Page => {
                sink.page(page(&message.bytes, &types)?).await?;
            }
            MessageKind::Artifact => {
                held += message.bytes.len();
                if held > ARTIFACTS_MAX {
                    return Err(broken("more artifacts than are allowed for one scope"));
                }
                // Never a digest that somebody else computed.
                artifacts.insert(crypto::sha256(&message.bytes), message.bytes.into());
            }
            MessageKind::ScopeDone => {
                let done: ScopeDone<CallRecord> = document(&message.bytes)?;
                if done.coverage == Coverage::Unchanged {
                    return Err(broken("nothing was given to it that a scope could be unchanged since"));
                }
                record(&done, &artifacts, recorder)?;
                (artifacts, held) = (HashMap::new(), 0);
                sink.scope_done(done.scope, done.coverage).await?;
            }
            MessageKind::Progress => {
                let news: Progress = document(&message.bytes)?;
                sink.progress(news.done, news.total, &news.what);
            }
            MessageKind::HostKeyAsked if trusts_first_contact(start) => {
                let answer = host_keys.answer(&document(&message.bytes)?).await?;
                let answer = serde_json::to_vec(&answer).map_err(Error::internal)?;
                begun.stream.send(MessageKind::HostKeyAnswered, answer).await.map_err(lost)?;
            }
            MessageKind::Ended => return ended(&message.bytes),
            _ => return Err(broken("a message that has no place in a task")),
        }
    }
}

/// A page that a relay sends: of what the job's plugin shows and nothing else. A relay is trusted with what it sees, and not with what the plugin
/// of another job shows.
fn page(bytes: &[u8], types: &BTreeSet<String>) -> Result<Page> {
    let page: Page = document(bytes)?;
    if page.nodes.len() + page.edges.len() > Limits::PAGE_OBSERVATIONS {
        return Err(broken("a page with more observations than are allowed"));
    }
    // Of an edge one end: the other one may be somebody else's.
    let is_own = |id: &NodeId| types.contains(id.node_type());
    let foreign = page.edges.iter().filter(|edge| !is_own(&edge.source) && !is_own(&edge.target));
    let foreign =
        page.nodes.iter().map(|node| &node.id).filter(|id| !is_own(id)).chain(foreign.map(|edge| &edge.source)).next();
    if let Some(id) = foreign {
        let shown: String = id.node_type().chars().take(64).flat_map(char::escape_debug).collect();
        let message = format!(
            "the relay shows something of the type `{shown}`, which this server does not know from the plugin: if the relay is of a later version, update the server"
        );
        return Err(Error::Invalid { field: None, message });
    }
    Ok(page)
}

/// Puts a scope's records where the sink takes them from, with the bytes that came before them.
fn record(done: &ScopeDone<CallRecord>, artifacts: &HashMap<Digest, Bytes>, recorder: &Recorder) -> Result<()> {
    let mut records = done.records.clone();
    for at in &done.kept {
        let record = usize::try_from(*at).ok().and_then(|at| records.get_mut(at));
        let record = record.ok_or_else(|| broken("it keeps the bytes of a call that it did not make"))?;
        let digest = record.outcome.as_ref().map(|response| response.digest).ok();
        let bytes = digest.and_then(|digest| artifacts.get(&digest));
        record.kept = Some(bytes.cloned().ok_or_else(|| broken("an artifact is missing or has another digest"))?);
    }
    if records.iter().any(|record| record.scope != done.scope) {
        return Err(broken("a call of another scope"));
    }
    for record in records {
        recorder.push(record);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;
    use transport::{RequestRecord, ResponseRecord};

    use super::*;

    fn call(scope: &str, bytes: &[u8]) -> CallRecord {
        let digest = crypto::sha256(bytes);
        CallRecord {
            scope: scope.parse().unwrap(),
            about: None,
            request: RequestRecord {
                system: "file".to_owned(),
                endpoint: "local".to_owned(),
                operation: "/etc/hosts".to_owned(),
                params_digest: digest,
            },
            outcome: Ok(ResponseRecord {
                status: 200,
                date: None,
                request_id: None,
                digest,
                size: bytes.len() as u64,
                tls_leaf: None,
            }),
            started: Timestamp::from_millis(1),
            finished: Timestamp::from_millis(2),
            retries: 0,
            kept: None,
        }
    }

    fn done(records: Vec<CallRecord>, kept: Vec<u32>) -> ScopeDone<CallRecord> {
        let sent = ScopeDone { scope: "host:a:hosts".parse().unwrap(), coverage: Coverage::Complete, records, kept };
        document(&serde_json::to_vec(&sent).unwrap()).unwrap()
    }

    #[test]
    fn attack_59_a_relay_shows_what_the_jobs_plugin_shows_and_nothing_else() {
        use domain::{NodeObservation, Properties};
        let types = BTreeSet::from(["host.user".to_owned(), "host.group".to_owned()]);
        let node = |id: &str| NodeObservation {
            id: id.parse().unwrap(),
            name: "x".to_owned(),
            properties: Properties::new(),
            tags: domain::Tags::default(),
        };
        let sent = |ids: &[&str]| {
            let page = Page {
                scope: "host:a:accounts".parse().unwrap(),
                nodes: ids.iter().map(|id| node(id)).collect(),
                edges: Vec::new(),
            };
            super::page(&serde_json::to_vec(&page).unwrap(), &types)
        };
        assert_eq!(sent(&["host:local:host.user:m/root", "host:local:host.group:m/root"]).unwrap().nodes.len(), 2);
        let edge = |source: &str, target: &str| {
            let page = Page {
                scope: "host:a:accounts".parse().unwrap(),
                nodes: Vec::new(),
                edges: vec![domain::EdgeObservation {
                    source: source.parse().unwrap(),
                    target: target.parse().unwrap(),
                    edge_type: "member_of".parse().unwrap(),
                    discriminator: String::new(),
                    properties: Properties::new(),
                }],
            };
            super::page(&serde_json::to_vec(&page).unwrap(), &types)
        };
        let (own, foreign) = ("host:local:host.user:m/root", "aws:global:aws.iam.user:root");
        assert!(edge(own, own).is_ok() && edge(own, foreign).is_ok() && edge(foreign, own).is_ok());
        assert!(edge(foreign, foreign).unwrap_err().to_string().contains("something of the type"));
        for other in ["aws:global:aws.iam.user:root", "host:local:host.userx:m/a", "snmp:local:snmp.chassis:m"] {
            let error = sent(&["host:local:host.user:m/root", other]).unwrap_err().to_string();
            assert!(error.contains("something of the type") && error.contains("update the server"), "{other}: {error}");
        }
    }

    #[test]
    fn records_come_back_with_the_bytes_whose_digest_they_name() {
        let recorder = Recorder::default();
        let records = vec![call("host:a:hosts", b"one"), call("host:a:hosts", b"two")];
        let artifacts = HashMap::from([(crypto::sha256(b"two"), Bytes::from_static(b"two"))]);
        record(&done(records, vec![1]), &artifacts, &recorder).unwrap();
        let taken = recorder.take(&"host:a:hosts".parse().unwrap());
        assert_eq!(taken.len(), 2);
        assert_eq!((taken[0].kept.clone(), taken[1].kept.clone()), (None, Some(Bytes::from_static(b"two"))));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_and_leaves_no_record() {
        let one = || call("host:a:hosts", b"one");
        let other = HashMap::from([(crypto::sha256(b"other"), Bytes::from_static(b"other"))]);
        for (records, kept, expect) in [
            (vec![one()], vec![0], "missing or has another digest"),
            (vec![one()], vec![7], "did not make"),
            (vec![call("host:b:hosts", b"one")], vec![], "another scope"),
        ] {
            let recorder = Recorder::default();
            let error = record(&done(records, kept), &other, &recorder).unwrap_err().to_string();
            assert!(error.contains(expect), "{expect}: {error}");
            assert!(recorder.take(&"host:a:hosts".parse().unwrap()).is_empty());
        }
    }
}
