//! Two walls between tenants, each tested with the other one taken away.
//!
//! The first wall is in the types: the tenant of every query comes from a permit. The second is in PostgreSQL: its policies show a transaction
//! only the rows of the tenant that it named. The same operations run in three ways:
//! - **policies alone**: a permit for a tenant that the session did not name, which no code can make outside of `access`. The database itself is
//!   told to name another tenant than the one it is asked to: a function `set_config` that stands before PostgreSQL's own in the search path of
//!   the server's role. So every query of every operation runs with a wrong tenant in the session, and not a line of the store knows about it.
//! - **types alone**: the owner switched row-level security off, on every table. (SQLite has only this wall, so it runs this way always.)
//! - both, which is how the store is used and what the other tests are about.

use std::collections::BTreeMap;

use access::{OpCtx, Role, ops};
use domain::{
    AuthMethod, Coverage, CredentialId, EvidenceId, FindingId, JobId, NodeId, ScheduleId, Secret, TenantId, UserId,
    ValidationId,
};
use serde_json::json;
use store::{
    AuditFilter, ControlFilter, EdgeFilter, EvidenceFilter, FindingChanging, FindingFilter, FindingVerb, GroupBy,
    JobFilter, LineFilter, MaterialOf, NewJob, NewSchedule, NewUser, NewValidation, NodeFilter, ScheduleChange,
    ScopeFilter, Selected, SessionStart, TaskOutcome,
};
use testkit::Postgres;

use crate::evidence::collect;
use crate::pair::{Pair, each_engine};

const NODE: &str = "aws:eu-west-1:aws.s3.bucket:b1";
const SCOPE: &str = "aws:1:eu-west-1:s3.buckets";

/// A tenant's things.
struct Things {
    tenant: TenantId,
    /// Stands in every value of the tenant that is free text.
    marker: &'static str,
    credential: CredentialId,
    job: JobId,
    schedule: ScheduleId,
    validation: ValidationId,
    member: UserId,
    finding: FindingId,
    evidence: EvidenceId,
}

fn object(marker: &str) -> serde_json::Map<String, serde_json::Value> {
    json!({ "note": marker }).as_object().unwrap().clone()
}

/// Runs a job in a tenant and keeps what it brought.
async fn collected(pair: &Pair<'_>, tenant: TenantId, marker: &str) -> EvidenceId {
    let (_, claims) = pair.running(tenant, &[marker]).await;
    let evidence = collect(pair, &claims[0], SCOPE, Coverage::Complete, &[marker.as_bytes().to_vec()]).await.unwrap();
    pair.finish(&claims[0], TaskOutcome::Completed).await;
    evidence
}

/// Makes one of everything else in a tenant.
async fn fill(pair: &Pair<'_>, tenant: TenantId, marker: &'static str, evidence: EvidenceId) -> Things {
    let unit = pair.write::<ops::CredentialCreate>(tenant).await;
    let secret = Secret::new(testkit::logs::plant("a credential").into_bytes());
    let credential = unit.credential_create("aws", &marker.parse().unwrap(), "aws-keys", &secret).await.unwrap().id;
    let job =
        NewJob { relay: None, plugin: "host".to_owned(), credential: None, config: object(marker), schedule: None };
    let job = pair.write::<ops::JobCreate>(tenant).await.job_create(job).await.unwrap().id;
    let schedule = NewSchedule {
        relay: None,
        plugin: "host".to_owned(),
        credential: None,
        config: object(marker),
        interval_s: 3_600,
    };
    let schedule = pair.write::<ops::ScheduleCreate>(tenant).await.schedule_create(schedule).await.unwrap().id;
    let plugin = "aws".to_owned();
    let validation = NewValidation { plugin, credential: Some(credential), relay: None, config: object(marker) };
    let unit = pair.write::<ops::ValidationCreate>(tenant).await;
    let validation = unit.validation_create(validation).await.unwrap().id;
    // An administrator, so that the other one may go.
    let mut members = Vec::new();
    for (name, role) in [("admin", Role::TenantAdmin), ("auditor", Role::Auditor)] {
        let email: domain::Email = format!("{marker}-{name}@example.org").parse().unwrap();
        let new = NewUser { name: marker.parse().unwrap(), password_hash: "none".to_owned(), platform_admin: false };
        let platform = OpCtx::system_platform("test", pair.clock.clone(), pair.rng.clone());
        let permit = platform.authorize_platform::<ops::UserCreate>().unwrap();
        members.push(pair.store.write_platform(permit).await.unwrap().user_create(&email, &new).await.unwrap());
        pair.write::<ops::MemberPut>(tenant).await.member_put(&email, role).await.unwrap();
        // The invitation is taken up at the sign-in.
        let user = pair.store.login_user(&email).await.unwrap().unwrap().user;
        let start = SessionStart {
            method: AuthMethod::Password,
            second_factor: false,
            request: platform.request(),
            ip: None,
            agent: None,
            lifetime_ms: 3_600_000,
            idle_ms: 3_600_000,
        };
        pair.store.session_create(&user, &start).await.unwrap();
    }
    let member = members[1];
    let own_node = format!("aws:eu-west-1:aws.s3.bucket:{marker}");
    pair.nodes(tenant, SCOPE, &[NODE, &own_node]).await;
    let finding = pair.findings(tenant, &[(marker, NODE, 70)]).await[0];
    Things { tenant, marker, credential, job, schedule, validation, member, finding, evidence }
}

