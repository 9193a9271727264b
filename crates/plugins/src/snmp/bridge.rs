//! VLANs and who is behind which port (BRIDGE-MIB, Q-BRIDGE-MIB).

use std::collections::{BTreeMap, BTreeSet};

use domain::{Properties, Result};
use serde_json::{Value, json};

use super::device::{Device, Index, mac};
use super::interfaces::{Interfaces, plain};

/// dot1qVlanStaticTable: name, ports, untagged ports.
const STATIC: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 4, 3, 1];
/// dot1qVlanCurrentTable: filtering database, ports, untagged ports, status.
const CURRENT: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 4, 2, 1];
/// dot1qPortVlanTable: the VLAN of what comes untagged.
const NATIVE: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 4, 5, 1];
/// dot1qTpFdbTable: port, status.
const LEARNED: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1];
/// dot1dTpFdbTable, of bridges without VLANs: port, status.
const LEARNED_OLD: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 4, 3, 1];

/// A PortList (RFC 4363): the first bit is port 1.
fn ports(list: &[u8]) -> BTreeSet<u32> {
    let bits = list.iter().enumerate().flat_map(|(at, byte)| (0..8).map(move |bit| (at, bit, byte)));
    bits.filter(|(_, bit, byte)| *byte & (0x80 >> bit) != 0)
        .filter_map(|(at, bit, _)| u32::try_from(at * 8 + bit + 1).ok())
        .collect()
}

#[derive(Debug, Default)]
struct Vlan {
    name: Option<String>,
    is_static: bool,
    ports: BTreeSet<u32>,
    untagged: BTreeSet<u32>,
}

/// The VLANs and which interfaces are in them.
pub(super) async fn vlans(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("vlans")?;
    let mut found: BTreeMap<u32, Vlan> = BTreeMap::new();
    for (index, row) in &scope.table(STATIC, &[1, 2, 4]).await.0 {
        let &[number] = index.as_slice() else {
            scope.problem();
            continue;
        };
        let list = |column| row.octets(column).map(ports).unwrap_or_default();
        found.insert(number, Vlan { name: row.text(1), is_static: true, ports: list(2), untagged: list(4) });
    }
    for (index, row) in &scope.table(CURRENT, &[4, 5]).await.0 {
        // A time and the VLAN.
        let &[_, number] = index.as_slice() else {
            scope.problem();
            continue;
        };
        let vlan = found.entry(number).or_default();
        let list = |column| row.octets(column).map(ports).unwrap_or_default();
        vlan.ports.extend(list(4));
        vlan.untagged.extend(list(5));
    }
    if found.is_empty() {
        return scope.done().await;
    }
    let mut native: BTreeMap<u32, u32> = BTreeMap::new();
    for (index, row) in &scope.table(NATIVE, &[1]).await.0 {
        native.extend(Index(index).number().zip(row.index(1)));
    }
    let bridge = interfaces.ports(&mut scope).await;
    for (number, vlan) in found {
        let name = vlan.name.clone().unwrap_or_else(|| format!("VLAN {number}"));
        let properties = json!({ "vlan_id": number, "name": vlan.name, "is_static": vlan.is_static });
        let node = scope.node("vlan", &number.to_string(), &name, properties).await?;
        for port in &vlan.ports {
            let Some((_, interface)) = interfaces.node(device, bridge.get(port).copied())? else {
                // A bit of the list for a port that there is not says nothing, unless ports were not read.
                if !interfaces.is_whole() {
                    scope.problem();
                }
                continue;
            };
            let mut properties = Properties::new();
            properties.insert("tagged".to_owned(), Value::Bool(!vlan.untagged.contains(port)));
            properties.insert("native".to_owned(), Value::Bool(native.get(port) == Some(&number)));
            scope.edge(&interface, &node, "member_of", properties).await?;
        }
    }
    scope.done().await
}

/// dot1qTpFdbStatus.
fn status(number: Option<i64>) -> Option<&'static str> {
    Some(match number? {
        1 => "other",
        3 => "learned",
        4 => "self",
        5 => "management",
        _ => return None,
    })
}

/// Which hardware addresses are behind which interface.
pub(super) async fn forwarding(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("forwarding")?;
    let mut found = Vec::new();
    for (index, row) in &scope.table(LEARNED, &[2, 3]).await.0 {
        let mut index = Index(index);
        match (index.number(), index.bytes(6)) {
            (Some(database), Some(bytes)) => found.push((Some(database), bytes, row.index(2), row.number(3))),
            _ => scope.problem(),
        }
    }
    if found.is_empty() && scope.is_whole() {
        for (index, row) in &scope.table(LEARNED_OLD, &[2, 3]).await.0 {
            match Index(index).bytes(6) {
                Some(bytes) => found.push((None, bytes, row.index(2), row.number(3))),
                None => scope.problem(),
            }
        }
    }
    if found.is_empty() {
        return scope.done().await;
    }
    let mut vlans: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (index, row) in &scope.table(CURRENT, &[3]).await.0 {
        if let (&[_, vlan], Some(database)) = (index.as_slice(), row.index(3)) {
            vlans.entry(database).or_default().insert(vlan);
        }
    }
    let bridge = interfaces.ports(&mut scope).await;
    for (database, bytes, port, number) in found {
        // 2: invalid. Port 0: the bridge does not know which.
        let (Some(mac), false) = (mac(&bytes), number == Some(2)) else { continue };
        let interface = interfaces.node(device, port.and_then(|port| bridge.get(&port)).copied())?;
        let vlan = match database {
            // Where the device does not say, a database is its VLAN's in most bridges; that is no fact, and not told.
            Some(database) => vlans.get(&database).filter(|vlans| vlans.len() == 1).and_then(|vlans| vlans.first()),
            None => None,
        };
        let properties = json!({
            "mac": mac, "database": database, "vlan_id": vlan, "status": status(number),
            "interface": interface.as_ref().map(|(name, _)| name),
        });
        let resource = format!("{}/{mac}", database.unwrap_or_default());
        let node = scope.node("forwarding_entry", &resource, &mac, properties).await?;
        match interface {
            Some((_, interface)) => scope.edge(&node, &interface, "attached_to", plain()).await?,
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
    fn the_first_bit_of_a_port_list_is_port_1() {
        assert_eq!(ports(&[0x80, 0x01, 0x40]), BTreeSet::from([1, 16, 18]));
        assert_eq!(ports(&[]), BTreeSet::new());
    }
}
