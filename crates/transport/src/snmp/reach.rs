//! What a plugin may ask of SNMP devices.

use std::net::SocketAddr;

use async_trait::async_trait;

use super::credentials::SnmpSecurity;
use super::value::{Oid, VarBind};
use crate::{CallError, CallTag};

/// What a walk found, also when it did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// For each column that was asked for, its objects in their order.
    pub columns: Vec<Vec<VarBind>>,
    /// Why the walk ended early; nothing when every column was read to its end.
    pub failed: Option<CallError>,
}

/// Reading SNMP devices with the credential of this task.
#[async_trait]
pub trait SnmpReach: Send + Sync {
    /// How well the credential protects.
    fn security(&self) -> SnmpSecurity;

    /// The addresses of a host name or address, IPv4 first, each once.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError>;

    /// The engine id that a v3 device gave, once it has answered.
    fn engine_id(&self, device: SocketAddr) -> Option<Vec<u8>>;

    /// The values of these objects, in this order; what is not there is [`super::SnmpValue::NoSuchObject`] or the like.
    async fn get(&self, device: SocketAddr, oids: &[Oid], tag: &CallTag) -> Result<Vec<VarBind>, CallError>;

    /// That what was read of a device so far is not kept any longer, so that its memory is for others.
    fn forget(&self, device: SocketAddr);

    /// Everything below each of these objects: the columns of a table, say.
    async fn walk(&self, device: SocketAddr, columns: &[Oid], tag: &CallTag) -> Walked;
}
