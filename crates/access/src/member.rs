//! What every member of a tenant may do there for themselves, whatever their role: ask which destinations they reach, reach them, ask for more, say
//! what they have seen.
//!
//! Only a person: a machine with an API key reaches no destination.

use std::marker::PhantomData;

use domain::{SessionId, TenantId, UserId};

use crate::{Actor, Denied, Mode, OpCtx, Proof};

/// An operation of a member for themselves, as a type.
pub trait MemberOperation: Send + Sync + 'static {
    /// `noun_verb`.
    const NAME: &'static str;
    /// Read or write.
    const MODE: Mode;
    /// Whether a session alone is enough.
    const PROOF: Proof;
}

/// Such an operation as a row of the golden table.
#[derive(Debug, Clone, Copy)]
pub struct MemberOperationInfo {
    /// `noun_verb`.
    pub name: &'static str,
    /// Read or write.
    pub mode: Mode,
    /// Whether a session alone is enough.
    pub proof: Proof,
}

macro_rules! member_operations {
    (@proof) => { Proof::Session };
    (@proof fresh) => { Proof::Fresh };
    ($($op:ident $name:literal $mode:ident $($proof:ident)?;)*) => {
        /// The operations of members for themselves, one type each.
        pub mod member_ops {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[derive(Debug)]
                pub struct $op;
            )*
        }

        $(
            impl MemberOperation for member_ops::$op {
                const NAME: &'static str = $name;
                const MODE: Mode = Mode::$mode;
                const PROOF: Proof = member_operations!(@proof $($proof)?);
            }
        )*

        /// Every operation of members for themselves.
        pub fn member_operations() -> &'static [MemberOperationInfo] {
            &[$(MemberOperationInfo {
                name: $name,
                mode: Mode::$mode,
                proof: member_operations!(@proof $($proof)?),
            },)*]
        }
    };
}

member_operations! {
    ReachList "reach_list" Read;
    NameList "name_list" Read;
    DestinationTokenCreate "destination_token_create" Write;
    SshCertificateCreate "ssh_certificate_create" Write;
    EligibleList "eligible_list" Read;
    AccessRequestCreate "access_request_create" Write;
    AccessRequestMine "access_request_mine" Read;
    AccessRequestWithdraw "access_request_withdraw" Write;
    GlassShow "glass_show" Read;
    GlassBreak "glass_break" Write fresh;
    AccessReviewList "access_review_list" Read;
    AccessReviewShow "access_review_show" Read;
    AccessReviewItems "access_review_items" Read;
    AccessReviewDecide "access_review_decide" Write fresh;
    ChangesSee "changes_see" Write;
}

/// The right of a member to do one operation once in their tenant, for themselves. For whom stands inside: there is no way to name another one.
#[derive(Debug)]
#[must_use = "a permit is there to be used"]
pub struct MemberPermit<O> {
    tenant: TenantId,
    user: UserId,
    session: SessionId,
    ctx: OpCtx,
    operation: PhantomData<fn() -> O>,
}

impl<O: MemberOperation> MemberPermit<O> {
    /// The tenant that it is good for.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who holds it.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The session that they act in.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Their context.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }
}

impl OpCtx {
    /// A permit of a member for one operation for themselves: people only, and only in a tenant in which they hold a role.
    pub fn authorize_member<O: MemberOperation>(&self, tenant: TenantId) -> Result<MemberPermit<O>, Denied> {
        if self.role_in(tenant).is_none() {
            return Err(Denied::NoSuchTenant);
        }
        let Actor::User { id, session, .. } = self.actor() else { return Err(Denied::NoPerson) };
        self.freshness().gives(O::PROOF)?;
        Ok(MemberPermit { tenant, user: *id, session: *session, ctx: self.clone(), operation: PhantomData })
    }
}
