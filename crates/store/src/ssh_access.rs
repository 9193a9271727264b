//! SSH hosts as destinations: what administrators say of them, their certificates, and those of who reaches them.
//!
//! Invariants:
//! - a certificate says whose it is, where it is good and as what by names of this installation only: nothing in it is the asker's word but the key;
//! - a name is of one destination: a host of another tenant, which trusts the same authority, lets nobody in by it;
//! - who signs in gets a certificate for as long as a destination token would be good, and its record is written before it is given out.

use std::collections::{BTreeMap, BTreeSet};

use access::ssh::{self, SshBounds, SshOffer};
use access::{MemberPermit, member_ops, ops};
use crypto::ssh::{Certificate, CertificateKind, PublicKey};
use domain::{
    DestinationId, DestinationKind, DestinationRole, Error, HostPort, Labels, Network, RecordingMode, RelayId, Result,
    SessionId, SshCertificateId, SshExtension, TenantId, Timestamp, UserId,
};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::condition::{self, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::destination::{self, DestinationRow};
use crate::reach::{Chosen, choose_of};
use crate::relay::check_relay;
use crate::unit::{Read, Write};
use crate::{ByLabels, Store, destination_node, host_set, recording};

/// How long the certificate of a user is good at most, in milliseconds: it is looked at when somebody signs in, and never again.
const USER_MS: i64 = 5 * 60_000;
/// How long the certificate of a host is good, in milliseconds.
const HOST_MS: i64 = 90 * 24 * 3_600_000;
/// How much earlier a certificate begins, in milliseconds: clocks differ.
pub(crate) const EARLIER_MS: i64 = 60_000;

/// What an administrator says of a host.
#[derive(Debug, Clone)]
pub struct NewSshHost {
    /// Where it is reached.
    pub address: HostPort,
    /// Its key.
    pub host_key: PublicKey,
    /// Its accounts that can be reached.
    pub roles: Vec<DestinationRole>,
    /// What people sort it by; none: as before.
    pub labels: Option<Labels>,
    /// From where certificates are good; none: from everywhere.
    pub source_networks: Vec<Network>,
    /// What they allow at most.
    pub extensions: BTreeSet<SshExtension>,
    /// By which way it is reached.
    pub way: Way,
}

/// By which way a host is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// As before; a new one by its users themselves.
    #[default]
    Same,
    /// By its users themselves.
    Direct,
    /// Through a relay.
    Relay(RelayId),
}

/// A host.
#[derive(Debug, Clone)]
pub struct SshHostRow {
    /// The destination.
    pub destination: DestinationRow,
    /// Where it is reached.
    pub address: HostPort,
    /// Its key.
    pub host_key: PublicKey,
    /// From where certificates are good; none: from everywhere.
    pub source_networks: Vec<Network>,
    /// What they allow at most.
    pub extensions: BTreeSet<SshExtension>,
}

impl SshHostRow {
    /// What its certificates call it, and `known_hosts`.
    pub fn alias(&self) -> String {
        host_name(self.destination.id)
    }

    /// What is said of it for everybody.
    pub(crate) fn bounds(&self) -> SshBounds {
        SshBounds { networks: self.source_networks.clone(), extensions: self.extensions.clone() }
    }

    /// What its users' `known_hosts` call what answers them: the relay in front of it has a name that no host's certificate has.
    pub fn answers_as(&self) -> String {
        if self.destination.relay.is_some() { relay_name(self.destination.id) } else { self.alias() }
    }
}

/// The name of a host in its certificates: one of this installation, which no other host's certificate has.
fn host_name(id: DestinationId) -> String {
    id.to_string()
}

/// The name of a relay in front of a host, in its certificates.
pub(crate) fn relay_name(id: DestinationId) -> String {
    format!("{id}.relay")
}

/// The name that lets into an account of a host: every holder of the role, or one user of them. A role has no `/` in it.
pub(crate) fn principals(id: DestinationId, role: &DestinationRole, user: UserId) -> [String; 2] {
    [format!("cairn/{id}/{role}"), format!("cairn/{id}/{role}/{user}")]
}

/// The name that a relay lets in by: of one session, so that a certificate and a token can only be used together where both are one session's.
pub(crate) fn relay_principal(id: DestinationId, role: &DestinationRole, user: UserId, session: SessionId) -> String {
    format!("cairn-relay/{id}/{role}/{user}/{session}")
}

