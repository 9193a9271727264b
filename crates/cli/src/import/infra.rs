//! Infra's documents (`/api/users`, `/api/groups`, `/api/grants`, `/api/destinations`) as a file of access.
//!
//! Invariants:
//! - nothing is dropped in silence: what cannot be mapped is named with the reason;
//! - nobody becomes an administrator here for having been one there, unless that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use domain::{DestinationRole, Email, Slug};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wire::access_file::{AccessFile, FileGroup, FileHost, FileMember};
use wire::grant::GrantCreate;

use crate::failure::{Failure, Result};

/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

#[derive(Debug, Clone, Deserialize)]
struct User {
    id: String,
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Group {
    id: String,
    name: String,
    #[serde(default, rename = "totalUsers")]
    total_users: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Grant {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    group: Option<String>,
    privilege: String,
    resource: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Destination {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    connection: Connection,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Connection {
    #[serde(default)]
    url: String,
    /// Of an SSH host: its public keys, one a line.
    #[serde(default)]
    ca: String,
}

/// What an Infra server said.
#[derive(Debug, Default)]
pub(super) struct Export {
    users: Vec<User>,
    groups: Vec<Group>,
    grants: Vec<Grant>,
    destinations: Vec<Destination>,
    /// By the group's id.
    members: BTreeMap<String, Vec<User>>,
}

/// How it is taken over.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) admins: bool,
    pub(super) ssh_role: Option<DestinationRole>,
}

/// What it becomes.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) file: AccessFile,
    /// Names of clusters, which their relays register.
    pub(super) clusters: BTreeSet<String>,
    pub(super) left_out: Vec<String>,
}

fn text_of(path: &Path) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Failure::file("read", path, e);
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(&format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The items of some replies to one list. They have to be all pages of it: a user who is missing would lose access without anybody's word.
fn items<T: DeserializeOwned>(what: &str, replies: Vec<Value>) -> Result<Vec<T>> {
    let (mut all, mut total) = (Vec::new(), None);
    for reply in replies {
        let (list, count) = match reply {
            Value::Object(mut members) => {
                (members.remove("items"), members.remove("totalCount").and_then(|n| n.as_u64()))
            }
            list => (Some(list), None),
        };
        total = total.max(count);
        let list = list.filter(|list| !list.is_null()).unwrap_or_else(|| Value::Array(Vec::new()));
        let list: Vec<T> = serde_json::from_value(list).map_err(|e| Failure::new(format!("{what}: {e}")))?;
        all.extend(list);
    }
    if let Some(total) = total.filter(|total| *total != all.len() as u64) {
        let hint =
            format!("ask for the further pages too: /api/{what}?limit=1000&page=2, into {what}-2.json, and so on");
        return Err(Failure::new(format!("{what}: {} of {total} are here", all.len())).hint(hint));
    }
    Ok(all)
}

impl Export {
    /// Reads a folder of replies, or one file that holds them by name.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut replies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let json = |path: &Path| {
            serde_json::from_str::<Value>(&text_of(path)?).map_err(|e| Failure::file("understand", path, e))
        };
        if path.is_dir() {
            let failed = |e: std::io::Error| Failure::file("read", path, e);
            let mut names: Vec<_> = std::fs::read_dir(path)
                .map_err(failed)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()
                .map_err(failed)?;
            names.sort();
            for file in names {
                let Some(stem) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
                    continue;
                };
                let kind = match stem.split_once('-') {
                    Some(("members", group)) => {
                        format!("members/{}", group.split_once('-').map_or(group, |(id, _)| id))
                    }
                    Some((kind, _)) => kind.to_owned(),
                    None => stem.to_owned(),
                };
                replies.entry(kind).or_default().push(json(&file)?);
            }
        } else {
            let Value::Object(parts) = json(path)? else {
                return Err(Failure::file(
                    "understand",
                    path,
                    "it is an object with `users`, `groups`, `grants` and `destinations`",
                ));
            };
            for (name, value) in parts {
                match (name.as_str(), value) {
                    ("members", Value::Object(groups)) => {
                        replies.extend(groups.into_iter().map(|(id, users)| (format!("members/{id}"), vec![users])));
                    }
                    (_, value) => replies.entry(name).or_default().push(value),
                }
            }
        }
        for name in ["users", "groups", "grants", "destinations"] {
            if !replies.contains_key(name) {
                return Err(Failure::file("use", path, format!("there is no {name}.json in it"))
                    .hint("docs/access.md has the commands that ask an Infra server"));
            }
        }
        let mut part = |name: &str| replies.remove(name).unwrap_or_default();
        let (users, groups) = (items("users", part("users"))?, items::<Group>("groups", part("groups"))?);
        let (grants, destinations) = (items("grants", part("grants"))?, items("destinations", part("destinations"))?);
        let mut members = BTreeMap::new();
        for group in &groups {
            let of_group = part(&format!("members/{}", group.id));
            if of_group.is_empty() && group.total_users != Some(0) {
                return Err(Failure::file("use", path, format!("nothing says who is in the group `{}`", group.name))
                    .hint(format!("/api/users?group={}&limit=1000, into members-{}.json", group.id, group.id)));
            }
            members.insert(group.id.clone(), items("users", of_group)?);
        }
        Ok(Self { users, groups, grants, destinations, members })
    }

