//! Networks, seen from outside: addresses that answer, open ports, what they say, their certificates. The schema is
//! `docs/schema/network-scan.md`.
//!
//! **Not for** sockets ([`transport::ScanReach`] has them) and not for judging what is found.
//!
//! Invariants:
//! - a scope is complete only when every probe of it was decided, and it names what was looked for: a narrower scan closes nothing;
//! - nothing in a node changes by itself: a second scan of a quiet network shows the same;
//! - a service that could not be looked at again keeps its node and says what is unread.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use domain::{
    CheckOutcome, Coverage, EdgeObservation, Error, Network, NodeId, NodeObservation, Page, Properties, Result,
    ScopeId, Tags,
};
use serde_json::{Map, Value, json};
use transport::scan::{ADDRESSES_MAX, Certificate, Greeted, SweepHow, addresses_at_once};
use transport::{CallError, CallTag, Reach, ScanReach};

use crate::{Checks, JobConfig, Manifest, Plugin, Setting, Sink, TaskSpec};

mod config;
mod greeting;

use config::Config;

/// Live addresses whose ports are scanned at one time, at most.
const HOSTS: usize = 4_096;
/// Observations per page.
const PAGE: usize = 1_000;
/// How often a scan looks whether its job was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// The `network-scan` plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkScanPlugin;

/// Why a scope is not complete; the first reason decides the verdict.
#[derive(Debug, Default)]
struct Doubt(Option<Coverage>);

impl Doubt {
    fn partial(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.get_or_insert(Coverage::Partial { reason });
    }

    fn call(&mut self, error: CallError) {
        self.0.get_or_insert(match error {
            CallError::Denied(reason) => Coverage::Denied { reason },
            other => Coverage::Failed { reason: other.to_string() },
        });
    }

    fn coverage(self) -> Coverage {
        self.0.unwrap_or(Coverage::Complete)
    }
}

/// One target of a task.
struct Job<'a> {
    config: &'a Config,
    target: Network,
    reach: &'a dyn Reach,
    scan: &'a dyn ScanReach,
    sink: &'a mut dyn Sink,
}

fn page(scope: &ScopeId) -> Page {
    Page { scope: scope.clone(), nodes: Vec::new(), edges: Vec::new() }
}

fn tag(scope: &ScopeId) -> CallTag {
    CallTag { scope: scope.clone(), about: None, keep: true }
}

