//! Destinations: what is reached through Cairn, and who reaches it.

use std::collections::BTreeMap;

use clap::Subcommand;
use domain::Clock as _;
use wire::destination::{Destination, DestinationUpdate, Reach, Reacher};
use wire::grant::{AccessPolicy, BreakGlass};

use crate::api::{Api, Context, Paging};
use crate::doc::Doc;
use crate::failure::Result;
use crate::fleet::label;
use crate::output::{self, Format};
use crate::ssh_host;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's destinations
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its name or id
        name: String,
    },
    /// Make an SSH host a destination, or a set of them, or change all that is said of it
    Create(ssh_host::Create),
    /// List the hosts that are in a set now
    Hosts {
        /// The set's name or id
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show what is said of an SSH host, and what the host has to be told
    Host(ssh_host::Host),
    /// Set all labels of one: grants by labels go by them
    Labels {
        /// Its name or id
        name: String,
        /// A label; without any, it has none
        #[arg(value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Give one to another relay, which registers it from now on
    Move {
        /// Its name or id
        name: String,
        /// The relay's id
        relay: domain::RelayId,
    },
    /// Forget one with the grants that name it
    Delete {
        /// Its name or id
        name: String,
    },
}

impl Table for Destination {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("KIND", "kind"),
        ("RELAY", "relay_name"),
        ("WAY", "way"),
        ("LABELS", "labels"),
        ("SELECTOR", "selector"),
        ("LAST SEEN", "last_seen_at"),
        ("ID", "id"),
    ];
}

impl Table for Reach {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("DESTINATION", "name"),
        ("KIND", "kind"),
        ("ROLE", "role"),
        ("NAMESPACES", "namespaces"),
        ("UNTIL", "until"),
        ("ID", "destination"),
    ];
}

impl Table for Reacher {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("USER", "email"),
        ("DESTINATION", "name"),
        ("ROLE", "role"),
        ("NAMESPACES", "namespaces"),
        ("THROUGH", "through"),
        ("UNTIL", "until"),
        ("TENANT ROLE", "tenant_role"),
        ("GRANTS", "grants"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let change = async |name: &str, change: DestinationUpdate| {
            let changed = api.patch(&["destinations", name], &change).await?;
            api.out.one(&changed)?;
            if change.labels.is_some() {
                let by_labels = changed.parse::<Destination>().ok().and_then(|changed| changed.by_labels);
                ssh_host::say_by_labels(&api, name, by_labels.as_ref());
            }
            Ok(())
        };
        match self {
            Self::List { paging } => api.show_list::<Destination>(&["destinations"], &[], paging).await,
            Self::Hosts { name, paging } => {
                api.show_list::<Destination>(&["destinations", &name, "host-set", "hosts"], &[], paging).await
            }
            Self::Show { name } => api.out.one(&api.get(&["destinations", &name]).await?),
            Self::Create(create) => create.run(&api).await,
            Self::Host(host) => host.run(&api).await,
            Self::Labels { name, labels } => {
                let labels: BTreeMap<_, _> = labels.into_iter().collect();
                change(&name, DestinationUpdate { labels: Some(labels), relay: None }).await
            }
            Self::Move { name, relay } => change(&name, DestinationUpdate { labels: None, relay: Some(relay) }).await,
            Self::Delete { name } => {
                api.delete(&["destinations", &name]).await?;
                api.out.say(&format!("{name} is forgotten, with the grants that named it"));
                Ok(())
            }
        }
    }
}

/// What the caller reaches.
pub(crate) async fn reach(cx: &Context) -> Result {
    cx.tenant()?.show_list::<Reach>(&["reach"], &[], Paging::ALL).await
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Who reaches a destination now, and why
    Who {
        /// The destination's name or id, or the id of the node that it is in the asset graph
        destination: String,
    },
    /// What a member reaches now, and why
    What {
        /// The login name
        user: String,
    },
    /// List grants that nobody used for some time
    Unused {
        /// For how long, such as 90d or 12h
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = ago)]
        since: i64,
    },
    /// Write what is granted as a file for `cairn apply`
    Export(crate::apply::Export),
    /// Show for how long may be asked for and who may break glass, or change it
    Policy(crate::request::Policy),
}

