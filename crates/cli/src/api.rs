//! What a command needs of the outside: who is asked, in which tenant, and where the answer goes.

use std::path::PathBuf;

use clap::Args;

use crate::client::{Client, Condition, Query, Stream, Tag};
use crate::config::{Config, Environment};
use crate::doc::Doc;
use crate::factor::Proofs;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::server::Server;
use crate::table::Table;

/// The options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The tenant's name or id [env: CAIRN_TENANT] [default: the one of the login]
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) tenant: Option<String>,
    /// The server's address [env: CAIRN_SERVER] [default: the one of the last login]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// Where the password is needed, read it from a file, - for the standard input [default: asked for]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) password_file: Option<PathBuf>,
    /// Where the code of a second factor is needed, read it from a file, - for the standard input [default: asked for]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) code_file: Option<PathBuf>,
    /// No progress and no remarks: only data, warnings and errors
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
}

/// How much of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Paging {
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all, however many there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    pub(crate) const ALL: Self = Self { limit: 1, all: true };

    fn limit(self) -> Option<usize> {
        (!self.all).then_some(self.limit as usize)
    }
}

/// The command's surroundings.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) global: Global,
    pub(crate) environment: Environment,
}

impl Context {
    /// Where `config.json` is.
    pub(crate) fn home(&self) -> Result<&std::path::Path> {
        let home = self.environment.home.as_deref();
        home.ok_or_else(|| Failure::new("there is no home directory").hint("set CAIRN_HOME to a private directory"))
    }

    /// The server that is meant.
    pub(crate) fn server(&self, config: &Config) -> Result<Server> {
        match self.global.server.as_deref().or(self.environment.server.as_deref()) {
            Some(text) => text.parse(),
            None => {
                config.current.clone().ok_or_else(|| Failure::new("no server is known yet").hint("cairn login SERVER"))
            }
        }
    }

    /// What passwords and codes come from.
    pub(crate) fn proofs(&self) -> Proofs {
        Proofs { password_file: self.global.password_file.clone(), code_file: self.global.code_file.clone() }
    }

    /// What is asked as the signed-in user, outside any tenant.
    pub(crate) fn platform(&self) -> Result<Api> {
        self.signed_in().map(|(api, _)| api)
    }

    /// What is asked in the tenant that is meant.
    pub(crate) fn tenant(&self) -> Result<Api> {
        let (api, default) = self.signed_in()?;
        let tenant =
            self.global.tenant.clone().or_else(|| self.environment.tenant.clone()).or(default).ok_or_else(|| {
                Failure::usage("which tenant is meant?")
                    .hint("--tenant NAME, or CAIRN_TENANT; `cairn whoami` lists yours")
            })?;
        Ok(Api { inside: vec!["tenants".to_owned(), tenant], ..api })
    }

    fn signed_in(&self) -> Result<(Api, Option<String>)> {
        let config = Config::load(self.home()?)?;
        let server = self.server(&config)?;
        let sign_in =
            || Failure::new(format!("you are not signed in to {server}")).hint(format!("cairn login {server}"));
        let known = config.servers.get(&server).ok_or_else(sign_in)?;
        let session = known.session.as_ref().ok_or_else(sign_in)?;
        let client = Client::new(server.clone(), known.trust, Some(session.token.clone()))?.with_proofs(self.proofs());
        Ok((Api { client, out: self.out, inside: Vec::new() }, known.tenant.clone()))
    }
}

/// A part of the API: the platform's or one tenant's.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) out: Output,
    inside: Vec<String>,
}

impl Api {
    /// The tenant that is meant, as it was named; empty for the platform.
    pub(crate) fn tenant_name(&self) -> &str {
        self.inside.get(1).map_or("", String::as_str)
    }

    /// What tells this session at this server in this tenant from every other: a digest, since the session's token goes into it.
    pub(crate) fn identity(&self) -> String {
        let token = self.client.token().unwrap_or_default();
        let text = format!("{} {} {token}", self.client.server(), self.tenant_name());
        crypto::sha256(text.as_bytes()).to_hex()
    }

