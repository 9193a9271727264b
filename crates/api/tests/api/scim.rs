//! Provisioning as Okta and Entra ID do it.

use access::Role;
use serde_json::{Value, json};

use crate::idp::{Browser, Double, PUBLIC_URL};
use crate::world::{Answer, PLATFORM, STRANGER, World, admin, each_engine, holder};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// Makes a provider and its token.
pub(crate) async fn provisioning(world: &World, name: &str, issuer: &str) -> String {
    world.provider_at(name, issuer).await;
    let made = world.by(PLATFORM, "POST", &format!("/api/v1/providers/{name}/scim-token"), None).await.is(201);
    assert_eq!(made.json["url"], format!("{PUBLIC_URL}/scim/v2"));
    made.json["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn scim(world: &World, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let answer = world.call(method, &format!("/scim/v2/{path}"), Some(token), body).await;
    if answer.status != 204 {
        assert_eq!(answer.header("content-type"), "application/scim+json", "{}", answer.text);
    }
    if answer.status >= 400 {
        assert_eq!(answer.json["status"], answer.status.to_string());
        assert_eq!(answer.json["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
    }
    answer
}

pub(crate) fn user(name: &str, email: &str) -> Value {
    json!({
        "schemas": [USER], "userName": name, "externalId": format!("ext-{name}"), "active": true,
        "name": {"givenName": "Ann", "familyName": "Example"}, "displayName": "Ann Example",
        "emails": [{"value": email, "type": "work", "primary": true}], "password": "ignored",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "x"}, "roles": [{"value": "system-admin"}],
    })
}

pub(crate) async fn patch(world: &World, token: &str, path: &str, operations: Value) -> Answer {
    scim(world, token, "PATCH", path, Some(json!({"schemas": [PATCH], "Operations": operations}))).await
}

async fn members(world: &World, tenant: char) -> Vec<(String, String)> {
    let (slug, by) = if tenant == 'a' { ("acme", admin()) } else { ("globex", holder(Role::TenantAdmin, 'b')) };
    let list = world.by(&by, "GET", &format!("/api/v1/tenants/{slug}/members"), None).await.is(200);
    let all = list.json["items"].as_array().unwrap().iter();
    let all = all.map(|row| (row["email"].as_str().unwrap().to_owned(), row["role"].as_str().unwrap().to_owned()));
    let mut ours: Vec<_> = all.filter(|(email, _)| email.ends_with("@corp.example")).collect();
    ours.sort();
    ours
}

pub(crate) async fn map(world: &World, group: &str, role: &str) {
    let body = json!({"provider": "corp", "group": group, "role": role});
    world.by(&admin(), "PUT", "/api/v1/tenants/acme/group-roles", Some(body)).await.is(200);
}

#[test]
fn a_user_that_is_provisioned_signs_in_with_the_same_provider_and_ends_at_once_when_not_active() {
    each_engine(|world| async move {
        let double = Double::start(&world).await;
        let token = provisioning(&world, "corp", &double.issuer).await;
        map(&world, "Staff", "read-only").await;
        // Okta asks before it makes.
        let found = scim(
            &world,
            &token,
            "GET",
            "Users?filter=userName%20eq%20%22ann%40corp.example%22&startIndex=1&count=100",
            None,
        )
        .await
        .is(200);
        assert_eq!((found.json["totalResults"].as_i64(), &found.json["Resources"]), (Some(0), &json!([])));
        let made =
            scim(&world, &token, "POST", "Users", Some(user("Ann@corp.example", "Ann@corp.example"))).await.is(201);
        let id = made.id();
        assert_eq!(made.header("location"), format!("{PUBLIC_URL}/scim/v2/Users/{id}"));
        assert_eq!(
            (made.json["active"].as_bool(), made.json["userName"].as_str()),
            (Some(true), Some("Ann@corp.example"))
        );
        assert!(!made.text.contains("ignored"), "a password is not kept");
        scim(&world, &token, "POST", "Users", Some(user("ann@CORP.example", "x@corp.example"))).await.is(409);
        let group = json!({"schemas": [GROUP], "displayName": "Staff", "members": [{"value": id}]});
        scim(&world, &token, "POST", "Groups", Some(group)).await.is(201);
        assert_eq!(members(&world, 'a').await, [("ann@corp.example".to_owned(), "read-only".to_owned())]);

        // By the provider's own id (`externalId` is the subject), whatever the token says of the address.
        double.say(|says| {
            says.claims = json!({"sub": "ext-Ann@corp.example", "email_verified": false, "groups": ["owner"]});
        });
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        let me = browser.get(&world, "/api/v1/me").await.is(200);
        assert_eq!((me.json["id"].as_str(), me.json["platform_admin"].as_bool()), (Some(id.as_str()), Some(false)));
        assert_eq!(me.json["tenants"][0]["role"], "read-only");

        // Okta deactivates by PATCH without a path.
        let answer =
            patch(&world, &token, &format!("Users/{id}"), json!([{"op": "replace", "value": {"active": false}}])).await;
        assert_eq!(answer.is(200).json["active"], false);
        browser.get(&world, "/api/v1/me").await.is(401);
        assert_eq!(members(&world, 'a').await, []);
        let mut again = Browser::default();
        again.sign_in(&world, "corp", &double).await.is(303);
        assert!(
            again.cookie("__Host-cairn_session").is_none(),
            "the provider's token does not outweigh what it provisioned"
        );
        // Entra ID writes booleans as texts.
        let operations = json!([{"op": "Replace", "path": "active", "value": "True"}]);
        patch(&world, &token, &format!("Users/{id}"), operations).await.is(200);
        again.sign_in(&world, "corp", &double).await.is(303);
        again.get(&world, "/api/v1/me").await.is(200);
        assert_eq!(members(&world, 'a').await.len(), 1);

        scim(&world, &token, "DELETE", &format!("Users/{id}"), None).await.is(204);
        again.get(&world, "/api/v1/me").await.is(401);
        scim(&world, &token, "GET", &format!("Users/{id}"), None).await.is(404);
        scim(&world, &token, "DELETE", &format!("Users/{id}"), None).await.is(404);
        assert_eq!(members(&world, 'a').await, []);
        // A token alone, however well it vouches, does not bring back whom provisioning took away.
        double.say(|says| says.claims = json!({"sub": "ext-Ann@corp.example", "groups": ["Staff"]}));
        let mut gone = Browser::default();
        gone.sign_in(&world, "corp", &double).await.is(303);
        assert!(gone.cookie("__Host-cairn_session").is_none());
        // And hired again: the same account.
        let back =
            scim(&world, &token, "POST", "Users", Some(user("Ann@corp.example", "ann@corp.example"))).await.is(201);
        assert_eq!(back.id(), id);
        again.sign_in(&world, "corp", &double).await.is(303);
        again.get(&world, "/api/v1/me").await.is(200);
    });
}

#[test]
fn attack_42_nobody_is_taken_over_by_provisioning_their_address() {
    each_engine(|world| async move {
        let token = provisioning(&world, "corp", "https://127.0.0.1:1/corp").await;
        let other = provisioning(&world, "other", "https://127.0.0.1:1/other").await;
        for email in [PLATFORM.to_owned(), admin(), STRANGER.to_owned()] {
            scim(&world, &token, "POST", "Users", Some(user("mallory", &email))).await.is(409);
        }
        let made = scim(&world, &token, "POST", "Users", Some(user("ann", "ann@corp.example"))).await.is(201).id();
        scim(&world, &other, "POST", "Users", Some(user("ann", "ann@corp.example"))).await.is(409);
        // An address that is somebody's cannot be moved to, either.
        let mut moved = user("ann", PLATFORM);
        scim(&world, &token, "PUT", &format!("Users/{made}"), Some(moved.clone())).await.is(409);
        moved["emails"][0]["value"] = json!("not an address");
        scim(&world, &token, "PUT", &format!("Users/{made}"), Some(moved)).await.is(400);
        // Another provider's users and groups do not exist.
        let nobody = crate::world::nobodys(&world, "user");
        for (method, body) in [("GET", None), ("PUT", Some(user("x", "x@corp.example"))), ("DELETE", None)] {
            let [theirs, none] = [&made, &nobody].map(|id| format!("Users/{id}"));
            let there = scim(&world, &other, method, &theirs, body.clone()).await.is(404);
            assert_eq!(there.text, scim(&world, &other, method, &none, body).await.text);
        }
        let admin_id = world.user_id(&admin());
        scim(&world, &token, "GET", &format!("Users/{admin_id}"), None).await.is(404);
        patch(&world, &token, &format!("Users/{admin_id}"), json!([{"op": "replace", "value": {"active": false}}]))
            .await
            .is(404);
        let group = json!({"displayName": "g", "members": [{"value": admin_id.to_string()}]});
        scim(&world, &token, "POST", "Groups", Some(group)).await.is(400);
        assert_eq!(scim(&world, &other, "GET", "Users", None).await.json["totalResults"], 0);
    });
}

#[test]
fn attack_38_a_group_gives_what_a_tenant_says_and_no_name_of_a_group_gives_anything_by_itself() {
    each_engine(|world| async move {
        let token = provisioning(&world, "corp", "https://127.0.0.1:1/corp").await;
        map(&world, "Readers", "read-only").await;
        map(&world, "Leads", "security-analyst").await;
        let mut ids = Vec::new();
        for name in ["ann", "bob", "cid"] {
            let made =
                scim(&world, &token, "POST", "Users", Some(user(name, &format!("{name}@corp.example")))).await.is(201);
            ids.push(made.id());
        }
        for name in ["owner", "system-admin", "tenant-admin", "readers"] {
            let group = json!({"displayName": name, "members": [{"value": ids[0]}]});
            scim(&world, &token, "POST", "Groups", Some(group)).await.is(201);
        }
        assert_eq!(members(&world, 'a').await, []);
        scim(&world, &token, "POST", "Groups", Some(json!({"displayName": "READERS"}))).await.is(409);
        let readers = scim(
            &world,
            &token,
            "GET",
            "Groups?filter=displayName%20eq%20%22readers%22&excludedAttributes=members",
            None,
        )
        .await
        .is(200);
        assert!(readers.json["Resources"][0].get("members").is_none());
        let readers = format!("Groups/{}", readers.json["Resources"][0]["id"].as_str().unwrap());
        // Renamed to what the tenant named: it counts from now on.
        patch(&world, &token, &readers, json!([{"op": "replace", "path": "displayName", "value": "Readers"}]))
            .await
            .is(200);
        let read = |name: &str| (format!("{name}@corp.example"), "read-only".to_owned());
        assert_eq!(members(&world, 'a').await, [read("ann")]);
        let add = json!([{"op": "Add", "path": "members", "value": [{"value": ids[1]}, {"value": ids[2]}]}]);
        patch(&world, &token, &readers, add).await.is(200);
        assert_eq!(members(&world, 'a').await, [read("ann"), read("bob"), read("cid")]);
        let leads = scim(
            &world,
            &token,
            "POST",
            "Groups",
            Some(json!({"displayName": "Leads", "members": [{"value": ids[0]}]})),
        )
        .await
        .is(201)
        .id();
        assert_eq!(members(&world, 'a').await[0].1, "security-analyst");
        scim(&world, &token, "DELETE", &format!("Groups/{leads}"), None).await.is(204);
        assert_eq!(members(&world, 'a').await[0].1, "read-only");
        let remove = json!([{"op": "remove", "path": format!("members[value eq \"{}\"]", ids[0])}]);
        patch(&world, &token, &readers, remove).await.is(200);
        let remove = json!([{"op": "Remove", "path": "members", "value": [{"value": ids[2]}]}]);
        let left = patch(&world, &token, &readers, remove).await.is(200);
        assert_eq!(left.json["members"].as_array().unwrap().len(), 1);
        assert_eq!(members(&world, 'a').await, [read("bob")]);
        let shown = scim(&world, &token, "GET", &format!("Users/{}", ids[1]), None).await.is(200);
        assert_eq!(shown.json["groups"][0]["display"], "Readers");
        scim(&world, &token, "PUT", &readers, Some(json!({"displayName": "Readers", "members": []}))).await.is(200);
        assert_eq!(members(&world, 'a').await, []);
    });
}

#[test]
fn lists_are_paged_filtered_and_projected_and_what_is_not_supported_is_a_scim_error() {
    each_engine(|world| async move {
        let token = provisioning(&world, "corp", "https://127.0.0.1:1/corp").await;
        for n in 0..5 {
            world.later();
            scim(&world, &token, "POST", "Users", Some(user(&format!("u{n}"), &format!("u{n}@corp.example"))))
                .await
                .is(201);
        }
        let mut seen = Vec::new();
        for start in [1, 3, 5, 7] {
            let page =
                scim(&world, &token, "GET", &format!("Users?startIndex={start}&count=2&attributes=userName"), None)
                    .await
                    .is(200);
            assert_eq!((page.json["totalResults"].as_i64(), page.json["startIndex"].as_i64()), (Some(5), Some(start)));
            for row in page.json["Resources"].as_array().unwrap() {
                assert_eq!(row.as_object().unwrap().len(), 3, "schemas, id and what was asked for: {row}");
                seen.push(row["userName"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(seen, ["u0", "u1", "u2", "u3", "u4"]);
        for (query, total) in [
            ("filter=userName%20eq%20%22U3%22", 1),
            ("filter=externalId%20eq%20%22ext-u1%22", 1),
            ("filter=externalId%20eq%20%22EXT-U1%22", 0),
            ("filter=emails.value%20eq%20%22u2%40corp.example%22%20and%20userName%20eq%20%22u2%22", 1),
            ("filter=userName%20eq%20%22u1%22%20and%20userName%20eq%20%22u2%22", 0),
            ("filter=userName%20eq%20%22%22", 0),
            ("filter=active%20eq%20true", 5),
            ("filter=active%20eq%20false", 0),
            ("filter=id%20eq%20%22nonsense%22", 0),
            ("count=0", 5),
            ("startIndex=-7&count=-1", 5),
        ] {
            let list = scim(&world, &token, "GET", &format!("Users?{query}"), None).await.is(200);
            assert_eq!(list.json["totalResults"], total, "{query}");
        }
        for query in
            ["filter=userName%20co%20%22u%22", "filter=userName%20pr", "filter=", "filter=(userName%20eq%20%22u%22)"]
        {
            let answer = scim(&world, &token, "GET", &format!("Users?{query}"), None).await.is(400);
            assert_eq!(answer.json["scimType"], "invalidFilter", "{query}");
        }
        scim(&world, &token, "GET", "Users?count=many", None).await.is(400);
        for body in ["{", r#"{"userName":"a","userName":"b"}"#, "[]", r#"{"userName":""}"#, r#"{"userName":7}"#] {
            let request = http::Request::post("/scim/v2/Users")
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/scim+json")
                .body(axum::body::Body::from(body))
                .unwrap();
            assert!(world.send(request).await.is(400).json["scimType"].is_string(), "{body}");
        }
        for path in
            ["ServiceProviderConfig", "ResourceTypes", "ResourceTypes/User", "Schemas", &format!("Schemas/{USER}")]
        {
            scim(&world, &token, "GET", path, None).await.is(200);
        }
        scim(&world, &token, "GET", "Schemas/nothing", None).await.is(404);
    });
}

#[test]
fn a_change_of_an_older_version_is_refused_and_a_token_is_good_for_scim_only_and_until_it_ends() {
    each_engine(|world| async move {
        let token = provisioning(&world, "corp", "https://127.0.0.1:1/corp").await;
        let made = scim(&world, &token, "POST", "Users", Some(user("ann", "ann@corp.example"))).await.is(201);
        let (path, tag) = (format!("/scim/v2/Users/{}", made.id()), made.header("etag").to_owned());
        let put = |tag: &str| {
            http::Request::put(&path)
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .header("if-match", tag)
                .body(axum::body::Body::from(user("ann", "ann@corp.example").to_string()))
                .unwrap()
        };
        assert_ne!(world.send(put(&tag)).await.is(200).header("etag"), tag);
        world.send(put(&tag)).await.is(412);
        // What is deleted under a condition is deleted in that state only, and what takes no condition says so in SCIM's form.
        let group = json!({"schemas": [GROUP], "displayName": "Staff"});
        let group = scim(&world, &token, "POST", "Groups", Some(group)).await.is(201);
        let team = (format!("/scim/v2/Groups/{}", group.id()), group.header("etag").to_owned());
        let now = scim(&world, &token, "GET", &format!("Users/{}", made.id()), None).await.is(200);
        for (path, now) in [(path.clone(), now.header("etag").to_owned()), team] {
            let delete = |name: &str, tag: &[u8]| {
                let tag = http::HeaderValue::from_bytes(tag).unwrap();
                let request = http::Request::delete(&path).header("authorization", format!("Bearer {token}"));
                request.header(name, tag).body(axum::body::Body::empty()).unwrap()
            };
            for wrong in [&b"W/\"nothing\""[..], b"x", b"\xe9", b""] {
                world.send(delete("if-match", wrong)).await.is(412);
            }
            let refused = world.send(delete("if-none-match", b"*")).await.is(400);
            assert_eq!(refused.json["status"], "400");
            assert!(refused.text.contains("takes no `if-none-match`"), "{}", refused.text);
            world.send(delete("if-match", now.as_bytes())).await.is(204);
            world.send(delete("if-match", now.as_bytes())).await.is(404);
        }
        let create = http::Request::post("/scim/v2/Users")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("if-match", "*")
            .body(axum::body::Body::from(user("bob", "bob@corp.example").to_string()))
            .unwrap();
        let refused = world.send(create).await.is(400);
        assert!(refused.text.contains("takes no `if-match`"), "{}", refused.text);

        world.call("GET", "/api/v1/me", Some(&token), None).await.is(401);
        let session = world.token(&admin()).await;
        for wrong in [session.as_str(), "scim_", "garbage", &format!("{token}x"), &token[..token.len() - 1]] {
            scim(&world, wrong, "GET", "Users", None).await.is(401);
        }
        world.call("GET", "/scim/v2/Users", None, None).await.is(401);
        let second = world.by(PLATFORM, "POST", "/api/v1/providers/corp/scim-token", None).await.is(201);
        scim(&world, &token, "GET", "Users", None).await.is(401);
        let second = second.json["token"].as_str().unwrap();
        scim(&world, second, "GET", "Users", None).await.is(200);
        world.by(PLATFORM, "DELETE", "/api/v1/providers/corp/scim-token", None).await.is(204);
        scim(&world, second, "GET", "Users", None).await.is(401);
        let left = world.by(PLATFORM, "GET", "/api/v1/audit?action=scim_user_create", None).await.is(200);
        assert_eq!(left.json["items"][0]["actor"], "system:scim");
    });
}

#[test]
fn scim2_tester_finds_nothing_that_does_not_conform() {
    each_engine(|world| async move {
        let token = provisioning(&world, "corp", "https://127.0.0.1:1/corp").await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, token.as_bytes()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/scim/v2", listener.local_addr().unwrap());
        let router = world.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let path = file.path().to_str().unwrap().to_owned();
        let checking = tokio::task::spawn_blocking(move || testkit::Moto::python("scim_check.py", &[&url, &path]));
        let (good, said) = checking.await.unwrap();
        assert!(good, "{said}");
    });
}
