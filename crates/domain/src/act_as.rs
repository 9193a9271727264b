//! As whom else somebody may act in a cluster (`kubectl --as`): names that a grant lends.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Email, Error, Slug};

/// Most names that one grant lends, of users and of groups each.
pub const ACT_AS_MAX: usize = 20;

/// A user's name as a cluster hears it, without the prefix: a login name, or a name of the form of [`Slug`] that nobody logs in by. There is no
/// `:` in it, so that it never looks like one of a cluster's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ActName(String);

impl ActName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The login name, if it is one.
    pub fn email(&self) -> Option<Email> {
        self.0.parse().ok()
    }
}

impl fmt::Display for ActName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ActName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = match text.parse::<Slug>() {
            Ok(slug) => Some(slug.to_string()),
            Err(_) => text.parse::<Email>().ok().map(|email| email.to_string()),
        };
        let name = name.filter(|name| !name.contains(':'));
        name.map(Self).ok_or_else(|| {
            Error::invalid("as_users", "use a member's login name, or 1 to 63 of a-z, 0-9 and - (such as `deploy-bot`)")
        })
    }
}

impl<'de> Deserialize<'de> for ActName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Names that a grant lends: any of the users, with any of the groups. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActAs {
    /// Users.
    pub users: BTreeSet<ActName>,
    /// Groups of the tenant, each only together with one of the users.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<Slug>,
}

impl ActAs {
    /// Checks that it is not too much, and that there is a user where there is a group.
    pub fn new(users: BTreeSet<ActName>, groups: BTreeSet<Slug>) -> Result<Self, Error> {
        if users.len() > ACT_AS_MAX || groups.len() > ACT_AS_MAX {
            return Err(Error::Limit { which: "names that a grant lends", max: ACT_AS_MAX as u64 });
        }
        if users.is_empty() && !groups.is_empty() {
            return Err(Error::invalid(
                "as_groups",
                "a group is lent together with a user: name one in `as_users` too",
            ));
        }
        Ok(Self { users, groups })
    }

    /// Whether it lends nothing.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether it lends this user with these groups.
    pub fn lends(&self, user: &str, groups: &[String]) -> bool {
        let has = |group: &String| self.groups.iter().any(|known| known.as_str() == group);
        self.users.iter().any(|known| known.as_str() == user) && groups.iter().all(has)
    }
}

/// What a grant lends, where it does. One grant's names are never mixed with another's: who may be `a` in the group `b` by one, and `c` by another, is
/// not `c` in `b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lent {
    /// Only in this namespace; none: in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Slug>,
    /// The names.
    #[serde(flatten)]
    pub act_as: ActAs,
}

impl Lent {
    /// Whether all that the other lends is lent by this.
    pub fn covers(&self, other: &Self) -> bool {
        (self.namespace.is_none() || self.namespace == other.namespace)
            && other.act_as.users.is_subset(&self.act_as.users)
            && other.act_as.groups.is_subset(&self.act_as.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act_as(users: &[&str], groups: &[&str]) -> ActAs {
        ActAs {
            users: users.iter().map(|name| name.parse().unwrap()).collect(),
            groups: groups.iter().map(|name| name.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn attack_47_a_name_that_is_lent_never_looks_like_a_clusters_own() {
        assert_eq!("Bob@Example.com".parse::<ActName>().unwrap().as_str(), "bob@example.com");
        assert!("deploy-bot".parse::<ActName>().unwrap().email().is_none());
        for bad in ["", "system:admin", "system:admin@x", "cairn:bob", "Bob", "a b", "kube_proxy", "a\u{a0}", "bob@"] {
            assert!(bad.parse::<ActName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_group_is_lent_with_a_user_and_names_of_two_grants_are_not_mixed() {
        let groups = || BTreeSet::from(["ops".parse().unwrap()]);
        assert!(ActAs::new(BTreeSet::new(), groups()).is_err());
        let many = (0..=ACT_AS_MAX).map(|n| format!("bot-{n}").parse().unwrap()).collect();
        assert!(ActAs::new(many, groups()).is_err());
        let lent = act_as(&["bob", "eve"], &["ops"]);
        let asked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(lent.lends("bob", &[]) && lent.lends("eve", &asked(&["ops"])));
        assert!(!lent.lends("bob", &asked(&["ops", "dev"])) && !lent.lends("ann", &[]));
        let of = |namespace: Option<&str>, act_as: ActAs| Lent {
            namespace: namespace.map(|name| name.parse().unwrap()),
            act_as,
        };
        let (whole, shop) = (of(None, act_as(&["bob"], &[])), of(Some("shop"), act_as(&["bob"], &[])));
        assert!(whole.covers(&shop) && !shop.covers(&whole) && shop.covers(&shop));
        assert!(!whole.covers(&of(None, lent)));
    }
}
