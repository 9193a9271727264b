//! Who somebody is at an identity provider, and which user of ours that is.
//!
//! An identity is the provider's issuer and its subject. An address is only ever a reason to link, once, and only where the provider says that it
//! verified it, the account belongs to nobody else's identity, and the account does not manage the platform.

use std::collections::BTreeSet;

use access::OpCtx;
use domain::{DisplayName, Email, Error, ProviderId, Result, Secret, Timestamp, UserId};
use serde_json::json;

use crate::audit::{Category, Change, Outcome};
use crate::db::{Row, Tx, args};
use crate::provider::ProviderRow;
use crate::unit::platform_tenant;
use crate::user::{USER_COLUMNS, UserRow, append_everywhere, user_row};
use crate::vault::cell::{self, IDENTITY_TOKENS};
use crate::{Store, federation};

/// What a provider proved about somebody.
#[derive(Debug)]
pub struct Proved {
    /// Its name for them: unique and never given to another.
    pub subject: String,
    /// Their address, where it says one.
    pub email: Option<Email>,
    /// Whether it says that it verified the address.
    pub email_verified: bool,
    /// Their name.
    pub name: Option<DisplayName>,
    /// Their groups.
    pub groups: BTreeSet<String>,
    /// Whether it says that it asked for a second factor.
    pub second_factor: bool,
    /// What the provider can be asked with later.
    pub tokens: Option<Secret>,
}

/// An identity whose provider is to be asked whether it still stands.
#[derive(Debug)]
pub struct DueIdentity {
    /// The provider's id.
    pub provider: ProviderId,
    /// Its name for them.
    pub subject: String,
    /// The user here.
    pub user: UserId,
    /// When the provider last confirmed it.
    pub checked_at: Timestamp,
    /// What to ask with.
    pub tokens: Secret,
}

impl DueIdentity {
    fn place(&self) -> (ProviderId, &str, UserId) {
        (self.provider, &self.subject, self.user)
    }
}

/// Why a sign-in is refused although the provider vouched: for the log, not for the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// No address to make or find an account with.
    #[error("the provider names no address")]
    NoEmail,
    /// The provider does not vouch for the address.
    #[error("the provider did not verify the address")]
    Unverified,
    /// The account is somebody's at a provider already: another subject, or another provider.
    #[error("the address belongs to another identity")]
    OtherIdentity,
    /// Accounts that manage the platform are not linked by an address.
    #[error("the account manages the platform and is not linked by an address")]
    PlatformAdmin,
    /// There is no account, and nothing here is for them: a public provider must not fill the installation with strangers.
    #[error("there is no account, and no group of theirs gives a role")]
    NoRole,
    /// The account is disabled.
    #[error("disabled user")]
    Disabled,
}

/// What stands before sealed tokens: whose they are there. Without it a changed row could send them to another provider.
fn whose(provider: ProviderId, subject: &str) -> Vec<u8> {
    [provider.as_uuid().as_bytes().as_slice(), crypto::sha256(subject.as_bytes()).as_bytes()].concat()
}

async fn seal(
    tx: &mut Tx,
    store: &Store,
    (provider, subject, user): (ProviderId, &str, UserId),
    tokens: &Secret,
) -> Result<Vec<u8>> {
    let value = Secret::new([whose(provider, subject).as_slice(), tokens.expose()].concat());
    let row = user.as_uuid().into();
    Ok(cell::seal(tx, store, &IDENTITY_TOKENS, platform_tenant(), &row, value.expose()).await?.bytes)
}

async fn user_by_id(tx: &mut Tx, id: UserId) -> Result<UserRow> {
    let rows = tx.rows_built(format!("SELECT {USER_COLUMNS} FROM app_user WHERE id = $1"), args![id]).await?;
    rows.first().map(|row| user_row(row, 0)).transpose()?.ok_or(Error::NotFound { what: "user" })
}

async fn user_by_email(tx: &mut Tx, email: &Email) -> Result<Option<UserRow>> {
    let sql = format!("SELECT {USER_COLUMNS} FROM app_user WHERE email = $1");
    let rows = tx.rows_built(sql, args![email.as_str()]).await?;
    rows.first().map(|row| user_row(row, 0)).transpose()
}

/// Makes a user without a password: they sign in with their provider.
pub(crate) async fn user_insert(tx: &mut Tx, store: &Store, email: &Email, name: &str) -> Result<UserId> {
    let id = UserId::generate(&**store.clock(), &**store.rng());
    tx.execute(
        "INSERT INTO app_user (id, email, name, must_change_password, platform_admin, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        args![id, email.as_str(), name, false, false, store.clock().now()],
    )
    .await?;
    Ok(id)
}

