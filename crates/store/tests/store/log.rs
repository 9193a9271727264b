//! The signed tree over the audit log: proofs hold, nothing that was signed is taken back, and what is changed is found and named.

use access::{OpCtx, ops};
use domain::{Digest, Error, TenantId};
use evidence::merkle;
use evidence::tile::Tile;
use evidence::tree;
use store::{Category, Change, LogFindings, LogReader, SignedCheckpoint, Store};

use crate::world::{World, each_engine};

async fn add(store: &Store, world: &World, tenant: TenantId, count: usize) {
    let ctx = OpCtx::system("test", tenant, world.clock.clone(), world.rng.clone());
    for number in 0..count {
        let change = Change::to(Category::System, "thing", number).detail(serde_json::json!({"why": "a test"}));
        store.record(&ctx, Some(tenant), "thing_made", &change).await.unwrap();
    }
}

async fn log(world: &World, tenant: TenantId) -> LogReader {
    world.store.read(world.permit::<ops::LogRead>(tenant)).await.unwrap().log()
}

async fn sign(world: &World, tenant: TenantId) -> domain::Result<SignedCheckpoint> {
    log(world, tenant).await.checkpoint(&world.store).await.map(|(_, signed)| signed)
}

async fn verify(world: &World, tenant: TenantId) -> LogFindings {
    log(world, tenant).await.verify(&world.store, 0, 1 << 20).await.unwrap()
}

/// The records that are to blame, each once.
fn blamed(found: &LogFindings) -> Vec<u64> {
    let mut blamed: Vec<u64> = found.faults.iter().filter_map(|fault| fault.seq).collect();
    blamed.dedup();
    blamed
}

