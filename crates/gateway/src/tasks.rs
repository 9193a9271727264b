//! A program's own work in the background. None of it ends unseen: where a task breaks off, the program stops and says which it was, and
//! whoever started it (systemd, Kubernetes) starts it again. A server that answers and no longer signs its log, ends sessions or sends
//! records on would look well and be of no use.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Starts work and notes the first that broke off; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    broken: Arc<OnceLock<&'static str>>,
    told: CancellationToken,
}

/// A task panicked; what it wrote before says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped because the task `{0}` broke off: the lines before say where; report it, and start this again")]
pub struct BrokenOff(&'static str);

/// Does work to its end; whether it panicked instead. What it left half-done is the caller's to leave alone.
pub async fn broke_off(work: impl Future<Output = ()>) -> bool {
    let mut work = Box::pin(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(|()| false),
        Err(_) => Poll::Ready(true),
    })
    .await
}

impl Tasks {
    /// Starts work that goes on until the program stops. `name` is what an operator reads when it breaks off.
    pub fn spawn<F>(&self, name: &'static str, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        tokio::spawn(async move {
            // What a panic left half-done is not used again: the program stops.
            if broke_off(work).await {
                tracing::error!(task = name, "a task broke off: stopping");
                let _ = tasks.broken.set(name);
                tasks.told.cancel();
            }
        })
    }

    /// Ends when a task broke off.
    pub async fn broken(&self) {
        self.told.cancelled().await;
    }

    /// Fails when a task broke off.
    pub fn check(&self) -> Result<(), BrokenOff> {
        self.broken.get().map_or(Ok(()), |name| Err(BrokenOff(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_breaks_off_is_told_with_its_name_and_one_that_ends_or_is_ended_is_not() {
        let tasks = Tasks::default();
        tasks.spawn("short", async {}).await.unwrap();
        let endless = tasks.spawn("endless", std::future::pending());
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
        tasks.check().unwrap();
        let waiting = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.broken().await }
        });
        let brittle = async {
            tokio::task::yield_now().await;
            panic!("as planned")
        };
        tasks.spawn("brittle", brittle).await.unwrap();
        waiting.await.unwrap();
        assert!(broke_off(async { panic!("as planned") }).await && !broke_off(async {}).await);
        assert_eq!(tasks.check(), Err(BrokenOff("brittle")));
    }
}
