//! What one task may reach: the credential comes out of the vault here, for the transport that uses it, and dies with the task.

use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use domain::{Clock, Error, Network, Result, Rng, Secret, TenantId};
use store::{JobRow, Store};
use tokio_util::sync::CancellationToken;
use transport::aws::Pacer;
use transport::{Guard, HostKeys, NoHostKeys, OpenCredential, Opening, Recorder, TaskReach};

use crate::host_keys::RememberedHostKeys;

/// Opens what tasks reach.
pub(crate) struct Opener {
    pub(crate) store: Store,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) loopback_targets: bool,
    /// What tenants may allow of this server's own surroundings.
    pub(crate) special_targets: Vec<Network>,
    pub(crate) call_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Opener {
    /// Opens the reach of a job, or of one of its tasks. The use of a credential is in the audit log before the first call.
    pub(crate) async fn open(
        &self,
        ctx: &OpCtx,
        tenant: TenantId,
        job: &JobRow,
        recorder: Arc<Recorder>,
        cancelled: CancellationToken,
    ) -> Result<TaskReach> {
        let guard = self.guard(&self.policy(ctx, tenant).await?).up_to(&self.special_targets);
        let credential = self.credential(ctx, tenant, job).await?;
        let host_keys = Arc::new(self.host_keys(ctx, tenant, job));
        self.opened(job, credential, guard, recorder, cancelled, host_keys)
    }

    /// The host keys that are remembered where the job runs.
    pub(crate) fn host_keys(&self, ctx: &OpCtx, tenant: TenantId, job: &JobRow) -> RememberedHostKeys {
        RememberedHostKeys { store: self.store.clone(), ctx: ctx.clone(), tenant, job: job.id, relay: job.relay }
    }

    /// The special networks that a tenant's target policy names.
    pub(crate) async fn policy(&self, ctx: &OpCtx, tenant: TenantId) -> Result<Vec<Network>> {
        let permit = ctx.authorize::<ops::TargetPolicyShow>(tenant)?;
        self.store.read(permit).await?.target_policy_show().await
    }

    fn guard(&self, policy: &[Network]) -> Guard {
        Guard::loopback(self.loopback_targets).allowing(policy.iter().copied())
    }

    /// The job's credential, whose use is in the audit log before it is here.
    pub(crate) async fn credential(
        &self,
        ctx: &OpCtx,
        tenant: TenantId,
        job: &JobRow,
    ) -> Result<Option<OpenCredential>> {
        match job.credential {
            None => Ok(None),
            Some(id) => {
                let permit = ctx.authorize::<ops::CredentialUse>(tenant)?;
                let used = self.store.write(permit).await?.credential_use(id, job.id).await;
                let (row, secret) = used.map_err(|error| match error {
                    Error::NotFound { .. } => {
                        Error::invalid("credential", "the credential is gone: add it again, then start the job again")
                    }
                    other => other,
                })?;
                Ok(Some(OpenCredential { id, kind: row.kind, secret }))
            }
        }
    }

    /// Refuses what is no target by the tenant's policy, for tasks that run elsewhere: what is special there is the tenant's own.
    pub(crate) fn check(&self, job: &JobRow, credential: Option<&OpenCredential>, policy: &[Network]) -> Result<()> {
        let copy = credential.map(|credential| OpenCredential {
            id: credential.id,
            kind: credential.kind.clone(),
            secret: Secret::new(credential.secret.expose()),
        });
        self.opened(job, copy, self.guard(policy), Arc::default(), CancellationToken::new(), Arc::new(NoHostKeys))
            .map(drop)
    }

    fn opened(
        &self,
        job: &JobRow,
        credential: Option<OpenCredential>,
        guard: Guard,
        recorder: Arc<Recorder>,
        cancelled: CancellationToken,
        host_keys: Arc<dyn HostKeys>,
    ) -> Result<TaskReach> {
        let opened = transport::open(Opening {
            plugin: &job.plugin,
            config: &job.config,
            credential,
            guard,
            call_timeout: self.call_timeout,
            pacer: Arc::clone(&self.pacer),
            recorder,
            clock: Arc::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            cancelled,
            host_keys,
        });
        opened.map_err(|error| Error::Invalid { field: None, message: error.to_string() })
    }
}
