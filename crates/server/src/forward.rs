//! Sends audit records on to other systems: syslog over TLS, and Splunk's HTTP event collector.
//!
//! Invariants:
//! - a record is sent at least once: the place in the log moves on after its batch was taken, and is kept in the database;
//! - a destination that does not answer holds up nobody: neither requests nor other destinations, only its own records, which wait in
//!   the log; how many they are is a metric.

use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use anyhow::{Context as _, bail};
use domain::{Clock, Rng, Secret, TenantId};
use http::{HeaderValue, Method, header};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use store::{AuditRecord, Store};
use tokio_util::sync::CancellationToken;
use transport::Guard;
use transport::syslog::SyslogClient;
use transport::web::{WebClient, WebConfig, WebRequest};
use wire::siem::{Format, syslog};

use crate::config::{ForwardKind, ForwardSection};
use crate::datadir::read_private;

/// Records in one delivery.
const BATCH: u32 = 200;
/// How often a destination is looked at when nothing new was written by this server.
const POLL: Duration = Duration::from_secs(5);
/// How long new records are gathered: a session for a batch, not for each.
const GATHER: Duration = Duration::from_millis(300);
/// Longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_mins(1);

enum Way {
    Syslog(SyslogClient),
    Hec { client: WebClient, url: String, token: Secret },
}

/// One destination.
pub(crate) struct Forward {
    name: String,
    format: Format,
    /// Slugs of tenants, `platform`, or `*` for all.
    logs: Vec<String>,
    host: String,
    way: Way,
}

impl Forward {
    /// Reads what the configuration names; a mistake stops the start.
    pub(crate) fn open(section: &ForwardSection, host: &str) -> anyhow::Result<Self> {
        let roots: Vec<CertificateDer<'static>> = match &section.ca {
            Some(path) => CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .with_context(|| format!("audit.forward `{}`: ca `{}`", section.name, path.display()))?,
            None => Vec::new(),
        };
        let name = || format!("audit.forward `{}`", section.name);
        let way = match section.kind {
            ForwardKind::Syslog => {
                Way::Syslog(SyslogClient::new(&section.url, section.loopback, &roots).with_context(name)?)
            }
            ForwardKind::SplunkHec => {
                let Some(path) = &section.token_file else { bail!("{}: set token_file", name()) };
                let token = String::from_utf8(read_private(path)?).with_context(name)?;
                let token = token.trim();
                HeaderValue::from_str(token)
                    .ok()
                    .filter(|_| !token.is_empty())
                    .with_context(|| format!("{}: token_file holds no token", name()))?;
                let config =
                    WebConfig { guard: Guard::loopback(section.loopback), extra_roots: roots, ..WebConfig::default() };
                WebRequest::new(Method::POST, &section.url).with_context(name)?;
                let client = WebClient::new(config).with_context(name)?;
                Way::Hec { client, url: section.url.clone(), token: Secret::new(token.as_bytes().to_vec()) }
            }
        };
        let format = section.format.parse().with_context(name)?;
        Ok(Self { name: section.name.clone(), format, logs: section.logs.clone(), host: host.to_owned(), way })
    }

    fn wants(&self, slug: &str) -> bool {
        self.logs.iter().any(|log| log == "*" || log == slug)
    }

    async fn send(&self, origin: &str, records: Vec<AuditRecord>) -> Result<(), String> {
        let records = records.into_iter().map(api::audit_document);
        match &self.way {
            Way::Syslog(client) => {
                let messages: Vec<String> =
                    records.map(|record| syslog(self.format, &self.host, origin, &record)).collect();
                client.send(&messages).await.map_err(|error| error.to_string())
            }
            Way::Hec { client, url, token } => {
                let mut body = String::new();
                for record in records {
                    let line = self.format.line(origin, &record);
                    let event = match self.format {
                        Format::Cef => serde_json::Value::from(line),
                        Format::Jsonl | Format::Ocsf => {
                            serde_json::from_str(&line).map_err(|error| error.to_string())?
                        }
                    };
                    let time = record.at.as_millis();
                    let event = json!({
                        "time": format!("{}.{:03}", time.div_euclid(1_000), time.rem_euclid(1_000)),
                        "host": self.host, "source": origin, "sourcetype": format!("cairn:audit:{}", self.format.as_str()), "event": event,
                        "fields": {"origin": origin, "index": record.seq.to_string()},
                    });
                    body.push_str(&event.to_string());
                    body.push('\n');
                }
                let token = HeaderValue::from_str(&format!("Splunk {}", token.expose_str().unwrap_or_default()))
                    .map_err(|_| "the token is no header value".to_owned())?;
                let request = WebRequest::new(Method::POST, url).map_err(|error| error.to_string())?;
                let request = request.secret_header(header::AUTHORIZATION, token).body("application/json", body);
                let reply = client.send(request).await.map_err(|error| error.to_string())?;
                if reply.status.is_success() { Ok(()) } else { Err(format!("the collector answered {}", reply.status)) }
            }
        }
    }
}

