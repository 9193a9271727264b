//! The decision about grants against a naive oracle.
#![allow(clippy::unwrap_used, reason = "test code: where the harness fails, the test fails")]

use std::collections::{BTreeMap, BTreeSet};

use access::grant::{Asker, Held, Place, decide};
use domain::{
    ActAs, DestinationId, DestinationKind, DestinationRole, Grant, GrantId, GroupId, Hours, Labels, Lent, Slug,
    SshExtension, SshTerms, Subject, Target, Timestamp, UserId,
};
use proptest::prelude::*;
use uuid::Uuid;

const HOUR: i64 = 3_600_000;
/// 2026-01-01T00:00:00Z, a Thursday.
const START: i64 = 1_767_225_600_000;

fn user(n: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(n))
}

fn group(n: u128) -> GroupId {
    GroupId::from_uuid(Uuid::from_u128(n))
}

fn destination(n: u128) -> DestinationId {
    DestinationId::from_uuid(Uuid::from_u128(n))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
}

fn grant(id: u128, subject: Subject, target: Target) -> Grant {
    let id = GrantId::from_uuid(Uuid::from_u128(id));
    let role = "view".parse().unwrap();
    let (act_as, ssh) = (ActAs::default(), SshTerms::default());
    Grant { id, subject, approval: false, role, target, namespace: None, hours: None, expires_at: None, act_as, ssh }
}

/// Everything that a test decides about.
#[derive(Debug, Clone)]
struct Case {
    user: UserId,
    groups: BTreeSet<GroupId>,
    is_member: bool,
    kind: DestinationKind,
    labels: Labels,
    grants: Vec<Grant>,
}

impl Case {
    fn decide(&self, now: Timestamp) -> BTreeMap<DestinationRole, Held> {
        let asker = Asker { user: self.user, groups: &self.groups, is_member: self.is_member };
        decide(asker, Place { id: destination(1), kind: self.kind, labels: &self.labels }, &self.grants, now)
    }

    /// Whether a name is lent with a role, in a namespace or everywhere.
    fn lends(&self, role: &DestinationRole, lent: &Lent, now: Timestamp) -> bool {
        let only = |grant: &Grant| Self { grants: vec![grant.clone()], ..self.clone() };
        let is = |grant: &&Grant| grant.act_as == lent.act_as && grant.namespace == lent.namespace;
        self.kind == DestinationKind::Kubernetes
            && self.grants.iter().filter(is).any(|grant| only(grant).oracle(role, lent.namespace.as_ref(), now))
    }

    /// Says of one role in one namespace, in the words of the documentation, whether it is reached; none: outside of all namespaces.
    fn oracle(&self, role: &DestinationRole, namespace: Option<&Slug>, now: Timestamp) -> bool {
        if !self.is_member {
            return false;
        }
        for grant in &self.grants {
            let mine = match grant.subject {
                Subject::User(user) => user == self.user,
                Subject::Group(group) => self.groups.iter().any(|own| *own == group),
            };
            let here = match &grant.target {
                Target::Destination(id) => *id == destination(1),
                Target::Labels(wanted) => {
                    let own: Vec<_> = self.labels.as_map().iter().collect();
                    self.kind != DestinationKind::Set
                        && wanted.as_map().iter().all(|pair| own.contains(&pair))
                        && !wanted.as_map().is_empty()
                }
                Target::Set { id, .. } if self.kind == DestinationKind::Set => *id == destination(1),
                Target::Set { hosts, .. } => {
                    let own: Vec<_> = self.labels.as_map().iter().collect();
                    self.kind == DestinationKind::Ssh
                        && hosts.as_map().iter().all(|pair| own.contains(&pair))
                        && !hosts.as_map().is_empty()
                }
            };
            let there = match (&grant.namespace, namespace, self.kind) {
                (None, _, _) => true,
                (Some(_), _, DestinationKind::Ssh | DestinationKind::Set) | (Some(_), None, _) => false,
                (Some(given), Some(asked), DestinationKind::Kubernetes) => given == asked,
            };
            let alive = grant.expires_at.is_none_or(|end| now < end);
            let open = grant.hours.as_ref().is_none_or(|hours| hours.until(now).is_some());
            // What says how hosts are reached gives nothing in a cluster, where nothing would keep it.
            let kept = self.kind != DestinationKind::Kubernetes || grant.ssh.is_empty();
            // A namespace's own role is one of a namespace of a cluster.
            let own = grant.role.as_str() == "role:own";
            let kept = kept && (!own || grant.namespace.is_some() && self.kind == DestinationKind::Kubernetes);
            // What somebody else has to approve first gives nothing.
            let at_once = !grant.approval;
            if mine && here && there && alive && open && kept && at_once && grant.role == *role {
                return true;
            }
        }
        false
    }
}

