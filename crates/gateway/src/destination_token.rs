//! Destination tokens: issued by the server, judged by the proxy of the one destination that they are for.
//!
//! Invariants:
//! - a token is good at one destination, of one installation, for five minutes at most, and signed by a key that the installation publishes;
//! - what was judged once is remembered by the token's digest, and judged by the clock again each time: remembering changes no answer but its
//!   cost. New keys forget everything.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crypto::es512::{self, Es512Error, KeySet, SigningKey};
use domain::{
    DestinationId, DestinationRole, DestinationTokenId, Digest, Error, Lent, SessionId, Slug, TenantId, Timestamp,
    UserId,
};
use wire::destination_token::{DestinationClaims, LIFETIME_S_MAX};

/// Most that the issuer's clock may differ from ours, in seconds.
pub const LEEWAY_S_MAX: i64 = 30;
/// Most tokens that are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// Signs a token.
pub fn issue(key: &SigningKey, claims: &DestinationClaims) -> Result<String, Error> {
    let claims = serde_json::to_value(claims).map_err(Error::internal)?;
    key.sign_jwt(&claims).map_err(Error::internal)
}

/// Whom a token lets in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The tenant that the destination is in.
    pub tenant: TenantId,
    /// The destination.
    pub destination: DestinationId,
    /// The user.
    pub user: UserId,
    /// The user's login name.
    pub name: String,
    /// The user's groups in the tenant.
    pub groups: Vec<Slug>,
    /// As what.
    pub role: DestinationRole,
    /// Only in these namespaces; none: in all, and outside of namespaces.
    pub namespaces: Option<Vec<Slug>>,
    /// As whom else the user may act.
    pub act_as: Vec<Lent>,
    /// The session behind it.
    pub session: SessionId,
    /// The token's id.
    pub jti: DestinationTokenId,
    /// When it was issued.
    pub issued: Timestamp,
    /// Until when it is good, without leeway.
    pub expires: Timestamp,
}

/// Why a token is not accepted. The client is told no more than that it is not; the reason is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token that a key which we know signed. [`Es512Error::UnknownKey`]: the keys may be old.
    #[error("{0}")]
    Signature(#[from] Es512Error),
    /// Its claims are not those of a destination token.
    #[error("the token's claims are not those of a destination token")]
    Claims,
    /// Another installation issued it.
    #[error("the token was issued by another installation")]
    Issuer,
    /// It is for another destination.
    #[error("the token is for another destination")]
    Audience,
    /// It is not good now, or for longer than tokens are.
    #[error("the token has expired, is not yet good, or is good for too long: check the clocks")]
    Time,
}

struct Trusted {
    keys: Arc<KeySet>,
    remembered: HashMap<Digest, Arc<Admission>>,
}

/// Judges the tokens of one installation for one destination. It cannot be made without both.
pub struct Verifier {
    issuer: String,
    audience: DestinationId,
    leeway_s: i64,
    trusted: RwLock<Trusted>,
}

impl Verifier {
    /// `issuer`: the installation; `audience`: this destination; `leeway_s`: 0 to 30, more is taken as 30.
    pub fn new(issuer: String, audience: DestinationId, keys: KeySet, leeway_s: i64) -> Self {
        let trusted = RwLock::new(Trusted { keys: Arc::new(keys), remembered: HashMap::new() });
        Self { issuer, audience, leeway_s: leeway_s.clamp(0, LEEWAY_S_MAX), trusted }
    }

    /// Trusts these keys and no others from now on.
    pub fn replace_keys(&self, keys: KeySet) {
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        if *trusted.keys != keys {
            *trusted = Trusted { keys: Arc::new(keys), remembered: HashMap::new() };
        }
    }

    /// Whom the token lets in at this moment.
    pub fn admit(&self, token: &str, now: Timestamp) -> Result<Admission, Refusal> {
        let digest = crypto::sha256(token.as_bytes());
        let (keys, known) = {
            let trusted = self.trusted.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&trusted.keys), trusted.remembered.get(&digest).cloned())
        };
        let admission = if let Some(known) = known {
            known
        } else {
            let judged = Arc::new(self.judge(token, &keys)?);
            self.remember(digest, &judged, &keys, now);
            judged
        };
        if self.in_time(&admission, now) { Ok(Admission::clone(&admission)) } else { Err(Refusal::Time) }
    }

    fn judge(&self, token: &str, keys: &KeySet) -> Result<Admission, Refusal> {
        let claims = es512::verify_jwt(token, keys)?;
        let claims: DestinationClaims = serde_json::from_value(claims).map_err(|_| Refusal::Claims)?;
        if claims.iss != self.issuer {
            return Err(Refusal::Issuer);
        }
        if claims.aud != self.audience {
            return Err(Refusal::Audience);
        }
        let lifetime = claims.exp.checked_sub(claims.iat).ok_or(Refusal::Time)?;
        let millis = |seconds: i64| seconds.checked_mul(1_000).map(Timestamp::from_millis).ok_or(Refusal::Time);
        if !(1..=LIFETIME_S_MAX).contains(&lifetime) {
            return Err(Refusal::Time);
        }
        Ok(Admission {
            tenant: claims.tenant,
            destination: claims.aud,
            user: claims.sub,
            name: claims.name,
            groups: claims.groups,
            role: claims.role,
            namespaces: claims.namespaces,
            act_as: claims.act_as,
            session: claims.sid,
            jti: claims.jti,
            issued: millis(claims.iat)?,
            expires: millis(claims.exp)?,
        })
    }

    fn in_time(&self, admission: &Admission, now: Timestamp) -> bool {
        let leeway_ms = self.leeway_s * 1_000;
        now.millis_since(admission.issued) >= -leeway_ms && now.millis_since(admission.expires) < leeway_ms
    }

    fn remember(&self, digest: Digest, judged: &Arc<Admission>, keys: &Arc<KeySet>, now: Timestamp) {
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        // Only by keys that still count: they may have been replaced while the signature was verified.
        if !Arc::ptr_eq(&trusted.keys, keys) || !self.in_time(judged, now) {
            return;
        }
        if trusted.remembered.len() >= REMEMBERED_MAX {
            trusted.remembered.retain(|_, old| self.in_time(old, now));
        }
        if trusted.remembered.len() < REMEMBERED_MAX {
            trusted.remembered.insert(digest, Arc::clone(judged));
        }
    }
}

#[cfg(test)]
#[path = "destination_token/tests.rs"]
mod tests;
