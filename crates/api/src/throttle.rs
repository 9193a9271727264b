//! How often somebody may guess: passwords, and whatever else is short enough to be guessed.
//!
//! A guess is counted before it is judged and given back when it was right, so that a thousand guesses at once are counted like a thousand one
//! after the other. Past a number of free tries each further one waits for twice as long as the one before, up to a bound; nothing is ever locked.
//! A guess that has to wait is not judged, not counted and costs no hashing.
//!
//! What one account is guessed at from networks that it never signed in from is counted together; from a network that it did sign in from, apart.
//! So nobody elsewhere can make the owner wait (ADR 0025 says what remains). Counts are this server's own: `n` servers allow `n` times as much.
//!
//! Invariants:
//! - memory does not grow: a table of a fixed size, in which those with the fewest tries make room;
//! - where a name's or an address's counters lie cannot be foreseen: their keys are hashed with a secret of the process;
//! - the answer is the same whether the account exists.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::OpCtx;
use domain::{DestinationId, Email, Error, Rng, Timestamp, UserId};
use gateway::places::holder;
use store::{Category, Change, Outcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Failure;
use crate::state::ApiState;

const WAYS: usize = 8;
const SETS: usize = 16_384;
/// A counter that was not touched for so long is as good as none.
const FORGOTTEN_MS: i64 = 24 * 3_600_000;
/// Hashes for strangers that may wait: with the default cost on two cores, five seconds' worth.
const STRANGERS_WAITING: usize = 16;

/// What a right guess does to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The guesser is the owner: begin anew.
    Clears,
    /// It was no guess, but says nothing about the others that were counted: whoever has one account may still guess at another.
    GivesBack,
}

/// How one kind of counter counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// What is counted, for the key and the audit record.
    kind: &'static str,
    /// Tries without any wait.
    free: u32,
    /// The longest wait.
    wait_ms_max: i64,
    /// When a counter that was not touched begins anew.
    forget_ms: i64,
    right: Right,
}

/// An account, guessed at from where it never signed in from.
const ACCOUNT: Rule =
    Rule { kind: "account", free: 10, wait_ms_max: 900_000, forget_ms: FORGOTTEN_MS, right: Right::Clears };
/// An account and a network that it did sign in from.
const ACCOUNT_AT_HOME: Rule =
    Rule { kind: "account at home", free: 10, wait_ms_max: 30_000, forget_ms: 3_600_000, right: Right::Clears };
/// A network, whichever account it guesses at.
const NETWORK: Rule =
    Rule { kind: "network", free: 30, wait_ms_max: 60_000, forget_ms: 900_000, right: Right::GivesBack };

/// A secret of somebody who is signed in already or has proved a first factor: the old password, a TOTP or recovery code.
pub(crate) const OWN_SECRET: Rule =
    Rule { kind: "own secret", free: 5, wait_ms_max: 900_000, forget_ms: FORGOTTEN_MS, right: Right::Clears };

/// Destination tokens that are refused. They wait for nothing: it is the audit log that is not to be filled.
const REFUSED_TOKEN: Rule =
    Rule { kind: "refused tokens", free: 5, wait_ms_max: 300_000, forget_ms: 3_600_000, right: Right::GivesBack };

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// 0: free.
    key: u64,
    at_ms: i64,
    tries: u32,
    /// Whether the audit log knows that guesses have to wait.
    told: bool,
}

impl Slot {
    fn wait_ms(&self, rule: &Rule, now_ms: i64) -> i64 {
        let Some(doublings) = self.tries.checked_sub(rule.free) else { return 0 };
        let wait = 1_000_i64.checked_shl(doublings.min(32)).map_or(rule.wait_ms_max, |wait| wait.min(rule.wait_ms_max));
        // A clock that was set back makes nobody wait for longer than the rule says.
        (wait - (now_ms - self.at_ms).max(0)).max(0)
    }
}

/// The counters: a set takes memory from its first guess on.
struct Table(Vec<Option<Box<[Slot; WAYS]>>>);

impl Table {
    fn new() -> Self {
        Self(vec![None; SETS])
    }

    fn set(&mut self, key: u64) -> &mut [Slot] {
        let at = usize::try_from(key % self.0.len().max(1) as u64).unwrap_or(0);
        self.0.get_mut(at).map_or(&mut [], |set| set.get_or_insert_default().as_mut_slice())
    }

    /// The counter of a key as it is; one that is forgotten is a new one.
    fn get(&mut self, key: u64, rule: &Rule, now_ms: i64) -> Slot {
        let found = self.set(key).iter().find(|slot| slot.key == key);
        match found {
            Some(slot) if now_ms - slot.at_ms < rule.forget_ms => *slot,
            _ => Slot { key, at_ms: now_ms, tries: 0, told: false },
        }
    }