fn allows(held: &BTreeMap<DestinationRole, Held>, role: &DestinationRole, namespace: Option<&Slug>) -> bool {
    held.get(role).is_some_and(|held| match (&held.namespaces, namespace) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(names), Some(name)) => names.contains(name),
    })
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let subject =
        prop_oneof![(0u128..3).prop_map(|n| Subject::User(user(n))), (0u128..3).prop_map(|n| Subject::Group(group(n)))];
    let target = prop_oneof![
        (0u128..3).prop_map(|n| Target::Destination(destination(n))),
        any_labels().prop_map(Target::Labels),
        (0u128..3, any_labels()).prop_map(|(n, hosts)| Target::Set { id: destination(n), hosts }),
    ];
    let hours = proptest::option::of(prop_oneof![
        Just("thu 08:00-18:00"),
        Just("thu-fri 22:00-06:00 +02:00"),
        Just("mon-sun 00:00-24:00"),
        Just("sat 00:00-24:00")
    ]);
    let role = prop_oneof![Just("view"), Just("edit"), Just("role:own")];
    let namespace = proptest::option::of(prop_oneof![Just("shop"), Just("pay")]);
    let lent = proptest::option::weighted(0.3, prop_oneof![Just("bob"), Just("eve")]);
    let terms = proptest::option::weighted(0.2, Just([SshExtension::Pty].into()));
    let terms_and_approval = (terms, proptest::bool::weighted(0.2));
    (subject, target, role, namespace, hours, proptest::option::of(-3i64..60), lent, any::<u128>(), terms_and_approval)
        .prop_map(|(subject, target, role, namespace, hours, expires, lent, id, (terms, approval))| Grant {
            id: GrantId::from_uuid(Uuid::from_u128(id)),
            subject,
            approval,
            role: role.parse().unwrap(),
            target,
            namespace: namespace.map(|name| name.parse().unwrap()),
            hours: hours.map(|text| text.parse::<Hours>().unwrap()),
            expires_at: expires.map(|hours| Timestamp::from_millis(START + hours * HOUR)),
            act_as: ActAs { users: lent.into_iter().map(|name| name.parse().unwrap()).collect(), ..ActAs::default() },
            ssh: SshTerms { extensions: terms, ..SshTerms::default() },
        })
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let value = || proptest::option::of(prop_oneof![Just("prod"), Just("test")]);
    (value(), value()).prop_map(|(env, tier)| {
        let pairs = [("env", env), ("tier", tier)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Labels::new(pairs.collect()).unwrap()
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    let groups = proptest::collection::btree_set((0u128..3).prop_map(group), 0..3);
    let kind = prop_oneof![4 => Just(DestinationKind::Kubernetes), 2 => Just(DestinationKind::Ssh), 1 => Just(DestinationKind::Set)];
    let grants = proptest::collection::vec(any_grant(), 0..8);
    (0u128..3, groups, proptest::bool::weighted(0.9), kind, any_labels(), grants).prop_map(
        |(id, groups, is_member, kind, labels, grants)| Case {
            user: user(id),
            groups,
            is_member,
            kind,
            labels,
            grants,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_decision_is_what_the_documentation_says(case in any_case(), minutes in 0i64..4_000) {
        let now = Timestamp::from_millis(START + minutes * 60_000);
        let held = case.decide(now);
        let (shop, pay, other): (Slug, Slug, Slug) = ("shop".parse().unwrap(), "pay".parse().unwrap(), "other".parse().unwrap());
        for role in ["view", "edit", "admin", "role:own"] {
            let role: DestinationRole = role.parse().unwrap();
            for namespace in [None, Some(&shop), Some(&pay), Some(&other)] {
                prop_assert_eq!(allows(&held, &role, namespace), case.oracle(&role, namespace, now), "{} {:?}", role, namespace);
                // Nothing of it is lost before its end.
                if let Some(held) = held.get(&role).filter(|held| allows(&BTreeMap::from([(role.clone(), (*held).clone())]), &role, namespace)) {
                    let end = held.until.unwrap_or(now.plus_millis(1_000 * HOUR));
                    prop_assert!(end > now);
                    for moment in [now.plus_millis(1), Timestamp::from_millis(i64::midpoint(now.as_millis(), end.as_millis())), end.plus_millis(-1)] {
                        prop_assert!(case.oracle(&role, namespace, moment), "{} until {:?}, gone at {}", role, held.until, moment);
                    }
                }
            }
        }
        // Exactly the names of the grants that hold are lent, each where its grant does, and to the end.
        for grant in case.grants.iter().filter(|grant| !grant.act_as.is_empty()) {
            let lent = Lent { namespace: grant.namespace.clone(), act_as: grant.act_as.clone() };
            let is_lent = held.get(&grant.role).filter(|held| held.lent.contains(&lent));
            prop_assert_eq!(is_lent.is_some(), case.lends(&grant.role, &lent, now));
            if let Some(end) = is_lent.and_then(|held| held.until) {
                prop_assert!(case.lends(&grant.role, &lent, end.plus_millis(-1)));
            }
        }
        prop_assert!(held.iter().all(|(role, held)| held.lent.iter().all(|lent| case.lends(role, lent, now))));
        // At a host each of its grants is there with how the host is reached by it.
        for held in held.values() {
            let named: BTreeSet<_> = held.ssh.iter().map(|given| given.grant).collect();
            let expect = if case.kind == DestinationKind::Kubernetes { BTreeSet::new() } else { held.grants.clone() };
            prop_assert_eq!(named, expect);
        }
        // The grants that it names are enough for it, and each of them is for this user.
        for (role, held) in &held {
            let named: Vec<_> = case.grants.iter().filter(|grant| held.grants.contains(&grant.id)).cloned().collect();
            let fewer = Case { grants: named, ..case.clone() };
            let again = fewer.decide(now);
            prop_assert_eq!(again.get(role), Some(held));
        }
    }
}

#[test]
fn without_a_grant_nothing_is_reached() {
    let everything = Case {
        user: user(1),
        groups: BTreeSet::from([group(1)]),
        is_member: true,
        kind: DestinationKind::Kubernetes,
        labels: labels(&[("env", "prod")]),
        grants: vec![
            grant(1, Subject::User(user(1)), Target::Destination(destination(1))),
            grant(2, Subject::Group(group(1)), Target::Labels(labels(&[("env", "prod")]))),
        ],
    };
    let now = Timestamp::from_millis(START);
    assert_eq!(everything.decide(now).values().next().unwrap().grants.len(), 2);
    let none = |case: Case| assert!(case.decide(now).is_empty(), "{case:?}");
    none(Case { grants: Vec::new(), ..everything.clone() });
    none(Case { is_member: false, ..everything.clone() });
    none(Case { user: user(2), groups: BTreeSet::new(), ..everything.clone() });
    let selector = |wanted: &[(&str, &str)]| Case {
        grants: vec![grant(1, Subject::User(user(1)), Target::Labels(labels(wanted)))],
        ..everything.clone()
    };
    assert!(!selector(&[("env", "prod")]).decide(now).is_empty());
    none(selector(&[("env", "test")]));
    none(selector(&[("env", "prod"), ("tier", "1")]));
    // Whatever made it: a selector without labels selects nothing.
    none(selector(&[]));

    // A set is of hosts: with the same labels it covers a host, and no cluster and no other set.
    let set = |hosts: &[(&str, &str)], kind| Case {
        kind,
        grants: vec![grant(1, Subject::User(user(1)), Target::Set { id: destination(7), hosts: labels(hosts) })],
        ..everything.clone()
    };
    assert!(!set(&[("env", "prod")], DestinationKind::Ssh).decide(now).is_empty());
    none(set(&[("env", "prod")], DestinationKind::Kubernetes));
    none(set(&[("env", "prod")], DestinationKind::Set));
    none(set(&[("env", "test")], DestinationKind::Ssh));
    none(set(&[], DestinationKind::Ssh));
}
