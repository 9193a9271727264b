//! Destination tokens: what the server signs and a destination's proxy reads.

use domain::{DestinationId, DestinationRole, DestinationTokenId, Lent, SessionId, Slug, TenantId, UserId};
use serde::{Deserialize, Serialize};

/// How long a token is good at most, in seconds.
pub const LIFETIME_S_MAX: i64 = 300;

/// What a destination token says: one user, at one destination, in one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationClaims {
    /// The installation that issued it.
    pub iss: String,
    /// The one destination that it is for.
    pub aud: DestinationId,
    /// The user.
    pub sub: UserId,
    /// The user's login name.
    pub name: String,
    /// The user's groups in the tenant, sorted.
    pub groups: Vec<Slug>,
    /// As what.
    pub role: DestinationRole,
    /// Only in these namespaces, sorted; absent: in all, and outside of namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Slug>>,
    /// As whom else the user may act, sorted; absent: as nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act_as: Vec<Lent>,
    /// The tenant that the destination is in.
    pub tenant: TenantId,
    /// The session that asked for it.
    pub sid: SessionId,
    /// Its own id.
    pub jti: DestinationTokenId,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Until when it is good, in seconds since 1970: at most [`LIFETIME_S_MAX`] after `iat`.
    pub exp: i64,
}
