//! Access as data: destinations in the asset graph, who reaches what and why, what nobody uses, reviews that end in evidence, and files of
//! grants.

use std::time::Duration;

use access::{OpCtx, Role, ops};
use domain::{Clock as _, CollectionId, Coverage, FleetKind, NodeObservation, Page, TenantId};
use serde_json::{Value, json};
use store::{MaterialOf, NewReview, ReviewDecision, ReviewScope};

use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{NEWCOMER, World, admin, each_engine, holder};

pub(crate) const T: &str = "/api/v1/tenants/acme";
/// What a machine shows whose host key is [`HOST_KEY`].
const MACHINE: &str = "host:berlin:host.machine:0123456789abcdef";
const TWIN: &str = "host:berlin:host.machine:fedcba9876543210";

impl World {
    /// A review of everything in a tenant, which somebody decides who comes nowhere else: its id.
    pub(crate) async fn access_review_of(&self, tenant: TenantId) -> String {
        self.grant_of(tenant).await;
        let reviewer = if tenant == self.a { NEWCOMER.to_owned() } else { holder(Role::ReadOnly, 'b') };
        let new = NewReview {
            name: format!("Review {}", self.fresh()),
            scope: ReviewScope::default(),
            reviewers: vec![reviewer],
            undecided: ReviewDecision::Keep,
            ends_at: self.clock.now().plus_millis(3_600_000),
        };
        let unit = self.store.write(self.permit::<ops::AccessReviewCreate>(tenant)).await.unwrap();
        unit.access_review_create(&new).await.unwrap().id.to_string()
    }

    /// What applies a file in tenant A: the difference that it makes now.
    pub(crate) async fn applied(&self, file: Value) -> Value {
        let body = json!({"file": file});
        let plan = self.by(&admin(), "POST", &format!("{T}/access-file/plan"), Some(body.clone())).await.is(200);
        json!({"file": body["file"], "digest": plan.json["digest"]})
    }

    pub(crate) async fn show_nodes(&self, nodes: &[Value]) {
        let mut ingest = self.store.ingest(self.permit(self.a), "host".parse().unwrap()).await.unwrap();
        let scope: domain::ScopeId = format!("host:{}:machine", self.fresh()).parse().unwrap();
        let nodes: Vec<NodeObservation> =
            nodes.iter().map(|node| serde_json::from_value(node.clone()).unwrap()).collect();
        ingest.page(&Page { scope: scope.clone(), nodes, edges: Vec::new() }).await.unwrap();
        let collection = CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
    }

    /// The edges of a node as `type target`.
    pub(crate) async fn edges_of(&self, node: &str) -> Vec<String> {
        let path = format!("{T}/edges?node={}", node.replace(':', "%3A"));
        let edges = self.by(&admin(), "GET", &path, None).await.is(200);
        let edges = edges.json["items"].as_array().unwrap().clone();
        edges
            .iter()
            .map(|edge| format!("{} {}", edge["type"].as_str().unwrap(), edge["target"].as_str().unwrap()))
            .collect()
    }

    async fn put(&self, path: &str, body: Value) -> crate::world::Answer {
        self.by(&admin(), "PUT", &format!("{T}/{path}"), Some(body)).await
    }

    pub(crate) async fn granted(&self, body: Value) -> String {
        self.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(201).id()
    }

    pub(crate) async fn asset(&self, id: &str) -> crate::world::Answer {
        self.by(&admin(), "GET", &format!("{T}/nodes/{id}"), None).await
    }
}

pub(crate) fn analyst() -> String {
    holder(Role::SecurityAnalyst, 'a')
}

fn machine(id: &str) -> Value {
    json!({"id": id, "name": "web1", "properties": {"sshd": {"host_keys": [
        {"path": "/etc/ssh/ssh_host_ed25519_key.pub", "public_key": HOST_KEY}]}}})
}

