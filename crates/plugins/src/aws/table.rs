//! The table of calls: what to ask of each service and what the answers are. The data is in `tables/*.yaml`; a new resource type is an
//! entry there (checked against the service models by `crates/testkit/peers/aws_model.py`, which also writes `xml.yaml`).
//!
//! Paths (`a.b[].c`) are in the names of `docs/schema/aws.md`; templates are text with `{path|filter}` (see `path.rs`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

/// How a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// Form in, XML out.
    Query,
    /// As query, with lists as `item`.
    Ec2,
    /// `X-Amz-Target` and a JSON body.
    Json,
    /// Paths in, JSON out.
    RestJson,
    /// Paths in, XML out.
    RestXml,
}

/// A service and its entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// Name for signing, and host prefix unless `host` says otherwise.
    #[serde(rename = "service")]
    signing: String,
    /// Name in scopes, types and settings, where it differs.
    name: Option<String>,
    /// Template of the host prefix.
    pub(crate) host: Option<String>,
    pub(crate) protocol: Protocol,
    /// API version (query, ec2).
    #[serde(default)]
    pub(crate) version: String,
    /// Prefix of `X-Amz-Target` (json).
    #[serde(default)]
    pub(crate) target: String,
    /// Version of the JSON protocol.
    #[serde(default = "json_version")]
    pub(crate) json: String,
    /// One endpoint per partition: asked in the task `global` only.
    #[serde(default)]
    pub(crate) global: bool,
    /// Whether evidence needs the replies' bytes.
    #[serde(default)]
    pub(crate) keep: bool,
    /// Request parameter <- path in the reply, for calls that list.
    #[serde(default)]
    pub(crate) page: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) entries: Vec<Entry>,
}

fn json_version() -> String {
    "1.1".to_owned()
}

impl Service {
    pub(crate) fn signing(&self) -> &str {
        &self.signing
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.signing)
    }
}

/// One call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    pub(crate) call: String,
    /// Another service than the entry's, by name.
    pub(crate) service: Option<String>,
    /// Method and path (rest protocols), a template.
    pub(crate) http: Option<String>,
    /// Parameters; texts in it are templates.
    #[serde(default)]
    pub(crate) params: Map<String, Value>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Template of the region to ask in.
    pub(crate) region: Option<String>,
    pub(crate) page: Option<BTreeMap<String, String>>,
    /// Where the reply's list is: then all pages are read.
    pub(crate) items: Option<String>,
    /// The list holds texts: each becomes an object with this one property.
    #[serde(rename = "as")]
    pub(crate) item_name: Option<String>,
    /// Error codes that mean that there is none.
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    pub(crate) keep: Option<bool>,

    // Of calls for one item (`sub`):
    /// For each of these parts of the item, and into it.
    pub(crate) each: Option<String>,
    /// Only where these properties have these values.
    #[serde(default)]
    pub(crate) when: BTreeMap<String, Value>,
    /// What of the reply.
    #[serde(default)]
    pub(crate) take: String,
    /// The property that it becomes; `.` merges it into the item.
    #[serde(default)]
    pub(crate) into: String,
    /// The body is the value, as text.
    #[serde(default)]
    pub(crate) raw: bool,
    /// Its values are numbers and booleans written as text.
    #[serde(default)]
    pub(crate) typed: bool,
    #[serde(default)]
    pub(crate) drop: Vec<String>,
    /// A refusal leaves the property out, and the scope is complete without it.
    #[serde(default)]
    pub(crate) optional: bool,

    // Of calls that start something (`before`):
    /// Ask again until this path
    pub(crate) until: Option<String>,
    /// is this.
    pub(crate) is: Option<String>,
}

/// A resource type and how to list it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) node: Node,
    #[serde(default)]
    pub(crate) scope: String,
    pub(crate) before: Option<Ask>,
    /// List these first; they are `parent` in the entry's templates.
    pub(crate) each: Option<Ask>,
    /// Without a call there is one item, filled by `sub`.
    pub(crate) call: Option<String>,
    pub(crate) http: Option<String>,
    #[serde(default)]
    pub(crate) params: Map<String, Value>,
    pub(crate) page: Option<BTreeMap<String, String>>,
    pub(crate) items: Option<String>,
    #[serde(rename = "as")]
    pub(crate) item_name: Option<String>,
    /// The items are the rows of this base64 CSV.
    pub(crate) csv: Option<String>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    pub(crate) keep: Option<bool>,
    #[serde(default)]
    pub(crate) sub: Vec<Ask>,
    #[serde(default)]
    pub(crate) drop: Vec<String>,
    /// Path -> `policy`, `json`, `kv`, `names`, `origin` or `drop`.
    #[serde(default)]
    pub(crate) shape: BTreeMap<String, String>,
    /// Nodes that are parts of the item.
    #[serde(default)]
    pub(crate) children: Vec<Child>,
}

