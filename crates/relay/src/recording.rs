//! Recordings of sessions, told to the server while they are made.
//!
//! The server is asked when a session begins, and its word counts. While it is away, what it last said does: a session that has to be recorded
//! does not begin then, any other is held in memory until the server is back or there is no more room.
//!
//! Invariants:
//! - a piece is told again, the same, until the server has it, and the next one not before; the server takes each once;
//! - a server that refuses a piece ends its recording, and with it the session where it has to be recorded.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Clock, DestinationId, RecordingId, Rng};
use fleet::Client;
use gateway::recording::{About, Header, Piece, Recorder, Recording, Room, Summary, Tape, Unrecorded};
use http::Method;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use wire::recording::{
    MEDIA_TYPE, RecordingBegin, RecordingEnd, RecordingMode, RecordingTarget, RecordingTerms, SIGN_OF_LIFE_MS,
};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The same at the end, when it reads all of a recording to sign it. A longer one is asked for again: the server goes on with it.
const SEALED: Duration = Duration::from_secs(55);
/// How long a session waits for the server's word.
const WORD: Duration = Duration::from_secs(3);
/// How long to wait after a failure; each time twice as long.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// How long a session that has to be recorded goes on while the server takes nothing.
const ALONE: Duration = Duration::from_mins(1);
/// Longest command that is told, in bytes; of a longer one the beginning.
const COMMAND_BYTES: usize = 8 * 1_024;
/// How long a relay that stops waits for the server to have what was recorded.
const PARTING: Duration = Duration::from_secs(5);
/// How much is held of all recordings together, in bytes.
const HELD_MAX: usize = 64 * 1_024 * 1_024;

const JSON: &str = "application/json";

struct Inner {
    client: Client,
    /// What the server last said of each destination.
    told: RwLock<HashMap<DestinationId, RecordingTerms>>,
    room: Arc<Room>,
    telling: TaskTracker,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// Where a relay's proxies record; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recordings(Arc<Inner>);

/// Why something was not told.
enum Untold {
    /// The server will not have it.
    Refused(String),
    /// Perhaps later.
    Later(String),
}

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Refused(why) | Self::Later(why)) = self;
        f.write_str(why)
    }
}

/// What a recording is called.
fn title(about: &About) -> String {
    match &about.target {
        RecordingTarget::Kubernetes { action, namespace, pod, command, .. } => {
            format!("{} {action} {namespace}/{pod} {}", about.user, command.join(" ")).trim_end().to_owned()
        }
        RecordingTarget::Ssh { account, command, .. } => {
            format!("{} ssh {account} {command}", about.user).trim_end().to_owned()
        }
    }
}

/// The same with a command that is no longer than is told.
fn bounded(mut target: RecordingTarget) -> RecordingTarget {
    let cut = |text: &mut String, left: &mut usize| {
        if text.len() > *left {
            text.truncate(text.floor_char_boundary(*left));
            text.push('…');
        }
        *left = left.saturating_sub(text.len());
    };
    let mut left = COMMAND_BYTES;
    match &mut target {
        RecordingTarget::Kubernetes { command, .. } => {
            command.truncate(COMMAND_BYTES / 8);
            for word in command.iter_mut() {
                cut(word, &mut left);
            }
        }
        RecordingTarget::Ssh { command, .. } => cut(command, &mut left),
    }
    target
}

