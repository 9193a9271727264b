//! The configuration that plain `ssh` includes: the hosts of every server and tenant for which it was asked.
//!
//! Invariants:
//! - writing down the hosts of one server and tenant changes nothing of those of another, and signing out of a server forgets its own only;
//! - a short name (`web1.cairn`) leads to one host: where two servers or tenants have it, it leads nowhere and says which long names
//!   (`web1.TENANT.SERVER.cairn`) to use. Nobody comes to another machine than yesterday's because somebody gave one the same name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use domain::{DestinationRole, Slug};
use serde::{Deserialize, Serialize};
use wire::destination::Reach;

use crate::api::{Api, Context};
use crate::client::not_ours;
use crate::failure::{Failure, Result};
use crate::server::Server;
use crate::ssh::{FOLDER, folder, quoted, write};

/// What a folder of keys says about itself.
const ABOUT: &str = "about.json";

/// The hosts of a tenant of a server, each with the roles that are held there.
#[derive(Serialize, Deserialize)]
pub(crate) struct About {
    server: Server,
    tenant: String,
    hosts: BTreeMap<Slug, Vec<DestinationRole>>,
}

/// The folder of what is kept of a tenant of a server.
pub(crate) fn kept(home: &Path, server: &Server, tenant: &str) -> PathBuf {
    let of = crypto::sha256(format!("{server}\n{tenant}").as_bytes()).to_hex();
    home.join(of.get(..16).unwrap_or_default())
}

/// How a configuration of `ssh` calls this program, for a server and a tenant.
pub(crate) fn again(server: &Server, tenant: &str) -> Result<String> {
    let program = std::env::current_exe().map_err(|error| Failure::new(format!("where am I? {error}")))?;
    let plain = |text: &str| !text.contains(['\'', '"', '\\', '%', '$', '\n']);
    let (program, server) = (program.to_string_lossy(), server.to_string());
    if ![&program, server.as_str(), tenant].into_iter().all(plain) {
        return Err(Failure::new("the path of this program has a character that no configuration of ssh can hold"));
    }
    Ok(format!("'{program}' --server '{server}' --tenant '{tenant}'"))
}

impl About {
    pub(crate) fn new(api: &Api) -> Self {
        Self { server: api.client.server().clone(), tenant: api.tenant_name().to_owned(), hosts: BTreeMap::new() }
    }

    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path.join(ABOUT)).ok()?).ok()
    }

    /// Writes into the folder of whose it is.
    pub(crate) fn write(&self, into: &Path) -> Result {
        let text = serde_json::to_vec(self).map_err(|error| Failure::file("write", into, error))?;
        write(&into.join(ABOUT), &text)
    }

    /// The name that means this host and no other: no pattern of a configuration, whatever the server is called.
    fn long(&self, name: &Slug) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
        format!("{name}.{}.{}.cairn", self.tenant, self.server.authority()).chars().map(plain).collect()
    }
}

/// The folders below `home`, with what each says about itself.
fn folders(home: &Path) -> BTreeMap<PathBuf, Option<About>> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).map(|path| (path.clone(), About::read(&path))).collect()
}

/// The whole configuration, and the short names that mean several hosts.
fn configuration(home: &Path, all: &[About]) -> Result<(String, Vec<Slug>)> {
    let mut named: BTreeMap<&Slug, Vec<&About>> = BTreeMap::new();
    for about in all {
        for name in about.hosts.keys() {
            named.entry(name).or_default().push(about);
        }
    }
    let mut text = "# Written by `cairn ssh --include`, which writes it anew.\n".to_owned();
    let mut several = Vec::new();
    for (name, abouts) in named {
        let alone = abouts.len() == 1;
        for about in &abouts {
            let again = again(&about.server, &about.tenant)?;
            let long = about.long(name);
            let names = if alone { format!("{name}.cairn,{long}") } else { long };
            let roles = about.hosts.get(name).map_or(&[][..], Vec::as_slice);
            for role in roles {
                let user = if roles.len() > 1 { format!(" user {role}") } else { String::new() };
                let kept = kept(home, &about.server, &about.tenant).join(name.as_str()).join(role.as_str());
                let config = quoted(&kept.join("config"))?;
                // Writing to a `String` cannot fail.
                let _ = writeln!(
                    text,
                    "Match originalhost {names}{user} exec \"{again} ssh --refresh {role}@{name}\"\n  Include {config}"
                );
            }
        }
        if !alone {
            let longs: Vec<String> = abouts.iter().map(|about| about.long(name)).collect();
            let _ = writeln!(
                text,
                "Match originalhost {name}.cairn\n  ProxyCommand sh -c 'echo \"{name}.cairn is several hosts: say {}\" >&2; exit 1'",
                longs.join(" or ")
            );
            several.push(name.clone());
        }
    }
    Ok((text, several))
}

