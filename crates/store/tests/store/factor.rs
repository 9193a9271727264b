//! Second factors in the vault: an app's secret outlives rotations, opens for its own user in its newest version only, and what older versions
//! sealed is taken in once.

use std::time::Duration;

use access::{Actor, Freshness, Grants, OpCtx, OwnOperation, OwnPermit, own};
use crypto::aead::{self, AeadKey};
use crypto::totp;
use domain::{AuthMethod, FactorId, RequestId, Secret, TenantId, UserId};
use store::{Attempt, FactorProof, SessionStart, Store, UserRow, VaultOptions};
use testkit::logs;
use uuid::Uuid;

use crate::api_key::user;
use crate::rollback::Kept;
use crate::rotation::{Fuse, next_keys, reseal_platform};
use crate::world::{World, each_engine};

fn platform() -> TenantId {
    TenantId::from_uuid(Uuid::nil())
}

pub(crate) fn start(world: &World) -> SessionStart {
    SessionStart {
        method: AuthMethod::Password,
        second_factor: false,
        request: RequestId::generate(&*world.clock, &*world.rng),
        ip: None,
        agent: None,
        lifetime_ms: 3_600_000,
        idle_ms: 3_600_000,
    }
}

pub(crate) async fn row(world: &World, id: UserId) -> UserRow {
    world.store.user_show(world.platform(), id).await.unwrap()
}

/// A user with an authenticator app and recovery codes.
struct Owner {
    user: UserId,
    factor: FactorId,
    secret: Secret,
    recovery: Vec<String>,
}

async fn owner(world: &World, email: &str) -> Owner {
    let user = user(world, email).await;
    let session = world.store.session_create(&row(world, user).await, &start(world)).await.unwrap();
    let actor = Actor::User { id: user, email: email.parse().unwrap(), session: session.id };
    let request = RequestId::generate(&*world.clock, &*world.rng);
    let (clock, rng) = (world.clock.clone(), world.rng.clone());
    let ctx = OpCtx::user(actor, Grants::default(), request, None, clock, rng).with_freshness(Freshness::Fresh);
    fn permit<O: OwnOperation>(ctx: &OpCtx) -> OwnPermit<O> {
        ctx.authorize_own().unwrap()
    }
    let name = "phone".parse().unwrap();
    let (factor, secret) = world.store.totp_create(permit::<own::TotpCreate>(&ctx), &name).await.unwrap();
    logs::plant_as("totp secret", &totp::base32(secret.expose()));
    let code = code(world, &secret);
    let recovery = world.store.totp_confirm(permit::<own::TotpConfirm>(&ctx), factor, &code).await.unwrap();
    Owner { user, factor, secret, recovery }
}

/// The app's code, half a minute later than any that was used.
fn code(world: &World, secret: &Secret) -> String {
    world.clock.advance(Duration::from_secs(30));
    totp::code(secret.expose(), u64::try_from(world.clock_now().as_seconds() / 30).unwrap())
}

/// Whether a proof ends a sign-in.
async fn proves(store: &Store, world: &World, user: UserId, proof: FactorProof) -> domain::Result<bool> {
    let pending = store.sign_in_begin(&row(world, user).await, &start(world)).await.unwrap().unwrap();
    let done = store.sign_in_finish(pending.id, &proof, start(world)).await?;
    Ok(matches!(done, Attempt::Proved(_)))
}

