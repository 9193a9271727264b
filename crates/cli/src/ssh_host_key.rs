//! Host keys of SSH targets that are remembered.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::HostPort;
use wire::ssh_host_key::{SshHostKey, SshHostKeyPin};

use crate::api::{Api, Context, Paging};
use crate::failure::{Failure, Result};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the remembered keys
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Remember a key that you checked, before a job meets the host
    Pin(Pin),
    /// Forget a key: the next contact is the first again, and whatever answers then is trusted
    Remove {
        /// The target, such as web1.example or 10.0.0.7:2222, or the key's id
        target: String,
        /// The id of the relay that reaches it; otherwise the server does
        #[arg(long)]
        relay: Option<domain::RelayId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The target, such as web1.example or 10.0.0.7:2222
    target: String,
    /// The file with its public key, such as a copy of the host's /etc/ssh/ssh_host_ed25519_key.pub
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The id of the relay that reaches it; otherwise the server does
    #[arg(long)]
    relay: Option<domain::RelayId>,
    /// Puts it in the place of the key that is remembered now
    #[arg(long)]
    replace: bool,
}

impl Table for SshHostKey {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("TARGET", "target"),
        ("RELAY", "relay"),
        ("FINGERPRINT", "fingerprint"),
        ("ORIGIN", "origin"),
        ("SINCE", "created_at"),
        ("ID", "id"),
    ];
}

async fn id_of(api: &Api, target: &str, relay: Option<domain::RelayId>) -> Result<domain::SshHostKeyId> {
    if let Ok(id) = target.parse() {
        return Ok(id);
    }
    let wanted: HostPort = target.parse().map_err(|error: domain::Error| Failure::new(error.to_string()))?;
    let (wanted, place) = (wanted.to_string(), relay.map(|relay| relay.to_string()).unwrap_or_default());
    let keys = api.all(&["ssh-host-keys"]).await?;
    let found = keys.iter().find(|key| key.text("target") == wanted && key.text("relay") == place);
    let Some(found) = found else {
        let place = relay.map_or_else(|| "by the server".to_owned(), |relay| format!("by the relay {relay}"));
        return Err(Failure::new(format!("no key of {wanted} as it is reached {place} is remembered"))
            .hint("`cairn host-keys list` shows what is"));
    };
    found.text("id").parse().map_err(|error: domain::IdParseError| Failure::new(error.to_string()))
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<SshHostKey>(&["ssh-host-keys"], &[], paging).await,
            Self::Pin(Pin { target, key_file, relay, replace }) => {
                let key = std::fs::read_to_string(&key_file)
                    .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", key_file.display())))?;
                let key = key.trim().to_owned();
                let replaces = if replace { Some(id_of(&api, &target, relay).await?) } else { None };
                let pin = SshHostKeyPin { target, key, relay, replaces };
                api.out.one(&api.post(&["ssh-host-keys"], &pin).await?)
            }
            Self::Remove { target, relay } => {
                let id = id_of(&api, &target, relay).await?.to_string();
                api.delete(&["ssh-host-keys", &id]).await?;
                api.out.say(&format!("the key of {target} is forgotten: the next contact is the first again"));
                Ok(())
            }
        }
    }
}
