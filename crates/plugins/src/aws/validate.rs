//! What a credential may do in an account: who it is, and the first call of every scope, one page of it, in one region. Calls about single
//! resources are named and left out: there may be no resource to ask about.

use std::collections::BTreeSet;

use domain::{CheckOutcome, Error, Result};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use serde_json::{Map, Value};
use transport::{AwsReach, CallError, CallTag, Reach};

use super::path::Context;
use super::table::{Ask, Entry, Service};
use super::{AwsPlugin, Settings, collect, request};
use crate::Checks;
use crate::checks::told;

/// The call that an entry begins with.
fn first(entry: &Entry) -> Option<Ask> {
    entry.before.clone().or_else(|| entry.each.clone()).or_else(|| entry.ask())
}

/// An error of the calls without which nothing can be read.
fn refused(checks: &Checks, what: &str, error: &Error) {
    let is_credential = matches!(error, Error::Invalid { field: Some("credential"), .. });
    let outcome = if is_credential { CheckOutcome::Denied } else { CheckOutcome::Failed };
    checks.add(what, outcome, Some(&error.to_string()));
}

/// Names a call as policies do.
fn name(service: &Service, call: &str) -> String {
    format!("{}:{call}", service.name())
}

pub(super) async fn validate(
    plugin: &AwsPlugin,
    settings: &Settings,
    aws: &dyn AwsReach,
    reach: &dyn Reach,
    checks: &Checks,
) -> Result<()> {
    let account = match plugin.account(aws, &settings.home).await {
        Ok(account) => account,
        Err(error) => {
            refused(checks, "sts:GetCallerIdentity", &error);
            return Ok(());
        }
    };
    checks.add("sts:GetCallerIdentity", CheckOutcome::Good, Some(&format!("account {account}")));
    let regions = match plugin.regions(aws, settings, &account).await {
        Ok(regions) => regions,
        Err(error @ Error::Invalid { field: Some("regions"), .. }) => return Err(error),
        Err(error) => {
            refused(checks, "ec2:DescribeRegions", &error);
            return Ok(());
        }
    };
    checks.add("ec2:DescribeRegions", CheckOutcome::Good, Some(&format!("{} regions to read", regions.len())));
    let home = &settings.home;
    let region = if regions.contains(home) { home } else { regions.first().unwrap_or(home) };

    let (mut asked, mut calls, mut details) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (global, region) in [(true, home), (false, region)] {
        for (service, entry) in plugin.entries(global, settings.services.as_deref()) {
            if let Some(ask) = first(entry) {
                let service = ask.service.as_deref().and_then(|name| plugin.table.service(name)).unwrap_or(service);
                if asked.insert(name(service, &ask.call)) {
                    calls.push((service, ask, region.as_str(), entry.absent.clone()));
                }
            }
            for ask in &entry.sub {
                let service = ask.service.as_deref().and_then(|name| plugin.table.service(name)).unwrap_or(service);
                details.push(name(service, &ask.call));
            }
        }
    }
    let trying = calls.into_iter().map(|(service, ask, region, absent)| {
        let account = account.as_str();
        async move {
            if reach.is_cancelled() {
                return;
            }
            let what = name(service, &ask.call);
            let nothing = Value::Object(Map::new());
            let context = Context { item: &nothing, parent: None, account, region };
            let Some(call) = request::build(service, &ask, context, &[]) else {
                return checks.left_out(&what, "it asks about a single resource");
            };
            let Ok(scope) = "aws:validate".parse() else { return };
            let tag = CallTag { scope, about: None, keep: false };
            match aws.call(call, &tag).await {
                Ok(_) => checks.add(&what, CheckOutcome::Good, None),
                // It may be asked, and the answer is that there is none.
                Err(error) if absent.iter().chain(&ask.absent).any(|known| known == collect::code(&error)) => {
                    checks.add(&what, CheckOutcome::Good, Some("the account does not use it"));
                }
                Err(CallError::NotFound(_)) => checks.add(&what, CheckOutcome::Good, Some("there is none")),
                Err(error) => checks.add(&what, told(&error), Some(&error.to_string())),
            }
        }
        .boxed()
    });
    let trying: Vec<_> = trying.collect();
    let at_once = usize::try_from(settings.concurrency).unwrap_or(16).clamp(1, 16);
    stream::iter(trying).for_each_concurrent(at_once, |call| call).await;
    for what in details {
        if asked.insert(what.clone()) {
            checks.left_out(&what, "it asks about a single resource");
        }
    }
    Ok(())
}
