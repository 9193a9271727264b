//! One scope from its first call to its nodes and edges: lists, calls per item, merges, shapes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::{Coverage, EdgeObservation, Limits, NodeId, NodeObservation, ScopeId};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OnceCell};
use transport::{AwsReach, CallError, CallTag, Reach};

use super::path::{self, Context, expand, fill};
use super::table::{Ask, Edge, Entry, Node, Service, Table};
use super::{reply, request, shape};

/// Items of one scope that are completed at once; `transport` bounds the calls.
const ITEMS_AT_ONCE: usize = 8;
/// Most pages of one list.
const PAGES: usize = 100_000;
/// Property: the account that a resource belongs to.
const ACCOUNT: &str = "account_id";
/// Property: which properties were not read; `*` when it is not known which.
const UNREAD: &str = "unread";

/// What every call of a task shares.
pub(crate) struct Env<'a> {
    pub(crate) table: &'a Table,
    pub(crate) aws: &'a dyn AwsReach,
    pub(crate) reach: &'a dyn Reach,
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
    /// Answers of calls that many items make alike (an instance profile's role).
    pub(crate) memo: Memo,
}

/// Answers by what was asked.
pub(crate) type Memo = Mutex<HashMap<String, Arc<OnceCell<Result<Value, CallError>>>>>;

/// What a scope showed.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) scope: ScopeId,
    pub(crate) name: String,
    pub(crate) nodes: Vec<NodeObservation>,
    pub(crate) edges: Vec<EdgeObservation>,
    pub(crate) coverage: Coverage,
}

/// The service's error code.
pub(crate) fn code(error: &CallError) -> &str {
    match error {
        CallError::Api { code, .. } => code,
        CallError::Denied(text)
        | CallError::NotFound(text)
        | CallError::Throttled(text)
        | CallError::Credential(text) => text.split(':').next().unwrap_or_default(),
        _ => "",
    }
}

fn coverage_of(error: &CallError) -> Coverage {
    let reason = error.to_string();
    match error {
        CallError::Denied(_) => Coverage::Denied { reason },
        CallError::Throttled(_) => Coverage::Throttled { reason },
        _ => Coverage::Failed { reason },
    }
}

/// Why a scope is less than complete.
enum Stop {
    Call(CallError),
    /// AWS said that it does not have this.
    Absent(String),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// One entry at work.
struct Work<'a> {
    env: &'a Env<'a>,
    service: &'a Service,
    entry: &'a Entry,
    scope: &'a ScopeId,
}

/// Reads one scope. Never fails: what went wrong is its coverage.
pub(crate) async fn scope(env: &Env<'_>, service: &Service, entry: &Entry, scope: ScopeId) -> Gathered {
    let mut found = Gathered {
        name: format!("{}.{}", service.name(), entry.scope),
        scope: scope.clone(),
        nodes: vec![],
        edges: vec![],
        coverage: Coverage::Complete,
    };
    let work = Work { env, service, entry, scope: &scope };
    let mut gaps = Vec::new();
    let stop = work.run(&mut found, &mut gaps).await.err();
    found.coverage = match stop {
        Some(Stop::Absent(reason)) => Coverage::Absent { reason },
        Some(Stop::Call(error)) if found.nodes.is_empty() => coverage_of(&error),
        Some(Stop::Call(error)) => Coverage::Partial { reason: format!("the list was not read to its end: {error}") },
        None => match gaps.first() {
            None => Coverage::Complete,
            Some(first) => {
                let more = if gaps.len() > 1 { format!(" (and {} more)", gaps.len() - 1) } else { String::new() };
                Coverage::Partial { reason: format!("{first}{more}") }
            }
        },
    };
    found
}