    /// What it becomes here.
    pub(super) fn map(&self, options: &Options) -> Mapped {
        let mut left_out = Vec::new();
        let mut emails: BTreeMap<&str, Email> = BTreeMap::new();
        for user in &self.users {
            match user.name.parse::<Email>() {
                Ok(email) => drop(emails.insert(&user.id, email)),
                Err(_) => left_out.push(format!("user `{}`: a login name here is an e-mail address", user.name)),
            }
        }
        let groups = self.group_names(&mut left_out);
        let kinds: BTreeMap<&str, &str> =
            self.destinations.iter().map(|one| (one.name.as_str(), one.kind.as_str())).collect();
        let (mut admins, mut grants, mut seen) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for grant in &self.grants {
            let subject = match (
                grant.user.as_deref().filter(|id| !id.is_empty()),
                grant.group.as_deref().filter(|id| !id.is_empty()),
            ) {
                (Some(id), None) => emails.get(id).map(|email| (Some(email.to_string()), None)),
                (None, Some(id)) => groups.get(id).map(|name| (None, Some(name.to_string()))),
                _ => None,
            };
            let words = format!("the grant of `{}` on `{}`", grant.privilege, grant.resource);
            let Some((user, group)) = subject else {
                left_out.push(format!("{words}: to nobody who is taken over"));
                continue;
            };
            let whom = user.as_deref().or(group.as_deref()).unwrap_or_default().to_owned();
            if grant.resource == "infra" {
                match (grant.privilege.as_str(), &user) {
                    ("admin", Some(email)) if options.admins => drop(admins.insert(email.clone())),
                    ("admin", Some(email)) => {
                        left_out.push(format!("{email} administers Infra, and is invited as read-only: say --admins, or give the role by hand"));
                    }
                    // Who may look at everything there may look at the graph here, as everybody who is invited.
                    ("view", Some(_)) => {}
                    _ => left_out.push(format!("{words} to {whom}: there is nothing like it here; groups of identity providers give roles (`cairn groups roles set`)")),
                }
                continue;
            }
            match target(grant, &kinds, options) {
                Ok((destination, namespace, role)) => {
                    if seen.insert((whom, destination.clone(), namespace.clone(), role.clone())) {
                        grants.push(GrantCreate {
                            user,
                            group,
                            role,
                            destination: Some(destination),
                            labels: None,
                            namespace,
                            hours: None,
                            expires_at: None,
                            as_users: Vec::new(),
                            as_groups: Vec::new(),
                            networks: Vec::new(),
                            extensions: None,
                            force_command: None,
                            approval: false,
                            reason: "taken over from Infra".to_owned(),
                        });
                    }
                }
                Err(why) => left_out.push(format!("{words} to {whom}: {why}")),
            }
        }
        let role = |email: &Email| if admins.contains(email.as_str()) { "tenant-admin" } else { "read-only" };
        let members: BTreeMap<&Email, &str> = emails.values().map(|email| (email, role(email))).collect();
        let members =
            members.into_iter().map(|(email, role)| FileMember { email: email.to_string(), role: role.to_owned() });
        let (hosts, clusters) = self.places(options, &mut left_out);
        let file = AccessFile {
            version: 1,
            name: "infra".to_owned(),
            members: members.collect(),
            groups: self.groups(&groups, &emails),
            group_roles: Vec::new(),
            hosts,
            sets: Vec::new(),
            destinations: Vec::new(),
            grants,
        };
        Mapped { file, clusters, left_out }
    }

