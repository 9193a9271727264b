//! Many who ask the same of the database at once share one transaction.
//!
//! Who finds a place free asks at once, for themselves and for all who wait by then; who comes while they ask waits for the next turn. So one
//! who is alone waits for nobody, and of many each waits for two turns at most. What is read is never older than the question: the snapshot
//! is taken when the turn begins.

use std::sync::{Mutex, PoisonError};

use domain::{Error, Result};
use tokio::sync::{Semaphore, oneshot};

/// Most questions of one turn: a turn that takes long makes all others wait.
const TURN: usize = 64;

struct Waiting<Q, A> {
    question: Q,
    answer: oneshot::Sender<Result<A>>,
}

/// Those who wait, and how many turns there may be at a time.
pub(crate) struct Gather<Q, A> {
    waiting: Mutex<Vec<Waiting<Q, A>>>,
    places: Semaphore,
}

impl<Q: Clone, A> Gather<Q, A> {
    /// With so many turns at a time.
    pub(crate) fn new(places: usize) -> Self {
        Self { waiting: Mutex::new(Vec::new()), places: Semaphore::new(places) }
    }

    fn waiting<T>(&self, work: impl FnOnce(&mut Vec<Waiting<Q, A>>) -> T) -> T {
        work(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks. `turn` answers questions in their order, all of them or none; whoever waits may have to take the turn.
    pub(crate) async fn ask<T>(&self, question: Q, turn: impl Fn(Vec<Q>) -> T) -> Result<A>
    where
        T: Future<Output = Result<Vec<A>>>,
    {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.waiting(|waiting| waiting.push(Waiting { question: question.clone(), answer: sender }));
            let mut taken = false;
            while !taken {
                tokio::select! {
                    biased;
                    answer = &mut answer => match answer {
                        Ok(answer) => return answer,
                        // Whoever had the turn went away in the middle of it.
                        Err(_) => break,
                    },
                    place = self.places.acquire() => {
                        let _place = place.map_err(Error::internal)?;
                        let turned = self.waiting(|waiting| waiting.drain(..waiting.len().min(TURN)).collect::<Vec<_>>());
                        // Somebody else has ours.
                        taken = turned.is_empty();
                        Self::turn(turned, &turn).await;
                    }
                }
            }
            if taken && let Ok(answer) = answer.await {
                return answer;
            }
        }
    }

    async fn turn<T>(turned: Vec<Waiting<Q, A>>, turn: &impl Fn(Vec<Q>) -> T)
    where
        T: Future<Output = Result<Vec<A>>>,
    {
        // Nobody waits any more for some: they went away.
        let turned: Vec<_> = turned.into_iter().filter(|waiting| !waiting.answer.is_closed()).collect();
        if turned.is_empty() {
            return;
        }
        match turn(turned.iter().map(|waiting| waiting.question.clone()).collect()).await {
            Ok(answers) => {
                for (waiting, answer) in turned.into_iter().zip(answers) {
                    let _ = waiting.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                for waiting in turned {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Barrier;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
    }

    #[test]
    fn each_gets_their_own_answer_and_many_share_a_turn() {
        runtime().block_on(async {
            let (gather, turns) = (Arc::new(Gather::<u32, u32>::new(1)), Arc::new(AtomicUsize::new(0)));
            let asks: Vec<_> = (0..1_000)
                .map(|n| {
                    let (gather, turns) = (Arc::clone(&gather), Arc::clone(&turns));
                    tokio::spawn(async move {
                        let turn = |questions: Vec<u32>| {
                            turns.fetch_add(1, Ordering::Relaxed);
                            async move {
                                for _ in 0..10 {
                                    tokio::task::yield_now().await;
                                }
                                Ok(questions.iter().map(|n| n * 2).collect())
                            }
                        };
                        assert_eq!(gather.ask(n, turn).await.unwrap(), n * 2);
                    })
                })
                .collect();
            for ask in asks {
                ask.await.unwrap();
            }
            let turns = turns.load(Ordering::Relaxed);
            assert!((1_000 / TURN..1_000).contains(&turns), "{turns}");
        });
    }

    #[test]
    fn an_error_is_everybodys_of_the_turn_and_nobody_elses() {
        runtime().block_on(async {
            let gather = Gather::<u32, u32>::new(1);
            let fails = |_| std::future::ready(Err(Error::conflict("no")));
            assert!(matches!(gather.ask(1, fails).await, Err(Error::Conflict { .. })));
            assert_eq!(gather.ask(1, |_| std::future::ready(Ok(vec![5]))).await.unwrap(), 5);
        });
    }

    #[test]
    fn who_goes_away_in_the_middle_of_a_turn_leaves_nobody_waiting() {
        runtime().block_on(async {
            let (gather, begun) = (Arc::new(Gather::<u32, u32>::new(1)), Arc::new(Barrier::new(2)));
            let (held, told) = (Arc::clone(&gather), Arc::clone(&begun));
            let first = tokio::spawn(async move {
                let hangs = |_| async {
                    told.wait().await;
                    std::future::pending::<Result<Vec<u32>>>().await
                };
                held.ask(1, hangs).await
            });
            begun.wait().await;
            let second = Arc::clone(&gather);
            let second =
                tokio::spawn(async move { second.ask(2, |asked| std::future::ready(Ok(asked))).await.unwrap() });
            while gather.waiting(|waiting| waiting.len()) == 0 {
                tokio::task::yield_now().await;
            }
            first.abort();
            assert_eq!(second.await.unwrap(), 2);
        });
    }
}
