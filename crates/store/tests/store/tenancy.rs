//! The wall between tenants in the database itself.

use crate::world::each_engine;

/// Tables that name no tenant: the installation's own, and the queue, which holds ids and times only.
const OF_NO_TENANT: [&str; 8] =
    ["app_user", "cli_session", "device_login", "installation", "schema_migration", "session", "tenant", "work"];

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
