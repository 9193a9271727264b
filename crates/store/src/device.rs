//! Sign-ins on another device (RFC 8628): a command line asks, a person approves in a browser, the command line fetches its session once.
//!
//! Invariants:
//! - an approval is worth what the session that gave it is worth: when that has ended meanwhile, nobody gets anything;
//! - a sign-in is decided once and fetched once, also when several try at the same moment;
//! - only digests of the two codes are stored.

use std::net::IpAddr;

use access::{OwnOperation, OwnPermit, own};
use domain::{DeviceLoginId, Digest, DisplayName, Error, RequestId, Result, SessionId, Timestamp};
use serde_json::json;

use crate::Store;
use crate::audit::{Category, Change};
use crate::cli_session::{self, NewCliSession};
use crate::db::args;
use crate::session::{LiveSession, own_commit};

/// How long a sign-in waits to be approved and fetched: 10 minutes.
pub const DEVICE_LOGIN_MS: i64 = 600_000;
/// How long a device waits between two questions, at first.
pub const DEVICE_INTERVAL_MS: i64 = 5_000;
/// By how much it has to wait longer after it did not.
const SLOW_DOWN_MS: i64 = 5_000;
/// Most that wait at a time, in all and from one address.
const WAITING_MAX: i64 = 1_000;
const WAITING_PER_ADDRESS_MAX: i64 = 10;

/// Approved by a session that was made on a page for this and nothing else, and ends when the device has its own.
const APPROVED_ONCE: &str = "approved";
/// Approved by a session that goes on.
const APPROVED: &str = "approved-in-session";

/// A sign-in to be asked for.
#[derive(Debug, Clone)]
pub struct NewDeviceLogin {
    /// Digest of the device's code.
    pub device_hash: Digest,
    /// Digest of the person's code.
    pub user_hash: Digest,
    /// What asks, in its own words.
    pub client: DisplayName,
}

/// A sign-in that waits, as the person who may approve it sees it.
#[derive(Debug, Clone)]
pub struct DeviceLoginRow {
    /// Its id.
    pub id: DeviceLoginId,
    /// What asks, in its own words.
    pub client: String,
    /// From where.
    pub ip: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
}

/// What a device that asks is told.
#[derive(Debug)]
pub enum DevicePoll {
    /// Nobody decided yet.
    Pending,
    /// It asks too often.
    SlowDown,
    /// Its time is over, or there is no such sign-in.
    Expired,
    /// Somebody said no, or the approval is worth nothing any more.
    Denied,
    /// Here is the session; this once.
    Ready(Box<LiveSession>),
}

impl Store {
    /// Begins a sign-in that waits to be approved.
    pub async fn device_login_create(&self, ip: Option<IpAddr>, new: &NewDeviceLogin) -> Result<Timestamp> {
        let (now, ip) = (self.clock().now(), ip.map(|ip| ip.to_canonical().to_string()));
        let (id, expires_at) =
            (DeviceLoginId::generate(&**self.clock(), &**self.rng()), now.plus_millis(DEVICE_LOGIN_MS));
        let mut tx = self.db().write().await?;
        tx.execute("DELETE FROM device_login WHERE expires_at <= $1", args![now]).await?;
        let counts = tx
            .row(
                "SELECT COUNT(*), COUNT(CASE WHEN ip = $1 THEN 1 END) FROM device_login",
                args![ip.clone().unwrap_or_default()],
            )
            .await?
            .ok_or_else(|| Error::internal("a count returned nothing"))?;
        if counts.i64(0)? >= WAITING_MAX || counts.i64(1)? >= WAITING_PER_ADDRESS_MAX {
            return Err(Error::Unavailable {
                message: "too many sign-ins wait to be approved: try again in some minutes".to_owned(),
                detail: "device logins".to_owned(),
            });
        }
        tx.execute(
            "INSERT INTO device_login (id, device_hash, user_hash, client, ip, state, created_at, expires_at, interval_ms) \
             VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8)",
            args![id, new.device_hash, new.user_hash, new.client.as_str(), ip, now, expires_at, DEVICE_INTERVAL_MS],
        )
        .await?;
        tx.commit().await?;
        Ok(expires_at)
    }

    /// The sign-in that waits under a person's code.
    pub async fn device_show(
        &self,
        _permit: OwnPermit<own::DeviceShow>,
        user_hash: Digest,
    ) -> Result<Option<DeviceLoginRow>> {
        let mut tx = self.db().read().await?;
        let row = tx
            .row(
                "SELECT id, client, ip, created_at FROM device_login \
                 WHERE user_hash = $1 AND state = 'pending' AND expires_at > $2",
                args![user_hash, self.clock().now()],
            )
            .await?;
        row.map(|row| {
            Ok(DeviceLoginRow {
                id: DeviceLoginId::from_uuid(row.uuid(0)?),
                client: row.text(1)?,
                ip: row.opt_text(2)?,
                created_at: row.time(3)?,
            })
        })
        .transpose()
    }

