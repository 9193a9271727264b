//! Rotation of keys: nothing is ever unreadable, wherever it is cut off.

use std::fmt::Write as _;
use std::time::Duration;

use access::ops;
use crypto::aead::AeadKey;
use domain::{CredentialId, Secret, TenantId};
use store::{Resealed, RotationOf, Store, VaultOptions};

use crate::vault::{add, open, open_at};
use crate::world::{World, each_engine};

const TABLES: [&str; 9] = [
    "audit_head",
    "audit_record",
    "credential",
    "data_key",
    "factor",
    "installation",
    "platform_key",
    "vault_entry",
    "vault_head",
];

/// Lets the `n`th row that is written to the vault's tables or the audit log fail, as a server that is killed there would.
pub(crate) struct Fuse<'a> {
    world: &'a World,
}

impl<'a> Fuse<'a> {
    pub(crate) async fn install(world: &'a World) -> Self {
        let mut sql =
            "CREATE TABLE test_fuse (rows_left BIGINT NOT NULL); INSERT INTO test_fuse VALUES (0);".to_owned();
        if let Some(database) = &world.postgres {
            sql += "GRANT SELECT, UPDATE ON test_fuse TO PUBLIC; \
                CREATE FUNCTION test_blow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                UPDATE test_fuse SET rows_left = rows_left - 1; \
                IF (SELECT rows_left FROM test_fuse) = 0 THEN RAISE EXCEPTION 'killed'; END IF; RETURN NULL; END $$;";
            for table in TABLES {
                write!(
                    sql,
                    "CREATE TRIGGER test_fuse_{table} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION test_blow();"
                )
                .unwrap();
            }
            database.owner_sql(&sql).unwrap();
        } else {
            for table in TABLES {
                for event in ["INSERT", "UPDATE", "DELETE"] {
                    write!(
                        sql,
                        "CREATE TRIGGER test_fuse_{table}_{event} AFTER {event} ON {table} BEGIN \
                         UPDATE test_fuse SET rows_left = rows_left - 1; \
                         SELECT RAISE(ABORT, 'killed') FROM test_fuse WHERE rows_left = 0; END;"
                    )
                    .unwrap();
                }
            }
            world.raw(TenantId::from_uuid(uuid::Uuid::nil()), &sql).await.unwrap();
        }
        Self { world }
    }

    pub(crate) async fn set(&self, rows: i64) {
        let sql = format!("UPDATE test_fuse SET rows_left = {rows}");
        self.world.raw(TenantId::from_uuid(uuid::Uuid::nil()), &sql).await.unwrap();
    }
}

/// Makes the tenant's next data key.
pub(crate) async fn next_key(store: &Store, world: &World, tenant: TenantId) -> domain::Result<u64> {
    store
        .write_platform(world.platform::<ops::DataKeyRotate>())
        .await?
        .data_key_rotate(RotationOf::Tenant(tenant))
        .await
}

async fn rotate(store: &Store, world: &World, tenant: TenantId) -> domain::Result<()> {
    next_key(store, world, tenant).await?;
    reseal(store, world, tenant).await.map(drop)
}

async fn reseal(store: &Store, world: &World, tenant: TenantId) -> domain::Result<Resealed> {
    let mut all = Resealed::default();
    loop {
        let step = store.write(world.permit::<ops::DataKeyReseal>(tenant)).await?.data_key_reseal().await?;
        if step.is_done() {
            return Ok(all);
        }
        all = Resealed { values: all.values + step.values, dropped: all.dropped + step.dropped };
    }
}

async fn versions(world: &World, tenant: TenantId) -> Vec<(i64, i64)> {
    let all = world.store.data_key_list(world.platform()).await.unwrap();
    let of = all.into_iter().find(|keys| keys.tenant == Some(tenant)).unwrap();
    of.keys.iter().map(|key| (key.version, key.values)).collect()
}

async fn secrets(world: &World, tenant: TenantId, count: usize) -> Vec<(CredentialId, String)> {
    let mut made = Vec::new();
    for n in 0..count {
        let value = format!("secret number {n}");
        made.push((add(world, tenant, &format!("c{n}"), &value).await, value));
    }
    made
}

async fn all_open(store: &Store, world: &World, tenant: TenantId, secrets: &[(CredentialId, String)]) {
    for (id, value) in secrets {
        assert_eq!(open_at(store, world, tenant, *id).await.unwrap().expose_str(), Some(value.as_str()));
    }
}

