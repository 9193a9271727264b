//! Who may do what: roles, operations, and the decision as a value.
//!
//! An [`OpCtx`] says who is asking. [`OpCtx::authorize`] turns it into a [`Permit`] for one operation in one tenant, and everything that
//! touches tenant data takes such a permit: by value, so it works once, and with the tenant inside, so nobody passes a tenant beside it.
//!
//! Reaching a destination is decided by grants alone ([`grant`]): no role gives it.
//!
//! **Not for** authentication (who it *is*: `api` and `server` establish that) or storage.
//!
//! Invariants:
//! - only this crate makes a permit, and only from a role that holds the operation's permission in that tenant;
//! - an operation marked `fresh` gives a person no permit without a fresh proof, however it is asked for;
//! - a platform role gives no permit in any tenant;
//! - an agent or a relay gets permits for itself only, and no role;
//! - what every member may do for themselves, a person does, in a tenant in which they hold a role;
//! - deny by default: an operation that no role was given is denied to all.
#![warn(missing_docs)]

mod account;
mod context;
mod fleet;
pub mod grant;
mod matrix;
mod member;
mod operation;
mod permit;
pub mod ssh;

pub use account::{OwnOperation, OwnOperationInfo, own, own_operations};
pub use context::{Actor, Freshness, Grants, OpCtx};
pub use fleet::{FleetOperation, FleetOperationInfo, FleetPermit, fleet_operations, fleet_ops};
pub use matrix::{Permission, Role};
pub use member::{MemberOperation, MemberOperationInfo, MemberPermit, member_operations, member_ops};
pub use operation::{
    Mode, Operation, OperationInfo, PlatformOperation, Proof, ReadOperation, TenantOperation, WriteOperation,
    operations, ops,
};
pub use permit::{Denied, OwnPermit, Permit, PlatformPermit};