/// What the read operations of a tenant return, by operation; what a thing's own reading answers, for the things of `of`.
async fn reads(pair: &Pair<'_>, tenant: TenantId, of: &Things) -> BTreeMap<&'static str, String> {
    let mut seen = BTreeMap::new();
    macro_rules! see {
        ($($name:literal: $op:ident => |$unit:ident| $read:expr;)*) => {$({
            #[allow(unused_mut, reason = "some readings take the unit")]
            let mut $unit = pair.read::<ops::$op>(tenant).await;
            seen.insert($name, format!("{:?}", $read.await));
        })*};
    }
    let node: NodeId = NODE.parse().unwrap();
    let audit = AuditFilter { limit: 500, ..AuditFilter::default() };
    let nodes = NodeFilter { limit: 500, ..NodeFilter::default() };
    let edges = EdgeFilter { limit: 500, ..EdgeFilter::default() };
    see! {
        "credential_list": CredentialList => |unit| unit.credential_list(None, 500);
        "credential_show": CredentialList => |unit| unit.credential_show(of.credential);
        "credential_resolve": CredentialResolve => |unit| unit.credential_resolve("aws", of.marker);
        "job_list": JobList => |unit| unit.job_list(&JobFilter::default(), None, 500);
        "job_show": JobList => |unit| unit.job_show(of.job);
        "job_lines": JobList => |unit| unit.job_lines(of.job, &LineFilter::default(), None, 500);
        "job_scopes": JobList => |unit| unit.job_scopes(of.job, &ScopeFilter::default(), None, 500);
        "schedule_list": ScheduleList => |unit| unit.schedule_list(None, 500);
        "schedule_show": ScheduleList => |unit| unit.schedule_show(of.schedule);
        "validation_list": ValidationList => |unit| unit.validation_list(None, None, 500);
        "validation_show": ValidationList => |unit| unit.validation_show(of.validation);
        "node_list": NodeList => |unit| unit.node_list(&nodes);
        "node_show": NodeList => |unit| unit.node_show(&node, None);
        "node_history": NodeList => |unit| unit.node_history(&node, None, 500);
        "node_counts": NodeList => |unit| unit.node_counts();
        "edge_list": EdgeList => |unit| unit.edge_list(&edges);
        "finding_list": FindingList => |unit| unit.finding_list(&FindingFilter::default(), None, 500);
        "finding_show": FindingList => |unit| unit.finding_show(of.finding);
        "finding_summary": FindingList => |unit| unit.finding_summary();
        "finding_selection": FindingList => |unit| unit.finding_selection(&FindingFilter::default(), FindingVerb::Resolve);
        "finding_groups": FindingList => |unit| unit.finding_groups(GroupBy::Rule, &FindingFilter::default(), None, 500);
        "control_list": ControlList => |unit| unit.control_list(&ControlFilter::default(), None, 500);
        "control_show": ControlList => |unit| unit.control_show("nist-800-53-r5", "AC-6");
        "evaluation_last": ControlList => |unit| unit.evaluation_last();
        "evidence_list": EvidenceList => |unit| unit.evidence_list(&EvidenceFilter::default(), None, 500);
        "evidence_show": EvidenceList => |unit| unit.evidence_show(of.evidence);
        "artifact_read": EvidenceList => |unit| unit.artifact_read(crypto::sha256(of.marker.as_bytes()));
        "member_show": MemberList => |unit| unit.member_show(&of.member.to_string());
        "member_list": MemberList => |unit| unit.member_list(None, 500);
        "audit_list": AuditList => |unit| unit.audit_list(&audit);
    }
    seen
}

/// Tries to change the things of `of` as `tenant`; how each attempt ended.
async fn writes(pair: &Pair<'_>, tenant: TenantId, of: &Things) -> BTreeMap<&'static str, String> {
    let mut seen = BTreeMap::new();
    macro_rules! see {
        ($($name:literal: $op:ident => |$unit:ident| $write:expr;)*) => {$({
            let $unit = pair.write::<ops::$op>(tenant).await;
            seen.insert($name, match $write.await {
                Ok(_) => "done".to_owned(),
                Err(error) => error.code().to_owned(),
            });
        })*};
    }
    let until = domain::Clock::now(&*pair.clock).plus_millis(86_400_000);
    see! {
        "credential_delete": CredentialDelete => |unit| unit.credential_delete(of.credential);
        "credential_use": CredentialUse => |unit| unit.credential_use(of.credential, of.job);
        "job_cancel": JobCancel => |unit| unit.job_cancel(of.job);
        "schedule_update": ScheduleUpdate => |unit| unit.schedule_update(of.schedule, ScheduleChange::default());
        "schedule_delete": ScheduleDelete => |unit| unit.schedule_delete(of.schedule);
        "finding_accept": FindingAccept => |unit| unit.finding_accept(of.finding, "because", until);
        "finding_resolve": FindingResolve => |unit| unit.finding_resolve(of.finding);
        "finding_change": FindingChange => |unit| unit.finding_change(Selected::Named(&[of.finding]), &FindingChanging::Reopen);
        "member_delete": MemberDelete => |unit| unit.member_delete(of.member);
        "evidence_material": EvidenceExport => |unit| unit.evidence_material(&MaterialOf::Finding(of.finding, vec![]));
    }
    seen
}

/// Tries to make things in `tenant`; how each attempt ended.
async fn makes(pair: &Pair<'_>, tenant: TenantId) -> BTreeMap<&'static str, bool> {
    let mut seen = BTreeMap::new();
    let job =
        NewJob { relay: None, plugin: "host".to_owned(), credential: None, config: object("new"), schedule: None };
    let schedule = NewSchedule {
        relay: None,
        plugin: "host".to_owned(),
        credential: None,
        config: object("new"),
        interval_s: 3_600,
    };
    let secret = Secret::new(testkit::logs::plant("a credential").into_bytes());
    let name = "new".parse().unwrap();
    let unit = pair.write::<ops::CredentialCreate>(tenant).await;
    seen.insert("credential_create", unit.credential_create("aws", &name, "aws-keys", &secret).await.is_ok());
    seen.insert("job_create", pair.write::<ops::JobCreate>(tenant).await.job_create(job).await.is_ok());
    let unit = pair.write::<ops::ScheduleCreate>(tenant).await;
    seen.insert("schedule_create", unit.schedule_create(schedule).await.is_ok());
    let ingest = pair.store.ingest(pair.permit(tenant), "aws".parse().unwrap()).await;
    let node = domain::NodeObservation {
        id: "aws:eu-west-1:aws.s3.bucket:new".parse().unwrap(),
        name: "new".to_owned(),
        properties: domain::Properties::default(),
        tags: domain::Tags::default(),
    };
    let page = domain::Page { scope: SCOPE.parse().unwrap(), nodes: vec![node], edges: vec![] };
    let stored = match ingest {
        Ok(mut ingest) => ingest.page(&page).await.is_ok(),
        Err(_) => false,
    };
    seen.insert("graph_ingest", stored);
    seen
}

/// Every row of every tenant's table, of both tenants.
async fn everything(pair: &Pair<'_>) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for table in pair.tenant_tables().await {
        for tenant in [pair.a, pair.b] {
            rows.insert(format!("{table} of {tenant}"), pair.rows_of(tenant, &table).await);
        }
    }
    rows
}

/// Tables that have to hold rows of both tenants before anything is tried.
const FILLED: [&str; 16] = [
    "artifact",
    "audit_detail",
    "audit_head",
    "audit_record",
    "collection",
    "credential",
    "data_key",
    "evaluation",
    "evidence",
    "evidence_artifact",
    "finding",
    "job",
    "member",
    "node",
    "scope",
    "task",
];

async fn filled(pair: &Pair<'_>) -> [Things; 2] {
    // Jobs run first: what is made later stays in the queue.
    let (of_a, of_b) = (collected(pair, pair.a, "amethyst").await, collected(pair, pair.b, "beryl").await);
    let things = [fill(pair, pair.a, "amethyst", of_a).await, fill(pair, pair.b, "beryl", of_b).await];
    let rows = everything(pair).await;
    for table in FILLED {
        for side in &things {
            assert!(
                !rows[&format!("{table} of {}", side.tenant)].is_empty(),
                "{table} is empty: the test proves little"
            );
        }
    }
    things
}

/// As one of two tenants: nothing of the other is read, nothing of the other changes, and one's own works.
async fn check_as_used(pair: &Pair<'_>) {
    let [a, b] = filled(pair).await;
    for (us, them) in [(&a, &b), (&b, &a)] {
        let own = reads(pair, us.tenant, us).await;
        for (operation, seen) in &own {
            assert!(!seen.contains(them.marker), "{operation}: {seen}");
        }
        let shows = own.values().filter(|seen| seen.contains(us.marker)).count();
        assert!(shows >= 8, "only {shows} readings show the tenant's own marker");
        let before = pair.foreign_rows(them.tenant).await;
        let foreign = reads(pair, us.tenant, them).await;
        for (operation, seen) in &foreign {
            assert!(!seen.contains(them.marker), "{operation}: {seen}");
        }
        for (operation, outcome) in writes(pair, us.tenant, them).await {
            assert!(["not_found", "forbidden"].contains(&outcome.as_str()), "{operation}: {outcome}");
        }
        assert!(makes(pair, us.tenant).await.values().all(|made| *made), "one's own can be made");
        assert_eq!(pair.foreign_rows(them.tenant).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_walls_neither_tenant_reads_or_changes_anything_of_the_other() {
    each_engine(check_as_used).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_the_types_alone_hold_where_row_level_security_is_off() {
    each_engine(async |pair| {
        let Some(database) = pair.postgres() else { return };
        let off = "DO $$ DECLARE t regclass; BEGIN \
             FOR t IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relrowsecurity LOOP \
             EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t); END LOOP; END $$";
        database.owner_sql(off).unwrap();
        let left = database.app_sql("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relrowsecurity").unwrap();
        assert_eq!(left.trim(), "0", "the second wall is really gone");
        let seen = database.app_sql("SELECT count(*) > 0 FROM audit_record").unwrap();
        assert_eq!(seen.trim(), "t", "and rows are seen without a tenant");
        check_as_used(pair).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_the_policies_alone_hold_where_every_query_runs_with_a_wrong_tenant_in_the_session() {
    each_engine(async |pair| {
        let Some(database) = pair.postgres() else { return };
        let [a, b] = filled(pair).await;
        // Whoever names A gets B, and the other way round.
        let (ours, theirs) = (a.tenant.as_uuid(), b.tenant.as_uuid());
        database
            .owner_sql(&format!(
                "CREATE SCHEMA wall; GRANT USAGE ON SCHEMA wall TO {role};
                 CREATE TABLE wall.down (tenant text, named text); GRANT SELECT ON wall.down TO {role};
                 CREATE FUNCTION wall.set_config(name text, value text, local boolean) RETURNS text LANGUAGE sql AS $$
                   SELECT pg_catalog.set_config(name, COALESCE((SELECT named FROM wall.down WHERE tenant = value), value), local) $$;",
                role = database.app_role
            ))
            .unwrap();
        let first = format!("ALTER ROLE {} SET search_path = wall, pg_catalog, public", database.app_role);
        Postgres::shared().superuser_sql(&first).unwrap();
        // Connections of a server that has just started see it. Its start looks at the vault of each tenant, so it is misled from then on.
        let wrong = pair.with_another_server().await;
        database
            .owner_sql(&format!("INSERT INTO wall.down VALUES ('{ours}', '{theirs}'), ('{theirs}', '{ours}')"))
            .unwrap();
        let named = "BEGIN; SELECT set_config('cairn.tenant', '{}', true) <> '{}'; COMMIT".replace("{}", &ours.to_string());
        assert_eq!(database.app_sql(&named).unwrap().trim(), "t", "the session names another tenant than it is told to");

        let before = everything(pair).await;
        for us in [&a, &b] {
            let seen = reads(&wrong, us.tenant, us).await;
            for (operation, seen) in &seen {
                for marker in [a.marker, b.marker] {
                    assert!(!seen.contains(marker), "{operation} with a wrong tenant in the session: {seen}");
                }
            }
            for (operation, outcome) in writes(&wrong, us.tenant, us).await {
                assert_ne!(outcome, "done", "{operation} with a wrong tenant in the session");
            }
            for (operation, made) in makes(&wrong, us.tenant).await {
                assert!(!made, "{operation} with a wrong tenant in the session");
            }
        }
        assert_eq!(everything(pair).await, before, "not a row of either tenant changed");
        wrong.store.close().await;

        // And each table by itself, also one that no operation above touches.
        for table in pair.tenant_tables().await {
            let foreign = format!("WHERE tenant_id = '{theirs}'");
            for sql in [
                format!("SELECT count(*) FROM {table} {foreign}"),
                format!("WITH gone AS (UPDATE {table} SET tenant_id = tenant_id {foreign} RETURNING 1) SELECT count(*) FROM gone"),
                format!("WITH gone AS (DELETE FROM {table} {foreign} RETURNING 1) SELECT count(*) FROM gone"),
            ] {
                match pair.raw(a.tenant, &sql).await {
                    Ok(rows) => assert_eq!(rows.trim().rsplit('\n').next(), Some("0"), "{sql}"),
                    Err(error) => assert!(error.to_string().contains("permission denied"), "{sql}: {error}"),
                }
            }
        }
        assert_eq!(everything(pair).await, before);
    })
    .await;
}
