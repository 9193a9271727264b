//! How fast to ask: a token bucket per (account, service, region) whose rate halves when AWS throttles and grows back while it does not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by the clients that should count together; keep one for the process.
#[derive(Debug)]
pub struct Pacer {
    rate_max: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Calls per second that are allowed now.
    rate: f64,
    /// Calls that may be made at once. May be negative: calls that already wait.
    tokens: f64,
    at: Instant,
}

/// Never slower than one call in two seconds.
const RATE_MIN: f64 = 0.5;
/// How much one good answer gives back, in calls per second.
const STEP: f64 = 0.5;

impl Pacer {
    /// Allows `rate_max` calls per second to each service of each region, and as many at once.
    pub fn new(rate_max: f64) -> Self {
        Self { rate_max: rate_max.max(RATE_MIN), buckets: Mutex::default() }
    }

    fn with<R>(&self, key: &str, change: impl FnOnce(&mut Bucket, f64) -> R) -> R {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bucket =
            buckets.entry(key.to_owned()).or_insert(Bucket { rate: self.rate_max, tokens: self.rate_max, at: now });
        bucket.tokens =
            (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * bucket.rate).min(bucket.rate.max(1.0));
        bucket.at = now;
        change(bucket, self.rate_max)
    }

    /// Waits for this call's turn.
    pub(crate) async fn turn(&self, key: &str) {
        let wait = self.with(key, |bucket, _| {
            bucket.tokens -= 1.0;
            if bucket.tokens >= 0.0 { 0.0 } else { -bucket.tokens / bucket.rate }
        });
        if wait > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
    }

    /// A good answer came.
    pub(crate) fn answered(&self, key: &str) {
        self.with(key, |bucket, max| bucket.rate = (bucket.rate + STEP).min(max));
    }

    /// AWS asked to slow down.
    pub(crate) fn throttled(&self, key: &str) {
        self.with(key, |bucket, _| {
            bucket.rate = (bucket.rate / 2.0).max(RATE_MIN);
            bucket.tokens = bucket.tokens.min(0.0);
        });
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new(50.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_of_one_service_only() {
        let pacer = Pacer::new(10.0);
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
        for _ in 0..20 {
            pacer.answered("a");
        }
        assert!(pacer.with("a", |bucket, _| bucket.rate) > 9.9);
    }
}