/// Writes the configuration from what every folder says, and returns its path and the short names that mean several hosts.
fn compose(home: &Path) -> Result<(PathBuf, Vec<Slug>)> {
    let all: Vec<About> = folders(home).into_values().flatten().collect();
    let (text, several) = configuration(home, &all)?;
    let path = home.join("config");
    write(&path, text.as_bytes())?;
    Ok((path, several))
}

/// `cairn ssh --include`: every host that is reached in this tenant, beside those of other tenants and servers.
pub(crate) async fn include(api: &Api, home: &Path, cx: &Context) -> Result {
    let mut about = About::new(api);
    for doc in api.all(&["reach"]).await? {
        let one: Reach = doc.parse().map_err(|_| not_ours())?;
        if one.kind == "ssh" {
            let role = one.role.parse().map_err(|_| not_ours())?;
            about.hosts.entry(one.name.parse().map_err(|_| not_ours())?).or_default().push(role);
        }
    }
    let own = kept(home, &about.server, &about.tenant);
    folder(&own)?;
    about.write(&own)?;
    let (path, several) = compose(home)?;
    cx.out.say(&format!(
        "{} hosts are in {}: put `Include {}` at the top of your ~/.ssh/config once, then `ssh NAME.cairn` works",
        about.hosts.len(),
        path.display(),
        quoted(&path)?
    ));
    for name in several.iter().filter(|name| about.hosts.contains_key(*name)) {
        cx.out.say(&format!(
            "{name}.cairn would be several hosts, of other tenants or servers too: say {}",
            about.long(name)
        ));
    }
    Ok(())
}

/// Forgets every key and certificate of a server, since the session that they came from ends, and its hosts.
pub(crate) fn forget(home: &Path, server: &Server) {
    let home = home.join(FOLDER);
    let mut others = false;
    for (path, about) in folders(&home) {
        if about.is_some_and(|about| about.server != *server) {
            others = true;
        } else {
            drop(std::fs::remove_dir_all(path));
        }
    }
    if !others || compose(&home).is_err() {
        drop(std::fs::remove_dir_all(home));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(server: &str, tenant: &str, hosts: &[&str]) -> About {
        let hosts = hosts.iter().map(|name| (name.parse().unwrap(), vec!["deploy".parse().unwrap()])).collect();
        About { server: server.parse().unwrap(), tenant: tenant.to_owned(), hosts }
    }

    fn written(home: &Path, about: &About) -> PathBuf {
        let into = kept(home, &about.server, &about.tenant);
        folder(&into).unwrap();
        about.write(&into).unwrap();
        into
    }

    #[test]
    fn a_name_that_two_have_leads_to_neither_and_signing_out_of_one_server_leaves_the_other() {
        let cairn_home = tempfile::tempdir().unwrap();
        let home = cairn_home.path().join(FOLDER);
        let (a, b) = ("https://a.example", "https://b.example:8443");
        let ours = written(&home, &about(a, "acme", &["web1", "db1"]));
        let theirs = written(&home, &about(b, "acme", &["web1"]));
        let (path, several) = compose(&home).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(several, ["web1".parse().unwrap()]);
        assert!(text.contains("Match originalhost db1.cairn,db1.acme.a.example.cairn exec "), "{text}");
        assert!(text.contains("Match originalhost web1.acme.a.example.cairn exec "), "{text}");
        assert!(text.contains("Match originalhost web1.acme.b.example-8443.cairn exec "), "{text}");
        let refusal =
            "Match originalhost web1.cairn\n  ProxyCommand sh -c 'echo \"web1.cairn is several hosts: say web1.acme.";
        assert!(text.contains(refusal), "{text}");

        std::fs::write(theirs.join("key"), "a key").unwrap();
        let passing = home.join("session-1");
        folder(&passing).unwrap();
        about(a, "acme", &[]).write(&passing).unwrap();
        forget(cairn_home.path(), &a.parse().unwrap());
        assert!(!ours.exists() && !passing.exists() && theirs.join("key").exists());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("Match originalhost web1.cairn,web1.acme.b.example-8443.cairn exec "), "{text}");
        assert!(!text.contains("a.example"), "{text}");
        forget(cairn_home.path(), &b.parse().unwrap());
        assert!(!home.exists());
    }
}
