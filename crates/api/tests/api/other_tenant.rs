//! What another tenant has answers like what nobody has: status, headers and bytes.

use access::Role;
use serde_json::json;

use crate::authorization::{Standing, body, object};
use crate::document::{operations, parameters};
use crate::world::{World, each_wall, holder, nobodys};

/// Query parameters that name a thing.
const ID_QUERIES: [(&str, &str, &str); 22] = [
    ("coverage_list", "scope", "scope"),
    ("coverage_list", "source", "agent"),
    ("edge_list", "node", "node"),
    ("evidence_export", "evidence", "evidence"),
    ("evidence_export", "finding", "finding"),
    ("evidence_list", "scope", "scope"),
    ("finding_groups", "node", "node"),
    ("finding_groups", "rule", "rule"),
    ("finding_list", "node", "node"),
    ("finding_list", "rule", "rule"),
    ("finding_selection", "node", "node"),
    ("finding_selection", "rule", "rule"),
    ("grant_list", "destination", "destination"),
    ("grant_list", "group", "group"),
    ("grant_list", "user", "user"),
    ("job_log", "scope", "scope"),
    ("job_scopes", "scope", "scope"),
    ("log_proof", "evidence", "evidence"),
    ("name_list", "users", "user"),
    ("recording_list", "destination", "destination"),
    ("recording_list", "user", "user"),
    ("validation_list", "credential", "credential"),
];
/// Query parameters that name nothing of a tenant's.
const PLAIN_QUERIES: [&str; 49] = [
    "account",
    "action",
    "actor",
    "as_of",
    "by",
    "category",
    "change",
    "changed_since",
    "closed",
    "control",
    "days",
    "direction",
    "elements",
    "first_seen_since",
    "follow",
    "format",
    "framework",
    "from",
    "group",
    "hops",
    "kind",
    "label",
    "level",
    "limit",
    "name",
    "network",
    "next",
    "object",
    "outcome",
    "page",
    "plugin",
    "provider",
    "region",
    "result",
    "search",
    "seq",
    "severity",
    "since",
    "state",
    "status",
    "tag",
    "task",
    "text",
    "to",
    "type",
    "types",
    "until",
    "unused_since",
    "verdict",
];

/// Asks as tenant B for a thing of A and for a thing of nobody.
async fn compare(world: &World, method: &str, path: &str, of_a: &str, nobodys: &str, body: Option<serde_json::Value>) {
    let b = holder(Role::TenantAdmin, 'b');
    let [ours, none] = [of_a, nobodys].map(|id| path.replace("{id}", id));
    let filled =
        |id: &str| body.as_ref().map(|body| serde_json::from_str(&body.to_string().replace("{id}", id)).unwrap());
    let there = world.by(&b, method, &ours, filled(of_a)).await;
    let nowhere = world.by(&b, method, &none, filled(nobodys)).await;
    assert_eq!(there.masked(&[of_a]), nowhere.masked(&[nobodys]), "{method} {path}");
    assert!(
        there.status == 404
            || there.status == 400
            || there.json["items"] == json!([])
            || there.json["count"] == json!(0),
        "{method} {path}: {}",
        there.text
    );
}

#[test]
fn attack_27_a_thing_of_another_tenant_answers_like_one_that_does_not_exist() {
    each_wall(|world| async move {
        let standing = Standing::new(&world, world.a).await;
        let mut compared = 0;
        for operation in operations() {
            let parameters = parameters(&operation.path);
            if !operation.path.starts_with("/api/v1/tenants/{tenant}/") {
                continue;
            }
            let body = body(&world, &operation.id).await;
            // Their thing under our tenant.
            if let [_, kind] = parameters[..] {
                let of_a = object(&world, &standing, world.a, &operation.id, kind).await;
                let path = operation.path.replace("{tenant}", "globex").replace(&format!("{{{kind}}}"), "{id}");
                compare(&world, &operation.method, &path, &of_a, &nobodys(&world, kind), body.clone()).await;
                compared += 1;
            }
            // Their tenant, by id and by slug.
            let mut path = operation.path.replace("{tenant}", "{id}");
            if let [_, kind] = parameters[..] {
                path = path
                    .replace(&format!("{{{kind}}}"), &object(&world, &standing, world.a, &operation.id, kind).await);
            }
            compare(&world, &operation.method, &path, &world.a.to_string(), &nobodys(&world, "tenant"), body.clone())
                .await;
            compare(&world, &operation.method, &path, "acme", "nowhere", body).await;
        }
        assert!(compared >= 14, "only {compared} operations take an id");
    });
}

