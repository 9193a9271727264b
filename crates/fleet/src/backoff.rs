//! Waits between tries, so that thousands who lost the same server do not come back in one moment.

use std::time::Duration;

use domain::Rng;

/// The longest wait, whatever a server asks for.
const LONGEST: Duration = Duration::from_hours(24);

/// How long to wait before the next try.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Never less, but where `first` or `most` is.
    pub least: Duration,
    /// The bound of the first wait, which doubles with each failure that follows.
    pub first: Duration,
    /// The bound's end.
    pub most: Duration,
}

impl Backoff {
    /// The wait after so many failures before this one: drawn between the least and a bound that doubles, and never less than the server asked
    /// for, to which up to half is added so that those whom it told the same do not come back at once.
    pub fn wait(&self, rng: &dyn Rng, failures: u32, asked: Option<Duration>) -> Duration {
        let bound = self.first.saturating_mul(1 << failures.min(16)).min(self.most);
        let own = between(rng, self.least.min(bound), bound);
        asked.map_or(own, |asked| between(rng, asked, asked.mul_f64(1.5)).max(own).min(LONGEST))
    }
}

/// A duration between two others.
pub fn between(rng: &dyn Rng, least: Duration, most: Duration) -> Duration {
    let mut bytes = [0u8; 4];
    rng.fill(&mut bytes);
    least + most.saturating_sub(least).mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use testkit::TestRng;

    use super::*;

    #[test]
    fn waits_grow_are_spread_and_are_as_long_as_the_server_asked() {
        let (rng, most) = (TestRng::seeded(3), Duration::from_mins(5));
        let backoff = Backoff { least: Duration::from_millis(500), first: Duration::from_secs(1), most };
        for failures in 0..40 {
            let bound = Duration::from_secs(1 << failures.min(16)).min(most);
            let waits: Vec<_> = (0..50).map(|_| backoff.wait(&rng, failures, None)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound && *wait >= Duration::from_millis(500)));
            assert!(waits.iter().max() > waits.iter().min());
        }
        let asked = Duration::from_secs(40);
        let waits: Vec<_> = (0..50).map(|_| backoff.wait(&rng, 0, Some(asked))).collect();
        assert!(waits.iter().all(|wait| (asked..=Duration::from_mins(1)).contains(wait)), "{waits:?}");
        assert!(waits.iter().max().unwrap().abs_diff(*waits.iter().min().unwrap()) > Duration::from_secs(5));
        assert!(backoff.wait(&rng, 0, Some(Duration::from_hours(1_000))) <= LONGEST);
    }
}
