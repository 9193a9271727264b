//! The device itself (SNMPv2-MIB), and what it is known by.

use std::net::SocketAddr;

use domain::{Properties, Result};
use serde_json::{Value, json};
use transport::{CallError, CallTag, Oid, SnmpReach, SnmpSecurity, SnmpValue};

use super::device::{Device, Index, Scope, hex, label, mac, words};
use super::identity::{self, Identity};

/// What is asked first, in this order.
const OBJECTS: [&[u32]; 13] = [
    &[1, 3, 6, 1, 2, 1, 1, 1, 0],              // sysDescr
    &[1, 3, 6, 1, 2, 1, 1, 2, 0],              // sysObjectID
    &[1, 3, 6, 1, 2, 1, 1, 4, 0],              // sysContact
    &[1, 3, 6, 1, 2, 1, 1, 5, 0],              // sysName
    &[1, 3, 6, 1, 2, 1, 1, 6, 0],              // sysLocation
    &[1, 3, 6, 1, 6, 3, 10, 2, 1, 1, 0],       // snmpEngineID
    &[1, 3, 6, 1, 6, 3, 10, 2, 1, 2, 0],       // snmpEngineBoots
    &[1, 0, 8802, 1, 1, 2, 1, 3, 1, 0],        // lldpLocChassisIdSubtype
    &[1, 0, 8802, 1, 1, 2, 1, 3, 2, 0],        // lldpLocChassisId
    &[1, 3, 6, 1, 2, 1, 17, 1, 1, 0],          // dot1dBaseBridgeAddress
    &[1, 3, 6, 1, 2, 1, 4, 1, 0],              // ipForwarding
    &[1, 3, 6, 1, 2, 1, 4, 25, 0],             // ipv6IpForwarding
    &[1, 3, 6, 1, 4, 1, 9, 9, 23, 1, 3, 4, 0], // cdpGlobalDeviceId
];
/// entPhysicalTable: class and serial number.
const ENTITY: &[u32] = &[1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1];
const CHASSIS: i64 = 3;

/// What a device says of itself.
pub(super) struct System {
    pub(super) identity: Identity,
    address: SocketAddr,
    security: SnmpSecurity,
    description: Option<String>,
    object_id: Option<Oid>,
    contact: Option<String>,
    name: Option<String>,
    location: Option<String>,
    engine_id: Option<Vec<u8>>,
    boots: Option<i64>,
    chassis_id: Option<ChassisId>,
    cdp_id: Option<String>,
    mac: Option<Vec<u8>>,
    forwards: [Option<bool>; 2],
}

/// What neighbours know a device by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChassisId {
    pub(super) kind: &'static str,
    pub(super) value: String,
}

impl ChassisId {
    /// An LldpChassisId of this subtype (IEEE 802.1AB).
    pub(super) fn lldp(subtype: i64, bytes: &[u8]) -> Option<Self> {
        let (kind, value) = match subtype {
            1 => ("component", label(bytes)?),
            2 => ("interface_alias", label(bytes)?),
            3 => ("port_component", label(bytes)?),
            4 => ("mac", mac(bytes)?),
            5 => {
                let (family, address) = bytes.split_first()?;
                ("address", super::device::inet(u32::from(*family), address).filter(|text| !text.is_empty())?)
            }
            6 => ("interface", label(bytes)?),
            7 => ("local", label(bytes)?),
            _ => return None,
        };
        Some(Self { kind, value })
    }

    /// Whether it tells a device apart among all of a site, not only among those of one cable.
    fn identifies(&self) -> bool {
        match self.kind {
            "mac" => {
                let bytes: Vec<u8> =
                    self.value.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
                <[u8; 6]>::try_from(bytes).is_ok_and(|bytes| !identity::is_junk_mac(bytes))
            }
            "address" => true,
            "component" | "local" => !identity::is_junk(&self.value),
            _ => false,
        }
    }
}

/// Shows what a device is known by to its neighbours, and that `of` is that device. Both ends of a cable show the same node.
pub(super) async fn known_as(
    scope: &mut Scope<'_>,
    device: &Device<'_>,
    of: &domain::NodeId,
    protocol: &str,
    chassis: &ChassisId,
) -> Result<()> {
    if protocol == "lldp" && !chassis.identifies() || identity::is_junk(&chassis.value) {
        return Ok(());
    }
    let resource = format!("{protocol}/{}/{}", chassis.kind, chassis.value);
    let id = domain::NodeId::new("snmp", device.site, "snmp.chassis_id", &resource)?;
    let properties = json!({ "protocol": protocol, "kind": chassis.kind, "value": chassis.value });
    scope.show(id.clone(), &chassis.value, properties).await?;
    scope.edge(of, &id, "associated_with", Properties::new()).await
}

