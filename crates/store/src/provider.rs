//! Identity providers of the installation, with their sealed client secrets, and the tokens by which they provision.

use access::{PlatformPermit, ops};
use domain::{Condition, Digest, DisplayName, Error, ProviderId, Result, Secret, Slug, Timestamp};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::condition::Versioned as _;
use crate::db::{Engine, Row, Tx, args};
use crate::unit::{PlatformWrite, platform_tenant};
use crate::vault::cell::{self, CLIENT_SECRET};
use crate::{Page, Store, federation};

/// A provider, without its secrets.
#[derive(Debug, Clone)]
pub struct ProviderRow {
    /// Its id.
    pub id: ProviderId,
    /// Its name in URLs.
    pub name: String,
    /// Its name on the button.
    pub title: String,
    /// What its tokens say they are from. Never changes: identities belong to it.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// What we ask for, separated by spaces.
    pub scopes: String,
    /// The claim that lists groups; empty for none.
    pub groups_claim: String,
    /// Domains at which its addresses count as verified where it does not say whether they are, separated by spaces.
    pub email_domains: String,
    /// Whether it may provision by SCIM.
    pub scim: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A provider to be made.
#[derive(Debug)]
pub struct NewProvider {
    /// Its name in URLs.
    pub name: Slug,
    /// Its name on the button.
    pub title: DisplayName,
    /// Its issuer.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// What proves it there.
    pub client_secret: Secret,
    /// What we ask for.
    pub scopes: String,
    /// The claim that lists groups.
    pub groups_claim: String,
    /// Domains at which it is trusted for addresses.
    pub email_domains: String,
}

/// What of a provider changes.
#[derive(Debug, Default)]
pub struct ProviderChange {
    /// Its name on the button.
    pub title: Option<DisplayName>,
    /// Who we are there.
    pub client_id: Option<String>,
    /// What proves it there.
    pub client_secret: Option<Secret>,
    /// What we ask for.
    pub scopes: Option<String>,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Domains at which it is trusted for addresses.
    pub email_domains: Option<String>,
}

const COLUMNS: &str =
    "id, name, title, issuer, client_id, scopes, groups_claim, email_domains, scim_token IS NOT NULL, created_at";

fn provider_row(row: &Row) -> Result<ProviderRow> {
    Ok(ProviderRow {
        id: ProviderId::from_uuid(row.uuid(0)?),
        name: row.text(1)?,
        title: row.text(2)?,
        issuer: row.text(3)?,
        client_id: row.text(4)?,
        scopes: row.text(5)?,
        groups_claim: row.text(6)?,
        email_domains: row.text(7)?,
        scim: row.bool(8)?,
        created_at: row.time(9)?,
    })
}

async fn find(tx: &mut Tx, name: &str) -> Result<ProviderRow> {
    let id = name.parse::<ProviderId>().map_or(uuid::Uuid::nil(), |id| id.as_uuid());
    let sql = format!("SELECT {COLUMNS} FROM identity_provider WHERE name = $1 OR id = $2");
    let rows = tx.rows_built(sql, args![name, id]).await?;
    rows.first().map(provider_row).transpose()?.ok_or(Error::NotFound { what: "provider" })
}

/// The same, which nobody else changes until the transaction ends.
async fn find_alone(tx: &mut Tx, name: &str) -> Result<ProviderRow> {
    let found = find(tx, name).await?;
    if tx.engine() == Engine::Sqlite {
        return Ok(found);
    }
    tx.rows("SELECT 1 FROM identity_provider WHERE id = $1 FOR UPDATE", args![found.id]).await?;
    find(tx, &found.id.to_string()).await
}

impl Store {
    /// Every provider, for those who manage the platform.
    pub async fn provider_list(
        &self,
        _permit: PlatformPermit<ops::ProviderList>,
        after: Option<ProviderId>,
        limit: u32,
    ) -> Result<Page<ProviderRow, ProviderId>> {
        let mut tx = self.db().read().await?;
        let sql = format!("SELECT {COLUMNS} FROM identity_provider WHERE id > $1 ORDER BY id LIMIT $2");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = tx.rows_built(sql, args![after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(provider_row).collect::<Result<_>>()?, limit, |row| row.id))
    }