    /// Approves a sign-in, as the actor's session; one that was decided already, or whose time is over, is no more. A session that was
    /// made `only_for_this` ends when the device has fetched its own.
    pub async fn device_approve(
        &self,
        permit: OwnPermit<own::DeviceApprove>,
        id: DeviceLoginId,
        only_for_this: bool,
    ) -> Result<()> {
        self.device_decide(&permit, id, if only_for_this { APPROVED_ONCE } else { APPROVED }).await
    }

    /// Denies a sign-in; one that was decided already, or whose time is over, is no more.
    pub async fn device_deny(&self, permit: OwnPermit<own::DeviceDeny>, id: DeviceLoginId) -> Result<()> {
        self.device_decide(&permit, id, "denied").await
    }

    async fn device_decide<O: OwnOperation>(
        &self,
        permit: &OwnPermit<O>,
        id: DeviceLoginId,
        state: &'static str,
    ) -> Result<()> {
        let mut tx = self.db().write().await?;
        let row = tx
            .row(
                "UPDATE device_login SET state = $2, session_id = $3 \
                 WHERE id = $1 AND state = 'pending' AND expires_at > $4 RETURNING client, ip",
                args![id, state, permit.session(), self.clock().now()],
            )
            .await?
            .ok_or(Error::NotFound { what: "sign-in" })?;
        let detail = json!({"client": row.text(0)?, "ip": row.opt_text(1)?});
        let change = Change::to(Category::Authentication, "device-login", id).detail(detail);
        own_commit(tx, permit, &change).await
    }

    /// What a device that asks is told; when it was approved, its session, which is made by this.
    pub async fn device_login_poll(
        &self,
        device_hash: Digest,
        request: RequestId,
        ip: Option<IpAddr>,
        new: impl FnOnce(DisplayName) -> NewCliSession,
    ) -> Result<DevicePoll> {
        let now = self.clock().now();
        // Who asks with a code of nobody's takes no turn of those who write.
        let mut reading = self.db().read().await?;
        let known = "SELECT 1 FROM device_login WHERE device_hash = $1 AND expires_at > $2";
        if reading.row(known, args![device_hash, now]).await?.is_none() {
            return Ok(DevicePoll::Expired);
        }
        drop(reading);
        let mut tx = self.db().write().await?;
        let row = tx
            .row(
                "SELECT id, state, polled_at, interval_ms, session_id, client FROM device_login \
                 WHERE device_hash = $1 AND expires_at > $2",
                args![device_hash, now],
            )
            .await?;
        let Some(row) = row else { return Ok(DevicePoll::Expired) };
        let (id, state) = (DeviceLoginId::from_uuid(row.uuid(0)?), row.text(1)?);
        let (polled_at, interval_ms) = (row.opt_time(2)?, row.i64(3)?);
        let too_soon = polled_at.is_some_and(|at| now.millis_since(at) < interval_ms);
        if too_soon || state == "pending" {
            let interval_ms = if too_soon { interval_ms.saturating_add(SLOW_DOWN_MS) } else { interval_ms };
            tx.execute(
                "UPDATE device_login SET polled_at = $2, interval_ms = $3 WHERE id = $1",
                args![id, now, interval_ms],
            )
            .await?;
            tx.commit().await?;
            return Ok(if too_soon { DevicePoll::SlowDown } else { DevicePoll::Pending });
        }
        // Whoever takes the row away is the one who gets the session.
        if tx.execute("DELETE FROM device_login WHERE id = $1", args![id]).await? == 0 {
            return Ok(DevicePoll::Expired);
        }
        let from =
            row.opt_uuid(4)?.map(SessionId::from_uuid).filter(|_| [APPROVED, APPROVED_ONCE].contains(&state.as_str()));
        let approver = match from {
            Some(from) => cli_session::lock_live(&mut tx, self, from).await?.map(|user| (from, user)),
            None => None,
        };
        let polled = match approver {
            None => DevicePoll::Denied,
            Some(approver) => {
                let new = new(row.parse(5)?);
                let detail = json!({"device_login": id, "client": new.client.as_str()});
                let made = cli_session::insert(&mut tx, self, approver, request, ip, &new, detail).await?;
                if state == APPROVED_ONCE {
                    tx.execute("UPDATE session SET revoked_at = $2 WHERE id = $1", args![approver.0, now]).await?;
                }
                DevicePoll::Ready(Box::new(made))
            }
        };
        tx.commit().await?;
        Ok(polled)
    }
}
