//! What one task may reach: the credential comes out of the vault here, for the transport that uses it, and dies with the task.

use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use domain::{Clock, CredentialId, Error, Network, RelayId, Result, Rng, Secret, TenantId};
use plugins::JobConfig;
use store::{JobRow, Purpose, Store, ValidationRow};
use tokio_util::sync::CancellationToken;
use transport::aws::Pacer;
use transport::{Budget, Guard, HostKeys, NoHostKeys, OpenCredential, Opening, Recorder, TaskReach};

use crate::host_keys::RememberedHostKeys;
use crate::own_services::OwnServices;

/// What is to be reached, and for what: a job, one of its tasks, or a validation.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) plugin: &'a str,
    pub(crate) config: &'a JobConfig,
    pub(crate) credential: Option<CredentialId>,
    pub(crate) relay: Option<RelayId>,
}

impl<'a> From<&'a JobRow> for Errand<'a> {
    fn from(job: &'a JobRow) -> Self {
        let (purpose, plugin, config) = (Purpose::Job(job.id), job.plugin.as_str(), &job.config);
        Self { purpose, plugin, config, credential: job.credential, relay: job.relay }
    }
}

impl<'a> From<&'a ValidationRow> for Errand<'a> {
    fn from(row: &'a ValidationRow) -> Self {
        let (purpose, plugin, config) = (Purpose::Validation(row.id), row.plugin.as_str(), &row.config);
        Self { purpose, plugin, config, credential: row.credential, relay: row.relay }
    }
}

/// Opens what tasks reach.
pub(crate) struct Opener {
    pub(crate) store: Store,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) loopback_targets: bool,
    /// What tenants may allow of this server's own surroundings.
    pub(crate) special_targets: Vec<Network>,
    /// What is no target of any tenant.
    pub(crate) own_services: OwnServices,
    pub(crate) call_timeout: Duration,
    pub(crate) memory: Budget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Opener {
    /// Opens the reach of a job, or of one of its tasks. The use of a credential is in the audit log before the first call.
    pub(crate) async fn open(
        &self,
        ctx: &OpCtx,
        tenant: TenantId,
        errand: Errand<'_>,
        recorder: Arc<Recorder>,
        cancelled: CancellationToken,
    ) -> Result<TaskReach> {
        let guard = self.own_guard(&self.policy(ctx, tenant).await?).await?;
        let credential = self.credential(ctx, tenant, errand).await?;
        let host_keys = Arc::new(self.host_keys(ctx, tenant, errand));
        self.opened(errand, credential, guard, recorder, cancelled, host_keys)
    }

    /// The host keys that are remembered where the job runs.
    pub(crate) fn host_keys(&self, ctx: &OpCtx, tenant: TenantId, errand: Errand<'_>) -> RememberedHostKeys {
        RememberedHostKeys {
            store: self.store.clone(),
            ctx: ctx.clone(),
            tenant,
            purpose: errand.purpose,
            relay: errand.relay,
        }
    }

    /// The special networks that a tenant's target policy names.
    pub(crate) async fn policy(&self, ctx: &OpCtx, tenant: TenantId) -> Result<Vec<Network>> {
        let permit = ctx.authorize::<ops::TargetPolicyShow>(tenant)?;
        self.store.read(permit).await?.target_policy_show().await
    }

    /// The guard of what runs here.
    pub(crate) async fn own_guard(&self, policy: &[Network]) -> Result<Guard> {
        let guard =
            Guard::loopback(self.loopback_targets).allowing(policy.iter().copied()).up_to(&self.special_targets);
        Ok(guard.keeping_from(self.own_services.now().await?))
    }

    /// The job's credential, whose use is in the audit log before it is here.
    pub(crate) async fn credential(
        &self,
        ctx: &OpCtx,
        tenant: TenantId,
        errand: Errand<'_>,
    ) -> Result<Option<OpenCredential>> {
        match errand.credential {
            None => Ok(None),
            Some(id) => {
                let permit = ctx.authorize::<ops::CredentialUse>(tenant)?;
                let used = self.store.write(permit).await?.credential_use(id, errand.purpose).await;
                let (row, secret) = used.map_err(|error| match error {
                    Error::NotFound { .. } => {
                        Error::invalid("credential", "the credential is gone: add it again, then ask again")
                    }
                    other => other,
                })?;
                Ok(Some(OpenCredential { id, kind: row.kind, secret }))
            }
        }
    }

    /// Refuses what is no target by the tenant's policy, for tasks that run elsewhere: what is special there is the tenant's own.
    pub(crate) fn check(
        &self,
        errand: Errand<'_>,
        credential: Option<&OpenCredential>,
        policy: &[Network],
    ) -> Result<()> {
        let copy = credential.map(|credential| OpenCredential {
            id: credential.id,
            kind: credential.kind.clone(),
            secret: Secret::new(credential.secret.expose()),
        });
        self.opened(
            errand,
            copy,
            Guard::default().allowing(policy.iter().copied()),
            Arc::default(),
            CancellationToken::new(),
            Arc::new(NoHostKeys),
        )
        .map(drop)
    }

    pub(crate) fn opened(
        &self,
        errand: Errand<'_>,
        credential: Option<OpenCredential>,
        guard: Guard,
        recorder: Arc<Recorder>,
        cancelled: CancellationToken,
        host_keys: Arc<dyn HostKeys>,
    ) -> Result<TaskReach> {
        let opened = transport::open(Opening {
            plugin: errand.plugin,
            config: errand.config,
            credential,
            guard,
            call_timeout: self.call_timeout,
            pacer: Arc::clone(&self.pacer),
            memory: &self.memory,
            recorder,
            clock: Arc::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            cancelled,
            host_keys,
        });
        opened.map_err(|error| Error::Invalid { field: None, message: error.to_string() })
    }
}
