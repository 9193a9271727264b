//! The plugin `snmp` against real net-snmp agents.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/open.rs"]
mod open;

use std::collections::{BTreeMap, BTreeSet};

use domain::{Coverage, ScopeId};
use open::{Kept, collected, map, reach};
use plugins::SnmpPlugin;
use serde_json::{Value, json};
use testkit::{Lab, Snmpd};

impl Kept {
    fn of(&self, kind: &str) -> Vec<&Value> {
        let part = format!(":snmp.{kind}:");
        self.nodes.iter().filter(|(id, _)| id.contains(&part)).map(|(_, properties)| properties).collect()
    }

    fn verdict(&self, scope: &str) -> &'static str {
        self.scopes.get(scope).map_or("not tried", Coverage::as_str)
    }
}

fn reader() -> (&'static str, Value) {
    let secret = json!({
        "username": "reader", "auth_protocol": "SHA-256", "auth_password": "a-password-of-the-reader",
        "privacy_protocol": "AES", "privacy_password": "a-passphrase-for-privacy",
    });
    ("snmp-v3", secret)
}

fn agent(name: &str, engine: &str, more: &str) -> Snmpd {
    Snmpd::start(&format!(
        "engineID {engine}\nsysName {name}\nsysLocation row 7 <b>\nrouser reader priv\n\
         createUser reader SHA-256 a-password-of-the-reader AES a-passphrase-for-privacy\n{more}"
    ))
}

/// What net-snmp does not know of itself: a switch with a neighbour, VLANs and parts.
const SWITCH: &str = "
override .1.0.8802.1.1.2.1.3.1.0 integer 4
override .1.0.8802.1.1.2.1.3.2.0 octet_str 0x001b21a4c377
override .1.0.8802.1.1.2.1.3.7.1.2.7 integer 5
override .1.0.8802.1.1.2.1.3.7.1.3.7 octet_str \"lo\"
override .1.0.8802.1.1.2.1.4.1.1.4.0.7.1 integer 4
override .1.0.8802.1.1.2.1.4.1.1.5.0.7.1 octet_str 0x001b21a4c399
override .1.0.8802.1.1.2.1.4.1.1.6.0.7.1 integer 5
override .1.0.8802.1.1.2.1.4.1.1.7.0.7.1 octet_str \"Gi0/24\"
override .1.0.8802.1.1.2.1.4.1.1.9.0.7.1 octet_str \"core1\"
override .1.0.8802.1.1.2.1.4.1.1.12.0.7.1 octet_str 0x2800
override .1.0.8802.1.1.2.1.4.2.1.3.0.7.1.1.4.192.0.2.9 integer 2
override .1.3.6.1.4.1.9.9.23.1.2.1.1.3.1.4 integer 1
override .1.3.6.1.4.1.9.9.23.1.2.1.1.4.1.4 octet_str 0xc0000209
override .1.3.6.1.4.1.9.9.23.1.2.1.1.6.1.4 octet_str \"core1.example\"
override .1.3.6.1.4.1.9.9.23.1.2.1.1.7.1.4 octet_str \"GigabitEthernet0/24\"
override .1.3.6.1.2.1.17.1.4.1.2.3 integer 1
override .1.3.6.1.2.1.17.7.1.4.3.1.1.20 octet_str \"users\"
override .1.3.6.1.2.1.17.7.1.4.3.1.2.20 octet_str 0x20
override .1.3.6.1.2.1.17.7.1.4.3.1.4.20 octet_str 0x20
override .1.3.6.1.2.1.17.7.1.4.3.1.1.30 octet_str \"voice\"
override .1.3.6.1.2.1.17.7.1.4.3.1.2.30 octet_str 0x20
override .1.3.6.1.2.1.17.7.1.4.5.1.1.3 uinteger 20
override .1.3.6.1.2.1.17.7.1.2.2.1.2.20.0.27.33.164.195.153 integer 3
override .1.3.6.1.2.1.17.7.1.2.2.1.3.20.0.27.33.164.195.153 integer 3
override .1.3.6.1.2.1.47.1.1.1.1.5.1 integer 3
override .1.3.6.1.2.1.47.1.1.1.1.7.1 octet_str \"Switch 1\"
override .1.3.6.1.2.1.47.1.1.1.1.11.1 octet_str \"FOC1234X0AB\"
override .1.3.6.1.2.1.47.1.1.1.1.13.1 octet_str \"WS-C2960\"
override .1.3.6.1.2.1.47.1.1.1.1.4.2 integer 1
override .1.3.6.1.2.1.47.1.1.1.1.5.2 integer 6
override .1.3.6.1.2.1.47.1.1.1.1.7.2 octet_str \"PSU A\"
override .1.3.6.1.2.1.47.1.1.1.1.11.2 octet_str \"N/A\"
override .1.3.6.1.2.1.47.1.1.1.1.5.3 integer 8
override .1.3.6.1.2.1.47.1.1.1.1.7.3 octet_str \"Temp\"
";

