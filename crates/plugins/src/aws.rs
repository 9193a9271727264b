//! AWS: every enabled region of one account, read through a table of calls.
//!
//! - `aws/tables/*.yaml`: what to ask and what the answers mean; `aws/table.rs` reads it;
//! - `aws/request.rs`, `aws/reply.rs`, `aws/name.rs`: from the table to calls, from XML and JSON to one shape and spelling;
//! - `aws/path.rs`, `aws/shape.rs`: the table's small language;
//! - `aws/collect.rs`: one scope; `aws/graph.rs`: edges that need several.
//!
//! **Not for** signing, retries or limits (`transport`).
//!
//! Invariants:
//! - values of environment variables, user data, parameters and keys are dropped before a node is made;
//! - a scope is complete only if its list was read to the end and every call for its items was answered;
//! - the same account gives the same pages in the same order.

use async_trait::async_trait;
use domain::{Coverage, Error, Limits, Page, Result, ScopeId};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Map, Value, json};
use transport::{AwsReach, CallError, CallTag, Reach};

use self::collect::{Env, Gathered, Memo};
use self::path::Context;
use self::table::{Ask, Entry, Service, Table};
use crate::{Checks, JobConfig, Manifest, Plugin, Setting, SettingKind, Sink, TaskSpec, setting};

mod collect;
mod graph;
mod name;
mod path;
mod reply;
mod request;
mod shape;
mod table;
mod validate;

const SETTINGS: &[Setting] = &[
    Setting::optional(
        "regions",
        SettingKind::List,
        "regions to read, separated by commas, or `all` enabled ones (the default)",
        "eu-west-1,us-east-1",
    ),
    Setting::optional(
        "services",
        SettingKind::List,
        "services to read, separated by commas (default: all)",
        "ec2,iam,s3",
    ),
    Setting::optional(
        "home_region",
        SettingKind::Text,
        "where to sign in (default `us-east-1`; `cn-north-1` in China, `us-gov-west-1` in GovCloud)",
        "us-gov-west-1",
    ),
    Setting::optional(
        "endpoint_url",
        SettingKind::Text,
        "where to send every call instead of AWS: a gateway or a test double",
        "https://aws-gateway.example",
    ),
    Setting::optional(
        "concurrency",
        SettingKind::Number { least: 1, most: 64 },
        "most scopes and calls at once, 1 to 64 (default 16)",
        "8",
    ),
];

/// The plugin `aws`.
#[derive(Debug)]
pub struct AwsPlugin {
    table: Table,
}

impl AwsPlugin {
    /// Reads the built-in table.
    pub fn new() -> Result<Self> {
        Ok(Self {
            table: Table::load().map_err(|why| Error::internal(format!("the table of AWS calls is broken: {why}")))?,
        })
    }

    fn settings(&self, config: &JobConfig) -> Result<Settings> {
        setting::check("aws", SETTINGS, config)?;
        let regions = words(config, "regions")?.filter(|regions| regions != &["all"]);
        for region in regions.iter().flatten() {
            if !region_like(region) {
                let message =
                    format!("`{}` is not a region: use names such as `us-east-1`, or `all`", region.escape_debug());
                return Err(Error::invalid("regions", message));
            }
        }
        let services = words(config, "services")?;
        let names: Vec<&str> =
            self.table.services.iter().filter(|s| !s.entries.is_empty()).map(Service::name).collect();
        for service in services.iter().flatten() {
            if !names.contains(&service.as_str()) {
                let message = format!(
                    "`{}` is not a service that is read: use some of {}",
                    service.escape_debug(),
                    names.join(", ")
                );
                return Err(Error::invalid("services", message));
            }
        }
        let home = match config.get("home_region") {
            None => "us-east-1".to_owned(),
            Some(Value::String(region)) if region_like(region) => region.clone(),
            Some(_) => return Err(Error::invalid("home_region", "use a region such as `us-east-1`")),
        };
        let concurrency = setting::number(config, "concurrency", 16).into();
        if let Some(url) = config.get("endpoint_url") {
            let url =
                url.as_str().ok_or_else(|| Error::invalid("endpoint_url", "use a URL such as `https://host:port`"))?;
            // Whether this machine may be called is the server's decision, made when the client is made.
            let check = Map::from_iter([("endpoint_url".to_owned(), Value::String(url.to_owned()))]);
            transport::AwsConfig::from_settings(&check, transport::Guard::widest())
                .map_err(|error| Error::invalid("endpoint_url", error.to_string()))?;
        }
        Ok(Settings { regions, services, home, concurrency })
    }

