//! What grants give at a host, put together: for a connection whose origin is known, and for a certificate that a host judges later (ADR 0066).
//!
//! Several grants may reach the same account of a host, each from its own networks, with its own extensions and perhaps with a command of its own. They
//! are never mixed: at no address can anybody do more than the grants that hold at that address give together.
//!
//! - Where one of those that hold forces no command, none is forced, and those that force one lend nothing. Where all force one, the oldest grant's counts,
//!   and what grants with that same command lend.
//! - What a host allows is the most that any grant can lend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use domain::{GrantId, Network, SshExtension, SshTerms, Timestamp};

use crate::grant::Held;

/// One grant of those that give a role at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshGiven {
    /// The grant.
    pub grant: GrantId,
    /// How the host is reached by it.
    pub terms: SshTerms,
    /// Until when it holds, not included; none: for good.
    pub until: Option<Timestamp>,
}

/// What an administrator says of a host, for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshBounds {
    /// From where it is reached; none: from everywhere.
    pub networks: Vec<Network>,
    /// What it allows at most.
    pub extensions: BTreeSet<SshExtension>,
}

impl SshBounds {
    fn holds_from(&self, from: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(from))
    }
}

/// What some grants give together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOffer {
    /// From where; none: from everywhere.
    pub networks: Vec<Network>,
    /// What is allowed besides running a command.
    pub extensions: BTreeSet<SshExtension>,
    /// What is run, whatever is asked for.
    pub command: Option<String>,
    /// Until when all of this holds without another grant, not included; none: for good.
    pub until: Option<Timestamp>,
    /// The grants that it comes from.
    pub grants: BTreeSet<GrantId>,
}

/// What an open connection to a host rests on, besides its role.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshUse {
    /// From where its user comes, as far as is known.
    pub from: Option<IpAddr>,
    /// What it takes; none: it has not begun.
    pub takes: Option<SshTaken>,
}

/// What a connection was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshTaken {
    /// What is allowed besides running a command.
    pub extensions: BTreeSet<SshExtension>,
    /// What is run, whatever is asked for.
    pub command: Option<String>,
}

/// An end that never comes.
const FOR_GOOD: Timestamp = Timestamp::from_millis(i64::MAX);

fn end(given: &SshGiven) -> Timestamp {
    given.until.unwrap_or(FOR_GOOD)
}

fn finite(until: Timestamp) -> Option<Timestamp> {
    (until != FOR_GOOD).then_some(until)
}

/// The grants that count together: first those that force no command, then those that force the same, by the oldest of them.
fn classes(mut all: Vec<&SshGiven>) -> Vec<Vec<&SshGiven>> {
    all.sort_by_key(|given| (given.terms.command.is_some(), given.grant));
    let mut classes: Vec<Vec<&SshGiven>> = Vec::new();
    for given in all {
        let same =
            |class: &&mut Vec<&SshGiven>| class.first().is_some_and(|one| one.terms.command == given.terms.command);
        match classes.iter_mut().find(same) {
            Some(class) => class.push(given),
            None => classes.push(vec![given]),
        }
    }
    classes
}

/// Of these, those that count.
fn of_one_command(all: Vec<&SshGiven>) -> Vec<&SshGiven> {
    classes(all).into_iter().next().unwrap_or_default()
}

/// What a grant lends of what the host allows.
fn lends(given: &SshGiven, bounds: &SshBounds) -> BTreeSet<SshExtension> {
    match &given.terms.extensions {
        None => bounds.extensions.clone(),
        Some(lent) => lent.intersection(&bounds.extensions).copied().collect(),
    }
}

/// Until when each of these is lent by one of the grants.
fn lent(all: &[&SshGiven], bounds: &SshBounds) -> BTreeMap<SshExtension, Timestamp> {
    let mut lent = BTreeMap::new();
    for given in all {
        for extension in lends(given, bounds) {
            let until = lent.entry(extension).or_insert_with(|| end(given));
            *until = end(given).max(*until);
        }
    }
    lent
}

