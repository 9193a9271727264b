//! API keys of the tenant.

use clap::Subcommand;
use domain::Timestamp;
use wire::api_key::{ApiKey, ApiKeyCreate, ApiKeyRotate};

use crate::api::{Api, Context, Paging};
use crate::failure::Result;
use crate::member::ROLES;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's API keys, also those that are no longer good
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an API key, without its secret
    Show {
        /// Its name or id
        name: String,
    },
    /// Make an API key; shows its secret once
    Create {
        /// Its name, once in the tenant
        name: String,
        /// What it may do: a role that holds no more than yours
        #[arg(long, value_parser = ROLES)]
        role: String,
        /// Until when it is good, e.g. 2027-01-31T00:00:00Z [default: until it is revoked]
        #[arg(long, value_name = "TIME")]
        expires_at: Option<Timestamp>,
        /// From where it is good, e.g. 10.0.0.0/8; may be given more than once [default: from everywhere]
        #[arg(long = "network", value_name = "CIDR")]
        networks: Vec<String>,
    },
    /// Give an API key a new secret, shown once, and become its owner
    Rotate {
        /// Its name or id
        name: String,
        /// How long the old secret is good too, in seconds, up to 30 days; 0: not at all [default: one day]
        #[arg(long, value_name = "SECONDS")]
        overlap_s: Option<u32>,
    },
    /// Revoke an API key, for good and at once
    Revoke {
        /// Its name or id
        name: String,
    },
}

impl Table for ApiKey {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("ROLE", "role"),
        ("STATE", "state"),
        ("OWNER", "owner_email"),
        ("EXPIRES", "expires_at"),
        ("LAST USED", "last_used_at"),
        ("FROM", "last_used_ip"),
        ("ID", "id"),
    ];
}

/// The id of the key that is meant. A name is that of the key that is not revoked: others may have had it before.
async fn id(api: &Api, name: &str) -> Result<String> {
    if name.parse::<domain::ApiKeyId>().is_ok() {
        return Ok(name.to_owned());
    }
    let keys = api.all(&["api-keys"]).await?;
    let mut named = keys.iter().filter(|key| key.text("name") == name);
    match named.clone().find(|key| key.text("state") != "revoked").or_else(|| named.next_back()) {
        Some(key) => Ok(key.text("id").to_owned()),
        None => Err(crate::failure::Failure::new(format!("there is no API key `{name}`"))),
    }
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let once = "the secret is shown this once";
        match self {
            Self::List { paging } => api.show_list::<ApiKey>(&["api-keys"], &[], paging).await,
            Self::Show { name } => api.out.one(&api.get(&["api-keys", &id(&api, &name).await?]).await?),
            Self::Create { name, role, expires_at, networks } => {
                api.out.one(&api.post(&["api-keys"], &ApiKeyCreate { name, role, expires_at, networks }).await?)?;
                api.out.say(once);
                Ok(())
            }
            Self::Rotate { name, overlap_s } => {
                let id = id(&api, &name).await?;
                api.out.one(&api.post(&["api-keys", &id, "rotate"], &ApiKeyRotate { overlap_s }).await?)?;
                api.out.say(once);
                Ok(())
            }
            Self::Revoke { name } => {
                api.delete(&["api-keys", &id(&api, &name).await?]).await?;
                api.out.say(&format!("API key {name} is revoked"));
                Ok(())
            }
        }
    }
}
