//! Which requests are under way, so that the numbers of their proofs stay close together.
//!
//! The server takes a number that is far behind for a copy's (ADR 0029). Many requests at once, of which one is slow, would make such a number
//! without any copy: a relay that tells of a hundred connections that ended at the same moment would be let in no more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Result;

/// How many numbers are taken from the oldest request that is under way on: half of what the server lets one be behind.
const SPREAD: u64 = 16;

/// The requests of one identity that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    inner: Mutex<Inner>,
    less: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    places: BTreeSet<u64>,
}

/// One request, until it is answered or given up: every one is, in a minute.
#[derive(Debug)]
pub(crate) struct Request {
    all: Arc<UnderWay>,
    place: u64,
}

impl UnderWay {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs a request when its number is close enough to those of the others.
    pub(crate) async fn begin<T>(self: &Arc<Self>, sign: impl Fn() -> Result<T>) -> Result<(T, Request)> {
        loop {
            let less = self.less.notified();
            if let Some(begun) = self.try_begin(&sign) {
                return begun;
            }
            less.await;
        }
    }

    /// Signs it under the lock: whoever signs first is the older one.
    fn try_begin<T>(self: &Arc<Self>, sign: impl Fn() -> Result<T>) -> Option<Result<(T, Request)>> {
        let mut inner = self.inner();
        if inner.places.first().is_some_and(|oldest| inner.next - oldest >= SPREAD) {
            return None;
        }
        let place = inner.next;
        Some(sign().map(|signed| {
            inner.next += 1;
            inner.places.insert(place);
            (signed, Request { all: Arc::clone(self), place })
        }))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.all.inner().places.remove(&self.place);
        self.all.less.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Error;

    #[tokio::test(start_paused = true)]
    async fn numbers_stay_close_to_the_oldest_that_is_under_way() {
        let all = Arc::new(UnderWay::default());
        let ((), slow) = all.begin(|| Ok(())).await.unwrap();
        for _ in 1..SPREAD {
            drop(all.begin(|| Ok(())).await.unwrap());
        }
        let waits = all.begin(|| Ok("signed"));
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_mins(1), &mut waits).await.is_err(), "too far from the first");
        drop(slow);
        assert_eq!(waits.await.unwrap().0, "signed");
        assert!(all.inner().places.is_empty());
    }

    #[tokio::test]
    async fn an_answer_lets_the_next_ones_go_and_what_is_not_signed_takes_no_place() {
        let all = Arc::new(UnderWay::default());
        let mut held = Vec::new();
        for _ in 0..SPREAD {
            held.push(all.begin(|| Ok(())).await.unwrap().1);
        }
        let waiting: Vec<_> = (0..40)
            .map(|_| {
                let all = Arc::clone(&all);
                tokio::spawn(async move { all.begin(|| Ok(())).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        held.clear();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        assert!(all.begin(|| Err::<(), _>(Error::folder("no key"))).await.is_err());
        assert!(all.inner().places.is_empty());
    }
}