/// All of these grants together, where each of them holds.
fn together(all: &[&SshGiven], bounds: &SshBounds, networks: Vec<Network>) -> Option<SshOffer> {
    let first = all.first()?;
    let lasts = all.iter().map(|given| end(given)).max()?;
    let lent = lent(all, bounds);
    let until = lent.values().copied().chain([lasts]).min()?;
    Some(SshOffer {
        networks,
        extensions: lent.into_keys().collect(),
        command: first.terms.command.clone(),
        until: finite(until),
        grants: all.iter().map(|given| given.grant).collect(),
    })
}

fn holding(held: &Held, from: Option<IpAddr>) -> Vec<&SshGiven> {
    held.ssh.iter().filter(|given| given.terms.holds_from(from)).collect()
}

/// What somebody is given who comes from there. None: nothing of what they hold holds there, or the host lets nobody come from there.
pub fn connection(held: &Held, bounds: &SshBounds, from: Option<IpAddr>) -> Option<SshOffer> {
    if !bounds.networks.is_empty() && !from.is_some_and(|from| bounds.holds_from(from)) {
        return None;
    }
    together(&of_one_command(holding(held, from)), bounds, Vec::new())
}

/// What lies in one of each. None in one of them: everywhere.
fn both(some: &[Network], others: &[Network]) -> Option<Vec<Network>> {
    if some.is_empty() || others.is_empty() {
        return Some(if some.is_empty() { others } else { some }.to_vec());
    }
    let all: BTreeSet<_> = some.iter().flat_map(|one| others.iter().filter_map(|other| one.within(other))).collect();
    (!all.is_empty()).then(|| all.into_iter().collect())
}

/// What a certificate says that is good wherever it says so: the host judges from where its holder comes, and this is made before. `asked_from`: from
/// where it is asked for, which need not be what the host sees.
///
/// Where grants hold at the address of who asks, their extensions come together, and it is good only where each of them holds. Where none does, it is good
/// where any of them holds, with what all of them lend. None: there is no address from where it would be good.
pub fn certificate(held: &Held, bounds: &SshBounds, asked_from: Option<IpAddr>) -> Option<SshOffer> {
    let here = of_one_command(holding(held, asked_from));
    let mut networks = Some(bounds.networks.clone());
    for given in &here {
        let own: Vec<Network> = given.terms.networks.iter().copied().collect();
        networks = networks.and_then(|known| both(&known, &own));
    }
    if let Some(offer) = networks.and_then(|networks| together(&here, bounds, networks)) {
        return Some(offer);
    }
    classes(held.ssh.iter().collect()).iter().find_map(|all| anywhere(all, bounds))
}

/// What is good wherever one of these grants holds: what all of them lend.
fn anywhere(all: &[&SshGiven], bounds: &SshBounds) -> Option<SshOffer> {
    let mut any: BTreeSet<Network> = BTreeSet::new();
    if all.iter().all(|given| !given.terms.networks.is_empty()) {
        any.extend(all.iter().flat_map(|given| &given.terms.networks));
    }
    let any: Vec<Network> = any.into_iter().collect();
    let mut offer = together(all, bounds, both(&bounds.networks, &any)?)?;
    offer.extensions.retain(|extension| all.iter().all(|given| lends(given, bounds).contains(extension)));
    offer.until = all.iter().map(|given| end(given)).min().and_then(finite);
    Some(offer)
}

/// Until when a connection stands if nothing changes; the end of time: for good. None: not any more.
pub fn stands(held: &Held, bounds: &SshBounds, used: &SshUse) -> Option<Timestamp> {
    if used.from.is_some_and(|from| !bounds.holds_from(from)) {
        return None;
    }
    let here = holding(held, used.from);
    let Some(taken) = &used.takes else { return here.iter().map(|given| end(given)).max() };
    // Who was given a command goes on with it also where another grant forces none.
    let fits = |given: &&&SshGiven| given.terms.command.is_none() || given.terms.command == taken.command;
    let here: Vec<_> = here.iter().filter(fits).copied().collect();
    let lasts = here.iter().map(|given| end(given)).max()?;
    let lent = lent(&here, bounds);
    let mut until = lasts;
    for extension in &taken.extensions {
        until = until.min(*lent.get(extension)?);
    }
    Some(until)
}

#[cfg(test)]
#[path = "ssh/tests.rs"]
mod tests;
