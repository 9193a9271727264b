//! Grants: who may reach what.

use clap::{Args, Subcommand};
use domain::{ActName, DestinationRole, Hours, Network, Slug, SshExtension, Timestamp};
use wire::grant::{Grant, GrantCreate};

use crate::api::{Context, Paging};
use crate::failure::{Failure, Result};
use crate::fleet::label;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List grants that have not expired
    List {
        /// Only to this member
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only to this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Only to this destination
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its id
        id: String,
    },
    /// Let a member or a group reach a destination, or every one with some labels; or ask for that (--approval)
    Create(Box<Create>),
    /// Take a grant: open connections that rest on it end
    Delete {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// As what: a role of the destination
    role: DestinationRole,
    /// To this member
    #[arg(long, value_name = "NAME", required_unless_present = "group", conflicts_with = "group")]
    user: Option<String>,
    /// To this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// For this destination
    #[arg(long, value_name = "NAME", required_unless_present = "labels", conflicts_with = "labels")]
    destination: Option<String>,
    /// For every destination with this label; may be given more than once
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only in this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<Slug>,
    /// Only in these hours, such as "mon-fri 08:00-18:00 +01:00"
    #[arg(long)]
    hours: Option<Hours>,
    /// Until when, such as 2026-12-31T18:00:00Z [default: for good]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Let them act as this user in a cluster (kubectl --as): a member, or a name such as deploy-bot; may be given more than once
    #[arg(long = "as", value_name = "NAME")]
    as_users: Vec<ActName>,
    /// Together with that, in this group of the tenant (kubectl --as-group); may be given more than once
    #[arg(long = "as-group", value_name = "NAME", requires = "as_users")]
    as_groups: Vec<Slug>,
    /// At hosts: only from this network, such as 10.0.0.0/8; may be given more than once [default: from everywhere]
    #[arg(long = "network", value_name = "CIDR", conflicts_with_all = ["namespace", "as_users"])]
    networks: Vec<Network>,
    /// At hosts: lend this of what the host allows, such as permit-pty; may be given more than once, `none` lends nothing [default: all of it]
    #[arg(long = "extension", value_name = "NAME", conflicts_with_all = ["namespace", "as_users"])]
    extensions: Vec<String>,
    /// At hosts: what is run, whatever is asked for
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["namespace", "as_users"])]
    force_command: Option<String>,
    /// Lend nothing: whom it names may ask for what it says (`cairn requests create`), and somebody else approves it
    #[arg(long)]
    approval: bool,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// What is lent of what hosts allow; none: all of it.
fn extensions(named: &[String]) -> Result<Option<Vec<SshExtension>>> {
    if named.iter().any(|name| name == "none") {
        let alone = "`--extension none` lends nothing: leave the others out";
        return if named.len() == 1 { Ok(Some(Vec::new())) } else { Err(Failure::usage(alone)) };
    }
    let parsed = named.iter().map(|name| name.parse().map_err(|why: domain::Error| Failure::usage(why.to_string())));
    let parsed = parsed.collect::<Result<Vec<_>>>()?;
    Ok((!parsed.is_empty()).then_some(parsed))
}

impl Table for Grant {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("USER", "user"),
        ("GROUP", "group"),
        ("ROLE", "role"),
        ("DESTINATION", "destination"),
        ("LABELS", "labels"),
        ("NAMESPACE", "namespace"),
        ("HOURS", "hours"),
        ("AS", "as_users"),
        ("NETWORKS", "networks"),
        ("EXTENSIONS", "extensions"),
        ("COMMAND", "force_command"),
        ("EXPIRES", "expires_at"),
        ("APPROVAL", "approval"),
        ("FROM", "origin"),
        ("ID", "id"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { user, group, destination, paging } => {
                let query =
                    [("user", user.as_deref()), ("group", group.as_deref()), ("destination", destination.as_deref())];
                api.show_list::<Grant>(&["grants"], &query, paging).await
            }
            Self::Show { id } => api.out.one(&api.get(&["grants", &id]).await?),
            Self::Create(new) => {
                let new = *new;
                let labels = (!new.labels.is_empty()).then(|| new.labels.into_iter().collect());
                let body = GrantCreate {
                    user: new.user,
                    group: new.group,
                    role: new.role,
                    destination: new.destination,
                    labels,
                    namespace: new.namespace,
                    hours: new.hours,
                    expires_at: new.expires_at,
                    as_users: new.as_users,
                    as_groups: new.as_groups,
                    networks: new.networks,
                    extensions: extensions(&new.extensions)?,
                    force_command: new.force_command,
                    approval: new.approval,
                    reason: new.reason,
                };
                api.out.row::<Grant>(api.post(&["grants"], &body).await?)
            }
            Self::Delete { id } => {
                api.delete(&["grants", &id]).await?;
                api.out.say(&format!("{id} is taken"));
                Ok(())
            }
        }
    }
}
