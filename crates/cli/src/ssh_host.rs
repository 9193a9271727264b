//! SSH hosts as destinations: what administrators say of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use domain::DestinationRole;
use wire::destination::{ByLabels, HostSet, HostSetPut};
use wire::ssh_access::{SshHost, SshHostCertificate, SshHostPut};

use crate::accounts;
use crate::api::Api;
use crate::failure::{Failure, Result};
use crate::fleet::label;
use crate::output;
use crate::table::Table;

/// What people make a destination; clusters are registered by their relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Ssh,
    Set,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: 1 to 63 of a-z, 0-9 and -
    name: String,
    /// Of a host: where it is reached, such as web1.example or 10.0.0.7:2222
    #[arg(required_unless_present = "kind")]
    address: Option<String>,
    /// What it is: a host that is reached by SSH, or a set of such hosts, which are those that have some labels
    #[arg(long, value_enum, default_value = "ssh")]
    kind: Kind,
    /// Of a set: the labels that a host of it has, between commas or several times
    #[arg(long, value_name = "NAME=VALUE", conflicts_with_all = ["address", "host_key_file", "roles", "labels", "source_networks", "extensions", "relay", "direct"])]
    selector: Vec<String>,
    /// Of a host: the file with its public host key, such as a copy of its /etc/ssh/ssh_host_ed25519_key.pub
    #[arg(long, value_name = "FILE", required_unless_present = "kind")]
    host_key_file: Option<PathBuf>,
    /// Of a host: an account that can be reached, which is a role; several times
    #[arg(long = "role", value_name = "ACCOUNT", required_unless_present = "kind")]
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
    /// Let users reach it themselves: nothing records what they do there, and a session that is open goes on after its grant has ended
    #[arg(long, visible_alias = "no-relay", conflicts_with = "relay")]
    direct: bool,
    /// Say anew what a host or a set is that is there already, as a whole; otherwise one that is there is left alone
    #[arg(long)]
    replace: bool,
}

/// What it means that users reach a host themselves.
const DIRECT: &str = "nothing records what they do there, and a session that is open goes on after its grant has ended";

impl Table for SshHost {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("ADDRESS", "address"),
        ("ROLES", "roles"),
        ("LABELS", "labels"),
        ("SOURCES", "source_networks"),
        ("EXTENSIONS", "extensions"),
        ("RELAY", "relay_name"),
        ("WAY", "way"),
        ("ID", "id"),
    ];
}

/// What to do about a destination that is there already.
pub(crate) fn there_already(failure: Failure, hint: &str) -> Failure {
    if failure.is_precondition() { failure.hint(hint) } else { failure }
}

impl Table for HostSet {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("SELECTOR", "selector"),
        ("HOSTS", "hosts"),
        ("ACCOUNTS", "roles"),
        ("GRANTS", "grants"),
        ("ID", "id"),
    ];
}

/// `role=web,env=prod` as labels. A piece without `=` is the rest of the value before it.
fn selector(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let (mut found, mut last) = (BTreeMap::<String, String>::new(), None);
    for text in texts {
        for (at, piece) in text.split(',').enumerate() {
            let rest_of = last.as_ref().filter(|_| at > 0 && !piece.contains('='));
            if let Some(value) = rest_of.and_then(|name| found.get_mut(name)) {
                value.push(',');
                value.push_str(piece);
                continue;
            }
            let (name, value) = label(piece).map_err(Failure::usage)?;
            if found.insert(name.clone(), value).is_some() {
                return Err(Failure::usage(format!("the label `{name}` is there twice: a host has one value of it")));
            }
            last = Some(name);
        }
    }
    Ok(found)
}

