//! What a scan job is told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::{Error, Network, Result};
use serde_json::Value;
use transport::guard::special;
use transport::scan::{ONLY_PRIVATE, is_private};

use crate::{JobConfig, Setting, SettingKind, setting};

/// Most targets of a job.
const TARGETS: usize = 64;
/// Largest target: a /12 of IPv4, a /108 of IPv6.
const HOST_BITS: u8 = 20;
/// Most excluded networks.
const EXCLUDED: usize = 256;
/// Probes per second: unless told otherwise, at least, at most.
const RATE: (u32, i64, i64) = (10_000, 10, 1_000_000);
/// Ports of `common`: remote access, web, mail, files, directories, databases, queues, orchestration, monitoring, industry.
pub(super) const COMMON: &[u16] = &[
    21, 22, 23, 25, 53, 79, 80, 81, 88, 102, 110, 111, 113, 119, 135, 139, 143, 161, 179, 389, 427, 443, 445, 464, 465,
    502, 512, 513, 514, 515, 543, 544, 548, 554, 587, 593, 631, 636, 646, 873, 902, 993, 995, 1080, 1099, 1433, 1521,
    1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3000, 3128, 3260, 3268, 3269, 3306, 3389, 4369, 4786, 5000, 5060,
    5432, 5555, 5601, 5671, 5672, 5900, 5901, 5984, 5985, 5986, 6000, 6379, 6443, 7001, 8000, 8008, 8080, 8081, 8086,
    8200, 8443, 8500, 8888, 9000, 9042, 9090, 9092, 9100, 9200, 9300, 9418, 10000, 10250, 11211, 15672, 20000, 27017,
    44818, 47808,
];
/// Beside the common ones, ports of `well-known`: the system ports of RFC 6335.
const WELL_KNOWN: std::ops::RangeInclusive<u16> = 1..=1_023;
/// Ports that are asked for TLS when they are open.
pub(super) const TLS: &[u16] =
    &[443, 465, 636, 993, 995, 2376, 2379, 3269, 5671, 5986, 6443, 8200, 8443, 8883, 9443, 10250];
/// How addresses are found.
const WAYS: &[&str] = &["icmp", "tcp"];
/// Ports by which addresses are looked for that do not answer to ICMP.
pub(super) const SWEEP: &[u16] = &[22, 80, 443, 445, 3389];

pub(super) const SETTINGS: &[Setting] = &[
    Setting::required(
        "targets",
        SettingKind::List,
        "private networks and addresses to scan, at most 64 that do not overlap, each of at most 1,048,576 addresses (a /12)",
        "10.20.0.0/16,192.168.7.9",
    ),
    Setting::optional(
        "site",
        SettingKind::Text,
        "where the networks are: the region of node ids, 1 to 64 printable characters without `:`; default `local`",
        "fra1",
    ),
    Setting::optional(
        "exclude",
        SettingKind::List,
        "networks and addresses that get no packet; default none",
        "10.20.3.0/24",
    ),
    Setting::optional(
        "ports",
        SettingKind::List,
        "ports to look for: `common` (105 ports), `well-known` (1 to 1023 and the common ones), numbers and ranges; default `common`",
        "common,8000-8100",
    ),
    Setting::optional(
        "tls_ports",
        SettingKind::List,
        "open ports to ask for TLS beside the known ones; they get a TLS hello, so name none that a printer or controller has; default none",
        "9443",
    ),
    Setting::optional(
        "discovery",
        SettingKind::SomeOf(WAYS),
        "how addresses are found: `icmp`, `tcp` (ports 22, 80, 443, 445, 3389) or both; default both",
        "tcp",
    ),
    Setting::optional(
        "rate",
        SettingKind::Number { least: RATE.1, most: RATE.2 },
        "most probes per second, 10 to 1,000,000; default 10,000",
        "2000",
    ),
];

/// Settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) site: String,
    pub(super) targets: Vec<Network>,
    pub(super) exclude: Vec<Network>,
    pub(super) ports: Vec<u16>,
    pub(super) tls_ports: BTreeSet<u16>,
    pub(super) icmp: bool,
    pub(super) tcp: bool,
    pub(super) rate: u32,
}

fn wrong(key: &'static str, why: impl std::fmt::Display) -> Error {
    Error::invalid(key, format!("`{key}` {why}"))
}

fn networks(key: &'static str, value: &Value, max: usize) -> Result<Vec<Network>> {
    let words = setting::words(key, value)?;
    if words.len() > max {
        return Err(wrong(key, format!("names {} networks: name at most {max}", words.len())));
    }
    words
        .iter()
        .map(|word| word.parse::<Network>().map_err(|error| wrong(key, format!("does not fit: {error}"))))
        .collect()
}

fn ports(key: &'static str, value: &Value) -> Result<BTreeSet<u16>> {
    let mut out = BTreeSet::new();
    for word in setting::words(key, value)? {
        let shown = word.escape_debug();
        let bad =
            || wrong(key, format!("has `{shown}`: use port numbers from 1 to 65535 and ranges such as `8000-8100`"));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
        match word.split_once('-') {
            _ if word == "common" && key == "ports" => out.extend(COMMON),
            _ if word == "well-known" && key == "ports" => out.extend(WELL_KNOWN.chain(COMMON.iter().copied())),
            None => {
                out.insert(number(&word)?);
            }
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(bad());
                }
                out.extend(first..=last);
            }
        }
    }
    Ok(out)
}

