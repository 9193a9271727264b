//! Parts of a device (ENTITY-MIB) and programs on it (HOST-RESOURCES-MIB).

use std::collections::BTreeMap;

use domain::Result;
use serde_json::json;

use super::device::{Device, Row, label};
use super::identity::is_junk;
use super::interfaces::plain;

/// entPhysicalTable.
const PARTS: &[u32] = &[1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1];
/// hrSWInstalledTable: name, type, date.
const PROGRAMS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 6, 3, 1];
const SENSOR: i64 = 8;

/// PhysicalClass (RFC 6933).
fn class(number: Option<i64>) -> &'static str {
    match number {
        Some(3) => "chassis",
        Some(4) => "backplane",
        Some(5) => "container",
        Some(6) => "power_supply",
        Some(7) => "fan",
        Some(9) => "module",
        Some(10) => "port",
        Some(11) => "stack",
        Some(12) => "cpu",
        Some(13) => "energy",
        Some(14) => "battery",
        Some(15) => "storage",
        _ => "other",
    }
}

/// Parts by their names, where a name is one part's; by their numbers otherwise. Sensors are left out: their readings are no property.
pub(super) async fn components(device: &Device<'_>) -> Result<()> {
    let mut scope = device.scope("components")?;
    let table = scope.table(PARTS, &[2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16]).await;
    let mut rows: BTreeMap<u32, &Row> = BTreeMap::new();
    for (index, row) in &table.0 {
        match index.as_slice() {
            [number] if row.number(5) != Some(SENSOR) => drop(rows.insert(*number, row)),
            [_] => {}
            _ => scope.problem(),
        }
    }
    let called = |row: &Row| row.octets(7).and_then(label).map(|name| format!("{}/{name}", class(row.number(5))));
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in rows.values().filter_map(|row| called(row)) {
        *count.entry(name).or_default() += 1;
    }
    let resource = |number: u32, row: &Row| {
        let own = called(row).filter(|name| count.get(name) == Some(&1));
        own.unwrap_or_else(|| format!("{}/#{number}", class(row.number(5))))
    };
    for (number, row) in &rows {
        let name = row.text(7).or_else(|| row.text(2)).unwrap_or_else(|| format!("#{number}"));
        let properties = json!({
            "name": row.text(7),
            "description": row.text(2),
            "class": class(row.number(5)),
            "hardware_revision": row.text(8),
            "firmware_revision": row.text(9),
            "software_revision": row.text(10),
            "serial_number": row.text(11).filter(|serial| !is_junk(serial)),
            "manufacturer": row.text(12),
            "model": row.text(13),
            "is_replaceable": row.number(16).map(|number| number == 1),
        });
        let node = scope.node("component", &resource(*number, row), &name, properties).await?;
        if let Some((holder, row)) =
            row.index(4).filter(|holder| holder != number).and_then(|holder| rows.get_key_value(&holder))
        {
            let holder = device.node("component", &resource(*holder, row))?;
            scope.edge(&holder, &node, "contains", plain()).await?;
        }
    }
    scope.done().await
}

/// The day of a DateAndTime (RFC 2579).
fn day(bytes: &[u8]) -> Option<String> {
    let &[high, low, month, day, ..] = bytes else { return None };
    let year = u16::from_be_bytes([high, low]);
    let valid = (1970..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Installed programs.
pub(super) async fn software(device: &Device<'_>) -> Result<()> {
    let mut scope = device.scope("software")?;
    let table = scope.table(PROGRAMS, &[2, 4, 5]).await;
    for row in table.0.values() {
        let Some(name) = row.octets(2).and_then(label) else { continue };
        let kind = match row.number(4) {
            Some(2) => "operating_system",
            Some(3) => "device_driver",
            Some(4) => "application",
            _ => "unknown",
        };
        let properties = json!({ "name": name, "kind": kind, "installed_on": row.octets(5).and_then(day) });
        scope.node("package", &name, &name, properties).await?;
    }
    scope.done().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_one_or_none() {
        assert_eq!(day(&[0x07, 0xea, 11, 28, 1, 2, 3, 0]).as_deref(), Some("2026-11-28"));
        assert_eq!((day(&[]), day(&[0, 0, 0, 0]), day(&[0x07, 0xea, 13, 1])), (None, None, None));
    }
}
