//! Calls that are to be written down at the server, until it has them.
//!
//! In memory, and bounded: while the server is away calls go on until no more can be held, and are refused from then on. A relay that is killed loses
//! what the server does not have yet: mostly less than a second of it.
//!
//! Invariants:
//! - no call begins that could not be written down: room for the ends of those that began is kept back;
//! - what is lost in spite of that is counted, and told;
//! - a batch is told again, the same, until the server has it, and the next one not before;
//! - a call is told of the destination whose token let it in, and of no other that came in its place: where the server says that this relay has no such
//!   destination any more, its calls count as lost.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{DestinationId, Rng};
use gateway::kubernetes::{Record, Refusal};
use tokio::sync::Notify;
use wire::kubernetes::{AccessEvent, AccessRecords, RECORDS_MAX};

use super::asking::{Asking, is_unknown};

/// How much is held, in bytes.
const HELD_MAX: usize = 32 * 1_024 * 1_024;
/// From here on nothing new begins.
const BEGIN_MAX: usize = HELD_MAX / 4 * 3;
/// How much is told at once, in bytes: a request's body has a mebibyte at most.
const BATCH_BYTES: usize = 512 * 1_024;
/// How long calls are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Held {
    /// Each with the destination that it is of.
    calls: VecDeque<(DestinationId, AccessEvent)>,
    bytes: usize,
    lost: u64,
    /// The batch that is being told: how many calls from the beginning, and how many were lost before.
    telling: Option<(usize, u64)>,
}

/// What is told at once.
#[derive(Debug, PartialEq)]
struct Batch {
    destination: DestinationId,
    calls: Vec<AccessEvent>,
    lost: u64,
}

/// What is to be told.
#[derive(Default)]
pub(crate) struct Spool {
    held: Mutex<Held>,
    filled: Notify,
}

/// About how much memory a call takes, and at least how long it is as a document.
fn weight(event: &AccessEvent) -> usize {
    let texts = [
        &event.id,
        &event.user,
        &event.token,
        &event.role,
        &event.verb,
        &event.group,
        &event.resource,
        &event.subresource,
        &event.namespace,
        &event.name,
        &event.path,
    ];
    let optional = [&event.acted_as, &event.reason];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    // A byte of a name may become six of JSON.
    let named = optional.into_iter().flatten().chain(&event.acted_in).map(|text| text.len() + 8);
    512 + 6 * (texts + named.sum::<usize>())
}

impl Held {
    fn forget(&mut self, count: usize) {
        for _ in 0..count {
            if let Some((_, event)) = self.calls.pop_front() {
                self.bytes -= weight(&event);
            }
        }
    }
}

impl Spool {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of what is held, of one destination, and how many were lost before. `now`: the destination that hears of what was lost where nothing
    /// else is held.
    fn batch(&self, now: Option<DestinationId>) -> Option<Batch> {
        let mut held = self.held();
        let first = held.calls.front().map(|(destination, _)| *destination);
        let destination = first.or(now.filter(|_| held.lost > 0))?;
        let (count, lost) = if let Some(telling) = held.telling {
            telling
        } else {
            let mut bytes = 0;
            let fits = |(of, event): &&(DestinationId, AccessEvent)| {
                bytes += weight(event);
                *of == destination && bytes <= BATCH_BYTES
            };
            (held.calls.iter().take(RECORDS_MAX).take_while(fits).count(), held.lost)
        };
        held.telling = Some((count, lost));
        let calls = held.calls.iter().take(count).map(|(_, event)| event.clone()).collect();
        Some(Batch { destination, calls, lost })
    }

    /// The server has the batch.
    fn told(&self) {
        let mut held = self.held();
        let (count, lost) = held.telling.take().unwrap_or_default();
        held.lost -= lost;
        held.forget(count);
    }

    /// The server takes the batch from nobody here: the next one says how many were lost.
    fn lose(&self) -> usize {
        let mut held = self.held();
        let (count, _) = held.telling.take().unwrap_or_default();
        held.forget(count);
        held.lost += u64::try_from(count).unwrap_or(u64::MAX);
        count
    }

