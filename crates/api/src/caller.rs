//! Who is calling: the one place where a request becomes an [`OpCtx`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use access::{
    Actor, Denied, Freshness, OpCtx, Operation, OwnOperation, OwnPermit, Permit, PlatformOperation, PlatformPermit,
    TenantOperation,
};
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use crypto::jwt::{self, Claims};
use domain::{Error, RequestId, SessionId, TenantId};
use store::LiveSession;

use crate::cookie;
use crate::layers;
use crate::problem::Failure;
use crate::session;
use crate::state::ApiState;

/// A signed-in caller.
pub(crate) struct Caller {
    ctx: OpCtx,
    session: LiveSession,
    by_cookie: bool,
    state: ApiState,
}

/// The address that the request came from.
pub(crate) fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// The request's id.
pub(crate) fn request(state: &ApiState) -> RequestId {
    layers::request_id().unwrap_or_else(|| RequestId::generate(&**state.store.clock(), &**state.store.rng()))
}

/// Reads the session's id out of a token that this installation signed for this purpose and that has not expired.
fn session_of(state: &ApiState, token: &str) -> Option<SessionId> {
    let claims = jwt::verify_hs256(token, state.jwt_secret.expose()).ok()?;
    let claims = Claims::new(&claims);
    claims.check_times(state.store.clock().now().as_seconds()).ok()?;
    let issued_here = claims.text("iss") == Some(state.settings.installation.as_str());
    let for_sessions = claims.text("aud") == Some(session::AUDIENCE);
    if issued_here && for_sessions { claims.text("sid")?.parse().ok() } else { None }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Failure> {
        let (token, by_cookie) = cookie::token(&parts.headers)?.ok_or(Error::Unauthenticated)?;
        let session = session_of(state, token).ok_or(Error::Unauthenticated)?;
        let session = state.store.session_live(session).await?.ok_or(Error::Unauthenticated)?;
        let actor = Actor::User { id: session.user.id, email: session.user.email.clone(), session: session.id };
        let ctx = OpCtx::user(
            actor,
            session.grants(),
            request(state),
            address(parts),
            Arc::clone(state.store.clock()),
            Arc::clone(state.store.rng()),
        );
        let since_proof = state.store.clock().now().millis_since(session.proved_at);
        let is_fresh = since_proof < state.settings.step_up_ms;
        let ctx = ctx.with_freshness(if is_fresh { Freshness::Fresh } else { Freshness::Stale });
        if by_cookie && cookie::changes(&parts.method) {
            let origin = cookie::SameOrigin::of(parts, state);
            if let Some(why) = origin.refusal() {
                let change = store::Change::to(store::Category::Authorization, "session", session.id)
                    .outcome(store::Outcome::Deny)
                    .detail(serde_json::json!({"reason": why}));
                state.store.record(&ctx, None, "cookie_use", &change).await?;
            }
            origin.check()?;
        }
        Ok(Self { ctx, session, by_cookie, state: state.clone() })
    }
}

impl Caller {
    /// Who it is.
    pub(crate) fn ctx(&self) -> &OpCtx {
        &self.ctx
    }

    /// The session.
    pub(crate) fn session(&self) -> &LiveSession {
        &self.session
    }

    /// Whether the session came as a browser's cookie.
    pub(crate) fn by_cookie(&self) -> bool {
        self.by_cookie
    }

    /// Whoever still has a one-time password may change it, and nothing else.
    fn has_own_password(&self) -> Result<(), Error> {
        if self.session.user.must_change_password {
            return Err(Error::Forbidden {
                message: "change your one-time password first (`cairn login` asks for it)".to_owned(),
            });
        }
        Ok(())
    }

    /// Whoever lacks what the installation asks of everybody may see to that, and nothing else.
    pub(crate) fn may_work(&self) -> Result<(), Error> {
        self.has_own_password()?;
        if session::lacks_factor(&self.state, &self.session) {
            return Err(Error::Forbidden {
                message: "a second factor is required here: add one first (`cairn factors add-totp`)".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether the tenant of a membership is open to this session.
    fn may_enter(&self, tenant: TenantId) -> Result<(), Error> {
        let asks = |member: &store::Membership| member.tenant == tenant && member.second_factor_required;
        if !self.session.second_factor && self.session.memberships.iter().any(asks) {
            return Err(Error::Forbidden {
                message: "this tenant requires a second factor: add one first (`cairn factors add-totp`)".to_owned(),
            });
        }
        Ok(())
    }

    /// A permit for one operation on the caller's own account, which is possible also where a second factor is still to be added.
    pub(crate) async fn own_permit<O: OwnOperation>(&self) -> Result<OwnPermit<O>, Failure> {
        self.has_own_password()?;
        match self.ctx.authorize_own::<O>() {
            Ok(permit) => Ok(permit),
            Err(denied) => {
                self.state.store.record_denial(&self.ctx, None, O::NAME).await?;
                Err(denied.into())
            }
        }
    }

    /// The tenant that a path names by id or slug, among those that the caller is a member of: another one does not exist.
    fn tenant(&self, name: &str) -> Result<TenantId, Denied> {
        self.session
            .memberships
            .iter()
            .find(|member| member.slug == name || member.tenant.to_string() == name)
            .map(|member| member.tenant)
            .ok_or(Denied::NoSuchTenant)
    }

    /// Whether a path's `name` means this tenant of the caller's.
    pub(crate) fn names(&self, name: &str, tenant: TenantId) -> bool {
        self.tenant(name) == Ok(tenant)
    }

    /// A permit for one operation in the tenant that a path names. A denial is recorded before it is answered; if it cannot be recorded, the
    /// answer is that error.
    pub(crate) async fn permit<O: TenantOperation>(&self, tenant: &str) -> Result<Permit<O>, Failure> {
        self.may_work()?;
        match self.tenant(tenant).and_then(|tenant| self.ctx.authorize::<O>(tenant)) {
            Ok(permit) => {
                if let Err(closed) = self.may_enter(permit.tenant()) {
                    self.state.store.record_denial(&self.ctx, Some(permit.tenant()), <O as Operation>::NAME).await?;
                    return Err(closed.into());
                }
                Ok(permit)
            }
            Err(denied) => {
                self.state.store.record_denial(&self.ctx, self.tenant(tenant).ok(), <O as Operation>::NAME).await?;
                Err(denied.into())
            }
        }
    }

    /// A permit for one operation on the platform.
    pub(crate) async fn platform_permit<O: PlatformOperation>(&self) -> Result<PlatformPermit<O>, Failure> {
        self.may_work()?;
        match self.ctx.authorize_platform::<O>() {
            Ok(permit) => Ok(permit),
            Err(denied) => {
                self.state.store.record_denial(&self.ctx, None, <O as Operation>::NAME).await?;
                Err(denied.into())
            }
        }
    }
}
