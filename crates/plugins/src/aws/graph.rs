//! Edges that no single item tells: what a key's alias stands for, and which route table a subnet really uses.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Coverage, EdgeObservation, EdgeType, NodeId, Properties};
use serde_json::{Value, json};

use super::collect::{Env, Gathered, node_id};

/// A route's target: property, prefix of its value, node type.
const TARGETS: &[(&str, &str, &str)] = &[
    ("gateway_id", "igw-", "aws.ec2.internet_gateway"),
    ("gateway_id", "vgw-", "aws.ec2.vpn_gateway"),
    ("gateway_id", "vpce-", "aws.ec2.vpc_endpoint"),
    ("nat_gateway_id", "nat-", "aws.ec2.nat_gateway"),
    ("egress_only_internet_gateway_id", "eigw-", "aws.ec2.egress_only_internet_gateway"),
    ("transit_gateway_id", "tgw-", "aws.ec2.transit_gateway"),
    ("vpc_peering_connection_id", "pcx-", "aws.ec2.vpc_peering_connection"),
    // After the instance's interface, so that a route by instance reaches the instance.
    ("instance_id", "i-", "aws.ec2.instance"),
    ("network_interface_id", "eni-", "aws.ec2.network_interface"),
];

/// Completes a task's scopes, and puts everything in one order.
pub(crate) fn finish(env: &Env<'_>, scopes: &mut [Gathered]) {
    keys(env, scopes);
    routes(env, scopes);
    for scope in scopes {
        scope.nodes.sort_by(|a, b| a.id.cmp(&b.id));
        scope.nodes.dedup_by(|a, b| a.id == b.id);
        let key = |edge: &EdgeObservation| {
            (edge.source.clone(), edge.edge_type.clone(), edge.target.clone(), edge.discriminator.clone())
        };
        scope.edges.sort_by_cached_key(key);
        scope.edges.dedup_by(|a, b| key(a) == key(b));
    }
}

/// References to keys come as id, ARN, alias or the alias's ARN: all become the key's ARN, an unknown alias the alias's node.
fn keys(env: &Env<'_>, scopes: &mut [Gathered]) {
    let aliases: BTreeMap<String, String> = scopes
        .iter()
        .flat_map(|scope| &scope.nodes)
        .filter(|node| node.id.node_type() == "aws.kms.alias")
        .filter_map(|node| {
            let target = node.properties.get("target_key_id")?.as_str()?;
            Some((node.id.resource().to_owned(), target.to_owned()))
        })
        .collect();
    let partition = transport::aws::endpoint::partition(env.region).id;
    for edge in scopes.iter_mut().flat_map(|scope| &mut scope.edges) {
        if edge.target.node_type() != "aws.kms.key" {
            continue;
        }
        let region = edge.target.region().to_owned();
        let arn = |what: &str| format!("arn:{partition}:kms:{region}:{}:{what}", env.account);
        let reference = edge.target.resource();
        let reference = match reference {
            full if full.starts_with("arn:") => full.to_owned(),
            alias if alias.starts_with("alias/") => arn(alias),
            id => arn(&format!("key/{id}")),
        };
        let (node_type, resource) = if reference.contains(":alias/") {
            match aliases.get(&reference) {
                Some(key) if key.starts_with("arn:") => ("aws.kms.key", key.clone()),
                Some(key) => ("aws.kms.key", arn(&format!("key/{key}"))),
                None => ("aws.kms.alias", reference),
            }
        } else {
            ("aws.kms.key", reference)
        };
        if let Some(id) = node_id(env, node_type, &resource, Some(&region)) {
            edge.target = id;
        }
    }
}

fn edge(
    source: &NodeId,
    edge_type: &str,
    target: NodeId,
    discriminator: &str,
    properties: Value,
) -> Option<EdgeObservation> {
    let Value::Object(properties) = properties else { return None };
    Some(EdgeObservation {
        source: source.clone(),
        target,
        edge_type: edge_type.parse::<EdgeType>().ok()?,
        discriminator: discriminator.to_owned(),
        properties,
    })
}

fn list<'a>(properties: &'a Properties, name: &str) -> impl Iterator<Item = &'a Value> {
    properties.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// `routes_to` for every route, and `associated_with` from every subnet to its route table: the main one where it has no own.
fn routes(env: &Env<'_>, scopes: &mut [Gathered]) {
    let subnets = scopes.iter().find(|scope| scope.name == "ec2.subnets");
    let subnets_known = subnets.is_some_and(|scope| scope.coverage.may_close());
    let subnets: Vec<(NodeId, Option<String>)> = subnets
        .into_iter()
        .flat_map(|scope| &scope.nodes)
        .map(|node| (node.id.clone(), node.properties.get("vpc_id").and_then(Value::as_str).map(str::to_owned)))
        .collect();
    let Some(tables) = scopes.iter_mut().find(|scope| scope.name == "ec2.route_tables") else { return };
    let mut edges = Vec::new();
    let mut main: BTreeMap<String, (NodeId, Value)> = BTreeMap::new();
    let mut explicit: BTreeSet<NodeId> = BTreeSet::new();
    for table in &tables.nodes {
        for route in list(&table.properties, "routes") {
            edges.extend(route_edge(env, &table.id, route));
        }
        for association in list(&table.properties, "associations") {
            let text = |name: &str| association.get(name).and_then(Value::as_str);
            let id = association.get("route_table_association_id").cloned().unwrap_or_default();
            if let Some(subnet) = text("subnet_id").and_then(|id| node_id(env, "aws.ec2.subnet", id, None)) {
                edges.extend(edge(
                    &subnet,
                    "associated_with",
                    table.id.clone(),
                    "",
                    json!({"association_id": id, "main": false}),
                ));
                explicit.insert(subnet);
            } else if association.get("main") == Some(&Value::Bool(true))
                && let Some(vpc) = table.properties.get("vpc_id").and_then(Value::as_str)
            {
                main.insert(vpc.to_owned(), (table.id.clone(), id));
            }
        }
    }
    for (subnet, vpc) in subnets.iter().filter(|(subnet, _)| !explicit.contains(subnet)) {
        if let Some((table, association)) = vpc.as_ref().and_then(|vpc| main.get(vpc)) {
            edges.extend(edge(
                subnet,
                "associated_with",
                table.clone(),
                "",
                json!({"association_id": association, "main": true}),
            ));
        }
    }
    tables.edges.extend(edges);
    if !subnets_known && tables.coverage == Coverage::Complete && !tables.nodes.is_empty() {
        let reason = "the subnets were not read: which of them use the main route table is not known".to_owned();
        tables.coverage = Coverage::Partial { reason };
    }
}

fn route_edge(env: &Env<'_>, table: &NodeId, route: &Value) -> Option<EdgeObservation> {
    let text = |name: &str| route.get(name).and_then(Value::as_str);
    let (node_type, resource) = TARGETS.iter().find_map(|(property, prefix, node_type)| {
        text(property).filter(|value| value.starts_with(prefix)).map(|value| (*node_type, value))
    })?;
    let destinations = ["destination_cidr_block", "destination_ipv6_cidr_block", "destination_prefix_list_id"];
    let destination = destinations.iter().find_map(|name| text(name))?;
    let state = text("state").unwrap_or("active");
    let properties = json!({
        "destination_cidr": destination,
        "target_type": node_type,
        "state": state,
        "propagated": text("origin") == Some("EnableVgwRoutePropagation"),
        "blackhole": state == "blackhole",
    });
    edge(table, "routes_to", node_id(env, node_type, resource, None)?, destination, properties)
}
