//! One recording while it is made: what the session writes, and what is taken from it in pieces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crypto::Sha256;
use domain::Digest;
use tokio::sync::Notify;
use tokio::time::Instant;
use wire::recording::{
    BYTES_MAX, CHAIN_BEGIN, CHUNK_BYTES_MAX, DURATION_MS_MAX, Passed, RecordingMode, RecordingTerms,
};

use super::Unrecorded;
use super::cast::{self, Decoder, Header};

/// How much of one recording is held, in bytes.
const HELD_MAX: usize = 2 * 1_024 * 1_024;
/// How long a session waits until there is room again.
const WAIT: Duration = Duration::from_secs(10);
/// How long is gathered before a piece is taken.
const GATHER: Duration = Duration::from_secs(1);
/// What is recorded at once of a stream that is on no terminal, in bytes. What is sent to a session that has to be recorded is recorded whole.
const BULK_BYTES: u64 = 1_024 * 1_024;
/// What is added to that each second. People and scripts that read stay below it; a copied file does not.
const BULK_BYTES_PER_S: u64 = 32 * 1_024;

/// Room for all recordings of a process together.
#[derive(Debug)]
pub struct Room {
    used: AtomicUsize,
    max: usize,
    freed: Notify,
}

impl Room {
    /// For so many bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max, freed: Notify::new() })
    }

    fn free(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.freed.notify_waiters();
    }
}

/// What a stream that is on no terminal may still take. A terminal is bounded by the whole recording only.
#[derive(Debug)]
struct Allowance {
    left: u64,
    at: Duration,
}

impl Allowance {
    /// How many of these bytes are recorded.
    fn take(&mut self, now: Duration, bytes: usize) -> usize {
        let millis = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(BULK_BYTES_PER_S) / 1_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BULK_BYTES);
            self.at = now;
        }
        let taken = u64::try_from(bytes).unwrap_or(u64::MAX).min(self.left);
        self.left -= taken;
        usize::try_from(taken).unwrap_or(bytes)
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    decoder: Decoder,
    passed: Passed,
    /// Left out since the last mark.
    gap: u64,
    /// What is still recorded of it where it is on no terminal. Each direction has its own: a flood in one blinds nobody to the other.
    bulk: Option<Allowance>,
}

impl Way {
    /// The lines for bytes that went by.
    fn push(&mut self, at: Duration, kind: char, bytes: &[u8]) -> String {
        let kept = self.bulk.as_mut().map_or(bytes.len(), |allowance| allowance.take(at, bytes.len()));
        let (kept, left_out) = bytes.split_at(kept.min(bytes.len()));
        self.passed.bytes = self.passed.bytes.saturating_add(bytes.len() as u64);
        let mut lines = if kept.is_empty() { String::new() } else { self.mark(at) };
        lines.push_str(&cast::text(at, kind, &self.decoder.push(kept)));
        if !left_out.is_empty() {
            lines.push_str(&cast::text(at, kind, self.decoder.finish()));
            self.gap = self.gap.saturating_add(left_out.len() as u64);
            self.passed.left_out = self.passed.left_out.saturating_add(left_out.len() as u64);
        }
        lines
    }

    /// Says what is left out before what follows.
    fn mark(&mut self, at: Duration) -> String {
        match std::mem::take(&mut self.gap) {
            0 => String::new(),
            gap => cast::mark(at, &format!("{gap} bytes are left out here")),
        }
    }
}

#[derive(Default)]
struct State {
    held: Vec<u8>,
    /// How much of it is on its way.
    taken: usize,
    written: u64,
    chunks: u64,
    chain: Option<Digest>,
    output: Way,
    input: Way,
    hash: Option<Sha256>,
    /// Of what was sent, where that is recorded: of what is not, a hash could be guessed at, and a password with it.
    input_hash: Option<Sha256>,
    exit: Option<i32>,
    began: bool,
    /// Why not everything is recorded.
    failed: Option<String>,
    /// Why it ended.
    ended: Option<String>,
    /// Whether the last words are held.
    closed: bool,
    summary: Option<Summary>,
}

struct Inner {
    state: Mutex<State>,
    terms: RecordingTerms,
    began: Instant,
    room: Arc<Room>,
    filled: Notify,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a failure means for the session.
    fn verdict(&self, why: &str) -> Result<(), Unrecorded> {
        if self.terms.mode == RecordingMode::Required { Err(Unrecorded(why.to_owned())) } else { Ok(()) }
    }

    /// Ends the recording before its session: what is there stays.
    fn fail(&self, why: &str) -> Result<(), Unrecorded> {
        let mut state = self.state();
        let why = state.failed.get_or_insert_with(|| why.to_owned()).clone();
        drop(state);
        self.filled.notify_one();
        self.room.freed.notify_waiters();
        self.verdict(&why)
    }

    fn hold(&self, state: &mut State, lines: &str) {
        state.held.extend_from_slice(lines.as_bytes());
        state.written = state.written.saturating_add(lines.len() as u64);
        self.room.used.fetch_add(lines.len(), Ordering::AcqRel);
    }

