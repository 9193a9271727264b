//! The names and addresses that this machine is reached by: what the made certificate is good for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::ServerSection;

/// Names (lower case) and addresses, sorted, without duplicates.
pub(crate) type Names = BTreeSet<String>;

/// Whether a certificate can be made for it: an address, or a DNS name whose first label may be `*`.
pub(crate) fn is_valid(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let rest = name.strip_prefix("*.").unwrap_or(name);
    // As clients read names: a last label of digits, for one, would be an address.
    rustls_pki_types::DnsName::try_from(rest).is_ok() && !rest.ends_with('.')
}

/// `localhost`, the loopback addresses, the host's name, the address that is listened on (all of the machine's where it is the
/// unspecified one), and what the configuration adds.
pub(crate) fn of_machine(section: &ServerSection) -> Names {
    let mut names: Names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(host_name());
    let listen = section.listen.ip().to_canonical();
    if listen.is_unspecified() {
        names.extend(interface_addresses().iter().map(IpAddr::to_string));
    } else {
        names.insert(listen.to_string());
    }
    names.extend(section.names.iter().map(|name| name.to_ascii_lowercase()));
    names
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    is_valid(&name).then_some(name)
}

/// The addresses of the machine's interfaces that others can reach it by. What cannot be read is left out: names can be configured.
fn interface_addresses() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = parse_fib_trie(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = parse_if_inet6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// The addresses of type `LOCAL`, each of which follows its address' line. Loopback and link-local ones are left out.
fn parse_fib_trie(text: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.filter(|address| !address.is_loopback() && !address.is_link_local()));
        }
    }
    found
}

/// Global addresses that are neither temporary (RFC 8981), tentative nor deprecated: those change by themselves.
fn parse_if_inet6(text: &str) -> BTreeSet<Ipv6Addr> {
    const UNSTEADY: u32 = 0x01 | 0x20 | 0x40 | 0x08;
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        (scope == 0 && flags & UNSTEADY == 0).then_some(Ipv6Addr::from(address))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_names_and_steady_addresses() {
        let mut section = ServerSection { names: vec!["Cairn.Example.com".to_owned()], ..ServerSection::default() };
        let names = of_machine(&section);
        for name in ["localhost", "127.0.0.1", "::1", "cairn.example.com"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        section.listen = "192.0.2.7:1".parse().unwrap();
        assert!(of_machine(&section).contains("192.0.2.7"));
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n     \
                    |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(parse_fib_trie(trie).into_iter().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 5)]);
        let table = "fe80000000000000000000000000c0de 02 40 20 80 eth0\n20010db8000000000000000000000001 02 40 00 80 eth0\n\
                     20010db8000000000000000000000002 02 40 00 01 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(parse_if_inet6(table).into_iter().collect::<Vec<_>>(), ["2001:db8::1".parse::<Ipv6Addr>().unwrap()]);
        assert!(parse_fib_trie("|-- x\n/32 host LOCAL").is_empty() && parse_if_inet6("x\n\n1 2").is_empty());
    }

    #[test]
    fn what_no_certificate_can_name_is_no_name() {
        for name in ["a", "a.b", "*.a.b", "127.0.0.1", "::1", "xn--bcher-kva.example", "my_host"] {
            assert!(is_valid(name), "{name}");
        }
        for name in [
            "",
            "a..b",
            "-a",
            "a-",
            "*",
            "a.*.b",
            "ü.example",
            "a b",
            "a:1",
            "https://a",
            "123",
            "a.123",
            "a.",
            &"a".repeat(64),
        ] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
