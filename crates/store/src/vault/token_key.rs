//! Keys that sign destination tokens (the role `tokens`): a series whose members overlap, so that no token is refused while one follows another.
//!
//! A new key is published at once and signs after [`LEAD_MS`], when every verifier has heard of it. The one before then loses its private half
//! and stays published for [`KEEP_MS`], until the last token that it signed has long expired. A key that somebody else may have is withdrawn
//! instead: it is published no more, and what it signed is refused by every verifier that has read the keys since.

use access::ops;
use crypto::es512::{PublicKey, SigningKey};
use domain::{Error, Result, Timestamp};
use serde_json::json;

use super::damaged;
use super::head::Head;
use super::series::{self, KeyRow, NewKey, Series};
use crate::Store;
use crate::audit::{Category, Change};
use crate::unit::{PlatformWrite, platform_tenant};

/// The role of these keys.
const ROLE: &str = "tokens";
/// How long a new key is published before it signs, in milliseconds: twice what verifiers remember a key set.
const LEAD_MS: i64 = 10 * 60_000;
/// How long a key is published after it stopped signing, in milliseconds: twice a token's life.
const KEEP_MS: i64 = 10 * 60_000;
/// How old a key gets before the next one is made, in milliseconds.
const AGE_MS: i64 = 90 * 24 * 3_600_000;

/// What signs destination tokens now, and what they are verified with.
#[derive(Debug)]
pub struct TokenKeys {
    /// Signs.
    pub signing: SigningKey,
    /// What verifiers have to know, oldest first.
    pub published: Vec<PublicKey>,
}

const SERIES: Series = Series { role: ROLE, lead_ms: LEAD_MS, lead: "ten minutes", keep_ms: KEEP_MS };

fn new_key() -> Result<(PublicKey, NewKey)> {
    let key = SigningKey::generate().map_err(Error::internal)?;
    let private = key.to_pkcs8().map_err(Error::internal)?;
    Ok((key.public().clone(), NewKey { public: key.public().as_bytes().to_vec(), private }))
}

fn public(row: &KeyRow) -> Result<PublicKey> {
    PublicKey::from_bytes(&row.public).map_err(|_| damaged("a public key"))
}

/// What there is to do: keys that sign no more, and whether the newest is old.
fn due(rows: &[KeyRow], now: Timestamp) -> (Vec<&KeyRow>, bool) {
    let is_old = rows.last().is_some_and(|newest| now.millis_since(newest.created_at) >= AGE_MS);
    (SERIES.passed(rows, now), is_old)
}

impl Store {
    /// The keys of destination tokens as they are now. The first one is made here; two servers that start together agree on it.
    pub async fn token_keys(&self) -> Result<TokenKeys> {
        let now = self.clock().now();
        let rows = SERIES.begun(self, || Ok(new_key()?.1)).await?;
        let opened = SERIES.signing(self, &rows).await?;
        let signing = SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))?;
        let published = rows.iter().filter(|row| SERIES.is_published(row, now)).map(public).collect::<Result<_>>()?;
        Ok(TokenKeys { signing, published })
    }

    /// Whether [`PlatformWrite::token_key_tend`] has something to do.
    pub async fn token_key_is_due(&self) -> Result<bool> {
        let rows = SERIES.all(&mut self.db().read().await?).await?;
        let (passed, is_old) = due(&rows, self.clock().now());
        Ok(is_old || !passed.is_empty())
    }
}

impl PlatformWrite<ops::SigningKeyRotate> {
    /// Makes the next key, which signs in ten minutes; with `withdraw` it signs at once, and every key before it and what they signed is
    /// good for nothing any more.
    pub async fn token_key_rotate(mut self, withdraw: bool) -> Result<PublicKey> {
        let (store, tx) = (self.store.clone(), &mut self.tx);
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = SERIES.all(tx).await?;
        let newest = SERIES.follow(tx, &store, &rows, withdraw).await?;
        let (new, halves) = new_key()?;
        series::insert(tx, &store, ROLE, newest.version + 1, &halves).await?;
        let before = public(newest)?;
        let detail = json!({
            "role": ROLE, "version": newest.version + 1, "before": before.kid(), "after": new.kid(), "withdrawn": withdraw,
        });
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await?;
        Ok(new)
    }

    /// Does what time asks for: a key that has been followed loses its private half, and one that is old is followed.
    pub async fn token_key_tend(mut self) -> Result<()> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = SERIES.all(tx).await?;
        // Another server may have done it meanwhile.
        let (passed, is_old) = due(&rows, now);
        let (Some(newest), true) = (rows.last(), is_old || !passed.is_empty()) else { return Ok(()) };
        let mut retired = Vec::new();
        for row in passed {
            SERIES.retire(tx, &store, row).await?;
            retired.push(public(row)?.kid().to_owned());
        }
        let mut made = None;
        if is_old {
            let (new, halves) = new_key()?;
            series::insert(tx, &store, ROLE, newest.version + 1, &halves).await?;
            made = Some(new.kid().to_owned());
        }
        let detail = json!({"role": ROLE, "made": made, "retired": retired});
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await.map(drop)
    }
}