/// A 64-bit FNV-1a hash: names what was looked for in a scope's id, nothing more.
fn short(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// The scope of one kind of things of a target. Colons of IPv6 addresses become dashes: they part the scope's words.
fn scope(config: &Config, target: &Network, kind: &str) -> Result<ScopeId> {
    let target = target.to_string().replace(':', "-");
    format!("network-scan:{}:{target}:{kind}@{}", config.site, short(&config.extent(kind))).parse()
}

/// Waits for a call, and drops it when the job is cancelled.
async fn unless_cancelled<T>(
    reach: &dyn Reach,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<Result<T, CallError>> {
    tokio::pin!(call);
    loop {
        match tokio::time::timeout(LOOK, &mut call).await {
            Ok(result) => return Ok(result),
            Err(_) if reach.is_cancelled() => return Err(Error::conflict("the job was cancelled")),
            Err(_) => {}
        }
    }
}

impl Job<'_> {
    fn node(&self, kind: &str, resource: &str) -> Result<NodeId> {
        NodeId::new("network", &self.config.site, &format!("network.{kind}"), resource)
    }

    fn how(&self, echo: bool) -> SweepHow {
        let ports = if self.config.tcp { config::SWEEP.to_vec() } else { Vec::new() };
        SweepHow { echo, ports, packets_per_s: self.config.rate }
    }

    /// Whether addresses answer after a scan as they did before it: who blocks a scanner, or goes away meanwhile, has no silent ports.
    async fn still_there(&mut self, alive: &[IpAddr], echo: bool, scope: &ScopeId, doubt: &mut Doubt) -> Result<()> {
        match unless_cancelled(self.reach, self.scan.sweep(alive, &self.how(echo), &tag(scope))).await? {
            Ok(swept) if swept.alive.len() < alive.len() => {
                let gone = alive.len() - swept.alive.len();
                doubt.partial(format!("{gone} of {} addresses stopped answering during the scan", alive.len()));
            }
            Ok(swept) => swept.doubt.into_iter().for_each(|reason| doubt.partial(reason)),
            Err(error) => doubt.call(error),
        }
        Ok(())
    }

    /// The addresses that answer, as nodes; and whether ICMP was permitted.
    async fn addresses(&mut self, scope: &ScopeId) -> Result<(Vec<IpAddr>, bool, Doubt)> {
        let (mut alive, mut doubt, mut echo) = (Vec::new(), Doubt::default(), self.config.icmp);
        let mut left = self.config.addresses(&self.target).peekable();
        while left.peek().is_some() {
            let some: Vec<IpAddr> = left.by_ref().take(addresses_at_once(self.config.rate)).collect();
            let mut swept = unless_cancelled(self.reach, self.scan.sweep(&some, &self.how(echo), &tag(scope))).await?;
            // Without ICMP the ports still find most, but not all.
            if let (Err(CallError::Denied(_)), true, true) = (&swept, echo, self.config.tcp) {
                if let Err(error) = swept {
                    doubt.call(error);
                }
                echo = false;
                swept = unless_cancelled(self.reach, self.scan.sweep(&some, &self.how(echo), &tag(scope))).await?;
            }
            match swept {
                Ok(swept) => {
                    if let Some(reason) = swept.doubt {
                        doubt.partial(reason);
                    }
                    alive.extend(swept.alive);
                }
                Err(error) => {
                    doubt.call(error);
                    break;
                }
            }
        }
        if alive.is_empty() {
            // Nothing tells a network without anybody from one that is cut off.
            doubt.partial("nothing answered: a network that is cut off looks the same");
        }
        for some in alive.chunks(PAGE) {
            let mut page = page(scope);
            for address in some {
                let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                page.nodes.push(NodeObservation {
                    id: self.node("address", &address.to_string())?,
                    name: address.to_string(),
                    properties: properties(json!({ "address": address.to_string(), "family": family })),
                    tags: Tags::new(),
                });
            }
            self.sink.page(page).await?;
        }
        Ok((alive, echo, doubt))
    }

    /// Open ports of some addresses, and what they show.
    async fn services(
        &mut self,
        alive: &[IpAddr],
        scopes: [&ScopeId; 2],
        [doubt, certificate_doubt]: [&mut Doubt; 2],
    ) -> Result<()> {
        let [scope, certificates] = scopes;
        let asked = tag(scope);
        let ports = self.scan.ports(alive, &self.config.ports, self.config.rate, &asked);
        let open = match unless_cancelled(self.reach, ports).await? {
            Ok(scanned) => {
                if let Some(reason) = scanned.doubt {
                    doubt.partial(reason);
                }
                scanned.open
            }
            Err(error) => {
                doubt.call(error);
                return Ok(());
            }
        };
        let asked: Vec<(SocketAddr, bool)> =
            open.iter().map(|at| (*at, self.config.tls_ports.contains(&at.port()))).collect();
        for some in asked.chunks(PAGE) {
            let greeted = match unless_cancelled(self.reach, self.scan.greet(some, &tag(scope))).await? {
                Ok(greeted) => greeted,
                Err(error) => {
                    doubt.call(error);
                    return Ok(());
                }
            };
            let (mut services, mut shown) = (page(scope), page(certificates));
            let mut seen: BTreeMap<String, Certificate> = BTreeMap::new();
            for greeted in greeted {
                let address = self.node("address", &greeted.at.ip().to_string())?;
                let service = self.node("service", &format!("{}/tcp", greeted.at))?;
                if greeted.tls.is_err() {
                    certificate_doubt.partial(format!("{}: its TLS could not be read", greeted.at));
                }
                if let Ok(Some(tls)) = &greeted.tls {
                    match &tls.certificate {
                        None => certificate_doubt.partial(format!("{}: its certificate could not be read", greeted.at)),
                        Some(certificate) => {
                            let digest = certificate.sha256.to_hex();
                            shown.edges.push(edge(
                                service.clone(),
                                self.node("certificate", &digest)?,
                                "associated_with",
                            )?);
                            seen.insert(digest, certificate.clone());
                        }
                    }
                }
                services.nodes.push(NodeObservation {
                    name: format!("{} tcp", greeted.at),
                    properties: service_facts(&greeted),
                    id: service.clone(),
                    tags: Tags::new(),
                });
                services.edges.push(edge(address, service, "contains")?);
            }
            for (digest, certificate) in &seen {
                shown.nodes.push(NodeObservation {
                    id: self.node("certificate", digest)?,
                    name: if certificate.subject.is_empty() { digest.clone() } else { certificate.subject.clone() },
                    properties: certificate_facts(certificate),
                    tags: Tags::new(),
                });
            }
            self.sink.page(services).await?;
            self.sink.page(shown).await?;
        }
        Ok(())
    }

    async fn run(mut self) -> Result<()> {
        let [addresses, services, certificates] =
            ["addresses", "services", "certificates"].map(|kind| scope(self.config, &self.target, kind));
        let (addresses, services, certificates) = (addresses?, services?, certificates?);
        self.sink.progress(0, 2, "looking for addresses");
        let (alive, echo, doubt) = self.addresses(&addresses).await?;
        let (mut ports, mut leaves) = (Doubt::default(), Doubt::default());
        match &doubt.0 {
            None => {}
            // Nothing at all was seen, and the reason is the same for everything.
            Some(all) if alive.is_empty() => ports.0 = Some(all.clone()),
            // An address that was not found may have ports.
            Some(_) => ports.partial("not every address was decided"),
        }
        self.sink.scope_done(addresses, doubt.coverage()).await?;
        let hosts = HOSTS.min(addresses_at_once(self.config.rate));
        for (at, some) in alive.chunks(hosts).enumerate() {
            self.sink.progress(1, 2, &format!("scanning ports: {} of {} addresses", at * hosts, alive.len()));
            self.services(some, [&services, &certificates], [&mut ports, &mut leaves]).await?;
            self.still_there(some, echo, &services, &mut ports).await?;
        }
        match &ports.0 {
            None => {}
            Some(all) if alive.is_empty() => leaves.0 = Some(all.clone()),
            Some(_) => leaves.partial("not every port was decided"),
        }
        self.sink.scope_done(services, ports.coverage()).await?;
        self.sink.scope_done(certificates, leaves.coverage()).await?;
        self.sink.progress(2, 2, "done");
        Ok(())
    }
}

fn properties(value: Value) -> Properties {
    match value {
        Value::Object(members) => members,
        _ => Properties::new(),
    }
}

fn edge(source: NodeId, target: NodeId, edge_type: &str) -> Result<EdgeObservation> {
    let edge_type = edge_type.parse()?;
    Ok(EdgeObservation { source, target, edge_type, discriminator: String::new(), properties: Properties::new() })
}

fn service_facts(greeted: &Greeted) -> Properties {
    let (address, port) = (greeted.at.ip().to_string(), greeted.at.port());
    let mut out = properties(json!({ "address": address, "port": port, "protocol": "tcp" }));
    let mut unread = Vec::new();
    match &greeted.greeting {
        Ok(said) => out.extend(greeting::steady(said).map(|text| ("banner".to_owned(), text.into()))),
        Err(_) => unread.push("banner"),
    }
    match &greeted.tls {
        Ok(None) => {}
        Ok(Some(tls)) => {
            out.insert("tls_version".to_owned(), tls.negotiated.clone().into());
            out.insert("tls_accepted".to_owned(), tls.accepted.iter().copied().collect::<Vec<_>>().into());
        }
        Err(_) => unread.extend(["tls_version", "tls_accepted"]),
    }
    if !unread.is_empty() {
        out.insert("unread".to_owned(), unread.into());
    }
    out
}

fn certificate_facts(certificate: &Certificate) -> Properties {
    let mut out = properties(json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "self_signed": certificate.is_self_signed,
        "names": certificate.names,
        "not_before": certificate.not_before.to_string(),
        "not_after": certificate.not_after.to_string(),
        "key_type": certificate.key_type,
        "signature": certificate.signature,
        "sha256": certificate.sha256.to_hex(),
    }));
    out.extend(certificate.key_bits.map(|bits| ("key_bits".to_owned(), bits.into())));
    out
}

