//! Addresses of a device (IP-MIB), and of its neighbours on the wire (ARP, IPv6 neighbour discovery).

use domain::Result;
use serde_json::json;
use transport::SnmpValue;

use super::device::{Device, Index, Row, Table, inet, mac};
use super::interfaces::{Interfaces, plain};

/// ipAddressTable: ifIndex, type, prefix, origin, row status.
const ADDRESSES: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 34, 1];
/// ipAddrTable, which was before it and knows IPv4 only: ifIndex, mask.
const ADDRESSES_V4: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 20, 1];
/// ipNetToPhysicalTable: address, type, state.
const NEIGHBORS: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 35, 1];
/// ipNetToMediaTable, which was before it: address, type.
const NEIGHBORS_V4: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 22, 1];

/// An address with its zone's interface by name.
pub(super) fn named(interfaces: &Interfaces, address: &str) -> String {
    match address.split_once('%') {
        Some((address, zone)) => {
            let name = zone.parse().ok().and_then(|number| interfaces.name(number)).unwrap_or(zone);
            format!("{address}%{name}")
        }
        None => address.to_owned(),
    }
}

/// Bits of a netmask.
pub(super) fn mask_bits(bytes: [u8; 4]) -> Option<u32> {
    let mask = u32::from_be_bytes(bytes);
    (mask.leading_ones() + mask.trailing_zeros().min(32) >= 32).then(|| mask.leading_ones())
}

/// The prefix that an ipAddressPrefix points to: the last part of its name.
fn prefix_bits(row: &Row) -> Option<u32> {
    match row.value(5)? {
        // 0.0 points nowhere.
        SnmpValue::Oid(oid) if oid.parts().len() > 10 => oid.parts().last().copied().filter(|bits| *bits <= 128),
        _ => None,
    }
}

/// The device's own addresses.
pub(super) async fn addresses(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("addresses")?;
    let table = scope.table(ADDRESSES, &[3, 4, 5]).await;
    let mut found = Vec::new();
    for (index, row) in &table.0 {
        let mut index = Index(index);
        match index.inet().filter(|(_, address)| !address.is_empty()) {
            // 1: unicast; anycast and broadcast are no device's own.
            Some((_, address)) if row.number(4).is_none_or(|kind| kind == 1) => {
                found.push((address, row.index(3), prefix_bits(row)));
            }
            Some(_) => {}
            None => scope.problem(),
        }
    }
    if found.is_empty() && scope.is_whole() {
        for (index, row) in &scope.table(ADDRESSES_V4, &[2, 3]).await.0 {
            match Index(index).bytes(4).and_then(|bytes| inet(1, &bytes)) {
                Some(address) => found.push((address, row.index(2), row.ip(3).and_then(mask_bits))),
                None => scope.problem(),
            }
        }
    }
    for (address, number, bits) in found {
        let address = named(interfaces, &address);
        let interface = interfaces.node(device, number)?;
        let family = if address.contains(':') { "ipv6" } else { "ipv4" };
        let properties = json!({
            "address": address, "family": family, "prefix_length": bits, "interface": interface.as_ref().map(|(name, _)| name),
        });
        let node = scope.node("address", &address, &address, properties).await?;
        match interface {
            Some((_, interface)) => scope.edge(&node, &interface, "attached_to", plain()).await?,
            // Of an interface that was not read the edge is missing: not all was seen.
            None if !interfaces.is_whole() => scope.problem(),
            None => {}
        }
    }
    scope.done().await
}

/// ipNetToPhysicalType and ipNetToMediaType.
fn entry_kind(number: Option<i64>) -> Option<&'static str> {
    Some(match number? {
        1 => "other",
        3 => "dynamic",
        4 => "static",
        5 => "local",
        _ => return None,
    })
}

fn neighbors(table: &Table, old: bool, problems: &mut usize) -> Vec<(u32, String, String, Option<&'static str>)> {
    let (address_column, kind_column) = if old { (2, 4) } else { (4, 6) };
    let mut found = Vec::new();
    for (index, row) in &table.0 {
        let mut index = Index(index);
        let number = index.number();
        let address = if old {
            index.bytes(4).and_then(|bytes| inet(1, &bytes))
        } else {
            index.inet().map(|(_, text)| text).filter(|text| !text.is_empty())
        };
        let (Some(number), Some(address)) = (number, address) else {
            *problems += 1;
            continue;
        };
        // Invalid, and entries that wait for an answer, name nobody.
        let gone = row.number(kind_column) == Some(2) || (!old && matches!(row.number(7), Some(5 | 7)));
        if let Some(mac) = row.octets(address_column).and_then(mac).filter(|_| !gone) {
            found.push((number, address, mac, entry_kind(row.number(kind_column))));
        }
    }
    found
}

/// Who answers at which address on the device's wires.
pub(super) async fn arp(device: &Device<'_>, interfaces: &Interfaces) -> Result<()> {
    let mut scope = device.scope("arp")?;
    let (table, mut problems) = (scope.table(NEIGHBORS, &[4, 6, 7]).await, 0);
    let mut found = neighbors(&table, false, &mut problems);
    if found.is_empty() && scope.is_whole() {
        let table = scope.table(NEIGHBORS_V4, &[2, 4]).await;
        found = neighbors(&table, true, &mut problems);
    }
    for _ in 0..problems {
        scope.problem();
    }
    for (number, address, mac, kind) in found {
        let address = named(interfaces, &address);
        let Some((name, interface)) = interfaces.node(device, Some(number))? else {
            // An entry of an interface that is gone is one of yesterday; one that was not read is missing.
            if !interfaces.is_whole() {
                scope.problem();
            }
            continue;
        };
        let properties = json!({ "address": address, "mac": mac, "interface": name, "kind": kind });
        let node = scope.node("arp_entry", &format!("{name}/{address}"), &address, properties).await?;
        scope.edge(&node, &interface, "attached_to", plain()).await?;
    }
    scope.done().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_count_only_where_they_are_masks() {
        let bits = mask_bits;
        assert_eq!((bits([255, 255, 255, 0]), bits([255; 4]), bits([0; 4])), (Some(24), Some(32), Some(0)));
        assert_eq!((bits([255, 0, 255, 0]), bits([0, 0, 0, 255])), (None, None));
    }
}
