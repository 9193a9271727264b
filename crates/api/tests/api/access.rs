//! Access to destinations: who reaches them, by which grants, with which tokens, and what ends it.

use std::time::Duration;

use access::ssh::SshUse;
use access::{Actor, Grants, MemberOperation, MemberPermit, OpCtx, Role, member_ops, ops};
use crypto::es512::KeySet;
use domain::{Clock as _, FleetKind, RequestId, SessionId, TenantId};
use gateway::{Refusal, Verifier};
use serde_json::{Value, json};
use store::{NewGrant, NewRequest, Standing, SubjectName, TargetName};

use crate::fleet::Machine;
use crate::world::{Answer, NEWCOMER, World, admin, each_engine, holder, planted};

const T: &str = "/api/v1/tenants/acme";

impl World {
    /// A destination of a tenant, on a relay of its own: its id.
    pub(crate) async fn destination_of(&self, tenant: TenantId, name: &str) -> String {
        let mut relay = Machine::enrolled(self, tenant, FleetKind::Relay).await;
        register(self, &mut relay, name).await.is(200).id()
    }

    /// A group of a tenant: its id.
    pub(crate) async fn group_of(&self, tenant: TenantId, name: &str) -> String {
        let unit = self.store.write(self.permit::<ops::GroupCreate>(tenant)).await.unwrap();
        unit.group_create(&name.parse().unwrap(), None).await.unwrap().id.to_string()
    }

    /// A grant of a tenant to a group of its own: its id.
    pub(crate) async fn grant_of(&self, tenant: TenantId) -> String {
        let group = self.group_of(tenant, &format!("g{}", self.fresh())).await;
        let labels = domain::Labels::new([("env".to_owned(), "prod".to_owned())].into()).unwrap();
        let new = NewGrant {
            subject: SubjectName::Group(group),
            role: "view".parse().unwrap(),
            target: TargetName::Labels(labels),
            namespace: None,
            hours: None,
            expires_at: None,
            act_as: domain::ActAs::default(),
            ssh: domain::SshTerms::default(),
            reason: String::new(),
            approval: false,
        };
        let unit = self.store.write(self.permit::<ops::GrantCreate>(tenant)).await.unwrap();
        unit.grant_create(&new).await.unwrap().grant.id.to_string()
    }

    /// A new member of a tenant with a password of their own, signed in: their id.
    pub(crate) async fn settled(&self, tenant: TenantId, email: &str) -> String {
        let id = self.member_named(tenant, email).await;
        let token = self.sign_in(email).await;
        for (old, new) in
            [(&planted().password, &planted().new_password), (&planted().new_password, &planted().password)]
        {
            let body = json!({"old": old, "new": new});
            self.call("POST", "/api/v1/me/password", Some(&token), Some(body)).await.is(204);
        }
        self.tokens.lock().await.insert(email.to_owned(), token);
        id
    }

    fn as_member<O: MemberOperation>(&self, tenant: TenantId, email: &str) -> MemberPermit<O> {
        let session = SessionId::generate(&*self.clock, &*self.rng);
        let actor = Actor::User { id: self.user_id(email), email: email.parse().unwrap(), session };
        let grants = Grants { platform_admin: false, tenants: vec![(tenant, Role::Auditor)] };
        let request = RequestId::generate(&*self.clock, &*self.rng);
        OpCtx::user(actor, grants, request, None, self.clock.clone(), self.rng.clone())
            .authorize_member(tenant)
            .unwrap()
    }

    /// A request of somebody who asks for nothing else that waits: its id.
    pub(crate) async fn access_request_of(&self, tenant: TenantId) -> String {
        let asker = if tenant == self.a { NEWCOMER.to_owned() } else { holder(Role::Auditor, 'b') };
        let mine = self.store.access_request_mine(self.as_member(tenant, &asker), None, 500).await.unwrap().items;
        let pending: Vec<_> = mine.iter().filter(|row| row.state == store::RequestState::Pending).collect();
        if pending.len() > 15 {
            for row in pending {
                self.store.access_request_withdraw(self.as_member(tenant, &asker), row.id).await.unwrap();
            }
        }
        let new = NewRequest {
            destination: "standing".to_owned(),
            role: "view".parse().unwrap(),
            namespace: None,
            duration_ms: 600_000,
            reason: "a pod hangs".to_owned(),
        };
        let permit = self.as_member::<member_ops::AccessRequestCreate>(tenant, &asker);
        self.store.access_request_create(permit, &new).await.unwrap().id.to_string()
    }
}

