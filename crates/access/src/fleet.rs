//! What agents and relays do: each for itself, in its own tenant, and nothing else.

use std::marker::PhantomData;

use domain::{FleetId, FleetKind, TenantId};

use crate::{Actor, Denied, Mode, OpCtx, Permit, ops};

/// An operation of an agent or a relay on itself, as a type.
pub trait FleetOperation: Send + Sync + 'static {
    /// `noun_verb`.
    const NAME: &'static str;
    /// Read or write.
    const MODE: Mode;
    /// Which of the two does it.
    const KIND: FleetKind;
    /// Whether the proof is used up on every server before it is done, so that nobody does it once more with a copy of the request. Without it,
    /// that is so on the server that saw it, and soon after on every other.
    const ONCE: bool;
}

/// Such an operation as a row of the golden table.
#[derive(Debug, Clone, Copy)]
pub struct FleetOperationInfo {
    /// `noun_verb`.
    pub name: &'static str,
    /// Read or write.
    pub mode: Mode,
    /// Which of the two does it.
    pub kind: FleetKind,
    /// Whether the proof is used up on every server before it is done.
    pub once: bool,
}

macro_rules! fleet_operations {
    (@once) => { false };
    (@once once) => { true };
    ($($op:ident $name:literal $kind:ident $mode:ident $($once:ident)?;)*) => {
        /// The operations of agents and relays, one type each.
        pub mod fleet_ops {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[derive(Debug)]
                pub struct $op;
            )*
        }

        $(
            impl FleetOperation for fleet_ops::$op {
                const NAME: &'static str = $name;
                const MODE: Mode = Mode::$mode;
                const KIND: FleetKind = FleetKind::$kind;
                const ONCE: bool = fleet_operations!(@once $($once)?);
            }
        )*

        /// Every operation of agents and relays.
        pub fn fleet_operations() -> &'static [FleetOperationInfo] {
            &[$(FleetOperationInfo {
                name: $name,
                mode: Mode::$mode,
                kind: FleetKind::$kind,
                once: fleet_operations!(@once $($once)?),
            },)*]
        }
    };
}

fleet_operations! {
    AgentRenew "agent_renew" Agent Write once;
    AgentReport "agent_report" Agent Write;
    RelayRenew "relay_renew" Relay Write once;
    RelayConnect "relay_connect" Relay Write once;
    DestinationRegister "destination_register" Relay Write;
    AccessCheck "access_check" Relay Read;
    AccessRecord "access_record" Relay Write;
    SshSessionBegin "ssh_session_begin" Relay Write;
    SshSessionForward "ssh_session_forward" Relay Write;
    SshSessionHold "ssh_session_hold" Relay Write;
    SshSessionEnd "ssh_session_end" Relay Write;
    RecordingBegin "recording_begin" Relay Write;
    RecordingAppend "recording_append" Relay Write;
    RecordingEnd "recording_end" Relay Write;
}

/// The right of an agent or a relay to do one operation once to itself. Whose it is and in which tenant stands inside: there is no way to name
/// another one.
#[derive(Debug)]
#[must_use = "a permit is there to be used"]
pub struct FleetPermit<O> {
    tenant: TenantId,
    id: FleetId,
    ctx: OpCtx,
    operation: PhantomData<fn() -> O>,
}

impl<O: FleetOperation> FleetPermit<O> {
    /// The tenant that it is good for.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The agent or relay.
    pub fn id(&self) -> FleetId {
        self.id
    }

    /// Who holds it.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }
}

impl FleetPermit<fleet_ops::AgentReport> {
    /// For what the agent saw of its host: the permit under which it is stored, in its own tenant.
    pub fn ingest(&self) -> Permit<ops::GraphIngest> {
        Permit::new(self.tenant, self.ctx.clone())
    }

    /// For the signed statements about it.
    pub fn collect(&self) -> Permit<ops::EvidenceCollect> {
        Permit::new(self.tenant, self.ctx.clone())
    }
}

impl FleetPermit<fleet_ops::RecordingEnd> {
    /// For closing the recording that the relay ends, with its signed statement.
    pub fn close(&self) -> Permit<ops::RecordingClose> {
        Permit::new(self.tenant, self.ctx.clone())
    }
}

impl OpCtx {
    /// A permit of an agent or a relay for one operation of its kind, on itself.
    pub fn authorize_fleet<O: FleetOperation>(&self) -> Result<FleetPermit<O>, Denied> {
        let (id, tenant) = match self.actor() {
            Actor::Agent { id, tenant, .. } => (FleetId::Agent(*id), *tenant),
            Actor::Relay { id, tenant, .. } => (FleetId::Relay(*id), *tenant),
            Actor::User { .. } | Actor::ApiKey { .. } | Actor::System { .. } => return Err(Denied::NotByThem(O::KIND)),
        };
        if id.kind() == O::KIND {
            Ok(FleetPermit { tenant, id, ctx: self.clone(), operation: PhantomData })
        } else {
            Err(Denied::NotByThem(O::KIND))
        }
    }
}
