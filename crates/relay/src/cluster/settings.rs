//! What an operator decides about the cluster that a relay serves.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use domain::{ActName, DestinationRole, Lent, Slug};

use crate::config::Environment;
use crate::direct::Direct;

/// Where Kubernetes puts a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What is offered unless somebody says otherwise: the roles for people that every cluster has.
const ROLES: &str = "view,edit,admin";

/// The cluster that is served.
#[derive(Debug)]
pub(crate) struct ClusterSettings {
    /// `RELAY_CLUSTER_NAME`: its name as a destination; without it no cluster is served.
    pub(crate) name: Slug,
    /// `RELAY_CLUSTER_API`: the API server, `host:port`; default the one that Kubernetes tells its pods.
    pub(crate) api: String,
    /// `RELAY_CLUSTER_ACCOUNT_DIR`: the folder with the service account's `token` and the cluster's `ca.crt`; default where pods have it.
    pub(crate) account: PathBuf,
    /// `RELAY_CLUSTER_ROLES`: the cluster roles that are offered, between commas; default `view,edit,admin`. `RELAY_CLUSTER_NAMESPACE_ROLES`: names of
    /// namespaces' own Roles that are offered as `role:NAME`, each in the namespace in which it is granted; default none, and only with `RELAY_CLUSTER_BINDINGS`.
    pub(crate) roles: Vec<DestinationRole>,
    /// `RELAY_CLUSTER_GROUPS`: the tenant's groups that the cluster is told of, between commas, or `*`; default none. What a role may do does not
    /// depend on it, and the service account has to be allowed to impersonate each of them.
    pub(crate) groups: Groups,
    /// `RELAY_CLUSTER_ACT_AS` and `RELAY_CLUSTER_ACT_AS_GROUPS`: the users and the groups that grants may lend here (`kubectl --as`), between commas;
    /// default none. What is bound to such a name in the cluster is the cluster's: its operator says whether it may be lent at all.
    pub(crate) lendable: Lendable,
    /// `RELAY_CLUSTER_BINDINGS`: in how many namespaces at a time roles can be granted, 1 to 2000: the relay keeps the bindings of what is granted. Without
    /// it administrators bind the group `cairn-role:ROLE` by hand.
    pub(crate) bindings: Option<u32>,
    /// The way in without the server, if there is one.
    pub(crate) direct: Option<Direct>,
}

/// Some of the tenant's groups.
#[derive(Debug, Clone)]
pub(crate) enum Groups {
    /// Every one.
    All,
    /// These.
    These(Vec<Slug>),
}

impl Groups {
    fn read(text: &str) -> anyhow::Result<Self> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self::These(names.map(str::parse).collect::<Result<_, _>>().context("RELAY_CLUSTER_GROUPS")?))
    }

    /// Whether this is one of them.
    pub(crate) fn has(&self, group: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name.as_str() == group),
        }
    }
}

fn places(text: &str) -> anyhow::Result<u32> {
    let number = text.parse().ok().filter(|number| (1..=2_000).contains(number));
    number.context("RELAY_CLUSTER_BINDINGS is in how many namespaces roles can be granted: 1 to 2000")
}

/// The names that grants may lend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lendable {
    users: BTreeSet<ActName>,
    groups: BTreeSet<Slug>,
}

impl Lendable {
    fn read(users: &str, groups: &str) -> anyhow::Result<Self> {
        Ok(Self { users: names(users, "RELAY_CLUSTER_ACT_AS")?, groups: names(groups, "RELAY_CLUSTER_ACT_AS_GROUPS")? })
    }

    /// Leaves out what may not be lent here.
    pub(crate) fn limit(&self, lent: &mut Vec<Lent>) {
        for one in &mut *lent {
            one.act_as.users.retain(|name| self.users.contains(name));
            one.act_as.groups.retain(|name| self.groups.contains(name));
        }
        lent.retain(|one| !one.act_as.is_empty());
    }
}

fn names<T: Ord + FromStr<Err = domain::Error>>(text: &str, variable: &'static str) -> anyhow::Result<BTreeSet<T>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::parse).collect::<Result<_, _>>().context(variable)
}