/// A certificate that was made.
#[derive(Debug, Clone)]
pub struct SshCertificateRow {
    /// Its id.
    pub id: SshCertificateId,
    /// One line, as in a `-cert.pub` file.
    pub certificate: String,
    /// The host.
    pub host: SshHostRow,
    /// As what: the account.
    pub role: DestinationRole,
    /// The names that it is good for.
    pub principals: Vec<String>,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

const COLUMNS: &str = "address, host_key, source_networks, extensions FROM ssh_host";

pub(crate) async fn host(tx: &mut Tx, tenant: TenantId, destination: DestinationRow) -> Result<SshHostRow> {
    if destination.kind != DestinationKind::Ssh {
        return Err(Error::conflict(format!("`{}` is a destination of kind `{}`", destination.name, destination.kind)));
    }
    let sql = format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND destination_id = $2");
    let rows = tx.rows_built(sql, args![tenant, destination.id]).await?;
    let row: &Row = rows.first().ok_or_else(|| {
        Error::conflict(format!(
            "nobody said where the host `{}` is and what its key is: an administrator does (`cairn destinations create {}`)",
            destination.name, destination.name
        ))
    })?;
    let damaged = |what: &str| Error::internal(format!("an SSH host has a damaged {what}"));
    Ok(SshHostRow {
        address: row.parse(0)?,
        host_key: row.text(1)?.parse().map_err(|_| damaged("key"))?,
        source_networks: row.json(2)?,
        extensions: row.json(3)?,
        destination,
    })
}

/// What is said of a host for everybody. Of one that nobody said anything of: that it allows nothing, and nobody comes there.
pub(crate) async fn bounds(tx: &mut Tx, tenant: TenantId, id: DestinationId) -> Result<SshBounds> {
    Ok(bounds_of(tx, tenant, [id].into_iter()).await?.remove(&id).unwrap_or_default())
}

/// The same of many hosts; nobody said anything of those that are absent.
pub(crate) async fn bounds_of(
    tx: &mut Tx,
    tenant: TenantId,
    ids: impl Iterator<Item = DestinationId>,
) -> Result<BTreeMap<DestinationId, SshBounds>> {
    let sql = "SELECT h.destination_id, h.source_networks, h.extensions FROM LOOKUP(ssh_host h destination_id)";
    let ids = Batch::new().uuid("destination_id", ids.map(|id| id.as_uuid().as_u128()));
    let mut found = BTreeMap::new();
    tx.bulk_rows(&ids, sql, args![tenant], |row| {
        let bounds = SshBounds { networks: row.json(1)?, extensions: row.json(2)? };
        found.insert(DestinationId::from_uuid(row.uuid(0)?), bounds);
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The names of these in a certificate.
pub(crate) fn names(extensions: &BTreeSet<SshExtension>) -> Vec<&'static str> {
    extensions.iter().map(|one| one.as_str()).collect()
}

/// What a certificate forces upon its holder (PROTOCOL.certkeys).
pub(crate) fn forced(networks: &[Network], command: Option<&str>) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    if let Some(command) = command {
        options.push(("force-command", command.to_owned()));
    }
    if !networks.is_empty() {
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        options.push(("source-address", networks.join(",")));
    }
    options
}

/// Seconds since 1970.
pub(crate) fn seconds(at: Timestamp) -> Result<u64> {
    u64::try_from(at.as_seconds()).map_err(Error::internal)
}

impl Read<ops::SshHostShow> {
    /// A host by the name or id of its destination.
    /// With it comes what goes by its labels now.
    pub async fn ssh_host_show(&mut self, named: &str) -> Result<(SshHostRow, ByLabels)> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let destination = destination::find(&mut self.tx, tenant, named).await?;
        let row = host(&mut self.tx, tenant, destination).await?;
        let gives = host_set::by_labels(&mut self.tx, tenant, &row.destination, now).await?;
        Ok((row, gives))
    }
}

/// Says what a host is, in a transaction that may hold more. `before`: its destination, where there is one.
pub(crate) async fn put(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    named: &str,
    before: Option<&DestinationRow>,
    new: &NewSshHost,
) -> Result<SshHostRow> {
    if let Way::Relay(relay) = new.way {
        check_relay(tx, tenant, Some(relay)).await?;
    }
    let id = destination::put_host(tx, store, tenant, named, before, new).await?;
    tx.execute(
        "INSERT INTO ssh_host (tenant_id, destination_id, address, host_key, source_networks, extensions, changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, destination_id) DO UPDATE SET address = excluded.address, \
         host_key = excluded.host_key, source_networks = excluded.source_networks, extensions = excluded.extensions, \
         changed_at = excluded.changed_at",
        args![
            tenant,
            id,
            new.address.to_string(),
            new.host_key.to_string(),
            json!(new.source_networks).to_string(),
            json!(new.extensions).to_string(),
            store.clock().now()
        ],
    )
    .await?;
    let destination = destination::show(tx, tenant, id).await?;
    let row = host(tx, tenant, destination).await?;
    destination_node::put(tx, tenant, &row.destination, store.clock().now()).await?;
    Ok(row)
}

impl Write<ops::SshHostPut> {
    /// Says what a host is, and makes its destination where there is none.
    /// With it comes what goes by its labels now.
    pub async fn ssh_host_put(mut self, named: &str, new: &NewSshHost) -> Result<(SshHostRow, ByLabels)> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        // Who takes a name waits for who takes it at the same time.
        condition::alone(&mut self.tx, tenant, &format!("destination {named}")).await?;
        let before = match destination::find_alone(&mut self.tx, tenant, named).await {
            Ok(row) => Some(row),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let version = match &before {
            None => None,
            Some(row) => match host(&mut self.tx, tenant, row.clone()).await {
                Ok(host) => Some(host.version()),
                // It is a cluster, or nobody said what host it is.
                Err(Error::Conflict { .. }) => Some(row.version()),
                Err(error) => return Err(error),
            },
        };
        let name = before.as_ref().map_or(named, |row| row.name.as_str());
        self.check(&format!("destination `{}`", name.escape_debug()), version.as_ref())?;
        let now = store.clock().now();
        let gave = match &before {
            None => None,
            Some(row) => Some(host_set::by_labels(&mut self.tx, tenant, row, now).await?),
        };
        let row = put(&mut self.tx, &store, tenant, named, before.as_ref(), new).await?;
        let id = row.destination.id;
        let gives = host_set::by_labels(&mut self.tx, tenant, &row.destination, now).await?;
        let detail = json!({
            "name": row.destination.name, "new": before.is_none(), "address": row.address.to_string(), "fingerprint": row.host_key.fingerprint(),
            "roles": row.destination.roles, "labels": row.destination.labels, "source_networks": row.source_networks,
            "extensions": row.extensions, "relay": row.destination.relay, "by_labels": gives.told(),
            "before": gave.map(|gave| json!({"by_labels": gave.told()})),
        });
        self.commit(Change::to(Category::Access, "destination", id).detail(detail)).await?;
        Ok((row, gives))
    }
}

impl Write<ops::SshHostCertificateCreate> {
    /// Signs the key that is registered of a host, and no other.
    /// `authority`: see [`Store::ssh_authority`].
    pub async fn ssh_host_certificate_create(
        mut self,
        named: &str,
        authority: &SshAuthority,
    ) -> Result<(SshHostRow, String, Timestamp)> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let destination = destination::find(&mut self.tx, tenant, named).await?;
        let row = host(&mut self.tx, tenant, destination).await?;
        let now = store.clock().now();
        let (id, expires_at) = (SshCertificateId::generate(&**store.clock(), &**store.rng()), now.plus_millis(HOST_MS));
        let certificate = Certificate {
            kind: CertificateKind::Host,
            key: &row.host_key,
            serial: serial(id),
            key_id: &format!("destination={} certificate={id}", row.destination.name),
            principals: &[row.alias()],
            valid_after_s: seconds(now.plus_millis(-EARLIER_MS))?,
            valid_before_s: seconds(expires_at)?,
            critical_options: &[],
            extensions: &[],
        };
        let certificate = certificate.sign(&authority.0, &**store.rng()).map_err(Error::internal)?;
        let detail = json!({
            "name": row.destination.name, "certificate": id, "serial": serial(id).to_string(),
            "fingerprint": row.host_key.fingerprint(), "expires_at": expires_at,
        });
        self.commit(Change::to(Category::Access, "destination", row.destination.id).detail(detail)).await?;
        Ok((row, certificate, expires_at))
    }
}

