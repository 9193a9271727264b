//! How fast to ask: a token bucket per (account, service, region). Its rate begins modestly, grows with every good answer, halves when AWS
//! throttles, and from then on grows slowly near the rate at which that happened, as congestion avoidance does (RFC 5681).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by the clients that should count together; keep one for the process.
#[derive(Debug)]
pub struct Pacer {
    rate_start: f64,
    rate_max: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Calls per second that are allowed now.
    rate: f64,
    /// Above this rate AWS throttled before.
    careful_above: f64,
    /// Calls that may be made at once. May be negative: calls that already wait.
    tokens: f64,
    at: Instant,
}

/// Never slower than one call in two seconds.
const RATE_MIN: f64 = 0.5;
/// How much one good answer gives back, in calls per second.
const STEP: f64 = 1.0;
/// The same above a rate that was throttled before.
const CAREFUL_STEP: f64 = 0.02;

impl Pacer {
    /// Begins with `rate_start` calls per second to each service of each region, and as many at once, and grows to `rate_max` where nothing
    /// throttles.
    pub fn new(rate_start: f64, rate_max: f64) -> Self {
        let rate_start = rate_start.max(RATE_MIN);
        Self { rate_start, rate_max: rate_max.max(rate_start), buckets: Mutex::default() }
    }

    fn with<R>(&self, key: &str, change: impl FnOnce(&mut Bucket) -> R) -> R {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket {
            rate: self.rate_start,
            careful_above: self.rate_max,
            tokens: self.rate_start,
            at: now,
        });
        bucket.tokens =
            (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * bucket.rate).min(bucket.rate.max(1.0));
        bucket.at = now;
        change(bucket)
    }

    /// Waits for this call's turn.
    pub(crate) async fn turn(&self, key: &str) {
        let wait = self.with(key, |bucket| {
            bucket.tokens -= 1.0;
            if bucket.tokens >= 0.0 { 0.0 } else { -bucket.tokens / bucket.rate }
        });
        if wait > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
    }

    /// A good answer came.
    pub(crate) fn answered(&self, key: &str) {
        self.with(key, |bucket| {
            let step = if bucket.rate < bucket.careful_above { STEP } else { CAREFUL_STEP };
            bucket.rate = (bucket.rate + step).min(self.rate_max);
        });
    }

    /// AWS asked to slow down.
    pub(crate) fn throttled(&self, key: &str) {
        self.with(key, |bucket| {
            bucket.rate = (bucket.rate / 2.0).max(RATE_MIN);
            bucket.careful_above = bucket.rate;
            bucket.tokens = bucket.tokens.min(0.0);
        });
    }
}

impl Default for Pacer {
    /// 100 calls per second at first, 400 at most.
    fn default() -> Self {
        Self::new(100.0, 400.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_of_one_service_only() {
        let pacer = Pacer::new(10.0, 10.0);
        let start = Instant::now();
        for _ in 0..10 {
            pacer.turn("a").await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pacer.throttled("a");
        for _ in 0..5 {
            pacer.turn("a").await;
        }
        assert!((0.9..1.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        let before = Instant::now();
        pacer.turn("b").await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            pacer.answered("a");
        }
        assert!((5.0..5.5).contains(&pacer.with("a", |bucket| bucket.rate)), "slowly, near what was throttled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_never_throttles_is_asked_ever_faster_up_to_the_most() {
        let pacer = Pacer::new(10.0, 20.0);
        for expected in [11.0, 12.0] {
            pacer.answered("a");
            assert!((pacer.with("a", |bucket| bucket.rate) - expected).abs() < 1e-9);
        }
        for _ in 0..100 {
            pacer.answered("a");
        }
        assert!((pacer.with("a", |bucket| bucket.rate) - 20.0).abs() < 1e-9);
        assert!((pacer.with("b", |bucket| bucket.rate) - 10.0).abs() < 1e-9, "another service learns nothing from it");
    }
}
