//! Two tenants, random operations on both: what one of them reads never holds anything of the other's.

use access::Role;
use domain::TenantId;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::document::{Operation, operations, parameters};
use crate::world::{Answer, NODE, World, each_wall, holder, planted};

/// One step: whose, which, and two numbers to choose with.
type Step = (bool, u8, u16, u16);

const SEQUENCES: usize = 4;
const STEPS: usize = 60;

/// One tenant and what is known of it.
struct Side {
    tenant: TenantId,
    slug: &'static str,
    admin: String,
    /// Words that stand in this tenant's values and nowhere else: its marker, its id, the ids of its things.
    words: Vec<String>,
    /// Things by kind.
    things: Vec<(&'static str, String)>,
    marker: &'static str,
}

impl Side {
    fn thing(&mut self, kind: &'static str, id: String) {
        // A node's name is the same in both tenants, so that the same key is used by both.
        if kind != "node" {
            self.words.push(id.clone());
        }
        self.things.push((kind, id));
    }
}

/// Makes a thing in a tenant, with its marker wherever text can stand.
async fn make(world: &World, side: &mut Side, which: u8, number: u16) {
    let (path, marker) = (|what: &str| format!("/api/v1/tenants/{}/{what}", side.slug), side.marker);
    let n = world.fresh();
    let (kind, made): (&'static str, Answer) = match which % 7 {
        0 => {
            let secret = json!({"access_key_id": "AKIA", "secret_access_key": planted().aws});
            let body = json!({"plugin": "aws", "name": format!("{marker} {n}"), "type": "aws-keys", "secret": secret});
            ("credential", world.by(&side.admin, "POST", &path("credentials"), Some(body)).await)
        }
        1 => {
            let body = json!({"plugin": "host", "config": {"packages": format!("{marker} {n}")}});
            ("job", world.by(&side.admin, "POST", &path("jobs"), Some(body)).await)
        }
        2 => {
            let body = json!({"plugin": "host", "interval_s": 3_600, "config": {"packages": format!("{marker} {n}")}});
            ("schedule", world.by(&side.admin, "POST", &path("schedules"), Some(body)).await)
        }
        3 => {
            let body = json!({"email": format!("{marker}-{n}@example.org"), "role": "auditor"});
            let made = world.by(&side.admin, "PUT", &path("members"), Some(body)).await;
            side.words.push(format!("{marker}-{n}@example.org"));
            drop(made.is(200));
            return;
        }
        4 => return side.thing("node", world.node(side.tenant).await),
        5 => {
            world.node(side.tenant).await;
            return side.thing("finding", world.finding(side.tenant).await);
        }
        _ => return side.thing("evidence", world.evidence(side.tenant).await),
    };
    let made = made.is(201);
    let _ = number;
    side.thing(kind, made.id());
}

/// Changes or deletes a thing, one's own or the other's. What is the other's does not exist.
async fn change(world: &World, side: &Side, kind: &str, id: &str, is_own: bool) {
    let (method, path, body): (&str, String, Option<Value>) = match kind {
        "credential" | "schedule" => ("DELETE", format!("{kind}s/{id}"), None),
        "job" => ("POST", format!("jobs/{id}/cancel"), None),
        "finding" => {
            let body = json!({"reason": format!("{} accepts", side.marker), "until": "2026-06-01T00:00:00Z"});
            ("POST", format!("findings/{id}/accept"), Some(body))
        }
        _ => return,
    };
    let answer = world.by(&side.admin, method, &format!("/api/v1/tenants/{}/{path}", side.slug), body).await;
    assert!(is_own || answer.status == 404, "{method} {path}: {} {}", answer.status, answer.text);
}

/// Whether an operation reads a tenant's things, and of which kind.
fn reads(operation: &Operation) -> bool {
    operation.method == "GET" && operation.path.starts_with("/api/v1/tenants/{tenant}/")
}

async fn run(world: &World, steps: &[Step], reading: &[Operation], sides: &mut [Side; 2]) -> usize {
    let mut seen_own = 0;
    for (first, which, one, two) in steps.iter().copied() {
        world.later();
        let (us, them) = if first { (0, 1) } else { (1, 0) };
        if which % 3 == 0 {
            make(world, &mut sides[us], which / 3, one).await;
            continue;
        }
        // A thing of either tenant.
        let owner = if two % 2 == 0 { us } else { them };
        let things = &sides[owner].things;
        let Some((kind, id)) = things.get(usize::from(one) % things.len().max(1)).cloned() else { continue };
        if which % 3 == 1 && two % 5 == 0 {
            change(world, &sides[us], kind, &id, owner == us || kind == "node").await;
            continue;
        }
        let operation = &reading[usize::from(which) * 7 % reading.len()];
        let tenant = if two % 7 == 0 { sides[them].slug } else { sides[us].slug };
        let mut path = operation.path.replace("{tenant}", tenant);
        for parameter in parameters(&operation.path) {
            path = path.replace(&format!("{{{parameter}}}"), &id);
        }
        let answer = world.by(&sides[us].admin, "GET", &path, None).await;
        let foreign = sides[them].words.iter().find(|word| answer.text.contains(*word));
        assert_eq!(foreign, None, "GET {path} by {}: {}", sides[us].admin, answer.text);
        if tenant != sides[us].slug {
            // As if there were no such tenant, also where the question itself is wrong.
            let nowhere = path.replacen(&format!("/tenants/{tenant}"), "/tenants/nowhere", 1);
            let nowhere = world.by(&sides[us].admin, "GET", &nowhere, None).await;
            assert!(nowhere.status >= 400, "GET {path}: {}", nowhere.status);
            assert_eq!(
                (answer.status, &answer.json["code"], &answer.json["message"]),
                (nowhere.status, &nowhere.json["code"], &nowhere.json["message"]),
                "GET {path}"
            );
        }
        seen_own += usize::from(sides[us].words.iter().any(|word| answer.text.contains(word)));
    }
    // At the end all of it: every list, as each of the two.
    for (us, them) in [(0, 1), (1, 0)] {
        for operation in reading.iter().filter(|operation| parameters(&operation.path).len() == 1) {
            let path = operation.path.replace("{tenant}", sides[us].slug);
            let answer = world.by(&sides[us].admin, "GET", &format!("{path}?limit=500"), None).await;
            let answer =
                if answer.status == 400 { world.by(&sides[us].admin, "GET", &path, None).await } else { answer };
            let foreign = sides[them].words.iter().find(|word| answer.text.contains(*word));
            assert_eq!(foreign, None, "GET {path} by {}: {}", sides[us].admin, answer.text);
            seen_own += usize::from(sides[us].words.iter().any(|word| answer.text.contains(word)));
        }
    }
    seen_own
}

#[test]
fn random_operations_of_two_tenants_never_show_one_the_others_marker() {
    each_wall(|world| async move {
        let reading: Vec<Operation> = operations().into_iter().filter(reads).collect();
        assert!(reading.len() >= 15, "{}", reading.len());
        let side = |letter, tenant: TenantId, slug, marker: &'static str| Side {
            tenant,
            slug,
            admin: holder(Role::TenantAdmin, letter),
            words: vec![marker.to_owned(), tenant.to_string(), holder(Role::Auditor, letter)],
            things: vec![("node", NODE.to_owned())],
            marker,
        };
        let mut sides = [side('a', world.a, "acme", "amethyst-marker"), side('b', world.b, "globex", "beryl-marker")];
        // The same sequences in every run: a failure can be had again.
        let mut runner = TestRunner::deterministic();
        let steps = prop::collection::vec(any::<Step>(), STEPS);
        let mut seen_own = 0;
        for _ in 0..SEQUENCES {
            let steps = steps.new_tree(&mut runner).unwrap().current();
            seen_own += run(&world, &steps, &reading, &mut sides).await;
        }
        assert!(seen_own >= 60, "only {seen_own} answers held what was looked for: the test proves little");
    });
}
