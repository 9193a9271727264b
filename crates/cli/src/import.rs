//! Taking over what another product granted: its API's replies become a file of access, which is applied like any other, in one transaction.
//!
//! Invariant: nothing is asked of the server but what such a file asks.

mod infra;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use wire::access_file::AccessFileApply;

use crate::api::{Api, Context};
use crate::apply::{How, apply};
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Users, groups, grants and destinations of an Infra server (infrahq/infra), from replies of its API
    Infra(Infra),
}

#[derive(Debug, Args)]
pub(crate) struct Infra {
    /// A folder with users.json, groups.json, grants.json, destinations.json and members-GROUP.json, or one JSON file with all of them
    file: PathBuf,
    /// Invite Infra's administrators as tenant-admin, and not like everybody else as read-only
    #[arg(long)]
    admins: bool,
    /// The account of each SSH host, and of grants to it: Infra has one for each user, here a role is an account
    #[arg(long, value_name = "ACCOUNT")]
    ssh_role: Option<domain::DestinationRole>,
    /// Write the file of access that this makes, and apply nothing
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let Self::Infra(command) = self;
        let source = infra::Export::read(&command.file)?;
        let mapped = source.map(&infra::Options { admins: command.admins, ssh_role: command.ssh_role });
        for left_out in &mapped.left_out {
            output::warn(&format!("not taken over: {left_out}"));
        }
        if let Some(path) = command.write {
            let failed = |e: &dyn std::fmt::Display| Failure::file("write", &path, e);
            let json = serde_json::to_string(&mapped.file).map_err(|e| failed(&e))?;
            let doc: crate::doc::Doc = serde_json::from_str(&json).map_err(|e| failed(&e))?;
            return std::fs::write(&path, doc.to_yaml()).map_err(|e| failed(&e));
        }
        let api = cx.tenant()?;
        clusters_wait(&api, &mapped.clusters).await?;
        let hosts: Vec<String> = mapped.file.hosts.iter().map(|host| host.name.clone()).collect();
        let body = AccessFileApply { file: mapped.file, prune: command.how.prune(), missing_waits: true, digest: None };
        apply(&api, body, &command.how, |failure| told(&hosts, failure)).await
    }
}

/// Says which clusters no relay has registered yet.
async fn clusters_wait(api: &Api, clusters: &BTreeSet<String>) -> Result {
    let there = api.all_with(&["destinations"], &[]).await?;
    for name in clusters.iter().filter(|name| !there.iter().any(|one| one.text("name") == **name)) {
        output::warn(&format!("the cluster `{name}` waits: register its relay under this name"));
    }
    Ok(())
}

/// A server's `hosts[3].…`, `grants[3]: …` in words of what is taken over: nobody sees the file that this makes.
fn told(hosts: &[String], failure: Failure) -> Failure {
    let host = failure.message.strip_prefix("hosts[").and_then(|rest| rest.split_once(']')).and_then(|(at, rest)| {
        let name = hosts.get(at.parse::<usize>().ok()?)?;
        Some(format!("the SSH host `{name}`: {}", rest.trim_start_matches(['.', ':', ' '])))
    });
    match host {
        Some(message) => Failure { message, ..failure },
        None if failure.message.contains("]: ") => failure.hint("--write FILE writes the file that this is about"),
        None => failure,
    }
}
