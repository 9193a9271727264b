//! Members of the tenant.

use clap::Subcommand;
use wire::member::{Member, MemberPut};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's members
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Give a user a role in the tenant, or another one
    Add {
        /// The login name
        email: String,
        /// What they may do
        #[arg(long, value_parser = ["system-admin", "tenant-admin", "security-analyst", "auditor", "read-only"])]
        role: String,
        /// The name of a user who does not exist yet: they are made, and a one-time password is shown once
        #[arg(long)]
        name: Option<String>,
    },
    /// Take a user out of the tenant
    Remove {
        /// The login name or id
        user: String,
    },
}

impl Table for Member {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("EMAIL", "email"),
        ("NAME", "name"),
        ("ROLE", "role"),
        ("SINCE", "created_at"),
        ("DISABLED", "disabled"),
        ("USER", "user"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<Member>(&["members"], &[], paging).await,
            Self::Add { email, role, name } => {
                api.out.one(&api.put(&["members"], &MemberPut { email, role, name }).await?)
            }
            Self::Remove { user } => {
                let id = if user.contains('@') {
                    api.find(&["members"], "email", &user, "member").await?.text("user").to_owned()
                } else {
                    user.clone()
                };
                api.delete(&["members", &id]).await?;
                api.out.say(&format!("{user} is no longer a member"));
                Ok(())
            }
        }
    }
}
