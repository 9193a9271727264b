//! How probes are sent until what did not answer can be told from what was lost: passes over the unknown ones only, at a rate that gives way.
//!
//! **Not for** what a probe is (`echo`, `syn`). The clock is monotonic and used for waiting only.
//!
//! After each pass the answers of keys that needed more than one try say how much is lost, and passes go on until less than a thousandth of
//! a key is expected to be missing, or [`TRIES`] are over and the outcome says so.
#![expect(clippy::cast_precision_loss, reason = "counts of probes are far below 2^52")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::bitmap::Bitmap;

/// Most passes: enough for 60 % loss of thousands of answers.
pub(super) const TRIES: u32 = 30;
/// Passes over a network that never answers: its loss cannot be told.
const TRIES_SILENT: u32 = 3;
/// How many missing answers may be expected at the end.
const MISSING_MAX: f64 = 0.001;
/// Most probes handed to the kernel at once: answers of so many fit into any receive buffer.
pub(super) const BATCH: usize = 64;
/// How long an answer is waited for: at least, while nothing is known, at most.
const WAIT: (Duration, Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3));
/// Round trips that are measured at one time.
const SAMPLES: usize = 256;
/// How long the kernel may take no probe at all before the scan gives up.
const STUCK: Duration = Duration::from_secs(15);
/// The rate never falls below so many probes per second.
const FLOOR: f64 = 50.0;
/// The rate rises by a fiftieth of its limit so often.
const RISE: Duration = Duration::from_millis(100);

/// One probe: which key it is about, and which of the ways to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) key: usize,
    pub(super) variant: usize,
}

/// Why the kernel took only some of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// No room now: later.
    Full,
    /// The next one cannot be sent.
    Unsendable(Errno),
}

impl Halt {
    pub(super) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOBUFS | Errno::AGAIN | Errno::NOMEM | Errno::INTR => Self::Full,
            other => Self::Unsendable(other),
        }
    }
}

/// Sends and receives probes of one kind.
pub(super) trait Prober {
    /// Hands probes to the kernel in their order, and tells how many it took.
    fn send(&mut self, batch: &[Probe]) -> (usize, Option<Halt>);
    /// Takes what has arrived: the key, and whether the answer is a yes (an open port).
    fn receive(&mut self, answer: &mut dyn FnMut(usize, bool));
    /// Waits until something arrives, for so long at most.
    fn wait(&mut self, limit: Duration);
}

/// Sending no faster than a limit, and slower when there are signs of loss.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    max: f64,
    next: Instant,
    raised: Instant,
}

impl Pace {
    pub(super) fn new(packets_per_s: u32) -> Self {
        let (max, now) = (f64::from(packets_per_s.max(1)), Instant::now());
        Self { rate: max, max, next: now, raised: now }
    }

    /// How many may go at once: what a millisecond takes.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and BATCH")]
    fn batch(&self) -> usize {
        (self.rate / 1_000.0).clamp(1.0, BATCH as f64) as usize
    }

    fn sent(&mut self, probes: usize) {
        let now = Instant::now();
        // What was missed while others had the processor is not made up for by a burst.
        let from = self.next.max(now.checked_sub(Duration::from_millis(2)).unwrap_or(now));
        self.next = from + Duration::from_secs_f64(probes as f64 / self.rate);
        if self.rate < self.max && now.duration_since(self.raised) >= RISE {
            self.rate = (self.rate + self.max / 50.0).min(self.max);
            self.raised = now;
        }
    }

    fn halve(&mut self) {
        self.rate = (self.rate / 2.0).max(FLOOR.min(self.max));
        self.raised = Instant::now();
    }

    /// There was no room: half the rate, after a pause.
    fn full(&mut self) {
        self.halve();
        self.next = Instant::now() + Duration::from_millis(20);
    }

    /// Of all answers, so many came in a later pass than the first: more than one in fifty is taken for congestion. Never below a sixteenth of
    /// the limit, since loss may be none of our making.
    fn lost(&mut self, late: usize, answers: usize) {
        if late * 50 > answers && self.rate > self.max / 16.0 {
            self.halve();
        }
    }
}