/// Makes the next data key of the platform and of every tenant.
pub(crate) async fn next_keys(store: &Store, world: &World) -> domain::Result<u64> {
    store.write_platform(world.platform::<ops::DataKeyRotate>()).await?.data_key_rotate(RotationOf::All).await
}

/// Seals every value of the platform anew.
pub(crate) async fn reseal_platform(store: &Store, world: &World) -> domain::Result<Resealed> {
    let mut all = Resealed::default();
    loop {
        let unit = store.write_platform(world.platform::<ops::PlatformKeyReseal>()).await?;
        let step = unit.platform_key_reseal().await?;
        if step.is_done() {
            return Ok(all);
        }
        all = Resealed { values: all.values + step.values, dropped: all.dropped + step.dropped };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_seals_everything_anew_and_drops_the_old_key_only_then() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let (of_a, of_b) = (secrets(world, a, 70).await, secrets(world, b, 1).await);
        assert_eq!(next_key(&world.store, world, a).await.unwrap(), 1);
        assert_eq!(versions(world, a).await, [(1, 70), (2, 0)]);
        all_open(&world.store, world, a, &of_a).await;
        // New values take the new key at once; the old ones follow in small transactions.
        let late = secrets_named(world, a, "late").await;
        let step = world.store.write(world.permit::<ops::DataKeyReseal>(a)).await.unwrap().data_key_reseal().await;
        assert_eq!(step.unwrap(), Resealed { values: 64, dropped: 0 });
        assert_eq!(versions(world, a).await, [(1, 6), (2, 65)]);
        all_open(&world.store, world, a, &of_a).await;
        assert_eq!(reseal(&world.store, world, a).await.unwrap(), Resealed { values: 6, dropped: 1 });
        assert_eq!(versions(world, a).await, [(2, 71)]);
        assert_eq!(versions(world, b).await, [(1, 1)], "another tenant's keys stay as they are");
        all_open(&world.store, world, a, &of_a).await;
        all_open(&world.store, world, a, &late).await;
        all_open(&world.store, world, b, &of_b).await;
        world.store.vault_check().await.unwrap();
    })
    .await;
}