#[test]
fn a_destination_is_a_node_and_what_it_is_among_the_discovered_as_long_as_that_is_certain() {
    each_engine(|world| async move {
        let host =
            json!({"address": "10.0.0.7:22", "host_key": HOST_KEY, "roles": ["deploy"], "labels": {"env": "prod"}});
        let id = world.put("destinations/web1/ssh-host", host.clone()).await.is(200).id();
        let node = format!("cairn:global:cairn.ssh_host:{id}");
        let shown = world.asset(&node).await.is(200);
        assert_eq!((&shown.json["name"], &shown.json["tags"]), (&"web1".into(), &json!({"env": "prod"})));
        let listed = world.by(&admin(), "GET", &format!("{T}/destinations/web1"), None).await.is(200);
        assert_eq!(listed.json["node"], json!(node));
        assert_eq!(world.edges_of(&node).await, Vec::<String>::new());

        // Found later, by its key and by where it answers; with a twin that has the same key it is neither.
        world.later();
        let service = "network:berlin:network.service:10.0.0.7:22/tcp";
        world.show_nodes(&[machine(MACHINE), json!({"id": service, "name": "ssh"})]).await;
        assert_eq!(world.edges_of(&node).await.len(), 2);
        world.later();
        world
            .show_nodes(&[
                json!({"id": "network:berlin:network.service:110.0.0.7:22/tcp", "name": "another"}),
                machine(TWIN),
            ])
            .await;
        assert_eq!(world.edges_of(&node).await, [format!("reached_at {service}")]);

        // Who reaches the node reaches what it is.
        world.granted(json!({"user": analyst(), "role": "deploy", "labels": {"env": "prod"}})).await;
        for named in [node.as_str(), service, "web1"] {
            let path = format!("{T}/destinations/{}/reachers", named.replace('/', "%2F"));
            let who = world.by(&admin(), "GET", &path, None).await.is(200);
            assert_eq!(who.json["items"][0]["email"], json!(analyst()), "{named}");
        }
        world.by(&admin(), "GET", &format!("{T}/destinations/{TWIN}/reachers"), None).await.is(404);

        // What is said of it is in its history, and it closes with it.
        world.later();
        let labels = json!({"labels": {"env": "test"}});
        world.by(&admin(), "PATCH", &format!("{T}/destinations/web1"), Some(labels)).await.is(200);
        let history = world.by(&admin(), "GET", &format!("{T}/nodes/{node}/history"), None).await.is(200);
        assert_eq!(history.json["items"].as_array().unwrap().len(), 2, "{}", history.text);
        world.later();
        world.by(&admin(), "DELETE", &format!("{T}/destinations/web1"), None).await.is(204);
        assert!(world.asset(&node).await.is(200).json["closed_at"].is_string());
        assert_eq!(world.edges_of(&node).await, Vec::<String>::new());
        // It is another one when it comes back.
        assert_ne!(world.put("destinations/web1/ssh-host", host).await.is(200).id(), id);
    });
}

#[test]
fn a_cluster_is_the_discovered_one_with_its_authority() {
    each_engine(|world| async move {
        use base64::Engine as _;
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap().self_signed(&key).unwrap();
        let digest = crypto::sha256(certificate.der()).to_hex();
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let body = json!({"name": "prod", "kind": "kubernetes", "authority": "", "version": "1.0.0", "cluster_sha256": digest});
        let path = format!("/api/v1/relays/{}/destinations", relay.id);
        let request = relay.request(&world, "POST", &path, &body.to_string(), |_| ());
        let id = world.send(request).await.is(200).id();
        let node = format!("cairn:global:cairn.kubernetes_cluster:{id}");
        let cluster = "aws:eu-west-1:aws.eks.cluster:arn:aws:eks:eu-west-1:1:cluster/prod";
        let data = base64::engine::general_purpose::STANDARD.encode(certificate.pem());
        let shown = json!({"id": cluster, "name": "prod", "properties": {"certificate_authority": {"data": data}}});
        world.show_nodes(&[shown]).await;
        assert_eq!(world.edges_of(&node).await, [format!("same_as {cluster}")]);
        let wrong = body.to_string().replace(&digest, "00");
        let request = relay.request(&world, "POST", &path, &wrong, |_| ());
        world.send(request).await.is(400).says("64 lower-case");
    });
}

