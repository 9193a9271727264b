//! States by which a change says what it was made from, and being alone with what is changed.
//!
//! Invariant: a state is compared with a condition while nobody else can change it, so of two changes that were made from one state one is kept.

use domain::{Result, TenantId, Version};
use serde::Serialize;
use serde_json::json;

use crate::db::{Engine, Tx, args};
use crate::{
    AccessPolicy, DestinationRow, GroupRoleRow, InvitationRow, MemberRow, ProviderRow, RecordingPolicy, RelayPolicy,
    ScheduleRow, SshHostRow, UnitRow,
};

/// A thing whose states people change.
pub trait Versioned {
    /// Names its state, by what people say of it.
    fn version(&self) -> Version;
}

fn of(state: &impl Serialize) -> Version {
    Version::of(crypto::sha256(json!(state).to_string().as_bytes()))
}

/// Lets nobody else change this of the tenant until the transaction ends. On SQLite nobody else writes anyhow.
pub(crate) async fn alone(tx: &mut Tx, tenant: TenantId, what: &str) -> Result<()> {
    if tx.engine() == Engine::Pg {
        let lock = "SELECT pg_advisory_xact_lock(71653277, hashtext($1))";
        tx.execute(lock, args![format!("{tenant} {what}")]).await?;
    }
    Ok(())
}

/// Members and invitations of a tenant: who gives somebody a role waits for who does so at the same time.
pub(crate) const MEMBERS: &str = "members";
/// Roles that groups of providers give.
pub(crate) const GROUP_ROLES: &str = "group roles";

/// Whether sessions without a second factor are refused.
impl Versioned for bool {
    fn version(&self) -> Version {
        of(self)
    }
}

/// The special networks that jobs may reach.
impl Versioned for Vec<domain::Network> {
    fn version(&self) -> Version {
        of(self)
    }
}

impl Versioned for AccessPolicy {
    fn version(&self) -> Version {
        let glass = self.glass.as_ref().map(|glass| (glass.group.as_str(), glass.ms_max));
        of(&(self.request_ms_max, self.eligible_only, glass))
    }
}

impl Versioned for RecordingPolicy {
    fn version(&self) -> Version {
        of(&(self.kubernetes.as_str(), self.ssh.as_str(), self.input, self.retention_days))
    }
}

impl Versioned for RelayPolicy {
    fn version(&self) -> Version {
        of(&(self.authorities.as_str(), self.certificate_required))
    }
}

impl Versioned for DestinationRow {
    fn version(&self) -> Version {
        match &self.selector {
            None => of(&(self.id, &self.labels, self.relay)),
            Some(selector) => of(&(self.id, "set", selector)),
        }
    }
}

impl Versioned for SshHostRow {
    fn version(&self) -> Version {
        let Self { destination, address, host_key, source_networks, extensions } = self;
        let said = (&destination.roles, &destination.labels, destination.relay);
        of(&(destination.id, address.to_string(), host_key.to_string(), source_networks, extensions, said))
    }
}

impl Versioned for UnitRow {
    fn version(&self) -> Version {
        of(&(self.id.to_string(), &self.labels))
    }
}

impl Versioned for ScheduleRow {
    fn version(&self) -> Version {
        of(&(self.id, self.credential, self.relay, &self.config, self.interval_s, self.paused))
    }
}

impl Versioned for ProviderRow {
    fn version(&self) -> Version {
        of(&(self.id, &self.title, &self.client_id, &self.scopes, &self.groups_claim, &self.email_domains))
    }
}

impl Versioned for MemberRow {
    fn version(&self) -> Version {
        of(&(self.user, self.role.as_str()))
    }
}

/// By when it was made too: one that is made anew is another one.
impl Versioned for InvitationRow {
    fn version(&self) -> Version {
        of(&(self.id, self.role.as_str(), self.created_at))
    }
}

impl Versioned for GroupRoleRow {
    fn version(&self) -> Version {
        of(&(self.id, self.role.as_str()))
    }
}
