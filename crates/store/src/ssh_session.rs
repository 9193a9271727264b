//! Connections to SSH hosts through relays: what a relay needs to take one user to one host once, and when it ended.
//!
//! Invariants:
//! - a relay gets a certificate for a host only with a destination token that its user showed, which is signed by this installation, rests on what stands at
//!   this moment, and was used for no connection before; its own credential gets none;
//! - the certificates are for the keys of one connection and good for two minutes, since both ends look at them when the connection begins;
//! - a connection has its record before anything of it begins.

use std::net::IpAddr;

use access::ssh::SshOffer;
use access::{FleetPermit, Grants, OpCtx, fleet_ops};
use crypto::ssh::{Certificate, CertificateKind, PublicKey};
use domain::{
    DestinationId, DestinationRole, DestinationTokenId, Error, Network, RecordingMode, RelayId, RequestId, Result,
    SessionId, SshCertificateId, SshSessionId, TenantId, Timestamp, UserId,
};
use serde_json::{Value, json};

use crate::access_record::who;
use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Tx, args};
use crate::reach::ssh_offer;
use crate::ssh_access::{
    EARLIER_MS, SshAuthority, SshHostRow, forced, host, names, principals, relay_name, relay_principal, seconds, serial,
};
use crate::ssh_session_lost::LOST;
use crate::unit::enter;
use crate::{Standing, Store, destination, recording};

/// How long the certificates of a connection are good at most, in milliseconds.
const CERTIFICATE_MS: i64 = 2 * 60_000;
/// How long it is known that a token was used, in milliseconds: far longer than one is good.
const KEPT_MS: i64 = 24 * 3_600_000;
/// When a connection of which no end was told is forgotten, in milliseconds: its relay was lost.
const LOST_MS: i64 = 90 * KEPT_MS;

/// A connection that is to begin.
#[derive(Debug, Clone)]
pub struct NewSshSession {
    /// What the user's token says, once it is verified.
    pub standing: Standing,
    /// The token's id.
    pub token: DestinationTokenId,
    /// From where the user comes, by the relay's word.
    pub from: Option<IpAddr>,
    /// The key that the user is to see.
    pub host_key: PublicKey,
    /// The key that the host is to see.
    pub client_key: PublicKey,
}

/// A connection that may begin.
#[derive(Debug, Clone)]
pub struct SshSessionRow {
    /// Its id.
    pub id: SshSessionId,
    /// The host.
    pub host: SshHostRow,
    /// Until when what it rests on stands if nothing changes.
    pub until: Timestamp,
    /// What grants give to who comes from there.
    pub offer: SshOffer,
    /// What is to be recorded there: how, and whether what is typed is.
    pub recording: (RecordingMode, bool),
    /// The name that the user's certificate has to be good for.
    pub principal: String,
    /// Special addresses that the tenant lets its relays reach.
    pub special_networks: Vec<Network>,
    /// The certificate of the key that the user sees.
    pub host_certificate: String,
    /// The certificate of the key that the host sees.
    pub client_certificate: String,
}

/// What became of a connection that was to begin.
#[derive(Debug)]
pub enum SshSessionBegun {
    /// It may begin.
    New(Box<SshSessionRow>),
    /// Its token was used before: it may not, which is written down as an alarm.
    Again,
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub struct SshSessionEnding {
    /// When, by the relay's clock.
    pub at: Timestamp,
    /// What else the relay says.
    pub detail: Value,
}

/// A connection that began.
struct Begun {
    destination: DestinationId,
    user: UserId,
    session: SessionId,
    role: DestinationRole,
    token: DestinationTokenId,
    began_at: Timestamp,
    /// Whether its end was told, or it counts as lost.
    ended: Option<Told>,
}

/// What is known of an end.
#[derive(PartialEq)]
enum Told {
    /// Its relay told.
    End,
    /// Nobody did, and nobody was expected to.
    Lost,
}

async fn find(tx: &mut Tx, tenant: TenantId, relay: RelayId, id: SshSessionId) -> Result<Begun> {
    let row = tx
        .row(
            "SELECT destination_id, user_id, session_id, role, token_id, began_at, ended_at FROM ssh_session \
             WHERE tenant_id = $1 AND id = $2 AND relay_id = $3",
            args![tenant, id, relay.as_uuid()],
        )
        .await?
        .ok_or(Error::NotFound { what: "connection" })?;
    Ok(Begun {
        destination: DestinationId::from_uuid(row.uuid(0)?),
        user: UserId::from_uuid(row.uuid(1)?),
        session: SessionId::from_uuid(row.uuid(2)?),
        role: row.parse(3)?,
        token: DestinationTokenId::from_uuid(row.uuid(4)?),
        began_at: row.time(5)?,
        ended: row.opt_i64(6)?.map(|at| if at == LOST { Told::Lost } else { Told::End }),
    })
}

impl Store {
    /// Whose record it is: the user's where the session is theirs, and the relay's word about them otherwise.
    async fn ssh_session_ctx(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        (user, session): (UserId, SessionId),
        from: Option<IpAddr>,
        relay: &OpCtx,
    ) -> Result<OpCtx> {
        let Some(actor) = who(tx, tenant, user, session).await? else { return Ok(relay.clone()) };
        let request = RequestId::generate(&**self.clock(), &**self.rng());
        Ok(OpCtx::user(actor, Grants::default(), request, from, self.clock().clone(), self.rng().clone()))
    }