#[test]
fn who_and_what_are_one_answer_from_both_ends_and_say_why() {
    each_engine(|world| async move {
        for name in ["prod", "test"] {
            world.destination_of(world.a, name).await;
        }
        world.group_of(world.a, "devs").await;
        let labels = json!({"labels": {"env": "test"}});
        world.by(&admin(), "PATCH", &format!("{T}/destinations/test"), Some(labels)).await.is(200);
        for email in [analyst(), holder(Role::Auditor, 'a')] {
            world.by(&admin(), "PUT", &format!("{T}/groups/devs/members/{email}"), None).await.is(204);
        }
        let soon = world.clock.now().plus_millis(60_000);
        world.granted(json!({"group": "devs", "role": "view", "destination": "prod", "namespace": "shop", "reason": "on call"})).await;
        world.granted(json!({"user": analyst(), "role": "view", "destination": "prod", "expires_at": soon})).await;
        world.granted(json!({"group": "devs", "role": "edit", "labels": {"env": "test"}})).await;
        // The clock of tests begins on a Thursday at midnight.
        world
            .granted(json!({"group": "devs", "role": "admin", "destination": "prod", "hours": "fri 08:00-18:00"}))
            .await;
        let agree = async || {
            let mut from_places = Vec::new();
            for name in ["prod", "test"] {
                let who = world.by(&admin(), "GET", &format!("{T}/destinations/{name}/reachers"), None).await.is(200);
                for one in who.json["items"].as_array().unwrap() {
                    from_places.push((
                        one["email"].to_string(),
                        name,
                        one["role"].to_string(),
                        one["namespaces"].clone(),
                        one["why"].clone(),
                    ));
                }
            }
            let mut from_people = Vec::new();
            for email in Role::ALL.map(|role| holder(role, 'a')) {
                let what = world.by(&admin(), "GET", &format!("{T}/members/{email}/reach"), None).await.is(200);
                for one in what.json["items"].as_array().unwrap() {
                    let name = if one["name"] == "prod" { "prod" } else { "test" };
                    from_people.push((
                        json!(email).to_string(),
                        name,
                        one["role"].to_string(),
                        one["namespaces"].clone(),
                        one["why"].clone(),
                    ));
                }
            }
            let key = |one: &(String, &str, String, Value, Value)| (one.0.clone(), one.1.to_owned(), one.2.clone());
            from_places.sort_by_key(key);
            from_people.sort_by_key(key);
            assert_eq!(from_places, from_people);
            from_places
        };
        let all = agree().await;
        assert_eq!(all.len(), 4, "{all:?}");
        let who = world.by(&admin(), "GET", &format!("{T}/destinations/prod/reachers"), None).await.is(200);
        let direct =
            who.json["items"].as_array().unwrap().iter().find(|one| one["email"] == json!(analyst())).unwrap().clone();
        assert_eq!((&direct["namespaces"], &direct["until"]), (&Value::Null, &json!(soon)));
        assert_eq!((&direct["through"], &direct["tenant_role"]), (&json!(["direct"]), &json!("security-analyst")));
        let grouped =
            who.json["items"].as_array().unwrap().iter().find(|one| one["email"] != json!(analyst())).unwrap().clone();
        assert_eq!(
            (&grouped["through"], &grouped["why"][0]["reason"], &grouped["why"][0]["origin"]),
            (&json!(["devs"]), &json!("on call"), &json!("manual"))
        );
        // It ends by itself, and with the account.
        world.clock.advance(Duration::from_mins(1));
        let all = agree().await;
        assert!(all.iter().all(|one| one.1 != "prod" || one.3 == json!(["shop"])), "{all:?}");
        let path = format!("/api/v1/users/{}", world.user_id(&analyst()));
        world.by(crate::world::PLATFORM, "PATCH", &path, Some(json!({"disabled": true}))).await.is(200);
        assert_eq!(agree().await.len(), 2);
        // Who is granted something is told what, and not through whom and why.
        let own = world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/reach"), None).await.is(200);
        assert!(!own.text.contains("why") && !own.text.contains("on call"), "{}", own.text);
    });
}

