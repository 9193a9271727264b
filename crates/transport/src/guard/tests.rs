//! Which addresses are refused, in every form, and what opens them.

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn attack_25_outside_of_its_networks_nothing_is_a_target_whatever_else_is_allowed() {
    let network = |text: &str| text.parse::<Network>().unwrap();
    let guard = Guard::loopback(true).allowing([network("169.254.0.0/16")]).within(&[network("10.0.0.0/8")]);
    for (address, allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("192.0.2.7", false),
        ("127.0.0.1", false),
        ("169.254.1.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(guard.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
    }
    let both = Guard::default().within(&[network("127.0.0.0/8")]);
    assert!(both.check("127.0.0.1".parse().unwrap()).is_err(), "inside of them it is as special as before");
}

#[test]
fn attack_64_special_addresses_are_refused_in_every_form_that_leads_to_them() {
    for (text, expect) in [
        ("169.254.169.254", Special::Metadata),
        ("::ffff:a9fe:a9fe", Special::Metadata),
        ("::a9fe:a9fe", Special::Metadata),
        ("64:ff9b::a9fe:a9fe", Special::Metadata),
        ("2002:a9fe:a9fe::1", Special::Metadata),
        ("fd00:ec2::254", Special::Metadata),
        ("fe80::a9fe:a9fe", Special::Metadata),
        ("169.254.170.2", Special::Metadata),
        ("168.63.129.16", Special::Metadata),
        ("100.100.100.200", Special::Metadata),
        ("127.0.0.1", Special::Loopback),
        ("127.255.0.9", Special::Loopback),
        ("::1", Special::Loopback),
        ("::ffff:127.0.0.1", Special::Loopback),
        ("::127.0.0.1", Special::Loopback),
        ("169.254.0.1", Special::LinkLocal),
        ("fe80::1", Special::LinkLocal),
        ("0.0.0.0", Special::Unspecified),
        ("0.1.2.3", Special::Unspecified),
        ("::", Special::Unspecified),
        ("::ffff:0.0.0.0", Special::Unspecified),
        ("224.0.0.1", Special::Multicast),
        ("ff02::1", Special::Multicast),
        ("255.255.255.255", Special::Broadcast),
        ("::ffff:255.255.255.255", Special::Broadcast),
    ] {
        let refused = Guard::default().check(ip(text)).unwrap_err();
        assert_eq!(refused.special, expect, "{text}");
    }
    for ordinary in ["10.0.0.1", "192.168.1.1", "203.0.113.9", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
        assert_eq!(Guard::default().check(ip(ordinary)), Ok(()), "{ordinary}");
    }
}

#[test]
fn attack_64_no_policy_opens_a_service_of_the_installation_and_only_the_installation_does() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let services = Services::here([8443, 0]).elsewhere([at("10.9.8.7:5432"), at("[fd00::9]:5432")]);
    let all = ["127.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap());
    let guard = Guard::loopback(true).allowing(all).keeping_from(services.clone());
    for refused in [
        "127.0.0.1:8443",
        "127.9.9.9:8443",
        "[::1]:8443",
        "[::ffff:127.0.0.1]:8443",
        "10.9.8.7:5432",
        "[::ffff:10.9.8.7]:5432",
        "[64:ff9b::10.9.8.7]:5432",
        "[fd00::9]:5432",
    ] {
        assert_eq!(guard.check_at(at(refused)).unwrap_err().special, Special::Service, "{refused}");
    }
    for ordinary in ["127.0.0.1:22", "10.9.8.7:22", "10.9.8.8:5432", "192.0.2.9:8443"] {
        assert_eq!(guard.check_at(at(ordinary)), Ok(()), "{ordinary}");
    }
    assert!(guard.check_host("0x7f.1", 8443).is_err() && guard.check_host("localhost", 22).is_ok());
    let opened = guard.keeping_from(services.but(&[at("10.9.8.7:5432")]));
    assert!(opened.check_at(at("10.9.8.7:5432")).is_ok() && opened.check_at(at("127.0.0.1:8443")).is_err());
}

#[tokio::test]
async fn attack_64_a_service_of_the_installation_is_not_connected_to_by_any_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let guard = Guard::loopback(true).keeping_from(Services::here([port]));
    for host in ["localhost", "127.0.0.1"] {
        let refused = guard.connect(host, port, Duration::from_secs(5)).await.unwrap_err().to_string();
        assert!(refused.contains("a service of this installation") && refused.contains("own_targets"), "{refused}");
        assert!(guard.check_elsewhere(host, port).await.is_err());
    }
    assert!(Guard::loopback(true).connect("localhost", port, Duration::from_secs(5)).await.is_ok());
}

