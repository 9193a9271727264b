//! Where host keys of SSH targets are remembered. The transport asks; who opened a task answers: a server from its database, a relay over its
//! channel.

use async_trait::async_trait;
use crypto::ssh::PublicKey;
use domain::HostPort;

use crate::CallError;

/// The memory of one task. What it answers is for this task's tenant, and for the place where the task runs.
#[async_trait]
pub trait HostKeys: Send + Sync {
    /// The remembered key of a target; none before the first contact.
    async fn recall(&self, target: &HostPort) -> Result<Option<PublicKey>, CallError>;
    /// Says that a target shows a key that is not the remembered one. At a first contact it is remembered, once for all who come at the same
    /// moment; otherwise nothing changes, and somebody hears of it. Answers the key that counts.
    async fn meet(&self, target: &HostPort, shown: &PublicKey) -> Result<PublicKey, CallError>;
}

/// Remembers nothing, and lets nothing be a first contact.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHostKeys;

#[async_trait]
impl HostKeys for NoHostKeys {
    async fn recall(&self, _: &HostPort) -> Result<Option<PublicKey>, CallError> {
        Ok(None)
    }

    async fn meet(&self, _: &HostPort, _: &PublicKey) -> Result<PublicKey, CallError> {
        Err(CallError::Denied("no host keys are remembered here".to_owned()))
    }
}