#[test]
fn the_last_use_of_a_grant_is_noted_once_an_hour_and_what_nobody_uses_is_listed() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let used = world.granted(json!({"user": analyst(), "role": "view", "destination": "prod"})).await;
        let unused = world.granted(json!({"user": analyst(), "role": "edit", "destination": "prod"})).await;
        let token = async || {
            let path = format!("{T}/destinations/prod/tokens");
            world.by(&analyst(), "POST", &path, Some(json!({"role": "view"}))).await.is(201);
            let grant = world.by(&admin(), "GET", &format!("{T}/grants/{used}"), None).await.is(200);
            grant.json["last_used_at"].as_str().unwrap().parse::<domain::Timestamp>().unwrap()
        };
        let first = world.clock.now();
        assert_eq!(token().await, first);
        world.clock.advance(Duration::from_mins(59));
        assert_eq!(token().await, first, "not yet written again");
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(token().await, world.clock.now());
        let since = |at: domain::Timestamp| format!("{T}/grants?unused_since={at}");
        let listed = world.by(&admin(), "GET", &since(first.plus_millis(1)), None).await.is(200);
        assert_eq!(listed.json["items"].as_array().unwrap().len(), 1);
        assert_eq!(listed.json["items"][0]["id"], json!(unused));
        assert_eq!(
            world.by(&admin(), "GET", &since(first), None).await.is(200).json["items"],
            json!([]),
            "it is newer"
        );
        world.by(&admin(), "GET", &format!("{T}/grants?unused_since=90d"), None).await.is(400).says("a date and time");
    });
}

pub(crate) async fn begin(world: &World, more: Value) -> crate::world::Answer {
    let ends_at = world.clock.now().plus_millis(24 * 3_600_000);
    let mut body = json!({"name": "Autumn", "reviewers": [admin()], "undecided": "revoke", "ends_at": ends_at});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.by(&admin(), "POST", &format!("{T}/access-reviews"), Some(body)).await
}

pub(crate) async fn items(world: &World, by: &str, id: &str) -> Vec<(i64, String, String)> {
    let items = world.by(by, "GET", &format!("{T}/access-reviews/{id}/items"), None).await.is(200);
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or("-").to_owned();
    let items = items.json["items"].as_array().unwrap();
    items.iter().map(|item| (item["number"].as_i64().unwrap(), text(item, "about"), text(item, "outcome"))).collect()
}