/// What the API may tell of a destination.
pub(crate) fn settings(section: &ForwardSection) -> api::ForwardSettings {
    let kind = match section.kind {
        ForwardKind::Syslog => "syslog",
        ForwardKind::SplunkHec => "splunk-hec",
    };
    api::ForwardSettings {
        name: section.name.clone(),
        kind,
        url: section.url.clone(),
        format: section.format.clone(),
        logs: section.logs.clone(),
    }
}

/// Sends to one destination until `stop`.
pub(crate) async fn run(
    forward: Forward,
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    stop: CancellationToken,
) {
    let mut growth = store.log_growth();
    let mut pause = POLL;
    loop {
        pause = match pass(&forward, &store, &clock, &rng).await {
            Ok(()) => POLL,
            Err(error) => {
                metrics::counter!("cairn_audit_forward_failures_total", "forward" => forward.name.clone()).increment(1);
                tracing::warn!(forward = forward.name, error, "audit records wait for their destination");
                (pause * 2).min(PAUSE_MAX)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // After a failure only time helps.
            Ok(()) = growth.changed(), if pause == POLL => tokio::time::sleep(GATHER).await,
        }
    }
}

/// Sends what is new in every log that the destination wants; the first failure is told when each had its turn.
async fn pass(forward: &Forward, store: &Store, clock: &Arc<dyn Clock>, rng: &Arc<dyn Rng>) -> Result<(), String> {
    let told = |error: domain::Error| error.to_string();
    let mut first = Ok(());
    for (tenant, slug) in store.logs().await.map_err(told)? {
        if !forward.wants(&slug) || !store.forward_waits(&forward.name, tenant).await.map_err(told)? {
            continue;
        }
        let Some(mut claim) = store.forward_claim(&forward.name, tenant).await.map_err(told)? else { continue };
        let sent = async {
            loop {
                let (records, size) = page(store, tenant, claim.next, clock, rng).await.map_err(told)?;
                let waiting = size.saturating_sub(claim.next);
                metrics::gauge!("cairn_audit_forward_lag_records", "forward" => forward.name.clone(), "log" => slug.clone())
                    .set(f64::from(u32::try_from(waiting).unwrap_or(u32::MAX)));
                let Some(last) = records.last().map(|record| record.seq) else { return Ok(()) };
                forward.send(store.log_origin(tenant).as_str(), records).await?;
                let next = u64::try_from(last).map_err(|error| error.to_string())? + 1;
                store.forward_advance(&mut claim, next).await.map_err(told)?;
            }
        }
        .await;
        let reason = sent.as_ref().err().map(String::as_str);
        store.forward_release(claim, reason).await.map_err(told)?;
        first = first.and(sent);
    }
    first
}

async fn page(
    store: &Store,
    tenant: Option<TenantId>,
    from: u64,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> domain::Result<(Vec<AuditRecord>, u64)> {
    if let Some(tenant) = tenant {
        let ctx = OpCtx::system("forward", tenant, Arc::clone(clock), Arc::clone(rng));
        store.audit_from(ctx.authorize::<ops::AuditList>(tenant)?, from, BATCH).await
    } else {
        let ctx = OpCtx::system_platform("forward", Arc::clone(clock), Arc::clone(rng));
        store.platform_audit_from(ctx.authorize_platform::<ops::PlatformAuditList>()?, from, BATCH).await
    }
}
