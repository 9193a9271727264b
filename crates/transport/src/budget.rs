//! How much memory the answers of all targets together may take in this process.
//!
//! Each target has limits of its own, but a job reads many targets at a time, and a server or relay runs several jobs. So each task has an
//! equal share, of which its targets draw what they are about to keep, and no task takes what another one needs.
//!
//! **Not for** replies that one call at a time bounds (HTTP, AWS).
//!
//! Invariants:
//! - no more is drawn than there is: of tasks beyond the number of shares the first draw waits until one ends;
//! - nobody waits for ever: half of a share is kept for one target at a time, which the others wait for. It draws until it is done or the
//!   share is used up, and then it fails.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::CallError;

/// The memory of a process for answers of targets.
#[derive(Debug, Clone)]
pub struct Budget {
    share_bytes: u64,
    shares: Arc<Semaphore>,
}

impl Default for Budget {
    /// 256 MiB for four tasks at a time.
    fn default() -> Self {
        Self::new(256 * 1_024 * 1_024, const { NonZero::new(4).unwrap() })
    }
}

impl Budget {
    /// So many bytes, for so many tasks at a time.
    pub fn new(bytes: u64, tasks: NonZero<usize>) -> Self {
        let share_bytes = bytes / u64::try_from(tasks.get()).unwrap_or(u64::MAX);
        Self { share_bytes, shares: Arc::new(Semaphore::new(tasks.get())) }
    }

    /// What one task's targets draw on.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::new(Share {
            bytes: self.share_bytes,
            shares: Arc::clone(&self.shares),
            turn: OnceCell::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }
}

/// The part of one task.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: u64,
    shares: Arc<Semaphore>,
    /// That it is one of those that may be drawn on: since the first draw.
    turn: OnceCell<OwnedSemaphorePermit>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    next: u64,
    /// Who draws on the half that is kept back.
    first: Option<u64>,
    /// Who waits for it, the oldest first.
    waiting: BTreeSet<u64>,
}

impl Share {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a target keeps of it: nothing yet.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        let mut state = self.state();
        state.next += 1;
        Hold { share: Arc::clone(self), target: state.next, bytes: AtomicU64::new(0) }
    }

    /// What its targets have of it.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.state().used
    }

    fn used_up(&self) -> CallError {
        CallError::Limit(format!(
            "the answers of this task's targets take more than their {} MiB of memory: read fewer targets at a time (`concurrency`), or give \
             targets more memory (`discovery.targets_mib` of the server, `RELAY_TARGETS_MIB` of a relay)",
            self.bytes / 1_048_576
        ))
    }
}

/// What one target has drawn; it goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    share: Arc<Share>,
    target: u64,
    bytes: AtomicU64,
}

/// Somebody who waits, until they do not any more.
struct Waiting<'a>(&'a Hold);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.share.state().waiting.remove(&self.0.target);
        self.0.share.changed.notify_waiters();
    }
}

impl Hold {
    /// Draws so many bytes more: at once, when others have given theirs back, or not at all.
    pub(crate) async fn draw(&self, bytes: u64) -> Result<(), CallError> {
        let turn = || Arc::clone(&self.share.shares).acquire_owned();
        self.share.turn.get_or_try_init(turn).await.map_err(|_| CallError::Cancelled)?;
        if self.try_draw(bytes, false)? {
            return Ok(());
        }
        let _waiting = Waiting(self);
        self.share.state().waiting.insert(self.target);
        loop {
            let changed = self.share.changed.notified();
            tokio::pin!(changed);
            // From here on nothing that is given back is missed.
            changed.as_mut().enable();
            if self.try_draw(bytes, true)? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Draws so many bytes more at once, out of what is kept back too, or not at all: for somebody on whose going on the others depend.
    pub(crate) fn draw_now(&self, bytes: u64) -> Result<(), CallError> {
        let mut state = self.share.state();
        let after = state.used.saturating_add(bytes);
        if after > self.share.bytes {
            return Err(self.share.used_up());
        }
        state.used = after;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it could be drawn now; an error where it never can.
    fn try_draw(&self, bytes: u64, waits: bool) -> Result<bool, CallError> {
        let share = &self.share;
        let mut state = share.state();
        let after = state.used.saturating_add(bytes);
        if after > share.bytes / 2 {
            // Those who came first go first, so that whoever has much is through with it.
            let may_be_first =
                if waits { state.waiting.first() == Some(&self.target) } else { state.waiting.is_empty() };
            match state.first {
                Some(first) if first == self.target => {}
                None if may_be_first => state.first = Some(self.target),
                _ => return Ok(false),
            }
            if after > share.bytes {
                return Err(share.used_up());
            }
        }
        state.used = after;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(true)
    }

    /// Gives back all that it has.
    pub(crate) fn give_back(&self) {
        {
            let mut state = self.share.state();
            state.used = state.used.saturating_sub(self.bytes.swap(0, Ordering::Relaxed));
            if state.first == Some(self.target) {
                state.first = None;
            }
        }
        self.share.changed.notify_waiters();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::join_all;

    use super::*;

    fn share(bytes: u64) -> Arc<Share> {
        Budget::new(bytes, NonZero::new(1).unwrap()).share()
    }

    #[tokio::test]
    async fn targets_that_want_more_than_there_is_take_turns_and_all_come_to_their_end() {
        let share = share(1_000);
        let most = AtomicU64::new(0);
        let (share, most) = (&share, &most);
        // Each alone fits into half, and all together are six times what there is.
        let targets = (0..20).map(|_| async move {
            let hold = share.hold();
            for _ in 0..30 {
                hold.draw(10).await?;
                most.fetch_max(share.state().used, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Ok::<_, CallError>(())
        });
        let ended = join_all(targets).await;
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert!((600..=1_000).contains(&most.load(Ordering::Relaxed)), "{most:?}");
        assert_eq!(share.state().used, 0);
    }

    #[tokio::test]
    async fn a_target_that_wants_more_than_there_is_fails_and_lets_the_others_go_on() {
        let share = share(1_000);
        let (greedy, other) = (share.hold(), share.hold());
        other.draw(300).await.unwrap();
        greedy.draw(600).await.unwrap();
        assert!(other.draw(1).now_or_never().is_none(), "one at a time is first");
        let refused = greedy.draw(101).await.unwrap_err().to_string();
        assert!(refused.contains("`discovery.targets_mib`"), "{refused}");
        let waits = other.draw(300);
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(greedy);
        waits.await.unwrap();
        assert_eq!(share.state().used, 600);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nobody_up() {
        let share = share(1_000);
        let (first, second, third) = (share.hold(), share.hold(), share.hold());
        first.draw(501).await.unwrap();
        assert!(second.draw(1).now_or_never().is_none() && third.draw(1).now_or_never().is_none());
        first.give_back();
        third.draw(600).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_tasks_draw_at_a_time_than_there_are_shares() {
        let budget = Budget::new(2_000, NonZero::new(2).unwrap());
        let shares = [budget.share(), budget.share(), budget.share()];
        let holds = shares.each_ref().map(super::Share::hold);
        let [one, two, three] = &holds;
        one.draw(1).await.unwrap();
        two.draw(1_000).await.unwrap();
        assert!(three.draw(1).now_or_never().is_none());
        let [_, second, _] = shares;
        drop(second);
        assert!(three.draw(1).now_or_never().is_none(), "a target of it still draws");
        let [_, two, three] = holds;
        drop(two);
        three.draw(1_000).await.unwrap();
    }
}