async fn leaves(world: &World, tenant: TenantId) -> Vec<Digest> {
    let (mut reader, mut leaves) = (log(world, tenant).await, Vec::new());
    let size = reader.size().await.unwrap();
    for index in 0.. {
        let Some(tile) = Tile::of(size, 0, index) else { return leaves };
        let bytes = reader.entries(tile).await.unwrap();
        leaves.extend(evidence::tile::bundle_entries(&bytes).unwrap().into_iter().map(merkle::leaf_hash));
    }
    leaves
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_from_stored_tiles_agree_with_the_records_and_verify() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(&world.store, world, a, 260).await;
        let old = sign(world, a).await.unwrap();
        assert_eq!(old.checkpoint.size, 261);
        add(&world.store, world, a, 300).await;
        let new = sign(world, a).await.unwrap();
        let leaves = leaves(world, a).await;
        assert_eq!((new.checkpoint.size, leaves.len()), (561, 561));
        assert_eq!(new.checkpoint.root, merkle::root(&leaves));
        assert_eq!(old.checkpoint.root, merkle::root(&leaves[..261]));
        let key = world.store.log_key();
        assert_eq!(evidence::Checkpoint::open(&new.note, &key), Ok(new.checkpoint.clone()));
        assert!(new.checkpoint.origin.is_of(a), "{}", new.checkpoint.origin);
        for index in [0, 255, 256, 511, 512, 560] {
            let proof = log(world, a).await.proof(&world.store, index).await.unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            tree::verify_inclusion(&leaf, index, 561, &proof.hashes, &new.checkpoint.root).unwrap();
        }
        let proof = log(world, a).await.consistency(261, 561).await.unwrap();
        tree::verify_consistency(261, &old.checkpoint.root, 561, &new.checkpoint.root, &proof).unwrap();
        let tile = |level, index| Tile::of(561, level, index).unwrap();
        let mut reader = log(world, a).await;
        assert_eq!(reader.tile(tile(0, 1)).await.unwrap().len(), 8_192);
        assert_eq!(reader.tile(tile(1, 0)).await.unwrap(), {
            let roots = [merkle::root(&leaves[..256]), merkle::root(&leaves[256..512])];
            evidence::tile::tile_bytes(&roots)
        });
        // A partial tile of an earlier size is the beginning of the full one; more than there is does not exist.
        let part = Tile { width: 5, ..tile(0, 0) };
        assert_eq!(reader.tile(part).await.unwrap(), evidence::tile::tile_bytes(&leaves[..5]));
        for none in [
            Tile { level: 0, index: 2, width: 50 },
            Tile { level: 0, index: 3, width: 1 },
            Tile { level: 2, index: 0, width: 1 },
        ] {
            assert!(matches!(reader.tile(none).await, Err(Error::NotFound { .. })), "{none}");
        }
        assert!(matches!(reader.inclusion(561, 561).await, Err(Error::NotFound { .. })));
        let found = verify(world, a).await;
        assert_eq!((found.records, found.faults, found.next), (561, vec![], None));
        assert!(found.checkpoints >= 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_append_at_once_grow_one_tree() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let other = world.another_server().await;
        let both = async |store: &Store| {
            for _ in 0..30 {
                add(store, world, a, 5).await;
                store.sign_checkpoints(false).await.unwrap();
            }
        };
        tokio::join!(both(&world.store), both(&other));
        other.close().await;
        let found = verify(world, a).await;
        assert_eq!((found.size, found.faults), (301, vec![]));
        assert_eq!(sign(world, a).await.unwrap().checkpoint.root, merkle::root(&leaves(world, a).await));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_role_cannot_change_or_remove_a_tile_or_a_checkpoint_nor_cut_the_log() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(&world.store, world, a, 260).await;
        sign(world, a).await.unwrap();
        for sql in [
            "UPDATE audit_tile SET level = 7 RETURNING 'x'",
            "DELETE FROM audit_tile RETURNING 'x'",
            "UPDATE audit_checkpoint SET note = 'x' RETURNING 'x'",
            "DELETE FROM audit_checkpoint RETURNING 'x'",
            "DELETE FROM audit_head RETURNING 'x'",
            "UPDATE audit_head SET size = size - 1 RETURNING 'x'",
        ] {
            let error = world.raw(a, sql).await.unwrap_err().to_string();
            assert!(error.contains("permission denied") || error.contains("cannot be"), "{sql}: {error}");
        }
        if world.postgres.is_none() {
            for table in ["audit_record", "audit_detail", "audit_tile"] {
                let replace = format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1 RETURNING 'x'");
                let error = world.raw(a, &replace).await.unwrap_err().to_string();
                assert!(error.contains("cannot be changed"), "{replace}: {error}");
            }
        }
        if world.postgres.is_some() {
            for table in ["audit_record", "audit_tile", "audit_checkpoint", "audit_head"] {
                assert!(world.raw(a, &format!("TRUNCATE {table} CASCADE")).await.is_err());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_column_of_a_record_is_found_and_its_record_is_named() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(&world.store, world, a, 258).await;
        sign(world, a).await.unwrap();
        let bytes = if world.postgres.is_some() { "'\\x00'::bytea" } else { "x'00'" };
        let id = world.literal(1);
        for (seq, column, value) in [
            (3, "id", id.clone()),
            (5, "at", "at + 1".to_owned()),
            (7, "category", "'access'".to_owned()),
            (11, "action", "'thing_found'".to_owned()),
            (13, "outcome", "'deny'".to_owned()),
            (17, "actor", "'somebody@else'".to_owned()),
            (19, "object_type", "'person'".to_owned()),
            (23, "object_id", "'1'".to_owned()),
            (
                29,
                "entry",
                if world.postgres.is_some() { "entry || ' '::bytea" } else { "CAST(entry || ' ' AS BLOB)" }.to_owned(),
            ),
            (257, "leaf", bytes.to_owned()),
        ] {
            world.tamper(a, &format!("CREATE TABLE kept AS SELECT * FROM audit_record WHERE seq = {seq}")).await;
            world.tamper(a, &format!("UPDATE audit_record SET {column} = {value} WHERE seq = {seq}")).await;
            let found = verify(world, a).await;
            assert_eq!(blamed(&found).first(), Some(&seq), "{column}: {found:?}");
            let restore = format!(
                "UPDATE audit_record SET {column} = (SELECT {column} FROM kept) WHERE seq = {seq}; DROP TABLE kept"
            );
            world.tamper(a, &restore).await;
            assert_eq!(verify(world, a).await.faults, [], "{column} is as it was");
        }
        for (seq, sql) in [
            (31, "UPDATE audit_detail SET detail = '{\"why\":\"another\"}' WHERE seq = 31"),
            (32, "DELETE FROM audit_detail WHERE seq = 32"),
        ] {
            world.tamper(a, sql).await;
            assert!(blamed(&verify(world, a).await).contains(&seq), "{sql}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_record_tile_or_checkpoint_and_a_recomputed_leaf_are_found() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(&world.store, world, a, 300).await;
        sign(world, a).await.unwrap();
        // The record, its leaf and what is listed are changed together: the tile still holds the hash of what was there.
        let entry = b"{\"v\":1}".to_vec();
        let leaf = merkle::leaf_hash(&entry);
        let literal = |bytes: &[u8]| {
            let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            if world.postgres.is_some() { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
        };
        let sql = format!(
            "UPDATE audit_record SET entry = {}, leaf = {} WHERE seq = 99",
            literal(&entry),
            literal(leaf.as_bytes())
        );
        world.tamper(a, &sql).await;
        let found = verify(world, a).await;
        assert!(
            found.faults.iter().any(|fault| fault.seq == Some(99) && fault.problem.contains("tile/0/000")),
            "{found:?}"
        );
        // In the part without a full tile the signed checkpoint says between which sizes.
        let sql = format!(
            "UPDATE audit_record SET entry = {}, leaf = {} WHERE seq = 280",
            literal(&entry),
            literal(leaf.as_bytes())
        );
        world.tamper(a, &sql).await;
        let error = sign(world, a).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { message, .. } if message.contains("rolled back or changed")),
            "{error:?}"
        );

        let b = world.tenant("b").await;
        add(&world.store, world, b, 300).await;
        sign(world, b).await.unwrap();
        world.tamper(b, "DELETE FROM audit_detail WHERE seq = 40; DELETE FROM audit_record WHERE seq = 40").await;
        let found = verify(world, b).await;
        assert_eq!(
            found.faults.first().map(|fault| (fault.seq, fault.problem.as_str())),
            Some((Some(40), "it is missing"))
        );

        let c = world.tenant("c").await;
        add(&world.store, world, c, 300).await;
        sign(world, c).await.unwrap();
        world.tamper(c, &format!("UPDATE audit_tile SET root = {}", literal(&[7; 32]))).await;
        assert!(verify(world, c).await.faults.iter().any(|fault| fault.problem.contains("root beside `tile/0/000`")));
        assert!(sign(world, c).await.is_err());

        let d = world.tenant("d").await;
        sign(world, d).await.unwrap();
        world.tamper(d, "UPDATE audit_checkpoint SET note = 'x'").await;
        assert!(verify(world, d).await.faults.iter().any(|fault| fault.problem.contains("not what the log signed")));
        assert!(sign(world, d).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_rolled_back_or_rewritten_is_not_signed_again() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(&world.store, world, a, 9).await;
        let signed = sign(world, a).await.unwrap();
        // The database as it was five records ago, checkpoint and all.
        world
            .tamper(
                a,
                "DELETE FROM audit_checkpoint; DELETE FROM audit_detail WHERE seq >= 5; DELETE FROM audit_record WHERE seq >= 5; \
                 UPDATE audit_head SET size = 5",
            )
            .await;
        let refused = |result: domain::Result<SignedCheckpoint>| match result {
            Err(Error::Unavailable { detail, .. }) => detail,
            other => panic!("{other:?}"),
        };
        assert!(refused(sign(world, a).await).contains("10 records were signed, 5 are left"));
        assert!(world.store.sign_checkpoints(true).await.is_err(), "nor in the background");
        assert!(blamed(&verify(world, a).await).contains(&5), "the first record that is gone is named");
        // Growing past the old size does not hide it, and a restart does not either.
        add(&world.store, world, a, 20).await;
        assert!(refused(sign(world, a).await).contains("the first 10 records are not those that were signed"));
        let restarted = world.another_server().await;
        let reader = restarted.read(world.permit::<ops::LogRead>(a)).await.unwrap().log();
        let error = reader.checkpoint(&restarted).await.map(|(_, signed)| signed);
        assert!(refused(error).contains("the first 10 records"));
        restarted.close().await;
        assert_eq!(signed.checkpoint.size, 10);
        assert!(world.log_heads().join(a.as_uuid().hyphenated().to_string()).exists());
    })
    .await;
}