    /// One provider, by name or id.
    pub async fn provider_show(&self, _permit: PlatformPermit<ops::ProviderList>, name: &str) -> Result<ProviderRow> {
        find(&mut self.db().read().await?, name).await
    }

    /// The providers that anybody may sign in with: their names are on the sign-in page.
    pub async fn login_providers(&self) -> Result<Vec<ProviderRow>> {
        let mut tx = self.db().read().await?;
        let sql = format!("SELECT {COLUMNS} FROM identity_provider ORDER BY title, id LIMIT 100");
        tx.rows_built(sql, args![]).await?.iter().map(provider_row).collect()
    }

    /// A provider and its client secret, for a sign-in or a check.
    pub async fn login_provider(&self, name: &str) -> Result<(ProviderRow, Secret)> {
        let mut tx = self.db().read().await?;
        let provider = find(&mut tx, name).await?;
        let row = tx.row("SELECT client_secret FROM identity_provider WHERE id = $1", args![provider.id]).await?;
        let sealed = row.ok_or(Error::NotFound { what: "provider" })?.bytes(0)?;
        let row = provider.id.as_uuid().into();
        let opened = cell::open(&mut tx, self, &CLIENT_SECRET, platform_tenant(), &row, &sealed).await?;
        let secret = opened.expose().strip_prefix(crypto::sha256(provider.issuer.as_bytes()).as_bytes());
        let secret =
            secret.ok_or_else(|| Error::internal("a client secret is for another issuer: the row was changed"))?;
        let secret = Secret::new(secret);
        Ok((provider, secret))
    }

    /// The provider that a provisioning token belongs to.
    pub async fn scim_provider(&self, token: Digest) -> Result<Option<ProviderRow>> {
        let mut tx = self.db().read().await?;
        let sql = format!("SELECT {COLUMNS} FROM identity_provider WHERE scim_token = $1");
        tx.rows_built(sql, args![token]).await?.first().map(provider_row).transpose()
    }
}

/// Seals a client secret together with whom it is for: without that, a changed issuer would be sent it.
async fn seal(tx: &mut Tx, store: &Store, id: ProviderId, issuer: &str, secret: &Secret) -> Result<Vec<u8>> {
    let value = Secret::new([crypto::sha256(issuer.as_bytes()).as_bytes().as_slice(), secret.expose()].concat());
    let row = id.as_uuid().into();
    Ok(cell::seal(tx, store, &CLIENT_SECRET, platform_tenant(), &row, value.expose()).await?.bytes)
}

fn taken(error: Error) -> Error {
    match error {
        Error::Conflict { .. } => Error::conflict("a provider with this name or this issuer already exists"),
        other => other,
    }
}

impl Store {
    /// Makes a provider. Its client secret is sealed.
    pub async fn provider_create(
        &self,
        permit: PlatformPermit<ops::ProviderCreate>,
        new: &NewProvider,
    ) -> Result<ProviderRow> {
        let mut unit = self.write_platform(permit).await?;
        let (now, id) = (self.clock().now(), ProviderId::generate(&**self.clock(), &**self.rng()));
        let sealed = seal(&mut unit.tx, self, id, &new.issuer, &new.client_secret).await?;
        unit.tx
            .execute(
                "INSERT INTO identity_provider (id, name, title, issuer, client_id, client_secret, scopes, groups_claim, email_domains, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                args![
                    id,
                    new.name.as_str(),
                    new.title.as_str(),
                    new.issuer.as_str(),
                    new.client_id.as_str(),
                    sealed,
                    new.scopes.as_str(),
                    new.groups_claim.as_str(),
                    new.email_domains.as_str(),
                    now
                ],
            )
            .await
            .map_err(taken)?;
        let row = find(&mut unit.tx, new.name.as_str()).await?;
        let detail = json!({
            "name": row.name,
            "issuer": row.issuer,
            "client_id": row.client_id,
            "groups_claim": row.groups_claim,
            "email_domains": row.email_domains,
        });
        unit.commit(Change::to(Category::System, "provider", id).detail(detail)).await?;
        Ok(row)
    }