    /// Adds lines as soon as there is room.
    async fn write(&self, lines: impl FnOnce(&mut State, Duration) -> String) -> Result<(), Unrecorded> {
        let until = Instant::now() + WAIT;
        let mut lines = Some(lines);
        loop {
            let freed = self.room.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // From here on nobody's word that there is room is missed.
            freed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(why) = &state.failed {
                    return self.verdict(&why.clone());
                }
                if state.held.len() < HELD_MAX && self.room.used.load(Ordering::Acquire) < self.room.max {
                    let (at, Some(lines)) = (self.began.elapsed(), lines.take()) else { return Ok(()) };
                    state.began = true;
                    let lines = lines(&mut state, at);
                    let too_long = at.as_millis() > u128::from(DURATION_MS_MAX);
                    if too_long || state.written.saturating_add(lines.len() as u64) > BYTES_MAX {
                        drop(state);
                        return self.fail(if too_long {
                            "the session goes on for longer than a recording may"
                        } else {
                            "the recording is as large as one may be"
                        });
                    }
                    if !lines.is_empty() {
                        self.hold(&mut state, &lines);
                        self.filled.notify_one();
                    }
                    return Ok(());
                }
            }
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return self.fail("what is recorded is not taken: is the server there?");
            }
        }
    }

    /// Ends it, if nobody did before.
    fn end(&self, why: &str, began: bool) {
        let mut state = self.state();
        if state.ended.is_none() {
            state.ended = Some(why.to_owned());
            state.began |= began;
        }
        drop(state);
        self.filled.notify_one();
    }
}

/// What a session writes into.
pub struct Recording(Option<Arc<Inner>>);

impl Recording {
    /// One that records nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// A recording, and what it is taken from. `tty`: on a terminal that echoes. Otherwise what is shown beyond what people read is left out, and
    /// marked, and what is sent is recorded whatever the terms say: nothing echoes it. Where the session has to be recorded, nothing is left out of
    /// what is sent: a flood would hide the command behind it.
    pub fn new(terms: RecordingTerms, header: &Header, tty: bool, room: &Arc<Room>) -> (Self, Tape) {
        if terms.mode == RecordingMode::Off {
            return (Self::none(), Tape(None));
        }
        let way = |is_bulk: bool| Way {
            bulk: is_bulk.then_some(Allowance { left: BULK_BYTES, at: Duration::ZERO }),
            ..Way::default()
        };
        let terms = RecordingTerms { input: terms.input || !tty, ..terms };
        let state = State {
            hash: Some(Sha256::new()),
            input_hash: terms.input.then(Sha256::new),
            output: way(!tty),
            input: way(!tty && terms.mode != RecordingMode::Required),
            ..State::default()
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            terms,
            began: Instant::now(),
            room: Arc::clone(room),
            filled: Notify::new(),
        });
        inner.hold(&mut inner.state(), &header.line());
        (Self(Some(Arc::clone(&inner))), Tape(Some(inner)))
    }

    /// Takes in what the user is about to see.
    pub async fn output(&self, bytes: &[u8]) -> Result<(), Unrecorded> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let write = |state: &mut State, at| {
            if let Some(hash) = &mut state.hash {
                hash.update(bytes);
            }
            state.output.push(at, 'o', bytes)
        };
        inner.write(write).await
    }

    /// Takes in what the user sends.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), Unrecorded> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let is_kept = inner.terms.input;
        let write = |state: &mut State, at| {
            if is_kept {
                if let Some(hash) = &mut state.input_hash {
                    hash.update(bytes);
                }
                return state.input.push(at, 'i', bytes);
            }
            state.input.passed.bytes = state.input.passed.bytes.saturating_add(bytes.len() as u64);
            String::new()
        };
        inner.write(write).await
    }

    /// Takes in a new size of the terminal.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Unrecorded> {
        let Some(inner) = &self.0 else { return Ok(()) };
        inner.write(|_, at| cast::resize(at, columns, rows)).await
    }

    /// Notes with which status the command ended.
    pub fn exit(&self, status: i32) {
        if let Some(inner) = &self.0 {
            inner.state().exit = Some(status);
        }
    }

    /// The session cannot be recorded from here on: its stream is not understood.
    pub fn fail(&self, why: &str) -> Result<(), Unrecorded> {
        self.0.as_ref().map_or(Ok(()), |inner| inner.fail(why))
    }

    /// The session ended.
    pub fn end(&self, why: &str) {
        if let Some(inner) = &self.0 {
            inner.end(why, true);
        }
    }

    /// There was no session: the destination let nobody in. Nothing is kept.
    pub fn refused(&self, why: &str) {
        if let Some(inner) = &self.0 {
            inner.end(why, false);
        }
    }
}

impl Drop for Recording {
    /// Who does not say how it ended may have begun something.
    fn drop(&mut self) {
        self.end("it was broken off");
    }
}

/// The next thing that is to be told of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines, with their place from 1.
    Chunk(u64, Vec<u8>),
    /// It has ended, and everything of it was taken.
    End(Summary),
}