async fn register(world: &World, relay: &mut Machine, name: &str) -> Answer {
    register_at(world, relay, name, None).await
}

/// When the certificate ends that a relay shows at its address.
const CERTIFICATE_ENDS: &str = "2027-01-01T00:00:00.000Z";

async fn register_at(world: &World, relay: &mut Machine, name: &str, address: Option<&str>) -> Answer {
    let body = json!({
        "name": name, "kind": "kubernetes", "authority": "", "address": address, "namespaces": ["shop", "pay"], "roles": ["view", "edit"],
        "version": "1.0.0", "certificate_ends_at": address.map(|_| CERTIFICATE_ENDS),
    });
    let path = format!("/api/v1/relays/{}/destinations", relay.id);
    let request = relay.request(world, "POST", &path, &body.to_string(), |_| ());
    world.send(request).await
}

pub(crate) async fn grant(world: &World, body: Value) -> String {
    world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(201).id()
}

/// Asks for a token as somebody.
pub(crate) async fn token(world: &World, email: &str, destination: &str, body: Value) -> Answer {
    world.by(email, "POST", &format!("{T}/destinations/{destination}/tokens"), Some(body)).await
}

/// A proxy at a destination, with the keys that are published now.
pub(crate) async fn proxy(world: &World, destination: &str) -> Verifier {
    let keys = world.call("GET", "/.well-known/jwks.json", None, None).await.is(200);
    let keys = KeySet::parse(keys.text.as_bytes()).unwrap();
    Verifier::new(world.installation.clone(), destination.parse().unwrap(), keys, 5)
}

/// What a connection rests on that is begun with this token.
pub(crate) async fn standing(world: &World, destination: &str, token: &str) -> Standing {
    let said = proxy(world, destination).await.admit(token, world.clock.now()).unwrap();
    Standing {
        tenant: world.a,
        user: said.user,
        name: Some(said.name),
        session: said.session,
        destination: said.destination,
        role: said.role,
        namespaces: said.namespaces,
        act_as: said.act_as,
        groups: Vec::new(),
        ssh: SshUse::default(),
    }
}

/// Whether it goes on at this moment.
pub(crate) async fn stands(world: &World, standing: &Standing) -> bool {
    world.store.standing_until(std::slice::from_ref(standing)).await.unwrap()[0].is_some()
}

fn analyst() -> String {
    holder(Role::SecurityAnalyst, 'a')
}

#[test]
fn a_token_is_good_at_its_destination_for_what_was_granted_and_nobody_reaches_anything_else() {
    each_engine(|world| async move {
        let (prod, test) = (world.destination_of(world.a, "prod").await, world.destination_of(world.a, "test").await);
        // No role gives anything: not even an administrator's.
        for email in [analyst(), admin(), holder(Role::SystemAdmin, 'a')] {
            let none = token(&world, &email, "prod", json!({})).await.is(404);
            let nowhere = token(&world, &email, "nowhere", json!({})).await.is(404);
            assert_eq!(none.masked(&["prod"]), nowhere.masked(&["nowhere"]));
            assert_eq!(world.by(&email, "GET", &format!("{T}/reach"), None).await.is(200).json["items"], json!([]));
        }
        world.by(&admin(), "POST", &format!("{T}/groups"), Some(json!({"name": "devs"}))).await.is(201);
        world.by(&admin(), "PUT", &format!("{T}/groups/devs/members/{}", analyst()), None).await.is(204);
        grant(&world, json!({"group": "devs", "role": "view", "destination": "prod", "namespace": "shop"})).await;

        let made = token(&world, &analyst(), "prod", json!({})).await.is(201);
        let text = made.json["token"].as_str().unwrap();
        let now = world.clock.now();
        let admission = proxy(&world, &prod).await.admit(text, now).unwrap();
        assert_eq!(admission.name, analyst());
        assert_eq!(
            (admission.role.as_str(), admission.groups.len(), admission.groups[0].as_str()),
            ("view", 1, "devs")
        );
        assert_eq!(admission.namespaces, Some(vec!["shop".parse().unwrap()]));
        assert_eq!(admission.tenant, world.a);
        assert!(admission.expires.millis_since(now) <= 300_000);
        assert_eq!(proxy(&world, &test).await.admit(text, now), Err(Refusal::Audience));
        // A destination token is no session here.
        world.call("GET", &format!("{T}/reach"), Some(text), None).await.is(401);
        token(&world, &analyst(), "prod", json!({"role": "edit"})).await.is(403).says("`view`");
        token(&world, &analyst(), &test, json!({})).await.is(404);

        // Of several roles one is chosen.
        grant(&world, json!({"user": analyst(), "role": "edit", "destination": "prod"})).await;
        token(&world, &analyst(), "prod", json!({})).await.is(400).says("name one of them");
        let edit = token(&world, &analyst(), "prod", json!({"role": "edit"})).await.is(201);
        assert_eq!((edit.json["role"].as_str(), edit.json.get("namespaces")), (Some("edit"), None));
        let what = world.by(&admin(), "GET", &format!("{T}/members/{}/reach", analyst()), None).await.is(200);
        assert_eq!(what.json["items"].as_array().unwrap().len(), 2);
        let who = world.by(&admin(), "GET", &format!("{T}/destinations/prod/reachers"), None).await.is(200);
        assert_eq!(who.json["items"][0]["email"], json!(analyst()));

        // Labels select, and only an administrator sets them.
        let labels = json!({"env": "test", "tier": "1"});
        grant(&world, json!({"group": "devs", "role": "admin", "labels": {"env": "test"}})).await;
        token(&world, &analyst(), "test", json!({})).await.is(404);
        world.by(&admin(), "PATCH", &format!("{T}/destinations/test"), Some(json!({"labels": labels}))).await.is(200);
        token(&world, &analyst(), "test", json!({})).await.is(201);
        for (bad, says) in [
            (json!({"user": analyst(), "role": "view", "labels": {}}), "at least one label"),
            (json!({"user": analyst(), "role": "system:masters", "destination": "prod"}), "system:"),
            (json!({"user": analyst(), "role": "view"}), "either a destination or labels"),
            (json!({"role": "view", "destination": "prod"}), "either a user or a group"),
            (json!({"user": holder(Role::Auditor, 'b'), "role": "view", "destination": "prod"}), "no member"),
            (json!({"user": analyst(), "role": "view", "destination": "nowhere"}), "no destination"),
            (
                json!({"user": analyst(), "role": "view", "destination": "prod", "expires_at": "2020-01-01T00:00:00Z"}),
                "over already",
            ),
        ] {
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(bad)).await.is(400).says(says);
        }
        let again = json!({"user": analyst(), "role": "edit", "destination": "prod"});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(again)).await.is(409);
    });
}