impl Work<'_> {
    fn context<'b>(&'b self, item: &'b Value, parent: Option<&'b Value>) -> Context<'b> {
        Context { item, parent, account: self.env.account, region: self.env.region }
    }

    fn service_of(&self, ask: &Ask) -> Result<&Service, CallError> {
        match &ask.service {
            None => Ok(self.service),
            Some(name) => self
                .env
                .table
                .service(name)
                .ok_or_else(|| CallError::Malformed(format!("the table has no service `{name}`"))),
        }
    }

    /// Makes one call; none when the item lacks what the call asks about.
    async fn once(
        &self,
        ask: &Ask,
        context: Context<'_>,
        about: Option<&str>,
        token: &[(String, String)],
    ) -> Result<Option<Value>, CallError> {
        if self.env.reach.is_cancelled() {
            return Err(CallError::Cancelled);
        }
        let service = self.service_of(ask)?;
        let Some(call) = request::build(service, ask, context, token) else { return Ok(None) };
        let keep = ask.keep.or(self.entry.keep).unwrap_or(service.keep);
        let tag = CallTag { scope: self.scope.clone(), about: about.map(str::to_owned), keep };
        let answer = async {
            let reply = self.env.aws.call(call.clone(), &tag).await?;
            if ask.raw {
                return String::from_utf8(reply.body.to_vec())
                    .map(Value::String)
                    .map_err(|_| CallError::Malformed("not UTF-8".to_owned()));
            }
            let facts = self.env.table.facts(service.name(), &ask.call);
            reply::parse(service.protocol, facts, &reply.body)
                .map_err(|why| CallError::Malformed(format!("{}: {why}", ask.call)))
        };
        if ask.service.is_none() {
            return answer.await.map(Some);
        }
        let key =
            format!("{}\n{}\n{:?}\n{}", call.operation, call.path, call.query, String::from_utf8_lossy(&call.body));
        let cell = Arc::clone(self.env.memo.lock().await.entry(key).or_default());
        cell.get_or_init(|| answer).await.clone().map(Some)
    }

    /// Reads every page of a list.
    async fn list(
        &self,
        ask: &Ask,
        context: Context<'_>,
        about: Option<&str>,
        out: &mut Vec<Value>,
    ) -> Result<(), CallError> {
        let default = &self.service_of(ask)?.page;
        let page = ask.page.as_ref().unwrap_or(default);
        let mut token = Vec::new();
        for _ in 0..PAGES {
            let Some(answer) = self.once(ask, context, about, &token).await? else { return Ok(()) };
            let items = match &ask.items {
                None => vec![&answer],
                Some(items) => path::values(&answer, items),
            };
            out.extend(items.into_iter().map(|item| match &ask.item_name {
                Some(name) => Map::from_iter([(name.clone(), item.clone())]).into(),
                None => item.clone(),
            }));
            let next: Vec<(String, String)> = page
                .iter()
                .filter_map(|(input, output)| Some((input.clone(), path::first(&answer, output)?.as_str()?.to_owned())))
                .filter(|(_, value)| !value.is_empty())
                .collect();
            if next.is_empty() {
                return Ok(());
            }
            if next == token {
                return Err(CallError::Malformed(format!("{} answered the same page twice", ask.call)));
            }
            token = next;
        }
        Err(CallError::Malformed(format!("{} has more than {PAGES} pages", ask.call)))
    }

    async fn run(&self, found: &mut Gathered, gaps: &mut Vec<String>) -> Result<(), Stop> {
        let nothing = Value::Object(Map::new());
        if let Some(before) = &self.entry.before {
            self.prepare(before, self.context(&nothing, None)).await?;
        }
        let mut parents = Vec::new();
        match &self.entry.each {
            None => parents.push(None),
            Some(each) => {
                let mut list = Vec::new();
                self.list(each, self.context(&nothing, None), None, &mut list).await?;
                parents.extend(list.into_iter().map(Some));
            }
        }
        for parent in &parents {
            let mut items = Vec::new();
            let listed = match self.entry.ask() {
                None => {
                    items.push(nothing.clone());
                    Ok(())
                }
                Some(ask) => self.list(&ask, self.context(&nothing, parent.as_ref()), None, &mut items).await,
            };
            if let Err(error) = &listed
                && self.entry.absent.iter().any(|known| known == code(error))
            {
                return Err(Stop::Absent(error.to_string()));
            }
            if let (Some(csv), Some(report)) = (&self.entry.csv, items.first()) {
                let content = path::first(report, csv).and_then(Value::as_str).unwrap_or_default();
                items = shape::csv_rows(content).map_err(CallError::Malformed)?;
            }
            let calls: Vec<BoxFuture<'_, _>> =
                items.into_iter().map(|item| self.complete(item, parent.as_ref()).boxed()).collect();
            let completed: Vec<_> = stream::iter(calls).buffered(ITEMS_AT_ONCE).collect().await;
            for (item, problems) in completed {
                gaps.extend(problems);
                if let Some(item) = item {
                    self.show(item, parent.as_ref(), found, gaps);
                }
            }
            listed?;
        }
        Ok(())
    }

    /// Asks for something to be made, until it is.
    async fn prepare(&self, ask: &Ask, context: Context<'_>) -> Result<(), CallError> {
        let until = ask.until.as_deref().unwrap_or_default();
        for pause in 0..12u32 {
            let answer = self.once(ask, context, None, &[]).await?.unwrap_or_default();
            if path::first(&answer, until).and_then(Value::as_str) == ask.is.as_deref() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50 << pause.min(6))).await;
        }
        Err(CallError::Timeout(Duration::from_secs(20)))
    }

    /// Makes the calls for one item and merges their answers; no item when it vanished meanwhile.
    async fn complete(&self, mut item: Value, parent: Option<&Value>) -> (Option<Value>, Vec<String>) {
        let mut gaps = Vec::new();
        let mut unread = BTreeSet::new();
        for ask in &self.entry.sub {
            let matches = ask.when.iter().all(|(at, expected)| path::first(&item, at) == Some(expected));
            if !matches {
                if ask.each.is_none() {
                    merge(&mut item, &ask.into, Value::Null);
                }
                continue;
            }
            let about = fill(&self.entry.node.id, self.context(&item, parent))
                .or_else(|| path::first(&item, "name").and_then(Value::as_str).map(str::to_owned));
            let outer = item.clone();
            let (targets, above) = match &ask.each {
                None => (vec![&mut item], parent),
                Some(each) => (path::values_mut(&mut item, each), Some(&outer)),
            };
            // What this call would have told, as a property of the item.
            let told = match (ask.each.as_deref().and_then(|each| each.split(['.', '[']).next()), ask.into.as_str()) {
                (Some(list), _) => list,
                (None, ".") => "*",
                (None, property) => property,
            };
            for target in targets {
                let known = target.clone();
                match self.detail(ask, self.context(&known, above), about.as_deref()).await {
                    Ok(Some(value)) => merge(target, &ask.into, value),
                    // The item lacks what the call is about, so there is none; unless that was not read itself.
                    Ok(None) if unread.is_empty() => merge(target, &ask.into, Value::Null),
                    Ok(None) => _ = unread.insert(told.to_owned()),
                    Err(error) if ask.absent.iter().any(|known| known == code(&error)) => {
                        merge(target, &ask.into, Value::Null);
                    }
                    Err(error)
                        if ask.optional
                            && matches!(
                                error,
                                CallError::Denied(_) | CallError::NotFound(_) | CallError::Api { .. }
                            ) =>
                    {
                        unread.insert(told.to_owned());
                    }
                    // Gone between the list and this call.
                    Err(CallError::NotFound(_)) if ask.into == "." => return (None, gaps),
                    Err(error) => {
                        unread.insert(told.to_owned());
                        gaps.push(format!("{} of `{}`: {error}", ask.call, about.as_deref().unwrap_or_default()));
                    }
                }
            }
        }
        // Tags are no property.
        unread.remove("tags");
        if !unread.is_empty() {
            merge(&mut item, UNREAD, unread.into_iter().collect());
        }
        (Some(item), gaps)
    }

    async fn detail(&self, ask: &Ask, context: Context<'_>, about: Option<&str>) -> Result<Option<Value>, CallError> {
        let mut value = if ask.items.is_some() {
            let mut all = Vec::new();
            self.list(ask, context, about, &mut all).await?;
            Value::Array(all)
        } else {
            let Some(answer) = self.once(ask, context, about, &[]).await? else { return Ok(None) };
            if ask.take.is_empty() { answer } else { path::first(&answer, &ask.take).cloned().unwrap_or_default() }
        };
        if ask.typed {
            shape::typed_values(&mut value);
        }
        let mut elements = match &mut value {
            Value::Array(items) => items.iter_mut().collect(),
            other => vec![other],
        };
        for at in &ask.drop {
            for element in &mut elements {
                remove(element, at);
            }
        }
        Ok(Some(value))
    }

    /// Turns a complete item into nodes and edges.
    fn show(&self, mut item: Value, parent: Option<&Value>, found: &mut Gathered, gaps: &mut Vec<String>) {
        for (at, rule) in &self.entry.shape {
            shape::apply(&mut item, at, rule);
        }
        // Ids may name what is not stored.
        let whole = item.clone();
        for at in &self.entry.drop {
            remove(&mut item, at);
        }
        self.node(&self.entry.node, item, self.context(&whole, parent), found, gaps);
        for child in &self.entry.children {
            for part in path::values(&whole, &child.items) {
                self.node(&child.node, part.clone(), self.context(part, Some(&whole)), found, gaps);
            }
        }
    }

    fn node(&self, node: &Node, mut item: Value, context: Context<'_>, found: &mut Gathered, gaps: &mut Vec<String>) {
        let region = if self.service.global { "global" } else { self.env.region };
        let id = fill(&node.id, context).and_then(|resource| NodeId::new("aws", region, &node.kind, &resource).ok());
        let Some(id) = id else {
            gaps.push(format!("a {} came without a usable id", node.kind));
            return;
        };
        let tags = shape::tags(&mut item);
        let name = node.name.as_deref().and_then(|name| fill(name, context));
        let name = name
            .or_else(|| tags.get("Name").filter(|name| !name.is_empty()).cloned())
            .unwrap_or_else(|| id.resource().to_owned());
        for edge in &node.edges {
            self.edges(edge, &id, context, &mut found.edges);
        }
        let mut properties = match item {
            Value::Object(properties) => properties,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        if let Some(account) = account_of(id.resource(), &properties, self.env.account).map(str::to_owned) {
            properties.insert(ACCOUNT.to_owned(), account.into());
        }
        if serde_json::to_string(&properties).map_or(usize::MAX, |text| text.len()) > Limits::PROPERTIES_BYTES {
            gaps.push(format!(
                "`{id}` has more than {} bytes of properties: the largest are left out",
                Limits::PROPERTIES_BYTES
            ));
            shrink(&mut properties);
        }
        found.nodes.push(NodeObservation { id, name, properties, tags });
    }

    fn edges(&self, edge: &Edge, id: &NodeId, context: Context<'_>, out: &mut Vec<EdgeObservation>) {
        if edge.when.iter().any(|(at, expected)| path::first(context.item, at) != Some(expected)) {
            return;
        }
        let Ok(edge_type) = edge.kind.parse::<domain::EdgeType>() else { return };
        for resource in expand(&edge.id, context, str::to_owned) {
            if !resource.starts_with(&edge.prefix) || !resource.contains(&edge.has) {
                continue;
            }
            let region = edge.region.as_deref().and_then(|region| fill(region, context));
            let Some(other) = node_id(self.env, edge.other(), &resource, region.as_deref()) else { continue };
            let (source, target) = if edge.to.is_some() { (id.clone(), other) } else { (other, id.clone()) };
            out.push(EdgeObservation {
                source,
                target,
                edge_type: edge_type.clone(),
                discriminator: String::new(),
                properties: Map::new(),
            });
        }
    }
}

