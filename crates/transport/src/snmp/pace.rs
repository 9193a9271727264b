//! How many values to ask a device for at once, and how long to wait for them: both are learned from its answers.
//!
//! Too few values cost round trips, too many cost fragments, lost datagrams, and time in agents that look every value up anew.

use std::time::Duration;

/// Values asked for in the first answer.
const SIZE_FIRST: usize = 20;
/// Most values of one answer.
const SIZE_MAX: usize = 128;
/// After so many answers at the best size, look again for a better one.
const SETTLED_ANSWERS: u32 = 64;
/// A cost per value that is noise and no reason to change.
const NOISE: f64 = 1.25;

/// The size of answers: grows while that makes a value cheaper, shrinks on every failure.
#[derive(Debug)]
pub(super) struct Pace {
    size: usize,
    size_max: usize,
    /// The cheapest size so far, and seconds per value there.
    best: Option<(usize, f64)>,
    /// Answers until growing is tried again.
    settled: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: SIZE_FIRST, size_max: SIZE_MAX, best: None, settled: 0 }
    }
}

impl Pace {
    /// Values to ask for.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A full answer of `got` values took so long.
    pub(super) fn answered(&mut self, got: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a count of at most thousands")]
        let cost = took.as_secs_f64() / got.max(1) as f64;
        match self.best {
            Some((_, best)) if cost > best * NOISE => {
                if let Some((size, _)) = self.best {
                    self.size = size;
                }
                self.settled = SETTLED_ANSWERS;
            }
            _ if self.settled > 0 => {
                self.settled -= 1;
                if self.settled == 0 {
                    self.best = None;
                }
            }
            best => {
                if best.is_none_or(|(_, best)| cost < best) {
                    self.best = Some((self.size, cost));
                }
                self.size = (self.size + self.size / 2 + 1).min(self.size_max);
            }
        }
    }

    /// The device sent fewer values than asked for: its messages hold no more.
    pub(super) fn cut(&mut self, got: usize) {
        self.size = got.max(1);
        self.size_max = self.size;
    }

    /// No answer, or `tooBig`. Returns whether a smaller size is left to try.
    pub(super) fn failed(&mut self) -> bool {
        if self.size == 1 {
            return false;
        }
        self.size = (self.size / 3).max(1);
        self.size_max = (self.size * 2).min(SIZE_MAX);
        self.best = None;
        self.settled = SETTLED_ANSWERS;
        true
    }
}

/// The retransmission timer of RFC 6298.
#[derive(Debug)]
pub(super) struct Patience {
    smoothed: Option<(f64, f64)>,
    max: Duration,
}

/// Not shorter, however quick the device is: it may be busy for a moment.
const WAIT_MIN: Duration = Duration::from_millis(250);

impl Patience {
    pub(super) fn new(max: Duration) -> Self {
        Self { smoothed: None, max }
    }

    /// How long to wait in a try, counted from 0.
    pub(super) fn wait(&self, tries: u32) -> Duration {
        let first = match self.smoothed {
            None => self.max / 2,
            Some((mean, deviation)) => Duration::try_from_secs_f64(mean + 4.0 * deviation).unwrap_or(self.max),
        };
        (first.max(WAIT_MIN) * 2u32.saturating_pow(tries.min(8))).min(self.max.max(WAIT_MIN))
    }

    /// An answer to a first try came after so long.
    pub(super) fn answered(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2.0),
            Some((mean, deviation)) => (0.875 * mean + 0.125 * took, 0.75 * deviation + 0.25 * (mean - took).abs()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_while_that_makes_values_cheaper_and_go_back_when_it_does_not() {
        let mut pace = Pace::default();
        // A round trip of 1 ms, and from 60 values on each costs ten times as much.
        let took = |size: usize| {
            let dear = size.saturating_sub(60);
            Duration::from_micros(u64::try_from(1_000 + size + dear * 100).unwrap())
        };
        let sizes: Vec<usize> = (0..40)
            .map(|_| {
                let size = pace.size();
                pace.answered(size, took(size));
                size
            })
            .collect();
        assert!(sizes.is_sorted_by(|a, b| a <= b || *b == pace.size()), "{sizes:?}");
        assert!((40..80).contains(&pace.size()), "{sizes:?}");
    }

    #[test]
    fn failures_shrink_answers_until_one_value_is_asked_for() {
        let mut pace = Pace::default();
        let mut sizes = vec![pace.size()];
        while pace.failed() {
            sizes.push(pace.size());
        }
        assert_eq!(sizes, [20, 6, 2, 1]);
        for _ in 0..1_000 {
            pace.answered(1, Duration::from_millis(1));
        }
        assert!(pace.size() <= 2, "not soon again what failed");
        let mut pace = Pace::default();
        pace.cut(7);
        pace.answered(7, Duration::from_millis(1));
        assert_eq!(pace.size(), 7);
    }

    #[test]
    fn patience_follows_the_device_and_doubles_with_each_try() {
        let mut patience = Patience::new(Duration::from_secs(4));
        assert_eq!(patience.wait(0), Duration::from_secs(2));
        assert_eq!(patience.wait(3), Duration::from_secs(4));
        for _ in 0..50 {
            patience.answered(Duration::from_millis(100));
        }
        assert_eq!(patience.wait(0), WAIT_MIN);
        assert_eq!(patience.wait(1), WAIT_MIN * 2);
        for _ in 0..50 {
            patience.answered(Duration::from_millis(900));
        }
        assert!(patience.wait(0) >= Duration::from_millis(850));
    }
}
