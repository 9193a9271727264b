//! Agents and relays: the same commands for both, and the tokens that enroll them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;
use domain::FleetKind;
use wire::fleet::{EnrollmentToken, EnrollmentTokenCreate, FleetUnit, LabelsPut, RelayPolicy};

use crate::api::{Api, Context, Paging};
use crate::doc::Doc;
use crate::failure::{Exit, Failure, Result};
use crate::relay_log;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, also those that are no more
    List {
        /// Only with this label
        #[arg(long, value_name = "NAME=VALUE")]
        label: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its name or id
        name: String,
    },
    /// Change the labels of one; without a change, show them
    Labels {
        /// Its name or id
        name: String,
        /// A label to set
        #[arg(value_name = "NAME=VALUE", value_parser = label)]
        set: Vec<(String, String)>,
        /// A label to remove; may be given more than once
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
    },
    /// Revoke one, for good and at once; what it saw stays
    Revoke {
        /// Its name or id
        name: String,
    },
    /// Enrollment tokens: each enrolls one
    #[command(subcommand)]
    Tokens(TokenCommand),
}

/// What relays have besides.
#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    #[command(flatten)]
    Fleet(Command),
    /// Show the log of one, as far as it still has it
    Logs {
        /// Its name or id
        name: String,
        /// Go on with the lines that follow, until it goes or you interrupt
        #[arg(long, short)]
        follow: bool,
    },
    /// Show which client certificates relays have to show, or change it: every relay is cut off and comes back under the new terms
    Policy {
        /// A PEM file with the authorities that vouch for them
        #[arg(long, value_name = "FILE", conflicts_with = "no_authorities")]
        authorities: Option<PathBuf>,
        /// Ask for no certificate any more
        #[arg(long)]
        no_authorities: bool,
        /// Whether a relay without one of theirs is refused
        #[arg(long, value_name = "BOOL")]
        certificate_required: Option<bool>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List enrollment tokens, also those that are no longer good
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Make an enrollment token; shows it once
    Create {
        /// A label of what it enrolls; may be given more than once
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How long it is good, in seconds, up to a week [default: one hour]
        #[arg(long, value_name = "SECONDS")]
        expires_in_s: Option<u32>,
    },
    /// Revoke an enrollment token that was not used
    Revoke {
        /// Its id
        id: String,
    },
}

pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is NAME=VALUE, such as site=berlin")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Table for FleetUnit {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("STATE", "state"),
        ("HEALTH", "health"),
        ("LAST SEEN", "last_seen_at"),
        ("FROM", "last_seen_ip"),
        ("VERSION", "version"),
        ("BEHIND", "behind"),
        ("LABELS", "labels"),
        ("ID", "id"),
    ];
}

/// Relays in a list.
struct Relays;

impl Table for Relays {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("STATE", "state"),
        ("HEALTH", "health"),
        ("TASKS", "running_tasks"),
        ("SSH CERTIFICATE ENDS", "ssh_certificate_ends_at"),
        ("LAST SEEN", "last_seen_at"),
        ("FROM", "last_seen_ip"),
        ("VERSION", "version"),
        ("BEHIND", "behind"),
        ("LABELS", "labels"),
        ("ID", "id"),
    ];
}

impl Table for EnrollmentToken {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("STATE", "state"),
        ("LABELS", "labels"),
        ("CREATED", "created_at"),
        ("EXPIRES", "expires_at"),
        ("USED BY", "used_by"),
    ];
}

/// The id of the one that is meant. A name is that of the one that is not revoked: others may have had it before.
async fn id(api: &Api, kind: FleetKind, path: &str, name: &str) -> Result<String> {
    if name.parse::<domain::FleetId>().is_ok_and(|id| id.kind() == kind) {
        return Ok(name.to_owned());
    }
    let units = api.all(&[path]).await?;
    let mut named = units.iter().filter(|unit| unit.text("name") == name);
    match named.clone().find(|unit| unit.text("state") != "revoked").or_else(|| named.next_back()) {
        Some(unit) => Ok(unit.text("id").to_owned()),
        None => Err(Failure::new(format!("there is no {kind} `{name}`"))),
    }
}

