//! The permission matrix: one table, printed by the golden test exactly as the documentation shows it.

use std::fmt;
use std::str::FromStr;

use domain::Error;

/// What a user is in one tenant (or, for [`Role::SystemAdmin`] only, on the platform).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, within the tenant in which it is held; on the platform: tenants, users and system settings, and no tenant's data.
    SystemAdmin,
    /// Everything within the tenant: users, credentials, jobs, findings.
    TenantAdmin,
    /// Runs discovery, manages findings, reads the graph.
    SecurityAnalyst,
    /// Reads findings, evidence and the audit log.
    Auditor,
    /// Reads the graph.
    ReadOnly,
}

impl Role {
    /// Every role, in the matrix's order.
    pub const ALL: [Self; 5] =
        [Self::SystemAdmin, Self::TenantAdmin, Self::SecurityAnalyst, Self::Auditor, Self::ReadOnly];

    /// The one spelling; matching is exact, so `Auditor` or `AUDITOR` is no role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SystemAdmin => "system-admin",
            Self::TenantAdmin => "tenant-admin",
            Self::SecurityAnalyst => "security-analyst",
            Self::Auditor => "auditor",
            Self::ReadOnly => "read-only",
        }
    }

    /// Whether a holder of this role in a tenant has the permission there.
    pub fn holds(self, permission: Permission) -> bool {
        MATRIX.iter().any(|(row, held)| *row == permission && held.contains(&self))
    }

    /// Whether this role holds everything that `other` holds: nobody grants above themselves.
    pub fn covers(self, other: Self) -> bool {
        Permission::ALL.iter().all(|permission| self.holds(*permission) || !other.holds(*permission))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            Error::invalid(
                "role",
                format!("`{}` is not one of {}", text.escape_debug(), Self::ALL.map(Self::as_str).join(", ")),
            )
        })
    }
}

macro_rules! matrix {
    ($($(#[$doc:meta])* $variant:ident $name:literal $title:literal [$($role:ident)*],)*) => {
        /// A row of the matrix.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission { $($(#[$doc])* $variant,)* }

        impl Permission {
            /// Every permission, in the matrix's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, e.g. `findings:read`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The row's title for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }

        const MATRIX: &[(Permission, &[Role])] = &[$((Permission::$variant, &[$(Role::$role,)*]),)*];
    };
}

matrix! {
    /// Create and delete tenants; on the platform only.
    TenantsManage "tenants:manage" "Tenant create/delete (platform only)" [SystemAdmin],
    /// Manage users and members.
    UsersManage "users:manage" "Users manage" [SystemAdmin TenantAdmin],
    /// Manage credentials.
    CredentialsManage "credentials:manage" "Credentials manage" [SystemAdmin TenantAdmin],
    /// Run, see and cancel discovery jobs.
    JobsManage "jobs:manage" "Discovery jobs" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Read the asset graph.
    NodesRead "nodes:read" "Nodes/edges read" [SystemAdmin TenantAdmin SecurityAnalyst ReadOnly],
    /// Write to the asset graph by hand.
    NodesWrite "nodes:write" "Nodes/edges write" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Read findings.
    FindingsRead "findings:read" "Findings read" [SystemAdmin TenantAdmin SecurityAnalyst Auditor],
    /// Accept and resolve findings.
    FindingsWrite "findings:write" "Findings manage (accept, resolve)" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Run an evaluation.
    AuditRun "audit:run" "Audit run" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Read evidence.
    EvidenceRead "evidence:read" "Evidence read" [SystemAdmin TenantAdmin SecurityAnalyst Auditor],
    /// Add evidence.
    EvidenceWrite "evidence:write" "Evidence write" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Read the plan of action and milestones.
    PoamRead "poam:read" "POA&M read" [SystemAdmin TenantAdmin SecurityAnalyst Auditor],
    /// Write the plan of action and milestones.
    PoamWrite "poam:write" "POA&M write" [SystemAdmin TenantAdmin SecurityAnalyst],
    /// Read the audit log.
    LogsRead "logs:read" "Audit logs read" [SystemAdmin TenantAdmin Auditor],
    /// Manage destinations, grants and approvals.
    AccessManage "access:manage" "Access manage (destinations, grants, approvals)" [SystemAdmin TenantAdmin],
    /// See recordings of sessions.
    RecordingsRead "recordings:read" "Session recordings read" [SystemAdmin TenantAdmin Auditor],
    /// Ask what changed: each part of the answer is for whoever may read that.
    ChangesRead "changes:read" "Changes read (each part by its own permission)" [SystemAdmin TenantAdmin SecurityAnalyst Auditor ReadOnly],
    /// Manage agents and relays.
    FleetManage "fleet:manage" "Agents and relays manage" [SystemAdmin TenantAdmin],
    /// Change the installation; on the platform only.
    SystemAdmin "system:admin" "System admin (platform only)" [SystemAdmin],
}

impl Permission {
    /// Whether only a person holds it, never an API key: who could make users, members, keys or tenants with a stolen key would outlive its
    /// revocation.
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::TenantsManage | Self::UsersManage | Self::SystemAdmin)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