/// Round trips (RFC 6298) of keys that were asked once.
#[derive(Debug, Default)]
struct RoundTrip {
    smoothed: Option<(f64, f64)>,
    open: HashMap<usize, Instant>,
}

impl RoundTrip {
    fn asked(&mut self, key: usize, now: Instant) {
        if self.open.len() < SAMPLES {
            self.open.entry(key).or_insert(now);
        }
    }

    fn answered(&mut self, key: usize) {
        let Some(asked) = self.open.remove(&key) else { return };
        let took = asked.elapsed().as_secs_f64();
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2.0),
            Some((mean, spread)) => (0.875 * mean + 0.125 * took, 0.75 * spread + 0.25 * (mean - took).abs()),
        });
    }

    fn wait(&self) -> Duration {
        let (least, unknown, most) = WAIT;
        self.smoothed.map_or(unknown, |(mean, spread)| {
            Duration::try_from_secs_f64(mean + 4.0 * spread).unwrap_or(most).clamp(least, most)
        })
    }
}

/// Whether so many tries are enough, when `late` of `answered` keys did not answer the first one.
pub(super) fn is_settled(tries: u32, answered: usize, late: usize) -> bool {
    if answered == 0 {
        return tries >= TRIES_SILENT;
    }
    tries >= 2 && missing(tries, answered, late) < MISSING_MAX
}

/// How many keys that would answer are expected to have lost every try.
fn missing(tries: u32, answered: usize, late: usize) -> f64 {
    let lost = (late as f64 + 0.5) / (answered as f64 + 1.0);
    answered as f64 * lost.powi(i32::try_from(tries).unwrap_or(i32::MAX))
}

/// What is known at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Keys that answered.
    pub(super) answered: Bitmap,
    /// Those of them that answered yes.
    pub(super) yes: Bitmap,
    /// Passes.
    pub(super) tries: u32,
    /// Probes that left.
    pub(super) sent: u64,
    /// Why not every key was decided.
    pub(super) doubt: Option<String>,
}

struct Run<'a, P> {
    prober: &'a mut P,
    answered: Bitmap,
    yes: Bitmap,
    round_trip: RoundTrip,
    sent: u64,
}

impl<P: Prober> Run<'_, P> {
    fn receive(&mut self) {
        let Self { prober, answered, yes, round_trip, .. } = self;
        prober.receive(&mut |key, is_yes| {
            if answered.set(key) {
                round_trip.answered(key);
            }
            if is_yes {
                yes.set(key);
            }
        });
    }

    /// Takes answers until `end`, or until every key has one.
    fn listen(&mut self, end: Instant, keys: usize, stop: &AtomicBool) {
        loop {
            self.receive();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.answered.ones() >= keys || stop.load(Ordering::Relaxed) {
                return;
            }
            self.prober.wait(left.min(Duration::from_millis(50)));
        }
    }
}