fn id_of(row: Row) -> Result<UserId> {
    row.uuid(0).map(UserId::from_uuid)
}

/// The user that a new identity belongs to, among those that exist.
async fn existing(
    tx: &mut Tx,
    provider: ProviderId,
    proved: &Proved,
) -> Result<std::result::Result<Option<UserRow>, LinkRefusal>> {
    // Whoever this provider provisioned is its own to vouch for: by its own id for them, or by the address that it verified.
    let provisioned = tx
        .row(
            "SELECT user_id FROM scim_user WHERE provider_id = $1 AND external_id = $2",
            args![provider, proved.subject.as_str()],
        )
        .await?;
    if let Some(row) = provisioned {
        return Ok(Ok(Some(user_by_id(tx, id_of(row)?).await?)));
    }
    let Some(email) = &proved.email else { return Ok(Err(LinkRefusal::NoEmail)) };
    if !proved.email_verified {
        return Ok(Err(LinkRefusal::Unverified));
    }
    let Some(user) = user_by_email(tx, email).await? else { return Ok(Ok(None)) };
    let elsewhere =
        tx.row("SELECT 1 FROM scim_user WHERE user_id = $1 AND provider_id <> $2", args![user.id, provider]).await?;
    if elsewhere.is_some() {
        return Ok(Err(LinkRefusal::OtherIdentity));
    }
    if user.platform_admin {
        return Ok(Err(LinkRefusal::PlatformAdmin));
    }
    Ok(Ok(Some(user)))
}

