//! What the home page asks for: how frameworks stand day by day, and what changed.

use std::time::Duration;

use access::{Role, ops};
use compliance::{ControlOutcome, ControlResult, Facts, FindingChange};
use domain::{Clock as _, FleetKind, Severity};
use serde_json::{Value, json};
use store::FindingCounts;

use crate::fleet::Machine;
use crate::ports::evaluation;
use crate::world::{NODE, World, each_engine, holder};

const TENANT: &str = "/api/v1/tenants/acme";

/// Judges the controls of one rule of the shipped ones, which fails on a node; the framework and its rule.
async fn judge(world: &World, result: ControlResult) -> (String, String) {
    let token = world.sign_in(&holder(Role::Auditor, 'a')).await;
    let rules = world.call("GET", "/api/v1/rules", Some(&token), None).await.is(200).json;
    let rule = rules["items"].as_array().unwrap().iter().find(|it| it["controls"][0].is_string()).unwrap();
    let id = rule["id"].as_str().unwrap().to_owned();
    let (framework, control) = rule["controls"][0].as_str().unwrap().split_once(':').unwrap();
    let outcome = ControlOutcome {
        framework: framework.to_owned(),
        control: control.to_owned(),
        result,
        rules: vec![id.clone()],
        passed: 0,
        failed: 1,
        errors: 0,
    };
    let at = world.clock.now();
    let mut unit = world.store.write(world.permit::<ops::EvaluationRun>(world.a)).await.unwrap();
    if unit.finding_current().await.unwrap().is_empty() {
        let facts =
            Facts { severity: Severity::High, risk_score: 70, message: "it is open".to_owned(), values: json!({}) };
        let change = FindingChange::Open { rule_id: id.clone(), node_id: NODE.to_owned(), facts };
        unit.findings_apply(&[change]).await.unwrap();
    }
    unit.control_results_put(at, &[(outcome, None)]).await.unwrap();
    unit.evaluation_finish(&evaluation(at), FindingCounts::default()).await.unwrap();
    (framework.to_owned(), id)
}

#[test]
fn how_a_framework_stands_is_told_day_by_day_and_only_for_as_many_days_as_are_let() {
    each_engine(|world| async move {
        world.node(world.a).await;
        let auditor = holder(Role::Auditor, 'a');
        let get = async |path: &str| world.by(&auditor, "GET", &format!("{TENANT}{path}"), None).await;
        assert_eq!(get("/posture").await.is(200).json, json!({"items": []}));
        let (framework, _) = judge(&world, ControlResult::Fail).await;
        world.clock.advance(Duration::from_hours(48));
        judge(&world, ControlResult::Pass).await;
        // The sessions of the days before have expired.
        world.tokens.lock().await.clear();
        let posture = get("/posture").await.is(200).json;
        let of = &posture["items"][0];
        assert_eq!(of["framework"], json!(framework), "{posture}");
        assert_eq!((&of["percent"], &of["pass"], &of["open_findings"]), (&json!(100), &json!(1), &json!(1)));
        let history = of["history"].as_array().unwrap();
        let shares: Vec<&Value> = history.iter().map(|day| &day["percent"]).collect();
        assert_eq!(shares, [&json!(0), &json!(0), &json!(100)]);
        let today = world.clock.now().to_string();
        assert_eq!(history[2]["day"].as_str(), today.split('T').next());
        let short = get("/posture?days=1").await.is(200).json;
        assert_eq!(short["items"][0]["history"].as_array().map(Vec::len), Some(1));
        get("/posture?days=366").await.is(200);
        for days in ["0", "367", "-1", "x", "", "1.5", "99999999999"] {
            get(&format!("/posture?days={days}")).await.is(400).says("1 to 366");
        }
        world
            .by(&holder(Role::ReadOnly, 'a'), "GET", &format!("{TENANT}/posture"), None)
            .await
            .is(403)
            .says("findings:read");
    });
}

