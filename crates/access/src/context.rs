//! Who is asking, and with what tools.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use domain::{AgentId, ApiKeyId, Clock, DisplayName, Email, RelayId, RequestId, Rng, SessionId, TenantId, UserId};

use crate::{Denied, OwnOperation, OwnPermit, Permit, PlatformOperation, PlatformPermit, Proof, Role, TenantOperation};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person in a session.
    User {
        /// Who.
        id: UserId,
        /// Their login name, for the audit log.
        email: Email,
        /// In which session.
        session: SessionId,
    },
    /// A machine with an API key: in one tenant, and never what only a person may do.
    ApiKey {
        /// Which key.
        id: ApiKeyId,
        /// Its name, for the audit log.
        name: DisplayName,
        /// The one tenant in which it is good.
        tenant: TenantId,
    },
    /// A host agent, which proved that it holds its key: for itself, in one tenant, and with no role.
    Agent {
        /// Which agent.
        id: AgentId,
        /// Its name, for the audit log.
        name: DisplayName,
        /// Its tenant.
        tenant: TenantId,
    },
    /// A relay, likewise.
    Relay {
        /// Which relay.
        id: RelayId,
        /// Its name, for the audit log.
        name: DisplayName,
        /// Its tenant.
        tenant: TenantId,
    },
    /// A part of the server that acts on its own: `scheduler`, `runner`, `bootstrap`.
    System {
        /// Which part.
        part: &'static str,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { id, .. } => write!(f, "{id}"),
            Self::ApiKey { id, .. } => write!(f, "{id}"),
            Self::Agent { id, .. } => write!(f, "{id}"),
            Self::Relay { id, .. } => write!(f, "{id}"),
            Self::System { part } => write!(f, "system:{part}"),
        }
    }
}

/// Whether the actor proved who they are a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Not lately: what needs a fresh proof is refused.
    Stale,
    /// Within the installation's limit.
    Fresh,
    /// The actor is no person and has nothing to prove anew: a part of the server, an API key.
    Exempt,
}

impl Freshness {
    /// What is known of an actor without a look at their session.
    fn of(actor: &Actor) -> Self {
        match actor {
            Actor::User { .. } => Self::Stale,
            Actor::ApiKey { .. } | Actor::Agent { .. } | Actor::Relay { .. } | Actor::System { .. } => Self::Exempt,
        }
    }

    pub(crate) fn gives(self, proof: Proof) -> Result<(), Denied> {
        match (proof, self) {
            (Proof::Fresh, Self::Stale) => Err(Denied::Stale),
            (Proof::Session, _) | (Proof::Fresh, Self::Fresh | Self::Exempt) => Ok(()),
        }
    }
}

/// The roles that the actor holds at this moment, as the store has them.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Whether the actor is `system-admin` on the platform.
    pub platform_admin: bool,
    /// The role in each tenant.
    pub tenants: Vec<(TenantId, Role)>,
}

/// The context of one operation, made in one place per kind of caller: the authentication extractor (`api`), the job runner and the
/// first start (`server`).
#[derive(Clone)]
pub struct OpCtx {
    actor: Actor,
    grants: Arc<Grants>,
    freshness: Freshness,
    request: RequestId,
    ip: Option<IpAddr>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl fmt::Debug for OpCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpCtx").field("actor", &self.actor).field("request", &self.request).finish_non_exhaustive()
    }
}

impl OpCtx {
    /// The context of a request of a signed-in user or of an API key. Called by the authentication extractor only.
    pub fn user(
        actor: Actor,
        grants: Grants,
        request: RequestId,
        ip: Option<IpAddr>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let freshness = Freshness::of(&actor);
        Self { actor, grants: Arc::new(grants), freshness, request, ip, clock, rng }
    }

    /// The same after a look at when the actor proved who they are. Called by the authentication extractor only.
    #[must_use]
    pub fn with_freshness(self, freshness: Freshness) -> Self {
        Self { freshness, ..self }
    }

    /// The context of the server's own work in one tenant. Called by the job runner and the first start only.
    pub fn system(part: &'static str, tenant: TenantId, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let request = RequestId::generate(&*clock, &*rng);
        let grants = Grants { platform_admin: false, tenants: vec![(tenant, Role::TenantAdmin)] };
        Self {
            actor: Actor::System { part },
            grants: Arc::new(grants),
            freshness: Freshness::Exempt,
            request,
            ip: None,
            clock,
            rng,
        }
    }

    /// The context of the server's own work on the platform (creating the first tenant and administrator).
    pub fn system_platform(part: &'static str, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let request = RequestId::generate(&*clock, &*rng);
        let grants = Grants { platform_admin: true, tenants: Vec::new() };
        Self {
            actor: Actor::System { part },
            grants: Arc::new(grants),
            freshness: Freshness::Exempt,
            request,
            ip: None,
            clock,
            rng,
        }
    }

    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The roles that the actor holds.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Whether the actor proved who they are a moment ago.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The request.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// Where the request came from.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The random source.
    pub fn rng(&self) -> &dyn Rng {
        &*self.rng
    }

    /// The actor's role in a tenant.
    pub fn role_in(&self, tenant: TenantId) -> Option<Role> {
        match &self.actor {
            Actor::ApiKey { tenant: own, .. } if *own != tenant => return None,
            // Whoever made the context: they hold none.
            Actor::Agent { .. } | Actor::Relay { .. } => return None,
            _ => {}
        }
        self.grants.tenants.iter().find(|(held, _)| *held == tenant).map(|(_, role)| *role)
    }

    fn is_machine(&self) -> bool {
        matches!(self.actor, Actor::ApiKey { .. })
    }

    /// A permit for one operation in one tenant: only from a role held **in that tenant**.
    pub fn authorize<O: TenantOperation>(&self, tenant: TenantId) -> Result<Permit<O>, Denied> {
        match self.role_in(tenant) {
            None => Err(Denied::NoSuchTenant),
            Some(_) if self.is_machine() && O::PERMISSION.is_for_people() => Err(Denied::NotByKey(O::PERMISSION)),
            Some(role) if role.holds(O::PERMISSION) => {
                self.freshness.gives(O::PROOF)?;
                Ok(Permit::new(tenant, self.clone()))
            }
            Some(_) => Err(Denied::Missing(O::PERMISSION)),
        }
    }

    /// A permit for one operation on the platform.
    pub fn authorize_platform<O: PlatformOperation>(&self) -> Result<PlatformPermit<O>, Denied> {
        if self.is_machine() {
            Err(Denied::NotByKey(O::PERMISSION))
        } else if matches!(self.actor, Actor::Agent { .. } | Actor::Relay { .. }) {
            Err(Denied::Missing(O::PERMISSION))
        } else if self.grants.platform_admin {
            self.freshness.gives(O::PROOF)?;
            Ok(PlatformPermit::new(self.clone()))
        } else {
            Err(Denied::Missing(O::PERMISSION))
        }
    }

    /// A permit for one operation on the actor's own account: people only.
    pub fn authorize_own<O: OwnOperation>(&self) -> Result<OwnPermit<O>, Denied> {
        let Actor::User { id, session, .. } = &self.actor else { return Err(Denied::NoPerson) };
        self.freshness.gives(O::PROOF)?;
        Ok(OwnPermit::new(*id, *session, self.clone()))
    }
}
