//! Who reaches what: the decision about grants, as a function of its inputs.
//!
//! Nothing is reached without a grant that names the user or one of their groups, and that covers the destination, the moment and, in a cluster,
//! the namespace. No role in the tenant gives anything here; who is no member of it reaches nothing. An eligible grant (ADR 0079) gives nothing: it
//! only says what may be asked for.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    DestinationId, DestinationKind, DestinationRole, Grant, GrantId, GroupId, Labels, Lent, Slug, Subject, Target,
    Timestamp, UserId,
};

use crate::ssh::SshGiven;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The user.
    pub user: UserId,
    /// The tenant's groups that they are in.
    pub groups: &'a BTreeSet<GroupId>,
    /// Whether they are a member of the tenant at this moment, with an account that is not disabled.
    pub is_member: bool,
}

/// Where to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The destination.
    pub id: DestinationId,
    /// What it is.
    pub kind: DestinationKind,
    /// Its labels.
    pub labels: &'a Labels,
}

/// What one role gives at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Only in these namespaces; none: everywhere.
    pub namespaces: Option<BTreeSet<Slug>>,
    /// Until when all of this holds without another grant, not included; none: for good.
    pub until: Option<Timestamp>,
    /// As whom else they may act there, and in which namespaces.
    pub lent: BTreeSet<Lent>,
    /// At a host: each grant with how it is reached by that. In a cluster: nothing.
    pub ssh: Vec<SshGiven>,
    /// The grants that it comes from.
    pub grants: BTreeSet<GrantId>,
}

/// An end that never comes.
const FOR_GOOD: Timestamp = Timestamp::from_millis(i64::MAX);

/// Until when a grant holds, if it does now.
pub fn holds(grant: &Grant, now: Timestamp) -> Option<Timestamp> {
    let expires = grant.expires_at.unwrap_or(FOR_GOOD);
    let closes = grant.hours.as_ref().map_or(Some(FOR_GOOD), |hours| hours.until(now))?;
    (expires > now).then_some(expires.min(closes))
}

fn is_for(grant: &Grant, asker: Asker<'_>) -> bool {
    match grant.subject {
        Subject::User(user) => user == asker.user,
        Subject::Group(group) => asker.groups.contains(&group),
    }
}

/// Whether who has these labels has all that are wanted; no label at all selects nothing.
fn selects(wanted: &Labels, has: &Labels) -> bool {
    let has = has.as_map();
    !wanted.as_map().is_empty() && wanted.as_map().iter().all(|(name, value)| has.get(name) == Some(value))
}

/// Whether a target covers a destination. A set of hosts covers itself, so that it can be told who holds it, and hosts: no cluster and no other set.
pub fn covers(target: &Target, place: Place<'_>) -> bool {
    match target {
        Target::Destination(id) => *id == place.id,
        Target::Labels(wanted) => place.kind != DestinationKind::Set && selects(wanted, place.labels),
        Target::Set { id, hosts } => match place.kind {
            DestinationKind::Set => *id == place.id,
            DestinationKind::Ssh => selects(hosts, place.labels),
            DestinationKind::Kubernetes => false,
        },
    }
}

/// Whether what a grant says has a meaning in a place of this kind. A host has no namespaces: a grant for one gives nothing there. In a cluster nothing
/// keeps what a grant says of hosts: one that does gives nothing. A namespace's own role is none without a namespace.
pub fn fits(grant: &Grant, kind: DestinationKind) -> bool {
    let of_namespace = grant.role.of_namespace().is_some();
    match kind {
        DestinationKind::Kubernetes => grant.ssh.is_empty() && (!of_namespace || grant.namespace.is_some()),
        DestinationKind::Ssh | DestinationKind::Set => grant.namespace.is_none() && !of_namespace,
    }
}

/// What somebody asks for at a place.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// As what.
    pub role: &'a DestinationRole,
    /// Only in this namespace; none: everywhere.
    pub namespace: Option<&'a Slug>,
}