    /// The entries of one task, in the table's order.
    fn entries<'a>(
        &'a self,
        global: bool,
        services: Option<&'a [String]>,
    ) -> impl Iterator<Item = (&'a Service, &'a Entry)> {
        self.table
            .services
            .iter()
            .filter(move |service| service.global == global)
            .filter(move |service| services.is_none_or(|chosen| chosen.iter().any(|name| name == service.name())))
            .flat_map(|service| service.entries.iter().map(move |entry| (service, entry)))
    }

    async fn ask(&self, aws: &dyn AwsReach, service: &str, call: &str, region: &str) -> Result<Value> {
        let service = self
            .table
            .service(service)
            .ok_or_else(|| Error::internal(format!("the table has no service {service}")))?;
        let nothing = Value::Object(Map::new());
        let context = Context { item: &nothing, parent: None, account: "", region };
        let ask = Ask { call: call.to_owned(), ..Ask::default() };
        let request = request::build(service, &ask, context, &[])
            .ok_or_else(|| Error::internal(format!("{call} cannot be built")))?;
        let tag = CallTag { scope: "aws:plan".parse()?, about: None, keep: false };
        let reply = aws.call(request, &tag).await.map_err(|error| refused(&error))?;
        reply::parse(service.protocol, self.table.facts(service.name(), call), &reply.body)
            .map_err(|why| refused(&CallError::Malformed(format!("{call}: {why}"))))
    }

    /// Whose account the credential is for.
    async fn account(&self, aws: &dyn AwsReach, home: &str) -> Result<String> {
        let identity = self.ask(aws, "sts", "GetCallerIdentity", home).await?;
        path::first(&identity, "account")
            .and_then(Value::as_str)
            .filter(|id| id.len() <= 32 && id.bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
            .ok_or_else(|| refused(&CallError::Malformed("GetCallerIdentity named no account".to_owned())))
    }

    /// The regions to read: those of the settings, which have to be enabled, or all that are.
    async fn regions(&self, aws: &dyn AwsReach, settings: &Settings, account: &str) -> Result<Vec<String>> {
        let answer = self.ask(aws, "ec2", "DescribeRegions", &settings.home).await?;
        let mut enabled: Vec<String> = path::values(&answer, "region_info[].region_name")
            .into_iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        enabled.sort();
        let Some(mut wanted) = settings.regions.clone() else { return Ok(enabled) };
        if let Some(unknown) = wanted.iter().find(|region| !enabled.contains(region)) {
            let message =
                format!("region `{unknown}` is not enabled in account {account}: use some of {}", enabled.join(", "));
            return Err(Error::invalid("regions", message));
        }
        wanted.sort();
        wanted.dedup();
        Ok(wanted)
    }
}

struct Settings {
    regions: Option<Vec<String>>,
    services: Option<Vec<String>>,
    home: String,
    concurrency: u64,
}