#[test]
fn a_token_ends_with_its_grant_its_hours_and_its_session() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let soon = world.clock.now().plus_millis(90_000);
        let id =
            grant(&world, json!({"user": analyst(), "role": "view", "destination": "prod", "expires_at": soon})).await;
        assert_eq!(token(&world, &analyst(), "prod", json!({})).await.is(201).json["expires_at"], json!(soon));
        world.clock.advance(Duration::from_secs(90));
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        world.by(&admin(), "DELETE", &format!("{T}/grants/{id}"), None).await.is(204);
        // The clock of tests begins on a Thursday at midnight.
        grant(&world, json!({"user": analyst(), "role": "view", "destination": "prod", "hours": "thu 00:00-00:03"}))
            .await;
        let closes = token(&world, &analyst(), "prod", json!({})).await.is(201).json["expires_at"].clone();
        assert_eq!(closes, json!("2026-01-01T00:03:00.000Z"));
        let ends = world.clock.now().plus_millis(30_000);
        let permit = world.as_member::<member_ops::DestinationTokenCreate>(world.a, &analyst());
        let made = world.store.destination_token_create(permit, "prod", None, ends).await.unwrap();
        assert_eq!(made.expires_at, ends);
        world.clock.advance(Duration::from_secs(90));
        token(&world, &analyst(), "prod", json!({})).await.is(404);
    });
}

/// What takes access away, by its name.
const ENDS: [&str; 8] = ["grant", "group member", "group", "member", "session", "user", "destination", "relay"];

