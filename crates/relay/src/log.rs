//! The log: lines on standard error, and the same lines for whoever follows it at the server.
//!
//! Invariants:
//! - what looks like a secret is blanked out before a line is kept or sent anywhere;
//! - a line never waits for a follower: what a follower does not take in time is dropped and counted;
//! - what is kept and what waits is bounded in number and length, and never written to a file.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use domain::Clock;
use gateway::StreamHandle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use wire::frame::{MessageKind, Reason};
use wire::relay::{Ended, FollowLog, LogLine};

/// Lines that are kept for who asks later.
const RECENT: usize = 200;
/// Lines that wait for a follower.
const WAITING: usize = 256;
/// Followers at a time.
const FOLLOWERS: usize = 8;
/// Longest text of a line, and of all its fields, in bytes.
const TEXT_BYTES: usize = 1_500;
/// How much is read of one value before the filter and the cut.
const VALUE_BYTES: usize = 64 * 1_024;
/// Most fields of a line.
const FIELDS: usize = 16;

#[derive(Default)]
struct Lines {
    recent: VecDeque<LogLine>,
    followers: Vec<Follower>,
}

struct Follower {
    lines: mpsc::Sender<LogLine>,
    dropped: u64,
}

/// The log of this process.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Lines>>,
    clock: Arc<dyn Clock>,
}

/// Starts logging for the whole process.
pub(crate) fn start(filter: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Log> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("RELAY_LOG")?;
    let log = Log::new(clock);
    let written = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(redact::Redacting(std::io::stderr));
    tracing_subscriber::registry().with(filter).with(written).with(log.clone()).try_init()?;
    Ok(log)
}

impl Log {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { lines: Arc::default(), clock: Arc::clone(clock) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &LogLine) {
        let mut lines = self.lines();
        if lines.recent.len() >= RECENT {
            lines.recent.pop_front();
        }
        lines.recent.push_back(line.clone());
        lines.followers.retain_mut(|follower| {
            match follower.lines.try_send(LogLine { dropped: follower.dropped, ..line.clone() }) {
                Ok(()) => follower.dropped = 0,
                Err(TrySendError::Full(_)) => follower.dropped += 1,
                Err(TrySendError::Closed(_)) => return false,
            }
            true
        });
    }

    /// The lines so far, and those that follow; none when too many follow already.
    fn follow(&self) -> Option<(Vec<LogLine>, mpsc::Receiver<LogLine>)> {
        let mut lines = self.lines();
        lines.followers.retain(|follower| !follower.lines.is_closed());
        if lines.followers.len() >= FOLLOWERS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        lines.followers.push(Follower { lines: sender, dropped: 0 });
        Some((lines.recent.iter().cloned().collect(), receiver))
    }

    /// Sends the log on a stream until the server has enough.
    pub(crate) async fn send(&self, stream: StreamHandle, question: &[u8]) {
        let Ok(FollowLog { keep }) = serde_json::from_slice(question) else {
            return stream.close(Reason::Protocol, "what is to be sent of the log is not understood");
        };
        let Some((recent, mut lines)) = self.follow() else {
            return stream.close(Reason::Limit, "as many follow this relay's log as may");
        };
        for line in &recent {
            if send(&stream, line).await.is_err() {
                return;
            }
        }
        if keep {
            loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(line) if send(&stream, &line).await.is_ok() => {}
                        _ => return,
                    },
                    // Nothing else comes: it is the end.
                    _ = stream.recv() => return,
                }
            }
        }
        let ended = serde_json::to_vec(&Ended::Completed {}).unwrap_or_default();
        if stream.send(MessageKind::Ended, ended).await.is_ok() {
            // The server closes the stream once it has everything.
            let _ = stream.recv().await;
        }
    }
}

