//! Who is calling: the one place where a request becomes an [`OpCtx`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use access::{
    Actor, Denied, Freshness, MemberOperation, MemberPermit, OpCtx, Operation, OwnOperation, OwnPermit, Permit,
    PlatformOperation, PlatformPermit, TenantOperation,
};
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use crypto::jwt::{self, Claims};
use domain::{Error, RequestId, SessionId, TenantId};
use store::{LiveSession, Membership, Store};
use wire::session::Me;

use crate::api_key::{self, KeyCaller};
use crate::cookie;
use crate::fleet_connections::Carrier;
use crate::layers;
use crate::problem::Failure;
use crate::state::ApiState;
use crate::{cli_session, session};

/// As whom somebody calls.
enum Identity {
    /// Somebody in a session; `cli`: one of the command line.
    Session { session: Box<LiveSession>, cli: bool },
    /// A machine with a key.
    Key(Box<KeyCaller>),
}

/// A caller who proved who they are.
pub(crate) struct Caller {
    ctx: OpCtx,
    identity: Identity,
    by_cookie: bool,
    use_of: Use,
    state: ApiState,
}

/// Whether a request is a use of its session, from which it lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Somebody is at work.
    Counts,
    /// A page asks by itself.
    Background,
}

/// What a page sends with a read that nobody caused.
const BACKGROUND_HEADER: &str = "x-cairn-background";

impl Use {
    /// Of a request. A change is always somebody's. A browser opens a stream of events again by itself whenever it breaks, and no page can
    /// send a header with one.
    fn of(parts: &Parts, by_cookie: bool) -> Self {
        let accepts = parts.headers.get(header::ACCEPT).is_some_and(|kinds| kinds == "text/event-stream");
        let by_itself = parts.headers.contains_key(BACKGROUND_HEADER) || by_cookie && accepts;
        if by_itself && !cookie::changes(&parts.method) { Self::Background } else { Self::Counts }
    }

    /// The session, if it is alive at this moment.
    pub(crate) async fn session(self, store: &Store, id: SessionId) -> Result<Option<LiveSession>, Error> {
        match self {
            Self::Counts => store.session_live(id).await,
            Self::Background => store.session_glance(id).await,
        }
    }
}

/// The address that the request came from.
pub(crate) fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// Writes down that something was used: worth knowing, not worth failing or waiting for. Where nothing can be written, changes fail by
/// themselves.
pub(crate) async fn write_down(used: impl Future<Output = Result<(), Error>>) {
    match tokio::time::timeout(Duration::from_millis(500), used).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a use could not be written down"),
        Err(_) => tracing::debug!("the database is busy: a use was not written down"),
    }
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
        let use_of = Use::of(parts, by_cookie);
        let mut caller = Self::of(state, token, request(state), address(parts), use_of).await?;
        if by_cookie {
            // A browser's cookie holds a browser's session, and nothing else.
            let Identity::Session { session, cli: false } = &caller.identity else {
                return Err(Error::Unauthenticated.into());
            };
            if cookie::changes(&parts.method) {
                let origin = cookie::SameOrigin::of(parts, state);
                if let Some(why) = origin.refusal() {
                    let change = store::Change::to(store::Category::Authorization, "session", session.id)
                        .outcome(store::Outcome::Deny)
                        .detail(serde_json::json!({"reason": why}));
                    state.store.record(&caller.ctx, None, "cookie_use", &change).await?;
                }
                origin.check()?;
            }
            caller.by_cookie = true;
        }
        // Not before they are known: a request of nobody would keep the connection of whoever is revoked.
        if let Some(carrier) = parts.extensions.get::<Carrier>() {
            carrier.0.askers().asks(None);
        }
        Ok(caller)
    }
}

impl Caller {
    /// The caller who brings this token. What it is, its beginning says; nothing that is one kind can pass for another.
    pub(crate) async fn of(
        state: &ApiState,
        token: &str,
        request: RequestId,
        ip: Option<IpAddr>,
        use_of: Use,
    ) -> Result<Self, Failure> {
        if token.starts_with(crypto::api_key::PREFIX) {
            let (key, ctx) = api_key::authenticate(state, token, request, ip).await?;
            let identity = Identity::Key(Box::new(key));
            return Ok(Self { ctx, identity, by_cookie: false, use_of, state: state.clone() });
        }
        let cli = token.starts_with(crypto::cli_session::PREFIX);
        let session = if cli {
            cli_session::authenticate(state, token, use_of).await?
        } else {
            let session = session_of(state, token).ok_or(Error::Unauthenticated)?;
            use_of.session(&state.store, session).await?.ok_or(Error::Unauthenticated)?
        };
        let actor = Actor::User { id: session.user.id, email: session.user.email.clone(), session: session.id };
        let ctx = OpCtx::user(
            actor,
            session.grants(),
            request,
            ip,
            Arc::clone(state.store.clock()),
            Arc::clone(state.store.rng()),
        );
        let since_proof = state.store.clock().now().millis_since(session.proved_at);
        let is_fresh = since_proof < state.settings.step_up_ms;
        let ctx = ctx.with_freshness(if is_fresh { Freshness::Fresh } else { Freshness::Stale });
        let identity = Identity::Session { session: Box::new(session), cli };
        Ok(Self { ctx, identity, by_cookie: false, use_of, state: state.clone() })
    }