/// Whether an eligible grant lets somebody ask for something at a place, at whatever hours of those that it says: what is approved keeps them.
pub fn may_ask(grant: &Grant, asker: Asker<'_>, place: Place<'_>, wanted: Wanted<'_>, now: Timestamp) -> bool {
    // What is asked for is never wider than the grant: a namespace of a grant for all of them, but not all of them by one for a namespace.
    let within = match (&grant.namespace, wanted.namespace) {
        (None, None) => true,
        (None, Some(_)) => place.kind == DestinationKind::Kubernetes,
        (Some(_), None) => false,
        (Some(given), Some(asked)) => given == asked,
    };
    grant.approval
        && asker.is_member
        && within
        && grant.role == *wanted.role
        && fits(grant, place.kind)
        && is_for(grant, asker)
        && covers(&grant.target, place)
        && grant.expires_at.is_none_or(|end| end > now)
}

/// What some grants give: until when, and which they are.
type Given = (Timestamp, BTreeSet<GrantId>);

/// Notes that one more grant gives this.
fn add<K: Ord>(given: &mut BTreeMap<K, Given>, what: K, until: Timestamp, grant: GrantId) {
    let (known, ids) = given.entry(what).or_insert_with(|| (until, BTreeSet::new()));
    *known = until.max(*known);
    ids.insert(grant);
}

/// What the asker reaches at a place at a moment, by role. Empty: nothing.
pub fn decide<'g>(
    asker: Asker<'_>,
    place: Place<'_>,
    grants: impl IntoIterator<Item = &'g Grant>,
    now: Timestamp,
) -> BTreeMap<DestinationRole, Held> {
    // By role and namespace (none: everywhere): until when, and from which grants.
    let mut given: BTreeMap<(&DestinationRole, Option<&Slug>), Given> = BTreeMap::new();
    let mut lent: BTreeMap<(&DestinationRole, Lent), Given> = BTreeMap::new();
    let mut ssh: BTreeMap<&DestinationRole, Vec<SshGiven>> = BTreeMap::new();
    for grant in grants {
        let is_given = !grant.approval && asker.is_member && fits(grant, place.kind);
        if !is_given || !is_for(grant, asker) || !covers(&grant.target, place) {
            continue;
        }
        let Some(until) = holds(grant, now) else { continue };
        if place.kind != DestinationKind::Kubernetes {
            let until = (until != FOR_GOOD).then_some(until);
            let one = SshGiven { grant: grant.id, terms: grant.ssh.clone(), until };
            ssh.entry(&grant.role).or_default().push(one);
        }
        add(&mut given, (&grant.role, grant.namespace.as_ref()), until, grant.id);
        // Names are lent in clusters only.
        if place.kind == DestinationKind::Kubernetes && !grant.act_as.is_empty() {
            let names = Lent { namespace: grant.namespace.clone(), act_as: grant.act_as.clone() };
            add(&mut lent, (&grant.role, names), until, grant.id);
        }
    }
    let mut held: BTreeMap<DestinationRole, Held> = BTreeMap::new();
    // In the order of the keys "everywhere" comes before any namespace of the same role.
    for ((role, namespace), (until, ids)) in given {
        let namespaces = namespace.map(|name| BTreeSet::from([name.clone()]));
        let until = (until != FOR_GOOD).then_some(until);
        match held.get_mut(role) {
            None => {
                let ssh = ssh.remove(role).unwrap_or_default();
                held.insert(role.clone(), Held { namespaces, until, lent: BTreeSet::new(), ssh, grants: ids });
            }
            Some(Held { namespaces: None, .. }) => {}
            Some(Held { namespaces: Some(known), until: end, grants, .. }) => {
                known.extend(namespace.cloned());
                *end = [*end, until].into_iter().flatten().min();
                grants.extend(ids);
            }
        }
    }
    // Whoever is lent a name holds the role by the same grant.
    for ((role, names), (until, ids)) in lent {
        if let Some(held) = held.get_mut(role) {
            let until = (until != FOR_GOOD).then_some(until);
            held.until = [held.until, until].into_iter().flatten().min();
            held.lent.insert(names);
            held.grants.extend(ids);
        }
    }
    held
}