#[test]
fn attack_52_whatever_takes_access_away_is_noticed_by_who_holds_connections_on_every_server() {
    each_engine(|world| async move {
        for end in ENDS {
            let name = format!("d{}", world.fresh());
            let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
            let id = register(&world, &mut relay, &name).await.is(200).id();
            let group = format!("g{}", world.fresh());
            let email = format!("u{}@example.org", world.fresh());
            let user = world.settled(world.a, &email).await;
            world.by(&admin(), "POST", &format!("{T}/groups"), Some(json!({"name": group}))).await.is(201);
            world.by(&admin(), "PUT", &format!("{T}/groups/{group}/members/{user}"), None).await.is(204);
            let grant =
                grant(&world, json!({"group": group, "role": "view", "destination": name, "namespace": "shop"})).await;
            let made = token(&world, &email, &name, json!({})).await.is(201);
            let admission =
                proxy(&world, &id).await.admit(made.json["token"].as_str().unwrap(), world.clock.now()).unwrap();
            let standing = Standing {
                tenant: world.a,
                user: admission.user,
                name: Some(admission.name),
                session: admission.session,
                destination: admission.destination,
                role: admission.role,
                namespaces: admission.namespaces,
                act_as: admission.act_as,
                groups: Vec::new(),
                ssh: access::ssh::SshUse::default(),
            };
            let stands = async |standing: &Standing| {
                world.store.standing_until(std::slice::from_ref(standing)).await.unwrap()[0]
            };
            assert!(stands(&standing).await.is_some(), "{end}");
            let wider = Standing { namespaces: None, ..standing.clone() };
            assert_eq!(stands(&wider).await, None, "what it rests on has to be granted whole");
            let elsewhere = Standing { tenant: world.b, ..standing.clone() };
            assert_eq!(stands(&elsewhere).await, None);

            let (mut changes, tenants) = (world.store.access_changes(), std::collections::BTreeSet::from([world.a]));
            changes.next(&tenants).await;
            let (method, path, by, body) = match end {
                "grant" => ("DELETE", format!("{T}/grants/{grant}"), admin(), None),
                "group member" => ("DELETE", format!("{T}/groups/{group}/members/{email}"), admin(), None),
                "group" => ("DELETE", format!("{T}/groups/{group}"), admin(), None),
                "member" => ("DELETE", format!("{T}/members/{user}"), admin(), None),
                "session" => ("DELETE", "/api/v1/sessions/current".to_owned(), email.clone(), None),
                "user" => {
                    let disabled = Some(json!({"disabled": true}));
                    ("PATCH", format!("/api/v1/users/{user}"), crate::world::PLATFORM.to_owned(), disabled)
                }
                "destination" => ("DELETE", format!("{T}/destinations/{name}"), admin(), None),
                _ => ("DELETE", format!("{T}/relays/{}", relay.id), admin(), None),
            };
            let answer = world.by(&by, method, &path, body).await;
            assert!(answer.status < 300, "{end}: {}", answer.text);
            let noticed = tokio::time::timeout(Duration::from_secs(2), changes.next(&tenants)).await;
            assert_eq!(noticed.expect(end), tenants, "{end}");
            assert_eq!(stands(&standing).await, None, "{end}");
        }
    });
}

#[test]
fn attack_47_a_grant_lends_names_of_its_own_tenant_and_they_go_with_it() {
    each_engine(|world| async move {
        let prod = world.destination_of(world.a, "prod").await;
        let (ann, email) = (analyst(), "lent@example.org");
        let bob = world.settled(world.a, email).await;
        world.group_of(world.a, "ops").await;
        let stranger = holder(Role::Auditor, 'b');
        let with = |names: Value, groups: Value| json!({"user": ann, "role": "view", "destination": "prod", "namespace": "shop", "as_users": names, "as_groups": groups});
        for (names, groups, says) in [
            (json!([stranger]), json!([]), "no member"),
            (json!(["nobody@example.org"]), json!([]), "no member"),
            (json!(["system:admin"]), json!([]), "login name"),
            (json!(["bot"]), json!(["nowhere"]), "no group"),
            (json!(["bot"]), json!(["system:masters"]), "a-z"),
            (json!([]), json!(["ops"]), "together with a user"),
        ] {
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(with(names, groups))).await.is(400).says(says);
        }
        let plain = json!({"user": ann, "role": "view", "destination": "prod"});
        grant(&world, plain).await;
        let id = grant(&world, with(json!([email, "deploy-bot"]), json!(["ops"]))).await;
        let shown = world.by(&admin(), "GET", &format!("{T}/grants/{id}"), None).await.is(200).json;
        assert_eq!((&shown["as_users"], &shown["as_groups"]), (&json!(["deploy-bot", email]), &json!(["ops"])));

        let admitted = async || {
            let made = token(&world, &ann, "prod", json!({})).await.is(201);
            proxy(&world, &prod).await.admit(made.json["token"].as_str().unwrap(), world.clock.now()).unwrap()
        };
        let said = admitted().await;
        let lent = json!([{"namespace": "shop", "users": ["deploy-bot", email], "groups": ["ops"]}]);
        assert_eq!((said.namespaces, json!(said.act_as)), (None, lent.clone()));
        let who = world.by(&admin(), "GET", &format!("{T}/destinations/prod/reachers"), None).await.is(200);
        assert_eq!(who.json["items"][0]["act_as"], lent);
        let standing = Standing {
            tenant: world.a,
            user: said.user,
            name: None,
            session: said.session,
            destination: said.destination,
            role: said.role,
            namespaces: None,
            act_as: said.act_as,
            groups: Vec::new(),
            ssh: access::ssh::SshUse::default(),
        };
        let stands = async || world.store.standing_until(std::slice::from_ref(&standing)).await.unwrap()[0].is_some();
        assert!(stands().await);
        // A name is nobody's any more when its user has left; the grant goes on without it.
        world.by(&admin(), "DELETE", &format!("{T}/members/{bob}"), None).await.is(204);
        assert!(!stands().await, "what was opened under that token ends");
        assert_eq!(json!(admitted().await.act_as[0].act_as.users), json!(["deploy-bot"]));
        world.by(&admin(), "DELETE", &format!("{T}/grants/{id}"), None).await.is(204);
        assert!(admitted().await.act_as.is_empty());
        let log = world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/audit?action=grant_create"), None).await;
        let made = log.is(200).json["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["detail"]["act_as"]["groups"] == json!(["ops"]));
        assert!(made, "the log says what was lent");
    });
}

