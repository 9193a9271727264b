//! Ids: UUIDs of version 7 (RFC 9562) behind one newtype per kind, written with the kind's prefix.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Clock;

/// A source of unpredictable bytes, passed in so that tests and replays are repeatable.
pub trait Rng: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The text is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id of this kind is `{prefix}` and 26 letters and digits")]
pub struct IdParseError {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

/// Crockford's base 32 in lower case: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(id: Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = id.as_u128();
    for place in (0..26).rev() {
        let index = (value >> (place * 5)) & 31;
        let letter = usize::try_from(index).ok().and_then(|i| ALPHABET.get(i)).copied().unwrap_or(b'0');
        fmt::Write::write_char(f, char::from(letter))?;
    }
    Ok(())
}

fn decode(text: &str) -> Option<Uuid> {
    if text.len() != 26 || !matches!(text.as_bytes().first(), Some(b'0'..=b'7')) {
        return None;
    }
    let mut value = 0u128;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        value = value << 5 | u128::try_from(digit).ok()?;
    }
    Some(Uuid::from_u128(value))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// A new id: the clock's milliseconds and 74 random bits.
            pub fn generate(clock: &dyn Clock, rng: &dyn Rng) -> Self {
                let mut random = [0u8; 10];
                rng.fill(&mut random);
                let millis = u64::try_from(clock.now().as_millis()).unwrap_or_default();
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The id with these bits, as a database stores them.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The id's bits.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                encode(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix).and_then(decode).map(Self).ok_or(IdParseError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A tenant.
    TenantId "ten_";
    /// A user of the installation.
    UserId "usr_";
    /// A key for machines.
    ApiKeyId "key_";
    /// A role that waits for somebody to sign in.
    InvitationId "inv_";
    /// A command line that waits for somebody to approve it in a browser.
    DeviceLoginId "dev_";
    /// A signed-in session.
    SessionId "ses_";
    /// A sign-in between its two steps.
    SignInId "sgn_";
    /// A challenge to a passkey.
    ChallengeId "chl_";
    /// A second factor of a user.
    FactorId "fac_";
    /// One request or one run of a background task.
    RequestId "req_";
    /// A stored credential.
    CredentialId "crd_";
    /// One discovery run.
    JobId "job_";
    /// A job's unit of work.
    TaskId "tsk_";
    /// A line of a job's log.
    JobLineId "lin_";
    /// Whether a credential can do what a plugin needs, asked once.
    ValidationId "val_";
    /// A repeating job.
    ScheduleId "sch_";
    /// What one task brought back for one scope.
    CollectionId "col_";
    /// Collected bytes.
    ArtifactId "art_";
    /// A signed statement with its artifacts.
    EvidenceId "evd_";
    /// A violation of a rule by a node.
    FindingId "fnd_";
    /// The judgement of one control.
    ControlResultId "ctr_";
    /// A record of the audit log.
    AuditId "aud_";
    /// A backup of the installation.
    BackupId "bkp_";
    /// An identity provider.
    ProviderId "idp_";
    /// A group: one that a provider provisioned, or a tenant's own.
    GroupId "grp_";
    /// A role that a provider's group gives.
    GroupRoleId "gro_";
    /// A host agent.
    AgentId "agt_";
    /// A relay.
    RelayId "rly_";
    /// A token that enrolls one agent or relay.
    EnrollmentTokenId "enr_";
    /// A credential of an agent or a relay.
    FleetCredentialId "fcr_";
    /// A cluster or host that is reached through Cairn.
    DestinationId "dst_";
    /// Who may reach what.
    GrantId "grt_";
    /// A question for access.
    AccessRequestId "arq_";
    /// One destination token.
    DestinationTokenId "dtk_";
    /// One SSH certificate.
    SshCertificateId "scr_";
    /// One connection to an SSH host through a relay.
    SshSessionId "sss_";
    /// A remembered host key of an SSH target.
    SshHostKeyId "shk_";
    /// The recording of a session at a destination.
    RecordingId "rec_";
    /// A review of access.
    AccessReviewId "rvw_";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bits: u128) {
            let id = TenantId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            let _ = text.parse::<UserId>();
        }
    }

    #[test]
    fn another_kind_of_id_is_refused() {
        let id = TenantId::from_uuid(Uuid::from_u128(7)).to_string();
        assert!(id.parse::<UserId>().is_err());
        assert!("ten_".parse::<TenantId>().is_err());
        // 26 digits hold 130 bits: what does not fit in 128 is refused, so that each id has one spelling.
        assert!(format!("ten_8{}", "0".repeat(25)).parse::<TenantId>().is_err());
    }
}