/// The id of a node that something refers to: `global` for global types, else the region that is said, the ARN's, or this one.
pub(crate) fn node_id(env: &Env<'_>, node_type: &str, resource: &str, region: Option<&str>) -> Option<NodeId> {
    let arn =
        resource.starts_with("arn:").then(|| resource.split(':').nth(3)).flatten().filter(|region| !region.is_empty());
    let region = if env.table.is_global(node_type) { "global" } else { region.or(arn).unwrap_or(env.region) };
    NodeId::new("aws", region, node_type, resource).ok()
}

fn merge(target: &mut Value, into: &str, value: Value) {
    let Some(object) = target.as_object_mut() else { return };
    match value {
        Value::Object(fields) if into == "." => object.extend(fields),
        _ if into == "." => {}
        value => {
            object.insert(into.to_owned(), value);
        }
    }
}

fn remove(item: &mut Value, at: &str) {
    let (holders, name) = path::holders(item, at);
    for holder in holders {
        holder.remove(name);
    }
}

/// The account that owns a resource: the one that its ARN names, else the one that is read. What belongs to AWS itself (managed
/// policies) has none: it is the same node for every account.
fn account_of<'a>(resource: &'a str, properties: &'a Map<String, Value>, reader: &'a str) -> Option<&'a str> {
    let arn = properties.get("arn").and_then(Value::as_str).unwrap_or_default();
    let named = [resource, arn].into_iter().find(|text| text.starts_with("arn:")).and_then(|arn| arn.split(':').nth(4));
    match named {
        Some("aws") => None,
        Some(account) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => Some(account),
        _ => Some(reader),
    }
}