fn labels_of(unit: &Doc) -> BTreeMap<String, String> {
    let Some(Doc::Map(fields)) = unit.field("labels") else { return BTreeMap::new() };
    let text = |value: &Doc| if let Doc::Text(text) = value { text.clone() } else { String::new() };
    fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

impl Command {
    pub(crate) async fn run(self, cx: &Context, kind: FleetKind) -> Result {
        let api = cx.tenant()?;
        let path = match kind {
            FleetKind::Agent => "agents",
            FleetKind::Relay => "relays",
        };
        match self {
            Self::List { label, paging } => {
                let query = [("label", label.as_deref())];
                match kind {
                    FleetKind::Agent => api.show_list::<FleetUnit>(&[path], &query, paging).await,
                    FleetKind::Relay => api.show_list::<Relays>(&[path], &query, paging).await,
                }
            }
            Self::Show { name } => api.out.one(&api.get(&[path, &id(&api, kind, path, &name).await?]).await?),
            Self::Labels { name, set, remove } => {
                let id = id(&api, kind, path, &name).await?;
                let (unit, tag) = api.get_tagged(&[path, &id]).await?;
                if set.is_empty() && remove.is_empty() {
                    return api.out.one(&unit);
                }
                let mut labels = labels_of(&unit);
                labels.extend(set);
                labels.retain(|name, _| !remove.contains(name));
                api.out.one(&api.put_over(tag, &[path, &id, "labels"], &LabelsPut { labels }).await?)
            }
            Self::Revoke { name } => {
                api.delete(&[path, &id(&api, kind, path, &name).await?]).await?;
                api.out.say(&format!("{kind} {name} is revoked"));
                Ok(())
            }
            Self::Tokens(command) => command.run(&api, kind).await,
        }
    }
}

impl RelayCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        match self {
            Self::Fleet(command) => command.run(cx, FleetKind::Relay).await,
            Self::Policy { authorities, no_authorities, certificate_required } => {
                let api = cx.tenant()?;
                let path = &["relay-policy"];
                let (now, tag) = api.get_tagged(path).await?;
                if authorities.is_none() && !no_authorities && certificate_required.is_none() {
                    return api.out.one(&now);
                }
                let mut policy: RelayPolicy = now
                    .parse()
                    .map_err(|error| Failure::new(format!("the server's policy is not as expected: {error}")))?;
                if let Some(file) = authorities {
                    policy.authorities = std::fs::read_to_string(&file)
                        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", file.display())))?;
                }
                if no_authorities {
                    policy = RelayPolicy { authorities: String::new(), certificate_required: false };
                }
                policy.certificate_required = certificate_required.unwrap_or(policy.certificate_required);
                api.out.one(&api.put_over(tag, path, &policy).await?)
            }
            Self::Logs { name, follow } => {
                let api = cx.tenant()?;
                let id = id(&api, FleetKind::Relay, "relays", &name).await?;
                tokio::select! {
                    ended = relay_log::show(&api, &id, &name, follow) => ended,
                    _ = tokio::signal::ctrl_c() => Err(Failure::new("").exit(Exit::Interrupted)),
                }
            }
        }
    }
}

impl TokenCommand {
    async fn run(self, api: &Api, kind: FleetKind) -> Result {
        let path = "enrollment-tokens";
        match self {
            Self::List { paging } => {
                api.show_list::<EnrollmentToken>(&[path], &[("kind", Some(kind.as_str()))], paging).await
            }
            Self::Create { labels, expires_in_s } => {
                let labels = labels.into_iter().collect();
                let body = EnrollmentTokenCreate { kind: kind.to_string(), labels, expires_in_s };
                api.out.one(&api.post(&[path], &body).await?)?;
                api.out.say("the token is shown this once, and enrolls one");
                Ok(())
            }
            Self::Revoke { id } => {
                api.delete(&[path, &id]).await?;
                api.out.say(&format!("enrollment token {id} is revoked"));
                Ok(())
            }
        }
    }
}