#[tokio::test]
async fn a_neighbour_with_endless_addresses_shows_some_and_says_how_many_more() {
    let managed = |n: u32| format!("override .1.0.8802.1.1.2.1.4.2.1.3.0.7.1.1.4.192.0.2.{n} integer 2\n");
    let many: String = (1..=100).filter(|n| *n != 9).map(managed).collect();
    let device = agent("dut", "a-chatty-neighbour", &format!("{SWITCH}{many}"));
    let config = map(json!({ "targets": format!("127.0.0.1:{}", device.port), "collectors": "interfaces,neighbors" }));
    let (kind, secret) = reader();
    let (reach, _) = reach("snmp", &config, Some((kind, secret)));
    let kept = collected(&SnmpPlugin, &config, &reach).await.unwrap();
    let neighbors = kept.of("neighbor");
    let lldp = neighbors.iter().find(|node| node["protocol"] == "lldp").unwrap();
    assert_eq!((lldp["addresses"].as_array().unwrap().len(), &lldp["addresses_left_out"]), (32, &json!(68)));
    let cdp = neighbors.iter().find(|node| node["protocol"] == "cdp").unwrap();
    assert_eq!(cdp.get("addresses_left_out"), None, "one with few has none left out");
    let scopes: Vec<_> = kept.scopes.iter().filter(|(scope, _)| scope.ends_with(":neighbors")).collect();
    assert!(scopes.len() == 1 && scopes[0].1.as_str() == "complete", "{:?}", kept.scopes);
}