    /// Keeps a counter, in the place of the one with the fewest tries where there is no other room.
    fn put(&mut self, slot: Slot) {
        let rank = |old: &Slot| match old.key {
            key if key == slot.key => (0, 0, 0),
            0 => (1, 0, 0),
            _ if slot.at_ms - old.at_ms >= FORGOTTEN_MS => (2, 0, 0),
            _ => (3, old.tries, old.at_ms),
        };
        if let Some(place) = self.set(slot.key).iter_mut().min_by_key(|old| rank(old)) {
            *place = slot;
        }
    }
}

/// The guesses of this server.
pub(crate) struct Throttle {
    secret: [u8; 32],
    table: Mutex<Table>,
    /// Strangers share half of the cores for hashing, and a short queue: a flood leaves the other half to those who signed in from there before.
    strangers: Arc<Semaphore>,
    strangers_waiting: Arc<Semaphore>,
    /// When the audit log was last told of the full queue.
    told_full_ms: Mutex<Option<i64>>,
}

/// Why a guess has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    kind: &'static str,
    ms: i64,
    /// Whether it is the first since the last guess that was let through.
    first: bool,
}

impl Wait {
    fn error(self) -> Error {
        Error::Throttled { wait_s: u64::try_from(self.ms).unwrap_or(0).div_ceil(1_000).max(1) }
    }
}

/// A stranger's turn. It belongs into the closure that hashes: whoever hangs up meanwhile has not made room for another.
pub(crate) struct Turn {
    _working: OwnedSemaphorePermit,
    _waiting: OwnedSemaphorePermit,
}

/// A guess that was counted. Dropped, it was wrong.
#[must_use = "say whether the guess was right"]
pub(crate) struct Guess {
    throttle: Arc<Throttle>,
    counted: Vec<(u64, Rule)>,
}

impl std::fmt::Debug for Guess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.counted.iter().map(|(_, rule)| rule.kind)).finish()
    }
}

impl Guess {
    /// It was right: the owner is here.
    pub(crate) fn was_right(self) {
        self.settle(|rule| rule.right);
    }

    /// It was not judged: nothing happened.
    pub(crate) fn was_not_judged(self) {
        self.settle(|_| Right::GivesBack);
    }

    fn settle(&self, how: impl Fn(&Rule) -> Right) {
        let mut table = self.throttle.table();
        for (key, rule) in &self.counted {
            if let Some(slot) = table.set(*key).iter_mut().find(|slot| slot.key == *key) {
                match how(rule) {
                    Right::Clears => *slot = Slot::default(),
                    Right::GivesBack => slot.tries = slot.tries.saturating_sub(1),
                }
            }
        }
    }
}

impl Throttle {
    pub(crate) fn new(cores: usize, rng: &dyn Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Self {
            secret,
            table: Mutex::new(Table::new()),
            strangers: Arc::new(Semaphore::new((cores / 2).max(1))),
            strangers_waiting: Arc::new(Semaphore::new(STRANGERS_WAITING)),
            told_full_ms: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics, and a counter is right after every statement.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, rule: &Rule, subject: &str) -> u64 {
        let mac = crypto::hmac_sha256(&self.secret, [rule.kind, "\0", subject].concat().as_bytes());
        mac.first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
    }

    /// Counts a guess against every one of `subjects`, or says how long it has to wait, in which case nothing is counted.
    fn take(self: &Arc<Self>, subjects: &[(Rule, &str)], now: Timestamp) -> Result<Guess, Wait> {
        let now_ms = now.as_millis();
        let counted: Vec<(u64, Rule)> =
            subjects.iter().map(|(rule, subject)| (self.key(rule, subject), *rule)).collect();
        let mut table = self.table();
        for (key, rule) in &counted {
            let slot = table.get(*key, rule, now_ms);
            let wait_ms = slot.wait_ms(rule, now_ms);
            if wait_ms > 0 {
                table.put(Slot { told: true, ..slot });
                return Err(Wait { kind: rule.kind, ms: wait_ms, first: !slot.told });
            }
        }
        for (key, rule) in &counted {
            let slot = table.get(*key, rule, now_ms);
            table.put(Slot { tries: slot.tries.saturating_add(1), at_ms: now_ms, told: false, ..slot });
        }
        drop(table);
        Ok(Guess { throttle: Arc::clone(self), counted })
    }

    /// How the refusal of a token from there is written down; none: it is one of a burst that the log knows of.
    pub(crate) fn refused_token(
        self: &Arc<Self>,
        from: Option<IpAddr>,
        destination: DestinationId,
        now: Timestamp,
    ) -> Option<&'static str> {
        let network = from.map(|ip| holder(ip).to_string()).unwrap_or_default();
        match self.take(&[(REFUSED_TOKEN, &format!("{network}\0{destination}"))], now) {
            Ok(_) => Some(""),
            Err(wait) => wait.first.then_some(" (further ones of this burst are not recorded)"),
        }
    }