    /// Changes a provider; its issuer stays, since identities belong to it.
    pub async fn provider_update(
        &self,
        permit: PlatformPermit<ops::ProviderUpdate>,
        name: &str,
        change: &ProviderChange,
        condition: Condition,
    ) -> Result<ProviderRow> {
        let mut unit = self.write_platform(permit).await?.only_if(condition);
        let before = find_alone(&mut unit.tx, name).await?;
        unit.check(&format!("provider `{}`", before.name), Some(&before.version()))?;
        let text = |new: &Option<String>, old: &str| new.clone().unwrap_or_else(|| old.to_owned());
        let after = ProviderRow {
            title: change.title.as_ref().map_or(before.title.clone(), ToString::to_string),
            client_id: text(&change.client_id, &before.client_id),
            scopes: text(&change.scopes, &before.scopes),
            groups_claim: text(&change.groups_claim, &before.groups_claim),
            email_domains: text(&change.email_domains, &before.email_domains),
            ..before.clone()
        };
        unit.tx
            .execute(
                "UPDATE identity_provider SET title = $2, client_id = $3, scopes = $4, groups_claim = $5, email_domains = $6 WHERE id = $1",
                args![
                    after.id,
                    after.title.as_str(),
                    after.client_id.as_str(),
                    after.scopes.as_str(),
                    after.groups_claim.as_str(),
                    after.email_domains.as_str()
                ],
            )
            .await?;
        if let Some(secret) = &change.client_secret {
            let sealed = seal(&mut unit.tx, self, after.id, &after.issuer, secret).await?;
            unit.tx
                .execute("UPDATE identity_provider SET client_secret = $2 WHERE id = $1", args![after.id, sealed])
                .await?;
        }
        let detail = json!({
            "client_id": after.client_id,
            "scopes": after.scopes,
            "groups_claim": after.groups_claim,
            "email_domains": after.email_domains,
            "client_secret_changed": change.client_secret.is_some(),
        });
        unit.commit(Change::to(Category::System, "provider", after.id).detail(detail)).await?;
        Ok(after)
    }
}

impl PlatformWrite<ops::ProviderDelete> {
    /// Removes a provider: its users' sessions end, and what its groups gave is gone. The users stay, without this way to sign in.
    pub async fn provider_delete(mut self, name: &str) -> Result<()> {
        let (provider, store) = (find(&mut self.tx, name).await?, self.store.clone());
        let ctx = self.permit.ctx().clone();
        federation::forget_provider(&mut self.tx, &store, &ctx, provider.id).await?;
        let detail = json!({"name": provider.name, "issuer": provider.issuer});
        self.commit(Change::to(Category::System, "provider", provider.id).detail(detail)).await.map(drop)
    }
}

impl PlatformWrite<ops::ScimTokenCreate> {
    /// Lets a provider provision with the token of this digest; one before it is good no more.
    pub async fn scim_token_create(mut self, name: &str, token: Digest) -> Result<ProviderRow> {
        let provider = find(&mut self.tx, name).await?;
        self.tx
            .execute("UPDATE identity_provider SET scim_token = $2 WHERE id = $1", args![provider.id, token])
            .await?;
        let detail = json!({"replaced": provider.scim});
        self.commit(Change::to(Category::System, "provider", provider.id).detail(detail)).await?;
        Ok(ProviderRow { scim: true, ..provider })
    }
}

impl PlatformWrite<ops::ScimTokenDelete> {
    /// Ends provisioning: the token is refused from now on. What was provisioned stays.
    pub async fn scim_token_delete(mut self, name: &str) -> Result<()> {
        let provider = find(&mut self.tx, name).await?;
        if !provider.scim {
            return Err(Error::NotFound { what: "token" });
        }
        self.tx.execute("UPDATE identity_provider SET scim_token = NULL WHERE id = $1", args![provider.id]).await?;
        self.commit(Change::to(Category::System, "provider", provider.id)).await.map(drop)
    }
}
