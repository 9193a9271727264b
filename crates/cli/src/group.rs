//! Which roles the groups of identity providers give in the tenant.

use clap::Subcommand;
use wire::provider::{GroupRole, GroupRolePut};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the groups that give a role here
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Let a provider's group give a role; users get it at their next sign-in or check
    Set {
        /// The group, exactly as the provider spells it
        group: String,
        /// The provider's name
        #[arg(long)]
        provider: String,
        /// The role; none that holds more than your own
        #[arg(long)]
        role: String,
    },
    /// Take the role from a group; who had it through this group only loses it at once
    Delete {
        /// Its id, as `cairn groups list` shows it
        id: String,
    },
}

impl Table for GroupRole {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("GROUP", "group"),
        ("PROVIDER", "provider"),
        ("ROLE", "role"),
        ("SINCE", "created_at"),
        ("BY", "created_by"),
        ("ID", "id"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<GroupRole>(&["group-roles"], &[], paging).await,
            Self::Set { group, provider, role } => {
                api.out.one(&api.put(&["group-roles"], &GroupRolePut { provider, group, role }).await?)
            }
            Self::Delete { id } => {
                api.delete(&["group-roles", &id]).await?;
                api.out.say(&format!("{id} gives no role any more"));
                Ok(())
            }
        }
    }
}