impl System {
    /// Asks a device who it is.
    pub(super) async fn read(
        snmp: &dyn SnmpReach,
        address: SocketAddr,
        tag: &CallTag,
    ) -> std::result::Result<Self, CallError> {
        let asked: Vec<Oid> = OBJECTS.iter().map(|parts| Oid::new(parts.to_vec())).collect();
        let values = snmp.get(address, &asked, tag).await?;
        let mut values = values.into_iter().map(|(_, value)| value);
        let mut next = || values.next().unwrap_or(SnmpValue::Null);
        let bytes = |value: SnmpValue| value.octets().map(<[u8]>::to_vec).filter(|bytes| !bytes.is_empty());
        let text = |value: SnmpValue| value.octets().and_then(words);
        let description = text(next());
        let object_id = match next() {
            SnmpValue::Oid(oid) => Some(oid),
            _ => None,
        };
        let (contact, name, location) = (text(next()), text(next()), text(next()));
        let shown_engine = bytes(next());
        let boots = next().number();
        let (subtype, chassis) = (next().number(), bytes(next()));
        let bridge = bytes(next());
        // 1: forwarding, 2: not.
        let mut forwards = || next().number().map(|number| number == 1);
        let forwards = [forwards(), forwards()];
        let cdp_id = next().octets().and_then(label);
        let chassis_id = subtype.zip(chassis.as_deref()).and_then(|(subtype, bytes)| ChassisId::lldp(subtype, bytes));
        let security = snmp.security();
        // With v3 the engine id is what the keys are made for; an object of the same name is only a claim.
        let engine_id = if security.version == "v3" { snmp.engine_id(address).or(shown_engine) } else { shown_engine };
        let mac = if subtype == Some(4) { chassis } else { None }.filter(|bytes| mac(bytes).is_some()).or(bridge);
        let enterprise = object_id.as_ref().and_then(enterprise);
        let identity = if let Some(identity) = identity::strong(engine_id.as_deref(), mac.as_deref()) {
            identity
        } else {
            let serial = serial(snmp, address, tag).await?;
            serial
                .and_then(|serial| identity::by_serial(enterprise.unwrap_or_default(), &serial))
                .unwrap_or_else(|| identity::by_address(address))
        };
        Ok(Self {
            identity,
            address,
            security,
            description,
            object_id,
            contact,
            name,
            location,
            engine_id,
            boots,
            chassis_id,
            cdp_id,
            mac,
            forwards,
        })
    }

    /// Whether the answer of another address can be that of the same device.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let parts = |system: &Self| {
            (
                system.name.clone(),
                system.description.clone(),
                system.object_id.clone(),
                system.boots,
                system.mac.clone(),
            )
        };
        parts(self) == parts(other)
    }

    /// Shows the device, asked once more under the scope whose evidence this is. An error is why nothing else need be asked.
    pub(super) async fn show(&self, device: &Device<'_>) -> Result<std::result::Result<(), CallError>> {
        let mut scope = device.scope("system")?;
        let again = match Self::read(device.snmp, device.address, &scope.tag(true)).await {
            Ok(again) if again.identity == self.identity => again,
            Ok(again) => {
                let why = format!("`{}` became `{}` while it was read", self.identity.id, again.identity.id);
                return scope.done_with(CallError::Malformed(why)).await;
            }
            Err(error) => return scope.done_with(error).await,
        };
        let chassis = device.chassis()?;
        let name = again.name.clone().unwrap_or_else(|| self.address.ip().to_canonical().to_string());
        scope.show(chassis.clone(), &name, again.properties()).await?;
        if let Some(own) = &again.chassis_id {
            known_as(&mut scope, device, &chassis, "lldp", own).await?;
        }
        if let Some(own) = &again.cdp_id {
            let own = ChassisId { kind: "name", value: own.clone() };
            known_as(&mut scope, device, &chassis, "cdp", &own).await?;
        }
        scope.done().await.map(Ok)
    }

    fn properties(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "object_id": self.object_id.as_ref().map(Oid::to_string),
            "enterprise": self.object_id.as_ref().and_then(enterprise),
            "contact": self.contact,
            "location": self.location,
            "identified_by": self.identity.by,
            "engine_id": self.engine_id.as_deref().map(hex),
            "chassis_mac": self.mac.as_deref().and_then(mac),
            "ip_forwarding": self.forwards[0],
            "ipv6_forwarding": self.forwards[1],
            "address": self.address.ip().to_canonical().to_string(),
            "read_with": {
                "version": self.security.version,
                "authentication": self.security.authentication,
                "privacy": self.security.privacy,
                "default_community": self.security.default_community,
            },
        })
    }
}

/// The maker's number with IANA: 1.3.6.1.4.1.N.
fn enterprise(oid: &Oid) -> Option<u32> {
    Index(oid.parts().strip_prefix(&[1, 3, 6, 1, 4, 1])?).number()
}

/// The serial number of the first chassis (ENTITY-MIB) that has one.
async fn serial(
    snmp: &dyn SnmpReach,
    address: SocketAddr,
    tag: &CallTag,
) -> std::result::Result<Option<String>, CallError> {
    let column = |number: u32| Oid::new([ENTITY, &[number]].concat());
    let (class, number) = (column(5), column(11));
    let walked = snmp.walk(address, &[class.clone(), number.clone()], tag).await;
    if let Some(error) = walked.failed {
        return Err(error);
    }
    let [classes, serials] = walked.columns.as_slice() else { return Ok(None) };
    let mut chassis = classes.iter().filter(|(_, value)| value.number() == Some(CHASSIS));
    Ok(chassis.find_map(|(oid, _)| {
        let wanted = number.with(oid.below(&class)?);
        let (_, value) = serials.iter().find(|(oid, _)| *oid == wanted)?;
        value.octets().and_then(words)
    }))
}
