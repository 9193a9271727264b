//! How hosts are reached by a grant: from where, and with what besides running a command.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Network};

/// Most networks that one grant names.
pub const NETWORKS_MAX: usize = 32;
/// Longest command that is forced, in bytes.
const COMMAND_BYTES: usize = 1_024;

/// What a certificate can let its holder do besides running a command, by OpenSSH's names (PROTOCOL.certkeys), in the order in which a certificate has
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SshExtension {
    /// X11 of the user's own screen.
    X11Forwarding,
    /// The user's own agent.
    AgentForwarding,
    /// Connections in both directions, to ports and to sockets in the file system.
    PortForwarding,
    /// A terminal.
    Pty,
    /// `~/.ssh/rc` of the account.
    UserRc,
}

impl SshExtension {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::X11Forwarding, Self::AgentForwarding, Self::PortForwarding, Self::Pty, Self::UserRc];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X11Forwarding => "permit-X11-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::PortForwarding => "permit-port-forwarding",
            Self::Pty => "permit-pty",
            Self::UserRc => "permit-user-rc",
        }
    }
}

impl fmt::Display for SshExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SshExtension {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid("extensions", format!("`{}` is none of {known}", text.escape_debug()))
        })
    }
}

impl Serialize for SshExtension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SshExtension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a grant says of the hosts that it covers. Empty: from everywhere, with all that a host allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SshTerms {
    /// From where it holds; none: from everywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub networks: BTreeSet<Network>,
    /// What it lends of what a host allows; none: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<BTreeSet<SshExtension>>,
    /// What is run, whatever the user asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl SshTerms {
    /// Checks that it is not too much, and that the command is one line.
    pub fn new(
        networks: BTreeSet<Network>,
        extensions: Option<BTreeSet<SshExtension>>,
        command: Option<String>,
    ) -> Result<Self, Error> {
        if networks.len() > NETWORKS_MAX {
            return Err(Error::Limit { which: "networks of a grant", max: NETWORKS_MAX as u64 });
        }
        let is_line = |text: &String| {
            !text.is_empty()
                && text.len() <= COMMAND_BYTES
                && text.trim() == text.as_str()
                && !text.chars().any(char::is_control)
        };
        if command.as_ref().is_some_and(|text| !is_line(text)) {
            let say = format!("say what is run, in one line of at most {COMMAND_BYTES} bytes");
            return Err(Error::invalid("force_command", say));
        }
        Ok(Self { networks, extensions, command })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.extensions.is_none() && self.command.is_none()
    }

    /// Whether it holds for who comes from there. Where it is not known from where, only what holds from everywhere does.
    pub fn holds_from(&self, from: Option<IpAddr>) -> bool {
        self.networks.is_empty() || from.is_some_and(|from| self.networks.iter().any(|network| network.contains(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_extension_no_command_and_too_much_is_refused() {
        for known in SshExtension::ALL {
            assert_eq!(known.as_str().parse::<SshExtension>().unwrap(), known);
        }
        for bad in ["", "pty", "permit-x11-forwarding", "permit-pty ", "no-touch-required", "force-command"] {
            assert!(bad.parse::<SshExtension>().is_err(), "{bad}");
        }
        let with = |command: &str| SshTerms::new(BTreeSet::new(), None, Some(command.to_owned()));
        assert!(with("/usr/bin/backup --now").is_ok());
        for bad in ["", " x", "x ", "a\nb", "a\u{0}b", "a\u{85}b", &"x".repeat(COMMAND_BYTES + 1)] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        let many = (0..=u8::try_from(NETWORKS_MAX).unwrap()).map(|n| format!("10.0.{n}.0/24").parse().unwrap());
        assert!(SshTerms::new(many.collect(), None, None).is_err());
    }

    #[test]
    fn attack_ssh_networks_hold_by_the_address_and_by_nothing_where_it_is_not_known() {
        let office = SshTerms::new(["10.0.0.0/8".parse().unwrap()].into(), None, None).unwrap();
        for (from, holds) in [
            (Some("10.1.2.3"), true),
            (Some("::ffff:10.1.2.3"), true),
            (Some("11.0.0.1"), false),
            (Some("::1"), false),
            (None, false),
        ] {
            assert_eq!(office.holds_from(from.map(|text| text.parse().unwrap())), holds, "{from:?}");
        }
        assert!(SshTerms::default().holds_from(None) && SshTerms::default().is_empty());
        // A list that is empty lends nothing, and is not one that is absent.
        let nothing = SshTerms::new(BTreeSet::new(), Some(BTreeSet::new()), None).unwrap();
        assert!(!nothing.is_empty());
        let text = serde_json::to_string(&nothing).unwrap();
        assert_eq!(text, r#"{"extensions":[]}"#);
        assert_eq!(serde_json::from_str::<SshTerms>(&text).unwrap(), nothing);
    }
}