#[test]
fn attack_64_what_a_tunnel_or_a_translator_on_the_way_leads_to_is_judged() {
    let (metadata, loopback) = (Special::Metadata, Special::Loopback);
    for (text, expect) in [
        // Local NAT64, with the address at each place that RFC 6052 has for it.
        ("64:ff9b:1::169.254.169.254", metadata),
        ("64:ff9b:1::127.0.0.1", loopback),
        ("64:ff9b:1:fffe::169.254.169.254", metadata),
        ("64:ff9b:1:a9fe:a9:fe00::", metadata),
        ("64:ff9b:1:7f00:0:100::", loopback),
        ("64:ff9b:1:a9:fe:a9fe::", metadata),
        ("64:ff9b:1:7f:0:1::", loopback),
        ("64:ff9b:1:0:a9:fea9:fe00:0", metadata),
        ("64:ff9b:1:0:7f:0:100:0", loopback),
        // Teredo: the client, whose bits are turned over, and the server.
        ("2001:0:c000:22d:8000:63bf:5601:5601", metadata),
        ("2001:0:c000:22d:8000:63bf:80ff:fffe", loopback),
        ("2001:0:a9fe:a9fe:8000:63bf:3fff:fdd2", metadata),
        // ISATAP behind any prefix.
        ("2001:db8::5efe:169.254.169.254", metadata),
        ("2001:db8::5efe:127.0.0.1", loopback),
        ("2001:db8::200:5efe:169.254.169.254", metadata),
        ("2001:db8::200:5efe:127.0.0.1", loopback),
        ("fe80::5efe:169.254.169.254", metadata),
        ("fe80::200:5efe:10.0.0.1", Special::LinkLocal),
        // Translated.
        ("::ffff:0:169.254.169.254", metadata),
        ("::ffff:0:127.0.0.1", loopback),
    ] {
        assert_eq!(Guard::default().check(ip(text)).unwrap_err().special, expect, "{text}");
        assert_eq!(special(ip(text)), Some(expect), "{text}");
    }
    for ordinary in [
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1:a00:0:100::",
        "2001:0:c000:22d:8000:63bf:3fff:fdd2",
        "2001:db8::5efe:10.0.0.1",
    ] {
        assert_eq!(Guard::default().check(ip(ordinary)), Ok(()), "{ordinary}");
    }
    // Who may reach neighbours does not reach a metadata service by them.
    let neighbours = Guard::default().allowing(["fe80::/10".parse().unwrap()]);
    assert!(neighbours.check(ip("fe80::5efe:169.254.169.254")).is_err());
    assert_eq!(neighbours.check(ip("fe80::5efe:10.0.0.1")), Ok(()));
    assert!(allowable(&"64:ff9b:1::127.0.0.1".parse().unwrap()).is_err());
}