impl Recordings {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let (told, telling) = (RwLock::default(), TaskTracker::new());
        Self(Arc::new(Inner { client, told, room: Room::new(HELD_MAX), telling, clock, rng }))
    }

    /// What counts at a destination while the server is away.
    pub(crate) fn note(&self, destination: DestinationId, terms: RecordingTerms) {
        self.0.told.write().unwrap_or_else(PoisonError::into_inner).insert(destination, terms);
    }

    /// Waits until the server has everything, for as long as a relay that stops may take.
    pub(crate) async fn wait_told(&self) {
        self.0.telling.close();
        let _ = tokio::time::timeout(PARTING, self.0.telling.wait()).await;
    }

    async fn send(&self, path: &str, media: &'static str, body: &[u8]) -> Result<Vec<u8>, Untold> {
        self.send_within(ANSWER, path, media, body).await
    }

    async fn send_within(
        &self,
        limit: Duration,
        path: &str,
        media: &'static str,
        body: &[u8],
    ) -> Result<Vec<u8>, Untold> {
        let client = &self.0.client;
        let target = format!("{}/recordings{path}", client.path());
        match tokio::time::timeout(limit, client.call_as(Method::POST, &target, media, body)).await {
            Ok(Ok(answer)) => Ok(answer.body),
            Ok(Err(error @ fleet::Error::Refused { status: 400..=428 | 430..=499, .. })) => {
                Err(Untold::Refused(error.to_string()))
            }
            Ok(Err(error)) => Err(Untold::Later(error.to_string())),
            Err(_) => Err(Untold::Later("the server did not answer in time".to_owned())),
        }
    }

    async fn send_begin(&self, begin: &RecordingBegin) -> Result<RecordingTerms, Untold> {
        let answer = self.send("", JSON, &document(begin)?).await?;
        serde_json::from_slice(&answer).map_err(|_| Untold::Later("the server answers something else".to_owned()))
    }

    /// Tells a recording from its beginning to its end. `begun`: the server has its beginning.
    async fn tell(self, begin: RecordingBegin, tape: Tape, begun: bool) {
        let told = async {
            if !begun {
                let terms = insist(&tape, || self.send_begin(&begin)).await?;
                if terms.mode == RecordingMode::Off {
                    return Err("the tenant wants no recordings any more".to_owned());
                }
            }
            let mut next = 1;
            loop {
                let silence = Duration::from_millis(SIGN_OF_LIFE_MS);
                match tokio::time::timeout(silence, tape.next()).await {
                    // Nothing new: a piece without bytes is a sign of life.
                    Err(_) => {
                        let path = format!("/{}/chunks/{next}", begin.id);
                        insist(&tape, || self.send(&path, MEDIA_TYPE, b"")).await?;
                    }
                    Ok(Piece::Chunk(number, bytes)) => {
                        let path = format!("/{}/chunks/{number}", begin.id);
                        insist(&tape, || self.send(&path, MEDIA_TYPE, &bytes)).await?;
                        tape.taken();
                        next = number + 1;
                    }
                    Ok(Piece::End(summary)) => {
                        let (path, end) =
                            (format!("/{}/end", begin.id), document(&self.end(summary)).map_err(|it| it.to_string())?);
                        insist(&tape, || self.send_within(SEALED, &path, JSON, &end)).await?;
                        return Ok(());
                    }
                }
            }
        };
        if let Err(why) = told.await {
            tracing::error!(recording = %begin.id, error = why, "the server takes no more of a recording");
            tape.fail(&format!("the server takes no more of the recording: {why}"));
        }
    }

    fn end(&self, summary: Summary) -> RecordingEnd {
        RecordingEnd {
            at: self.0.clock.now(),
            began: summary.began,
            complete: summary.complete,
            reason: summary.reason,
            exit: summary.exit,
            chunks: summary.chunks,
            chain: summary.chain,
            output: summary.output,
            output_sha256: summary.output_sha256,
            input: summary.input,
            input_sha256: summary.input_sha256,
        }
    }

    /// The terms for a session, and whether they are the server's own word; none where it goes on without being recorded.
    async fn terms(&self, begin: &RecordingBegin) -> Result<Option<(RecordingTerms, bool)>, Unrecorded> {
        let asked = tokio::time::timeout(WORD, self.send_begin(begin)).await;
        let error = match asked.unwrap_or_else(|_| Err(Untold::Later("the server did not answer in time".to_owned()))) {
            Ok(terms) => return Ok(Some((terms, true))),
            Err(error) => error,
        };
        let told = self.0.told.read().unwrap_or_else(PoisonError::into_inner).get(&begin.destination).copied();
        tracing::warn!(recording = %begin.id, %error, ?told, "the server was not told of a recording");
        untold(error, told).map(|terms| terms.map(|terms| (terms, false)))
    }
}

/// What becomes of a session whose beginning the server did not take, by what it said before: it is recorded until the server is back, goes on
/// without (none), or does not begin.
fn untold(error: Untold, told: Option<RecordingTerms>) -> Result<Option<RecordingTerms>, Unrecorded> {
    match (error, told.filter(|terms| terms.mode != RecordingMode::Required)) {
        (Untold::Refused(_), Some(_)) => Ok(None),
        (Untold::Refused(why), None) => Err(Unrecorded(why)),
        (Untold::Later(_), Some(terms)) => Ok(Some(terms)),
        (Untold::Later(_), None) => Err(Unrecorded("the server, which keeps it, is away: try again later".to_owned())),
    }
}

fn document(document: &impl serde::Serialize) -> Result<Vec<u8>, Untold> {
    serde_json::to_vec(document).map_err(|error| Untold::Refused(error.to_string()))
}

