//! Who may do what: roles, operations, and the decision as a value.
//!
//! An [`OpCtx`] says who is asking. [`OpCtx::authorize`] turns it into a [`Permit`] for one operation in one tenant, and everything that
//! touches tenant data takes such a permit: by value, so it works once, and with the tenant inside, so nobody passes a tenant beside it.
//!
//! **Not for** authentication (who it *is*: `api` and `server` establish that), storage, or grants to destinations.
//!
//! Invariants:
//! - only this crate makes a permit, and only from a role that holds the operation's permission in that tenant;
//! - a platform role gives no permit in any tenant;
//! - deny by default: an operation that no role was given is denied to all.
#![warn(missing_docs)]

mod context;
mod matrix;
mod operation;
mod permit;

pub use context::{Actor, Grants, OpCtx};
pub use matrix::{Permission, Role};
pub use operation::{
    Mode, Operation, OperationInfo, PlatformOperation, ReadOperation, TenantOperation, WriteOperation, operations, ops,
};
pub use permit::{Denied, Permit, PlatformPermit};
