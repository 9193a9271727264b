//! An older state of the vault, put back in whole or in part, is noticed.

use access::ops;
use domain::{CredentialId, TenantId};
use store::{AuditFilter, VaultOptions};
use testkit::logs;
use uuid::Uuid;

use crate::rotation::next_key;
use crate::vault::{add, open, open_at};
use crate::world::{World, each_engine};

/// Values of columns as they were once, to be put back.
pub(crate) struct Kept(Vec<String>);

impl Kept {
    /// Keeps `columns` of the rows of `table` where `rows` holds.
    pub(crate) async fn of(world: &World, tenant: TenantId, table: &str, columns: &[(&str, bool)], rows: &str) -> Self {
        let mut updates = Vec::new();
        for (column, is_bytes) in columns {
            let is_postgres = world.postgres.is_some();
            let read = match (is_bytes, is_postgres) {
                (false, _) => format!("CAST({column} AS TEXT)"),
                (true, true) => format!("encode({column}, 'hex')"),
                (true, false) => format!("hex({column})"),
            };
            let text = world.raw(tenant, &format!("SELECT {read} FROM {table} WHERE {rows}")).await.unwrap();
            let text = text.lines().last().unwrap().trim().to_owned();
            let value = match (is_bytes, is_postgres) {
                (false, _) => text,
                (true, true) => format!("decode('{text}', 'hex')"),
                (true, false) => format!("x'{text}'"),
            };
            updates.push(format!("UPDATE {table} SET {column} = {value} WHERE {rows}"));
        }
        Self(updates)
    }

    pub(crate) async fn put_back(&self, world: &World, tenant: TenantId) {
        for update in &self.0 {
            world.raw(tenant, update).await.unwrap();
        }
    }
}

/// The three rows that know of one credential: its own, its entry and the head.
async fn keep(world: &World, tenant: TenantId, id: CredentialId) -> [Kept; 3] {
    let in_tenant = format!("tenant_id = {}", world.literal(tenant.as_uuid().as_u128()));
    let own = format!("id = {}", world.literal(id.as_uuid().as_u128()));
    let entry = format!("{in_tenant} AND row_id = '{}'", id.as_uuid());
    [
        Kept::of(world, tenant, "credential", &[("sealed", true), ("key_version", false)], &own).await,
        Kept::of(
            world,
            tenant,
            "vault_entry",
            &[("row_version", false), ("key_version", false), ("tag", true)],
            &entry,
        )
        .await,
        Kept::of(world, tenant, "vault_head", &[("counter", false), ("sum", true), ("tag", true)], &in_tenant).await,
    ]
}

