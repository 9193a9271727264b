//! The access proxy in front of a Kubernetes API server: who asks, what for, and as whom it goes on.
//!
//! The core is without I/O: [`request`] reads a request as the API server itself would and refuses what two readers could read differently,
//! [`identity`] decides as whom it goes on, [`headers`] builds what goes on from nothing. The shell around it ([`proxy`]) streams.
//!
//! **Not for** who may reach the cluster (an [`Admit`] verifies the token that says so), and not for what a role may do there: the cluster's own
//! RBAC decides that, for the groups that are set here.
//!
//! Invariants:
//! - a request reaches the API server as an impersonated user with the prefix of Cairn, or not at all; it never runs as the proxy itself;
//! - what goes on is an allow-list: no header of the client names an identity, a hop, or what becomes of another header;
//! - no name without the prefix can be impersonated, so no `system:` user or group can;
//! - a grant for a namespace reaches that namespace and what a client has to read to find its way, and nothing else.

mod cluster;
pub mod headers;
pub mod identity;
mod listener;
mod live;
mod proxy;
mod recorded;
pub mod request;
mod stream;
mod unreached;
mod watches;

use std::borrow::Cow;

use domain::{DestinationId, Lent, SessionId, Timestamp, UserId};
use http::{HeaderValue, Response, header};

use crate::destination_token;

pub use self::cluster::{Cluster, TokenFile};
pub use self::identity::Identity;
pub use self::listener::{Listener, PER_ADDRESS, STALL};
pub use self::live::{Confirm, Live, Place, Token};
pub use self::proxy::{Proxy, Record};
pub use self::request::Call;

/// What a destination token says, once it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The destination that the token is for.
    pub destination: DestinationId,
    /// The user's name, without a prefix.
    pub user: String,
    /// The user's id.
    pub user_id: UserId,
    /// The user's groups, without a prefix.
    pub groups: Vec<String>,
    /// What was granted here.
    pub grants: Vec<Granted>,
    /// As whom else the user may act (`kubectl --as`). These names get the prefix as well.
    pub act_as: Vec<Lent>,
    /// The session that the token came from.
    pub session: SessionId,
    /// The token's own id.
    pub jti: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl From<destination_token::Admission> for Admission {
    /// One role, in the whole cluster or in each of some namespaces.
    fn from(token: destination_token::Admission) -> Self {
        let role = token.role.to_string();
        let granted = |namespace: Option<String>| Granted { role: role.clone(), namespace };
        let grants = match &token.namespaces {
            None => vec![granted(None)],
            Some(names) => names.iter().map(|name| granted(Some(name.to_string()))).collect(),
        };
        Self {
            destination: token.destination,
            user: token.name,
            user_id: token.user,
            groups: token.groups.iter().map(ToString::to_string).collect(),
            grants,
            act_as: token.act_as,
            session: token.session,
            jti: token.jti.to_string(),
            expires: token.expires,
        }
    }
}

/// A role, in a namespace or in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Granted {
    /// The role.
    pub role: String,
    /// The only namespace that it is for; none: the cluster.
    pub namespace: Option<String>,
}

/// As which groups the cluster knows the roles that are granted.
pub trait Roles: Send + Sync {
    /// The group of a role where it was granted, without its prefix [`identity::ROLE_PREFIX`]; or why it has none.
    fn group(&self, granted: &Granted) -> Result<String, Refusal>;
}

/// One group for a role, wherever it is granted: the proxy alone keeps it to a namespace.
pub struct OneGroup;

impl Roles for OneGroup {
    fn group(&self, granted: &Granted) -> Result<String, Refusal> {
        Ok(granted.role.clone())
    }
}

/// Verifies destination tokens, offline.
pub trait Admit: Send + Sync {
    /// What the token says, or why it lets nobody in.
    fn admit(&self, token: &str, now: Timestamp) -> Result<Admission, Refusal>;
}

/// Why a request goes no further. The words are for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two readers could understand it differently, or no API server would.
    #[error("{0}")]
    Malformed(&'static str),
    /// Nobody is there.
    #[error("{0}")]
    Unauthenticated(String),
    /// No grant covers it.
    #[error("{0}")]
    Forbidden(String),
    /// The cluster's API server cannot be reached, or breaks the rules.
    #[error("{0}")]
    BadGateway(Cow<'static, str>),
    /// It did not begin to answer in time.
    #[error("{0}")]
    Timeout(&'static str),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// The status and the reason as Kubernetes spells it.
    pub fn status(&self) -> (http::StatusCode, &'static str) {
        use http::StatusCode;
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::BadGateway(_) => (StatusCode::BAD_GATEWAY, "InternalError"),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }

    /// The whole answer. Where a client looks for groups and versions (`is_resource` is not so), `kubectl` shows plain words and nothing else.
    pub fn answer(&self, is_resource: bool) -> Response<Vec<u8>> {
        let (kind, body) = if is_resource {
            ("application/json", self.document())
        } else {
            ("text/plain; charset=utf-8", format!("cairn: {self}").into_bytes())
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status().0;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            // What follows on this connection may not be what it seems.
            Self::Malformed(_) => drop(headers.insert(header::CONNECTION, HeaderValue::from_static("close"))),
            Self::Unauthenticated(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Unavailable(_) => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"))),
            _ => {}
        }
        response
    }

    /// The `Status` document (`v1`) that clients of Kubernetes show their users.
    pub fn document(&self) -> Vec<u8> {
        let (status, reason) = self.status();
        let document = serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": format!("cairn: {self}"),
            "reason": reason,
            "code": status.as_u16(),
        });
        document.to_string().into_bytes()
    }
}

/// A user and a group that are lent, in a namespace or (`""`) everywhere.
#[cfg(test)]
fn test_lent(namespace: &str, user: &str, group: &str) -> Lent {
    let namespace = (!namespace.is_empty()).then(|| namespace.parse().unwrap());
    let (users, groups) = ([user.parse().unwrap()].into(), [group.parse().unwrap()].into());
    Lent { namespace, act_as: domain::ActAs { users, groups } }
}

/// What the tests of this module let in.
#[cfg(test)]
fn test_admission(grants: &[(&str, &str)]) -> Admission {
    let grant = |(role, namespace): &(&str, &str)| Granted {
        role: (*role).to_owned(),
        namespace: (!namespace.is_empty()).then(|| (*namespace).to_owned()),
    };
    Admission {
        destination: format!("dst_{}", "0".repeat(26)).parse().unwrap(),
        user: "alice@example.com".to_owned(),
        user_id: format!("usr_{}", "0".repeat(26)).parse().unwrap(),
        groups: vec!["dev".to_owned(), "system:masters".to_owned()],
        grants: grants.iter().map(grant).collect(),
        act_as: vec![test_lent("", "bob", "ops")],
        session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
        jti: "1".to_owned(),
        expires: Timestamp::from_millis(1_000),
    }
}