/// What names a certificate to OpenSSH: the last bits of its id, which are random.
pub(crate) fn serial(id: SshCertificateId) -> u64 {
    u64::try_from(id.as_uuid().as_u128() & u128::from(u64::MAX)).unwrap_or_default()
}

/// The key that signs certificates now, taken before a change begins: SQLite's writer is one, and a tenant's transaction sees no other's rows.
#[derive(Debug)]
pub struct SshAuthority(pub(crate) crypto::ed25519::SigningKey);

/// The record of a certificate for a host itself: nothing records what its holder does there, which is an alarm where recording is wanted.
fn unrecorded(mut detail: serde_json::Value, mode: RecordingMode) -> serde_json::Value {
    if let Some(members) = detail.as_object_mut() {
        members.insert("recorded".to_owned(), false.into());
        if mode != RecordingMode::Off {
            members.insert("alarm".to_owned(), true.into());
        }
    }
    detail
}

impl Store {
    /// What certificates are signed with now.
    pub async fn ssh_authority(&self) -> Result<SshAuthority> {
        self.ssh_ca_signing().await.map(SshAuthority)
    }

    /// Signs the actor's key for a host, in a role that a grant gives them now. A destination that they do not reach does not exist for them.
    /// `session_ends`: a certificate never outlives its session.
    pub async fn ssh_certificate_create(
        &self,
        permit: MemberPermit<member_ops::SshCertificateCreate>,
        named: &str,
        role: Option<&DestinationRole>,
        key: &PublicKey,
        session_ends: Timestamp,
    ) -> Result<SshCertificateRow> {
        let authority = self.ssh_ca_signing().await?;
        let (tenant, user, now) = (permit.tenant(), permit.user(), self.clock().now());
        let mut unit = self.member_write(permit).await?;
        let Chosen { destination, known, role, held } =
            choose_of(&mut unit.tx, (tenant, user), named, role, now).await?;
        let host = host(&mut unit.tx, tenant, destination).await?;
        let policy = recording::policy(&mut unit.tx, tenant).await?;
        if policy.ssh == RecordingMode::Required && host.destination.relay.is_none() {
            return Err(Error::conflict(format!(
                "sessions on hosts have to be recorded here, and nothing records one that goes straight to `{}`: an administrator gives it a relay \
                 (`cairn destinations create … --replace --relay`) or changes the policy",
                host.destination.name
            )));
        }
        // Through a relay it opens the relay only, which knows from where its holder comes: then it is decided what grants give there.
        let through = host.destination.relay;
        let offer = if through.is_some() {
            SshOffer {
                networks: Vec::new(),
                extensions: host.extensions.clone(),
                command: None,
                until: held.until,
                grants: held.grants.clone(),
            }
        } else {
            let made = ssh::certificate(&held, &host.bounds(), unit.permit.ctx().ip());
            made.ok_or_else(|| Error::Forbidden {
                message: format!(
                    "your grants hold from other networks than `{}` lets people come from: an administrator changes one of both",
                    host.destination.name
                ),
            })?
        };
        let ends = [Some(now.plus_millis(USER_MS)), offer.until, Some(session_ends)].into_iter().flatten().min();
        let expires_at = Timestamp::from_millis(ends.unwrap_or(now).as_seconds().saturating_mul(1_000));
        if expires_at <= now {
            return Err(Error::conflict("this access ends within a second: ask for more"));
        }
        let id = SshCertificateId::generate(&**self.clock(), &**self.rng());
        let (session, name) = (unit.permit.session(), &host.destination.name);
        let destination = host.destination.id;
        let principals = match through {
            Some(_) => vec![relay_principal(destination, &role, user, session)],
            None => principals(destination, &role, user).to_vec(),
        };
        let (forced, extensions) = (forced(&offer.networks, offer.command.as_deref()), names(&offer.extensions));
        let certificate = Certificate {
            kind: CertificateKind::User,
            key,
            serial: serial(id),
            key_id: &format!(
                "{} user={user} session={session} destination={name} role={role} certificate={id}",
                known.email
            ),
            principals: &principals,
            valid_after_s: seconds(now.plus_millis(-EARLIER_MS))?,
            valid_before_s: seconds(expires_at)?,
            critical_options: &forced,
            extensions: &extensions,
        };
        let certificate = certificate.sign(&authority, &**self.rng()).map_err(Error::internal)?;
        let detail = json!({
            "name": name, "role": role, "certificate": id, "serial": serial(id).to_string(), "session": session,
            "fingerprint": key.fingerprint(), "source_networks": offer.networks, "extensions": extensions, "force_command": offer.command,
            "expires_at": expires_at, "grants": offer.grants, "relay": through,
        });
        let detail = if through.is_some() { detail } else { unrecorded(detail, policy.ssh) };
        unit.commit(Change::to(Category::Access, "destination", host.destination.id).detail(detail)).await?;
        Ok(SshCertificateRow { id, certificate, host, role, principals, expires_at })
    }
}