/// What goes by the labels of a destination, where something does: whoever labels it gives that.
pub(crate) fn say_by_labels(api: &Api, name: &str, by: Option<&ByLabels>) {
    let Some(by) = by.filter(|by| by.grants > 0 || !by.sets.is_empty()) else { return };
    let sets = if by.sets.is_empty() { "in no set".to_owned() } else { format!("in: {}", by.sets.join(", ")) };
    let grants = if by.grants == 1 { "1 grant covers".to_owned() } else { format!("{} grants cover", by.grants) };
    api.out.say(&format!("by its labels {name} is {sets}; {grants} it by them"));
}

impl Create {
    pub(crate) async fn run(self, api: &Api) -> Result {
        match self.kind {
            Kind::Set => self.set(api).await,
            Kind::Ssh => self.host(api).await,
        }
    }

    async fn set(self, api: &Api) -> Result {
        if self.selector.is_empty() {
            return Err(Failure::usage(
                "a set has no address and no key: say by --selector NAME=VALUE which hosts are in it",
            ));
        }
        let body = HostSetPut { selector: selector(&self.selector)? };
        let path = ["destinations", &self.name, "host-set"];
        let made = if self.replace { api.put(&path, &body).await } else { api.put_new(&path, &body).await };
        let made = made.map_err(|failure| there_already(failure, "--replace says anew which hosts are in it"))?;
        api.out.one(&made)?;
        api.out.say(&format!("`cairn destinations hosts {}` lists the hosts that are in it now", self.name));
        Ok(())
    }

    async fn host(self, api: &Api) -> Result {
        let missing = "a host needs its ADDRESS, --host-key-file and --role";
        let (Some(address), Some(file), false) = (self.address, self.host_key_file, self.roles.is_empty()) else {
            return Err(Failure::usage(missing));
        };
        if !self.selector.is_empty() {
            return Err(Failure::usage("--selector is of a set: --kind set"));
        }
        // Whether sessions are recorded and cut is nothing to leave to a default. What is there already stays as it is.
        let is_said = self.direct || self.relay.is_some();
        let why = "through a relay sessions are recorded, and cut when their grant ends; --direct: neither, and who is in stays in";
        if !self.replace && !is_said {
            let says = format!("say how users reach `{}`: --relay RELAY or --direct", self.name);
            return Err(Failure::usage(says).hint(why));
        }
        let host_key = std::fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, error))?;
        let labels: BTreeMap<_, _> = self.labels.into_iter().collect();
        let body = SshHostPut {
            address,
            host_key: host_key.trim().to_owned(),
            roles: self.roles,
            labels: (!labels.is_empty()).then_some(labels),
            source_networks: self.source_networks,
            extensions: (!self.extensions.is_empty()).then_some(self.extensions),
            relay: if self.direct { Some(String::new()) } else { self.relay },
        };
        let path = ["destinations", &self.name, "ssh-host"];
        let made = match (self.replace, is_said) {
            (false, _) => api.put_new(&path, &body).await,
            (true, true) => api.put(&path, &body).await,
            (true, false) => api.put_there(&path, &body).await,
        };
        let hint = if self.replace {
            "a new one needs --relay RELAY or --direct, which say how users reach it"
        } else {
            "--replace says anew what it is"
        };
        let made = made.map_err(|failure| there_already(failure, hint))?;
        api.out.one(&made)?;
        let host = made.parse::<SshHost>().ok();
        if host.as_ref().is_some_and(|host| host.relay.is_none()) {
            output::warn(&format!("users reach {} themselves: {DIRECT}", self.name));
        }
        say_by_labels(api, &self.name, host.as_ref().map(|host| &host.by_labels));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_labels_between_commas() {
        let said = |texts: &[&str]| selector(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(said(&["role=web,env=prod"]).unwrap(), labels(&[("env", "prod"), ("role", "web")]));
        assert_eq!(said(&["role=web", "env=a,b"]).unwrap(), labels(&[("env", "a,b"), ("role", "web")]));
        for bad in [&["role"][..], &[""], &["a=b,a=c"], &["a=b", "a=b"], &["a=b", "c"]] {
            assert!(said(bad).is_err(), "{bad:?}");
        }
    }
}