/// Takes the largest properties out until the rest fits, and lists them as not read.
fn shrink(properties: &mut Map<String, Value>) {
    let mut unread: BTreeSet<String> =
        properties.remove(UNREAD).and_then(|names| serde_json::from_value(names).ok()).unwrap_or_default();
    let mut sizes: Vec<(usize, String)> =
        properties.iter().map(|(key, value)| (value.to_string().len() + key.len() + 4, key.clone())).collect();
    sizes.sort();
    let mut total = UNREAD.len() + 8 + sizes.iter().map(|(size, _)| size).sum::<usize>();
    while total > Limits::PROPERTIES_BYTES
        && let Some((size, key)) = sizes.pop()
    {
        properties.remove(&key);
        // Its name takes its place.
        total = total - size + key.len() + 3;
        unread.insert(key);
    }
    properties.insert(UNREAD.to_owned(), unread.into_iter().collect());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_belongs_to_the_account_of_its_arn_else_to_the_reader() {
        for (resource, arn, expect) in [
            ("arn:aws:iam::111122223333:role/r", "", Some("111122223333")),
            ("arn:aws:iam::aws:policy/AdministratorAccess", "", None),
            ("arn:aws:apigateway:eu-west-1::/restapis/x", "", Some("444455556666")),
            ("o-1", "arn:aws:organizations::111122223333:organization/o-1", Some("111122223333")),
            ("vpc-1", "", Some("444455556666")),
        ] {
            let properties = Map::from_iter([("arn".to_owned(), Value::from(arn))]);
            assert_eq!(account_of(resource, &properties, "444455556666"), expect, "{resource} {arn}");
        }
    }

    #[test]
    fn what_is_too_large_is_left_out_and_listed_as_unread() {
        let rules = json!(vec!["x".repeat(1_000); 300]);
        let Value::Object(mut properties) = json!({ "group_id": "sg-1", "ip_permissions": rules, "unread": ["a"] })
        else {
            panic!("an object")
        };
        shrink(&mut properties);
        assert_eq!(Value::Object(properties), json!({ "group_id": "sg-1", "unread": ["a", "ip_permissions"] }));
    }
}
