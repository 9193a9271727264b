//! Interfaces (IF-MIB) by their names: numbers change when a device starts again.

use std::collections::{BTreeMap, BTreeSet};

use domain::{NodeId, Properties, Result};
use serde_json::json;

use super::device::{Device, Index, Scope, label};

/// ifTable.
const TABLE: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1];
/// ifXTable.
const MORE: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1];
/// dot1dBasePortTable: of bridge ports, the interface.
const PORTS: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 1, 4, 1];

/// IANAifType, the usual ones.
fn kind(number: i64) -> Option<&'static str> {
    Some(match number {
        1 => "other",
        6 | 62 | 69 | 117 => "ethernet",
        23 => "ppp",
        24 => "loopback",
        53 => "virtual",
        71 => "wireless",
        131 => "tunnel",
        135 => "vlan",
        136 => "ip_vlan",
        161 => "aggregate",
        166 => "mpls",
        209 => "bridge",
        _ => return None,
    })
}

/// ifAdminStatus and ifOperStatus.
fn state(number: i64) -> Option<&'static str> {
    Some(match number {
        1 => "up",
        2 => "down",
        3 => "testing",
        4 => "unknown",
        5 => "dormant",
        6 => "not_present",
        7 => "lower_layer_down",
        _ => return None,
    })
}

/// What other tables name by numbers.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// Names by ifIndex.
    names: BTreeMap<u32, String>,
    /// Names by what they are called elsewhere: description, hardware address.
    others: BTreeMap<String, Option<String>>,
    /// Whether all of them are known.
    whole: bool,
}

impl Interfaces {
    /// Walks the interfaces, and shows them if they are wanted.
    pub(super) async fn read(device: &Device<'_>, wanted: bool) -> Result<Self> {
        let mut scope = device.scope("interfaces")?;
        let mut table = scope.table(TABLE, &[2, 3, 4, 6, 7, 8]).await;
        for (index, row) in scope.table(MORE, &[1, 15, 17, 18]).await.0 {
            table.0.entry(index).or_default().add(100, row);
        }
        let mut known = Self { whole: scope.is_whole(), ..Self::default() };
        let mut rows = Vec::new();
        for (index, row) in table.0 {
            let mut index = Index(&index);
            match (index.number(), index.0) {
                (Some(number), []) => rows.push((number, row)),
                _ => scope.problem(),
            }
        }
        // The first of these that the device has: ifName, ifDescr, the number.
        let mut names: Vec<(u32, String)> = Vec::new();
        for (number, row) in &rows {
            let name = [101, 2].iter().find_map(|column| row.octets(*column).and_then(label));
            names.push((*number, name.unwrap_or_else(|| format!("#{number}"))));
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<String> =
            names.iter().filter(|(_, name)| !seen.insert(name.clone())).map(|(_, name)| name.clone()).collect();
        for (number, name) in names {
            let name = if twice.contains(&name) { format!("{name}#{number}") } else { name };
            known.names.insert(number, name);
        }
        for (number, row) in &rows {
            let Some(name) = known.names.get(number).cloned() else { continue };
            for other in [row.text(2), row.mac(6), row.text(118)].into_iter().flatten().filter(|other| *other != name) {
                // What two interfaces share names neither.
                known.others.entry(other).and_modify(|known| *known = None).or_insert_with(|| Some(name.clone()));
            }
            if wanted {
                let properties = json!({
                    "name": name,
                    "index": number,
                    "description": row.text(2),
                    "alias": row.text(118),
                    "type": row.number(3),
                    "kind": row.number(3).and_then(kind),
                    "mtu": row.number(4).filter(|mtu| *mtu > 0),
                    "mac": row.mac(6),
                    "enabled": row.number(7).map(|number| number == 1),
                    "state": row.number(8).and_then(state),
                    "speed_mbps": row.number(115).filter(|speed| *speed > 0),
                    "has_connector": row.number(117).map(|number| number == 1),
                });
                scope.node("interface", &name, &name, properties).await?;
            }
        }
        if wanted {
            scope.done().await?;
        }
        Ok(known)
    }

    /// Whether a number that is not here belongs to no interface.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    /// An interface by what it is called: its name, else its description, alias or hardware address where only one has it.
    pub(super) fn called(&self, text: &str) -> Option<&str> {
        if let Some(name) = self.names.values().find(|name| *name == text) {
            return Some(name);
        }
        self.others.get(text)?.as_deref()
    }

    /// An interface's node by its number.
    pub(super) fn node(&self, device: &Device<'_>, number: Option<u32>) -> Result<Option<(String, NodeId)>> {
        let Some(name) = number.and_then(|number| self.name(number)) else { return Ok(None) };
        Ok(Some((name.to_owned(), device.interface(name)?)))
    }

    /// Of bridge ports, the interfaces' numbers.
    pub(super) async fn ports(&self, scope: &mut Scope<'_>) -> BTreeMap<u32, u32> {
        let table = scope.table(PORTS, &[2]).await;
        let pairs = table.0.iter().filter_map(|(index, row)| Some((Index(index).number()?, row.index(2)?)));
        pairs.collect()
    }
}

/// No properties of an edge.
pub(super) fn plain() -> Properties {
    Properties::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_each_of_its_names_but_not_by_one_that_two_share() {
        let known = Interfaces {
            names: BTreeMap::from([(1, "Gi0/1".to_owned()), (2, "Gi0/2".to_owned())]),
            others: BTreeMap::from([
                ("GigabitEthernet0/1".to_owned(), Some("Gi0/1".to_owned())),
                ("00:1b:21:00:00:01".to_owned(), None),
            ]),
            whole: true,
        };
        assert_eq!((known.name(2), known.name(3)), (Some("Gi0/2"), None));
        assert_eq!((known.called("Gi0/2"), known.called("GigabitEthernet0/1")), (Some("Gi0/2"), Some("Gi0/1")));
        assert_eq!((known.called("00:1b:21:00:00:01"), known.called("")), (None, None));
    }
}
