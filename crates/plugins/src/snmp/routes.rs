//! Routes of a device: the table of its version that it has (IP-FORWARD-MIB, else RFC 1213's).

use domain::Result;
use serde_json::json;

use super::addresses::{mask_bits, named};
use super::device::{Device, Index, Row, Scope, inet};
use super::interfaces::{Interfaces, plain};

/// inetCidrRouteTable: ifIndex, type, protocol, metric.
const ROUTES: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 24, 7, 1];
/// ipCidrRouteTable: ifIndex, type, protocol, metric.
const ROUTES_CIDR: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 24, 4, 1];
/// ipRouteTable: ifIndex, metric, next hop, type, protocol, mask.
const ROUTES_V4: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 21, 1];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    destination: String,
    bits: u32,
    next_hop: Option<String>,
    interface: Option<u32>,
    kind: Option<&'static str>,
    protocol: Option<&'static str>,
    metric: Option<i64>,
}

/// inetCidrRouteType and its elders.
fn kind(number: Option<i64>) -> Option<&'static str> {
    Some(match number? {
        1 => "other",
        2 => "reject",
        3 => "local",
        4 => "remote",
        5 => "blackhole",
        _ => return None,
    })
}

/// IANAipRouteProtocol.
fn protocol(number: Option<i64>) -> Option<&'static str> {
    Some(match number? {
        1 => "other",
        2 => "local",
        3 => "management",
        4 => "icmp",
        8 => "rip",
        9 => "isis",
        13 => "ospf",
        14 => "bgp",
        16 => "eigrp",
        _ => return None,
    })
}

fn metric(row: &Row, column: u32) -> Option<i64> {
    row.number(column).filter(|metric| *metric >= 0)
}

/// A next hop that is one: not `0.0.0.0` and not `::`.
fn hop(address: String) -> Option<String> {
    let address_only = address.split('%').next().unwrap_or_default();
    let none = address.is_empty() || address_only == "0.0.0.0" || address_only == "::";
    (!none).then_some(address)
}

fn inet_route(index: &[u32], row: &Row) -> Option<Route> {
    let mut index = Index(index);
    let (_, destination) = index.inet()?;
    let bits = index.number().filter(|bits| *bits <= 128)?;
    index.counted()?;
    let (_, next_hop) = index.inet()?;
    Some(Route {
        destination,
        bits,
        next_hop: hop(next_hop),
        interface: row.index(7),
        kind: kind(row.number(8)),
        protocol: protocol(row.number(9)),
        metric: metric(row, 12),
    })
}

fn cidr_route(index: &[u32], row: &Row) -> Option<Route> {
    let mut index = Index(index);
    let destination = inet(1, &index.bytes(4)?)?;
    let bits = mask_bits(index.bytes(4)?.try_into().ok()?)?;
    index.number()?;
    let next_hop = inet(1, &index.bytes(4)?)?;
    Some(Route {
        destination,
        bits,
        next_hop: hop(next_hop),
        interface: row.index(5),
        kind: kind(row.number(6)),
        protocol: protocol(row.number(7)),
        metric: metric(row, 11),
    })
}

fn old_route(index: &[u32], row: &Row) -> Option<Route> {
    let destination = inet(1, &Index(index).bytes(4)?)?;
    // 1: other, 2: invalid, 3: direct, 4: indirect.
    let kind = kind(row.number(8)).filter(|kind| *kind != "reject")?;
    Some(Route {
        destination,
        bits: mask_bits(row.ip(11)?)?,
        next_hop: row.ip(7).and_then(|bytes| inet(1, &bytes)).and_then(hop),
        interface: row.index(2),
        kind: Some(kind),
        protocol: protocol(row.number(9)),
        metric: metric(row, 3),
    })
}

async fn routes(scope: &mut Scope<'_>) -> Vec<Route> {
    type Read = fn(&[u32], &Row) -> Option<Route>;
    let tables: [(&[u32], &[u32], Read); 3] = [
        (ROUTES, &[7, 8, 9, 12], inet_route),
        (ROUTES_CIDR, &[5, 6, 7, 11], cidr_route),
        (ROUTES_V4, &[2, 3, 7, 8, 9, 11], old_route),
    ];
    for (entry, columns, read) in tables {
        let table = scope.table(entry, columns).await;
        let mut found = Vec::new();
        for (index, row) in &table.0 {
            match read(index, row) {
                Some(route) => found.push(route),
                None => scope.problem(),
            }
        }
        if !table.0.is_empty() || !scope.is_whole() {
            return found;
        }
    }
    Vec::new()
}

/// The routes.
pub(super) async fn collect(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("routes")?;
    for route in routes(&mut scope).await {
        let interface = interfaces.node(device, route.interface)?;
        let destination = format!("{}/{}", route.destination, route.bits);
        let name = interface.as_ref().map(|(name, _)| name.clone());
        let next_hop = route.next_hop.map(|hop| named(interfaces, &hop));
        let mut resource = destination.clone();
        for (word, part) in [("via", &next_hop), ("on", &name)] {
            if let Some(part) = part {
                resource = format!("{resource} {word} {part}");
            }
        }
        let properties = json!({
            "destination": destination, "next_hop": next_hop, "interface": name, "kind": route.kind,
            "protocol": route.protocol, "metric": route.metric, "is_default": route.bits == 0,
        });
        let node = scope.node("route", &resource, &destination, properties).await?;
        match interface {
            Some((_, interface)) => scope.edge(&node, &interface, "routes_to", plain()).await?,
            None if !interfaces.is_whole() => scope.problem(),
            None => {}
        }
    }
    scope.done().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_from_their_indexes() {
        let row = Row::default();
        let read = |index: &[u32]| {
            inet_route(index, &row).map(|route| (format!("{}/{}", route.destination, route.bits), route.next_hop))
        };
        let default = [1, 4, 0, 0, 0, 0, 0, 2, 0, 0, 1, 4, 10, 0, 0, 1];
        assert_eq!(read(&default), Some(("0.0.0.0/0".into(), Some("10.0.0.1".into()))));
        let local = [1, 4, 10, 0, 0, 0, 24, 3, 0, 0, 2, 1, 4, 0, 0, 0, 0];
        assert_eq!(read(&local), Some(("10.0.0.0/24".into(), None)));
        let unknown = [1, 4, 10, 0, 0, 0, 24, 0, 0, 0];
        assert_eq!(read(&unknown), Some(("10.0.0.0/24".into(), None)));
        for bad in [&[][..], &[1, 4, 0, 0], &[1, 4, 0, 0, 0, 0, 200, 0, 0, 0], &[1, 4, 0, 0, 0, 0, 0, u32::MAX]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let old = cidr_route(&[10, 0, 0, 0, 255, 255, 0, 0, 0, 10, 0, 0, 9], &row).unwrap();
        assert_eq!((old.destination.as_str(), old.bits, old.next_hop.as_deref()), ("10.0.0.0", 16, Some("10.0.0.9")));
        assert_eq!(cidr_route(&[10, 0, 0, 0, 255, 0, 255, 0, 0, 10, 0, 0, 9], &row), None);
    }
}
