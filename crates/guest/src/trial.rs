//! A plugin of somebody else, tried: its settings judged by itself, then its first calls, whose answers it gets and whose facts nobody keeps.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::{CheckOutcome, Coverage, CredentialId, Error, Page, Result, ScopeId};
use plugins::{Checks, JobConfig, Sink, told};
use transport::{AwsCall, AwsReach, CallError, CallTag, HttpCall, HttpReach, Reach, Reply};

use crate::plugin::GuestPlugin;
use crate::run;

/// Calls that are let through.
const CALLS: usize = 20;

/// A reach that lets a few calls through, and tells how each ended.
struct Trial<'a> {
    reach: &'a dyn Reach,
    checks: &'a Checks,
    left: AtomicUsize,
}

impl Trial<'_> {
    /// Whether one more call may be made.
    fn take(&self) -> Result<(), CallError> {
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        took.map(drop).map_err(|_| CallError::Cancelled)
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

#[async_trait]
impl HttpReach for Trial<'_> {
    async fn call(&self, call: HttpCall, tag: &CallTag) -> Result<Reply, CallError> {
        let absent = || CallError::Credential("this job has no credential for HTTPS".to_owned());
        let http = self.reach.http().ok_or_else(absent)?;
        self.take()?;
        let what = format!("{} {}{}", call.method, call.origin, call.path);
        let answer = http.call(call, tag).await;
        match &answer {
            Ok(reply) => {
                let outcome = match reply.status {
                    401 | 403 => CheckOutcome::Denied,
                    200..=399 | 404 => CheckOutcome::Good,
                    _ => CheckOutcome::Failed,
                };
                self.checks.add(&what, outcome, Some(&format!("HTTP {}", reply.status)));
            }
            Err(error) => self.checks.add(&what, told(error), Some(&error.to_string())),
        }
        answer
    }
}

#[async_trait]
impl AwsReach for Trial<'_> {
    async fn call(&self, call: AwsCall, tag: &CallTag) -> Result<Reply, CallError> {
        let absent = || CallError::Credential("this job has no credential for AWS".to_owned());
        let aws = self.reach.aws().ok_or_else(absent)?;
        self.take()?;
        let what = format!("{}:{} in {}", call.service, call.operation, call.region);
        let answer = aws.call(call, tag).await;
        self.checks.call(&what, &answer, None);
        answer
    }
}

impl Reach for Trial<'_> {
    fn aws(&self) -> Option<&dyn AwsReach> {
        self.reach.aws().map(|_| self as &dyn AwsReach)
    }

    fn host(&self) -> Option<&dyn transport::HostReach> {
        None
    }

    fn http(&self) -> Option<&dyn HttpReach> {
        self.reach.http().map(|_| self as &dyn HttpReach)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.reach.credential()
    }

    fn is_cancelled(&self) -> bool {
        self.is_over() || self.reach.is_cancelled()
    }
}

/// Takes what the plugin shows, and forgets it.
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn page(&mut self, _: Page) -> Result<()> {
        Ok(())
    }

    async fn scope_done(&mut self, _: ScopeId, _: Coverage) -> Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

/// Tries a plugin with settings that its schema has passed.
pub(crate) async fn validate(
    plugin: &GuestPlugin,
    settings: &JobConfig,
    reach: &dyn Reach,
    checks: &Checks,
) -> Result<()> {
    let mut running = plugin.start().await?;
    plugin.validate_settings(&running, settings).await?;
    let trial = Trial { reach, checks, left: AtomicUsize::new(CALLS) };
    let ran = run::run(&mut running, &plugin.job(settings, &trial), Vec::new(), &mut Nowhere).await;
    if trial.is_over() {
        checks.left_out("more calls", &format!("a validation lets the plugin make {CALLS} calls"));
        return Ok(());
    }
    match ran {
        Ok(_) => {
            // Calls say more than the plugin's word.
            if checks.all().is_empty() {
                checks.add("the settings", CheckOutcome::Good, Some("the plugin takes them, and made no call"));
            }
            Ok(())
        }
        Err(error) if reach.is_cancelled() => Err(error),
        Err(Error::Invalid { message, .. }) => {
            checks.add("the plugin", CheckOutcome::Failed, Some(&message));
            Ok(())
        }
        Err(error) => Err(error),
    }
}
