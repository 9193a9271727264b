//! Members of the tenant.

use clap::Subcommand;
use wire::member::{Invitation, Member, MemberPlaced, MemberPut};

use crate::api::{Api, Context, Paging};
use crate::client::not_ours;
use crate::doc::Doc;
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
    /// Invite somebody, or with --replace give another role to who is a member or invited; the same role once more changes nothing
    Add {
        /// The login name: whether it has an account is not told, and the role waits until they sign in
        email: String,
        /// What they may do
        #[arg(long, value_parser = ROLES)]
        role: String,
        /// Give this role in place of another one that they have, or begin their invitation anew
        #[arg(long)]
        replace: bool,
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
            Self::Show { user } => api.out.one(&api.get(&["members", &user]).await?),
            Self::Add { email, role, replace } => add(&api, &MemberPut { email, role }, replace).await,
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

/// Gives a role to who has none, or another one in its place.
async fn add(api: &Api, body: &MemberPut, replace: bool) -> Result {
    if replace {
        return api.out.one(&api.put(&["members"], body).await?);
    }
    match api.put_new(&["members"], body).await {
        Ok(made) => api.out.one(&made),
        Err(failure) if failure.is_precondition() => match placed(api, &body.email).await? {
            Some(placed) if placed.role == body.role => {
                api.out.say(&format!("{} has this role already", placed.email));
                api.out.one(&Doc::of(&placed)?)
            }
            _ => Err(failure.hint("--replace gives this role instead")),
        },
        Err(failure) => Err(failure),
    }
}

/// What an address is in the tenant, as giving it that role would have answered.
async fn placed(api: &Api, email: &str) -> Result<Option<MemberPlaced>> {
    match api.get(&["members", email]).await {
        Ok(doc) => {
            let Member { user, email, role, .. } = doc.parse().map_err(|_| not_ours())?;
            let state = "member".to_owned();
            return Ok(Some(MemberPlaced { state, email, role, user: Some(user), invitation: None, expires_at: None }));
        }
        Err(failure) if failure.status == Some(404) => {}
        Err(failure) => return Err(failure),
    }
    let waiting = api.all(&["invitations"]).await?;
    let Some(waiting) = waiting.iter().find(|one| one.text("email").eq_ignore_ascii_case(email)) else {
        return Ok(None);
    };
    let Invitation { id, email, role, expires_at, .. } = waiting.parse().map_err(|_| not_ours())?;
    let (state, expires_at) = ("invited".to_owned(), Some(expires_at));
    Ok(Some(MemberPlaced { state, email, role, user: None, invitation: Some(id), expires_at }))
}