/// Seals every value of the tenant anew, but leaves the old key, as it is while a rotation runs.
async fn renew(world: &World, tenant: TenantId) {
    let store = &world.store;
    next_key(store, world, tenant).await.unwrap();
    let step = store.write(world.permit::<ops::DataKeyReseal>(tenant)).await.unwrap().data_key_reseal().await.unwrap();
    assert!(step.values > 0 && step.dropped == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_55_an_older_version_of_a_row_is_refused_and_the_refusal_recorded() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let id = add(world, a, "first", &logs::plant("rolled-back")).await;
        let [row, entry, head] = keep(world, a, id).await;
        renew(world, a).await;

        row.put_back(world, a).await;
        let error = open(world, a, id).await.unwrap_err();
        assert!(format!("{error:?}").contains("is the newest"), "{error:?}");
        let filter = AuditFilter { outcome: Some("fail".to_owned()), limit: 10, ..AuditFilter::default() };
        let mut read = world.store.read(world.permit::<ops::AuditList>(a)).await.unwrap();
        let alarms = read.audit_list(&filter).await.unwrap().items;
        drop(read);
        assert_eq!(alarms[0].action, "credential_use");

        // With its entry it is the sum that does not fit, at the next check and at the next start.
        entry.put_back(world, a).await;
        let error = world.store.vault_check().await.unwrap_err();
        assert!(error.to_string().contains("its entries are not those"), "{error}");
        assert!(world.server([7; 32], VaultOptions::default()).await.is_err());

        // With the head as well, it is the server's own memory, and the file after it.
        head.put_back(world, a).await;
        let error = open(world, a, id).await.unwrap_err();
        assert!(format!("{error:?}").contains("restored from an older copy"), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_56_a_flipped_bit_anywhere_in_a_sealed_value_is_refused() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let id = add(world, a, "first", "value").await;
        let is_postgres = world.postgres.is_some();
        let row = format!("id = {}", world.literal(id.as_uuid().as_u128()));
        let column = if is_postgres { "encode(sealed, 'hex')" } else { "hex(sealed)" };
        let hex = world.raw(a, &format!("SELECT {column} FROM credential WHERE {row}")).await.unwrap();
        let hex = hex.lines().last().unwrap().trim().to_lowercase();
        let put = async |hex: &str| {
            let value = if is_postgres { format!("decode('{hex}', 'hex')") } else { format!("x'{hex}'") };
            world.raw(a, &format!("UPDATE credential SET sealed = {value} WHERE {row}")).await.unwrap();
        };
        // Format, key version, row version, nonce, ciphertext and tag; psql takes its time, so there not every byte.
        for at in (0..hex.len()).step_by(if is_postgres { 14 } else { 2 }) {
            let byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap() ^ (1 << (at / 2 % 8));
            put(&format!("{}{byte:02x}{}", &hex[..at], &hex[at + 2..])).await;
            let error = open(world, a, id).await.unwrap_err();
            assert_eq!(error.code(), "internal", "byte {}: {error}", at / 2);
        }
        for cut in [0, 2, 34, hex.len() - 2] {
            put(&hex[..cut]).await;
            assert!(open(world, a, id).await.is_err(), "cut to {} bytes", cut / 2);
        }
        put(&hex).await;
        assert!(open(world, a, id).await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_55_a_database_that_is_older_than_the_data_directory_stops_the_start_until_it_is_accepted() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let id = add(world, a, "first", "value").await;
        let older = keep(world, a, id).await;
        renew(world, a).await;
        for kept in &older {
            kept.put_back(world, a).await;
        }
        let options = |accept_rollback| VaultOptions {
            witness: Some(world.witness("vault-0.witness")),
            accept_rollback,
            ..VaultOptions::default()
        };
        let error = world.server([7; 32], options(false)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("older") && text.contains("--accept-vault-rollback"), "{text}");

        let accepted = world.server([7; 32], options(true)).await.unwrap();
        assert_eq!(open_at(&accepted, world, a, id).await.unwrap().expose(), b"value");
        let filter =
            AuditFilter { action: Some("vault_rollback_accept".to_owned()), limit: 10, ..AuditFilter::default() };
        let records = accepted.platform_audit_list(world.platform(), &filter).await.unwrap().items;
        assert_eq!(records.len(), 1);
        assert!(records[0].detail["accepted"].as_str().unwrap().contains("restored from an older copy"));
        // From here on the accepted state is the newest.
        assert!(world.server([7; 32], options(false)).await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_or_a_head_that_is_gone_is_an_older_database_too() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(world, a, "first", "value").await;
        let in_tenant = format!("tenant_id = {}", world.literal(a.as_uuid().as_u128()));
        world.raw(a, &format!("DELETE FROM vault_head WHERE {in_tenant}")).await.unwrap();
        let options = VaultOptions { witness: Some(world.witness("vault-0.witness")), ..VaultOptions::default() };
        let error = world.server([7; 32], options).await.unwrap_err();
        assert!(error.to_string().contains("has no head"), "{error}");
        let name = "second".parse().unwrap();
        let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
        let error = unit.credential_create("aws", &name, "k", &domain::Secret::new("v")).await.unwrap_err();
        assert_eq!(error.code(), "internal", "the running server does not begin anew either");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_before_it_told_the_witness_starts_again_without_an_alarm() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let path = world.witness("vault-0.witness");
        let before = std::fs::read(&path).unwrap();
        let id = add(world, a, "first", "value").await;
        assert_ne!(std::fs::read(&path).unwrap(), before, "the witness follows every change");
        // What a kill between the commit and the file leaves behind.
        std::fs::write(&path, &before).unwrap();
        let options = || VaultOptions { witness: Some(path.clone()), ..VaultOptions::default() };
        let next = world.server([7; 32], options()).await.unwrap();
        assert!(open_at(&next, world, a, id).await.is_ok());
        assert_ne!(std::fs::read(&path).unwrap(), before, "the start has caught up");
        // A data directory that is new, or lost its file, is no alarm either.
        std::fs::remove_file(&path).unwrap();
        assert!(world.server([7; 32], options()).await.is_ok());
        assert!(path.exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_on_an_older_snapshot_is_no_rollback() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        for n in 0..6 {
            let name = format!("c{n}");
            let (id, checked) = tokio::join!(add(world, a, &name, "value"), world.store.vault_check());
            checked.unwrap();
            assert!(open(world, a, id).await.is_ok());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_deleted_without_the_vault_is_forgotten_by_the_next_rotation() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let id = add(world, a, "first", "value").await;
        world
            .raw(a, &format!("DELETE FROM credential WHERE id = {}", world.literal(id.as_uuid().as_u128())))
            .await
            .unwrap();
        world.store.vault_check().await.unwrap();
        let store = &world.store;
        next_key(store, world, a).await.unwrap();
        while !store
            .write(world.permit::<ops::DataKeyReseal>(a))
            .await
            .unwrap()
            .data_key_reseal()
            .await
            .unwrap()
            .is_done()
        {}
        let left = world.rows_of(a, "vault_entry").await;
        assert!(left.iter().all(|row| !row.contains(&id.as_uuid().to_string())), "{left:?}");
        world.store.vault_check().await.unwrap();
    })
    .await;
}

/// A place as versions before migration 6 wrote it.
fn old_place(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"cairn/sealed/v1".to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_versions_sealed_is_taken_in_once_and_refused_later() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let id = add(world, a, "first", "value").await;
        let platform = TenantId::from_uuid(Uuid::nil());
        // Back to what migration 1 knew: no entries, no heads, values sealed in the older form.
        let key = crypto::aead::AeadKey::from_bytes([9; 32]);
        let seal = |master: &crypto::aead::AeadKey, place: &[u8], value: &[u8]| {
            let sealed = crypto::aead::seal(master, place, value, &*world.rng).unwrap();
            let hex = sealed.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            if world.postgres.is_some() { format!("decode('{hex}', 'hex')") } else { format!("x'{hex}'") }
        };
        let (tenant, version) = (a.as_uuid(), 1_i64.to_be_bytes());
        let master = crypto::aead::AeadKey::from_bytes([7; 32]);
        let data_key = seal(&master, &old_place(&[b"data_key", tenant.as_bytes(), b"sealed", &version]), key.expose());
        let own = old_place(&[b"credential", tenant.as_bytes(), id.as_uuid().as_bytes(), b"sealed", &version]);
        let credential = seal(&key, &own, b"older value");
        let secret = seal(&master, &old_place(&[b"installation", b"jwt_secret"]), b"older jwt secret");
        for (scope, sql) in [
            (a, format!("UPDATE data_key SET sealed = {data_key}")),
            (a, format!("UPDATE credential SET sealed = {credential}")),
            (a, "DELETE FROM vault_entry".to_owned()),
            (a, "DELETE FROM vault_head".to_owned()),
            (platform, "DELETE FROM vault_entry".to_owned()),
            (platform, "DELETE FROM vault_head".to_owned()),
            (platform, "DELETE FROM platform_key".to_owned()),
            (platform, "DELETE FROM installation WHERE name NOT IN ('master_check', 'vault_mac')".to_owned()),
            (platform, format!("INSERT INTO installation (name, value) VALUES ('jwt_secret', {secret})")),
        ] {
            world.raw(scope, &sql).await.unwrap();
        }
        let newer = world.server([7; 32], VaultOptions::default()).await.unwrap();
        assert_eq!(open_at(&newer, world, a, id).await.unwrap().expose(), b"older value");
        let jwt = newer.installation_secret("jwt_secret", || panic!("it is there")).await.unwrap();
        assert_eq!(jwt.expose(), b"older jwt secret");
        // The older form knows no versions: nothing that is put back in it is taken in again.
        world.raw(a, &format!("UPDATE credential SET sealed = {credential}")).await.unwrap();
        assert!(open_at(&newer, world, a, id).await.is_err());
        assert!(world.server([7; 32], VaultOptions::default()).await.is_err());
    })
    .await;
}
