//! SSH hosts as destinations: what administrators say of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use domain::DestinationRole;
use wire::ssh_access::{SshHost, SshHostCertificate, SshHostPut};

use crate::accounts;
use crate::api::Api;
use crate::failure::{Failure, Result};
use crate::fleet::label;
use crate::output;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: 1 to 63 of a-z, 0-9 and -
    name: String,
    /// Where it is reached, such as web1.example or 10.0.0.7:2222
    address: String,
    /// The file with its public host key, such as a copy of its /etc/ssh/ssh_host_ed25519_key.pub
    #[arg(long, value_name = "FILE")]
    host_key_file: PathBuf,
    /// An account that can be reached, which is a role; several times
    #[arg(long = "role", value_name = "ACCOUNT", required = true)]
    roles: Vec<DestinationRole>,
    /// A label, which selectors of grants go by; several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A network from which certificates for it are good; several times; otherwise from everywhere
    #[arg(long = "source-network", value_name = "NETWORK")]
    source_networks: Vec<String>,
    /// What certificates for it allow, such as permit-port-forwarding; several times [default: permit-pty]
    #[arg(long = "extension", value_name = "NAME")]
    extensions: Vec<String>,
    /// The relay that reaches it, by name or id: users come through the relay, whose sessions are recorded and can be cut
    #[arg(long, value_name = "RELAY")]
    relay: Option<String>,
    /// Let users reach it themselves again
    #[arg(long, conflicts_with = "relay")]
    no_relay: bool,
    /// Say anew what a host is that is there already, as a whole; otherwise one that is there is left alone
    #[arg(long)]
    replace: bool,
}

impl Table for SshHost {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("ADDRESS", "address"),
        ("ROLES", "roles"),
        ("LABELS", "labels"),
        ("SOURCES", "source_networks"),
        ("EXTENSIONS", "extensions"),
        ("RELAY", "relay_name"),
        ("ID", "id"),
    ];
}

/// What to do about a destination that is there already.
pub(crate) fn there_already(failure: Failure, hint: &str) -> Failure {
    if failure.is_precondition() { failure.hint(hint) } else { failure }
}

impl Create {
    pub(crate) async fn run(self, api: &Api) -> Result {
        let host_key = std::fs::read_to_string(&self.host_key_file)
            .map_err(|error| Failure::file("read", &self.host_key_file, error))?;
        let labels: BTreeMap<_, _> = self.labels.into_iter().collect();
        let body = SshHostPut {
            address: self.address,
            host_key: host_key.trim().to_owned(),
            roles: self.roles,
            labels: (!labels.is_empty()).then_some(labels),
            source_networks: self.source_networks,
            extensions: (!self.extensions.is_empty()).then_some(self.extensions),
            relay: if self.no_relay { Some(String::new()) } else { self.relay },
        };
        let path = ["destinations", &self.name, "ssh-host"];
        let made = if self.replace { api.put(&path, &body).await } else { api.put_new(&path, &body).await };
        api.out.one(&made.map_err(|failure| there_already(failure, "--replace says anew what it is"))?)?;
        api.out.say(&format!(
            "tell the host: `cairn destinations host {} --sshd-config` prints the lines, `--authorities` its file of authorities",
            self.name
        ));
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Host {
    /// The destination's name or id
    name: String,
    /// Print what its sshd_config needs instead
    #[arg(long)]
    sshd_config: bool,
    /// Print the keys whose certificates it has to take instead: its file /etc/ssh/cairn_ca.pub
    #[arg(long, conflicts_with = "sshd_config")]
    authorities: bool,
    /// Have its key signed and print the certificate instead: the file that its HostCertificate names, good for 90 days
    #[arg(long, conflicts_with_all = ["sshd_config", "authorities"])]
    certificate: bool,
    /// Print a script instead that makes its accounts, which root runs on the host: it locks those that are roles no more, and deletes nothing
    #[arg(long, conflicts_with_all = ["sshd_config", "authorities", "certificate"])]
    accounts: bool,
    /// Who may use sudo there: for everything, or for one command with its whole path; several times
    #[arg(long, value_name = "ACCOUNT[=COMMAND]", requires = "accounts")]
    sudo: Vec<String>,
}

impl Host {
    pub(crate) async fn run(self, api: &Api) -> Result {
        let of = ["destinations", self.name.as_str(), "ssh-host"];
        if self.certificate {
            let made: SshHostCertificate = api
                .act(&["destinations", &self.name, "ssh-host", "certificates"])
                .await?
                .parse()
                .map_err(|_| crate::client::not_ours())?;
            return output::data(format!("{}\n", made.certificate).as_bytes());
        }
        let doc = api.get(&of).await?;
        if !self.sshd_config && !self.authorities && !self.accounts {
            return api.out.one(&doc);
        }
        let host: SshHost = doc.parse().map_err(|_| crate::client::not_ours())?;
        if self.accounts {
            return output::data(accounts::script(&host.name, &host.roles, &self.sudo)?.as_bytes());
        }
        let text = if self.sshd_config { host.sshd_config } else { host.authorities.join("\n") + "\n" };
        output::data(text.as_bytes())
    }
}