#[test]
fn a_review_ends_in_evidence_that_verifies_offline_for_the_controls_that_ask_for_it() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "devs").await;
        for email in [analyst(), holder(Role::Auditor, 'a'), admin()] {
            world.by(&admin(), "PUT", &format!("{T}/groups/devs/members/{email}"), None).await.is(204);
        }
        world.granted(json!({"group": "devs", "role": "view", "destination": "prod"})).await;
        world.granted(json!({"user": analyst(), "role": "edit", "destination": "prod"})).await;
        world.granted(json!({"user": admin(), "role": "admin", "destination": "prod"})).await;
        let reviewers = json!({"reviewers": [admin(), holder(Role::ReadOnly, 'a')]});
        let id = begin(&world, reviewers).await.is(201).id();
        let all = items(&world, &admin(), &id).await;
        let number =
            |about: &str| all.iter().find(|item| item.1 == about).unwrap_or_else(|| panic!("{about}: {all:?}")).0;
        let (mine, theirs) = (
            number(&format!("user {} as admin at prod", admin())),
            number(&format!("user {} as edit at prod", analyst())),
        );
        let (group, place) =
            (number("group devs as view at prod"), number(&format!("user {} in group devs", analyst())));
        assert_eq!(all.len(), 6);

        let decide = async |by: &str, items: &[i64], decision: &str, reason: &str| {
            let body = json!({"items": items, "decision": decision, "reason": reason});
            world.by(by, "POST", &format!("{T}/access-reviews/{id}/decide"), Some(body)).await
        };
        // Not about oneself, alone or through a group; not without a reason; and not by whom nobody asked.
        for own in [mine, group, number(&format!("user {} in group devs", admin()))] {
            decide(&admin(), &[own], "keep", "I need it").await.is(403).says("yourself");
        }
        decide(&admin(), &[theirs], "keep", " ").await.is(400).says("say why");
        decide(&admin(), &[99], "keep", "x").await.is(400).says("no item 99");
        decide(&admin(), &[theirs], "maybe", "x").await.is(400).says("maybe");
        decide(&analyst(), &[theirs], "keep", "x").await.is(404);
        decide(&holder(Role::SystemAdmin, 'a'), &[theirs], "keep", "x").await.is(403).says("only the reviewers");

        // Revoked is taken now, with the record that it leaves by hand.
        let token = async |role: &str| {
            let path = format!("{T}/destinations/prod/tokens");
            world.by(&analyst(), "POST", &path, Some(json!({"role": role}))).await.status
        };
        assert_eq!((token("edit").await, token("view").await), (201, 201));
        let before = world.audit(Some(world.a), -1).await.last().unwrap().0;
        decide(&admin(), &[theirs, place], "revoke", "changed teams").await.is(200);
        assert_eq!((token("edit").await, token("view").await), (404, 404));
        let left = world.audit(Some(world.a), before).await;
        let actions: Vec<&str> = left.iter().map(|(_, action, _)| action.as_str()).collect();
        for action in ["grant_delete", "group_member_remove", "access_review_decide"] {
            assert!(actions.contains(&action), "{actions:?}");
        }
        decide(&admin(), &[theirs], "keep", "no").await.is(409).says("taken already");
        // A reviewer needs no role that manages anything.
        let reader = holder(Role::ReadOnly, 'a');
        decide(&reader, &[group, mine], "keep", "the team needs it").await.is(200);
        assert_eq!(
            world.by(&reader, "GET", &format!("{T}/access-reviews"), None).await.is(200).json["items"][0]["id"],
            json!(id)
        );
        world.by(&analyst(), "GET", &format!("{T}/access-reviews/{id}"), None).await.is(404);
        assert_eq!(
            world.by(&analyst(), "GET", &format!("{T}/access-reviews"), None).await.is(200).json["items"],
            json!([])
        );

        // Its time is over: nobody decides any more, and what nobody decided becomes what its maker said.
        world.clock.advance(Duration::from_hours(24));
        world.tokens.lock().await.clear();
        decide(&reader, &[mine], "revoke", "late").await.is(409).says("closed");
        assert_eq!(world.store.access_reviews_due().await.unwrap().len(), 1);
        let ctx = OpCtx::system("reviews", world.a, world.clock.clone(), world.rng.clone());
        for (tenant, review) in world.store.access_reviews_due().await.unwrap() {
            world.store.access_review_close(ctx.authorize(tenant).unwrap(), review).await.unwrap();
        }
        assert_eq!(world.store.access_reviews_due().await.unwrap(), []);
        let closed = world.by(&admin(), "GET", &format!("{T}/access-reviews/{id}"), None).await.is(200);
        assert_eq!(
            (&closed.json["state"], &closed.json["decided"], &closed.json["revoked"]),
            (&json!("attested"), &json!(6), &json!(4))
        );
        let outcomes: Vec<String> = items(&world, &admin(), &id).await.into_iter().map(|item| item.2).collect();
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "revoked").count(), 4, "{outcomes:?}");
        world.by(&admin(), "POST", &format!("{T}/access-reviews/{id}/close"), None).await.is(409);

        for control in ["AC-2", "AC-6"] {
            let path = format!("{T}/evidence?framework=nist-800-53-r5&control={control}");
            let listed = world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
            assert_eq!(listed.json["items"][0]["kind"], "attestation", "{}", listed.text);
            verify(&world, control, &closed.json["id"]).await;
        }
    });
}