#[test]
fn a_tenants_policy_allows_what_it_names_and_never_a_group_of_machines() {
    let guard = |networks: &[&str]| Guard::default().allowing(networks.iter().map(|text| text.parse().unwrap()));
    let link_local = guard(&["169.254.0.0/16", "127.0.0.0/8"]);
    assert_eq!(link_local.check(ip("169.254.7.7")), Ok(()));
    assert_eq!(link_local.check(ip("::ffff:127.0.0.1")), Ok(()));
    assert!(link_local.check(ip("::1")).is_err(), "the other family was not named");
    assert!(link_local.check(ip("169.254.169.254")).is_err(), "a metadata service is not allowed by the way");
    assert_eq!(guard(&["169.254.169.254/32"]).check(ip("64:ff9b::a9fe:a9fe")), Ok(()));
    assert_eq!(guard(&["fd00:ec2::254"]).check(ip("fd00:ec2::254")), Ok(()));
    let all = guard(&["0.0.0.0/0", "::/0"]);
    for never in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        assert!(all.check(ip(never)).is_err(), "{never}");
    }
    assert!(
        Guard::loopback(true).check(ip("127.0.0.1")).is_ok() && Guard::loopback(true).check(ip("fe80::1")).is_err()
    );
}

#[test]
fn attack_64_on_a_server_a_tenant_allows_no_more_than_the_installation_does() {
    let networks = |texts: &[&str]| -> Vec<Network> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let guard = |tenant: &[&str], server: &[&str]| Guard::default().allowing(networks(tenant)).up_to(&networks(server));
    for (tenant, server, address, allowed) in [
        (&["127.0.0.0/8"][..], &["127.0.0.0/8"][..], "127.0.0.1", true),
        (&["127.0.0.1"], &["127.0.0.0/8"], "127.0.0.1", true),
        (&["127.0.0.0/8"], &["127.0.0.9"], "127.0.0.9", true),
        (&["127.0.0.0/8"], &["127.0.0.9"], "127.0.0.1", false),
        (&["127.0.0.0/8"], &[], "127.0.0.1", false),
        (&[], &["127.0.0.0/8"], "127.0.0.1", false),
        (&["169.254.169.254"], &["169.254.0.0/16"], "169.254.169.254", false),
        (&["169.254.0.0/16"], &["169.254.169.254"], "169.254.169.254", false),
        (&["169.254.169.254"], &["169.254.169.254"], "::ffff:169.254.169.254", true),
    ] {
        let checked = guard(tenant, server).check(ip(address));
        assert_eq!(checked.is_ok(), allowed, "{tenant:?} {server:?} {address}: {checked:?}");
    }
    let says = |tenant: &[&str]| guard(tenant, &[]).check(ip("127.0.0.1")).unwrap_err().to_string();
    assert!(says(&["127.0.0.1"]).contains("`discovery.special_targets` does not"));
    assert!(says(&[]).contains("the tenant's target policy does not name it"));
}

#[test]
fn a_policy_names_special_networks_and_nothing_by_the_way() {
    let checked = |text: &str| allowable(&text.parse().unwrap());
    for good in [
        "127.0.0.1",
        "127.0.0.0/8",
        "127.8.0.0/16",
        "::1",
        "169.254.0.0/16",
        "169.254.169.254",
        "fe80::/10",
        "fe80::1",
        "fd00:ec2::254",
        "168.63.129.16",
    ] {
        assert_eq!(checked(good), Ok(()), "{good}");
    }
    for (bad, part) in [
        ("0.0.0.0/0", "never a target"),
        ("::/0", "never a target"),
        ("224.0.0.1", "never a target"),
        ("255.255.255.255", "never a target"),
        ("10.0.0.0/8", "not special"),
        ("126.0.0.0/7", "not special"),
        ("168.63.129.16/31", "not special"),
        ("fd00:ec2::/32", "not special"),
        ("192.0.2.1", "not special"),
        ("64:ff9b::7f00:1", "name the IPv4 address"),
        ("2002:7f00:1::", "name the IPv4 address"),
    ] {
        assert!(checked(bad).is_err_and(|why| why.contains(part)), "{bad}: {:?}", checked(bad));
    }
}