/// What an item is in the graph.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Template of the resource id: unique among the accounts of a tenant, so an ARN or with `{account}` where AWS gives a name only.
    /// Who refers to the node by its name builds the same id.
    pub(crate) id: String,
    /// Template of the name; the tag `Name` or the id without it.
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) edges: Vec<Edge>,
}

/// A node that is a part of an item.
#[derive(Debug, Deserialize)]
pub(crate) struct Child {
    #[serde(flatten)]
    pub(crate) node: Node,
    pub(crate) items: String,
}

/// An edge of an item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edge {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// It goes from the item to a node of this type,
    pub(crate) to: Option<String>,
    /// or comes in from one.
    #[serde(rename = "in")]
    pub(crate) from: Option<String>,
    /// Template of the other node's resource id, of all of them when it reads a list.
    pub(crate) id: String,
    /// Template of its region, where neither its type nor its ARN tells.
    pub(crate) region: Option<String>,
    #[serde(default)]
    pub(crate) when: BTreeMap<String, Value>,
    /// Only ids that begin with this.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Only ids that hold this.
    #[serde(default)]
    pub(crate) has: String,
}

impl Edge {
    pub(crate) fn other(&self) -> &str {
        self.to.as_deref().or(self.from.as_deref()).unwrap_or_default()
    }
}

impl Entry {
    /// The entry's own call.
    pub(crate) fn ask(&self) -> Option<Ask> {
        Some(Ask {
            call: self.call.clone()?,
            http: self.http.clone(),
            params: self.params.clone(),
            page: self.page.clone(),
            items: self.items.clone(),
            item_name: self.item_name.clone(),
            absent: self.absent.clone(),
            keep: self.keep,
            ..Ask::default()
        })
    }
}

/// What an XML reply does not say about itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct XmlFacts {
    pub(crate) lists: BTreeSet<String>,
    pub(crate) flat: BTreeSet<String>,
    pub(crate) numbers: BTreeSet<String>,
    pub(crate) names: BTreeMap<String, String>,
}

/// Everything that the plugin knows.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) services: Vec<Service>,
    xml: BTreeMap<String, BTreeMap<String, XmlFacts>>,
    global_types: BTreeSet<String>,
}

const FILES: &[&str] = &[
    include_str!("tables/sts.yaml"),
    include_str!("tables/ec2.yaml"),
    include_str!("tables/iam.yaml"),
    include_str!("tables/s3.yaml"),
    include_str!("tables/kms.yaml"),
    include_str!("tables/logging.yaml"),
    include_str!("tables/data.yaml"),
    include_str!("tables/compute.yaml"),
    include_str!("tables/edge.yaml"),
    include_str!("tables/support.yaml"),
];

impl Table {
    /// Reads the built-in data.
    pub(crate) fn load() -> Result<Self, String> {
        let mut services = Vec::new();
        for file in FILES {
            services.extend(serde_saphyr::from_str::<Vec<Service>>(file).map_err(|error| error.to_string())?);
        }
        let xml = serde_saphyr::from_str(include_str!("tables/xml.yaml")).map_err(|error| error.to_string())?;
        let global_types = services
            .iter()
            .filter(|service| service.global)
            .flat_map(|service| &service.entries)
            .flat_map(Entry::node_types)
            .map(str::to_owned)
            .collect();
        Ok(Self { services, xml, global_types })
    }

    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name() == name)
    }

    /// Whether nodes of this type have no region.
    pub(crate) fn is_global(&self, node_type: &str) -> bool {
        self.global_types.contains(node_type)
    }

    pub(crate) fn facts(&self, service: &str, call: &str) -> Option<&XmlFacts> {
        self.xml.get(service)?.get(call)
    }

    /// Every node type, sorted.
    pub(crate) fn node_types(&self) -> BTreeSet<&str> {
        self.services.iter().flat_map(|service| &service.entries).flat_map(Entry::node_types).collect()
    }
}