/// Exports what there is about a control, and verifies it as an auditor does.
async fn verify(world: &World, control: &str, review: &Value) {
    use evidence::bundle::{BundleHead, BundleWriter, Summary};
    let of = MaterialOf::Control("nist-800-53-r5".to_owned(), control.to_owned());
    let material = world
        .store
        .write(world.permit::<ops::EvidenceExport>(world.a))
        .await
        .unwrap()
        .evidence_material(&of)
        .await
        .unwrap();
    let key = world.store.signing_key("evidence").await.unwrap();
    let program = evidence::statement::Program { name: "test".to_owned(), version: "1".to_owned() };
    let head =
        BundleHead { tenant: world.a, created: world.clock.now(), program, summary: Summary::Control(json!({})) };
    let mut writer = BundleWriter::new(Vec::new(), &key, head).unwrap();
    let mut whole = String::new();
    for statement in &material.statements {
        let signature = statement.signature.as_slice().try_into().unwrap();
        let signed = evidence::SignedStatement::stored(statement.pae.clone(), signature, &key.public()).unwrap();
        writer.statement(&signed).unwrap();
        writer.logged(&signed, &material.proofs[&statement.row.id], &world.store.log_key()).unwrap();
    }
    for artifact in material.artifacts() {
        let bytes = material.bytes(artifact).await.unwrap();
        writer.artifact(&artifact.digest, artifact.signature.as_slice().try_into().unwrap(), bytes.as_slice()).unwrap();
        whole += std::str::from_utf8(&bytes).unwrap();
    }
    let bundle = writer.finish().unwrap();
    let report = evidence::verify_bundle(std::io::Cursor::new(&bundle), Some(key.public().fingerprint())).unwrap();
    assert_eq!((report.statements.len(), report.artifacts), (1, 1));
    let line = &report.statements[0];
    assert_eq!(
        (line.kind, line.about.as_str()),
        ("access-review", format!("nist-800-53-r5 {control}: Autumn").as_str())
    );
    assert!(line.log_index.is_some());
    // Every item with what was decided, by whom and why.
    let document: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!((&document["review"], document["items"].as_array().unwrap().len()), (review, 6));
    assert!(whole.contains("changed teams") && whole.contains("\"decided_by\": \"default\""), "{whole}");
    assert!(evidence::verify_bundle(std::io::Cursor::new(&bundle), Some(crypto::sha256(b"another"))).is_err());
}

#[test]
fn a_review_asks_about_something_of_somebody_until_some_time() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        begin(&world, json!({})).await.is(400).says("nothing gives");
        world.granted(json!({"user": analyst(), "role": "edit", "destination": "prod"})).await;
        world.granted(json!({"user": holder(Role::Auditor, 'a'), "role": "view", "destination": "prod"})).await;
        for (bad, says) in [
            (json!({"reviewers": []}), "1 to 50"),
            (json!({"reviewers": [holder(Role::Auditor, 'b')]}), "no member"),
            (json!({"ends_at": "2020-01-01T00:00:00Z"}), "366 days"),
            (json!({"undecided": "maybe"}), "keep"),
            (json!({"scope": {"destinations": ["nowhere"]}}), "no destination `nowhere`"),
            (json!({"scope": {"labels": {}}}), "at least one label"),
            (json!({"scope": {"cluster": "prod"}}), "cluster"),
        ] {
            begin(&world, bad).await.is(400).says(says);
        }
        for (scope, count) in [
            (json!({}), 2),
            (json!({"roles": ["edit"]}), 1),
            (json!({"users": [analyst()]}), 1),
            (json!({"destinations": ["prod"], "users": [analyst()], "roles": ["edit"]}), 1),
        ] {
            assert_eq!(begin(&world, json!({"scope": scope})).await.is(201).json["items"], json!(count), "{scope}");
        }
    });
}

pub(crate) async fn plan(world: &World, by: &str, body: Value) -> crate::world::Answer {
    world.by(by, "POST", &format!("{T}/access-file/plan"), Some(body)).await
}

pub(crate) async fn apply(world: &World, body: Value) -> crate::world::Answer {
    let shown = plan(world, &admin(), body.clone()).await.is(200);
    let mut body = body;
    body["digest"] = shown.json["digest"].clone();
    world.by(&admin(), "POST", &format!("{T}/access-file/apply"), Some(body)).await
}