async fn app_proves(store: &Store, world: &World, owner: &Owner) -> bool {
    let code = code(world, &owner.secret);
    proves(store, world, owner.user, FactorProof::Totp(code)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_rotation_that_is_killed_at_any_write_loses_no_second_factor() {
    each_engine(async |world| {
        let owner = owner(world, "a@example.org").await;
        let hex = if world.postgres.is_some() { "encode(sealed, 'hex')" } else { "hex(sealed)" };
        let sealed = async || world.raw(platform(), &format!("SELECT {hex} FROM factor")).await.unwrap();
        let before = sealed().await;
        let fuse = Fuse::install(world).await;
        let mut killed = 0;
        for row in 1.. {
            fuse.set(row).await;
            let ended = match next_keys(&world.store, world).await {
                Ok(_) => reseal_platform(&world.store, world).await.map(drop),
                Err(error) => Err(error),
            };
            fuse.set(-1).await;
            assert!(app_proves(&world.store, world, &owner).await, "row {row}");
            if ended.is_ok() {
                break;
            }
            killed += 1;
            let next = if row % 8 == 1 { world.another_server().await } else { world.store.clone() };
            reseal_platform(&next, world).await.unwrap();
            assert!(app_proves(&next, world, &owner).await, "row {row}");
        }
        assert!(killed > 15, "only {killed} writes were killed");
        assert_ne!(sealed().await, before, "it is sealed anew");
        let keys = world.store.data_key_list(world.platform()).await.unwrap();
        assert_eq!(keys[0].keys.len(), 1, "the key that sealed it first is gone");
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_55_an_older_secret_of_a_second_factor_and_one_of_another_user_prove_nothing() {
    each_engine(async |world| {
        let (a, b) = (owner(world, "a@example.org").await, owner(world, "b@example.org").await);
        let literal = |id: Uuid| world.literal(id.as_u128());
        let of_a = format!("id = {}", literal(a.factor.as_uuid()));
        let older = Kept::of(world, platform(), "factor", &[("sealed", true)], &of_a).await;
        next_keys(&world.store, world).await.unwrap();
        reseal_platform(&world.store, world).await.unwrap();
        assert!(app_proves(&world.store, world, &a).await);

        let newest = Kept::of(world, platform(), "factor", &[("sealed", true)], &of_a).await;
        older.put_back(world, platform()).await;
        let guess = FactorProof::Totp(code(world, &a.secret));
        let error = proves(&world.store, world, a.user, guess).await.unwrap_err();
        assert!(format!("{error:?}").contains("is the newest"), "{error:?}");
        assert!(world.store.vault_check().await.is_err());
        newest.put_back(world, platform()).await;
        world.store.vault_check().await.unwrap();

        // The whole row under another user: it opens in its row, but is theirs no more.
        let (from, to) = (literal(a.user.as_uuid()), literal(b.user.as_uuid()));
        let moved = format!("DELETE FROM factor WHERE user_id = {to}; UPDATE factor SET user_id = {to} WHERE {of_a}");
        world.raw(platform(), &moved).await.unwrap();
        let guess = FactorProof::Totp(code(world, &a.secret));
        let error = proves(&world.store, world, b.user, guess).await.unwrap_err();
        assert!(format!("{error:?}").contains("another user"), "{error:?}");
        world.raw(platform(), &format!("UPDATE factor SET user_id = {from} WHERE {of_a}")).await.unwrap();
        assert!(app_proves(&world.store, world, &a).await);
    })
    .await;
}

/// What `place` of the store makes of these parts.
fn place(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"cairn/sealed/v1".to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn bytes(world: &World, bytes: &[u8]) -> String {
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    if world.postgres.is_some() { format!("decode('{hex}', 'hex')") } else { format!("x'{hex}'") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sealed_before_migration_15_is_taken_in_once_also_where_the_first_starts_are_killed() {
    each_engine(async |world| {
        let user = user(world, "a@example.org").await;
        let factor = FactorId::generate(&*world.clock, &*world.rng);
        let (user_id, factor_id) = (user.as_uuid(), factor.as_uuid());
        let secret = totp::new_secret(&*world.rng);
        // As it was: a key of the installation seals, and makes the key of MACs.
        let key = [9u8; 32];
        world.store.installation_secret("factor_key", || Ok(Secret::new(key.as_slice()))).await.unwrap();
        let aad = place(&[b"factor", user_id.as_bytes(), factor_id.as_bytes(), b"sealed"]);
        let sealed = aead::seal(&AeadKey::from_bytes(key), &aad, secret.expose(), &*world.rng).unwrap();
        let mac_key = crypto::hmac_sha256(&key, b"cairn/recovery-code/v1");
        let mac = crypto::hmac_sha256(&mac_key, &place(&[user_id.as_bytes(), b"0123456789abcdef"]));
        let old_form = bytes(world, &sealed);
        let (user_literal, literal) = (world.literal(user_id.as_u128()), world.literal(factor_id.as_u128()));
        let rows = format!(
            "INSERT INTO factor (id, user_id, kind, name, created_at, confirmed_at, sealed) \
               VALUES ({literal}, {user_literal}, 'totp', 'phone', 1, 1, {old_form}); \
             INSERT INTO recovery_code (user_id, mac) VALUES ({user_literal}, {})",
            bytes(world, &mac)
        );
        world.raw(platform(), &rows).await.unwrap();
        let of_key = "name = 'factor_key'";
        let key_row = Kept::of(world, platform(), "installation", &[("value", true)], of_key).await;

        let fuse = Fuse::install(world).await;
        let mut killed = 0;
        let store = loop {
            fuse.set(killed + 1).await;
            let opened = world.server_with_master([7; 32]).await;
            fuse.set(-1).await;
            match opened {
                Ok(store) => break store,
                Err(_) => killed += 1,
            }
        };
        assert!(killed > 8, "only {killed} writes were killed");
        let owner = Owner { user, factor, secret, recovery: vec!["0123-4567-89ab-cdef".to_owned()] };
        assert!(app_proves(&store, world, &owner).await);
        let recovery = || FactorProof::Recovery(owner.recovery[0].clone());
        assert!(proves(&store, world, user, recovery()).await.unwrap(), "codes on paper go on");
        assert!(!proves(&store, world, user, recovery()).await.unwrap(), "once");
        store.vault_check().await.unwrap();
        assert!(world.another_server().await.vault_check().await.is_ok());

        // The older form, and with it the key that opened it, put back by somebody else.
        let taken_in = Kept::of(world, platform(), "factor", &[("sealed", true)], &format!("id = {literal}")).await;
        world.raw(platform(), &format!("UPDATE factor SET sealed = {old_form}")).await.unwrap();
        assert!(proves(&store, world, owner.user, FactorProof::Totp(code(world, &owner.secret))).await.is_err());
        assert!(world.server([7; 32], VaultOptions::default()).await.is_err());
        let empty = bytes(world, &[]);
        world
            .raw(platform(), &format!("INSERT INTO installation (name, value) VALUES ('factor_key', {empty})"))
            .await
            .unwrap();
        key_row.put_back(world, platform()).await;
        let error = world.server([7; 32], VaultOptions::default()).await.unwrap_err();
        assert!(format!("{error:?}").contains("not written by this server"), "{error:?}");
        world.raw(platform(), &format!("DELETE FROM installation WHERE {of_key}")).await.unwrap();
        taken_in.put_back(world, platform()).await;
        assert!(world.server([7; 32], VaultOptions::default()).await.is_ok());
    })
    .await;
}