impl ClusterSettings {
    /// What the environment says; none: no cluster is served.
    pub(crate) fn read(environment: Environment<'_>) -> anyhow::Result<Option<Self>> {
        let names = [
            "API",
            "ACCOUNT_DIR",
            "ROLES",
            "NAMESPACE_ROLES",
            "GROUPS",
            "ACT_AS",
            "ACT_AS_GROUPS",
            "BINDINGS",
            "LISTEN",
            "ADDRESS",
            "CERT",
            "KEY",
            "CA",
        ];
        let of = |name: &str| environment(&format!("RELAY_CLUSTER_{name}"));
        let Some(name) = of("NAME") else {
            if let Some(odd) = names.iter().find(|name| of(name).is_some()) {
                bail!("RELAY_CLUSTER_{odd} is about a cluster: set RELAY_CLUSTER_NAME to its name too");
            }
            return Ok(None);
        };
        let api = of("API").or_else(|| in_cluster(environment)).context(
            "set RELAY_CLUSTER_API to the cluster's API server, `host:port`: this is no pod that knows it by itself",
        )?;
        let roles = of("ROLES").unwrap_or_else(|| ROLES.to_owned());
        let roles = roles.split(',').map(str::trim).filter(|role| !role.is_empty());
        let mut roles: Vec<DestinationRole> =
            roles.map(str::parse).collect::<Result<_, _>>().context("RELAY_CLUSTER_ROLES")?;
        if let Some(own) = roles.iter().find_map(DestinationRole::of_namespace) {
            bail!(
                "RELAY_CLUSTER_ROLES are cluster roles: a namespace's own is named in RELAY_CLUSTER_NAMESPACE_ROLES, `{own}`"
            );
        }
        let bindings = of("BINDINGS").map(|text| places(&text)).transpose()?;
        let own = of("NAMESPACE_ROLES").unwrap_or_default();
        let own = own.split(',').map(str::trim).filter(|role| !role.is_empty());
        let own: Vec<DestinationRole> = own
            .map(|name| format!("role:{name}").parse())
            .collect::<Result<_, _>>()
            .context("RELAY_CLUSTER_NAMESPACE_ROLES")?;
        if bindings.is_none() && !own.is_empty() {
            bail!("RELAY_CLUSTER_NAMESPACE_ROLES are bound by the relay: set RELAY_CLUSTER_BINDINGS too");
        }
        let offers_none = roles.is_empty();
        roles.extend(own);
        if offers_none {
            bail!("RELAY_CLUSTER_ROLES names no role: name some, such as `view,edit`");
        }
        let direct = Direct::read(environment, "CLUSTER")?;
        Ok(Some(Self {
            name: name.parse().context("RELAY_CLUSTER_NAME")?,
            api,
            account: of("ACCOUNT_DIR").map_or_else(|| PathBuf::from(ACCOUNT), PathBuf::from),
            roles,
            groups: Groups::read(&of("GROUPS").unwrap_or_default())?,
            bindings,
            lendable: Lendable::read(&of("ACT_AS").unwrap_or_default(), &of("ACT_AS_GROUPS").unwrap_or_default())?,
            direct,
        }))
    }
}

