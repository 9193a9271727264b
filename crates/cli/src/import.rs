//! Taking over what another product granted: its API's replies become a file of access, which is applied like any other.

mod infra;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wire::access_file::AccessFileApply;

use crate::api::Context;
use crate::apply::{How, apply};
use crate::failure::Result;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Users, groups and grants of an Infra server (infrahq/infra), from replies of its API
    Infra(Infra),
}

#[derive(Debug, Args)]
pub(crate) struct Infra {
    /// A folder with users.json, groups.json, grants.json, destinations.json and members-GROUP.json, or one JSON file with all of them
    file: PathBuf,
    /// Invite Infra's administrators as tenant-admin, and not like everybody else as read-only
    #[arg(long)]
    admins: bool,
    /// The account that a grant to an SSH host is for: Infra has one account for each user, here a role is an account
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
            let failed = |e: &dyn std::fmt::Display| crate::failure::Failure::file("write", &path, e);
            let json = serde_json::to_string(&mapped.file).map_err(|e| failed(&e))?;
            let doc: crate::doc::Doc = serde_json::from_str(&json).map_err(|e| failed(&e))?;
            return std::fs::write(&path, doc.to_yaml()).map_err(|e| failed(&e));
        }
        let body = AccessFileApply { file: mapped.file, prune: false, missing_waits: true, digest: None };
        apply(&cx.tenant()?, body, &command.how, |failure| failure).await
    }
}
