//! What grants give at a host against a naive reading of each of them.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NETWORKS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "2001:db8::/32"];
/// One address in each part that these networks make of the world.
const ADDRESSES: [&str; 5] = ["10.1.2.3", "10.2.0.1", "192.168.1.1", "2001:db8::7", "203.0.113.9"];

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn given(id: u128, networks: &[&str], extensions: Option<&[SshExtension]>, command: Option<&str>) -> SshGiven {
    let terms = SshTerms {
        networks: networks.iter().map(|text| network(text)).collect(),
        extensions: extensions.map(|some| some.iter().copied().collect()),
        command: command.map(str::to_owned),
    };
    SshGiven { grant: GrantId::from_uuid(Uuid::from_u128(id)), terms, until: None }
}

fn held(ssh: Vec<SshGiven>) -> Held {
    let grants = ssh.iter().map(|given| given.grant).collect();
    Held { namespaces: None, until: None, lent: BTreeSet::new(), ssh, grants }
}

fn all_allowed() -> SshBounds {
    SshBounds { networks: Vec::new(), extensions: SshExtension::ALL.into() }
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    ADDRESSES.into_iter().map(|text| text.parse().unwrap())
}

/// Whether one grant of them gives this at an address.
fn gives(
    held: &Held,
    bounds: &SshBounds,
    from: IpAddr,
    command: Option<&String>,
    extension: Option<SshExtension>,
) -> bool {
    let lets = bounds.networks.is_empty() || bounds.networks.iter().any(|network| network.contains(from));
    lets && held.ssh.iter().any(|given| {
        let terms = &given.terms;
        (terms.networks.is_empty() || terms.networks.iter().any(|network| network.contains(from)))
            && terms.command.as_ref() == command
            && extension.is_none_or(|extension| {
                bounds.extensions.contains(&extension)
                    && terms.extensions.as_ref().is_none_or(|lent| lent.contains(&extension))
            })
    })
}

fn some_networks() -> impl Strategy<Value = BTreeSet<Network>> {
    proptest::sample::subsequence(&NETWORKS[..], 0..3).prop_map(|some| some.into_iter().map(network).collect())
}

fn some_extensions() -> impl Strategy<Value = BTreeSet<SshExtension>> {
    proptest::sample::subsequence(&SshExtension::ALL[..], 0..=5).prop_map(|some| some.into_iter().collect())
}