pub(crate) fn changes(answer: &crate::world::Answer) -> Vec<String> {
    let all = answer.json["changes"].as_array().unwrap();
    all.iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one["action"].as_str().unwrap(),
                one["kind"].as_str().unwrap(),
                one["name"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_file_makes_what_it_says_once_and_takes_only_what_is_its_own() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "by-hand").await;
        let grants = json!([
            {"group": "devs", "role": "view", "destination": "prod", "namespace": "shop", "reason": "the team"},
            {"user": analyst(), "role": "edit", "destination": "prod"},
            {"group": "by-hand", "role": "view", "labels": {"env": "test"}, "hours": "mon-fri 08:00-18:00 +01:00"},
        ]);
        let mut file = json!({
            "version": 1, "name": "team", "members": [{"email": "new@example.org", "role": "read-only"}],
            "groups": [{"name": "devs", "members": [analyst(), "new@example.org"]}],
            "destinations": [{"name": "prod", "labels": {"env": "prod"}}], "grants": grants,
        });
        let made = apply(&world, json!({"file": file})).await.is(200);
        assert_eq!(changes(&made).len(), 7, "{:?}", changes(&made));
        assert!(made.json["waiting"][0].as_str().unwrap().contains("new@example.org has signed in"), "{}", made.text);
        let again = apply(&world, json!({"file": file})).await.is(200);
        assert_eq!(changes(&again), Vec::<String>::new());
        let log =
            world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/audit?action=grant_create"), None).await.is(200);
        assert_eq!(log.json["items"].as_array().unwrap().len(), 3);
        assert_eq!(log.json["items"][0]["detail"]["file"], "team");
        let token = format!("{T}/destinations/prod/tokens");
        world.by(&analyst(), "POST", &token, Some(json!({"role": "view"}))).await.is(201);

        // What somebody made by hand stays, what another file keeps is not taken over, and what is gone from this one goes only when asked.
        world.granted(json!({"user": holder(Role::Auditor, 'a'), "role": "view", "destination": "prod"})).await;
        let other = json!({"version": 1, "name": "other", "grants": [grants[1]]});
        plan(&world, &admin(), json!({"file": other})).await.is(409).says("kept by the file `team`");
        file["grants"] = json!([grants[0]]);
        file["grants"][0]["reason"] = json!("still the team");
        assert_eq!(
            changes(&apply(&world, json!({"file": file})).await.is(200)),
            ["update grant group devs as view at prod.shop"]
        );
        let pruned = apply(&world, json!({"file": file, "prune": true})).await.is(200);
        let gone = format!("delete grant user {} as edit at prod", analyst());
        assert!(changes(&pruned).contains(&gone) && changes(&pruned).len() == 2, "{:?}", changes(&pruned));
        let left = world.by(&admin(), "GET", &format!("{T}/grants"), None).await.is(200);
        assert_eq!(left.json["items"].as_array().unwrap().len(), 2);

        // What the file says again is taken over, and what it wrote down makes no difference.
        let mine = json!({"user": holder(Role::Auditor, 'a'), "role": "view", "destination": "prod"});
        file["grants"].as_array_mut().unwrap().push(mine);
        let adopted = format!("adopt grant user {} as view at prod", holder(Role::Auditor, 'a'));
        assert_eq!(changes(&apply(&world, json!({"file": file})).await.is(200)), [adopted]);
        let written = world.by(&admin(), "GET", &format!("{T}/access-file?name=team"), None).await.is(200).json;
        let same = plan(&world, &admin(), json!({"file": written, "prune": true})).await.is(200);
        assert_eq!(changes(&same), ["adopt group by-hand"], "{written}");
        // A group goes with what is its own, and stays while somebody else uses it.
        let empty = json!({"version": 1, "name": "team"});
        let all = plan(&world, &admin(), json!({"file": empty, "prune": true})).await.is(200);
        assert!(changes(&all).contains(&"delete group devs".to_owned()), "{:?}", changes(&all));
        world.granted(json!({"group": "devs", "role": "admin", "destination": "prod"})).await;
        let all = plan(&world, &admin(), json!({"file": empty, "prune": true})).await.is(200);
        assert!(!changes(&all).iter().any(|one| one.starts_with("delete group ")), "{:?}", changes(&all));
    });
}

