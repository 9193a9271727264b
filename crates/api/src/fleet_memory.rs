//! What a process remembers of agents and relays, in bounded memory: which credentials it verified, the last proofs of each, how many reports
//! each sent lately.
//!
//! Invariants:
//! - nothing here lets anybody in: a credential that is remembered saves its signature and its hash from being checked again, and the rows
//!   that say whether it is good are read at every request;
//! - only what this installation signed takes memory, and all of it is forgotten when twice as many others were seen since.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crypto::ed25519::{PublicKey, SigningKey};
use crypto::hmac_sha256;
use crypto::jwt::Times;
use domain::{Digest, Error, FleetCredentialId, FleetId, Rng, TenantId, Timestamp};
use store::CloneSign;
use tokio::sync::RwLock;

/// How far behind the one that was written down a number may be and count as late; beyond, it is a copy's.
const LATE: i64 = 32;
/// How many of a signer's last proofs this process remembers.
const REMEMBERED: usize = 64;
/// How many signers, and how many credentials, each of two generations remembers.
const GENERATION: usize = 16_384;
/// A refusal of one of the fleet is recorded at most this often by one process.
const REFUSAL_MS: i64 = 60_000;
/// For how long an agent's reports are counted: in the end, those of a minute may come at once.
const COUNTED_US: i64 = 60_000_000;

/// Stands for a credential's bytes under a key of this process.
pub(crate) type Mac = [u8; 32];

/// The newer generation is filled; when it is full it becomes the older one, whose members are then forgotten unless they are used.
struct Generations<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new() }
    }
}

impl<K: Hash + Eq + Copy, V> Generations<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.newer.len() >= GENERATION && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }

    /// What is remembered under a key, if anything is.
    fn recall(&mut self, key: K) -> Option<&mut V> {
        if let Some(kept) = self.older.remove(&key) {
            // One that was put anew since is the newer one.
            if !self.newer.contains_key(&key) {
                self.insert(key, kept);
            }
        }
        self.newer.get_mut(&key)
    }

    fn forget(&mut self, key: K) {
        self.newer.remove(&key);
        self.older.remove(&key);
    }
}

/// Whom a credential names, as this installation signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: FleetId,
    pub(crate) tenant: TenantId,
    pub(crate) credential: FleetCredentialId,
}

/// A credential whose signature was verified.
#[derive(Clone, Copy)]
pub(crate) struct Verified {
    pub(crate) named: Named,
    /// The key that it is bound to.
    pub(crate) key: PublicKey,
    /// When it is good.
    pub(crate) times: Times,
    /// Stands for the stored hash that it was found to belong to.
    stored: Option<Mac>,
}

impl Verified {
    pub(crate) fn new(named: Named, key: PublicKey, times: Times) -> Self {
        Self { named, key, times, stored: None }
    }
}

/// What a proof is, by what was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fresh,
    Replayed,
    Cloned(CloneSign),
}

/// What is remembered of one agent or relay.
#[derive(Debug, Default)]
struct Signer {
    /// Its last proofs: numbers, and what stands for their ids.
    recent: VecDeque<(i64, u64)>,
    /// When the next report would be due if they came evenly, in microseconds.
    due_us: i64,
}

impl Signer {
    /// Judges a proof, and remembers it if it is fresh. `written`: the last one that was written down.
    fn judge(&mut self, written: (i64, u64), number: i64, id: u64) -> Verdict {
        if self.recent.contains(&(number, id)) || written == (number, id) {
            return Verdict::Replayed;
        }
        if number == written.0 || self.recent.iter().any(|seen| seen.0 == number) {
            return Verdict::Cloned(CloneSign::SameNumber);
        }
        match written.0.checked_sub(number) {
            Some(behind) if behind >= LATE => return Verdict::Cloned(CloneSign::OldNumber),
            Some(behind) if behind > 0 => return Verdict::Replayed,
            _ => {}
        }
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((number, id));
        Verdict::Fresh
    }

    /// Counts a report (the generic cell rate algorithm, which is a bucket of as many tokens as a minute has). How long to wait where there are
    /// too many, in seconds.
    fn report(&mut self, now: Timestamp, per_min: u32) -> Result<(), u64> {
        let (now_us, each_us) = (now.as_millis().saturating_mul(1_000), COUNTED_US / i64::from(per_min.max(1)));
        // A clock that was set back makes nobody wait for longer than one report takes.
        let due_us = self.due_us.clamp(now_us, now_us.saturating_add(COUNTED_US));
        let wait_us = due_us.saturating_add(each_us).saturating_sub(now_us.saturating_add(COUNTED_US));
        if wait_us > 0 {
            return Err(wait_us.unsigned_abs().div_ceil(1_000_000));
        }
        self.due_us = due_us.saturating_add(each_us);
        Ok(())
    }
}

/// What a process remembers of agents and relays.
pub(crate) struct Fleet {
    mac_key: [u8; 32],
    verified: Mutex<Generations<Mac, Verified>>,
    signers: Mutex<Generations<FleetId, Signer>>,
    refused: Mutex<HashMap<u128, Timestamp>>,
    pub(crate) keys: RwLock<Option<Keys>>,
}