impl Config {
    pub(super) fn read(config: &JobConfig) -> Result<Self> {
        setting::check("network-scan", SETTINGS, config)?;
        let named = |key: &'static str, max| match config.get(key) {
            Some(value) => networks(key, value, max),
            None => Ok(Vec::new()),
        };
        let ways = setting::some_of(config, "discovery", WAYS)?;
        let mut out = Self {
            site: setting::site(config)?,
            targets: named("targets", TARGETS)?,
            exclude: named("exclude", EXCLUDED)?,
            ports: match config.get("ports") {
                Some(value) => ports("ports", value)?.into_iter().collect(),
                None => COMMON.to_vec(),
            },
            tls_ports: TLS.iter().copied().collect(),
            icmp: ways.iter().any(|way| way == "icmp"),
            tcp: ways.iter().any(|way| way == "tcp"),
            rate: setting::number(config, "rate", RATE.0),
        };
        if let Some(value) = config.get("tls_ports") {
            out.tls_ports.extend(ports("tls_ports", value)?);
        }
        out.targets.sort();
        for (at, target) in out.targets.iter().enumerate() {
            if target.host_bits() > HOST_BITS {
                return Err(wrong("targets", format!("has `{target}`, more than 1048576 addresses: split it")));
            }
            // Whether a special address may be a target is decided where the scan runs.
            if !is_private(target) && special(target.first()).is_none() {
                return Err(wrong("targets", format!("has `{target}`, which is not private: {ONLY_PRIVATE}")));
            }
            let overlaps = |other: &Network| target.contains(other.first()) || other.contains(target.first());
            if let Some(other) = out.targets.iter().skip(at + 1).find(|other| overlaps(other)) {
                return Err(wrong("targets", format!("has `{target}` and `{other}`, which overlap: leave one out")));
            }
        }
        Ok(out)
    }

    /// The addresses of a target that get packets, ascending: not its network and broadcast addresses, not what is excluded.
    pub(super) fn addresses<'c>(&'c self, target: &Network) -> impl Iterator<Item = IpAddr> + use<'c> {
        let (first, bits) = (target.first(), u32::from(target.host_bits().min(HOST_BITS)));
        let count = 1u32 << bits;
        let edge = u32::from(first.is_ipv4() && bits > 1);
        // The all-routers address of an IPv6 subnet is its first (RFC 4291, section 2.6.1).
        let (from, to) = if first.is_ipv6() && bits > 1 { (1, count) } else { (edge, count - edge) };
        (from..to)
            .map(move |offset| match first {
                IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + offset)),
                IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + u128::from(offset))),
            })
            .filter(|address| !self.exclude.iter().any(|network| network.contains(*address)))
    }

    /// What decides which nodes a complete scan of a target shows, beside the target: a scan that looks for less closes nothing of another.
    pub(super) fn extent(&self, kind: &str) -> String {
        let addresses = format!("{:?} {} {}", self.exclude, self.icmp, self.tcp);
        match kind {
            "addresses" => addresses,
            _ => format!("{addresses} {:?} {:?}", self.ports, self.tls_ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: Value) -> Result<Config> {
        let Value::Object(config) = config else { panic!("an object") };
        Config::read(&config)
    }

    #[test]
    fn settings_are_checked_and_errors_say_what_to_change() {
        for (config, part) in [
            (json!({}), "`targets` is missing: private networks and addresses to scan"),
            (json!({"targets": "10.0.0.1/8"}), "the bits behind the prefix must be zero"),
            (json!({"targets": "10.0.0.0/8"}), "more than 1048576 addresses: split it"),
            (json!({"targets": "fd00::/64"}), "more than 1048576 addresses"),
            (json!({"targets": "8.8.8.8"}), "`8.8.8.8/32`, which is not private: only private networks are scanned"),
            (json!({"targets": "172.0.0.0/12"}), "only private networks"),
            (json!({"targets": "10.0.0.0/16,10.0.7.0/24"}), "which overlap: leave one out"),
            (json!({"targets": "10.0.0.0/16", "ports": "0"}), "port numbers from 1 to 65535"),
            (json!({"targets": "10.0.0.0/16", "ports": "90-80"}), "`90-80`"),
            (json!({"targets": "10.0.0.0/16", "ports": ""}), "is empty"),
            (json!({"targets": "10.0.0.0/16", "rate": 2_000_000}), "from 10 to 1000000"),
            (json!({"targets": "10.0.0.0/16", "discovery": "arp"}), "use some of icmp, tcp"),
            (json!({"targets": "10.0.0.0/16", "site": "a:b"}), "without `:`"),
            (json!({"targets": "10.0.0.0/16", "speed": 1}), "no setting `speed`: it knows targets"),
        ] {
            let error = read(config.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{config}: {error}");
        }
        let config = read(json!({"targets": "10.0.0.0/12", "ports": "443,80-82", "rate": "500"})).unwrap();
        assert_eq!((config.ports, config.rate), (vec![80, 81, 82, 443], 500));
        let known = read(json!({"targets": "10.0.0.0/12", "ports": "well-known,8444"})).unwrap().ports;
        assert_eq!((known.len(), known[1_022], known.contains(&8_444)), (1_086, 1_023, true));
        let refused = read(json!({"targets": "10.0.0.0/12", "tls_ports": "well-known"})).unwrap_err().to_string();
        assert!(refused.contains("`well-known`: use port numbers"), "{refused}");
    }

    #[test]
    fn network_and_broadcast_addresses_and_what_is_excluded_get_no_packet() {
        let config =
            read(json!({"targets": "10.0.0.0/29,10.0.1.0/31,10.0.2.7,fd00::/126", "exclude": "10.0.0.2/31"})).unwrap();
        let all: Vec<String> =
            config.targets.iter().flat_map(|target| config.addresses(target)).map(|ip| ip.to_string()).collect();
        let expect = [
            "10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.0", "10.0.1.1", "10.0.2.7", "fd00::1", "fd00::2",
            "fd00::3",
        ];
        assert_eq!(all, expect);
    }
}