impl AccessCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::Who { destination } => told::<Reacher>(&api, &["destinations", &destination], "reachers").await,
            Self::What { user } => told::<Reach>(&api, &["members", &user], "reach").await,
            Self::Unused { since } => {
                let now = crypto::system::SystemClock.now();
                let since = now.plus_millis(-since).to_string();
                api.show_list::<Unused>(&["grants"], &[("unused_since", Some(&since))], Paging::ALL).await
            }
            Self::Export(export) => export.run(&api).await,
            Self::Policy(policy) => policy.run(&api).await,
        }
    }
}

/// Shows who reaches something, or what somebody reaches; which eligible grants let ask for more; and who takes access besides, by breaking glass.
async fn told<T: Table>(api: &Api, of: &[&str], list: &str) -> Result {
    let path = [of, &[list]].concat();
    let items = api.all(&path).await?;
    let may_ask = api.all(&[of, &["eligible"]].concat()).await?;
    // It is on each page.
    let first = api.get(&path).await?;
    let glass = first.field("break_glass").cloned().unwrap_or(Doc::Null);
    if api.out.format != Format::Table {
        let fields = [("items", Doc::List(items)), ("may_ask", Doc::List(may_ask)), ("break_glass", glass)];
        return api.out.one(&Doc::Map(fields.map(|(name, doc)| (name.to_owned(), doc)).into()));
    }
    api.out.list::<T>(items)?;
    if !may_ask.is_empty() {
        output::data(b"\nMay ask for access, which somebody else approves:\n")?;
        api.out.list::<MayAsk>(may_ask)?;
    }
    if glass == Doc::Null {
        return Ok(());
    }
    output::data(b"\nMay break glass: reach everything in any role, at once and with an alarm:\n")?;
    api.out.list::<Glass>(vec![glass])
}

/// Who may break glass, as a list shows it.
struct Glass;

impl Table for Glass {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("MEMBERS OF", "group"), ("SECONDS AT MOST", "s_max")];
}

/// An eligible grant as a list of who may ask shows it.
struct MayAsk;

impl Table for MayAsk {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("USER", "user"),
        ("GROUP", "group"),
        ("ROLE", "role"),
        ("DESTINATION", "destination"),
        ("LABELS", "labels"),
        ("NAMESPACE", "namespace"),
        ("HOURS", "hours"),
        ("EXPIRES", "expires_at"),
        ("ID", "id"),
    ];
}

/// Who reaches everything besides whom grants name: whoever may break glass.
pub(crate) async fn breaks_glass(api: &Api) -> Result<Option<BreakGlass>> {
    let policy: AccessPolicy = api.get(&["access-policy"]).await?.parse().map_err(|_| crate::client::not_ours())?;
    Ok(policy.break_glass)
}

/// A grant as a list of unused ones shows it.
pub(crate) struct Unused;

impl Table for Unused {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("USER", "user"),
        ("GROUP", "group"),
        ("ROLE", "role"),
        ("DESTINATION", "destination"),
        ("LABELS", "labels"),
        ("NAMESPACE", "namespace"),
        ("LAST USED", "last_used_at"),
        ("SINCE", "created_at"),
        ("ID", "id"),
    ];
}

/// A time that has passed, in milliseconds.
pub(crate) fn ago(text: &str) -> Result<i64, String> {
    let units = [("d", 86_400_000), ("h", 3_600_000)];
    let found = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?.parse::<i64>().ok()?, *ms)));
    let (count, ms) =
        found.filter(|(count, _)| (1..=36_500).contains(count)).ok_or("use days or hours, such as 90d or 12h")?;
    Ok(count * ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_have_passed_are_days_or_hours() {
        assert_eq!((ago("90d"), ago("12h")), (Ok(90 * 86_400_000), Ok(12 * 3_600_000)));
        for bad in ["", "90", "d", "-1d", "0d", "1w", "99999999d", "1.5h"] {
            assert!(ago(bad).is_err(), "{bad}");
        }
    }
}