#[tokio::test]
async fn a_device_is_read_with_its_interfaces_neighbours_vlans_and_parts_and_again_the_same() {
    let device = agent("dut", "a-switch-of-the-lab", SWITCH);
    let config = map(json!({ "targets": format!("127.0.0.1:{}", device.port), "site": "lab" }));
    let (kind, secret) = reader();
    let (reach, recorder) = reach("snmp", &config, Some((kind, secret.clone())));
    let kept = collected(&SnmpPlugin, &config, &reach).await.unwrap();

    let [chassis] = kept.of("chassis")[..] else { panic!("{:?}", kept.nodes.keys()) };
    assert_eq!((&chassis["name"], &chassis["location"]), (&json!("dut"), &json!("row 7 <b>")));
    assert_eq!((&chassis["identified_by"], &chassis["enterprise"]), (&json!("engine_id"), &json!(8072)));
    assert_eq!(chassis["chassis_mac"], json!("00:1b:21:a4:c3:77"));
    assert_eq!(
        chassis["read_with"],
        json!({ "version": "v3", "authentication": "sha256", "privacy": "aes128", "default_community": null })
    );
    let id = format!("engine-{}", chassis["engine_id"].as_str().unwrap());
    let node = |kind: &str, resource: &str| format!("snmp:lab:snmp.{kind}:{id}/{resource}");

    let lo = &kept.nodes[&node("interface", "lo")];
    assert_eq!((&lo["kind"], &lo["state"], &lo["enabled"]), (&json!("loopback"), &json!("up"), &json!(true)));
    let loopback = &kept.nodes[&node("address", "127.0.0.1")];
    assert_eq!((&loopback["interface"], &loopback["prefix_length"]), (&json!("lo"), &json!(8)));

    let lldp = &kept.nodes[&node("neighbor", "lo/lldp/00:1b:21:a4:c3:99/Gi0/24")];
    assert_eq!((&lldp["system_name"], &lldp["capabilities"]), (&json!("core1"), &json!(["bridge", "router"])));
    assert_eq!(lldp["addresses"], json!(["192.0.2.9"]));
    let cdp = &kept.nodes[&node("neighbor", "lo/cdp/core1.example/GigabitEthernet0/24")];
    assert_eq!((&cdp["protocol"], &cdp["addresses"]), (&json!("cdp"), &json!(["192.0.2.9"])));

    let users = &kept.nodes[&node("vlan", "20")];
    assert_eq!((&users["name"], &users["is_static"]), (&json!("users"), &json!(true)));
    let entry = &kept.nodes[&node("forwarding_entry", "20/00:1b:21:a4:c3:99")];
    assert_eq!((&entry["interface"], &entry["status"]), (&json!("lo"), &json!("learned")));
    let part = &kept.nodes[&node("component", "chassis/Switch 1")];
    assert_eq!((&part["serial_number"], &part["model"]), (&json!("FOC1234X0AB"), &json!("WS-C2960")));
    assert_eq!(kept.nodes[&node("component", "power_supply/PSU A")].get("serial_number"), None);
    assert_eq!(kept.of("component").len(), 2, "a sensor is none");

    let own = "snmp:lab:snmp.chassis_id:lldp/mac/00:1b:21:a4:c3:77";
    let other = "snmp:lab:snmp.chassis_id:lldp/mac/00:1b:21:a4:c3:99";
    for edge in [
        format!("snmp:lab:snmp.chassis:{id} contains {}", node("interface", "lo")),
        format!("snmp:lab:snmp.chassis:{id} associated_with {own}"),
        format!("{} associated_with {other}", node("neighbor", "lo/lldp/00:1b:21:a4:c3:99/Gi0/24")),
        format!(
            "{} attached_to {}",
            node("neighbor", "lo/cdp/core1.example/GigabitEthernet0/24"),
            node("interface", "lo")
        ),
        format!("{} attached_to {}", node("address", "127.0.0.1"), node("interface", "lo")),
        format!(
            "{} member_of {}{}",
            node("interface", "lo"),
            node("vlan", "20"),
            json!({ "native": true, "tagged": false })
        ),
        format!(
            "{} member_of {}{}",
            node("interface", "lo"),
            node("vlan", "30"),
            json!({ "native": false, "tagged": true })
        ),
        format!("{} contains {}", node("component", "chassis/Switch 1"), node("component", "power_supply/PSU A")),
    ] {
        assert!(kept.edges.contains(&edge), "{edge} is not in {:#?}", kept.edges);
    }
    for table in ["system", "interfaces", "addresses", "neighbors", "vlans", "forwarding", "components"] {
        assert_eq!(kept.verdict(&format!("snmp:{id}:{table}")), "complete", "{table}: {:?}", kept.scopes);
    }
    assert_eq!(kept.verdict(&format!("snmp-target:127.0.0.1:{}", device.port)), "complete");
    let system: ScopeId = format!("snmp:{id}:system").parse().unwrap();
    let records = recorder.take(&system);
    assert!(records.iter().any(|record| record.kept.is_some()), "evidence of the device is kept");

    let again = collected(&SnmpPlugin, &config, &reach).await.unwrap();
    // Programs and neighbours of the machine that runs the tests may change meanwhile.
    let quiet = |kept: &Kept| {
        let nodes = kept.nodes.iter().filter(|(id, _)| !id.contains("snmp.arp") && !id.contains("snmp.package"));
        nodes.map(|(id, properties)| (id.clone(), properties.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(quiet(&kept), quiet(&again));
}

#[tokio::test]
async fn a_device_at_two_addresses_is_read_once_and_two_devices_with_one_identity_are_read_as_none() {
    let one = agent("one", "engine-of-one", "");
    let twin = agent("twin-a", "engine-of-twins", "");
    let other = agent("twin-b", "engine-of-twins", "");
    let targets = [
        format!("127.0.0.1:{}", one.port),
        format!("127.0.0.2:{}", one.port),
        format!("127.0.0.1:{}", twin.port),
        format!("127.0.0.1:{}", other.port),
        "127.0.0.9:1".to_owned(),
    ];
    let config = map(json!({ "targets": targets, "collectors": "interfaces", "wait_s": 1 }));
    let (kind, secret) = reader();
    let (reach, _) = reach("snmp", &config, Some((kind, secret.clone())));
    let kept = collected(&SnmpPlugin, &config, &reach).await.unwrap();
    let verdict = |at: usize| kept.verdict(&format!("snmp-target:{}", targets[at]));
    assert_eq!((verdict(0), verdict(1)), ("complete", "complete"));
    assert_eq!((verdict(2), verdict(3), verdict(4)), ("failed", "failed", "failed"));
    let [chassis] = kept.of("chassis")[..] else { panic!("{:?}", kept.nodes.keys()) };
    assert_eq!((&chassis["name"], &chassis["address"]), (&json!("one"), &json!("127.0.0.1")));
    let Coverage::Failed { reason } = &kept.scopes[&format!("snmp-target:{}", targets[2])] else { panic!() };
    assert!(reason.contains("two devices with one identity") && reason.contains("engine id of its own"), "{reason}");
}

#[tokio::test]
async fn the_same_device_is_the_same_node_over_every_version_and_what_protects_the_reading_is_told() {
    let device = agent("dut", "engine-of-versions", "rocommunity public\n");
    let config = map(json!({ "targets": format!("127.0.0.1:{}", device.port), "collectors": "interfaces" }));
    let mut ids = BTreeSet::new();
    for (kind, secret, version, default) in [
        (reader().0, reader().1, "v3", Value::Null),
        ("snmp-community", json!({ "community": "public" }), "v2c", json!(true)),
        ("snmp-community", json!({ "community": "public", "version": "v1" }), "v1", json!(true)),
    ] {
        let kept =
            collected(&SnmpPlugin, &config, &reach("snmp", &config, Some((kind, secret.clone()))).0).await.unwrap();
        let [chassis] = kept.of("chassis")[..] else { panic!("{version}: {:?}", kept.scopes) };
        assert_eq!(
            (&chassis["read_with"]["version"], &chassis["read_with"]["default_community"]),
            (&json!(version), &default)
        );
        ids.extend(kept.nodes.keys().filter(|id| id.contains(":snmp.chassis:")).cloned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn a_table_that_the_agent_does_not_show_is_absent_and_a_refused_user_is_denied() {
    let view = "view systemonly included .1.3.6.1.2.1.1\nrocommunity lab default -V systemonly\n";
    let device = agent("dut", "engine-of-views", view);
    let config = map(json!({ "targets": format!("127.0.0.1:{}", device.port) }));
    let kept = collected(
        &SnmpPlugin,
        &config,
        &reach("snmp", &config, Some(("snmp-community", json!({ "community": "lab" })))).0,
    )
    .await
    .unwrap();
    // Without engine id, hardware address and serial number only the address is left.
    let id = format!("ip-127.0.0.1_{}", device.port);
    assert_eq!(kept.verdict(&format!("snmp:{id}:system")), "complete", "{:?}", kept.scopes);
    assert_eq!(kept.verdict(&format!("snmp:{id}:interfaces")), "absent", "{:?}", kept.scopes);

    let (kind, mut secret) = reader();
    secret["auth_password"] = "another-password".into();
    let kept = collected(&SnmpPlugin, &config, &reach("snmp", &config, Some((kind, secret.clone()))).0).await.unwrap();
    assert_eq!(kept.verdict(&format!("snmp-target:127.0.0.1:{}", device.port)), "denied");
    assert_eq!(kept.scopes.len(), 1, "{:?}", kept.scopes);
}

/// A bridge that knows no VLANs.
const PLAIN_BRIDGE: &str = "
override .1.3.6.1.2.1.17.1.4.1.2.3 integer 1
override .1.3.6.1.2.1.17.4.3.1.1.0.27.33.164.195.153 octet_str 0x001b21a4c399
override .1.3.6.1.2.1.17.4.3.1.2.0.27.33.164.195.153 integer 3
override .1.3.6.1.2.1.17.4.3.1.3.0.27.33.164.195.153 integer 3
override .1.3.6.1.2.1.17.4.3.1.1.0.27.33.164.195.154 octet_str 0x001b21a4c39a
override .1.3.6.1.2.1.17.4.3.1.2.0.27.33.164.195.154 integer 0
override .1.3.6.1.2.1.17.4.3.1.3.0.27.33.164.195.154 integer 2
";

#[test]
fn neighbours_routes_programs_and_what_a_plain_bridge_learned_are_read_row_by_row() {
    // A network of its own: nobody else's neighbours and routes come and go there.
    let lab = Lab::new();
    lab.hosts(
        "ip neigh add 10.99.0.77 lladdr 02:00:00:00:00:77 nud permanent dev v1; \
         ip neigh add fd99::77 lladdr 02:00:00:00:00:78 nud permanent dev v1; \
         ip route add 10.77.0.0/16 via 10.99.0.1; ip route add 10.78.0.0/24 dev v1",
    );
    let (kept, id) = lab.there(|| {
        let device = agent("router", "a-router-of-the-lab", PLAIN_BRIDGE);
        let config = map(json!({
            "targets": format!("127.0.0.1:{}", device.port), "site": "lab",
            "collectors": "interfaces,arp,routes,forwarding,software",
        }));
        let (kind, secret) = reader();
        let (reach, _) = reach("snmp", &config, Some((kind, secret)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = runtime.block_on(collected(&SnmpPlugin, &config, &reach)).unwrap();
        let [chassis] = kept.of("chassis")[..] else { panic!("{:?} {:?}", kept.nodes.keys(), kept.scopes) };
        let id = format!("engine-{}", chassis["engine_id"].as_str().unwrap());
        (kept, id)
    });
    let node = |kind: &str, resource: &str| format!("snmp:lab:snmp.{kind}:{id}/{resource}");
    let shown = |kind: &str, resource: &str| {
        let id = node(kind, resource);
        kept.nodes.get(&id).unwrap_or_else(|| panic!("{id} is not in {:#?}", kept.of(kind)))
    };
    for (address, mac) in [("10.99.0.77", "02:00:00:00:00:77"), ("fd99::77", "02:00:00:00:00:78")] {
        let entry = shown("arp_entry", &format!("v1/{address}"));
        assert_eq!(
            (&entry["mac"], &entry["interface"], &entry["address"]),
            (&json!(mac), &json!("v1"), &json!(address))
        );
    }
    let via = shown("route", "10.77.0.0/16 via 10.99.0.1 on v1");
    assert_eq!(
        (&via["next_hop"], &via["kind"], &via["is_default"]),
        (&json!("10.99.0.1"), &json!("remote"), &json!(false))
    );
    let direct = shown("route", "10.78.0.0/24 on v1");
    assert_eq!((&direct["destination"], &direct.get("next_hop")), (&json!("10.78.0.0/24"), &None));
    let learned = shown("forwarding_entry", "0/00:1b:21:a4:c3:99");
    assert_eq!(
        (&learned["status"], &learned["interface"], &learned.get("database")),
        (&json!("learned"), &json!("lo"), &None)
    );
    assert_eq!(kept.of("forwarding_entry").len(), 1, "an invalid entry is none: {:#?}", kept.of("forwarding_entry"));
    // The machine's own packages, as snmpd reads them of dpkg or rpm.
    let packages = kept.of("package");
    assert!(packages.len() > 10 && packages.iter().all(|package| package["name"].is_string()), "{packages:?}");
    assert!(packages.iter().any(|package| package["kind"] == "application"), "{packages:?}");
    let lo = node("interface", "lo");
    let v1 = node("interface", "v1");
    for edge in [
        format!("{} attached_to {v1}", node("arp_entry", "v1/10.99.0.77")),
        format!("{} routes_to {v1}", node("route", "10.77.0.0/16 via 10.99.0.1 on v1")),
        format!("{} routes_to {v1}", node("route", "10.78.0.0/24 on v1")),
        format!("{} attached_to {lo}", node("forwarding_entry", "0/00:1b:21:a4:c3:99")),
    ] {
        assert!(kept.edges.contains(&edge), "{edge} is not in {:#?}", kept.edges);
    }
    for table in ["interfaces", "arp", "routes", "forwarding", "software"] {
        assert_eq!(kept.verdict(&format!("snmp:{id}:{table}")), "complete", "{table}: {:?}", kept.scopes);
    }
}