impl Store {
    /// Takes a state that came back from a provider: true the first time only.
    pub async fn login_state_use(&self, state: domain::Digest, expires_at: Timestamp) -> Result<bool> {
        let mut tx = self.db().write().await?;
        tx.execute("DELETE FROM login_used WHERE expires_at < $1", args![self.clock().now()]).await?;
        let added = tx
            .execute(
                "INSERT INTO login_used (state, expires_at) VALUES ($1, $2) ON CONFLICT (state) DO NOTHING",
                args![state, expires_at],
            )
            .await?;
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Finds, links or makes the user that a provider vouched for, gives them what their groups give, and returns them; or says why not,
    /// which is recorded.
    pub async fn identity_login(
        &self,
        ctx: &OpCtx,
        provider: &ProviderRow,
        proved: &Proved,
    ) -> Result<std::result::Result<UserRow, LinkRefusal>> {
        let mut tx = self.db().write().await?;
        cell::lock(&mut tx, self, platform_tenant()).await?;
        let known = tx
            .row(
                "SELECT user_id FROM identity WHERE provider_id = $1 AND subject = $2",
                args![provider.id, proved.subject.as_str()],
            )
            .await?
            .map(id_of)
            .transpose()?;
        let (user, link) = if let Some(user) = known {
            (user_by_id(&mut tx, user).await?, false)
        } else {
            match existing(&mut tx, provider.id, proved).await? {
                Err(refusal) => return self.identity_refused(tx, ctx, provider, proved, None, refusal).await,
                Ok(Some(user)) => {
                    let taken = tx.row("SELECT 1 FROM identity WHERE user_id = $1", args![user.id]).await?;
                    if taken.is_some() {
                        let refusal = LinkRefusal::OtherIdentity;
                        return self.identity_refused(tx, ctx, provider, proved, Some(user.id), refusal).await;
                    }
                    (user, true)
                }
                Ok(None) if !federation::gives_a_role(&mut tx, provider.id, &proved.groups).await? => {
                    return self.identity_refused(tx, ctx, provider, proved, None, LinkRefusal::NoRole).await;
                }
                Ok(None) => {
                    let email =
                        proved.email.as_ref().ok_or_else(|| Error::internal("an address was checked before"))?;
                    let name = proved.name.as_ref().map_or(email.as_str(), DisplayName::as_str);
                    let id = user_insert(&mut tx, self, email, name).await?;
                    let change = Change::to(Category::User, "user", id)
                        .detail(json!({"email": email.as_str(), "provider": provider.name}));
                    append_everywhere(&mut tx, ctx, None, "user_provision", &change).await?;
                    (user_by_id(&mut tx, id).await?, true)
                }
            }
        };
        // The provider vouches again for somebody it has vouched for: it may lift what it imposed itself, unless what it provisions says
        // otherwise. An account that is only found by its address and is disabled stays so: it may have been taken back by SCIM.
        let inactive = tx
            .row(
                "SELECT 1 FROM scim_user WHERE provider_id = $1 AND user_id = $2 AND NOT active",
                args![provider.id, user.id],
            )
            .await?
            .is_some();
        if !inactive && !link {
            federation::enable(&mut tx, ctx, provider.id, user.id).await?;
        }
        let user = user_by_id(&mut tx, user.id).await?;
        if inactive || user.disabled_at.is_some() {
            return self.identity_refused(tx, ctx, provider, proved, Some(user.id), LinkRefusal::Disabled).await;
        }
        let (now, groups) = (self.clock().now(), json!(proved.groups).to_string());
        if link {
            tx.execute(
                "INSERT INTO identity (provider_id, subject, user_id, groups, asked_at, checked_at, created_at) VALUES ($1, $2, $3, $4, $5, $5, $5)",
                args![provider.id, proved.subject.as_str(), user.id, groups.as_str(), now],
            )
            .await?;
            let detail = json!({"provider": provider.name, "issuer": provider.issuer, "subject": proved.subject});
            let change = Change::to(Category::Authentication, "user", user.id).detail(detail);
            append_everywhere(&mut tx, ctx, Some(user.id), "identity_link", &change).await?;
        }
        set_tokens(&mut tx, self, ctx, (provider.id, &proved.subject, user.id), &groups, proved.tokens.as_ref())
            .await?;
        // What a restore suspended: the provider stands by them again.
        let confirmed = tx
            .execute(
                "UPDATE app_user SET unconfirmed_since = NULL WHERE id = $1 AND unconfirmed_since IS NOT NULL",
                args![user.id],
            )
            .await?;
        if confirmed == 1 {
            let change = Change::to(Category::User, "user", user.id).detail(json!({"provider": provider.name}));
            append_everywhere(&mut tx, ctx, Some(user.id), "user_confirm", &change).await?;
        }
        federation::apply_roles(&mut tx, self, ctx, provider.id, user.id).await?;
        tx.commit().await?;
        Ok(Ok(user))
    }

    async fn identity_refused(
        &self,
        tx: Tx,
        ctx: &OpCtx,
        provider: &ProviderRow,
        proved: &Proved,
        user: Option<UserId>,
        refusal: LinkRefusal,
    ) -> Result<std::result::Result<UserRow, LinkRefusal>> {
        // Nothing of the attempt stays but its record.
        drop(tx);
        let who = json!({"subject": proved.subject, "email": proved.email.as_ref().map(Email::as_str)});
        self.provider_login_refused(ctx, &provider.name, user, &refusal.to_string(), who).await?;
        Ok(Err(refusal))
    }

    /// Records a sign-in with a provider that was refused. The reason stands in the log only.
    pub async fn provider_login_refused(
        &self,
        ctx: &OpCtx,
        provider: &str,
        user: Option<UserId>,
        reason: &str,
        who: serde_json::Value,
    ) -> Result<()> {
        let mut tx = self.db().write().await?;
        let object = user.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let change = Change::to(Category::Authentication, "user", object)
            .outcome(Outcome::Deny)
            .detail(json!({"provider": provider, "reason": reason, "who": who}));
        append_everywhere(&mut tx, ctx, user, "login_callback", &change).await?;
        tx.commit().await
    }

    /// Takes the next identity whose provider has not confirmed it since `before` and was not asked since `asked_before`; another server, or
    /// another task of this one, does not get it at the same time.
    pub async fn identity_due(&self, before: Timestamp, asked_before: Timestamp) -> Result<Option<DueIdentity>> {
        let mut tx = self.db().write().await?;
        let row = tx
            .row(
                "UPDATE identity SET asked_at = $3 WHERE (provider_id, subject) = (SELECT provider_id, subject FROM identity \
                 WHERE tokens IS NOT NULL AND checked_at <= $1 AND asked_at <= $2 ORDER BY checked_at LIMIT 1) AND asked_at <= $2 \
                 RETURNING provider_id, subject, user_id, checked_at",
                args![before, asked_before, self.clock().now()],
            )
            .await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let (provider, subject) = (ProviderId::from_uuid(row.uuid(0)?), row.text(1)?);
        let (user, checked_at) = (UserId::from_uuid(row.uuid(2)?), row.time(3)?);
        let tokens = match self.identity_tokens(provider, &subject, user).await {
            Ok(tokens) => tokens,
            Err(error) => {
                // Nothing to ask with is no word for this user, whose sessions end after a while; the others are still asked about.
                tracing::error!(%user, %error, "what an identity provider is asked with cannot be read");
                Secret::new("")
            }
        };
        Ok(Some(DueIdentity { provider, subject, user, checked_at, tokens }))
    }

    async fn identity_tokens(&self, provider: ProviderId, subject: &str, user: UserId) -> Result<Secret> {
        let mut tx = self.db().read().await?;
        let row = tx.row("SELECT tokens FROM identity WHERE user_id = $1 AND tokens IS NOT NULL", args![user]).await?;
        let sealed = row.ok_or(Error::NotFound { what: "identity" })?.bytes(0)?;
        let row = user.as_uuid().into();
        let opened = cell::open(&mut tx, self, &IDENTITY_TOKENS, platform_tenant(), &row, &sealed).await?;
        let tokens = opened.expose().strip_prefix(whose(provider, subject).as_slice());
        let tokens = tokens.ok_or_else(|| Error::internal(format!("the tokens of {user} are of another identity")))?;
        Ok(Secret::new(tokens))
    }

    /// The provider confirmed an identity: these are its groups now, and this is what to ask with the next time.
    pub async fn identity_confirmed(
        &self,
        ctx: &OpCtx,
        due: &DueIdentity,
        groups: Option<&BTreeSet<String>>,
        tokens: Option<&Secret>,
    ) -> Result<()> {
        let mut tx = self.db().write().await?;
        let groups = if let Some(groups) = groups {
            json!(groups).to_string()
        } else {
            let find = "SELECT groups FROM identity WHERE provider_id = $1 AND subject = $2";
            let row = tx.row(find, args![due.provider, due.subject.as_str()]).await?;
            row.ok_or(Error::NotFound { what: "identity" })?.text(0)?
        };
        let tokens = tokens.unwrap_or(&due.tokens);
        set_tokens(&mut tx, self, ctx, due.place(), &groups, Some(tokens)).await?;
        federation::apply_roles(&mut tx, self, ctx, due.provider, due.user).await?;
        tx.commit().await
    }

    /// The provider no longer stands by an identity: its user's sessions end, its groups give nothing until it vouches again, and where the
    /// provider said so itself (`disable`), the account and all its keys are good for nothing.
    pub async fn identity_lost(&self, ctx: &OpCtx, due: &DueIdentity, reason: &str, disable: bool) -> Result<()> {
        let mut tx = self.db().write().await?;
        set_tokens(&mut tx, self, ctx, due.place(), "[]", None).await?;
        if disable {
            federation::disable(&mut tx, self, ctx, due.provider, due.user, reason).await?;
        } else {
            self.sessions_ended(&mut tx, ctx, due, reason).await?;
        }
        federation::apply_roles(&mut tx, self, ctx, due.provider, due.user).await?;
        tx.commit().await
    }

    /// The provider did not answer for too long: its user's sessions end. The account and its roles stay, and it is asked again.
    pub async fn identity_unconfirmed(&self, ctx: &OpCtx, due: &DueIdentity, reason: &str) -> Result<()> {
        let mut tx = self.db().write().await?;
        self.sessions_ended(&mut tx, ctx, due, reason).await?;
        tx.commit().await
    }

    async fn sessions_ended(&self, tx: &mut Tx, ctx: &OpCtx, due: &DueIdentity, reason: &str) -> Result<()> {
        let ended = federation::end_sessions(tx, self, due.user).await?;
        if ended == 0 {
            return Ok(());
        }
        let detail = json!({"provider": due.provider, "reason": reason, "sessions": ended});
        let change = Change::to(Category::Authentication, "user", due.user).detail(detail);
        append_everywhere(tx, ctx, Some(due.user), "session_revoke_all", &change).await
    }
}

/// Notes a provider's word: groups, and what to ask with the next time. Comes before any record (see [`cell::lock`]).
async fn set_tokens(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    (provider, subject, user): (ProviderId, &str, UserId),
    groups: &str,
    tokens: Option<&Secret>,
) -> Result<()> {
    let now = store.clock().now();
    let find = "SELECT groups FROM identity WHERE provider_id = $1 AND subject = $2";
    let before = tx.row(find, args![provider, subject]).await?.map(|row| row.text(0)).transpose()?;
    if before.is_some_and(|before| before != groups) {
        // They may feed groups to which access is granted: without a record nobody would judge what is open (ADR 0043).
        let change = Change::to(Category::User, "user", user).detail(json!({"provider": provider}));
        append_everywhere(tx, ctx, Some(user), "identity_groups", &change).await?;
    }
    if let Some(tokens) = tokens {
        let sealed = seal(tx, store, (provider, subject, user), tokens).await?;
        tx.execute(
            "UPDATE identity SET groups = $3, asked_at = $4, checked_at = $4, tokens = $5 WHERE provider_id = $1 AND subject = $2",
            args![provider, subject, groups, now, sealed],
        )
        .await
        .map(drop)
    } else {
        cell::forget(tx, store, &IDENTITY_TOKENS, platform_tenant(), &user.as_uuid().into()).await?;
        tx.execute(
            "UPDATE identity SET groups = $3, asked_at = $4, checked_at = $4, tokens = NULL WHERE provider_id = $1 AND subject = $2",
            args![provider, subject, groups, now],
        )
        .await
        .map(drop)
    }
}