#[test]
fn a_relay_is_told_which_roles_are_granted_at_its_destination_and_to_nobody_in_particular() {
    each_engine(|world| async move {
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        register(&world, &mut relay, "prod").await.is(200);
        world.destination_of(world.a, "test").await;
        world.group_of(world.a, "devs").await;
        let soon = world.clock.now().plus_millis(60_000);
        for more in [
            json!({"user": analyst(), "destination": "prod", "namespace": "shop"}),
            json!({"group": "devs", "destination": "prod", "namespace": "shop"}),
            json!({"group": "devs", "destination": "prod", "role": "edit", "hours": "sun 00:00-00:03"}),
            json!({"group": "devs", "destination": "prod", "role": "admin", "namespace": "pay", "expires_at": soon}),
            json!({"group": "devs", "destination": "test", "role": "admin"}),
            json!({"group": "devs", "labels": {"env": "test"}, "role": "admin"}),
        ] {
            let mut body = json!({"role": "view"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            grant(&world, body).await;
        }
        let granted = async |relay: &mut Machine| register(&world, relay, "prod").await.is(200).json["granted"].clone();
        let (pay, edit) = (json!({"role": "admin", "namespace": "pay"}), json!({"role": "edit"}));
        let shop = json!({"role": "view", "namespace": "shop"});
        assert_eq!(granted(&mut relay).await, json!([pay, edit, shop]));
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(granted(&mut relay).await, json!([edit, shop]));
    });
}

#[test]
fn who_leaves_a_tenant_and_comes_back_begins_anew() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let email = "leaver2@example.org";
        let user = world.settled(world.a, email).await;
        world.group_of(world.a, "devs").await;
        world.by(&admin(), "PUT", &format!("{T}/groups/devs/members/{user}"), None).await.is(204);
        grant(&world, json!({"group": "devs", "role": "view", "destination": "prod"})).await;
        grant(&world, json!({"user": email, "role": "edit", "destination": "prod"})).await;
        token(&world, email, "prod", json!({"role": "edit"})).await.is(201);
        let asked = json!({"destination": "prod", "role": "admin", "duration_s": 600, "reason": "why not"});
        let asked = world.by(email, "POST", &format!("{T}/access-requests"), Some(asked)).await.is(201).id();
        world.by(&admin(), "DELETE", &format!("{T}/members/{user}"), None).await.is(204);
        token(&world, email, "prod", json!({"role": "edit"})).await.is(404);
        world.join(&admin(), &format!("{T}/members"), email, "read-only").await;
        token(&world, email, "prod", json!({})).await.is(404);
        world.by(&admin(), "POST", &format!("{T}/access-requests/{asked}/approve"), Some(json!({}))).await.is(404);
    });
}

