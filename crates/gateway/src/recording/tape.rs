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
/// What is recorded at once of a stream that is on no terminal, in bytes.
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

    /// A recording, and what it is taken from. `tty`: on a terminal; otherwise what is more than people read is left out, and marked, and what is
    /// sent is recorded whatever the terms say: nothing echoes it.
    pub fn new(terms: RecordingTerms, header: &Header, tty: bool, room: &Arc<Room>) -> (Self, Tape) {
        if terms.mode == RecordingMode::Off {
            return (Self::none(), Tape(None));
        }
        let way =
            || Way { bulk: (!tty).then_some(Allowance { left: BULK_BYTES, at: Duration::ZERO }), ..Way::default() };
        let state = State { hash: Some(Sha256::new()), output: way(), input: way(), ..State::default() };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            terms: RecordingTerms { input: terms.input || !tty, ..terms },
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
        let reason = state.failed.as_ref().or(state.ended.as_ref());
        let summary = Summary {
            began: state.began || state.failed.is_some(),
            complete: state.failed.is_none(),
            reason: reason.cloned().unwrap_or_default(),
            exit: state.exit,
            chunks: state.chunks,
            chain: state.chain.unwrap_or(CHAIN_BEGIN),
            output: state.output.passed,
            output_sha256: state.hash.take().unwrap_or_default().finish(),
            input: state.input.passed,
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
mod tests {
    use domain::Timestamp;

    use super::*;

    fn terms(mode: RecordingMode, input: bool) -> RecordingTerms {
        RecordingTerms { mode, input }
    }

    fn begin(terms: RecordingTerms, tty: bool, room: usize) -> (Recording, Tape) {
        let header = Header { at: Timestamp::from_millis(1_700_000_000_000), title: "t".to_owned() };
        Recording::new(terms, &header, tty, &Room::new(room))
    }

    /// Everything that is told of one, and how it ended.
    async fn drain(tape: &Tape) -> (String, Summary) {
        let mut text = Vec::new();
        loop {
            match tape.next().await {
                Piece::Chunk(number, bytes) => {
                    assert_eq!(tape.next().await, Piece::Chunk(number, bytes.clone()), "the same until it is taken");
                    text.extend_from_slice(&bytes);
                    tape.taken();
                }
                Piece::End(summary) => {
                    assert_eq!(tape.next().await, Piece::End(summary.clone()));
                    return (String::from_utf8(text).unwrap(), summary);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_session_shows_is_told_in_order_with_its_hash() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
        let told = tokio::spawn(async move { drain(&tape).await });
        recording.resize(120, 40).await.unwrap();
        recording.input(b"secret").await.unwrap();
        recording.output("h\u{e9}".as_bytes().split_at(2).0).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        recording.output("h\u{e9}".as_bytes().split_at(2).1).await.unwrap();
        recording.exit(3);
        recording.end("the command ended");
        let (text, summary) = told.await.unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["[0.000000, \"r\", \"120x40\"]", "[0.000000, \"o\", \"h\"]", "[2.000000, \"o\", \"\u{e9}\"]"]
        );
        assert_eq!((summary.complete, summary.exit, summary.chunks), (true, Some(3), 2));
        assert_eq!(summary.output_sha256, crypto::sha256("h\u{e9}".as_bytes()));
        assert_eq!((summary.output.bytes, summary.input.bytes), (3, 6), "what is typed is counted, and not kept");
        assert!(!text.contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn input_is_recorded_only_where_the_tenant_says_so() {
        let (recording, tape) = begin(terms(RecordingMode::BestEffort, true), true, 1 << 20);
        recording.input(b"ls\r").await.unwrap();
        drop(recording);
        let (text, summary) = drain(&tape).await;
        assert!(text.ends_with("[0.000000, \"i\", \"ls\\r\"]\n"), "{text}");
        assert_eq!((summary.began, summary.reason.as_str()), (true, "it was broken off"));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_taken_a_session_waits_and_then_goes_on_or_is_closed() {
        for (mode, closes) in [(RecordingMode::Required, true), (RecordingMode::BestEffort, false)] {
            let (recording, tape) = begin(terms(mode, false), true, 4_096);
            recording.output(&[b'x'; 5_000]).await.unwrap();
            let began = Instant::now();
            assert_eq!(recording.output(b"y").await.is_err(), closes, "{mode:?}");
            assert!(began.elapsed() >= WAIT);
            assert_eq!(recording.output(b"z").await.is_err(), closes, "and so it stays");
            let (text, summary) = drain(&tape).await;
            assert!(text.contains("xxx") && !text.contains('y') && !summary.complete, "{summary:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_goes_on_as_soon_as_there_is_room() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 4_096);
        recording.output(&[b'x'; 5_000]).await.unwrap();
        let taking = tokio::spawn(async move {
            let Piece::Chunk(1, _) = tape.next().await else { panic!("a piece") };
            tape.taken();
            tape
        });
        recording.output(b"y").await.unwrap();
        recording.end("done");
        let (text, summary) = drain(&taking.await.unwrap()).await;
        assert!(text.contains('y') && summary.complete, "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copied_file_is_left_out_with_a_mark_and_what_follows_it_is_recorded() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), false, 64 << 20);
        let told = tokio::spawn(async move { drain(&tape).await });
        let block = vec![b'a'; 1 << 16];
        for _ in 0..32 {
            recording.output(&block).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        recording.output(b"after").await.unwrap();
        recording.end("done");
        let (text, summary) = told.await.unwrap();
        assert!(text.contains("\"m\", \"1048576 bytes are left out here\"]"), "marked");
        assert!(text.ends_with("\"o\", \"after\"]\n"), "what follows is recorded");
        assert_eq!((summary.output.bytes, summary.output.left_out), ((32 << 16) + 5, 1 << 20));
        assert!(summary.complete, "as much as is to be recorded");
    }

    #[tokio::test(start_paused = true)]
    async fn commands_that_nothing_echoes_are_recorded_also_behind_a_flood_of_output() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), false, 64 << 20);
        let told = tokio::spawn(async move { drain(&tape).await });
        let (shown, sent) = (vec![b'y'; 1 << 16], vec![b'f'; 1 << 16]);
        for _ in 0..64 {
            recording.output(&shown).await.unwrap();
        }
        recording.input(b"rm -rf /srv\n").await.unwrap();
        // Of a file that is sent, no more than of one that is shown.
        for _ in 0..64 {
            recording.input(&sent).await.unwrap();
        }
        recording.end("done");
        let (text, summary) = told.await.unwrap();
        assert!(text.contains("\"i\", \"rm -rf /srv\\n\"]"), "the command");
        assert_eq!((summary.input.bytes, summary.input.left_out), ((64 << 16) + 12, (64 << 16) + 12 - (1 << 20)));
        assert!(summary.complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_is_recorded_whole_until_the_recording_is_full() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 30);
        let told = tokio::spawn(async move { drain(&tape).await });
        let block = vec![b'a'; 1 << 20];
        let error = loop {
            if let Err(error) = recording.output(&block).await {
                break error;
            }
        };
        assert!(error.to_string().contains("as large as one may be"), "{error}");
        let (text, summary) = told.await.unwrap();
        assert!(text.len() as u64 <= BYTES_MAX && text.len() as u64 > BYTES_MAX - (2 << 20) && !summary.complete);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_a_session_that_was_refused() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
        recording.refused("forbidden");
        drop(recording);
        let (text, summary) = drain(&tape).await;
        assert_eq!((text.as_str(), summary.began, summary.reason.as_str()), ("", false, "forbidden"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_before_a_session_began() {
        let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
        // Whoever wakes the taker.
        recording.0.as_ref().unwrap().filled.notify_one();
        assert!(tokio::time::timeout(Duration::from_mins(1), tape.next()).await.is_err());
        recording.output(b"x").await.unwrap();
        assert!(matches!(tape.next().await, Piece::Chunk(1, _)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_more_ends_the_recording_and_gives_its_room_back() {
        let room = Room::new(1 << 20);
        let header = Header { at: Timestamp::from_millis(0), title: "t".to_owned() };
        let (recording, tape) = Recording::new(terms(RecordingMode::Required, false), &header, true, &room);
        recording.output(b"x").await.unwrap();
        drop(tape);
        assert!(recording.output(b"y").await.is_err());
        assert_eq!(room.used.load(Ordering::Acquire), 0);
    }
}