    /// Tells the server, for as long as it is polled.
    pub(super) async fn tell(&self, asking: &Asking, rng: &dyn Rng) {
        let mut bits = [0; 16];
        rng.fill(&mut bits);
        let (run, mut number) = (format!("{:032x}", u128::from_be_bytes(bits)), 1);
        loop {
            let filled = self.filled.notified();
            // Without a destination there is nobody to tell it to.
            let now = asking.destination();
            let Some(Batch { destination, calls, lost }) = now.and_then(|_| self.batch(now)) else {
                let _ = tokio::time::timeout(AGAIN, filled).await;
                tokio::time::sleep(GATHER).await;
                continue;
            };
            let records = AccessRecords { destination, run: run.clone(), number, lost, calls };
            match asking.tell(destination, "access-records", &records).await {
                Ok(()) => {
                    self.told();
                    number += 1;
                }
                // Not of this one that is registered: there is one in its place.
                Err(error) if is_unknown(&error) && asking.destination().is_some_and(|now| now != destination) => {
                    let lost = self.lose();
                    tracing::error!(%destination, lost, "calls of a destination that this relay has no more are not written down");
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "what was done in the cluster is not written down yet"
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// How many calls the server does not have.
    pub(super) fn untold(&self) -> usize {
        self.held().calls.len()
    }

    /// Waits until the server has everything.
    pub(super) async fn wait_empty(&self) {
        while self.untold() > 0 {
            tokio::time::sleep(GATHER).await;
        }
    }
}

impl Record for Spool {
    fn check(&self) -> Result<(), Refusal> {
        if self.held().bytes < BEGIN_MAX {
            return Ok(());
        }
        let text = "what is done here cannot be written down now, since the server is away: try again when it is back";
        Err(Refusal::Unavailable(text.to_owned()))
    }

    fn record(&self, destination: DestinationId, event: AccessEvent) {
        let mut held = self.held();
        let bytes = weight(&event);
        if held.bytes + bytes > HELD_MAX {
            held.lost += 1;
            tracing::error!(call = event.id, "a call cannot be written down: no more can be held");
            return;
        }
        held.bytes += bytes;
        held.calls.push_back((destination, event));
        drop(held);
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;
    use wire::kubernetes::Phase;

    use super::*;

    fn event(id: &str, path: &str) -> AccessEvent {
        AccessEvent {
            id: id.to_owned(),
            at: Timestamp::from_millis(1),
            user: "ann".to_owned(),
            user_id: format!("usr_{}", "0".repeat(26)).parse().unwrap(),
            session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
            token: "t".to_owned(),
            role: "view".to_owned(),
            from: None,
            acted_as: None,
            acted_in: Vec::new(),
            verb: "get".to_owned(),
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            path: path.to_owned(),
            upgraded: false,
            phase: Phase::Done,
            status: 200,
            duration_ms: 1,
            reason: None,
        }
    }

    fn destination(number: u8) -> DestinationId {
        format!("dst_{}{number}", "0".repeat(25)).parse().unwrap()
    }

    fn put(spool: &Spool, id: &str, path: &str) {
        spool.record(destination(1), event(id, path));
    }

    /// What is told next: the calls, and how many were lost.
    fn next(spool: &Spool) -> (Vec<String>, u64) {
        let batch = spool.batch(Some(destination(1)));
        batch.map_or_else(Default::default, |batch| (batch.calls.into_iter().map(|call| call.id).collect(), batch.lost))
    }

    #[test]
    fn attack_60_no_call_begins_that_could_not_be_written_down_and_what_is_lost_is_counted() {
        let spool = Spool::default();
        let long = "x".repeat(8_000);
        let mut count = 0;
        while spool.check().is_ok() {
            put(&spool, &count.to_string(), &long);
            count += 1;
        }
        assert!(count > 100 && spool.held().bytes <= HELD_MAX);
        // Those that began still have their end.
        put(&spool, "end", "");
        assert_eq!(spool.held().lost, 0);
        for _ in 0..count {
            put(&spool, "more", &long);
        }
        let lost = spool.held().lost;
        assert!(lost > 0 && spool.held().bytes <= HELD_MAX);
        let (calls, told) = next(&spool);
        assert_eq!((calls[0].as_str(), told), ("0", lost));
        while spool.check().is_err() {
            let calls = spool.batch(None).unwrap().calls;
            assert!(!calls.is_empty() && serde_json::to_vec(&calls).unwrap().len() <= BATCH_BYTES);
            spool.told();
        }
        assert_eq!(spool.held().lost, 0);
    }

    #[test]
    fn a_batch_stays_the_same_until_the_server_has_it_and_is_never_longer_than_it_takes() {
        let spool = Spool::default();
        put(&spool, "first", "");
        assert_eq!(next(&spool), (vec!["first".to_owned()], 0));
        for number in 0..=RECORDS_MAX {
            put(&spool, &number.to_string(), "");
        }
        spool.held().lost += 1;
        // A server that has it and could not say so takes nothing else under its number.
        assert_eq!(next(&spool), (vec!["first".to_owned()], 0));
        spool.told();
        assert_eq!((next(&spool).0.len(), next(&spool).0[0].as_str(), next(&spool).1), (RECORDS_MAX, "0", 1));
        spool.told();
        assert_eq!(next(&spool), (vec![RECORDS_MAX.to_string()], 0));
        spool.told();
        assert_eq!((next(&spool), spool.held().bytes), ((Vec::new(), 0), 0));
    }

    #[test]
    fn a_call_is_told_of_the_destination_whose_token_let_it_in_or_counts_as_lost() {
        let spool = Spool::default();
        for (of, id) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
            spool.record(destination(of), event(id, ""));
        }
        let told = |now: u8| {
            spool.batch(Some(destination(now))).map(|batch| (batch.destination, batch.calls.len(), batch.lost))
        };
        assert_eq!(told(2), Some((destination(1), 2, 0)));
        assert_eq!(spool.lose(), 2);
        assert_eq!(told(2), Some((destination(2), 1, 2)));
        spool.told();
        assert_eq!(told(2), Some((destination(1), 1, 0)));
        assert_eq!((spool.lose(), spool.untold(), spool.held().bytes), (1, 0, 0));
        assert_eq!(told(2), Some((destination(2), 0, 1)), "that it was lost is told by itself");
        spool.told();
        assert_eq!((told(2), spool.batch(None)), (None, None));
    }
}