#[async_trait]
impl Plugin for NetworkScanPlugin {
    fn manifest(&self) -> Manifest {
        let settings: &'static [Setting] = config::SETTINGS;
        Manifest {
            name: "network-scan",
            about: "private networks from outside: addresses that answer, open TCP ports, greetings, TLS certificates",
            version: env!("CARGO_PKG_VERSION"),
            credential_types: &[],
            settings,
            node_types: ["address", "service", "certificate"].map(|name| format!("network.{name}")).to_vec(),
        }
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        Config::read(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, _: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let checked = Config::read(config)?;
        let task = |target: &Network| TaskSpec {
            key: target.to_string(),
            params: Map::from_iter([("config".to_owned(), config.clone().into())]),
        };
        Ok(checked.targets.iter().map(task).collect())
    }

    /// A scan needs no credential: what is good or not is the settings, and whether this place can scan.
    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        let checked = Config::read(config)?;
        for target in &checked.targets {
            let what = target.to_string();
            let Some(scan) = reach.scan() else {
                checks.add(&what, CheckOutcome::Failed, Some("networks cannot be scanned from here"));
                continue;
            };
            let addresses: Vec<IpAddr> = checked.addresses(target).collect();
            // In the parts in which a job scans them.
            let allowed = addresses.chunks(ADDRESSES_MAX).try_for_each(|some| scan.may_scan(some));
            checks.call(&what, &allowed, Some("it may be scanned; no packet was sent"));
        }
        Ok(())
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let empty = Map::new();
        let config = Config::read(task.params.get("config").and_then(Value::as_object).unwrap_or(&empty))?;
        let scan = reach.scan().ok_or_else(|| Error::Unavailable {
            message: "this task cannot scan networks".into(),
            detail: "Reach::scan is absent".into(),
        })?;
        Job { target: task.key.parse()?, config: &config, reach, scan, sink }.run().await
    }
}
