//! The last word about something that is open: until when it stands, and how long ago somebody said so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use tokio::time::Instant;

/// The last word about one thing. Before the first it stands for good, as far as anybody said.
#[derive(Debug)]
pub struct Word(Mutex<Said>);

#[derive(Debug, Clone, Copy)]
struct Said {
    until: Option<Timestamp>,
    /// When that was said; before the first word, when it began.
    at: Instant,
}

impl Default for Word {
    /// Nothing was said yet; it begins now.
    fn default() -> Self {
        Self(Mutex::new(Said { until: None, at: Instant::now() }))
    }
}

impl Word {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It stands until then, as somebody says at this moment.
    pub fn say(&self, until: Timestamp) {
        *self.said() = Said { until: Some(until), at: Instant::now() };
    }

    /// What was said of something else holds of this too, unless a later word is here.
    pub fn learn_from(&self, other: &Self) {
        let other = *other.said();
        let mut said = self.said();
        if other.until.is_some() && (said.until.is_none() || said.at < other.at) {
            *said = other;
        }
    }

    /// Whether the last word's time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.said().until.is_some_and(|until| until <= now)
    }

    /// When it was last said, or when it began: whoever waits longest comes first.
    pub fn at(&self) -> Instant {
        self.said().at
    }

    /// For how long nobody has said anything.
    pub fn silence(&self) -> Duration {
        self.at().elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_word_about_one_is_the_word_about_all_and_a_newcomer_has_none_to_give() {
        let at = Timestamp::from_millis;
        let (first, newcomer) = (Word::default(), Word::default());
        first.say(at(20));
        tokio::time::advance(Duration::from_secs(1)).await;
        let late = Word::default();
        first.learn_from(&late);
        assert!(first.is_over(at(20)) && !first.is_over(at(19)) && first.silence() == Duration::from_secs(1));
        newcomer.learn_from(&first);
        assert!(newcomer.is_over(at(20)) && newcomer.silence() == Duration::from_secs(1));
        late.say(at(30));
        first.learn_from(&late);
        assert!(!first.is_over(at(20)) && first.silence() == Duration::ZERO);
        first.learn_from(&newcomer);
        assert!(!first.is_over(at(20)), "an older word takes nothing back");
    }
}
