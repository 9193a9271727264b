//! Calls that are to be written down at the server, until it has them.
//!
//! In memory, and bounded: while the server is away calls go on until no more can be held, and are refused from then on. A relay that is killed loses
//! what the server does not have yet: mostly less than a second of it.
//!
//! Invariants:
//! - no call begins that could not be written down: room for the ends of those that began is kept back;
//! - what is lost in spite of that is counted, and told;
//! - a batch is told again, the same, until the server has it, and the next one not before.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Rng;
use gateway::kubernetes::{Record, Refusal};
use tokio::sync::Notify;
use wire::kubernetes::{AccessEvent, AccessRecords, RECORDS_MAX};

use super::asking::Asking;

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
    calls: VecDeque<AccessEvent>,
    bytes: usize,
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

impl Spool {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of what is held, and how many were lost before.
    fn batch(&self) -> (Vec<AccessEvent>, u64) {
        let held = self.held();
        let mut bytes = 0;
        let fits = |event: &&AccessEvent| {
            bytes += weight(event);
            bytes <= BATCH_BYTES
        };
        (held.calls.iter().take(RECORDS_MAX).take_while(fits).cloned().collect(), held.lost)
    }

    /// The server has these.
    fn told(&self, count: usize, lost: u64) {
        let mut held = self.held();
        held.lost -= lost;
        for _ in 0..count {
            if let Some(event) = held.calls.pop_front() {
                held.bytes -= weight(&event);
            }
        }
    }

    /// Tells the server, for as long as it is polled.
    pub(super) async fn tell(&self, asking: &Asking, rng: &dyn Rng) {
        let mut bits = [0; 16];
        rng.fill(&mut bits);
        let (run, mut number) = (format!("{:032x}", u128::from_be_bytes(bits)), 1);
        loop {
            let filled = self.filled.notified();
            let (calls, lost) = self.batch();
            let destination = asking.destination().filter(|_| !calls.is_empty() || lost > 0);
            let Some(destination) = destination else {
                // Without a destination there is nobody to tell it to.
                let _ = tokio::time::timeout(AGAIN, filled).await;
                tokio::time::sleep(GATHER).await;
                continue;
            };
            let records = AccessRecords { destination, run: run.clone(), number, lost, calls };
            match asking.tell("access-records", &records).await {
                Ok(()) => {
                    self.told(records.calls.len(), lost);
                    number += 1;
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

    /// Waits until the server has everything.
    pub(super) async fn wait_empty(&self) {
        while !self.held().calls.is_empty() {
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

    fn record(&self, event: AccessEvent) {
        let mut held = self.held();
        let bytes = weight(&event);
        if held.bytes + bytes > HELD_MAX {
            held.lost += 1;
            tracing::error!(call = event.id, "a call cannot be written down: no more can be held");
            return;
        }
        held.bytes += bytes;
        held.calls.push_back(event);
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

    #[test]
    fn attack_60_no_call_begins_that_could_not_be_written_down_and_what_is_lost_is_counted() {
        let spool = Spool::default();
        let long = "x".repeat(8_000);
        let mut count = 0;
        while spool.check().is_ok() {
            spool.record(event(&count.to_string(), &long));
            count += 1;
        }
        assert!(count > 100 && spool.held().bytes <= HELD_MAX);
        // Those that began still have their end.
        spool.record(event("end", ""));
        assert_eq!(spool.held().lost, 0);
        for _ in 0..count {
            spool.record(event("more", &long));
        }
        let lost = spool.held().lost;
        assert!(lost > 0 && spool.held().bytes <= HELD_MAX);
        let (calls, told) = spool.batch();
        assert_eq!((calls[0].id.as_str(), told), ("0", lost));
        while spool.check().is_err() {
            let (calls, lost) = spool.batch();
            assert!(!calls.is_empty() && serde_json::to_vec(&calls).unwrap().len() <= BATCH_BYTES);
            spool.told(calls.len(), lost);
        }
        assert_eq!(spool.held().lost, 0);
    }

    #[test]
    fn a_batch_stays_until_the_server_has_it_and_is_never_longer_than_it_takes() {
        let spool = Spool::default();
        for number in 0..=RECORDS_MAX {
            spool.record(event(&number.to_string(), ""));
        }
        assert_eq!(spool.batch().0.len(), RECORDS_MAX);
        assert_eq!(spool.batch().0[0].id, "0", "told again where nobody answered");
        spool.told(RECORDS_MAX, 0);
        assert_eq!(spool.batch().0[0].id, RECORDS_MAX.to_string());
        spool.told(1, 0);
        assert!(spool.batch().0.is_empty());
        assert_eq!(spool.held().bytes, 0);
    }
}