async fn secrets_named(world: &World, tenant: TenantId, name: &str) -> Vec<(CredentialId, String)> {
    vec![(add(world, tenant, name, "a later secret").await, "a later secret".to_owned())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_rotation_that_is_killed_at_any_write_loses_nothing_and_goes_on() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let secrets = secrets(world, a, 3).await;
        let fuse = Fuse::install(world).await;
        let mut killed = 0;
        for row in 1.. {
            fuse.set(row).await;
            let ended = rotate(&world.store, world, a).await;
            fuse.set(-1).await;
            if ended.is_ok() {
                break;
            }
            killed += 1;
            all_open(&world.store, world, a, &secrets).await;
            // Whichever server comes next takes it up.
            let next = if row % 8 == 1 { world.another_server().await } else { world.store.clone() };
            reseal(&next, world, a).await.unwrap();
            all_open(&next, world, a, &secrets).await;
            assert_eq!(versions(world, a).await.len(), 1, "row {row}: one key is left");
        }
        assert!(killed > 15, "only {killed} writes were killed");
        all_open(&world.store, world, a, &secrets).await;
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_two_rotations_at_once_and_one_while_values_are_written_leave_everything_readable() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let secrets = secrets(world, a, 30).await;
        let other = world.another_server().await;
        let patient = async |store: &Store| {
            // On PostgreSQL the two may wait for each other's rows, and one is told to try again.
            for _ in 0..50 {
                match rotate(store, world, a).await {
                    Ok(()) => return,
                    Err(error) => assert!(["unavailable", "conflict"].contains(&error.code()), "{error:?}"),
                }
            }
            panic!("no rotation came to its end");
        };
        let writing = async {
            let mut late = Vec::new();
            for n in 0..10 {
                late.extend(secrets_named(world, a, &format!("late{n}")).await);
            }
            late
        };
        let ((), (), late) =
            tokio::join!(Box::pin(patient(&world.store)), Box::pin(patient(&other)), Box::pin(writing));
        reseal(&world.store, world, a).await.unwrap();
        all_open(&world.store, world, a, &secrets).await;
        all_open(&other, world, a, &late).await;
        assert_eq!(versions(world, a).await.len(), 1);
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_key_that_is_still_needed_cannot_be_dropped_and_one_that_was_is_named() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let secrets = secrets(world, a, 1).await;
        next_key(&world.store, world, a).await.unwrap();
        let refused = world.raw(a, "DELETE FROM data_key WHERE version = 1").await.unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("foreign key"), "{refused}");
        all_open(&world.store, world, a, &secrets).await;
        // The platform's keys stand in no foreign key: who deletes one by hand is told what is missing.
        world.store.installation_id().await.unwrap();
        world.raw(a, "DELETE FROM platform_key").await.unwrap();
        let error = world.store.installation_id().await.unwrap_err();
        assert!(format!("{error:?}").contains("version 1 of the data key"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_key_that_has_sealed_enough_is_followed_by_the_next_one_by_itself() {
    each_engine(async |world| {
        let vault = VaultOptions { seals_max: Some(3), ..VaultOptions::default() };
        let few = world.server([7; 32], vault).await.unwrap();
        let a = world.tenant("a").await;
        let mut made = Vec::new();
        for n in 0..8 {
            let unit = few.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
            let name = format!("c{n}").parse().unwrap();
            made.push((unit.credential_create("aws", &name, "k", &Secret::new("v")).await.unwrap().id, "v".to_owned()));
        }
        let versions = versions(world, a).await;
        assert_eq!(versions, [(1, 3), (2, 4), (3, 1)]);
        all_open(&few, world, a, &made).await;
        reseal(&world.store, world, a).await.unwrap();
        all_open(&world.store, world, a, &made).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_master_key_takes_over_completely_or_not_at_all() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let secrets = secrets(world, a, 2).await;
        let fuse = Fuse::install(world).await;
        let mut killed = 0;
        for row in 1.. {
            fuse.set(row).await;
            let unit = world.store.write_platform(world.platform::<ops::MasterKeyRotate>()).await.unwrap();
            let ended = unit.master_key_rotate(AeadKey::from_bytes([8; 32])).await;
            fuse.set(-1).await;
            all_open(&world.store, world, a, &secrets).await;
            let (old, new) = (world.server_with_master([7; 32]).await, world.server_with_master([8; 32]).await);
            if ended.is_ok() {
                assert!(old.is_err() && new.is_ok());
                all_open(&new.unwrap(), world, a, &secrets).await;
                break;
            }
            assert!(old.is_ok() && new.is_err(), "row {row}");
            killed += 1;
        }
        assert!(killed > 4, "only {killed} writes were killed");
        // The server that rotated goes on: it makes keys under the new master key.
        let b = world.tenant("b").await;
        let id = add(world, b, "of b", "value").await;
        assert!(open(world, b, id).await.is_ok());
        let after = world.server_with_master([8; 32]).await.unwrap();
        assert!(open_at(&after, world, b, id).await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_missed_the_new_master_key_seals_nothing_under_the_old_one() {
    each_engine(async |world| {
        let late = world.another_server().await;
        let unit = world.store.write_platform(world.platform::<ops::MasterKeyRotate>()).await.unwrap();
        unit.master_key_rotate(AeadKey::from_bytes([8; 32])).await.unwrap();
        let unit = late.write_platform(world.platform::<ops::TenantCreate>()).await.unwrap();
        let error = unit.tenant_create(&"c".parse().unwrap(), &"c".parse().unwrap(), None).await.unwrap_err();
        assert!(error.to_string().contains("replaced by another server"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_signing_key_leaves_its_public_half_and_nothing_else() {
    each_engine(async |world| {
        let first = world.store.signing_key("evidence").await.unwrap();
        assert_eq!(world.store.signing_key("evidence").await.unwrap().public(), first.public());
        let unit = world.store.write_platform(world.platform::<ops::SigningKeyRotate>()).await.unwrap();
        let second = unit.signing_key_rotate("evidence").await.unwrap();
        assert_ne!(second, first.public());
        assert_eq!(world.another_server().await.signing_key("evidence").await.unwrap().public(), second);
        let keys = world.store.signing_keys("evidence").await.unwrap();
        let shown: Vec<_> = keys.iter().map(|key| (key.version, key.public, key.retired_at.is_some())).collect();
        assert_eq!(shown, [(1, first.public(), true), (2, second, false)]);
        let platform = TenantId::from_uuid(uuid::Uuid::nil());
        let left = world.raw(platform, "SELECT role FROM signing_key WHERE sealed IS NOT NULL").await.unwrap();
        assert_eq!(left.lines().filter(|line| *line == "evidence").count(), 1);
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_tokens_is_known_before_it_signs_and_for_as_long_as_what_it_signed_is_good() {
    const MINUTE: Duration = Duration::from_mins(1);
    each_engine(async |world| {
        let kids = |keys: &store::TokenKeys| keys.published.iter().map(|key| key.kid().to_owned()).collect::<Vec<_>>();
        let rotate = async |withdraw| {
            let unit = world.store.write_platform(world.platform::<ops::SigningKeyRotate>()).await.unwrap();
            unit.token_key_rotate(withdraw).await
        };
        let tend = async || {
            let unit = world.store.write_platform(world.platform::<ops::SigningKeyRotate>()).await.unwrap();
            unit.token_key_tend().await.unwrap();
        };
        let sealed = async || {
            let sql = "SELECT version FROM signing_key WHERE role = 'tokens' AND sealed IS NOT NULL ORDER BY version";
            world.raw(TenantId::from_uuid(uuid::Uuid::nil()), sql).await.unwrap().lines().count()
        };
        assert_eq!(rotate(false).await.unwrap_err().code(), "conflict");
        let first = world.store.token_keys().await.unwrap();
        let other = world.another_server().await;
        assert_eq!(other.token_keys().await.unwrap().signing.public(), first.signing.public());
        assert_eq!(kids(&first), [first.signing.public().kid()], "the first one signs at once");

        // Published at once, on every server; it signs ten minutes later.
        let second = rotate(false).await.unwrap();
        assert_eq!(rotate(false).await.unwrap_err().code(), "conflict");
        let both = other.token_keys().await.unwrap();
        assert_eq!(both.signing.public(), first.signing.public());
        assert_eq!(kids(&both), [first.signing.public().kid(), second.kid()]);
        assert!(!world.store.token_key_is_due().await.unwrap());
        world.clock.advance(10 * MINUTE);
        assert_eq!(other.token_keys().await.unwrap().signing.public(), &second);
        assert!(world.store.token_key_is_due().await.unwrap());
        assert_eq!(sealed().await, 2);
        tend().await;
        tend().await;
        assert!(!world.store.token_key_is_due().await.unwrap());
        assert_eq!(sealed().await, 1);
        assert_eq!(kids(&world.store.token_keys().await.unwrap()).len(), 2, "what it signed is still good");
        world.clock.advance(10 * MINUTE);
        assert_eq!(kids(&world.store.token_keys().await.unwrap()), [second.kid()]);

        // A key that may be somebody else's is gone at once.
        let third = rotate(true).await.unwrap();
        let keys = other.token_keys().await.unwrap();
        assert_eq!((keys.signing.public(), kids(&keys)), (&third, vec![third.kid().to_owned()]));
        assert_eq!(sealed().await, 1);

        // An old one is followed by itself.
        world.clock.advance(90 * 24 * 60 * MINUTE);
        assert!(world.store.token_key_is_due().await.unwrap());
        tend().await;
        assert_eq!(kids(&world.store.token_keys().await.unwrap()).len(), 2);
        assert!(!world.store.token_key_is_due().await.unwrap());
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_platform_key_is_not_dropped_while_something_is_being_sealed_with_it() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    each_engine(async |world| {
        let other = world.another_server().await;
        let rotating = async {
            for _ in 0..12 {
                let unit = other.write_platform(world.platform::<ops::DataKeyRotate>()).await.unwrap();
                unit.data_key_rotate(RotationOf::All).await.unwrap();
                loop {
                    let unit = other.write_platform(world.platform::<ops::PlatformKeyReseal>()).await.unwrap();
                    match unit.platform_key_reseal().await {
                        Ok(step) if step.is_done() => break,
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.code(), "unavailable", "{error:?}"),
                    }
                }
            }
        };
        let sealing = async {
            for name in NAMES {
                let make = || Ok(Secret::new(name.as_bytes()));
                world.store.installation_secret(name, make).await.unwrap();
            }
        };
        tokio::join!(Box::pin(rotating), Box::pin(sealing));
        for name in NAMES {
            let kept = world.store.installation_secret(name, || panic!("it is there")).await.unwrap();
            assert_eq!(kept.expose(), name.as_bytes());
        }
        world.store.vault_check().await.unwrap();
    })
    .await;
}