    fn path<'a>(&'a self, parts: &[&'a str]) -> Vec<&'a str> {
        self.inside.iter().map(String::as_str).chain(parts.iter().copied()).collect()
    }

    pub(crate) async fn get(&self, parts: &[&str]) -> Result<Doc> {
        self.client.get(&self.path(parts), &[]).await
    }

    pub(crate) async fn get_with(&self, parts: &[&str], query: Query<'_>) -> Result<Doc> {
        self.client.get(&self.path(parts), query).await
    }

    pub(crate) async fn post(&self, parts: &[&str], body: &impl serde::Serialize) -> Result<Doc> {
        self.client.post(&self.path(parts), Some(body)).await
    }

    /// A connection that becomes something else: see [`Client::switch`].
    pub(crate) async fn switch(&self, parts: &[&str], to: &'static str, token: &str) -> Result<reqwest::Upgraded> {
        self.client.switch(&self.path(parts), to, token).await
    }

    /// A POST that says all by its path.
    pub(crate) async fn act(&self, parts: &[&str]) -> Result<Doc> {
        self.client.post(&self.path(parts), None::<&()>).await
    }

    pub(crate) async fn put(&self, parts: &[&str], body: &impl serde::Serialize) -> Result<Doc> {
        self.client.put(&self.path(parts), body).await
    }

    /// What is read to be changed, with what names its state.
    pub(crate) async fn get_tagged(&self, parts: &[&str]) -> Result<(Doc, Option<Tag>)> {
        self.client.get_tagged(&self.path(parts)).await
    }

    /// A PUT of what is not there yet.
    pub(crate) async fn put_new(&self, parts: &[&str], body: &impl serde::Serialize) -> Result<Doc> {
        self.client.only_if(Some(Condition::New)).put(&self.path(parts), body).await
    }

    /// A PUT of what is there.
    pub(crate) async fn put_there(&self, parts: &[&str], body: &impl serde::Serialize) -> Result<Doc> {
        self.client.only_if(Some(Condition::There)).put(&self.path(parts), body).await
    }

    /// A PUT over what was read, and over nothing that somebody made of it since.
    pub(crate) async fn put_over(
        &self,
        read: Option<Tag>,
        parts: &[&str],
        body: &impl serde::Serialize,
    ) -> Result<Doc> {
        let put = self.client.only_if(read.map(Condition::Unchanged)).put(&self.path(parts), body).await;
        put.map_err(|failure| match failure.code.as_deref() {
            Some("precondition_failed") => failure.hint("run it again: it begins from what is there now"),
            _ => failure,
        })
    }

    /// A PUT that says all by its path.
    pub(crate) async fn set(&self, parts: &[&str]) -> Result {
        self.client.set(&self.path(parts)).await
    }

    /// A POST that says all by its path, and is answered with nothing.
    pub(crate) async fn tell(&self, parts: &[&str]) -> Result {
        self.client.act(&self.path(parts)).await
    }

    pub(crate) async fn patch(&self, parts: &[&str], body: &impl serde::Serialize) -> Result<Doc> {
        self.client.patch(&self.path(parts), body).await
    }

    pub(crate) async fn delete(&self, parts: &[&str]) -> Result {
        self.client.delete(&self.path(parts)).await
    }

    pub(crate) async fn stream(&self, parts: &[&str], query: Query<'_>) -> Result<Stream> {
        self.client.stream(&self.path(parts), query).await
    }

    /// All items of a list.
    pub(crate) async fn all(&self, parts: &[&str]) -> Result<Vec<Doc>> {
        self.all_with(parts, &[]).await
    }

    /// The same of those that a query names.
    pub(crate) async fn all_with(&self, parts: &[&str], query: Query<'_>) -> Result<Vec<Doc>> {
        Ok(self.client.list(&self.path(parts), query, None).await?.0)
    }

    /// Shows a list.
    pub(crate) async fn show_list<T: Table>(&self, parts: &[&str], query: Query<'_>, paging: Paging) -> Result {
        let (items, more) = self.client.list(&self.path(parts), query, paging.limit()).await?;
        let shown = items.len();
        self.out.list::<T>(items)?;
        if more {
            self.out.say(&format!("{shown} shown, there are more: --all, or --limit N"));
        }
        Ok(())
    }

    /// Shows the one item of a list that has this value in a field.
    pub(crate) async fn find(&self, parts: &[&str], field: &str, value: &str, what: &str) -> Result<Doc> {
        let mut found: Vec<Doc> =
            self.all(parts).await?.into_iter().filter(|item| item.text(field).eq_ignore_ascii_case(value)).collect();
        let ids = found.iter().map(|item| item.text("id").to_owned()).collect::<Vec<_>>();
        match (found.pop(), ids.len()) {
            (Some(item), 1) => Ok(item),
            (None, _) => Err(Failure::new(format!("there is no {what} `{value}`"))),
            _ => Err(Failure::new(format!("`{value}` is the {field} of more than one {what}"))
                .hint(format!("name one by its id: {}", ids.join(", ")))),
        }
    }
}