/// Asks `keys` keys in `variants` ways each, until all of them are decided. Ends early, with what is known, when `stop` is set.
pub(super) fn run<P: Prober>(
    prober: &mut P,
    keys: usize,
    variants: usize,
    pace: &mut Pace,
    stop: &AtomicBool,
) -> Outcome {
    let mut run =
        Run { prober, answered: Bitmap::new(keys), yes: Bitmap::new(keys), round_trip: RoundTrip::default(), sent: 0 };
    let (stride, mut first, mut tries, mut doubt) = (stride(keys), 0, 0, None);
    while tries < TRIES && run.answered.ones() < keys && !stop.load(Ordering::Relaxed) {
        tries += 1;
        // Of a key that is asked again nobody knows which probe its answer is for (Karn's algorithm, RFC 6298).
        run.round_trip.open.clear();
        let before = run.answered.ones();
        let unsendable = pass(&mut run, keys, variants, stride, tries == 1, pace, stop);
        let end = Instant::now() + run.round_trip.wait();
        run.listen(end, keys, stop);
        let answered = run.answered.ones();
        if tries == 1 {
            first = answered;
        }
        doubt = match unsendable {
            Err(Stuck) => Some("the kernel took no more probes: its neighbour table or queue stayed full".to_owned()),
            Ok(Some((errno, count))) => Some(format!("{count} probes could not be sent: {errno}")),
            Ok(None) => None,
        };
        let settled = is_settled(tries, answered, answered - first);
        if settled || unsendable.is_err() {
            break;
        }
        if tries == TRIES && answered < keys {
            let lost = 100 * (answered - first) / answered.max(1);
            doubt = doubt.or(Some(format!("{lost} % of the first answers were lost, {TRIES} tries were not enough")));
        }
        // What answers at the first try was not lost before.
        if tries > 1 {
            pace.lost(answered - before, answered);
        }
    }
    if stop.load(Ordering::Relaxed) {
        doubt = Some("stopped".to_owned());
    }
    // Keys that are all decided leave nothing to doubt.
    let doubt = doubt.filter(|_| run.answered.ones() < keys);
    Outcome { answered: run.answered, yes: run.yes, tries, sent: run.sent, doubt }
}

/// The kernel took nothing for too long.
#[derive(Debug, Clone, Copy)]
struct Stuck;

/// One pass over what is unknown. Tells how many probes could not be sent, and why the last of them.
fn pass<P: Prober>(
    run: &mut Run<'_, P>,
    keys: usize,
    variants: usize,
    stride: usize,
    is_first: bool,
    pace: &mut Pace,
    stop: &AtomicBool,
) -> Result<Option<(Errno, u64)>, Stuck> {
    let mut unsendable: Option<(Errno, u64)> = None;
    let (mut batch, mut taken_at, mut batches) = (Vec::with_capacity(BATCH), Instant::now(), 0usize);
    for variant in 0..variants {
        let mut keys_left = (0..keys).scan(0, |at, _| {
            let key = *at;
            *at = (*at + stride) % keys;
            Some(key)
        });
        loop {
            let room = pace.batch();
            while batch.len() < room {
                let Some(key) = keys_left.next() else { break };
                if !run.answered.has(key) {
                    batch.push(Probe { key, variant });
                }
            }
            if batch.is_empty() || stop.load(Ordering::Relaxed) {
                break;
            }
            run.listen(pace.next, keys, stop);
            batch.retain(|probe| !run.answered.has(probe.key));
            let now = Instant::now();
            let some = batch.len().min(pace.batch());
            let (taken, halt) = run.prober.send(batch.get(..some).unwrap_or_default());
            // Another place in each batch: hosts that stand at regular distances would all be missed by one place, or all be hit.
            let measured = batches.checked_rem(taken).and_then(|place| batch.get(place));
            if let (true, Some(probe)) = (is_first && variant == 0, measured) {
                run.round_trip.asked(probe.key, now);
            }
            batches += 1;
            batch.drain(..taken.min(some));
            run.sent += taken as u64;
            if taken > 0 {
                taken_at = now;
                pace.sent(taken);
            }
            match halt {
                None => {}
                Some(Halt::Full) if now.duration_since(taken_at) > STUCK => return Err(Stuck),
                Some(Halt::Full) => pace.full(),
                Some(Halt::Unsendable(errno)) => {
                    if !batch.is_empty() {
                        batch.remove(0);
                    }
                    taken_at = now;
                    unsendable = Some((errno, unsendable.map_or(1, |(_, count)| count + 1)));
                }
            }
            run.receive();
        }
        batch.clear();
    }
    Ok(unsendable)
}

/// A step that visits every key once and puts neighbours far apart: coprime to the number of keys, near its golden section.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than the number of keys")]
fn stride(keys: usize) -> usize {
    let mut step = (keys as f64 * 0.618_033_988) as usize;
    while gcd(step, keys) != 1 && step < keys {
        step += 1;
    }
    step.max(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