    /// Counts a guess at an account's password.
    fn sign_in(
        self: &Arc<Self>,
        email: &Email,
        from: Option<IpAddr>,
        at_home: bool,
        now: Timestamp,
    ) -> Result<Guess, Wait> {
        let network = from.map(|ip| holder(ip).to_string()).unwrap_or_default();
        if at_home {
            return self.take(&[(ACCOUNT_AT_HOME, &format!("{email}\0{network}"))], now);
        }
        self.take(&[(NETWORK, &network), (ACCOUNT, email.as_str())], now)
    }

    /// A stranger's turn to hash: a few at a time, a few waiting, and the others are told to come back.
    async fn turn(&self) -> Result<Turn, Wait> {
        let full = Wait { kind: "hashing", ms: 1_000, first: false };
        let waiting = Arc::clone(&self.strangers_waiting).try_acquire_owned().map_err(|_| full)?;
        let working = Arc::clone(&self.strangers).acquire_owned().await.map_err(|_| full)?;
        Ok(Turn { _working: working, _waiting: waiting })
    }

    /// Whether the audit log should hear of the full queue: once a minute.
    fn tell_full(&self, now: Timestamp) -> bool {
        let mut told = self.told_full_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| now.as_millis() - at >= 60_000);
        if due {
            *told = Some(now.as_millis());
        }
        due
    }
}

/// Lets a guess at an account's password through to be judged, or refuses it for now. The turn belongs into the closure that hashes; say
/// [`Guess::was_right`] afterwards.
pub(crate) async fn admit_sign_in(
    state: &ApiState,
    ctx: &OpCtx,
    email: &Email,
    user: Option<UserId>,
) -> Result<(Guess, Option<Turn>), Failure> {
    // Asked for accounts that do not exist, too: the answer takes as long.
    let before = state.store.signed_in_from(email).await?;
    let at_home = ctx.ip().is_some_and(|ip| before.iter().any(|known| holder(*known) == holder(ip)));
    let guess = match state.throttle.sign_in(email, ctx.ip(), at_home, ctx.clock().now()) {
        Ok(guess) => guess,
        Err(wait) => return Err(refuse_sign_in(state, ctx, email, user, wait).await),
    };
    if at_home {
        return Ok((guess, None));
    }
    match state.throttle.turn().await {
        Ok(turn) => Ok((guess, Some(turn))),
        Err(wait) => {
            guess.was_not_judged();
            Err(refuse_sign_in(state, ctx, email, user, wait).await)
        }
    }
}

/// Refuses a sign-in for now. The first of a burst is in the audit log, in that of the account's tenants too.
async fn refuse_sign_in(state: &ApiState, ctx: &OpCtx, email: &Email, user: Option<UserId>, wait: Wait) -> Failure {
    if wait.kind == "hashing" {
        metrics::counter!("cairn_sign_ins_refused_total", "why" => "hashing").increment(1);
        if !state.throttle.tell_full(ctx.clock().now()) {
            return wait.error().into();
        }
    } else {
        metrics::counter!("cairn_sign_ins_refused_total", "why" => wait.kind).increment(1);
        if !wait.first {
            return wait.error().into();
        }
    }
    let reason = format!("too many tries ({}); further ones of this burst are not recorded", wait.kind);
    match state.store.login_refused(ctx, email, user, &reason).await {
        Ok(()) => wait.error().into(),
        Err(error) => error.into(),
    }
}

/// Counts a guess at something short that belongs to one account (`action` names the operation): the old password, a TOTP, recovery or device
/// code. Say [`Guess::was_right`] afterwards, or drop it. The first refusal of a burst is in the platform's audit log.
pub(crate) async fn guess(
    state: &ApiState,
    ctx: &OpCtx,
    rule: Rule,
    action: &'static str,
    subject: &str,
) -> Result<Guess, Failure> {
    match state.throttle.take(&[(rule, &format!("{action}\0{subject}"))], ctx.clock().now()) {
        Ok(guess) => Ok(guess),
        Err(wait) => {
            if wait.first {
                let change = Change::to(Category::Authentication, "user", subject).outcome(Outcome::Deny).detail(
                    serde_json::json!({"reason": "too many tries; further ones of this burst are not recorded"}),
                );
                state.store.record(ctx, None, action, &change).await?;
            }
            Err(wait.error().into())
        }
    }
}

#[cfg(test)]
#[path = "throttle/tests.rs"]
mod tests;
