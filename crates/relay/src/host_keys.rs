//! Host keys are remembered at the server, and nothing of them here: a task asks over its stream, one question at a time.

use std::sync::Arc;

use async_trait::async_trait;
use crypto::ssh::PublicKey;
use domain::HostPort;
use gateway::StreamHandle;
use tokio::sync::{Mutex, mpsc};
use transport::{CallError, HostKeys};
use wire::frame::MessageKind;
use wire::relay::{HostKeyAnswer, HostKeyQuestion};

/// Asks the server of one task.
pub(crate) struct AskedHostKeys {
    stream: Arc<StreamHandle>,
    answers: Mutex<Answers>,
}

struct Answers {
    came: mpsc::Receiver<Vec<u8>>,
    /// Questions that were asked.
    asked: u64,
}

fn lost() -> CallError {
    CallError::Unreachable("the server does not answer what it knows of host keys".to_owned())
}

impl AskedHostKeys {
    /// `came`: what comes as [`MessageKind::HostKeyAnswered`].
    pub(crate) fn new(stream: Arc<StreamHandle>, came: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { stream, answers: Mutex::new(Answers { came, asked: 0 }) }
    }

    async fn ask(&self, target: &HostPort, shown: Option<&PublicKey>) -> Result<Option<PublicKey>, CallError> {
        let mut answers = self.answers.lock().await;
        answers.asked += 1;
        let number = answers.asked;
        let shown = shown.map(ToString::to_string);
        let question = HostKeyQuestion { number, target: target.to_string(), shown };
        let question = serde_json::to_vec(&question).map_err(|_| lost())?;
        self.stream.send(MessageKind::HostKeyAsked, question).await.map_err(|_| lost())?;
        loop {
            let answer = answers.came.recv().await.ok_or_else(lost)?;
            let answer: HostKeyAnswer = serde_json::from_slice(&answer).map_err(|_| lost())?;
            // Whoever asked before may not have waited for theirs.
            if answer.number == number {
                return answer.key.map(|key| key.parse().map_err(|_| lost())).transpose();
            }
        }
    }
}

#[async_trait]
impl HostKeys for AskedHostKeys {
    async fn recall(&self, target: &HostPort) -> Result<Option<PublicKey>, CallError> {
        self.ask(target, None).await
    }

    async fn meet(&self, target: &HostPort, shown: &PublicKey) -> Result<PublicKey, CallError> {
        let counts = self.ask(target, Some(shown)).await?;
        counts.ok_or_else(|| CallError::Unreachable("the server remembers no key of this host".to_owned()))
    }
}
