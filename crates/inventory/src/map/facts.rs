//! In which account and network a node is, as far as the node itself says.

use std::net::IpAddr;

use domain::NodeId;
use serde::Deserialize;

/// What of a node's properties tells where it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The account.
    pub account: Option<String>,
    /// The network.
    pub network: Option<String>,
}

#[derive(Deserialize)]
struct Stated {
    account_id: Option<String>,
    vpc_id: Option<String>,
    vpc_config: Option<Within>,
    resources_vpc_config: Option<Within>,
    db_subnet_group: Option<Within>,
    vpc_options: Option<Within>,
}

#[derive(Deserialize)]
struct Within {
    vpc_id: Option<String>,
}

impl Facts {
    /// Those of properties (JSON). What does not have the expected shape says nothing.
    pub fn of(properties: &str) -> Self {
        let Ok(stated) = serde_json::from_str::<Stated>(properties) else { return Self::default() };
        let within = [stated.vpc_config, stated.resources_vpc_config, stated.db_subnet_group, stated.vpc_options];
        let network = stated.vpc_id.or_else(|| within.into_iter().flatten().find_map(|within| within.vpc_id));
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self { account: filled(stated.account_id), network: filled(network) }
    }
}

/// The account that an ARN names.
fn arn_account(resource: &str) -> Option<&str> {
    resource.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(3)).filter(|account| !account.is_empty())
}

/// The network that an address is in, as far as an address tells: its /24, or the /64 of an IPv6 address.
fn subnet(resource: &str) -> Option<String> {
    let end = resource.find(['/', ' ']).unwrap_or(resource.len());
    let text = resource.get(..end)?;
    let address =
        text.parse::<IpAddr>().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|at| at.ip()))?;
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some(format!("{a}.{b}.{c}.0/24"))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
        }
    }
}

/// The account and the network of a node. Where it says no account it is in `provider:region`; where it says no network, in none (empty).
pub fn place(id: &NodeId, facts: &Facts) -> (String, String) {
    let (provider, kind, resource) = (id.provider(), id.node_type(), id.resource());
    let account = match &facts.account {
        Some(account) => account.clone(),
        None if kind == "aws.account" => resource.to_owned(),
        None => arn_account(resource).map_or_else(|| format!("{provider}:{}", id.region()), str::to_owned),
    };
    let network = match (&facts.network, provider) {
        (Some(network), _) => network.clone(),
        (None, _) if kind.rsplit_once('.').is_some_and(|(_, last)| last == "vpc") => resource.to_owned(),
        // Everything of a machine or a device is under its id.
        (None, "host" | "snmp") => resource.split('/').next().unwrap_or_default().to_owned(),
        (None, "network") => subnet(resource).unwrap_or_default(),
        _ => String::new(),
    };
    (account, network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, properties: &str, account: &str, network: &str) {
        let id: NodeId = id.parse().unwrap();
        assert_eq!(place(&id, &Facts::of(properties)), (account.to_owned(), network.to_owned()), "{id}");
    }

    #[test]
    fn a_node_is_where_it_says_or_where_its_id_says() {
        let instance = "aws:eu-central-1:aws.ec2.instance:i-1";
        check(instance, r#"{"account_id":"111122223333","vpc_id":"vpc-1"}"#, "111122223333", "vpc-1");
        check(instance, "{}", "aws:eu-central-1", "");
        check("aws:eu-central-1:aws.ec2.vpc:vpc-9", r#"{"account_id":"1"}"#, "1", "vpc-9");
        check("aws:global:aws.account:42", "{}", "42", "");
        check("aws:global:aws.iam.role:arn:aws:iam::42:role/x", "{}", "42", "");
        check("aws:r:aws.lambda.function:f", r#"{"account_id":"1","vpc_config":{"vpc_id":"vpc-2"}}"#, "1", "vpc-2");
        check("host:lab:host.package:abc/deb/bash", "{}", "host:lab", "abc");
        check("host:lab:host.machine:abc", "{}", "host:lab", "abc");
        check("network:hq:network.service:10.1.2.3:22/tcp", "{}", "network:hq", "10.1.2.0/24");
        check("network:hq:network.address:10.1.2.3", "{}", "network:hq", "10.1.2.0/24");
        check("network:hq:network.service:[2001:db8::7]:22/tcp", "{}", "network:hq", "2001:db8::/64");
    }

    #[test]
    fn facts_of_another_shape_say_nothing() {
        for odd in ["", "[]", "{", r#"{"account_id":7}"#, r#"{"vpc_config":[]}"#, r#"{"vpc_config":null,"vpc_id":""}"#]
        {
            assert_eq!(Facts::of(odd), Facts::default(), "{odd}");
        }
    }
}
