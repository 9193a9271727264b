//! Which servers share a database, and where they reach each other.
//!
//! Invariants:
//! - a row is worth what its proof says: a MAC over all of it by a key of the installation, which the vault seals. Who can only write to the database
//!   names no server, and moves none;
//! - a server that gives no sign of life is none after a while.

use domain::{Digest, Result, Secret, Timestamp};
use uuid::Uuid;

use crate::Store;
use crate::db::{Row, args};
use crate::vault::place;

/// How long a server counts as there after its last sign of life, in milliseconds. Clocks of servers that are further apart than half of it see none of each other.
pub const PEER_LEASE_MS: i64 = 120_000;
/// Rows of servers that ended so long ago go, in milliseconds.
const FORGOTTEN_MS: i64 = 86_400_000;

/// A server as others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPeer {
    /// Which process.
    pub server: Uuid,
    /// `host:port`.
    pub address: String,
    /// SHA-256 of the certificate that it shows, to whom it asks and who asks it.
    pub certificate: Digest,
}

/// What the rows are proved by.
pub struct PeerKey(Secret);

impl PeerKey {
    fn prove(&self, peer: &ServerPeer, until: Timestamp) -> [u8; 32] {
        let until = until.as_millis().to_be_bytes();
        let parts: [&[u8]; 5] =
            [b"server_peer", peer.server.as_bytes(), peer.address.as_bytes(), peer.certificate.as_bytes(), &until];
        crypto::hmac_sha256(self.0.expose(), &place(&parts))
    }

    /// The server of a row that is good now.
    fn check(&self, row: &Row, now: Timestamp) -> Result<Option<ServerPeer>> {
        let peer = ServerPeer { server: row.uuid(0)?, address: row.text(1)?, certificate: row.digest(2)? };
        let (until, proof) = (row.time(3)?, row.bytes(4)?);
        if !crypto::constant_time_eq(&self.prove(&peer, until), &proof) {
            tracing::error!(server = %peer.server, "the row of a server was not written by one: it is left alone");
            return Ok(None);
        }
        Ok((now < until).then_some(peer))
    }
}

const BY_SERVER: &str = "SELECT server, address, certificate, until, proof FROM server_peer WHERE server = $1";
const BY_CERTIFICATE: &str =
    "SELECT server, address, certificate, until, proof FROM server_peer WHERE certificate = $1";

impl Store {
    /// The key of this installation's servers, made the first time.
    pub async fn peer_key(&self) -> Result<PeerKey> {
        let make = || {
            let mut bytes = [0; 32];
            self.rng().fill(&mut bytes);
            Ok(Secret::new(bytes))
        };
        self.installation_secret("peer_key", make).await.map(PeerKey)
    }

    /// Says where this server is reached, for as long as [`PEER_LEASE_MS`].
    pub async fn peer_publish(&self, key: &PeerKey, peer: &ServerPeer) -> Result<()> {
        let now = self.clock().now();
        let until = now.plus_millis(PEER_LEASE_MS);
        let mut tx = self.db().write().await?;
        tx.execute(
            "INSERT INTO server_peer (server, address, certificate, until, proof) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (server) DO UPDATE SET address = excluded.address, certificate = excluded.certificate, until = excluded.until, \
             proof = excluded.proof",
            args![peer.server, peer.address.as_str(), peer.certificate, until, key.prove(peer, until).to_vec()],
        )
        .await?;
        tx.execute("DELETE FROM server_peer WHERE until < $1", args![now.plus_millis(-FORGOTTEN_MS)]).await?;
        tx.commit().await
    }

    /// This server is not reached any more.
    pub async fn peer_forget(&self, server: Uuid) -> Result<()> {
        let mut tx = self.db().write().await?;
        tx.execute("DELETE FROM server_peer WHERE server = $1", args![server]).await?;
        tx.commit().await
    }

    /// Where a server is reached; none: nowhere, or not any more.
    pub async fn peer_find(&self, key: &PeerKey, server: Uuid) -> Result<Option<ServerPeer>> {
        let mut tx = self.db().read().await?;
        let row = tx.row(BY_SERVER, args![server]).await?;
        row.map_or(Ok(None), |row| key.check(&row, self.clock().now()))
    }

    /// The servers that are there, this one too.
    pub async fn peer_list(&self, key: &PeerKey) -> Result<Vec<ServerPeer>> {
        let mut tx = self.db().read().await?;
        let rows = tx.rows("SELECT server, address, certificate, until, proof FROM server_peer", args![]).await?;
        let now = self.clock().now();
        rows.iter().filter_map(|row| key.check(row, now).transpose()).collect()
    }

    /// The server that shows this certificate; none: it is none of ours.
    pub async fn peer_of_certificate(&self, key: &PeerKey, certificate: Digest) -> Result<Option<ServerPeer>> {
        let mut tx = self.db().read().await?;
        for row in tx.rows(BY_CERTIFICATE, args![certificate]).await? {
            if let Some(peer) = key.check(&row, self.clock().now())? {
                return Ok(Some(peer));
            }
        }
        Ok(None)
    }
}