#[test]
fn each_part_of_what_changed_is_for_whoever_may_read_it_and_nothing_is_refused_for_the_others() {
    each_engine(|world| async move {
        let parts = ["findings", "nodes", "fleet", "access", "jobs"];
        let shown = |json: &Value| -> Vec<&str> { parts.into_iter().filter(|part| json.get(part).is_some()).collect() };
        let since = world.clock.now().plus_millis(-1_000);
        let path = format!("{TENANT}/changes?since={since}");
        let denials = async || {
            let filter =
                store::AuditFilter { outcome: Some("deny".to_owned()), limit: 500, ..store::AuditFilter::default() };
            let mut log = world.store.read(world.permit::<ops::AuditList>(world.a)).await.unwrap();
            log.audit_list(&filter).await.unwrap().items.len()
        };
        let before = denials().await;
        for role in Role::ALL {
            let expect: &[&str] = match role {
                Role::SystemAdmin | Role::TenantAdmin => &parts,
                Role::SecurityAnalyst => &["findings", "nodes", "jobs"],
                Role::Auditor => &["findings"],
                Role::ReadOnly => &["nodes"],
            };
            let told = world.by(&holder(role, 'a'), "GET", &path, None).await.is(200).json;
            assert_eq!(shown(&told), expect, "{role}");
            assert_eq!(told["since"], json!(since));
            let (_, key) = world.api_key(world.a, role, json!({})).await;
            let told = world.call("GET", &path, Some(&key), None).await.is(200).json;
            assert_eq!(shown(&told), expect, "key of {role}");
            assert!(told.get("seen").is_none(), "{told}");
            // A machine has seen nothing, and never will.
            world.call("GET", &format!("{TENANT}/changes"), Some(&key), None).await.is(400).says("since");
            let body = json!({"until": since});
            world.call("PUT", &format!("{TENANT}/changes/seen"), Some(&key), Some(body)).await.is(403);
        }
        assert_eq!(
            denials().await - before,
            Role::ALL.len(),
            "only the keys' were refused: what people may not read they did not ask for"
        );
        for bad in ["yesterday", "2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z", ""] {
            let path = format!("{TENANT}/changes?since={bad}");
            world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(400);
        }
    });
}