#[test]
fn attack_a_file_does_nothing_that_its_bringer_could_not_do_by_hand_or_that_was_not_shown() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "devs").await;
        let file = |more: Value| {
            let mut file = json!({"version": 1, "name": "team"});
            file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"file": file})
        };
        for (bad, says) in [
            (json!({"version": 2}), "version 1"),
            (json!({"name": "Team!"}), "a-z"),
            (
                json!({"members": [{"email": "x@example.org", "role": "system-admin"}]}),
                "members[0]: your role cannot give",
            ),
            (
                json!({"grants": [{"user": "devs", "role": "view", "destination": "prod"}]}),
                "grants[0]: there is no member `devs`",
            ),
            (json!({"grants": [{"group": analyst(), "role": "view", "destination": "prod"}]}), "grants[0]"),
            (
                json!({"grants": [{"group": "devs", "role": "view", "destination": "nowhere"}]}),
                "no destination `nowhere`",
            ),
            (json!({"grants": [{"group": "devs", "role": "system:masters", "destination": "prod"}]}), "system:"),
            (json!({"grants": [{"group": "devs", "role": "view", "labels": {}}]}), "at least one label"),
            (json!({"groups": [{"name": "a"}, {"name": "a"}]}), "groups[1]: `a` is there twice"),
            (json!({"groups": [{"name": "a", "members": ["nobody@example.org"]}]}), "groups[0]: there is no member"),
            (json!({"grant": []}), "grant"),
        ] {
            plan(&world, &admin(), file(bad)).await.is(400).says(says);
        }
        // A key manages access, and no users.
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        let as_key =
            async |body: Value| world.call("POST", &format!("{T}/access-file/plan"), Some(&key), Some(body)).await;
        as_key(file(json!({"members": [{"email": "x@example.org", "role": "read-only"}]}))).await.is(403);
        as_key(file(json!({"group_roles": [{"provider": "p", "group": "g", "role": "read-only"}]}))).await.is(403);
        let harmless = file(json!({"grants": [{"group": "devs", "role": "view", "destination": "prod"}]}));
        as_key(harmless.clone()).await.is(200);
        // Members keep their role, whatever a file says.
        let lower = file(json!({"members": [{"email": admin(), "role": "read-only"}]}));
        let shown = plan(&world, &admin(), lower).await.is(200);
        assert_eq!((changes(&shown).len(), shown.json["waiting"].as_array().unwrap().len()), (0, 1));

        // Only what was shown is made, and only once.
        let path = format!("{T}/access-file/apply");
        world.by(&admin(), "POST", &path, Some(harmless.clone())).await.is(400).says("digest");
        let shown = plan(&world, &admin(), harmless.clone()).await.is(200);
        let mut body = harmless.clone();
        body["digest"] = shown.json["digest"].clone();
        let mut another = body.clone();
        another["file"]["grants"][0]["role"] = json!("admin");
        world.by(&admin(), "POST", &path, Some(another)).await.is(409).says("look at the difference again");
        world.by(&admin(), "POST", &path, Some(body.clone())).await.is(200);
        world.by(&admin(), "POST", &path, Some(body)).await.is(409);
        // Half of a file is nothing: what is refused in the middle leaves no trace.
        let half = file(
            json!({"groups": [{"name": "fresh"}], "grants": [{"group": "fresh", "role": "view", "destination": "nowhere"}]}),
        );
        plan(&world, &admin(), half).await.is(400);
        let groups = world.by(&admin(), "GET", &format!("{T}/groups"), None).await.is(200);
        assert!(!groups.text.contains("fresh"));
    });
}

#[test]
fn the_schema_of_a_file_is_the_committed_one() {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let (mut found, mut wanted) = (serde_json::Map::new(), vec!["AccessFile".to_owned()]);
    while let Some(name) = wanted.pop() {
        let schema = document["components"]["schemas"][&name].clone();
        let text = schema.to_string();
        let named = text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        wanted.extend(named.filter(|name| !found.contains_key(name)));
        found.insert(name, serde_json::from_str(&text.replace("#/components/schemas/", "#/$defs/")).unwrap());
    }
    let root = found.remove("AccessFile").unwrap();
    let mut schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Cairn access file", "$defs": found});
    schema.as_object_mut().unwrap().extend(root.as_object().unwrap().clone());
    testkit::golden::check("../../docs/schema/access-file.json", &format!("{schema:#}\n"));
}
