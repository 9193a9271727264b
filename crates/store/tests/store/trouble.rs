//! A database that is in trouble: told in words that say what to do, and nothing is half done.

use access::ops;
use domain::{Error, Secret};

use crate::world::each_engine;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_told_and_takes_up_where_it_was() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let before = world.rows_of(a, "audit_record").await;
        let Some(lock) = world.lock().await else { return };
        let add = async || {
            let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await?;
            unit.credential_create("aws", &"one".parse()?, "aws-keys", &Secret::new("x")).await
        };
        let error = add().await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { message, .. } if message.contains("busy: try again")),
            "{error:?}"
        );
        drop(lock);
        assert_eq!(world.rows_of(a, "audit_record").await, before);
        add().await.unwrap();
    })
    .await;
}

/// What an owner of the database can do to the log, and how it is undone.
fn sabotages(on_postgres: bool) -> Vec<(&'static str, String, String)> {
    if !on_postgres {
        let refuse = "CREATE TRIGGER sabotage BEFORE INSERT ON audit_record BEGIN SELECT RAISE(ABORT, 'no room'); END";
        let detail = "CREATE TRIGGER sabotage BEFORE INSERT ON audit_detail BEGIN SELECT RAISE(ABORT, 'no room'); END";
        let gone = "ALTER TABLE audit_head RENAME TO away";
        return vec![
            ("no record", refuse.to_owned(), "DROP TRIGGER IF EXISTS sabotage".to_owned()),
            ("no detail", detail.to_owned(), "DROP TRIGGER IF EXISTS sabotage".to_owned()),
            ("no head", gone.to_owned(), "ALTER TABLE away RENAME TO audit_head".to_owned()),
        ];
    }
    let fails = |code: &str| {
        format!(
            "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$; \
             CREATE TRIGGER sabotage BEFORE INSERT ON audit_record FOR EACH ROW EXECUTE FUNCTION sabotage()"
        )
    };
    let undo = "DROP TRIGGER sabotage ON audit_record; DROP FUNCTION sabotage()".to_owned();
    vec![
        ("full", fails("53100"), undo.clone()),
        ("read-only", fails("25006"), undo.clone()),
        ("broken", fails("XX001"), undo),
        (
            "gone",
            "ALTER TABLE audit_detail RENAME TO away".to_owned(),
            "ALTER TABLE away RENAME TO audit_detail".to_owned(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_60_where_the_record_cannot_be_written_the_operation_does_not_happen_and_reads_go_on() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let add = async |name: &str| {
            let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await?;
            unit.credential_create("aws", &name.parse()?, "aws-keys", &Secret::new("x")).await
        };
        add("before").await.unwrap();
        for (name, sabotage, undo) in sabotages(world.postgres.is_some()) {
            let before = (world.rows_of(a, "credential").await, world.rows_of(a, "audit_record").await);
            world.tamper(a, &sabotage).await;
            let error = add("during").await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{name}: {error:?}");
            let mut read = world.store.read(world.permit::<ops::CredentialList>(a)).await.unwrap();
            assert_eq!(
                read.credential_list(None, 10).await.unwrap().items.len(),
                before.0.len(),
                "{name}: reads go on"
            );
            drop(read);
            world.tamper(a, &undo).await;
            assert_eq!(
                (world.rows_of(a, "credential").await, world.rows_of(a, "audit_record").await),
                before,
                "{name}"
            );
            add(name).await.unwrap();
        }
        let found = world.store.read(world.permit::<ops::LogRead>(a)).await.unwrap().log();
        assert_eq!(found.verify(&world.store, 0, 1_000).await.unwrap().faults, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_60_a_database_that_is_killed_or_held_under_a_change_leaves_none_and_nothing_hangs() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let Some(database) = &world.postgres else { return };
        let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user";
        database.app_sql(kill).unwrap();
        let error = unit.credential_create("aws", &"one".parse().unwrap(), "aws-keys", &Secret::new("x")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(world.rows_of(a, "credential").await.is_empty());
        // Held for longer than anybody waits for a lock.
        let hold = "BEGIN; LOCK TABLE audit_head IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(12); COMMIT";
        std::thread::scope(|scope| {
            scope.spawn(|| database.owner_sql(hold).unwrap());
            tokio::task::block_in_place(|| {
                let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'audit_head' \
                     AND l.mode = 'AccessExclusiveLock' AND l.granted";
                while database.app_sql(waiting).unwrap().trim() != "1" {}
                tokio::runtime::Handle::current().block_on(async {
                    let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
                    let slow = unit.credential_create("aws", &"one".parse().unwrap(), "aws-keys", &Secret::new("x")).await;
                    assert!(matches!(slow.unwrap_err(), Error::Unavailable { .. }));
                    assert!(world.rows_of(a, "credential").await.is_empty());
                });
            });
        });
        let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await.unwrap();
        unit.credential_create("aws", &"one".parse().unwrap(), "aws-keys", &Secret::new("x")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_61_a_hostile_name_or_detail_of_a_mebibyte_is_one_record_of_bounded_size() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let ctx = access::OpCtx::system("test", a, world.clock.clone(), world.rng.clone());
        let nasty = "a\r\n{\"v\":1}\u{1b}[2J\u{2028}".to_owned();
        let log = async || world.store.read(world.permit::<ops::LogRead>(a)).await.unwrap().log();
        let before = log().await.size().await.unwrap();
        for name in [nasty.clone(), "ü".repeat(1 << 19)] {
            let change =
                store::Change::to(store::Category::System, "thing", &name).detail(serde_json::json!({"why": name}));
            world.store.record(&ctx, Some(a), "thing_made", &change).await.unwrap();
        }
        let mut read = world.store.read(world.permit::<ops::AuditList>(a)).await.unwrap();
        let filter = store::AuditFilter { limit: 2, ..store::AuditFilter::default() };
        let records = read.audit_list(&filter).await.unwrap().items;
        assert_eq!(records[1].object_id, nasty);
        assert!(records[0].object_id.len() < 1_200 && records[0].object_id.contains("1048576 bytes, sha256:"));
        assert!(records[0].detail["cut"]["bytes"].as_u64().unwrap() > 1 << 20);
        drop(read);
        assert_eq!(log().await.size().await.unwrap(), before + 2);
        assert_eq!(log().await.verify(&world.store, 0, 1_000).await.unwrap().faults, []);
    })
    .await;
}
