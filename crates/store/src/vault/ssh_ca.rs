//! Keys that sign SSH certificates (the role `ssh-ca`): a series whose members overlap.
//!
//! A new key is published at once and signs after [`LEAD_MS`]: hosts read the published keys into a file of theirs, by a timer or by hand. The
//! one before then loses its private half, and stays published for [`KEEP_MS`], until the last certificate of a host that it signed has ended.

use access::ops;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Error, Result};
use serde_json::json;

use super::damaged;
use super::head::Head;
use super::series::{self, KeyRow, NewKey, Series};
use crate::Store;
use crate::audit::{Category, Change};
use crate::unit::{PlatformWrite, platform_tenant};

/// The role of these keys.
const ROLE: &str = "ssh-ca";
/// How long a new key is published before it signs, in milliseconds: a week.
const LEAD_MS: i64 = 7 * 24 * 3_600_000;
/// How long a key is published after it stopped signing, in milliseconds: as long as a host's certificate is good, and a week.
const KEEP_MS: i64 = 97 * 24 * 3_600_000;

const SERIES: Series = Series { role: ROLE, lead_ms: LEAD_MS, lead: "a week", keep_ms: KEEP_MS };

fn new_key() -> Result<(PublicKey, NewKey)> {
    let key = SigningKey::generate().map_err(Error::internal)?;
    Ok((key.public(), NewKey { public: key.public().as_bytes().to_vec(), private: key.to_pkcs8() }))
}

fn public(row: &KeyRow) -> Result<PublicKey> {
    PublicKey::from_bytes(&row.public).map_err(|_| damaged("a public key"))
}

impl Store {
    /// The public keys whose certificates are to be taken, oldest first. The first one is made here; two servers that start together agree on it.
    pub async fn ssh_ca_keys(&self) -> Result<Vec<PublicKey>> {
        let now = self.clock().now();
        let rows = SERIES.begun(self, || Ok(new_key()?.1)).await?;
        rows.iter().filter(|row| SERIES.is_published(row, now)).map(public).collect()
    }

    /// The key that signs now. The installation's: it is opened in a transaction of its own, and not in a tenant's.
    pub(crate) async fn ssh_ca_signing(&self) -> Result<SigningKey> {
        let rows = SERIES.begun(self, || Ok(new_key()?.1)).await?;
        let opened = SERIES.signing(self, &rows).await?;
        SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))
    }

    /// Whether [`PlatformWrite::ssh_ca_tend`] has something to do.
    pub async fn ssh_ca_is_due(&self) -> Result<bool> {
        let rows = SERIES.all(&mut self.db().read().await?).await?;
        Ok(!SERIES.passed(&rows, self.clock().now()).is_empty())
    }
}

impl PlatformWrite<ops::SigningKeyRotate> {
    /// Makes the next key, which signs in a week; with `withdraw` it signs at once, and no key before it is published any more.
    pub async fn ssh_ca_rotate(mut self, withdraw: bool) -> Result<PublicKey> {
        let (store, tx) = (self.store.clone(), &mut self.tx);
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = SERIES.all(tx).await?;
        let newest = SERIES.follow(tx, &store, &rows, withdraw).await?;
        let (new, halves) = new_key()?;
        series::insert(tx, &store, ROLE, newest.version + 1, &halves).await?;
        let (before, after) = (public(newest)?.fingerprint().to_hex(), new.fingerprint().to_hex());
        let detail = json!({
            "role": ROLE, "version": newest.version + 1, "before": before, "after": after, "withdrawn": withdraw,
        });
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await?;
        Ok(new)
    }

    /// A key that has been followed loses its private half.
    pub async fn ssh_ca_tend(mut self) -> Result<()> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = SERIES.all(tx).await?;
        // Another server may have done it meanwhile.
        let passed = SERIES.passed(&rows, now);
        if passed.is_empty() {
            return Ok(());
        }
        let mut retired = Vec::new();
        for row in passed {
            SERIES.retire(tx, &store, row).await?;
            retired.push(public(row)?.fingerprint().to_hex());
        }
        let detail = json!({"role": ROLE, "retired": retired});
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await.map(drop)
    }
}