fn any_given() -> impl Strategy<Value = SshGiven> {
    let command = proptest::option::weighted(0.3, prop_oneof![Just("backup"), Just("restart")]);
    let until = proptest::option::of((1i64..5).prop_map(Timestamp::from_millis));
    (any::<u128>(), some_networks(), proptest::option::of(some_extensions()), command, until).prop_map(
        |(id, networks, extensions, command, until)| SshGiven {
            grant: GrantId::from_uuid(Uuid::from_u128(id)),
            terms: SshTerms { networks, extensions, command: command.map(str::to_owned) },
            until,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn attack_ssh_grants_of_several_networks_are_never_mixed(
        ssh in proptest::collection::vec(any_given(), 0..5), networks in some_networks(), extensions in some_extensions(), asked in 0usize..6
    ) {
        let (held, bounds) = (held(ssh), SshBounds { networks: networks.into_iter().collect(), extensions });
        for from in addresses() {
            let offer = connection(&held, &bounds, Some(from));
            let any = held.ssh.iter().any(|one| gives(&held, &bounds, from, one.terms.command.as_ref(), None));
            prop_assert_eq!(offer.is_some(), any);
            let Some(offer) = offer else { continue };
            // Whoever may run anything is not held to a command.
            prop_assert_eq!(offer.command.is_none(), gives(&held, &bounds, from, None, None));
            for extension in SshExtension::ALL {
                let lent = gives(&held, &bounds, from, offer.command.as_ref(), Some(extension));
                prop_assert_eq!(offer.extensions.contains(&extension), lent);
            }
            // It stands as long as it says, and by these grants alone.
            let used = SshUse { from: Some(from), takes: Some(SshTaken { extensions: offer.extensions.clone(), command: offer.command.clone() }) };
            let until = offer.until.unwrap_or(FOR_GOOD);
            prop_assert_eq!(stands(&held, &bounds, &used), Some(until));
            let (own, others): (Vec<_>, Vec<_>) = held.ssh.iter().cloned().partition(|one| offer.grants.contains(&one.grant));
            prop_assert_eq!(stands(&self::held(own.clone()), &bounds, &used), Some(until));
            prop_assert_eq!(stands(&self::held(others), &bounds, &used), None);
            if let Some(until) = offer.until {
                let left = own.into_iter().filter(|one| one.until.is_none_or(|end| end >= until)).collect();
                prop_assert!(stands(&self::held(left), &bounds, &used).is_some(), "it holds until its end");
            }
        }
        let asked = addresses().nth(asked);
        let offer = certificate(&held, &bounds, asked);
        prop_assert_eq!(offer.is_some(), addresses().any(|from| connection(&held, &bounds, Some(from)).is_some()));
        if let Some(offer) = offer {
            let mut anywhere = false;
            for from in addresses() {
                if !offer.networks.is_empty() && !offer.networks.iter().any(|network| network.contains(from)) {
                    continue;
                }
                anywhere = true;
                prop_assert!(gives(&held, &bounds, from, offer.command.as_ref(), None), "{from} {offer:?}");
                for extension in &offer.extensions {
                    prop_assert!(gives(&held, &bounds, from, offer.command.as_ref(), Some(*extension)), "{from} {offer:?}");
                }
            }
            prop_assert!(anywhere, "{offer:?}");
        }
    }
}

#[test]
fn attack_ssh_what_an_office_lends_is_not_lent_elsewhere() {
    let home = given(1, &[], Some(&[SshExtension::Pty]), None);
    let office = given(2, &["10.0.0.0/8"], Some(&[SshExtension::Pty, SshExtension::AgentForwarding]), None);
    let (both, bounds) = (held(vec![home, office.clone()]), all_allowed());
    let at =
        |from: Option<&str>| connection(&both, &bounds, from.map(|text| text.parse().unwrap())).unwrap().extensions;
    assert_eq!(at(Some("203.0.113.9")), [SshExtension::Pty].into());
    assert_eq!(at(None), [SshExtension::Pty].into(), "from nobody knows where");
    assert_eq!(at(Some("10.1.1.1")), [SshExtension::AgentForwarding, SshExtension::Pty].into());
    // A certificate that lends what the office does is good in the office only.
    let made = certificate(&both, &bounds, Some("10.1.1.1".parse().unwrap())).unwrap();
    assert_eq!((made.networks, made.extensions.len()), (vec![network("10.0.0.0/8")], 2));
    let made = certificate(&both, &bounds, Some("203.0.113.9".parse().unwrap())).unwrap();
    assert_eq!((made.networks, made.extensions.len()), (Vec::new(), 1));
    // Who asks from elsewhere gets one for the office: only the host knows from where they come.
    let only = held(vec![office]);
    let made = certificate(&only, &bounds, Some("203.0.113.9".parse().unwrap())).unwrap();
    assert_eq!((made.networks, made.extensions.len()), (vec![network("10.0.0.0/8")], 2));
    assert_eq!(connection(&only, &bounds, Some("203.0.113.9".parse().unwrap())), None);
    // The host's own networks count for every grant.
    let narrow = SshBounds { networks: vec![network("10.1.0.0/16"), network("192.168.0.0/16")], ..bounds };
    assert_eq!(certificate(&only, &narrow, None).unwrap().networks, vec![network("10.1.0.0/16")]);
    assert_eq!(connection(&only, &narrow, Some("10.2.0.1".parse().unwrap())), None);
    let apart = SshBounds { networks: vec![network("192.168.0.0/16")], ..narrow };
    assert_eq!(certificate(&only, &apart, None), None);
}

#[test]
fn attack_ssh_a_forced_command_is_forced_with_what_its_grants_lend() {
    let backup = given(2, &[], Some(&[SshExtension::PortForwarding]), Some("backup"));
    let restart = given(1, &[], None, Some("restart"));
    let shell = given(3, &["10.0.0.0/8"], Some(&[SshExtension::Pty]), None);
    let (all, bounds) = (held(vec![backup.clone(), restart, shell]), all_allowed());
    let elsewhere = connection(&all, &bounds, Some("203.0.113.9".parse().unwrap())).unwrap();
    assert_eq!(elsewhere.command.as_deref(), Some("restart"), "the oldest grant's");
    let office = connection(&all, &bounds, Some("10.1.1.1".parse().unwrap())).unwrap();
    assert_eq!((office.command, office.extensions), (None, [SshExtension::Pty].into()), "and no ports with a shell");
    // Taking the shell's grant ends a session with a shell, and not one that runs the command.
    let left = held(vec![backup]);
    let used = |command: Option<&str>| SshUse {
        from: Some("10.1.1.1".parse().unwrap()),
        takes: Some(SshTaken { extensions: BTreeSet::new(), command: command.map(str::to_owned) }),
    };
    assert_eq!(stands(&left, &bounds, &used(None)), None);
    assert_eq!(stands(&left, &bounds, &used(Some("backup"))), Some(FOR_GOOD));
    // What a host does not allow any more ends, too.
    let agent = SshUse {
        takes: Some(SshTaken { extensions: [SshExtension::PortForwarding].into(), command: Some("backup".to_owned()) }),
        ..used(None)
    };
    assert_eq!(stands(&left, &bounds, &agent), Some(FOR_GOOD));
    assert_eq!(stands(&left, &SshBounds::default(), &agent), None);
}