/// The keys that sign credentials.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) newest: Arc<SigningKey>,
    pub(crate) all: Arc<[PublicKey]>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Nothing remembered yet. The key of this process is random, so that what it remembers says nothing to anybody else.
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        let mut mac_key = [0; 32];
        rng.fill(&mut mac_key);
        Self {
            mac_key,
            verified: Mutex::default(),
            signers: Mutex::default(),
            refused: Mutex::default(),
            keys: RwLock::default(),
        }
    }

    /// Stands for the bytes of a credential with this digest.
    pub(crate) fn mac(&self, credential: &Digest) -> Mac {
        hmac_sha256(&self.mac_key, credential.as_bytes())
    }

    /// Stands for everything that the hash's verdict depends on: these bytes, that stored hash.
    fn verdict(&self, mac: &Mac, stored: &str) -> Mac {
        hmac_sha256(&self.mac_key, &[mac.as_slice(), stored.as_bytes()].concat())
    }

    /// The credential, if its signature was verified.
    pub(crate) fn recall(&self, mac: Mac) -> Option<Verified> {
        lock(&self.verified).recall(mac).copied()
    }

    pub(crate) fn remember(&self, mac: Mac, verified: Verified) {
        lock(&self.verified).insert(mac, verified);
    }

    /// It is good no more.
    pub(crate) fn forget(&self, mac: Mac) {
        lock(&self.verified).forget(mac);
    }

    /// Whether a credential was found to be the one of this hash.
    pub(crate) fn is_stored(&self, mac: Mac, stored: &str) -> bool {
        let verdict = self.verdict(&mac, stored);
        lock(&self.verified).recall(mac).is_some_and(|verified| verified.stored == Some(verdict))
    }

    /// It was found to be.
    pub(crate) fn note_stored(&self, mac: Mac, stored: &str) {
        let verdict = self.verdict(&mac, stored);
        if let Some(verified) = lock(&self.verified).recall(mac) {
            verified.stored = Some(verdict);
        }
    }

    /// How many credentials are remembered.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        let verified = lock(&self.verified);
        verified.newer.len() + verified.older.len()
    }

    /// Stands for a proof's id: an id that was not chosen by its signer for it is another one's in all but 2^-64 of cases.
    fn short(&self, id: &str) -> u64 {
        let mac = hmac_sha256(&self.mac_key, id.as_bytes());
        mac.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Works on what is remembered of one.
    fn signer<T>(&self, id: FleetId, work: impl FnOnce(&mut Signer) -> T) -> T {
        let mut signers = lock(&self.signers);
        if let Some(signer) = signers.recall(id) {
            return work(signer);
        }
        let mut signer = Signer::default();
        let done = work(&mut signer);
        signers.insert(id, signer);
        done
    }

    /// Judges a proof of somebody whose credential is good, and remembers it. `written`: the number and the id of the last one that was written
    /// down.
    pub(crate) fn judge(&self, of: FleetId, written: (i64, &str), number: i64, id: &str) -> Verdict {
        let (written, id) = ((written.0, self.short(written.1)), self.short(id));
        self.signer(of, |signer| signer.judge(written, number, id))
    }

    /// Counts a report of an agent's, and refuses one too many.
    pub(crate) fn report(&self, of: FleetId, now: Timestamp, per_min: u32) -> Result<(), Error> {
        self.signer(of, |signer| signer.report(now, per_min)).map_err(|wait_s| Error::Throttled { wait_s })
    }

    /// Whether a refusal is to be recorded now.
    pub(crate) fn is_new(&self, id: u128, now: Timestamp) -> bool {
        let mut refused = lock(&self.refused);
        refused.retain(|_, at| now.millis_since(*at) < REFUSAL_MS);
        refused.len() < GENERATION && refused.insert(id, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use domain::AgentId;
    use testkit::{TestClock, TestRng};

    use super::*;
    use crate::fleet_caller::AHEAD;

    const WRITTEN: (i64, u64) = (100, 7);

    #[test]
    fn attack_24_numbers_tell_a_copy_from_a_late_or_repeated_proof() {
        let late = 100 - LATE + 1;
        for (number, id, expect) in [
            (101, 1, Verdict::Fresh),
            (101 + (1 << 20), 1, Verdict::Fresh),
            (100, 7, Verdict::Replayed),
            (100, 2, Verdict::Cloned(CloneSign::SameNumber)),
            (99, 1, Verdict::Replayed),
            (late, 1, Verdict::Replayed),
            (late - 1, 1, Verdict::Cloned(CloneSign::OldNumber)),
            (0, 1, Verdict::Cloned(CloneSign::OldNumber)),
        ] {
            assert_eq!(Signer::default().judge(WRITTEN, number, id), expect, "{number} {id}");
        }
        let mut recent = Signer::default();
        assert_eq!(recent.judge(WRITTEN, 105, 1), Verdict::Fresh);
        assert_eq!(recent.judge(WRITTEN, 105, 1), Verdict::Replayed);
        assert_eq!(recent.judge(WRITTEN, 105, 2), Verdict::Cloned(CloneSign::SameNumber));
        // One that was signed before and comes after is not held against anybody.
        assert_eq!(recent.judge(WRITTEN, 104, 3), Verdict::Fresh);
        // Also one that is repeated long after is no copy's.
        assert_eq!(recent.judge((100_000, 9), 104, 3), Verdict::Replayed);
    }

    #[test]
    fn two_who_use_one_key_are_told_apart_within_the_late_ones_whatever_numbers_the_copy_chooses() {
        // The copy may know where its original is, and stays ahead of it by any step.
        for ahead in 1..=LATE * 2 {
            let (mut recent, mut written) = (Signer::default(), (0, 0));
            let mut noticed = None;
            let (mut original, mut copy) = (0, 0);
            for round in 0..=LATE {
                copy = (original + ahead).max(copy + 1);
                original += 1;
                for (number, who) in [(copy, 1), (original, 2)] {
                    let id = u64::try_from(round * 2 + who).unwrap();
                    match recent.judge(written, number, id) {
                        Verdict::Fresh if number - written.0 >= AHEAD => written = (number, id),
                        Verdict::Fresh | Verdict::Replayed => {}
                        Verdict::Cloned(_) => noticed = noticed.or(Some(round)),
                    }
                }
            }
            assert!(noticed.is_some(), "{ahead}");
        }
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let mut known = Generations::<usize, usize>::default();
        known.insert(0, 7);
        for n in 1..GENERATION * 3 {
            known.insert(n, n);
            assert_eq!(known.recall(0), Some(&mut 7), "{n}");
        }
        assert!(known.newer.len() + known.older.len() <= 2 * GENERATION);
        assert_eq!(known.recall(1), None);
        known.forget(0);
        assert_eq!(known.recall(0), None);
        let mut recent = Signer::default();
        for number in 1..1_000 {
            recent.judge((0, 0), number, 1);
        }
        assert_eq!(recent.recent.len(), REMEMBERED);
    }

    #[test]
    fn what_was_put_anew_is_recalled_and_not_what_was_there_before() {
        let mut known = Generations::<usize, usize>::default();
        known.insert(0, 1);
        (1..=GENERATION).for_each(|n| known.insert(n, n));
        known.insert(0, 2);
        assert_eq!(known.recall(0), Some(&mut 2));
    }

    fn fleet() -> (Fleet, FleetId) {
        let (clock, rng) = (TestClock::default(), TestRng::seeded(1));
        (Fleet::new(&rng), AgentId::generate(&clock, &rng).into())
    }

    #[test]
    fn a_hash_that_was_found_is_of_these_bytes_and_of_that_hash_and_goes_with_its_credential() {
        let (fleet, id) = fleet();
        let (clock, rng) = (TestClock::default(), TestRng::seeded(2));
        let named = Named {
            id,
            tenant: TenantId::generate(&clock, &rng),
            credential: FleetCredentialId::generate(&clock, &rng),
        };
        let claims = serde_json::json!({"iat": 1, "exp": 2});
        let times = crypto::jwt::Claims::new(&claims).times().unwrap();
        let key = crypto::ed25519::SigningKey::generate().unwrap().public();
        let mac = fleet.mac(&Digest([1; 32]));
        // Without its signature there is nothing to remember it by.
        fleet.note_stored(mac, "hash");
        assert!(!fleet.is_stored(mac, "hash") && fleet.remembered() == 0);
        fleet.remember(mac, Verified::new(named, key, times));
        assert!(!fleet.is_stored(mac, "hash"));
        fleet.note_stored(mac, "hash");
        assert!(fleet.is_stored(mac, "hash") && !fleet.is_stored(mac, "hash2"));
        assert!(!fleet.is_stored(fleet.mac(&Digest([2; 32])), "hash"));
        fleet.forget(mac);
        assert!(fleet.recall(mac).is_none() && !fleet.is_stored(mac, "hash"));
    }

    #[test]
    fn reports_of_a_minute_may_come_at_once_and_then_one_after_the_other() {
        let (fleet, id) = fleet();
        let clock = TestClock::default();
        let ask = |now| match fleet.report(id, now, 30) {
            Ok(()) => 0,
            Err(Error::Throttled { wait_s }) => wait_s,
            Err(other) => panic!("{other}"),
        };
        let begin = domain::Clock::now(&clock);
        assert!((0..30).all(|_| ask(begin) == 0));
        assert_eq!(ask(begin), 2, "one comes free every two seconds");
        assert_eq!(ask(begin.plus_millis(1_001)), 1);
        assert_eq!(ask(begin.plus_millis(2_000)), 0);
        assert_eq!(ask(begin.plus_millis(2_000)), 2, "those that were refused are not counted");
        // Another one is not held up by it.
        let other = AgentId::generate(&clock, &TestRng::seeded(9)).into();
        assert!(fleet.report(other, begin, 30).is_ok());
        // A clock that was set back by a year makes nobody wait for a year.
        assert!((1..=2).contains(&ask(begin.plus_millis(-365 * 86_400_000))));
        assert!((0..30).all(|_| ask(begin.plus_millis(120_000)) == 0), "all of it is back after a while");
    }
}