async fn send(stream: &StreamHandle, line: &LogLine) -> Result<(), gateway::ChannelEnded> {
    let mut document = serde_json::to_vec(line).unwrap_or_default();
    if document.len() > MessageKind::Log.bytes_max() {
        let text = "this line is too long to be sent".to_owned();
        let short = LogLine { text, target: String::new(), fields: BTreeMap::new(), ..line.clone() };
        document = serde_json::to_vec(&short).unwrap_or_default();
    }
    stream.send(MessageKind::Log, document).await
}

/// Collects what an event says, as far as there is room.
struct Collect {
    text: String,
    fields: BTreeMap<String, String>,
    left: usize,
}

/// Text that grows no further than this.
struct Short<'a> {
    text: &'a mut String,
    left: usize,
}

impl fmt::Write for Short<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for character in more.chars() {
            self.left = self.left.checked_sub(character.len_utf8()).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

impl Collect {
    fn add(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let mut text = String::new();
        // An error is the end of the room.
        let _ = Short { text: &mut text, left: VALUE_BYTES }.write_fmt(value);
        // The filter first: half of a secret does not look like one.
        let mut text = redact::redact(&text).into_owned();
        let room = if name == "message" { TEXT_BYTES } else { self.left };
        text.truncate(text.floor_char_boundary(room));
        if name == "message" {
            self.text = text;
        } else if self.fields.len() < FIELDS {
            self.left -= text.len();
            self.fields.insert(name.to_owned(), text);
        }
    }
}

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), format_args!("{value}"));
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut collect = Collect { text: String::new(), fields: BTreeMap::new(), left: TEXT_BYTES };
        event.record(&mut collect);
        self.add(&LogLine {
            at: self.clock.now(),
            level: event.metadata().level().as_str().to_ascii_lowercase(),
            target: event.metadata().target().to_owned(),
            text: collect.text,
            fields: collect.fields,
            dropped: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(work: impl FnOnce()) -> Log {
        let log = Log::new(&(Arc::new(crypto::system::SystemClock) as Arc<dyn Clock>));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log.clone()), work);
        log
    }

    #[test]
    fn attack_59_a_line_is_kept_without_what_looks_like_a_secret_and_within_its_room() {
        let secret = "0123456789abcdef0123456789abcdef";
        let log = logged(|| {
            tracing::warn!(error = %format!("password={secret}"), other = 7, "Authorization: Bearer {secret}");
            tracing::info!(long = %"é".repeat(100_000), "{}", "\u{1}".repeat(100_000));
        });
        let (recent, _lines) = log.follow().unwrap();
        assert_eq!(recent.len(), 2);
        assert!(!format!("{recent:?}").contains(secret), "{recent:?}");
        assert_eq!((recent[0].level.as_str(), recent[0].fields["other"].as_str()), ("warn", "7"));
        assert!(recent[0].text.starts_with("Authorization: Bearer [redacted]"), "{}", recent[0].text);
        assert!(recent[1].text.len() <= TEXT_BYTES && recent[1].fields["long"].len() <= TEXT_BYTES);
    }

    #[test]
    fn who_does_not_take_lines_holds_nobody_up_and_is_told_how_many_were_dropped() {
        let log = logged(|| {});
        let (_, mut lines) = log.follow().unwrap();
        let line = LogLine {
            at: domain::Timestamp::from_millis(1),
            level: "info".to_owned(),
            target: String::new(),
            text: "x".to_owned(),
            fields: BTreeMap::new(),
            dropped: 0,
        };
        for _ in 0..WAITING + 50 {
            log.add(&line);
        }
        assert_eq!(log.lines().recent.len(), RECENT);
        assert_eq!(lines.try_recv().unwrap().dropped, 0);
        log.add(&line);
        let rest: Vec<_> = std::iter::from_fn(|| lines.try_recv().ok()).collect();
        assert_eq!((rest.len(), rest.last().unwrap().dropped), (WAITING, 50));

        // Who is gone makes room, and no more than a few follow.
        drop(lines);
        let places: Vec<_> = (0..FOLLOWERS).map(|_| log.follow().unwrap()).collect();
        assert!(log.follow().is_none());
        drop(places);
        assert!(log.follow().is_some());
    }
}