/// How a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whether there was a session.
    pub began: bool,
    /// Whether everything is recorded that was to be.
    pub complete: bool,
    /// Why it ended.
    pub reason: String,
    /// With which status the command ended.
    pub exit: Option<i32>,
    /// Pieces that were taken.
    pub chunks: u64,
    /// The hash over all of them.
    pub chain: Digest,
    /// What the user saw.
    pub output: Passed,
    /// SHA-256 of it.
    pub output_sha256: Digest,
    /// What the user sent.
    pub input: Passed,
    /// SHA-256 of it, where it is recorded.
    pub input_sha256: Option<Digest>,
}

/// What a recording is taken from, piece by piece.
pub struct Tape(Option<Arc<Inner>>);

impl Tape {
    /// The next piece, once it is worth taking. The same again until [`Tape::taken`], and after the end the end. Dropping the future takes nothing.
    pub async fn next(&self) -> Piece {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        loop {
            let filled = inner.filled.notified();
            if let Some(piece) = Self::ready(inner, false) {
                return piece;
            }
            filled.await;
            // What comes in a moment goes along, but an end waits for nobody.
            let gathered = tokio::time::timeout(GATHER, async {
                while Self::ready(inner, false).is_none() {
                    inner.filled.notified().await;
                }
            });
            let _ = gathered.await;
            if let Some(piece) = Self::ready(inner, true) {
                return piece;
            }
        }
    }

    fn ready(inner: &Inner, take_little: bool) -> Option<Piece> {
        let mut state = inner.state();
        let is_over = state.ended.is_some() || state.failed.is_some();
        if is_over && !state.closed {
            state.closed = true;
            Self::close(inner, &mut state);
        }
        if !state.began && !is_over {
            // Nobody may be let in: then there is nothing to tell.
            return None;
        }
        if state.held.is_empty() {
            return is_over.then(|| Piece::End(Self::summary(&mut state)));
        }
        if state.taken == 0 {
            if !take_little && !is_over && state.held.len() < CHUNK_BYTES_MAX {
                return None;
            }
            state.taken = whole_lines(&state.held);
        }
        let bytes = state.held.get(..state.taken).unwrap_or_default().to_vec();
        Some(Piece::Chunk(state.chunks + 1, bytes))
    }

    /// The last words. Where nobody was let in there are none, and what is held is worth nothing.
    fn close(inner: &Inner, state: &mut State) {
        if !state.began && state.failed.is_none() && state.taken == 0 {
            inner.room.free(std::mem::take(&mut state.held).len());
            return;
        }
        let at = inner.began.elapsed();
        let mut lines = String::new();
        for (kind, way) in [('o', &mut state.output), ('i', &mut state.input)] {
            lines.push_str(&cast::text(at, kind, way.decoder.finish()));
            lines.push_str(&way.mark(at));
        }
        inner.hold(state, &lines);
    }

    fn summary(state: &mut State) -> Summary {
        if let Some(summary) = &state.summary {
            return summary.clone();
        }
        let mut reason = state.failed.as_ref().or(state.ended.as_ref()).cloned().unwrap_or_default();
        // Of what is shown enough is there to know what it was. What was sent may be commands, which leave no other trace.
        let unseen = state.input.passed.left_out;
        if unseen > 0 {
            reason = format!("{reason}; {unseen} bytes that were sent are not in the recording");
        }
        let summary = Summary {
            began: state.began || state.failed.is_some(),
            complete: state.failed.is_none() && unseen == 0,
            reason,
            exit: state.exit,
            chunks: state.chunks,
            chain: state.chain.unwrap_or(CHAIN_BEGIN),
            output: state.output.passed,
            output_sha256: state.hash.take().unwrap_or_default().finish(),
            input: state.input.passed,
            input_sha256: state.input_hash.take().map(Sha256::finish),
        };
        state.summary.insert(summary).clone()
    }

    /// The piece is where it belongs.
    pub fn taken(&self) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.state();
        let count = std::mem::take(&mut state.taken);
        let piece: Vec<u8> = state.held.drain(..count).collect();
        let link = wire::recording::chain(&state.chain.unwrap_or(CHAIN_BEGIN), &crypto::sha256(&piece));
        state.chain = Some(crypto::sha256(&link));
        state.chunks += 1;
        drop(state);
        inner.room.free(count);
    }

    /// Whether its session must not go on without it.
    pub fn is_required(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.terms.mode == RecordingMode::Required)
    }

    /// Nobody takes it any more.
    pub fn fail(&self, why: &str) {
        if let Some(inner) = &self.0 {
            // What it means for the session, the session hears.
            let _ = inner.fail(why);
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            let held = {
                let mut state = inner.state();
                state.taken = 0;
                std::mem::take(&mut state.held).len()
            };
            inner.room.free(held);
            let _ = inner.fail("nobody takes the recording any more");
        }
    }
}

/// How many bytes of whole lines fit into one piece; a line that fits into none is cut.
fn whole_lines(held: &[u8]) -> usize {
    let piece = held.get(..held.len().min(CHUNK_BYTES_MAX)).unwrap_or_default();
    piece.iter().rposition(|byte| *byte == b'\n').map_or(piece.len(), |at| at + 1)
}

#[cfg(test)]
mod tests;