#[test]
fn access_is_asked_for_with_a_reason_and_approved_by_somebody_else_who_is_a_person() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let requests = format!("{T}/access-requests");
        let ask = |seconds: u32, why: &str| {
            Some(json!({"destination": "prod", "role": "edit", "duration_s": seconds, "reason": why}))
        };
        let path = |id: &str, what: &str| format!("{requests}/{id}/{what}");
        for (bad, says) in
            [(ask(600, " "), "say why"), (ask(59, "x"), "at least 60"), (ask(13 * 3_600, "x"), "the longest")]
        {
            world.by(&analyst(), "POST", &requests, bad).await.is(400).says(says);
        }
        let id = world.by(&analyst(), "POST", &requests, ask(600, "a pod hangs")).await.is(201).id();
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        // Not by who asked, whatever they hold, and not by a key that they made.
        let own = world.by(&admin(), "POST", &requests, ask(600, "for myself")).await.is(201).id();
        world.by(&admin(), "POST", &path(&own, "approve"), Some(json!({}))).await.is(403).says("their own");
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        world.call("POST", &path(&own, "approve"), Some(&key), Some(json!({}))).await.is(403);
        world.by(&holder(Role::Auditor, 'a'), "POST", &path(&id, "approve"), Some(json!({}))).await.is(403);

        let yes = world
            .by(&admin(), "POST", &path(&id, "approve"), Some(json!({"answer": "for the incident"})))
            .await
            .is(200);
        assert_eq!(
            (yes.json["state"].as_str(), yes.json["answer"].as_str()),
            (Some("approved"), Some("for the incident"))
        );
        token(&world, &analyst(), "prod", json!({})).await.is(201);
        let grants = world.by(&admin(), "GET", &format!("{T}/grants"), None).await.is(200);
        assert_eq!(
            (grants.json["items"][0]["origin"].as_str(), grants.json["items"][0]["reason"].as_str()),
            (Some("request"), Some("a pod hangs"))
        );
        // It was answered; it ends by itself.
        for what in ["approve", "deny"] {
            world.by(&admin(), "POST", &path(&id, what), Some(json!({}))).await.is(409);
        }
        world.clock.advance(Duration::from_mins(10));
        token(&world, &analyst(), "prod", json!({})).await.is(404);

        // What the tenant allows is judged when it is granted, too.
        let id = world.by(&analyst(), "POST", &requests, ask(7_200, "a long night")).await.is(201).id();
        let policy = json!({"request_s_max": 3_600});
        world.by(&admin(), "PUT", &format!("{T}/access-policy"), Some(policy)).await.is(200);
        world.by(&admin(), "POST", &path(&id, "approve"), Some(json!({}))).await.is(400).says("3600 s");
        world.by(&admin(), "POST", &path(&id, "deny"), Some(json!({}))).await.is(200);

        world.later();
        let id = world.by(&analyst(), "POST", &requests, ask(600, "again")).await.is(201).id();
        world.by(&holder(Role::Auditor, 'a'), "POST", &path(&id, "withdraw"), None).await.is(404);
        world.by(&analyst(), "POST", &path(&id, "withdraw"), None).await.is(204);
        world.later();
        let id = world.by(&analyst(), "POST", &requests, ask(600, "once more")).await.is(201).id();
        world.by(&admin(), "POST", &path(&id, "deny"), Some(json!({"answer": "no"}))).await.is(200);
        let mine = world.by(&analyst(), "GET", &format!("{requests}/mine"), None).await.is(200);
        let states: Vec<_> =
            mine.json["items"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["denied", "withdrawn", "denied", "approved"]);
    });
}

#[test]
fn a_request_that_nobody_answers_is_over_after_a_day() {
    each_engine(|world| async move {
        world.destination_of(world.a, "standing").await;
        let id = world.access_request_of(world.a).await;
        world.clock.advance(Duration::from_hours(24));
        world.tokens.lock().await.clear();
        let (admin, path) = (admin(), format!("{T}/access-requests/{id}"));
        assert_eq!(world.by(&admin, "GET", &path, None).await.is(200).json["state"], "expired");
        let late = world.by(&admin, "POST", &format!("{path}/approve"), Some(json!({}))).await.is(409);
        late.says("waits no longer");
        let waiting = world.by(&admin, "GET", &format!("{T}/access-requests?status=pending"), None).await.is(200);
        assert_eq!(waiting.json["items"], json!([]));
    });
}

