//! Destinations: what is reached through Cairn, and as what.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKind {
    /// A Kubernetes cluster.
    Kubernetes,
    /// A host that is reached by SSH.
    Ssh,
    /// The SSH hosts that have some labels at this moment. Nobody connects to it.
    Set,
}

impl DestinationKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::Ssh, Self::Set];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Ssh => "ssh",
            Self::Set => "set",
        }
    }
}

impl fmt::Display for DestinationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DestinationKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            Error::invalid("kind", format!("`{}` is none of `kubernetes`, `ssh` and `set`", text.escape_debug()))
        })
    }
}

/// As what somebody reaches a destination: the name of a cluster role, or of a role on a host. 1 to 128 of letters, digits, `.`, `_`, `:` and
/// `-`. Names that begin with `system:` are the cluster's own and no role that is given to people. `role:deployer` is the Role `deployer` of the
/// namespace in which it is granted (ADR 0080).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DestinationRole(String);

/// What begins the name of a namespace's own role.
const OF_NAMESPACE: &str = "role:";

impl DestinationRole {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a namespace's own Role, if it is one.
    pub fn of_namespace(&self) -> Option<&str> {
        self.0.strip_prefix(OF_NAMESPACE)
    }
}

impl fmt::Display for DestinationRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DestinationRole {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if text.len() > 128 || !begins || !text.bytes().all(inside) {
            return Err(Error::invalid(
                "role",
                "use 1 to 128 of letters, digits, `.`, `_`, `:` and `-`, beginning with a letter or a digit",
            ));
        }
        let name = text.strip_prefix(OF_NAMESPACE).unwrap_or(text);
        if !name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid("role", "name the role behind `role:`, which begins with a letter or a digit"));
        }
        if name.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("system:")) {
            return Err(Error::invalid(
                "role",
                "roles that begin with `system:` are the cluster's own: use another one",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for DestinationRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_plain_names_and_none_of_the_cluster_itself() {
        for good in [
            "view",
            "cluster-admin",
            "team:deploy",
            "Ops_1.2",
            &"a".repeat(128),
            "systematic",
            "role:deployer",
            "roles",
        ] {
            assert_eq!(good.parse::<DestinationRole>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            " ",
            "a b",
            "a/b",
            "..",
            ":a",
            "-a",
            "a,b",
            "a\n",
            "system:masters",
            "System:x",
            "\u{e4}",
            "role:",
            "role::x",
            "role:System:x",
        ] {
            assert!(bad.parse::<DestinationRole>().is_err(), "{bad}");
        }
        let own = |text: &str| text.parse::<DestinationRole>().unwrap().of_namespace().map(str::to_owned);
        assert_eq!((own("role:deployer"), own("deployer"), own("roles")), (Some("deployer".to_owned()), None, None));
        assert!("a".repeat(129).parse::<DestinationRole>().is_err());
        assert!(serde_json::from_str::<DestinationRole>("\"system:masters\"").is_err());
    }

    #[test]
    fn a_kind_has_one_spelling() {
        for kind in DestinationKind::ALL {
            assert_eq!(kind.to_string().parse::<DestinationKind>().unwrap(), kind);
        }
        assert!("Kubernetes".parse::<DestinationKind>().is_err());
    }
}