/// The API server that Kubernetes tells its pods.
fn in_cluster(environment: Environment<'_>) -> Option<String> {
    let (host, port) = (environment("KUBERNETES_SERVICE_HOST")?, environment("KUBERNETES_SERVICE_PORT")?);
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Option<ClusterSettings>> {
        let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ClusterSettings::read(&move |name| {
            owned.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn a_pod_needs_to_be_told_the_clusters_name_and_nothing_else() {
        assert!(read(&[]).unwrap().is_none());
        let pod = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let settings = read(&[&pod[..], &[("RELAY_CLUSTER_NAME", "prod")]].concat()).unwrap().unwrap();
        assert_eq!((settings.name.as_str(), settings.api.as_str()), ("prod", "[fd00::1]:443"));
        assert_eq!(settings.account, PathBuf::from(ACCOUNT));
        let roles: Vec<_> = settings.roles.iter().map(DestinationRole::as_str).collect();
        assert_eq!(roles, ["view", "edit", "admin"]);
        assert!(settings.direct.is_none() && !settings.groups.has("devs"));
        let groups = [&pod[..], &[("RELAY_CLUSTER_NAME", "prod"), ("RELAY_CLUSTER_GROUPS", "devs, ops")]].concat();
        let groups = read(&groups).unwrap().unwrap().groups;
        assert!(groups.has("devs") && groups.has("ops") && !groups.has("dev") && Groups::read("*").unwrap().has("x"));
    }

    #[test]
    fn only_names_that_the_clusters_operator_lists_are_lent() {
        let lent = |namespace: Option<&str>, users: &[&str], groups: &[&str]| Lent {
            namespace: namespace.map(|name| name.parse().unwrap()),
            act_as: domain::ActAs {
                users: users.iter().map(|name| name.parse().unwrap()).collect(),
                groups: groups.iter().map(|name| name.parse().unwrap()).collect(),
            },
        };
        let granted = [lent(None, &["bot", "root"], &["ops", "admins"]), lent(Some("a"), &["root"], &["ops"])];
        let limited = |users: &str, groups: &str| {
            let mut granted = granted.to_vec();
            Lendable::read(users, groups).unwrap().limit(&mut granted);
            granted
        };
        assert_eq!(limited("", "ops"), [], "nobody is lent unless somebody says so");
        assert_eq!(limited("bot, ann@example.com", "ops"), [lent(None, &["bot"], &["ops"])]);
        assert_eq!(limited("bot,root", "ops,admins"), granted);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let (name, api) = (("RELAY_CLUSTER_NAME", "prod"), ("RELAY_CLUSTER_API", "k:443"));
        for (pairs, expect) in [
            (&[api][..], "RELAY_CLUSTER_NAME"),
            (&[name], "RELAY_CLUSTER_API"),
            (&[("RELAY_CLUSTER_NAME", "Prod!"), api], "RELAY_CLUSTER_NAME"),
            (&[name, api, ("RELAY_CLUSTER_ROLES", "view,system:masters")], "RELAY_CLUSTER_ROLES"),
            (&[name, api, ("RELAY_CLUSTER_ROLES", " , ")], "RELAY_CLUSTER_ROLES"),
            (&[name, api, ("RELAY_CLUSTER_GROUPS", "system:masters")], "RELAY_CLUSTER_GROUPS"),
            (&[name, api, ("RELAY_CLUSTER_BINDINGS", "true")], "RELAY_CLUSTER_BINDINGS"),
            (&[name, api, ("RELAY_CLUSTER_ROLES", "view,role:own")], "RELAY_CLUSTER_NAMESPACE_ROLES, `own`"),
            (&[name, api, ("RELAY_CLUSTER_NAMESPACE_ROLES", "own")], "RELAY_CLUSTER_BINDINGS"),
            (
                &[name, api, ("RELAY_CLUSTER_BINDINGS", "9"), ("RELAY_CLUSTER_NAMESPACE_ROLES", "system:node")],
                "RELAY_CLUSTER_NAMESPACE_ROLES",
            ),
            (&[name, api, ("RELAY_CLUSTER_ACT_AS", "system:admin")], "RELAY_CLUSTER_ACT_AS"),
            (&[name, api, ("RELAY_CLUSTER_ACT_AS_GROUPS", "system:masters")], "RELAY_CLUSTER_ACT_AS_GROUPS"),
            (&[name, api, ("RELAY_CLUSTER_LISTEN", "6443")], "RELAY_CLUSTER_LISTEN"),
            (&[name, api, ("RELAY_CLUSTER_LISTEN", "127.0.0.1:0")], "RELAY_CLUSTER_CERT"),
            (&[name, api, ("RELAY_CLUSTER_CA", "ca.pem")], "RELAY_CLUSTER_LISTEN"),
        ] {
            let error = format!("{:#}", read(pairs).unwrap_err());
            assert!(error.contains(expect), "{expect}: {error}");
        }
    }
}