#[test]
fn glass_is_broken_by_whom_the_tenant_lets_for_a_short_time_and_with_an_alarm() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "on-call").await;
        let glass = format!("{T}/break-glass");
        let take = |seconds: u32| {
            Some(json!({"destination": "prod", "role": "edit", "duration_s": seconds, "reason": "prod is down"}))
        };
        world.by(&analyst(), "POST", &glass, take(600)).await.is(403).says("does not let you");
        let may = async |email: &str| world.by(email, "GET", &glass, None).await.is(200).json;
        let refused = may(&analyst()).await;
        assert!(refused["refused"].as_str().unwrap().contains("does not let you break glass"), "{refused}");
        let policy = json!({"request_s_max": 3_600, "break_glass": {"group": "on-call", "s_max": 900}});
        world.by(&admin(), "PUT", &format!("{T}/access-policy"), Some(policy.clone())).await.is(200);
        assert_eq!(world.by(&admin(), "GET", &format!("{T}/access-policy"), None).await.is(200).json, policy);
        world.by(&analyst(), "POST", &glass, take(600)).await.is(403);
        assert_eq!(may(&analyst()).await, refused, "nobody learns by asking that others may");
        world.by(&admin(), "PUT", &format!("{T}/groups/on-call/members/{}", analyst()), None).await.is(204);
        assert_eq!(may(&analyst()).await, json!({"s_max": 900}));
        assert_eq!(may(&admin()).await, refused);
        world.by(&analyst(), "POST", &glass, take(901)).await.is(400).says("900 s");
        let taken = world.by(&analyst(), "POST", &glass, take(600)).await.is(201);
        assert_eq!(taken.json["origin"], "break-glass");
        token(&world, &analyst(), "prod", json!({})).await.is(201);
        world.by(&analyst(), "POST", &glass, take(600)).await.is(409);
        let audit = format!("{T}/audit?action=glass_break");
        let log = world.by(&holder(Role::Auditor, 'a'), "GET", &audit, None).await.is(200);
        let shown: Vec<_> = log.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["outcome"].clone(), one["detail"]["alarm"].clone()))
            .collect();
        assert_eq!(
            shown,
            [(json!("success"), json!(true)), (json!("deny"), json!(true)), (json!("deny"), json!(true))]
        );
        world.clock.advance(Duration::from_mins(10));
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        // Without a fresh proof nobody does.
        world.clock.advance(Duration::from_mins(10));
        world.by(&analyst(), "POST", &glass, take(600)).await.is(403);
    });
}

#[test]
fn attack_22_a_relay_speaks_of_its_own_destinations_only() {
    each_engine(|world| async move {
        let mut first = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let mut second = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let mut foreign = Machine::enrolled(&world, world.b, FleetKind::Relay).await;
        let id = register(&world, &mut first, "prod").await.is(200).id();
        let direct = Some("first.example.com:6443");
        assert_eq!(register_at(&world, &mut first, "prod", direct).await.is(200).id(), id);
        let taken = register(&world, &mut second, "prod").await.is(409);
        taken.says("another relay");
        let audit = format!("{T}/audit?action=destination_register&outcome=deny");
        let log = world.by(&holder(Role::Auditor, 'a'), "GET", &audit, None).await.is(200);
        assert_eq!(log.json["items"][0]["detail"]["alarm"], true);
        register(&world, &mut agent, "else").await.is(403);
        assert_ne!(register(&world, &mut foreign, "prod").await.is(200).id(), id, "another tenant's name is its own");

        grant(&world, json!({"user": analyst(), "role": "view", "destination": "prod"})).await;
        let made = token(&world, &analyst(), "prod", json!({})).await.is(201);
        let admission =
            proxy(&world, &id).await.admit(made.json["token"].as_str().unwrap(), world.clock.now()).unwrap();
        let standing = json!({"user": admission.user, "session": admission.session, "destination": id, "role": "view"});
        let body = json!({"standings": [standing]}).to_string();
        for (relay, stands) in [(&mut first, true), (&mut second, false), (&mut foreign, false)] {
            let path = format!("/api/v1/relays/{}/access-check", relay.id);
            let request = relay.request(&world, "POST", &path, &body, |_| ());
            let answer = world.send(request).await.is(200);
            assert_eq!(answer.json["until"][0].is_string(), stands, "{}", answer.text);
        }
        // An administrator may give it to another relay, which registers it from then on.
        let path = format!("{T}/destinations/prod");
        world.by(&admin(), "PATCH", &path, Some(json!({"relay": foreign.id}))).await.is(400);
        world.by(&admin(), "PATCH", &path, Some(json!({"relay": first.id}))).await.is(200);
        let stays = world.by(&admin(), "GET", &path, None).await.is(200);
        assert_eq!(
            (stays.json["address"].as_str(), stays.json["certificate_ends_at"].as_str()),
            (direct, Some(CERTIFICATE_ENDS))
        );
        world.by(&admin(), "PATCH", &path, Some(json!({"relay": second.id}))).await.is(200);
        // Nobody is sent to where the first one said that it is.
        let moved = world.by(&admin(), "GET", &path, None).await.is(200);
        assert!(moved.json["address"].is_null() && moved.json["certificate_ends_at"].is_null(), "{}", moved.text);
        assert_eq!(register(&world, &mut second, "prod").await.is(200).id(), id);
        register(&world, &mut first, "prod").await.is(409);
    });
}

