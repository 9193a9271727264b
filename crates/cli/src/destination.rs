//! Destinations: what is reached through Cairn, and who reaches it.

use std::collections::BTreeMap;

use clap::Subcommand;
use wire::destination::{Destination, DestinationUpdate, Reach, Reacher};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::fleet::label;
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
    /// Make an SSH host a destination, or change all that is said of it
    Create(ssh_host::Create),
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
        ("LABELS", "labels"),
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
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("USER", "email"), ("ROLE", "role"), ("NAMESPACES", "namespaces"), ("UNTIL", "until"), ("GRANTS", "grants")];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let change = async |name: &str, change: DestinationUpdate| {
            api.out.one(&api.patch(&["destinations", name], &change).await?)
        };
        match self {
            Self::List { paging } => api.show_list::<Destination>(&["destinations"], &[], paging).await,
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
    /// Who reaches a destination now
    Who {
        /// The destination's name or id
        destination: String,
    },
    /// What a member reaches now
    What {
        /// The login name
        user: String,
    },
    /// Show for how long may be asked for and who may break glass, or change it
    Policy(crate::request::Policy),
}

impl AccessCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::Who { destination } => {
                api.show_list::<Reacher>(&["destinations", &destination, "reachers"], &[], Paging::ALL).await
            }
            Self::What { user } => api.show_list::<Reach>(&["members", &user, "reach"], &[], Paging::ALL).await,
            Self::Policy(policy) => policy.run(&api).await,
        }
    }
}
