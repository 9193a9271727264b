//! Users of the installation.

use clap::{ArgGroup, Subcommand};
use wire::user::{User, UserCreate, UserUpdate};

use crate::api::{Api, Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all users
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a user
    Show {
        /// The login name or id
        user: String,
    },
    /// Make a user; shows a one-time password once
    Create {
        /// The login name
        email: String,
        /// The name
        #[arg(long)]
        name: String,
        /// They manage the platform
        #[arg(long)]
        platform_admin: bool,
    },
    /// Change a user
    #[command(group = ArgGroup::new("change").args(["disable", "enable", "platform_admin"]).required(true).multiple(true))]
    Update {
        /// The login name or id
        user: String,
        /// They can no longer sign in, and their sessions end
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// They can sign in again
        #[arg(long)]
        enable: bool,
        /// Whether they manage the platform
        #[arg(long, value_name = "true|false")]
        platform_admin: Option<bool>,
    },
    /// Take the second factors from a user who lost them, and end their sessions
    ResetFactors {
        /// The login name or id
        user: String,
    },
}

impl Table for User {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("EMAIL", "email"),
        ("NAME", "name"),
        ("PLATFORM ADMIN", "platform_admin"),
        ("DISABLED", "disabled_at"),
        ("ID", "id"),
    ];
}

async fn id(api: &Api, user: String) -> Result<String> {
    if user.contains('@') {
        return Ok(api.find(&["users"], "email", &user, "user").await?.text("id").to_owned());
    }
    Ok(user)
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<User>(&["users"], &[], paging).await,
            Self::Show { user } => api.out.one(&api.get(&["users", &id(&api, user).await?]).await?),
            Self::Create { email, name, platform_admin } => {
                let created = api.post(&["users"], &UserCreate { email, name, platform_admin }).await?;
                api.out.one(&created)?;
                api.out.say("the password is shown this once, and is changed at the first sign-in");
                Ok(())
            }
            Self::Update { user, disable, enable, platform_admin } => {
                let user = id(&api, user).await?;
                let disabled = (disable || enable).then_some(disable);
                api.out.one(&api.patch(&["users", &user], &UserUpdate { disabled, platform_admin }).await?)
            }
            Self::ResetFactors { user } => {
                let id = id(&api, user.clone()).await?;
                api.delete(&["users", &id, "factors"]).await?;
                api.out.say(&format!("{user} has no second factor any more, and is signed out everywhere"));
                Ok(())
            }
        }
    }
}
