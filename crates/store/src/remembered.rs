//! What was read is good until something is written, where only this process writes.
//!
//! Every request asks whose session, key or credential it brings, and nearly always nothing changed since the last one asked. On SQLite in the
//! server's own locked folder this process knows when anything can have changed: when it committed something, whatever it was. So an answer
//! is remembered with the state that it was read in and told in that state only (ADR 0053). Nobody has to be told when a session, a role or a key
//! ends, and there is no list of changes that matter. On PostgreSQL, where other servers write too, nothing is remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domain::Result;

use crate::Store;

/// How many of each kind are remembered; then all are forgotten.
const REMEMBERED: usize = 32_768;

/// Counts what changes in a database that only this process writes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    /// A commit was given up by who waited for it: it may still happen, up to the next transaction's beginning.
    doubt: AtomicBool,
}

impl Changes {
    /// Names the state that a look which begins now sees, at least. None: not known.
    pub(crate) fn state(&self) -> Option<u64> {
        (!self.doubt.load(Ordering::SeqCst)).then(|| self.count.load(Ordering::SeqCst))
    }

    /// A transaction has begun on the only connection that writes: what was given up before is over.
    pub(crate) fn begun(&self) {
        if self.doubt.load(Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
            self.doubt.store(false, Ordering::SeqCst);
        }
    }

    /// A commit is asked for.
    pub(crate) fn committing(self: &Arc<Self>) -> Committing {
        Committing { changes: Arc::clone(self), is_over: false }
    }
}

/// A commit that is under way.
pub(crate) struct Committing {
    changes: Arc<Changes>,
    is_over: bool,
}

impl Committing {
    /// It happened, or it failed.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        if !self.is_over {
            self.changes.doubt.store(true, Ordering::SeqCst);
        }
        self.changes.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers, each of the state that it was read in.
#[derive(Debug)]
pub(crate) struct Answers<Q, A>(Mutex<HashMap<Q, (u64, A)>>);

impl<Q, A> Default for Answers<Q, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Q: Hash + Eq, A: Clone> Answers<Q, A> {
    fn answers<T>(&self, work: impl FnOnce(&mut HashMap<Q, (u64, A)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn recall(&self, question: &Q, state: Option<u64>) -> Option<A> {
        self.answers(|answers| {
            answers.get(question).filter(|(of, _)| Some(*of) == state).map(|(_, answer)| answer.clone())
        })
    }

    pub(crate) fn keep(&self, question: Q, state: Option<u64>, answer: A) {
        let Some(state) = state else { return };
        self.answers(|answers| {
            if answers.len() >= REMEMBERED && !answers.contains_key(&question) {
                answers.clear();
            }
            answers.insert(question, (state, answer));
        });
    }

    /// Changes what is remembered as the database was changed, where that is no change to anybody else's answer. It is told as long as it was.
    pub(crate) fn amend(&self, question: &Q, change: impl FnOnce(&mut A)) {
        self.answers(|answers| {
            if let Some((_, answer)) = answers.get_mut(question) {
                change(answer);
            }
        });
    }

    pub(crate) fn forget(&self, question: &Q) {
        self.answers(|answers| answers.remove(question));
    }

    /// The answer, read unless it is known to be what it was. What there is not is not remembered: whoever guesses takes no memory.
    pub(crate) async fn or_read(
        &self,
        store: &Store,
        question: Q,
        read: impl Future<Output = Result<Option<A>>>,
    ) -> Result<Option<A>> {
        let state = store.written_state();
        if let Some(answer) = self.recall(&question, state) {
            return Ok(Some(answer));
        }
        let answer = read.await?;
        if let Some(answer) = &answer {
            self.keep(question, state, answer.clone());
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_amended_is_told_no_longer_than_before() {
        let (changes, answers) = (Arc::new(Changes::default()), Answers::<u8, u8>::default());
        answers.keep(1, changes.state(), 7);
        answers.amend(&1, |answer| *answer += 1);
        answers.amend(&2, |answer| *answer += 1);
        assert_eq!((answers.recall(&1, changes.state()), answers.recall(&2, changes.state())), (Some(8), None));
        changes.committing().over();
        answers.amend(&1, |answer| *answer += 1);
        assert_eq!(answers.recall(&1, changes.state()), None);
    }

    #[test]
    fn an_answer_is_told_until_anything_is_committed() {
        let (changes, answers) = (Arc::new(Changes::default()), Answers::<u8, u8>::default());
        let state = changes.state();
        answers.keep(1, state, 7);
        assert_eq!(answers.recall(&1, changes.state()), Some(7));
        // A look that began before a commit and is answered after it.
        changes.committing().over();
        assert_eq!(answers.recall(&1, changes.state()), None);
        answers.keep(1, state, 7);
        assert_eq!(answers.recall(&1, changes.state()), None);
    }

    #[test]
    fn while_nobody_knows_whether_a_commit_happened_nothing_is_told_or_kept() {
        let (changes, answers) = (Arc::new(Changes::default()), Answers::<u8, u8>::default());
        answers.keep(1, changes.state(), 7);
        drop(changes.committing());
        assert_eq!(answers.recall(&1, changes.state()), None);
        answers.keep(1, changes.state(), 7);
        assert_eq!(answers.recall(&1, changes.state()), None);
        // What was read meanwhile is of no state that there is later.
        let count = changes.count.load(Ordering::SeqCst);
        answers.keep(1, Some(count), 7);
        changes.begun();
        assert_eq!(answers.recall(&1, changes.state()), None);
        answers.keep(1, changes.state(), 8);
        assert_eq!(answers.recall(&1, changes.state()), Some(8));
    }

    #[test]
    fn memory_is_bounded() {
        let answers = Answers::<usize, ()>::default();
        for question in 0..=REMEMBERED {
            answers.keep(question, Some(1), ());
        }
        assert_eq!(answers.answers(|answers| answers.len()), 1);
    }
}