    /// Who it is.
    pub(crate) fn ctx(&self) -> &OpCtx {
        &self.ctx
    }

    /// The session. An API key has none, and nothing that belongs to a person.
    pub(crate) fn session(&self) -> Result<&LiveSession, Error> {
        match &self.identity {
            Identity::Session { session, .. } => Ok(session),
            Identity::Key(_) => Err(Error::Forbidden {
                message: "this is for people: an API key has no session and no password".to_owned(),
            }),
        }
    }

    /// Whether it is a session of the command line.
    pub(crate) fn is_cli(&self) -> bool {
        matches!(self.identity, Identity::Session { cli: true, .. })
    }

    /// What the caller is told about themselves.
    pub(crate) fn me(&self) -> Me {
        match &self.identity {
            Identity::Session { session, .. } => session::me(&self.state, session),
            Identity::Key(key) => api_key::me(key),
        }
    }

    fn memberships(&self) -> &[Membership] {
        match &self.identity {
            Identity::Session { session, .. } => &session.memberships,
            Identity::Key(key) => std::slice::from_ref(&key.key.membership),
        }
    }

    /// Whether the caller is still who they were, with the same roles: for what goes on after the request began. It is a use where that was one.
    pub(crate) async fn check_again(&self) -> Result<(), Error> {
        match &self.identity {
            Identity::Session { session, .. } => match self.use_of.session(&self.state.store, session.id).await? {
                Some(live) if live.memberships == session.memberships => Ok(()),
                _ => Err(Error::Unauthenticated),
            },
            Identity::Key(key) => key.check_again(&self.state, self.ctx.ip()).await,
        }
    }

    /// Whether the session came as a browser's cookie.
    pub(crate) fn by_cookie(&self) -> bool {
        self.by_cookie
    }

    /// Whoever still has a one-time password may change it, and nothing else.
    fn has_own_password(&self) -> Result<(), Error> {
        if matches!(&self.identity, Identity::Session { session, .. } if session.user.must_change_password) {
            return Err(Error::Forbidden {
                message: "change your one-time password first (`cairn login` asks for it)".to_owned(),
            });
        }
        Ok(())
    }

    /// Whoever lacks what the installation asks of everybody may see to that, and nothing else.
    pub(crate) fn may_work(&self) -> Result<(), Error> {
        self.has_own_password()?;
        if matches!(&self.identity, Identity::Session { session, .. } if session::lacks_factor(&self.state, session)) {
            return Err(Error::Forbidden {
                message: "a second factor is required here: add one first (`cairn factors add-totp`)".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether the tenant of a membership is open to this session.
    fn may_enter(&self, tenant: TenantId) -> Result<(), Error> {
        let asks = |member: &Membership| member.tenant == tenant && member.second_factor_required;
        // A key has no factors: who may make one entered the tenant with theirs.
        if matches!(&self.identity, Identity::Session { session, .. } if !session.second_factor && session.memberships.iter().any(asks))
        {
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
        self.memberships()
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

    /// A permit for one operation of a member for themselves, in the tenant that a path names; denied and recorded as [`Caller::permit`] is.
    pub(crate) async fn member_permit<O: MemberOperation>(&self, tenant: &str) -> Result<MemberPermit<O>, Failure> {
        self.may_work()?;
        let denied: Failure = match self.tenant(tenant).and_then(|tenant| self.ctx.authorize_member::<O>(tenant)) {
            Ok(permit) => match self.may_enter(permit.tenant()) {
                Ok(()) => return Ok(permit),
                Err(closed) => closed.into(),
            },
            Err(denied) => denied.into(),
        };
        self.state.store.record_denial(&self.ctx, self.tenant(tenant).ok(), O::NAME).await?;
        Err(denied)
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