    /// Begins a connection of a user to a host of the relay that asks. `authority`: see [`Store::ssh_authority`].
    pub async fn ssh_session_begin(
        &self,
        permit: FleetPermit<fleet_ops::SshSessionBegin>,
        new: &NewSshSession,
        authority: &SshAuthority,
    ) -> Result<SshSessionBegun> {
        let (tenant, relay, now) = (permit.tenant(), RelayId::from_uuid(permit.id().as_uuid()), self.clock().now());
        let unknown = Error::NotFound { what: "destination" };
        let of = &new.standing;
        if of.tenant != tenant {
            return Err(unknown);
        }
        self.ssh_from(of).await?;
        let until =
            self.standing_until(std::slice::from_ref(of)).await?.pop().flatten().ok_or_else(|| unknown.clone())?;
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let destination = destination::show(&mut tx, tenant, of.destination).await?;
        if destination.relay != Some(relay) {
            return Err(unknown);
        }
        let host = host(&mut tx, tenant, destination).await?;
        let offer =
            ssh_offer(&mut tx, of, &host.destination, &host.bounds(), now).await?.ok_or_else(|| unknown.clone())?;
        let until = offer.until.map_or(until, |ends| ends.min(until));
        let id = SshSessionId::generate(&**self.clock(), &**self.rng());
        tx.execute(
            "DELETE FROM ssh_session WHERE tenant_id = $1 AND (began_at < $2 AND ended_at IS NOT NULL OR began_at < $3)",
            args![tenant, now.plus_millis(-KEPT_MS), now.plus_millis(-LOST_MS)],
        )
        .await?;
        let is_new = tx
            .execute(
                "INSERT INTO ssh_session (tenant_id, id, token_id, destination_id, relay_id, user_id, session_id, role, began_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id, token_id) DO NOTHING",
                args![
                    tenant,
                    id,
                    new.token,
                    of.destination,
                    relay.as_uuid(),
                    of.user,
                    of.session,
                    of.role.as_str(),
                    now
                ],
            )
            .await?;
        if is_new == 0 {
            return self.ssh_token_reused(tx, new, &host, permit.ctx()).await;
        }
        let ends =
            Timestamp::from_millis(until.min(now.plus_millis(CERTIFICATE_MS)).as_seconds().saturating_mul(1_000));
        if ends <= now {
            return Err(Error::conflict("this access ends within a second: ask for more"));
        }
        let certificate = SshCertificateId::generate(&**self.clock(), &**self.rng());
        let (name, role) = (&host.destination.name, &of.role);
        let Some(email) = self.email_of(&mut tx, of.user).await? else { return Err(unknown) };
        let (forced, extensions) = (forced(&[], offer.command.as_deref()), names(&offer.extensions));
        let to_host = Certificate {
            kind: CertificateKind::User,
            key: &new.client_key,
            serial: serial(certificate),
            key_id: &format!(
                "{email} user={} session={} destination={name} role={role} certificate={certificate} relay={relay} connection={id}",
                of.user, of.session
            ),
            principals: &principals(of.destination, role, of.user),
            valid_after_s: seconds(now.plus_millis(-EARLIER_MS))?,
            valid_before_s: seconds(ends)?,
            critical_options: &forced,
            extensions: &extensions,
        };
        let to_user = Certificate {
            kind: CertificateKind::Host,
            key: &new.host_key,
            key_id: &format!("destination={name} relay={relay} connection={id}"),
            principals: &[relay_name(of.destination)],
            critical_options: &[],
            extensions: &[],
            ..to_host.clone()
        };
        let client_certificate = to_host.sign(&authority.0, &**self.rng()).map_err(Error::internal)?;
        let host_certificate = to_user.sign(&authority.0, &**self.rng()).map_err(Error::internal)?;
        let row = tx.row("SELECT networks FROM target_policy WHERE tenant_id = $1", args![tenant]).await?;
        let special_networks = row.map_or_else(|| Ok(Vec::new()), |row| row.json(0))?;
        let policy = recording::policy(&mut tx, tenant).await?;
        let recording = (policy.ssh, policy.input);
        let ctx = self.ssh_session_ctx(&mut tx, tenant, (of.user, of.session), new.from, permit.ctx()).await?;
        let detail = json!({
            "destination": name, "role": role, "relay": relay, "connection": id, "token": new.token, "certificate": certificate,
            "serial": serial(certificate).to_string(), "fingerprint": new.client_key.fingerprint(), "address": host.address.to_string(),
            "from": new.from, "extensions": extensions, "force_command": offer.command, "grants": offer.grants,
        });
        let change = Change::to(Category::Access, "destination", of.destination).detail(detail);
        audit::append(&mut tx, tenant, &ctx, "ssh_session_begin", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(SshSessionBegun::New(Box::new(SshSessionRow {
            id,
            principal: relay_principal(of.destination, role, of.user, of.session),
            host,
            until,
            offer,
            recording,
            special_networks,
            host_certificate,
            client_certificate,
        })))
    }

    /// Writes down that a token was shown again: an alarm. Whoever shows it has it from its user, or from whoever carried it.
    async fn ssh_token_reused(
        &self,
        mut tx: Tx,
        new: &NewSshSession,
        host: &SshHostRow,
        relay: &OpCtx,
    ) -> Result<SshSessionBegun> {
        let of = &new.standing;
        let sql = "SELECT id, relay_id, began_at FROM ssh_session WHERE tenant_id = $1 AND token_id = $2";
        let first =
            tx.row(sql, args![of.tenant, new.token]).await?.ok_or_else(|| Error::internal("a token's first use"))?;
        let detail = json!({
            "alarm": true, "reason": "the token was used for a connection before", "token": new.token, "destination": host.destination.name,
            "role": of.role, "relay": relay.actor().to_string(), "from": new.from,
            "first": {"connection": SshSessionId::from_uuid(first.uuid(0)?), "relay": RelayId::from_uuid(first.uuid(1)?), "at": first.time(2)?},
        });
        let ctx = self.ssh_session_ctx(&mut tx, of.tenant, (of.user, of.session), new.from, relay).await?;
        let change = Change::to(Category::Access, "destination", of.destination).outcome(Outcome::Deny).detail(detail);
        audit::append(&mut tx, of.tenant, &ctx, "ssh_session_begin", &change).await?;
        tx.commit().await?;
        self.say_log_grew(of.tenant);
        Ok(SshSessionBegun::Again)
    }

    async fn email_of(&self, tx: &mut Tx, user: UserId) -> Result<Option<String>> {
        let row = tx.row("SELECT email FROM app_user WHERE id = $1", args![user]).await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// Writes down that something is forwarded on a connection of the relay. It may be told after the end: a relay tells again what a server was away for.
    pub async fn ssh_session_forward(
        &self,
        permit: FleetPermit<fleet_ops::SshSessionForward>,
        id: SshSessionId,
        what: &Value,
    ) -> Result<()> {
        let (tenant, relay) = (permit.tenant(), RelayId::from_uuid(permit.id().as_uuid()));
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let begun = find(&mut tx, tenant, relay, id).await?;
        let ctx = self.ssh_session_ctx(&mut tx, tenant, (begun.user, begun.session), None, permit.ctx()).await?;
        let mut detail = json!({"role": begun.role, "relay": relay, "connection": id, "token": begun.token});
        if let (Value::Object(detail), Value::Object(more)) = (&mut detail, what) {
            detail.extend(more.clone());
        }
        let change = Change::to(Category::Access, "destination", begun.destination).detail(detail);
        audit::append(&mut tx, tenant, &ctx, "ssh_session_forward", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }

    /// Writes down that a connection of the relay ended. Told twice, it ended once. What counted as lost, and was not, is put right by another record.
    pub async fn ssh_session_end(
        &self,
        permit: FleetPermit<fleet_ops::SshSessionEnd>,
        id: SshSessionId,
        end: &SshSessionEnding,
    ) -> Result<()> {
        let (tenant, relay, now) = (permit.tenant(), RelayId::from_uuid(permit.id().as_uuid()), self.clock().now());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let begun = find(&mut tx, tenant, relay, id).await?;
        if begun.ended == Some(Told::End) {
            return Ok(());
        }
        tx.execute("UPDATE ssh_session SET ended_at = $3 WHERE tenant_id = $1 AND id = $2", args![tenant, id, now])
            .await?;
        let ctx = self.ssh_session_ctx(&mut tx, tenant, (begun.user, begun.session), None, permit.ctx()).await?;
        let mut detail = json!({
            "role": begun.role, "relay": relay, "connection": id, "token": begun.token, "began_at": begun.began_at, "ended_at": end.at,
        });
        if let (Value::Object(detail), Value::Object(more)) = (&mut detail, &end.detail) {
            detail.extend(more.clone());
            if begun.ended == Some(Told::Lost) {
                detail.insert("corrects".to_owned(), json!("lost"));
            }
        }
        let change = Change::to(Category::Access, "destination", begun.destination).detail(detail);
        audit::append(&mut tx, tenant, &ctx, "ssh_session_end", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(())
    }
}