fn call(user: &str, session: &str, id: &str, status: u16) -> Value {
    json!({
        "id": id, "at": "2026-11-22T03:00:00.000Z", "user": "forged@example.com", "user_id": user, "session": session, "token": "dtk_1",
        "role": "view", "from": "192.0.2.7", "verb": "list", "resource": "pods", "namespace": "shop", "upgraded": false, "phase": "done",
        "status": status, "duration_ms": 3,
    })
}

#[test]
fn a_relay_tells_of_calls_to_its_own_cluster_once_and_names_nobody_at_will() {
    each_engine(|world| async move {
        let mut first = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let mut other = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let id = register(&world, &mut first, "prod").await.is(200).id();
        grant(&world, json!({"user": analyst(), "role": "view", "destination": "prod"})).await;
        let made = token(&world, &analyst(), "prod", json!({})).await.is(201);
        let said = proxy(&world, &id).await.admit(made.json["token"].as_str().unwrap(), world.clock.now()).unwrap();
        let (user, session) = (said.user.to_string(), said.session.to_string());
        let nobody = format!("ses_{}", "0".repeat(26));
        let batch = |number: u64, lost: u64, calls: Vec<Value>| {
            json!({"destination": id, "run": "a".repeat(32), "number": number, "lost": lost, "calls": calls})
                .to_string()
        };
        let tell = async |relay: &mut Machine, body: &str| {
            let path = format!("/api/v1/relays/{}/access-records", relay.id);
            let request = relay.request(&world, "POST", &path, body, |_| ());
            world.send(request).await
        };
        let records = async || {
            let path = format!("{T}/audit?action=kubernetes_call");
            let log = world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
            log.json["items"].as_array().unwrap().clone()
        };
        let calls = vec![
            call(&user, &session, "1", 200),
            call(&user, &session, "2", 403),
            call(&user, &session, "3", 0),
            call(&user, &nobody, "4", 200),
        ];
        for _ in 0..2 {
            tell(&mut first, &batch(1, 0, calls.clone())).await.is(204);
        }
        let all = records().await;
        assert_eq!(all.len(), 4, "a batch that is told again is written down once: {all:?}");
        let shown: Vec<_> = all
            .iter()
            .rev()
            .map(|record| {
                (record["actor"].as_str().unwrap().to_owned(), record["outcome"].as_str().unwrap().to_owned())
            })
            .collect();
        let own = said.name.clone();
        let expect = [(own.as_str(), "success"), (&own, "deny"), (&own, "fail")];
        for (shown, expect) in shown.iter().zip(expect) {
            assert_eq!((shown.0.as_str(), shown.1.as_str()), expect);
        }
        assert!(shown[3].0.contains(&*first.id), "a session that is nobody's is the relay's word: {shown:?}");
        let detail = &all[3]["detail"];
        assert_eq!(
            (&detail["destination"], &detail["namespace"], &detail["status"]),
            (&"prod".into(), &"shop".into(), &200.into())
        );

        // Nor is that of somebody in another tenant, about whom nothing is said.
        let stranger = holder(Role::SecurityAnalyst, 'b');
        let me = world.by(&stranger, "GET", "/api/v1/me", None).await.is(200);
        let theirs = world.by(&stranger, "GET", "/api/v1/me/sessions", None).await.is(200);
        let theirs = theirs.json["items"][0]["id"].as_str().unwrap().to_owned();
        let foreign = vec![call(me.json["id"].as_str().unwrap(), &theirs, "5", 200)];
        tell(&mut first, &batch(2, 0, foreign)).await.is(204);
        let record = &records().await[0];
        assert_eq!(record["detail"]["call"], "5");
        assert!(record["actor"].as_str().unwrap().contains(&*first.id) && !record.to_string().contains(&stranger));

        tell(&mut first, &batch(3, 7, Vec::new())).await.is(204);
        let all = records().await;
        assert_eq!((all.len(), &all[0]["detail"]["lost"], &all[0]["detail"]["alarm"]), (6, &7.into(), &true.into()));
        tell(&mut other, &batch(1, 0, calls.clone())).await.is(404);
        tell(&mut first, &batch(0, 0, calls.clone())).await.is(400);
        tell(&mut first, &batch(4, 0, vec![calls[0].clone(); 257])).await.says("256");
        tell(&mut first, &batch(5, 0, calls).replace("\"run\":\"a", "\"run\":\"A")).await.is(400);
        assert_eq!(records().await.len(), 6);
        let checked = world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/log/verify"), None).await.is(200);
        assert_eq!(checked.json["faults"], json!([]), "{}", checked.text);
    });
}