/// Until the server has it, or will not have it. A session that has to be recorded does not go on for long without.
async fn insist<T, F: Future<Output = Result<T, Untold>>>(tape: &Tape, tell: impl Fn() -> F) -> Result<T, String> {
    let (began, mut pause) = (Instant::now(), AGAIN);
    loop {
        match tell().await {
            Ok(told) => return Ok(told),
            Err(Untold::Refused(why)) => return Err(why),
            Err(Untold::Later(why)) => {
                tracing::warn!(error = why, "a recording is not told yet");
                if tape.is_required() && began.elapsed() > ALONE {
                    tape.fail("the server has taken nothing of it for a minute");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

#[async_trait]
impl Recorder for Recordings {
    async fn begin(&self, about: About) -> Result<Recording, Unrecorded> {
        let (clock, rng) = (&self.0.clock, &self.0.rng);
        let (at, tty) = (clock.now(), about.target.is_tty());
        let header = Header { at, title: title(&about) };
        let begin = RecordingBegin {
            id: RecordingId::generate(&**clock, &**rng),
            at,
            destination: about.destination,
            user: about.user,
            user_id: about.user_id,
            session: about.session,
            token: about.token,
            role: about.role,
            from: about.from,
            call: about.call,
            target: bounded(about.target),
        };
        let Some((terms, begun)) = self.terms(&begin).await? else { return Ok(Recording::none()) };
        let (recording, tape) = Recording::new(terms, &header, tty, &self.0.room);
        if terms.mode != RecordingMode::Off {
            self.0.telling.spawn(self.clone().tell(begin, tape, begun));
        }
        Ok(recording)
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;

    use super::*;

    fn begun(mode: RecordingMode) -> (Recording, Tape) {
        let header = Header { at: Timestamp::from_millis(0), title: "t".to_owned() };
        Recording::new(RecordingTerms { mode, input: false }, &header, true, &Room::new(1 << 20))
    }

    #[test]
    fn what_the_server_said_before_decides_where_it_takes_no_beginning() {
        let terms = |mode| Some(RecordingTerms { mode, input: true });
        let (refused, later) = (|| Untold::Refused("no".to_owned()), || Untold::Later("away".to_owned()));
        let (best, required, off) =
            (terms(RecordingMode::BestEffort), terms(RecordingMode::Required), terms(RecordingMode::Off));
        for (error, told, expect) in [
            // It is held until the server is back.
            (later(), best, Ok(best)),
            (later(), off, Ok(off)),
            // The server will not have it: it goes on without.
            (refused(), best, Ok(None)),
            (refused(), off, Ok(None)),
            (refused(), required, Err("no")),
            (refused(), None, Err("no")),
            (later(), required, Err("is away")),
            (later(), None, Err("is away")),
        ] {
            match (untold(error, told), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(found), Err(expect)) => assert!(found.0.contains(expect), "{found}"),
                (found, expect) => panic!("{found:?} is not {expect:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_has_to_be_recorded_ends_after_a_minute_in_which_the_server_takes_nothing() {
        for (mode, ends) in [(RecordingMode::Required, true), (RecordingMode::BestEffort, false)] {
            let ((recording, tape), tries) = (begun(mode), std::cell::Cell::new(0));
            let began = Instant::now();
            let told = insist(&tape, || async {
                tries.set(tries.get() + 1);
                if began.elapsed() < Duration::from_mins(10) { Err(Untold::Later("away".to_owned())) } else { Ok(7) }
            });
            let (told, within) = tokio::join!(told, async {
                tokio::time::sleep(Duration::from_secs(59)).await;
                let before = recording.output(b"a").await;
                tokio::time::sleep(Duration::from_mins(1)).await;
                (before, recording.output(b"b").await)
            });
            assert_eq!(told, Ok(7), "it is told as soon as the server is back");
            assert!(within.0.is_ok());
            assert_eq!(within.1.is_err(), ends, "{mode:?}");
            assert!(tries.get() < 30, "the pause grows: {}", tries.get());
        }
        let (_recording, tape) = begun(RecordingMode::Required);
        let refused = insist(&tape, || async { Err::<(), _>(Untold::Refused("no".to_owned())) }).await;
        assert_eq!(refused, Err("no".to_owned()), "at once");
    }

    #[test]
    fn a_long_command_is_told_by_its_beginning() {
        let ssh = |command: String| RecordingTarget::Ssh { account: "deploy".to_owned(), command, tty: false };
        assert_eq!(bounded(ssh("uptime".to_owned())), ssh("uptime".to_owned()));
        let RecordingTarget::Ssh { command, .. } = bounded(ssh("é".repeat(COMMAND_BYTES))) else { panic!("a host") };
        assert!(command.len() <= COMMAND_BYTES + 3 && command.ends_with("é…"), "{}", command.len());
    }
}
