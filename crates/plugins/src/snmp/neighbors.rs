//! Who is at the other end of a cable: LLDP (IEEE 802.1AB) and CDP.

use std::collections::{BTreeMap, BTreeSet};

use domain::Result;
use serde_json::{Map, Value, json};

use super::device::{Device, Index, Row, Scope, inet, label, mac};
use super::interfaces::{Interfaces, plain};
use super::system::{ChassisId, known_as};

/// lldpRemTable: chassis id, port id, port description, system name and description, capabilities.
const REMOTE: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 4, 1, 1];
/// lldpRemManAddrTable: its indexes are the addresses.
const MANAGEMENT: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 4, 2, 1];
/// lldpLocPortTable: port id and description.
const PORTS: &[u32] = &[1, 0, 8802, 1, 1, 2, 1, 3, 7, 1];
/// cdpCacheTable: address, version, device, port, platform, native VLAN.
const CDP: &[u32] = &[1, 3, 6, 1, 4, 1, 9, 9, 23, 1, 2, 1, 1];

/// LldpSystemCapabilitiesMap, from its first bit.
const CAPABILITIES: [&str; 8] =
    ["other", "repeater", "bridge", "access_point", "router", "telephone", "docsis_cable_device", "station"];

/// Most addresses of a neighbour that are shown.
const ADDRESSES: usize = 32;

/// A neighbour's addresses: so many, and how many more it has.
#[derive(Default)]
struct Addresses {
    shown: BTreeSet<String>,
    left_out: usize,
}

impl Addresses {
    fn add(&mut self, address: String) {
        if self.shown.len() < ADDRESSES {
            self.shown.insert(address);
        } else if !self.shown.contains(&address) {
            self.left_out += 1;
        }
    }
}

/// Somebody at the other end.
struct Neighbor {
    interface: String,
    protocol: &'static str,
    chassis: ChassisId,
    port: String,
    properties: Map<String, Value>,
}

fn capabilities(bytes: &[u8]) -> Vec<&'static str> {
    let first = bytes.first().copied().unwrap_or_default();
    (0u8..).zip(CAPABILITIES).filter(|(bit, _)| first & (0x80 >> bit) != 0).map(|(_, name)| name).collect()
}

/// An LldpPortId of this subtype as text.
fn port_id(subtype: Option<i64>, bytes: &[u8]) -> Option<String> {
    match subtype? {
        3 => mac(bytes),
        4 => {
            let (family, address) = bytes.split_first()?;
            inet(u32::from(*family), address)
        }
        _ => label(bytes),
    }
}

/// Of a local LLDP port, the interface: as the port is called, else by its number, which often is the interface's.
fn local(interfaces: &Interfaces, ports: &BTreeMap<u32, &Row>, number: u32) -> String {
    let row = ports.get(&number);
    let called = row.and_then(|row| {
        let id = port_id(row.number(2), row.octets(3)?);
        let found = id.as_deref().and_then(|id| interfaces.called(id));
        found.or_else(|| interfaces.called(&row.text(4)?))
    });
    let found = called.or_else(|| interfaces.name(number));
    found.map_or_else(|| format!("port {number}"), str::to_owned)
}