impl Entry {
    fn node_types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.node).chain(self.children.iter().map(|child| &child.node)).map(|node| node.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn every_node(table: &Table) -> Vec<(&Service, &Entry, &Node)> {
        let entries =
            table.services.iter().flat_map(|service| service.entries.iter().map(move |entry| (service, entry)));
        entries
            .flat_map(|(service, entry)| {
                std::iter::once(&entry.node)
                    .chain(entry.children.iter().map(|child| &child.node))
                    .map(move |node| (service, entry, node))
            })
            .collect()
    }

    #[test]
    fn the_table_is_consistent_in_itself() {
        let table = Table::load().unwrap();
        let types = table.node_types();
        assert!(types.len() >= 60, "{}", types.len());
        let mut scopes = BTreeSet::new();
        for service in &table.services {
            for entry in &service.entries {
                let scope = format!("{}.{}", service.name(), entry.scope);
                assert!(scopes.insert(scope.clone()), "{scope} is there twice");
                assert!(!entry.scope.is_empty() && !entry.node.id.is_empty(), "{scope}");
                for ask in entry.sub.iter().chain(&entry.each).chain(&entry.before).chain(entry.ask().iter()) {
                    let used = ask.service.as_deref().map_or(Some(service), |name| table.service(name));
                    let used = used.unwrap_or_else(|| panic!("{scope}: no service for {}", ask.call));
                    let rest = matches!(used.protocol, Protocol::RestJson | Protocol::RestXml);
                    assert_eq!(rest, ask.http.is_some(), "{scope}: {}", ask.call);
                }
                for sub in &entry.sub {
                    assert!(!sub.into.is_empty(), "{scope}: {} goes nowhere", sub.call);
                }
                for rule in entry.shape.values() {
                    assert!(
                        ["policy", "json", "kv", "names", "origin", "drop"].contains(&rule.as_str()),
                        "{scope}: no shape `{rule}`"
                    );
                }
            }
        }
        let mut owners: BTreeMap<&str, BTreeSet<bool>> = BTreeMap::new();
        for (service, entry, node) in every_node(&table) {
            node.kind.parse::<domain::NodeType>().unwrap();
            assert!(node.kind.starts_with("aws."), "{}", node.kind);
            owners.entry(&node.kind).or_default().insert(service.global);
            for edge in &node.edges {
                edge.kind.parse::<domain::EdgeType>().unwrap();
                assert!(edge.to.is_some() != edge.from.is_some(), "{}: an edge has `to` or `in`", entry.scope);
                assert!(types.contains(edge.other()), "{}: nothing shows {}", entry.scope, edge.other());
            }
            let templates = node.edges.iter().map(|edge| &edge.id).chain([&node.id]).chain(&node.name);
            for template in templates {
                assert_eq!(template.matches('{').count(), template.matches('}').count(), "{template}");
                for filter in template
                    .split('{')
                    .skip(1)
                    .filter_map(|part| part.split('}').next())
                    .flat_map(|part| part.split('|').skip(1))
                {
                    let name = filter.split(':').next().unwrap();
                    assert!(
                        ["tail", "slash", "colon", "without", "bucket", "origin", "or"].contains(&name),
                        "no filter `{filter}`"
                    );
                }
            }
        }
        assert!(owners.values().all(|places| places.len() == 1), "a type is global or it is not");
    }

    /// Types whose native id is never given twice, in whatever account: random ids, names in one namespace, ARNs that are not called so.
    const UNIQUE: &[&str] = &[
        "aws.apigateway.rest_api",
        "aws.apigateway.stage",
        "aws.cloudformation.stack",
        "aws.cloudfront.distribution",
        "aws.ec2.address",
        "aws.ec2.customer_gateway",
        "aws.ec2.dhcp_options",
        "aws.ec2.egress_only_internet_gateway",
        "aws.ec2.flow_log",
        "aws.ec2.image",
        "aws.ec2.instance",
        "aws.ec2.internet_gateway",
        "aws.ec2.launch_template",
        "aws.ec2.nat_gateway",
        "aws.ec2.network_acl",
        "aws.ec2.network_interface",
        "aws.ec2.route_table",
        "aws.ec2.security_group",
        "aws.ec2.snapshot",
        "aws.ec2.subnet",
        "aws.ec2.transit_gateway",
        "aws.ec2.transit_gateway_attachment",
        "aws.ec2.volume",
        "aws.ec2.vpc",
        "aws.ec2.vpc_endpoint",
        "aws.ec2.vpc_peering_connection",
        "aws.ec2.vpn_connection",
        "aws.ec2.vpn_gateway",
        "aws.efs.file_system",
        "aws.iam.access_key",
        "aws.iam.virtual_mfa_device",
        "aws.organizations.organization",
        "aws.route53.hosted_zone",
        "aws.route53.record_set",
        "aws.s3.bucket",
        "aws.ssm.managed_instance",
    ];

    /// Whether what the template makes names an account: by itself, or as a whole ARN.
    fn owned(template: &str) -> bool {
        let whole_arn = |expression: &str| {
            let (path, filters) = expression.split_once('|').unwrap_or((expression, "without:"));
            let path = path.trim_end_matches("[]");
            (path.ends_with("arn") || path.ends_with("arns"))
                && filters.starts_with("without:")
                && !filters.contains('|')
        };
        let mut expressions = template.split('{').skip(1).filter_map(|part| part.split('}').next());
        expressions.any(|expression| expression == "account" || whole_arn(expression))
    }

    /// The template with `{}` for what it reads of the item.
    fn skeleton(template: &str) -> String {
        let kept = ["partition", "region", "account"];
        let parts = template.split('{').enumerate().map(|(at, part)| match part.split_once('}') {
            Some((expression, rest)) if at > 0 && !kept.contains(&expression) => format!("{{}}{rest}"),
            _ if at > 0 => format!("{{{part}"),
            _ => part.to_owned(),
        });
        parts.collect()
    }

    #[test]
    fn no_two_accounts_share_a_node_because_they_share_a_name() {
        for (template, expect) in [
            ("{account}/{name}", true),
            ("{parent.arn}/{policy_name}", true),
            ("{log_group_arn|without::*}", true),
            ("{target_group_arns[]}", true),
            ("{arn|tail}", false),
            ("{log_group_arn|without::*|colon:6}", false),
            ("{name}", false),
        ] {
            assert_eq!(owned(template), expect, "{template}");
        }
        let table = Table::load().unwrap();
        let nodes = every_node(&table);
        let named: BTreeSet<&str> =
            nodes.iter().filter(|(_, _, node)| !owned(&node.id)).map(|(_, _, node)| node.kind.as_str()).collect();
        assert_eq!(named, UNIQUE.iter().copied().collect(), "ids without an account, and the list of those");
        for (_, entry, node) in &nodes {
            for edge in node.edges.iter().filter(|edge| !UNIQUE.contains(&edge.other())) {
                // `graph::keys` completes what stands for a key; an account's id is itself.
                if ["aws.kms.key", "aws.account"].contains(&edge.other()) {
                    continue;
                }
                let whole = owned(&edge.id) || edge.prefix == "arn:";
                assert!(whole, "{}: `{}` may be a {} of several accounts", entry.scope, edge.id, edge.other());
                for (_, _, other) in nodes.iter().filter(|(_, _, other)| other.kind == edge.other()) {
                    if edge.id.contains("{account}") && other.id.contains("{account}") {
                        assert_eq!(skeleton(&edge.id), skeleton(&other.id), "{}: an edge to nothing", entry.scope);
                    }
                }
            }
        }
    }

    #[test]
    fn the_list_of_types_is_documented() {
        let table = Table::load().unwrap();
        let mut rows: Vec<(String, String)> = Vec::new();
        for (service, entry, node) in every_node(&table) {
            let mut text =
                format!("### {}\n\nscope `{}.{}`, resource `{}`", node.kind, service.name(), entry.scope, node.id);
            text.push_str(if service.global { ", region `global`\n" } else { "\n" });
            let own = entry.node.kind == node.kind;
            // A child is an element of a list of the item: what is added to the elements is added to the child.
            let list = entry.children.iter().find(|child| child.node.kind == node.kind).map(|child| &child.items);
            let added: Vec<String> = entry
                .sub
                .iter()
                .filter(|sub| !matches!(sub.into.as_str(), "." | "tags"))
                .filter(|sub| own || (list.is_some() && sub.each.as_ref() == list))
                .map(|sub| {
                    let each = sub.each.as_ref().filter(|_| own).map(|each| format!("{each}.")).unwrap_or_default();
                    format!("`{each}{}` ({})", sub.into, sub.call)
                })
                .collect();
            if !added.is_empty() {
                let _ = writeln!(text, "\nadded properties: {}", added.join(", "));
            }
            if own && !entry.drop.is_empty() {
                let _ = writeln!(
                    text,
                    "\nleft out: {}",
                    entry.drop.iter().map(|at| format!("`{at}`")).collect::<Vec<_>>().join(", ")
                );
            }
            let edges: BTreeSet<String> = node
                .edges
                .iter()
                .map(|edge| match &edge.to {
                    Some(to) => format!("`{} -> {to}`", edge.kind),
                    None => format!("`{} -> {}`", edge.other(), edge.kind),
                })
                .collect();
            if !edges.is_empty() {
                let _ = writeln!(text, "\nedges: {}", edges.into_iter().collect::<Vec<_>>().join(", "));
            }
            rows.push((format!("{} {}", node.kind, entry.scope), text));
        }
        rows.sort();
        let head = format!(
            "# AWS node types\n\nGenerated from the plugin's table: {} types. Names and values: `aws.md`; all properties: `aws-properties.md`.\n\n",
            table.node_types().len()
        );
        let body: Vec<String> = rows.into_iter().map(|(_, text)| text).collect();
        testkit::golden::check("../../docs/schema/aws-types.md", &(head + &body.join("\n")));
    }
}
