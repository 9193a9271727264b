//! The wall between tenants in the database itself.

use access::ops;
use domain::Coverage;
use store::{AuditFilter, TaskOutcome};

use crate::evidence::collect;
use crate::pair;
use crate::world::each_engine;

/// Tables that name no tenant: the installation's own, and the queue, which holds ids and times only.
const OF_NO_TENANT: &[&str] = &[
    "answered_challenge",
    "app_user",
    "audit_cursor",
    "audit_witness",
    "cli_session",
    "device_login",
    "factor",
    "factor_guess",
    "identity",
    "fleet_ending",
    "identity_provider",
    "installation",
    "login_used",
    "platform_key",
    "recovery_code",
    "relay_link",
    "schema_migration",
    "scim_group",
    "scim_group_member",
    "scim_user",
    "server_peer",
    "session",
    "sign_in",
    "signing_key",
    "tenant",
    "work",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_every_table_of_tenants_is_under_forced_row_level_security_of_a_role_that_owns_nothing() {
    each_engine(async |world| {
        let Some(database) = &world.postgres else { return };
        let catalog = "SELECT relname || ' ' || relrowsecurity || ' ' || relforcerowsecurity FROM pg_class \
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname";
        let tables = database.app_sql(catalog).unwrap();
        assert!(tables.lines().count() > 20, "{tables}");
        for line in tables.lines() {
            let table = line.split(' ').next().unwrap();
            let expected = if OF_NO_TENANT.contains(&table) { "false false" } else { "true true" };
            assert_eq!(line, format!("{table} {expected}"));
        }
        let owned = "SELECT count(*) FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)";
        assert_eq!(database.app_sql(owned).unwrap().trim(), "0");
        let rights = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
        assert_eq!(database.app_sql(rights).unwrap().trim(), "f");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_without_a_tenant_or_with_another_one_no_row_is_seen_or_written() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let Some(database) = &world.postgres else { return };
        let count = "SELECT count(*) FROM audit_record";
        assert_eq!(database.app_sql(count).unwrap().trim(), "0", "no tenant in the session: nothing");
        assert_eq!(world.raw(a, count).await.unwrap().trim().rsplit('\n').next(), Some("1"));
        let foreign = format!("SELECT count(*) FROM data_key WHERE tenant_id = '{}'", b.as_uuid());
        assert_eq!(world.raw(a, &foreign).await.unwrap().trim().rsplit('\n').next(), Some("0"));
        let plant = format!(
            "INSERT INTO audit_head (tenant_id, size) VALUES ('{}', 7) ON CONFLICT (tenant_id) DO UPDATE SET size = 7 RETURNING size",
            b.as_uuid()
        );
        let refused = world.raw(a, &plant).await.unwrap_err().to_string();
        assert!(refused.contains("row-level security"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_34_what_the_server_does_by_itself_names_a_tenant_and_is_recorded_as_its_own() {
    pair::each_engine(async |pair| {
        let filter = AuditFilter { limit: 500, ..AuditFilter::default() };
        let log = async |tenant| {
            let mut unit = pair.read::<ops::AuditList>(tenant).await;
            unit.audit_list(&filter).await.unwrap().items
        };
        let (before, others) = (log(pair.a).await.len(), log(pair.b).await.len());
        let (_, claims) = pair.running(pair.a, &["t"]).await;
        collect(pair, &claims[0], "aws:1:r:s3.buckets", Coverage::Complete, &[b"seen".to_vec()]).await.unwrap();
        pair.finish(&claims[0], TaskOutcome::Completed).await;
        let records = log(pair.a).await;
        let own: Vec<&str> = records[..records.len() - before].iter().map(|record| record.actor.as_str()).collect();
        assert!(own.len() >= 4 && own.iter().all(|actor| actor.starts_with("system:")), "{own:?}");
        assert_eq!(log(pair.b).await.len(), others, "nothing happened in the other tenant");
        // What a worker sees before it names a tenant: the queue, which holds ids and times.
        let Some(database) = pair.postgres() else { return };
        for table in pair.tenant_tables().await {
            let seen = database.app_sql(&format!("SELECT count(*) FROM {table}")).unwrap();
            assert_eq!(seen.trim(), "0", "{table} without a tenant");
        }
        let queue = "SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'work'::regclass AND attnum > 0";
        assert_eq!(
            database.app_sql(queue).unwrap().trim(),
            "id uuid, kind text, owner_tenant uuid, due_at bigint, attempt bigint, cancel boolean, lease_id uuid, lease_owner text, \
             lease_until bigint, relay_id uuid"
        );
    })
    .await;
}