#[test]
fn attack_28_a_query_or_a_body_that_names_another_tenants_thing_finds_nothing() {
    for operation in operations() {
        for query in &operation.query {
            let names_a_thing = ID_QUERIES.iter().any(|(id, name, _)| operation.id.ends_with(id) && name == query);
            assert!(
                names_a_thing || PLAIN_QUERIES.contains(&query.as_str()),
                "{}: does `{query}` name a tenant's thing? Add it to a list",
                operation.id
            );
        }
    }
    each_wall(|world| async move {
        let standing = Standing::new(&world, world.a).await;
        let all = operations();
        for (id, query, kind) in ID_QUERIES {
            let (of_a, none) = match kind {
                "scope" => ("aws:1:eu-west-1:s3.buckets".to_owned(), "aws:1:eu-west-1:s3.baskets".to_owned()),
                "rule" => {
                    world.finding(world.a).await;
                    ("rule-0".to_owned(), "rule-no".to_owned())
                }
                kind => (object(&world, &standing, world.a, id, kind).await, nobodys(&world, kind)),
            };
            let operation = all.iter().find(|operation| operation.id == id).unwrap();
            let path = format!("{}?{query}={{id}}", operation.path.replace("{tenant}", "globex"));
            compare(&world, &operation.method, &path, &of_a, &none, None).await;
        }
        let credential = world.credential(world.a).await;
        let none = nobodys(&world, "credential");
        let job = json!({"plugin": "aws", "credential": "{id}"});
        compare(&world, "POST", "/api/v1/tenants/globex/jobs", &credential, &none, Some(job)).await;
        let relay = object(&world, &standing, world.a, "relay_show", "relay").await;
        let on_relay = json!({"plugin": "aws", "relay": "{id}"});
        compare(&world, "POST", "/api/v1/tenants/globex/jobs", &relay, &nobodys(&world, "relay"), Some(on_relay)).await;
        let finding = object(&world, &standing, world.a, "finding_show", "finding").await;
        let change = json!({"change": "resolve", "findings": ["{id}"]});
        let changes = "/api/v1/tenants/globex/finding-changes";
        compare(&world, "POST", changes, &finding, &nobodys(&world, "finding"), Some(change)).await;
        let schedule = json!({"plugin": "aws", "credential": "{id}", "interval_s": 60});
        compare(&world, "POST", "/api/v1/tenants/globex/schedules", &credential, &none, Some(schedule)).await;
        compare(
            &world,
            "POST",
            "/api/v1/tenants/globex/jobs",
            "c0",
            "c9",
            Some(json!({"plugin": "aws", "credential": "{id}"})),
        )
        .await;
    });
}