    /// Its destinations: hosts, and the names of clusters. Of two that would have one name here neither is the other.
    fn places(&self, options: &Options, left_out: &mut Vec<String>) -> (Vec<FileHost>, BTreeSet<String>) {
        let mut names: BTreeMap<Slug, Vec<&Destination>> = BTreeMap::new();
        for one in &self.destinations {
            match slug(&one.name) {
                Some(name) => names.entry(name).or_default().push(one),
                None => {
                    left_out
                        .push(format!("destination `{}`: its name has nothing that a name here may have", one.name));
                }
            }
        }
        let (mut hosts, mut clusters) = (Vec::new(), BTreeSet::new());
        for (name, several) in names {
            match several.as_slice() {
                [one] if one.kind == "ssh" => match host(one, &name, options) {
                    Ok(host) => hosts.push(host),
                    Err(why) => left_out.push(format!("the SSH host `{}`: {why}", one.name)),
                },
                [_] => drop(clusters.insert(name.to_string())),
                several => {
                    let all = several.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(" and ");
                    left_out.push(format!("destinations {all}: both would be called `{name}` here: rename one"));
                }
            }
        }
        (hosts, clusters)
    }

    /// A name for each group: a name here is a DNS label, and of two groups that would have one name neither is merged into the other.
    fn group_names(&self, left_out: &mut Vec<String>) -> BTreeMap<&str, Slug> {
        let mut names: BTreeMap<Slug, Vec<&Group>> = BTreeMap::new();
        for group in &self.groups {
            match slug(&group.name) {
                Some(name) => names.entry(name).or_default().push(group),
                None => {
                    left_out.push(format!("group `{}`: its name has nothing that a name here may have", group.name));
                }
            }
        }
        let mut out = BTreeMap::new();
        for (name, groups) in names {
            match groups.as_slice() {
                [one] => {
                    if one.name != name.as_str() {
                        left_out.push(format!("the name of the group `{}`: it is called `{name}` here", one.name));
                    }
                    out.insert(one.id.as_str(), name);
                }
                several => {
                    let all = several.iter().map(|group| format!("`{}`", group.name)).collect::<Vec<_>>().join(" and ");
                    left_out.push(format!("groups {all}: both would be called `{name}` here: rename one"));
                }
            }
        }
        out
    }

    fn groups(&self, names: &BTreeMap<&str, Slug>, emails: &BTreeMap<&str, Email>) -> Vec<FileGroup> {
        let named = self.groups.iter().filter_map(|group| Some((group, names.get(group.id.as_str())?)));
        named
            .map(|(group, name)| {
                let inside = self.members.get(&group.id).into_iter().flatten();
                let members: BTreeSet<String> =
                    inside.filter_map(|user| emails.get(user.id.as_str())).map(ToString::to_string).collect();
                FileGroup {
                    name: name.to_string(),
                    provider: None,
                    provider_group: None,
                    members: members.into_iter().collect(),
                }
            })
            .collect()
    }
}

/// A name as names are here: what it may not have becomes `-`.
fn slug(name: &str) -> Option<Slug> {
    let dashed: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.trim_matches('-').parse().ok()
}

/// An SSH host as a destination, or why it is none.
fn host(one: &Destination, name: &Slug, options: &Options) -> Result<FileHost, String> {
    let role = options.ssh_role.clone().ok_or("a role is an account here: say --ssh-role")?;
    let address = one.connection.url.trim();
    if address.is_empty() {
        return Err("Infra does not know where it is".to_owned());
    }
    let keys = || one.connection.ca.lines().map(str::trim);
    let key = ["ssh-ed25519 ", "ecdsa-sha2-"].into_iter().find_map(|kind| keys().find(|key| key.starts_with(kind)));
    let host_key = key.ok_or_else(|| {
        let rsa = keys().any(|key| key.starts_with("ssh-rsa "));
        let why = if rsa { "only an RSA key of it, and none is used here" } else { "no key of it" };
        format!("Infra knows {why}: `cairn destinations create {name}` says one")
    })?;
    Ok(FileHost {
        name: name.to_string(),
        address: address.to_owned(),
        host_key: host_key.to_owned(),
        roles: vec![role],
        source_networks: Vec::new(),
        extensions: None,
        relay: None,
    })
}