fn region_like(text: &str) -> bool {
    text.len() <= 32
        && text.split('-').count() >= 3
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn words(config: &JobConfig, key: &'static str) -> Result<Option<Vec<String>>> {
    config.get(key).map(|value| setting::words(key, value)).transpose()
}

/// A call that a job cannot begin without.
fn refused(error: &CallError) -> Error {
    match error {
        CallError::Credential(_) | CallError::Denied(_) => {
            Error::Invalid { field: Some("credential"), message: format!("AWS refused the credential: {error}") }
        }
        CallError::Cancelled => {
            Error::Unavailable { message: "the job was cancelled".to_owned(), detail: String::new() }
        }
        other => Error::Unavailable { message: format!("AWS could not be asked: {other}"), detail: other.to_string() },
    }
}

fn aws_of(reach: &dyn Reach) -> Result<&dyn AwsReach> {
    reach.aws().ok_or_else(|| {
        Error::invalid("credential", "the plugin aws needs a credential of type `aws-keys` or `aws-assume-role`")
    })
}

#[async_trait]
impl Plugin for AwsPlugin {
    fn manifest(&self) -> Manifest {
        Manifest {
            name: "aws",
            about: "AWS accounts: compute, network, identity, storage, logging and more, in every enabled region",
            version: env!("CARGO_PKG_VERSION"),
            credential_types: &["aws-keys", "aws-assume-role"],
            settings: SETTINGS,
            node_types: self.table.node_types().into_iter().map(str::to_owned).collect(),
        }
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        self.settings(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, reach: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let settings = self.settings(config)?;
        let aws = aws_of(reach)?;
        let account = self.account(aws, &settings.home).await?;
        let regions = self.regions(aws, &settings, &account).await?;
        let services = settings.services.as_deref();
        let mut tasks = Vec::new();
        for (key, region, global) in std::iter::once(("global", settings.home.as_str(), true))
            .chain(regions.iter().map(|region| (region.as_str(), region.as_str(), false)))
        {
            if self.entries(global, services).next().is_none() {
                continue;
            }
            let params = json!({"account": account, "region": region, "global": global, "services": services, "concurrency": settings.concurrency});
            if let Value::Object(params) = params {
                tasks.push(TaskSpec { key: key.to_owned(), params });
            }
        }
        Ok(tasks)
    }

    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        validate::validate(self, &self.settings(config)?, aws_of(reach)?, reach, checks).await
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let text = |name: &str| {
            task.params
                .get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| Error::internal(format!("the task has no {name}")))
        };
        let (account, region) = (text("account")?, text("region")?);
        let global = task.params.get("global") == Some(&Value::Bool(true));
        let services =
            words(&task.params.clone().into_iter().filter(|(_, value)| !value.is_null()).collect(), "services")?;
        let concurrency =
            task.params.get("concurrency").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        let env = Env { table: &self.table, aws: aws_of(reach)?, reach, account, region, memo: Memo::default() };

        let place = if global { "global" } else { region };
        let mut jobs: Vec<(usize, ScopeId, &Service, &Entry)> = Vec::new();
        for (service, entry) in self.entries(global, services.as_deref()) {
            let scope = format!("aws:{account}:{place}:{}.{}", service.name(), entry.scope).parse()?;
            jobs.push((jobs.len(), scope, service, entry));
        }
        let total = u64::try_from(jobs.len()).unwrap_or_default();
        let env_ref = &env;
        let jobs: Vec<BoxFuture<'_, (usize, Gathered)>> = jobs
            .into_iter()
            .map(|(index, scope, service, entry)| {
                async move { (index, collect::scope(env_ref, service, entry, scope).await) }.boxed()
            })
            .collect();
        let mut running = stream::iter(jobs).buffer_unordered(concurrency.unwrap_or(16).clamp(1, 64));
        let mut done: Vec<(usize, Gathered)> = Vec::new();
        while let Some((index, gathered)) = running.next().await {
            sink.progress(
                u64::try_from(done.len() + 1).unwrap_or_default(),
                total,
                &format!("{place}: {}", gathered.name),
            );
            let [nodes, edges] =
                [gathered.nodes.len(), gathered.edges.len()].map(|count| u64::try_from(count).unwrap_or_default());
            sink.reads(&gathered.scope, nodes, edges);
            done.push((index, gathered));
        }
        drop(running);
        if reach.is_cancelled() {
            return Err(refused(&CallError::Cancelled));
        }
        done.sort_by_key(|(index, _)| *index);
        let mut scopes: Vec<Gathered> = done.into_iter().map(|(_, gathered)| gathered).collect();
        graph::finish(&env, &mut scopes);
        for scope in scopes {
            hand_over(scope, sink).await?;
        }
        Ok(())
    }
}

/// A scope's pages, then its coverage.
async fn hand_over(gathered: Gathered, sink: &mut dyn Sink) -> Result<()> {
    let Gathered { scope, nodes, edges, coverage, .. } = gathered;
    let mut nodes = nodes.into_iter();
    let mut edges = edges.into_iter();
    loop {
        let some_nodes: Vec<_> = nodes.by_ref().take(Limits::PAGE_OBSERVATIONS).collect();
        let some_edges: Vec<_> = edges.by_ref().take(Limits::PAGE_OBSERVATIONS - some_nodes.len()).collect();
        if some_nodes.is_empty() && some_edges.is_empty() {
            break;
        }
        sink.page(Page { scope: scope.clone(), nodes: some_nodes, edges: some_edges }).await?;
    }
    if let Coverage::Denied { reason }
    | Coverage::Failed { reason }
    | Coverage::Throttled { reason }
    | Coverage::Partial { reason } = &coverage
    {
        tracing::info!(scope = scope.as_str(), coverage = coverage.as_str(), reason, "aws scope not complete");
    }
    sink.scope_done(scope, coverage).await
}