async fn lldp(scope: &mut Scope<'_>, interfaces: &Interfaces) -> Vec<Neighbor> {
    let remote = scope.table(REMOTE, &[4, 5, 6, 7, 8, 9, 10, 12]).await;
    if remote.0.is_empty() {
        return Vec::new();
    }
    let ports = scope.table(PORTS, &[2, 3, 4]).await;
    let ports: BTreeMap<u32, &Row> =
        ports.0.iter().filter_map(|(index, row)| Some((Index(index).number()?, row))).collect();
    let mut addresses: BTreeMap<Vec<u32>, Addresses> = BTreeMap::new();
    for index in scope.table(MANAGEMENT, &[3]).await.0.keys() {
        let (key, rest) = index.split_at_checked(3).unwrap_or_default();
        match Index(rest).inet() {
            Some((_, address)) if address.is_empty() => {}
            Some((_, address)) => {
                addresses.entry(key.to_vec()).or_default().add(address);
            }
            // Hardware addresses and the like.
            None if key.is_empty() => scope.problem(),
            None => {}
        }
    }
    let mut found = Vec::new();
    for (index, row) in &remote.0 {
        let chassis = row.number(4).zip(row.octets(5)).and_then(|(subtype, bytes)| ChassisId::lldp(subtype, bytes));
        let port = row.octets(7).and_then(|bytes| port_id(row.number(6), bytes));
        // A time, the port, a number.
        let (&[_, number, _], Some(chassis)) = (index.as_slice(), chassis) else {
            scope.problem();
            continue;
        };
        let properties = json!({
            "port_description": row.text(8),
            "system_name": row.text(9),
            "system_description": row.text(10),
            "capabilities": row.octets(12).map(capabilities),
            "addresses": addresses.get(index).map(|known| &known.shown),
            "addresses_left_out": addresses.get(index).map(|known| known.left_out).filter(|count| *count > 0),
        });
        found.push(Neighbor {
            interface: local(interfaces, &ports, number),
            protocol: "lldp",
            chassis,
            port: port.unwrap_or_default(),
            properties: object(properties),
        });
    }
    found
}

async fn cdp(scope: &mut Scope<'_>, interfaces: &Interfaces) -> Vec<Neighbor> {
    let mut found = Vec::new();
    for (index, row) in &scope.table(CDP, &[3, 4, 5, 6, 7, 8, 11]).await.0 {
        let (&[number, _], Some(device)) = (index.as_slice(), row.octets(6).and_then(label)) else {
            scope.problem();
            continue;
        };
        // 1: IPv4, 20: IPv6.
        let address = match (row.number(3), row.octets(4)) {
            (Some(1), Some(bytes)) => inet(1, bytes),
            (Some(20), Some(bytes)) => inet(2, bytes),
            _ => None,
        };
        let properties = json!({
            "system_name": device,
            "system_description": row.text(5),
            "platform": row.text(8),
            "native_vlan": row.number(11).filter(|vlan| (1..4_095).contains(vlan)),
            "addresses": address.map(|address| [address]),
        });
        found.push(Neighbor {
            interface: interfaces.name(number).map_or_else(|| format!("port {number}"), str::to_owned),
            protocol: "cdp",
            chassis: ChassisId { kind: "name", value: device },
            port: row.octets(7).and_then(label).unwrap_or_default(),
            properties: object(properties),
        });
    }
    found
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The neighbours of every interface.
pub(super) async fn collect(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("neighbors")?;
    let mut found = lldp(&mut scope, interfaces).await;
    found.extend(cdp(&mut scope, interfaces).await);
    for neighbor in found {
        let Neighbor { interface, protocol, chassis, port, mut properties } = neighbor;
        let name = properties.get("system_name").and_then(Value::as_str).unwrap_or(&chassis.value).to_owned();
        let resource = format!("{interface}/{protocol}/{}/{port}", chassis.value);
        properties.extend(object(json!({
            "protocol": protocol, "interface": interface, "chassis_id": chassis.value, "chassis_id_kind": chassis.kind, "port_id": port,
        })));
        let node = scope.node("neighbor", &resource, &name, Value::Object(properties)).await?;
        if interfaces.called(&interface).is_some_and(|name| name == interface) {
            scope.edge(&node, &device.interface(&interface)?, "attached_to", plain()).await?;
        } else if !interfaces.is_whole() {
            scope.problem();
        }
        known_as(&mut scope, device, &node, protocol, &chassis).await?;
    }
    scope.done().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_ports_are_read_as_lldp_numbers_them() {
        assert_eq!(capabilities(&[0x28, 0]), ["bridge", "router"]);
        assert_eq!(capabilities(&[]), [""; 0]);
        assert_eq!(port_id(Some(3), &[0, 0x1b, 0x21, 0, 0, 1]).as_deref(), Some("00:1b:21:00:00:01"));
        assert_eq!(port_id(Some(4), &[1, 10, 0, 0, 1]).as_deref(), Some("10.0.0.1"));
        assert_eq!(port_id(Some(5), b"Gi0/1").as_deref(), Some("Gi0/1"));
        assert_eq!((port_id(None, b"x"), port_id(Some(3), b"x"), port_id(Some(4), b"")), (None, None, None));
    }
}