#[tokio::test]
async fn attack_64_names_and_odd_spellings_are_judged_by_where_they_lead() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost", "localhost.", "0x7f000001", "2130706433", "127.1", "::1", "127.0.0.1"] {
        let error = Guard::default().connect(host, port, Duration::from_secs(5)).await.unwrap_err();
        // Not every resolver knows `localhost` with its dot: then it leads nowhere.
        let unknown = host == "localhost." && matches!(error, CallError::Unreachable(_));
        assert!(unknown || matches!(error, CallError::Denied(_)), "{host}: {error}");
    }
    let guard = Guard::loopback(true);
    let connecting = guard.connect("127.0.0.1", port, Duration::from_secs(5));
    let (stream, _) = tokio::join!(connecting, listener.accept());
    assert_eq!(stream.unwrap().peer_addr().unwrap().port(), port);
}

#[tokio::test]
async fn attack_64_a_host_that_somebody_else_resolves_is_judged_in_every_spelling() {
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "169.254.169.254",
        "169.254.43518",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "0",
        "localhost.localdomain",
        "ip6-localhost",
        "metadata.google.internal.",
    ] {
        let refused = Guard::default().check_elsewhere(host, 22).await;
        assert!(matches!(refused, Err(CallError::Denied(_))), "{host}: {refused:?}");
    }
    // A name of nobody is for the other side to resolve, unless this side's networks are limited.
    let unknown = "a-host-behind-the-jump-host.invalid";
    assert_eq!(Guard::default().check_elsewhere(unknown, 22).await.unwrap(), unknown);
    assert_eq!(Guard::default().check_elsewhere("10.1", 22).await.unwrap(), "10.1");
    // Then it is told the address that was judged: a name may lead elsewhere there, or at the next moment.
    let limited = Guard::default().within(&["10.0.0.0/8".parse().unwrap()]);
    for (host, place) in [
        (unknown, None),
        ("10.1", Some("10.0.0.1")),
        ("167837955", Some("10.1.1.3")),
        ("10.1.2.3", Some("10.1.2.3")),
        ("192.0.2.1", None),
    ] {
        assert_eq!(limited.check_elsewhere(host, 22).await.ok().as_deref(), place, "{host}");
    }
    let near = Guard::default().within(&["127.0.0.0/8".parse().unwrap()]).allowing(["127.0.0.0/8".parse().unwrap()]);
    assert_eq!(near.check_elsewhere("localhost", 22).await.unwrap(), "127.0.0.1");
    // What the tenant's policy names may be one here, too.
    let policy = Guard::default().allowing(["127.0.0.0/8".parse().unwrap()]);
    for host in ["localhost", "127.1", "0x7f000001"] {
        assert!(policy.check_elsewhere(host, 22).await.is_ok(), "{host}");
    }
}

#[test]
fn what_is_no_address_in_any_spelling_is_none() {
    for name in [
        "",
        ".",
        "a",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "1.16777216",
        "4294967296",
        "0x",
        "08",
        "1..2",
        "+1",
        "web-1.example",
        "0xg",
    ] {
        assert_eq!(spelled(name), None, "{name}");
    }
    for (text, address) in
        [("10.1", "10.0.0.1"), ("10.1.2", "10.1.0.2"), ("010.1", "8.0.0.1"), ("1.16777215", "1.255.255.255")]
    {
        assert_eq!(spelled(text), Some(ip(address)), "{text}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_alike_in_each_of_its_forms(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        let expect = special(v4.into());
        prop_assert_eq!(special(v4.to_ipv6_mapped().into()), expect);
        prop_assert_eq!(special(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), expect);
        prop_assert_eq!(special(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()), expect);
        prop_assert_eq!(special(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low).into()), expect);
        prop_assert_eq!(special(Ipv6Addr::new(0x2001, 0, 0xc000, 0x22d, 0, 0, !high, !low).into()), expect);
        prop_assert_eq!(special(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0x5efe, high, low).into()), expect);
        // In its other places there may be more that is special.
        for place in [
            Ipv6Addr::new(0x64, 0xff9b, 1, high, c, d << 8, 0, 0),
            Ipv6Addr::new(0x64, 0xff9b, 1, a, b, low, 0, 0),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, a, b << 8 | c, d << 8, 0),
        ] {
            let refused = special(place.into());
            prop_assert!(refused.is_some() || expect.is_none() || expect == Some(Special::Unspecified));
        }
    }
}
