//! Taking over what another product granted: its API's replies become a file of access, which is applied like any other, and its SSH hosts destinations.
//!
//! Invariants:
//! - a destination that is there stays as it is;
//! - nothing is made before the server took the file.

mod infra;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wire::access_file::AccessFileApply;
use wire::ssh_access::SshHostPut;

use crate::api::{Api, Context};
use crate::apply::{How, apply, confirmed};
use crate::failure::{Exit, Failure, Result};
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
            for host in &mapped.hosts {
                output::warn(&format!("not in the file: the SSH host {} ({})", host.name, host.address));
            }
            let failed = |e: &dyn std::fmt::Display| crate::failure::Failure::file("write", &path, e);
            let json = serde_json::to_string(&mapped.file).map_err(|e| failed(&e))?;
            let doc: crate::doc::Doc = serde_json::from_str(&json).map_err(|e| failed(&e))?;
            return std::fs::write(&path, doc.to_yaml()).map_err(|e| failed(&e));
        }
        let api = cx.tenant()?;
        let body = AccessFileApply { file: mapped.file, prune: command.how.prune(), missing_waits: true, digest: None };
        let hosts = destinations(&api, mapped.hosts, &mapped.clusters).await?;
        if hosts.is_empty() {
            return apply(&api, body, &command.how, |failure| failure).await;
        }
        // What the server would refuse is refused before a host is made.
        api.post(&["access-file", "plan"], &body).await?;
        for host in &hosts {
            api.out.say(&format!("+ destination {}  {}, account {}", host.name, host.address, host.role));
        }
        if command.how.dry_run() {
            apply(&api, body, &command.how, |failure| failure).await?;
            let count = hosts.len();
            return Err(Failure::new(format!("{count} differences, nothing was changed")).exit(Exit::NotVerified));
        }
        confirmed(&command.how, &format!("Make these {} destinations?", hosts.len()))?;
        for host in hosts {
            make(&api, host).await?;
        }
        apply(&api, body, &command.how, |failure| failure).await
    }
}

/// The hosts that are no destinations yet; says what else there is not.
async fn destinations(
    api: &Api,
    hosts: Vec<infra::Host>,
    clusters: &std::collections::BTreeSet<String>,
) -> Result<Vec<infra::Host>> {
    let there = api.all_with(&["destinations"], &[]).await?;
    let is_there = |name: &str| there.iter().any(|one| one.text("name") == name);
    for name in clusters.iter().filter(|name| !is_there(name)) {
        output::warn(&format!("the cluster `{name}` waits: register its relay under this name"));
    }
    Ok(hosts.into_iter().filter(|host| !is_there(&host.name)).collect())
}

async fn make(api: &Api, host: infra::Host) -> Result {
    let infra::Host { name, address, key, role } = host;
    let body = SshHostPut {
        address,
        host_key: key,
        roles: vec![role],
        labels: None,
        source_networks: Vec::new(),
        extensions: None,
        relay: None,
    };
    // Somebody may have made one since it was looked for.
    let made = api.put_new(&["destinations", &name, "ssh-host"], &body).await;
    made.map_err(|failure| Failure { message: format!("the SSH host `{name}`: {}", failure.message), ..failure })?;
    api.out.say(&format!(
        "{name} is a destination; `cairn destinations host {name} --sshd-config` prints what to tell it"
    ));
    Ok(())
}