#[test]
fn what_somebody_has_seen_is_theirs_alone_holds_in_every_session_and_moves_only_when_they_say_so() {
    each_engine(|world| async move {
        let (ann, ben) = (holder(Role::TenantAdmin, 'a'), holder(Role::SystemAdmin, 'a'));
        let changes = async |who: &str| world.by(who, "GET", &format!("{TENANT}/changes"), None).await.is(200).json;
        let see = async |who: &str, until: &Value| {
            world.by(who, "PUT", &format!("{TENANT}/changes/seen"), Some(json!({"until": until}))).await
        };
        // What was there when they became members is not new to them.
        world.clock.advance(Duration::from_secs(1));
        world.node(world.a).await;
        world.clock.advance(Duration::from_secs(1));
        world.finding(world.a).await;
        let grant = world.grant_of(world.a).await;
        let first = changes(&ann).await;
        assert_eq!(first["nodes"]["first_seen"], json!(2), "{first}");
        assert_eq!(first["nodes"]["by_type"][0]["type"], json!("aws.s3.bucket"));
        assert_eq!(first["findings"]["opened"]["high"], json!(1));
        assert_eq!(first["findings"]["newest"][0]["severity"], json!("high"));
        assert_eq!((&first["access"]["made"], &first["access"]["taken"]), (&json!(1), &json!(0)));
        assert_eq!(first["since"], first["seen"]);

        // Looking moves nothing, nor does signing in again.
        world.clock.advance(Duration::from_secs(1));
        world.tokens.lock().await.clear();
        let again = changes(&ann).await;
        assert_eq!((&again["since"], &again["findings"]["opened"]), (&first["since"], &first["findings"]["opened"]));

        let seen = see(&ann, &again["until"]).await.is(200).json;
        assert_eq!(seen["until"], again["until"]);
        world.tokens.lock().await.clear();
        let none = changes(&ann).await;
        assert_eq!(none["since"], again["until"], "also in another session");
        assert_eq!((&none["findings"]["opened"]["high"], &none["nodes"]["first_seen"]), (&json!(0), &json!(0)));
        assert_eq!(none["access"]["made"], json!(0));
        assert_eq!(changes(&ben).await["findings"]["opened"]["high"], json!(1), "ben has not seen it");

        // An earlier answer that is said to be seen later takes nothing back; the future cannot be seen.
        assert_eq!(see(&ann, &first["until"]).await.is(200).json["until"], again["until"]);
        let future = json!(world.clock.now().plus_millis(1));
        see(&ann, &future).await.is(400).says("future");
        see(&ann, &json!("x")).await.is(400);
        world
            .by(
                &holder(Role::TenantAdmin, 'b'),
                "PUT",
                &format!("{TENANT}/changes/seen"),
                Some(json!({"until": first["until"]})),
            )
            .await
            .is(404);

        // What happens from then on, whoever did it.
        world.clock.advance(Duration::from_secs(1));
        world.by(&ben, "DELETE", &format!("{TENANT}/grants/{grant}"), None).await.is(204);
        let machine = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let next = changes(&ann).await;
        assert_eq!((&next["access"]["made"], &next["access"]["taken"]), (&json!(0), &json!(1)));
        assert_eq!((&next["fleet"]["enrolled"], &next["fleet"]["units"][0]["what"]), (&json!(1), &json!("enrolled")));
        see(&ann, &next["until"]).await.is(200);
        world.clock.advance(Duration::from_secs(1));
        world.by(&ben, "DELETE", &format!("{TENANT}/agents/{}", machine.id), None).await.is(204);
        let last = changes(&ann).await;
        assert_eq!((&last["fleet"]["enrolled"], &last["fleet"]["revoked"]), (&json!(0), &json!(1)), "{last}");
    });
}

#[test]
fn who_falls_silent_is_told_once_also_where_they_were_seen_just_before() {
    each_engine(|world| async move {
        let ann = holder(Role::TenantAdmin, 'a');
        let fleet = async || world.by(&ann, "GET", &format!("{TENANT}/changes"), None).await.is(200).json;
        let see = async |until: &Value| {
            let path = format!("{TENANT}/changes/seen");
            world.by(&ann, "PUT", &path, Some(json!({"until": until}))).await.is(200);
        };
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        agent.call(&world).await.is(200);
        world.clock.advance(Duration::from_mins(2));
        see(&fleet().await["until"]).await;
        world.clock.advance(Duration::from_mins(12));
        assert_eq!(fleet().await["fleet"]["silent"], 0, "it may say nothing for so long");
        // It was seen before what changed begins, and is missed only now.
        world.clock.advance(Duration::from_mins(2));
        let missed = fleet().await;
        assert_eq!((&missed["fleet"]["silent"], &missed["fleet"]["units"][0]["what"]), (&json!(1), &json!("silent")));
        see(&missed["until"]).await;
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(fleet().await["fleet"]["silent"], 0, "that is known");

        // One that is new and silent already is no good news.
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        relay.call(&world).await.is(200);
        assert_eq!(fleet().await["fleet"]["enrolled"], 1);
        world.clock.advance(Duration::from_mins(3));
        let both = fleet().await;
        assert_eq!((&both["fleet"]["enrolled"], &both["fleet"]["silent"]), (&json!(0), &json!(1)));
        world.by(&ann, "DELETE", &format!("{TENANT}/relays/{}", relay.id), None).await.is(204);
        let gone = fleet().await;
        assert_eq!((&gone["fleet"]["revoked"], &gone["fleet"]["silent"]), (&json!(1), &json!(0)));
    });
}