#[test]
fn attack_30_a_page_of_another_tenant_or_list_or_one_that_was_changed_is_refused() {
    each_wall(|world| async move {
        Standing::new(&world, world.a).await;
        world.later();
        world.evidence(world.a).await;
        for tenant in [world.a, world.b] {
            for _ in 0..2 {
                world.later();
                world.job(tenant).await;
                world.credential(tenant).await;
                world.schedule(tenant).await;
            }
        }
        world.finding(world.a).await;
        world.finding(world.a).await;
        world.grant_of(world.a).await;
        let review = world.access_review_of(world.a).await;
        let job = world.job(world.a).await;
        let set = world.host_set_of(world.a).await;
        let member = world.member(world.a).await;
        let (a, b) = (holder(Role::SystemAdmin, 'a'), holder(Role::SystemAdmin, 'b'));
        let mut paged = 0;
        for operation in operations() {
            if !operation.query.iter().any(|query| query == "page")
                || !operation.path.starts_with("/api/v1/tenants/{tenant}/")
            {
                continue;
            }
            let path = operation
                .path
                .replace("{node}", crate::world::NODE)
                .replace("{access_review}", &review)
                .replace("{job}", &job)
                .replace("{user}", &member)
                .replace("{destination}", if operation.id.starts_with("host_set") { &set } else { "standing" });
            let list = |slug: &str| path.replace("{tenant}", slug);
            let first = world.by(&a, "GET", &format!("{}?limit=1", list("acme")), None).await.is(200);
            for bad in ["", "x", "AAAA", "1", "job_0", "99.x", "%00"] {
                world.by(&a, "GET", &format!("{}?page={bad}", list("acme")), None).await.is(400).says("next_page");
            }
            let Some(page) = first.json["next_page"].as_str() else { continue };
            paged += 1;
            let page: String =
                page.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).map(char::from).collect();
            let second = world.by(&a, "GET", &format!("{}?limit=1&page={page}", list("acme")), None).await.is(200);
            assert_eq!(second.json["items"].as_array().unwrap().len(), 1, "{}", operation.id);
            assert_ne!(first.json["items"], second.json["items"], "{}", operation.id);
            if operation.id != "node_history" {
                let theirs = world
                    .by(&b, "GET", &format!("{}?page={page}", list("globex")), None)
                    .await
                    .is(400)
                    .says("next_page");
                let garbage = world.by(&b, "GET", &format!("{}?page=x", list("globex")), None).await;
                assert_eq!(theirs.masked(&[]), garbage.masked(&[]));
            }
            for at in 0..page.len() / 3 {
                let mut changed = page.clone();
                let byte = if &page[at * 3..at * 3 + 3] == "%30" { "%31" } else { "%30" };
                changed.replace_range(at * 3..at * 3 + 3, byte);
                world.by(&a, "GET", &format!("{}?page={changed}", list("acme")), None).await.is(400);
            }
        }
        assert!(paged >= 7, "only {paged} lists had a second page");
    });
}

#[test]
fn attack_32_a_name_that_is_taken_in_one_tenant_is_free_in_another() {
    each_wall(|world| async move {
        let new = body(&world, "credential_create").await.map(|mut body| {
            body["name"] = json!("prod");
            body
        });
        let new = || new.clone();
        let path = |slug: &str| format!("/api/v1/tenants/{slug}/credentials");
        world.by(&holder(Role::TenantAdmin, 'b'), "POST", &path("globex"), new()).await.is(201);
        world.by(&holder(Role::TenantAdmin, 'a'), "POST", &path("acme"), new()).await.is(201);
        world.by(&holder(Role::TenantAdmin, 'a'), "POST", &path("acme"), new()).await.is(409).says("prod");
    });
}

#[test]
fn attack_35_odd_names_of_tenants_are_no_tenant() {
    each_wall(|world| async move {
        let odd = [
            ".",
            "..",
            "%2e",
            "%2e%2e",
            "%2E%2e%2f",
            "...",
            "ACME",
            "acme%00",
            "acme%20",
            "%20acme",
            "acme%2f",
            "root",
            "admin",
            "*",
            "%25",
            "%ff",
            "acme~",
            "%e2%80%aeacme",
            "%d7%90",
            "%ef%bd%81cme",
            "ten_",
            "00000000-0000-0000-0000-000000000000",
            "ten_00000000000000000000000000",
        ];
        let long = "a".repeat(300);
        for name in odd.into_iter().chain([long.as_str()]) {
            let path = format!("/api/v1/tenants/{name}/nodes");
            let answer = world.by(&holder(Role::SystemAdmin, 'a'), "GET", &path, None).await.is(404);
            assert_eq!(answer.json["code"], "not_found", "{name}");
        }
        for slug in [".", "..", "%2e", "", "Acme", "a b", "a\u{202e}b", "\u{5d0}", "\u{ff41}cme", "-a", long.as_str()] {
            let body = json!({"slug": slug, "name": "T"});
            world.by(crate::world::PLATFORM, "POST", "/api/v1/tenants", Some(body)).await.is(400).says("a-z");
        }
        for slug in ["root", "admin"] {
            let body = json!({"slug": slug, "name": "T"});
            let made = world.by(crate::world::PLATFORM, "POST", "/api/v1/tenants", Some(body)).await.is(201).id();
            assert!(made != world.a.to_string() && made != world.b.to_string());
            world
                .by(&holder(Role::SystemAdmin, 'a'), "GET", &format!("/api/v1/tenants/{slug}/nodes"), None)
                .await
                .is(404);
        }
        world
            .by(crate::world::PLATFORM, "POST", "/api/v1/tenants", Some(json!({"slug": "acme", "name": "T"})))
            .await
            .is(409)
            .says("acme");
    });
}
