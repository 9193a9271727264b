//! What one task may reach: the credential is opened here, for the transport that uses it, and dies with the task.

use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use domain::{Clock, CredentialId, Error, Result, Rng, TenantId};
use store::{JobRow, Store};
use tokio_util::sync::CancellationToken;
use transport::aws::{AwsClient, AwsConfig, AwsCredentials, Pacer};
use transport::local::LocalHost;
use transport::{AwsReach, HostReach, Reach, Recorder};

/// Opens what tasks reach.
pub(crate) struct Opener {
    pub(crate) store: Store,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) loopback_targets: bool,
    pub(crate) call_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

/// The reach of one task.
pub(crate) struct TaskReach {
    aws: Option<AwsClient>,
    host: Option<LocalHost>,
    credential: Option<CredentialId>,
    cancelled: CancellationToken,
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
        let aws = match job.credential {
            None => None,
            Some(id) => {
                let permit = ctx.authorize::<ops::CredentialUse>(tenant)?;
                let used = self.store.write(permit).await?.credential_use(id, job.id).await;
                let (_, secret) = used.map_err(|error| match error {
                    Error::NotFound { .. } => {
                        Error::invalid("credential", "the credential is gone: add it again, then start the job again")
                    }
                    other => other,
                })?;
                let unusable = |error: transport::CallError| Error::Invalid { field: None, message: error.to_string() };
                let credentials = AwsCredentials::from_secret_json(&secret).map_err(unusable)?;
                let mut aws_config = AwsConfig::from_settings(&job.config, self.loopback_targets).map_err(unusable)?;
                aws_config.call_timeout = self.call_timeout;
                let client = AwsClient::new(
                    credentials,
                    aws_config,
                    Arc::clone(&self.pacer),
                    recorder.clone(),
                    self.clock.clone(),
                    self.rng.clone(),
                );
                Some(client.map_err(unusable)?)
            }
        };
        let host = (job.plugin == "host").then(|| LocalHost::new(self.clock.clone(), recorder, "local".to_owned()));
        Ok(TaskReach { aws, host, credential: job.credential, cancelled })
    }
}

impl Reach for TaskReach {
    fn aws(&self) -> Option<&dyn AwsReach> {
        self.aws.as_ref().map(|client| client as &dyn AwsReach)
    }

    fn host(&self) -> Option<&dyn HostReach> {
        self.host.as_ref().map(|host| host as &dyn HostReach)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}
