//! The memory of host keys of one job, or of one validation: out of the database, for a task that runs here and for a relay that asks.
//!
//! A relay asks about targets as it reaches them itself. What it says about them counts for nobody else, so one that lies harms only what it
//! reaches anyhow.

use access::{OpCtx, ops};
use async_trait::async_trait;
use crypto::ssh::PublicKey;
use domain::{Error, HostPort, RelayId, Result, TenantId};
use store::{Purpose, SshTarget, Store};
use transport::{CallError, HostKeys};
use wire::relay::{HostKeyAnswer, HostKeyQuestion};

/// What is remembered where a job runs.
pub(crate) struct RememberedHostKeys {
    pub(crate) store: Store,
    pub(crate) ctx: OpCtx,
    pub(crate) tenant: TenantId,
    pub(crate) purpose: Purpose,
    pub(crate) relay: Option<RelayId>,
}

impl RememberedHostKeys {
    async fn known(&self, target: &HostPort) -> Result<Option<PublicKey>> {
        let permit = self.ctx.authorize::<ops::SshHostKeyList>(self.tenant)?;
        let of = SshTarget { relay: self.relay, target };
        Ok(self.store.read(permit).await?.ssh_host_key_of(of).await?.map(|row| row.key))
    }

    async fn met(&self, target: &HostPort, shown: &PublicKey) -> Result<PublicKey> {
        let permit = self.ctx.authorize::<ops::SshHostKeyMeet>(self.tenant)?;
        let of = SshTarget { relay: self.relay, target };
        let row = self.store.write(permit).await?.ssh_host_key_meet(self.purpose, of, shown).await?;
        if row.key != *shown {
            metrics::counter!("cairn_ssh_host_key_changed_total").increment(1);
            tracing::warn!(
                tenant = %self.tenant, purpose = ?self.purpose, %target, shown = shown.fingerprint(), remembered = row.key.fingerprint(),
                "a host shows another key than the remembered one: somebody may be in between, or it was set up again"
            );
        }
        Ok(row.key)
    }

    /// Answers a relay.
    pub(crate) async fn answer(&self, question: &HostKeyQuestion) -> Result<HostKeyAnswer> {
        let broken = |what: &str| Error::invalid("target", format!("the relay asks about a {what} that is none"));
        let target: HostPort = question.target.parse().map_err(|_| broken("target"))?;
        let key = match &question.shown {
            None => self.known(&target).await?,
            Some(shown) => Some(self.met(&target, &shown.parse().map_err(|_| broken("host key"))?).await?),
        };
        Ok(HostKeyAnswer { number: question.number, key: key.map(|key| key.to_string()) })
    }
}

/// A database that is away is no word about the host.
fn failed(error: Error) -> CallError {
    match error {
        Error::Internal { detail } => {
            tracing::error!(detail, "host keys cannot be looked up");
            CallError::Unreachable("host keys cannot be looked up now".to_owned())
        }
        other => CallError::Unreachable(other.to_string()),
    }
}

#[async_trait]
impl HostKeys for RememberedHostKeys {
    async fn recall(&self, target: &HostPort) -> std::result::Result<Option<PublicKey>, CallError> {
        self.known(target).await.map_err(failed)
    }

    async fn meet(&self, target: &HostPort, shown: &PublicKey) -> std::result::Result<PublicKey, CallError> {
        self.met(target, shown).await.map_err(failed)
    }
}
