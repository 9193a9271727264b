//! Identity providers: the client secret goes in from a file, the standard input or a prompt, and never from an argument.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use wire::provider::{Provider, ProviderCreate, ProviderUpdate};

use crate::api::{Context, Paging};
use crate::failure::{Failure, Result};
use crate::prompt;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List identity providers; their secrets are never shown
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an identity provider, with what has to be registered there
    Show {
        /// Its name or id
        provider: String,
    },
    /// Make an identity provider; the client secret is asked for without echo
    Create(Create),
    /// Change an identity provider; its issuer stays, since identities belong to it
    #[command(group = ArgGroup::new("change").args(["title", "client_id", "client_secret_file", "scopes", "groups_claim", "email_domains"])
        .required(true).multiple(true))]
    Update(Update),
    /// Delete an identity provider: its users' sessions end, and what its groups gave is gone
    Delete {
        /// Its name or id
        provider: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make the token by which a provider provisions users and groups (SCIM 2.0); shows it once, and one before it is good no more
    ScimToken {
        /// The provider's name or id
        provider: String,
        /// End provisioning instead: the token is refused from now on
        #[arg(long)]
        revoke: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name in URLs: 1 to 63 of a-z, 0-9 and -
    name: String,
    /// Its issuer, exactly as its tokens spell it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Who this installation is there
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// Read the client secret from a file; - is the standard input
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// Its name on the button [default: the name]
    #[arg(long)]
    title: Option<String>,
    /// What is asked for, separated by spaces [default: openid email profile offline_access]
    #[arg(long)]
    scopes: Option<String>,
    /// The claim that lists a user's groups, empty for none [default: groups]
    #[arg(long, value_name = "CLAIM")]
    groups_claim: Option<String>,
    /// Take its word for addresses at these domains, separated by spaces, where it does not say whether they are verified [default: none]
    #[arg(long, value_name = "DOMAINS")]
    email_domains: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its name or id
    provider: String,
    /// Its name on the button
    #[arg(long)]
    title: Option<String>,
    /// Who this installation is there
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Read a new client secret from a file; - is the standard input
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// What is asked for, separated by spaces
    #[arg(long)]
    scopes: Option<String>,
    /// The claim that lists a user's groups, empty for none
    #[arg(long, value_name = "CLAIM")]
    groups_claim: Option<String>,
    /// Take its word for addresses at these domains, separated by spaces; empty for none
    #[arg(long, value_name = "DOMAINS")]
    email_domains: Option<String>,
}

impl Table for Provider {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("TITLE", "title"),
        ("ISSUER", "issuer"),
        ("CLIENT", "client_id"),
        ("SCIM", "scim"),
        ("ID", "id"),
    ];
}

fn from_file(path: &Path) -> Result<String> {
    Ok(prompt::secret_file(path)?.expose_str().unwrap_or_default().to_owned())
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<Provider>(&["providers"], &[], paging).await,
            Self::Show { provider } => api.out.one(&api.get(&["providers", &provider]).await?),
            Self::Create(create) => {
                let client_secret = match &create.client_secret_file {
                    Some(path) => from_file(path)?,
                    None if prompt::is_interactive() => {
                        prompt::secret("client secret:")?.expose_str().unwrap_or_default().to_owned()
                    }
                    None => {
                        return Err(Failure::usage("the client secret is missing")
                            .hint("--client-secret-file FILE (- is the standard input); or run it in a terminal"));
                    }
                };
                let body = ProviderCreate {
                    name: create.name,
                    title: create.title,
                    issuer: create.issuer,
                    client_id: create.client_id,
                    client_secret,
                    scopes: create.scopes,
                    groups_claim: create.groups_claim,
                    email_domains: create.email_domains,
                };
                let made = api.post(&["providers"], &body).await?;
                api.out.one(&made)?;
                api.out.say(&format!("register this redirect URI there: {}", made.text("redirect_uri")));
                Ok(())
            }
            Self::Update(update) => {
                let body = ProviderUpdate {
                    title: update.title,
                    client_id: update.client_id,
                    client_secret: update.client_secret_file.as_deref().map(from_file).transpose()?,
                    scopes: update.scopes,
                    groups_claim: update.groups_claim,
                    email_domains: update.email_domains,
                };
                api.out.one(&api.patch(&["providers", &update.provider], &body).await?)
            }
            Self::Delete { provider, yes } => {
                if !yes && !prompt::is_interactive() {
                    return Err(Failure::new("deleting a provider needs a confirmation").hint("add --yes"));
                }
                let question =
                    format!("Delete provider `{provider}`, its users' sessions and the roles of its groups?");
                if !yes && !prompt::confirm(&question)? {
                    return Err(Failure::new("nothing was deleted"));
                }
                api.delete(&["providers", &provider]).await?;
                api.out.say(&format!("provider {provider} is deleted"));
                Ok(())
            }
            Self::ScimToken { provider, revoke: true } => {
                api.delete(&["providers", &provider, "scim-token"]).await?;
                api.out.say(&format!("provider {provider} provisions no more"));
                Ok(())
            }
            Self::ScimToken { provider, revoke: false } => {
                api.out.one(&api.act(&["providers", &provider, "scim-token"]).await?)?;
                api.out.say("the token is shown this once");
                Ok(())
            }
        }
    }
}
