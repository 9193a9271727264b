//! Groups of the tenant, and which roles the groups of identity providers give in it.

use clap::Subcommand;
use wire::grant::{Group, GroupCreate};
use wire::provider::{GroupRole, GroupRolePut};

use crate::api::{Api, Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's groups, to which access is granted
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one and who is in it
    Show {
        /// Its name or id
        name: String,
    },
    /// Make one: with members of its own, or fed by a group of an identity provider
    Create {
        /// Its name: a-z, 0-9 and -
        name: String,
        /// The provider whose group feeds it
        #[arg(long, value_name = "NAME", requires = "provider_group")]
        provider: Option<String>,
        /// That group, exactly as the provider spells it
        #[arg(long, value_name = "GROUP", requires = "provider")]
        provider_group: Option<String>,
    },
    /// Put a member of the tenant into one
    Add {
        /// The group's name or id
        name: String,
        /// The login name
        user: String,
    },
    /// Take somebody out of one
    Remove {
        /// The group's name or id
        name: String,
        /// The login name
        user: String,
    },
    /// Forget one with the grants to it
    Delete {
        /// Its name or id
        name: String,
    },
    /// Roles that groups of identity providers give in the tenant
    #[command(subcommand)]
    Roles(RoleCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List the groups that give a role here
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Let a provider's group give a role; users get it at their next sign-in or check. The same role once more changes nothing
    Set {
        /// The group, exactly as the provider spells it
        group: String,
        /// The provider's name
        #[arg(long)]
        provider: String,
        /// The role; none that holds more than your own
        #[arg(long)]
        role: String,
        /// Give this role in place of another one that the group gives
        #[arg(long)]
        replace: bool,
    },
    /// Take the role from a group; who had it through this group only loses it at once
    Delete {
        /// Its id, as `cairn groups roles list` shows it
        id: String,
    },
}

impl Table for Group {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("PROVIDER", "provider"),
        ("FED BY", "provider_group"),
        ("SINCE", "created_at"),
        ("BY", "created_by"),
        ("ID", "id"),
    ];
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
            Self::List { paging } => api.show_list::<Group>(&["groups"], &[], paging).await,
            Self::Show { name } => api.out.one(&api.get(&["groups", &name]).await?),
            Self::Create { name, provider, provider_group } => {
                let body = GroupCreate { name, provider, provider_group };
                api.out.row::<Group>(api.post(&["groups"], &body).await?)
            }
            Self::Add { name, user } => {
                api.set(&["groups", &name, "members", &user]).await?;
                api.out.say(&format!("{user} is in {name}"));
                Ok(())
            }
            Self::Remove { name, user } => {
                api.delete(&["groups", &name, "members", &user]).await?;
                api.out.say(&format!("{user} is not in {name} any more"));
                Ok(())
            }
            Self::Delete { name } => {
                api.delete(&["groups", &name]).await?;
                api.out.say(&format!("{name} is forgotten, with the grants to it"));
                Ok(())
            }
            Self::Roles(command) => command.run(&api).await,
        }
    }
}

impl RoleCommand {
    async fn run(self, api: &Api) -> Result {
        match self {
            Self::List { paging } => api.show_list::<GroupRole>(&["group-roles"], &[], paging).await,
            Self::Set { group, provider, role, replace } => {
                set(api, &GroupRolePut { provider, group, role }, replace).await
            }
            Self::Delete { id } => {
                api.delete(&["group-roles", &id]).await?;
                api.out.say(&format!("{id} gives no role any more"));
                Ok(())
            }
        }
    }
}

/// Lets a group give a role that gives none, or another one in its place.
async fn set(api: &Api, body: &GroupRolePut, replace: bool) -> Result {
    if replace {
        return api.out.one(&api.put(&["group-roles"], body).await?);
    }
    match api.put_new(&["group-roles"], body).await {
        Ok(made) => api.out.one(&made),
        Err(failure) if failure.is_precondition() => {
            let held = api.all(&["group-roles"]).await?.into_iter().find(|one| {
                (one.text("provider"), one.text("group"), one.text("role")) == (&body.provider, &body.group, &body.role)
            });
            match held {
                Some(held) => {
                    api.out.say(&format!("{} gives this role already", body.group));
                    api.out.one(&held)
                }
                None => Err(failure.hint("--replace gives this role instead")),
            }
        }
        Err(failure) => Err(failure),
    }
}
