//! Tenants.

use clap::Subcommand;
use domain::Network;
use wire::factor::SignInPolicy;
use wire::session::MyTenant;
use wire::tenant::{TargetPolicy, Tenant, TenantCreate};

use crate::api::{Context, Paging};
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::prompt;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all tenants of the installation; for who does not manage it, their own
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Make a tenant
    Create {
        /// Its name in URLs: 1 to 63 of a-z, 0-9 and -
        slug: String,
        /// Its name for people [default: the same]
        #[arg(long)]
        name: Option<String>,
        /// The login name of the user who becomes its first administrator
        #[arg(long, value_name = "EMAIL")]
        admin: Option<String>,
    },
    /// Show what the tenant asks of its members' sessions, or change it
    SignInPolicy {
        /// Whether it is closed to sessions without a second factor
        #[arg(long, value_name = "true|false")]
        second_factor_required: Option<bool>,
    },
    /// Show which special addresses (127.0.0.0/8, link-local, metadata services) jobs may reach, or change it
    TargetPolicy {
        /// A network or an address to allow; may be given more than once. A metadata service only by its one address
        #[arg(long, value_name = "NETWORK")]
        allow: Vec<Network>,
        /// One to allow no more, as it was named; may be given more than once
        #[arg(long, value_name = "NETWORK")]
        refuse: Vec<Network>,
    },
    /// Delete a tenant with everything in it
    Delete {
        /// Its name or id
        #[arg(value_name = "TENANT")]
        target: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Table for Tenant {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("SLUG", "slug"), ("NAME", "name"), ("ID", "id"), ("CREATED", "created_at")];
}

impl Table for MyTenant {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("SLUG", "slug"), ("NAME", "name"), ("ROLE", "role"), ("ID", "id")];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => {
                let me = api.get(&["me"]).await?;
                if me.field("platform_admin") == Some(&Doc::Bool(true)) {
                    return api.show_list::<Tenant>(&["tenants"], &[], paging).await;
                }
                api.out.list::<MyTenant>(me.items("tenants").to_vec())
            }
            Self::Create { slug, name, admin } => {
                let name = name.unwrap_or_else(|| slug.clone());
                api.out.one(&api.post(&["tenants"], &TenantCreate { slug, name, admin }).await?)
            }
            Self::SignInPolicy { second_factor_required } => {
                let api = cx.tenant()?;
                let policy = match second_factor_required {
                    None => api.get(&["sign-in-policy"]).await?,
                    Some(second_factor_required) => {
                        api.put(&["sign-in-policy"], &SignInPolicy { second_factor_required }).await?
                    }
                };
                api.out.one(&policy)
            }
            Self::TargetPolicy { allow, refuse } => {
                let api = cx.tenant()?;
                let path = &["target-policy"];
                let (now, tag) = api.get_tagged(path).await?;
                if allow.is_empty() && refuse.is_empty() {
                    return api.out.one(&now);
                }
                let mut policy: TargetPolicy = now
                    .parse()
                    .map_err(|error| Failure::new(format!("the server's policy is not as expected: {error}")))?;
                let mut names = policy.special_networks;
                for network in refuse.iter().map(Network::to_string) {
                    if !names.contains(&network) {
                        let named = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                        let hint = format!("it names {named}");
                        return Err(Failure::new(format!("the policy does not name `{network}`")).hint(hint));
                    }
                    names.retain(|name| *name != network);
                }
                names.extend(allow.iter().map(Network::to_string));
                policy.special_networks = names;
                api.out.one(&api.put_over(tag, path, &policy).await?)
            }
            Self::Delete { target, yes } => {
                let question = format!("Delete tenant `{target}` with its assets, findings and evidence?");
                if !yes && !prompt::is_interactive() {
                    return Err(Failure::new("deleting a tenant needs a confirmation").hint("add --yes"));
                }
                if !yes && !prompt::confirm(&question)? {
                    return Err(Failure::new("nothing was deleted"));
                }
                api.delete(&["tenants", &target]).await?;
                api.out.say(&format!("tenant {target} is deleted"));
                Ok(())
            }
        }
    }
}
