//! Members of the tenant.

use clap::Subcommand;
use wire::member::{Invitation, Member, MemberPut};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

/// The roles, as they are spelt.
pub(crate) const ROLES: [&str; 5] = ["system-admin", "tenant-admin", "security-analyst", "auditor", "read-only"];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's members
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a member
    Show {
        /// The login name or id
        user: String,
    },
    /// Give a member another role, or invite somebody who is none
    Add {
        /// The login name: whether it has an account is not told, and the role waits until they sign in
        email: String,
        /// What they may do
        #[arg(long, value_parser = ROLES)]
        role: String,
    },
    /// List the invitations that wait
    Invitations {
        #[command(flatten)]
        paging: Paging,
    },
    /// Take an invitation back
    Uninvite {
        /// The login name or the invitation's id
        invited: String,
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

impl Table for Invitation {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("EMAIL", "email"), ("ROLE", "role"), ("SINCE", "created_at"), ("UNTIL", "expires_at"), ("ID", "id")];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<Member>(&["members"], &[], paging).await,
            Self::Show { user } => {
                let field = if user.contains('@') { "email" } else { "user" };
                api.out.one(&api.find(&["members"], field, &user, "member").await?)
            }
            Self::Add { email, role } => api.out.one(&api.put(&["members"], &MemberPut { email, role }).await?),
            Self::Invitations { paging } => api.show_list::<Invitation>(&["invitations"], &[], paging).await,
            Self::Uninvite { invited } => {
                let id = if invited.contains('@') {
                    api.find(&["invitations"], "email", &invited, "invitation").await?.text("id").to_owned()
                } else {
                    invited.clone()
                };
                api.delete(&["invitations", &id]).await?;
                api.out.say(&format!("{invited} is no longer invited"));
                Ok(())
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