/// Destination, namespace and role of a grant, or why there are none.
fn target(
    grant: &Grant,
    kinds: &BTreeMap<&str, &str>,
    options: &Options,
) -> Result<(String, Option<Slug>, DestinationRole), String> {
    // Infra's destinations have no dot in their names.
    let (place, namespace) = match grant.resource.split_once('.') {
        Some((place, namespace)) => (place, Some(namespace)),
        None => (grant.resource.as_str(), None),
    };
    let kind = kinds.get(place).ok_or("Infra has no such destination any more")?;
    let name = slug(place).ok_or("the destination's name has nothing that a name here may have")?;
    if *kind == "ssh" {
        let role =
            options.ssh_role.clone().ok_or("it is an SSH host, where a role is an account here: say --ssh-role")?;
        return Ok((name.to_string(), None, role));
    }
    if grant.privilege == "connect" {
        return Err("it lets somebody sign in to a cluster and do nothing there".to_owned());
    }
    let role = grant.privilege.parse().map_err(|why| format!("{why}"))?;
    let namespace =
        namespace.map(|name| name.parse::<Slug>().map_err(|why| format!("namespace: {why}"))).transpose()?;
    Ok((name.to_string(), namespace, role))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Replies as an Infra server gives them (v0.21).
    fn export() -> Value {
        let list = |items: Value| {
            let count = items.as_array().unwrap().len();
            json!({"page": 1, "limit": 1000, "totalPages": 1, "totalCount": count, "count": count, "items": items})
        };
        let user = |id: &str, name: &str| {
            json!({"id": id, "created": "2022-11-10T23:35:22Z", "updated": "2022-11-10T23:35:22Z", "lastSeenAt": null, "name": name,
                   "providerNames": ["okta"], "publicKeys": [], "sshLoginName": "x"})
        };
        let grant = |user: Option<&str>, group: Option<&str>, privilege: &str, resource: &str| {
            json!({"id": "g", "created": "2022-11-10T23:35:22Z", "created_by": "1", "updated": "2022-11-10T23:35:22Z", "user": user,
                   "group": group, "privilege": privilege, "resource": resource})
        };
        json!({
            "users": list(json!([user("4yJ3n3D8E2", "Ann@Example.com"), user("4yJ3n3D8E3", "bob@example.com"), user("4yJ3n3D8E4", "admin")])),
            "groups": list(json!([
                {"id": "4yJ3n3D8G1", "name": "Developers", "totalUsers": 2}, {"id": "4yJ3n3D8G2", "name": "ops_team", "totalUsers": 0},
                {"id": "4yJ3n3D8G3", "name": "ops team", "totalUsers": 0}, {"id": "4yJ3n3D8G4", "name": "system:masters", "totalUsers": 0},
            ])),
            "grants": list(json!([
                grant(Some("4yJ3n3D8E2"), None, "admin", "infra"),
                grant(Some("4yJ3n3D8E3"), None, "view", "infra"),
                grant(None, Some("4yJ3n3D8G1"), "view", "Prod_EU"),
                grant(None, Some("4yJ3n3D8G1"), "edit", "Prod_EU.shop"),
                grant(Some("4yJ3n3D8E3"), None, "connect", "Prod_EU"),
                grant(Some("4yJ3n3D8E3"), None, "connect", "bastion"),
                grant(Some("4yJ3n3D8E3"), None, "view", "gone"),
                grant(Some("4yJ3n3D8E4"), None, "view", "Prod_EU"),
                grant(None, Some("4yJ3n3D8G2"), "view", "Prod_EU"),
                grant(None, Some("4yJ3n3D8G1"), "system:masters", "Prod_EU"),
                grant(None, Some("4yJ3n3D8G1"), "admin", "infra"),
            ])),
            "destinations": list(json!([
                {"id": "d1", "uniqueID": "0a", "name": "Prod_EU", "kind": "kubernetes", "connection": {"url": "k:443", "ca": ""},
                 "resources": ["shop"], "roles": ["view", "edit"], "connected": true},
                {"id": "d2", "uniqueID": "0b", "name": "bastion", "kind": "ssh",
                 "connection": {"url": "b:22", "ca": "ssh-rsa AAAA\nssh-ed25519 BBBB\n"}},
                {"id": "d3", "uniqueID": "0c", "name": "lost", "kind": "ssh", "connection": {"url": "l:22", "ca": ""}},
            ])),
            "members": {"4yJ3n3D8G1": list(json!([user("4yJ3n3D8E2", "Ann@Example.com"), user("4yJ3n3D8E3", "bob@example.com")]))},
        })
    }

    fn read(value: &Value) -> Result<Export> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), value.to_string()).unwrap();
        Export::read(file.path())
    }

    #[test]
    fn users_groups_and_grants_come_over_and_what_does_not_is_named() {
        let mapped = read(&export()).unwrap().map(&Options::default());
        let file = serde_json::to_value(&mapped.file).unwrap();
        assert_eq!(
            file["members"],
            json!([{"email": "ann@example.com", "role": "read-only"}, {"email": "bob@example.com", "role": "read-only"}])
        );
        assert_eq!(
            file["groups"],
            json!([{"name": "developers", "members": ["ann@example.com", "bob@example.com"]}, {"name": "system-masters"}])
        );
        let grants: Vec<_> = mapped
            .file
            .grants
            .iter()
            .map(|grant| {
                (
                    grant.group.as_deref(),
                    grant.role.as_str(),
                    grant.destination.as_deref(),
                    grant.namespace.as_ref().map(Slug::as_str),
                )
            })
            .collect();
        assert_eq!(
            grants,
            [
                (Some("developers"), "view", Some("prod-eu"), None),
                (Some("developers"), "edit", Some("prod-eu"), Some("shop"))
            ]
        );
        let all = mapped.left_out.join("\n");
        for said in [
            "user `admin`",
            "ann@example.com administers Infra",
            "`ops team`",
            "both would be called `ops-team`",
            "`gone`",
            "`connect` on `Prod_EU`",
            "--ssh-role",
            "system:",
            "`admin` on `infra` to developers",
            "the group `system:masters`: it is called `system-masters`",
        ] {
            assert!(all.contains(said), "{said}:\n{all}");
        }
    }

    #[test]
    fn nobody_becomes_an_administrator_without_being_asked_for() {
        let role = |options: &Options| {
            let mapped = read(&export()).unwrap().map(options);
            mapped.file.members.iter().find(|one| one.email == "ann@example.com").unwrap().role.clone()
        };
        assert_eq!(role(&Options::default()), "read-only");
        let options = Options { admins: true, ssh_role: Some("deploy".parse().unwrap()) };
        assert_eq!(role(&options), "tenant-admin");
        let mapped = read(&export()).unwrap().map(&options);
        assert!(
            mapped
                .file
                .grants
                .iter()
                .any(|grant| grant.destination.as_deref() == Some("bastion") && grant.role.as_str() == "deploy")
        );
    }

    #[test]
    fn a_host_comes_over_with_its_best_key_and_one_that_is_not_known_is_named() {
        let options = Options { admins: false, ssh_role: Some("deploy".parse().unwrap()) };
        let mapped = read(&export()).unwrap().map(&options);
        assert_eq!(
            serde_json::to_value(&mapped.file.hosts).unwrap(),
            json!([{"name": "bastion", "address": "b:22", "host_key": "ssh-ed25519 BBBB", "roles": ["deploy"]}])
        );
        assert_eq!(Vec::from_iter(mapped.clusters), ["prod-eu"]);
        assert!(
            mapped.left_out.iter().any(|out| out.contains("`lost`") && out.contains("key")),
            "{:?}",
            mapped.left_out
        );
        let mapped = read(&export()).unwrap().map(&Options::default());
        assert!(mapped.file.hosts.is_empty(), "no account is guessed");
        let mut rsa = export();
        rsa["destinations"]["items"][1]["connection"]["ca"] = json!("ssh-rsa AAAA");
        let mapped = read(&rsa).unwrap().map(&options);
        assert!(
            mapped.file.hosts.is_empty(),
            "one host that the server would refuse does not keep all from coming over"
        );
        assert!(
            mapped.left_out.iter().any(|out| out.contains("`bastion`") && out.contains("RSA")),
            "{:?}",
            mapped.left_out
        );
        let mut twins = export();
        twins["destinations"]["items"][2]["name"] = json!("Bastion");
        let mapped = read(&twins).unwrap().map(&options);
        assert!(
            mapped.file.hosts.is_empty()
                && mapped.left_out.iter().any(|out| out.contains("both would be called `bastion`"))
        );
    }

    #[test]
    fn a_part_that_is_missing_is_told_and_nothing_is_taken_over() {
        let mut half = export();
        half["users"]["totalCount"] = json!(1_200);
        assert_eq!(read(&half).unwrap_err().message, "users: 3 of 1200 are here");
        let mut half = export();
        half["members"] = json!({});
        assert!(read(&half).unwrap_err().message.contains("who is in the group `Developers`"));
        let mut half = export();
        half.as_object_mut().unwrap().remove("grants");
        assert!(read(&half).unwrap_err().message.contains("no grants.json"));
        let folder = tempfile::tempdir().unwrap();
        for name in ["users", "groups", "grants", "destinations"] {
            std::fs::write(folder.path().join(format!("{name}.json")), export()[name].to_string()).unwrap();
        }
        let members = export()["members"]["4yJ3n3D8G1"].to_string();
        std::fs::write(folder.path().join("members-4yJ3n3D8G1.json"), members).unwrap();
        assert_eq!(Export::read(folder.path()).unwrap().members["4yJ3n3D8G1"].len(), 2);
    }
}
