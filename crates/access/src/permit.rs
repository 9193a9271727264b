//! Authority as a value.

use std::marker::PhantomData;

use domain::{Error, FleetKind, SessionId, TenantId, UserId};

use crate::{OpCtx, Permission};

/// The right to do one operation once in one tenant. Cannot be made outside this crate, copied, or used twice.
///
/// ```compile_fail
/// // Forging one is a compile error: the fields are private and there is no public constructor.
/// let permit: access::Permit<access::ops::NodeList> = access::Permit { tenant, ctx, operation: std::marker::PhantomData };
/// ```
///
/// ```compile_fail
/// // Using one twice is a compile error: it is neither `Copy` nor `Clone`.
/// fn twice(permit: access::Permit<access::ops::NodeList>) {
///     drop(permit);
///     drop(permit);
/// }
/// ```
#[derive(Debug)]
#[must_use = "a permit is there to be used"]
pub struct Permit<O> {
    tenant: TenantId,
    ctx: OpCtx,
    operation: PhantomData<fn() -> O>,
}

impl<O> Permit<O> {
    pub(crate) fn new(tenant: TenantId, ctx: OpCtx) -> Self {
        Self { tenant, ctx, operation: PhantomData }
    }

    /// The tenant that it is good for.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who holds it.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }
}

/// The right to do one operation once on the platform.
#[derive(Debug)]
#[must_use = "a permit is there to be used"]
pub struct PlatformPermit<O> {
    ctx: OpCtx,
    operation: PhantomData<fn() -> O>,
}

impl<O> PlatformPermit<O> {
    pub(crate) fn new(ctx: OpCtx) -> Self {
        Self { ctx, operation: PhantomData }
    }

    /// Who holds it.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }
}

/// The right to do one operation once to one's own account.
#[derive(Debug)]
#[must_use = "a permit is there to be used"]
pub struct OwnPermit<O> {
    user: UserId,
    session: SessionId,
    ctx: OpCtx,
    operation: PhantomData<fn() -> O>,
}

impl<O> OwnPermit<O> {
    pub(crate) fn new(user: UserId, session: SessionId, ctx: OpCtx) -> Self {
        Self { user, session, ctx, operation: PhantomData }
    }

    /// Whose account.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The session that they act in.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Who holds it.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The actor is no member: they may not know that the tenant exists.
    #[error("there is no such tenant")]
    NoSuchTenant,
    /// The actor's role lacks this.
    #[error("your role lacks the permission `{0}`")]
    Missing(Permission),
    /// The actor may, but proved who they are too long ago.
    #[error("{}", Error::StepUpRequired)]
    Stale,
    /// It is for people with an account and a session.
    #[error("this needs a person who is signed in")]
    NoPerson,
    /// It is for an enrolled agent or relay.
    #[error("this is for an enrolled {0}, with its own credential")]
    NotByThem(FleetKind),
    /// The actor is an API key, and this is for people.
    #[error("an API key cannot do this, whatever its role: sign in as somebody with the permission `{0}`")]
    NotByKey(Permission),
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoSuchTenant => Self::NotFound { what: "tenant" },
            Denied::Stale => Self::StepUpRequired,
            Denied::Missing(_) | Denied::NoPerson | Denied::NotByKey(_) | Denied::NotByThem(_) => {
                Self::Forbidden { message: denied.to_string() }
            }
        }
    }
}
