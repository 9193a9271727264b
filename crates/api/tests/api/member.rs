//! Members and their roles; credentials, which are the other thing that administrators handle.

use access::Role;
use serde_json::{Value, json};

use crate::world::{LEAVER, NEWCOMER, PLATFORM, STRANGER, World, admin, each_engine, holder, nobodys, planted};

/// A tenant whose one administrator is tenant A's.
async fn own_tenant(world: &World) -> String {
    let body = json!({"slug": "initech", "name": "Initech", "admin": admin()});
    world.by(PLATFORM, "POST", "/api/v1/tenants", Some(body)).await.is(201);
    "/api/v1/tenants/initech/members".to_owned()
}

fn member(email: &str, role: &str) -> Value {
    json!({"email": email, "role": role})
}

#[test]
fn attack_38_a_tenant_keeps_an_administrator() {
    each_engine(|world| async move {
        let members = own_tenant(&world).await;
        let own = format!("{members}/{}", world.user_id(&admin()));
        for role in ["read-only", "auditor", "security-analyst"] {
            world.by(&admin(), "PUT", &members, Some(member(&admin(), role))).await.is(409).says("last administrator");
        }
        world.by(&admin(), "DELETE", &own, None).await.is(409).says("last administrator");
        let listed = world.by(&admin(), "GET", &members, None).await.is(200);
        assert_eq!(listed.json["items"][0]["role"], "tenant-admin");
        // One who cannot sign in does not count.
        world.join(&admin(), &members, STRANGER, "tenant-admin").await;
        let stranger = format!("/api/v1/users/{}", world.user_id(STRANGER));
        world.by(PLATFORM, "PATCH", &stranger, Some(json!({"disabled": true}))).await.is(200);
        world.by(&admin(), "PUT", &members, Some(member(&admin(), "auditor"))).await.is(409);
        world.by(PLATFORM, "PATCH", &stranger, Some(json!({"disabled": false}))).await.is(200);
        world.by(&admin(), "DELETE", &own, None).await.is(204);
        world.by(&admin(), "GET", &members, None).await.is(404);
    });
}

#[test]
fn attack_38_two_administrators_who_demote_each_other_at_once_leave_one() {
    each_engine(|world| async move {
        let members = own_tenant(&world).await;
        world.join(&admin(), &members, STRANGER, "tenant-admin").await;
        let (admin, stranger) = (admin(), STRANGER.to_owned());
        world.token(&stranger).await;
        let (one, two) = futures::join!(
            world.by(&admin, "PUT", &members, Some(member(&stranger, "read-only"))),
            world.by(&stranger, "PUT", &members, Some(member(&admin, "read-only"))),
        );
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert!(statuses[0] == 200 && [403, 409].contains(&statuses[1]), "{statuses:?}");
        let left = if one.status == 200 { &admin } else { &stranger };
        let listed = world.by(left, "GET", &members, None).await.is(200);
        let admins =
            listed.json["items"].as_array().unwrap().iter().filter(|member| member["role"] == "tenant-admin").count();
        assert_eq!(admins, 1);
    });
}

#[test]
fn attack_38_the_platform_keeps_an_administrator() {
    each_engine(|world| async move {
        let own = format!("/api/v1/users/{}", world.user_id(PLATFORM));
        for body in [json!({"platform_admin": false}), json!({"disabled": true})] {
            world.by(PLATFORM, "PATCH", &own, Some(body)).await.is(409).says("last user who manages the platform");
        }
        let stranger = format!("/api/v1/users/{}", world.user_id(STRANGER));
        world.by(PLATFORM, "PATCH", &stranger, Some(json!({"platform_admin": true}))).await.is(200);
        world.by(PLATFORM, "PATCH", &own, Some(json!({"platform_admin": false}))).await.is(200);
        world.by(PLATFORM, "GET", "/api/v1/users", None).await.is(403);
        world.by(STRANGER, "GET", "/api/v1/users", None).await.is(200);
    });
}

#[test]
fn attack_36_nobody_gives_more_than_they_hold_and_a_role_has_one_spelling() {
    each_engine(|world| async move {
        let members = "/api/v1/tenants/acme/members";
        world
            .by(&admin(), "PUT", members, Some(member(STRANGER, "system-admin")))
            .await
            .is(403)
            .says("more than itself");
        world.by(&admin(), "PUT", members, Some(member(&admin(), "system-admin"))).await.is(403);
        world.by(&admin(), "PUT", members, Some(member(&holder(Role::SystemAdmin, 'a'), "read-only"))).await.is(403);
        let system = format!("{members}/{}", world.user_id(&holder(Role::SystemAdmin, 'a')));
        world.by(&admin(), "DELETE", &system, None).await.is(403);
        for role in ["Auditor", "AUDITOR", "tenant_admin", "owner", "", " auditor", "auditor\0", "\u{430}uditor", "*"] {
            let answer = world.by(&admin(), "PUT", members, Some(member(STRANGER, role))).await.is(400);
            assert_eq!(answer.json["field"], "role");
        }
        world.by(STRANGER, "GET", "/api/v1/tenants/acme/nodes", None).await.is(404);
        for extra in ["platform_admin", "tenant", "id"] {
            let mut body = member("new@example.org", "read-only");
            body[extra] = json!(true);
            world.by(&admin(), "PUT", members, Some(body)).await.is(400).says(extra);
        }
        // What was refused made nobody.
        let users = world.by(PLATFORM, "GET", "/api/v1/users?limit=500", None).await.is(200);
        assert!(!users.text.contains("new@example.org"));
    });
}

#[test]
fn a_user_signs_in_with_the_password_that_is_shown_once_and_takes_up_their_invitation() {
    each_engine(|world| async move {
        let members = "/api/v1/tenants/acme/members";
        let invited = world.by(&admin(), "PUT", members, Some(member("Ann@example.org", "auditor"))).await.is(200);
        assert_eq!((invited.json["state"].as_str(), invited.json.get("user")), (Some("invited"), None));
        let user = json!({"email": "ann@example.org", "name": "Ann"});
        let made = world.by(PLATFORM, "POST", "/api/v1/users", Some(user.clone())).await.is(201);
        world.by(PLATFORM, "POST", "/api/v1/users", Some(user)).await.is(409).says("already exists");
        let listed = world.by(&admin(), "GET", members, None).await.is(200);
        assert!(!listed.text.contains("ann@"), "an account alone takes nothing up");
        let waiting = world.by(&admin(), "GET", "/api/v1/tenants/acme/invitations", None).await.is(200);
        assert_eq!(waiting.json["items"][0]["email"], "ann@example.org");
        let body = json!({"email": "ann@example.org", "password": made.json["one_time_password"]});
        let signed_in = world.call("POST", "/api/v1/sessions", None, Some(body)).await.is(201);
        assert_eq!(signed_in.json["me"]["must_change_password"], true);
        assert_eq!(signed_in.json["me"]["tenants"][0]["role"], "auditor");
        let left = world.audit(Some(world.a), -1).await;
        assert!(left.iter().any(|(_, action, _)| action == "invitation_accept"), "{left:?}");
        let waiting = world.by(&admin(), "GET", "/api/v1/tenants/acme/invitations", None).await.is(200);
        assert_eq!(waiting.json["items"], json!([]));
        let again = world.by(&admin(), "PUT", members, Some(member("ann@example.org", "read-only"))).await.is(200);
        assert_eq!((again.json["state"].as_str(), &again.json["user"]), (Some("member"), &made.json["id"]));
        // Everything else that is shown goes to the suite's log, where the password may not be.
        for path in [members, "/api/v1/tenants/acme/audit"] {
            world.by(&admin(), "GET", path, None).await.is(200);
        }
        for path in ["/api/v1/users", "/api/v1/audit"] {
            world.by(PLATFORM, "GET", path, None).await.is(200);
        }
    });
}

#[test]
fn giving_a_role_does_not_tell_whether_an_address_has_an_account() {
    each_engine(|world| async move {
        let members = "/api/v1/tenants/acme/members";
        let mut answers = Vec::new();
        for email in [STRANGER, "noone@example.org"] {
            let answer = world.by(&admin(), "PUT", members, Some(member(email, "auditor"))).await.is(200);
            let invitation = answer.json["invitation"].as_str().unwrap().to_owned();
            let again = world.by(&admin(), "PUT", members, Some(member(email, "read-only"))).await.is(200);
            assert_eq!(again.json["invitation"], invitation.as_str());
            let removed = world.by(&admin(), "DELETE", &format!("{members}/{}", nobodys(&world, "user")), None).await;
            let back = format!("/api/v1/tenants/acme/invitations/{invitation}");
            let taken_back = world.by(&admin(), "DELETE", &back, None).await.is(204);
            let gone = world.by(&admin(), "DELETE", &back, None).await.is(404);
            let all = [answer, again, removed, taken_back, gone].map(|answer| answer.masked(&[email, &invitation]));
            answers.push(all.join("\n"));
        }
        let without_length =
            |text: &str| text.lines().filter(|line| !line.starts_with("content-length")).collect::<Vec<_>>().join("\n");
        assert_eq!(without_length(&answers[0]), without_length(&answers[1]));
        // What was taken back gives nothing.
        world.sign_in(STRANGER).await;
        world.by(STRANGER, "GET", "/api/v1/tenants/acme/nodes", None).await.is(404);
    });
}

#[test]
fn attack_36_an_invitation_is_worth_no_more_than_who_made_it() {
    each_engine(|world| async move {
        let members = own_tenant(&world).await;
        world.join(&admin(), &members, STRANGER, "tenant-admin").await;
        world
            .by(&admin(), "PUT", &members, Some(member(PLATFORM, "system-admin")))
            .await
            .is(403)
            .says("more than itself");
        world.by(STRANGER, "PUT", &members, Some(member(LEAVER, "tenant-admin"))).await.is(200);
        world.by(STRANGER, "PUT", &members, Some(member(NEWCOMER, "auditor"))).await.is(200);
        let stranger = format!("{members}/{}", world.user_id(STRANGER));
        world.by(&admin(), "DELETE", &stranger, None).await.is(204);
        // Whoever invited them is gone, and so is what the invitation was worth.
        world.sign_in(LEAVER).await;
        world.by(LEAVER, "GET", &members, None).await.is(404);
        let waiting = world.by(&admin(), "GET", &members.replace("members", "invitations"), None).await.is(200);
        assert_eq!(waiting.json["items"].as_array().unwrap().len(), 1);
        world.clock.advance(std::time::Duration::from_hours(14 * 24));
        world.by(&admin(), "PUT", &members, Some(member(LEAVER, "auditor"))).await.is(401);
        let fresh = world.sign_in(&admin()).await;
        let invitations = members.replace("members", "invitations");
        let waiting = world.call("GET", &invitations, Some(&fresh), None).await.is(200);
        assert_eq!(waiting.json["items"], json!([]), "after two weeks nothing waits");
    });
}

#[test]
fn attack_38_two_platform_administrators_who_end_each_other_at_once_leave_one() {
    each_engine(|world| async move {
        for change in [json!({"platform_admin": false}), json!({"disabled": true})] {
            let back = json!({"platform_admin": true, "disabled": false});
            let path = |email: &str| format!("/api/v1/users/{}", world.user_id(email));
            let left =
                if world.by(PLATFORM, "GET", "/api/v1/users", None).await.status == 200 { PLATFORM } else { STRANGER };
            let other = if left == PLATFORM { STRANGER } else { PLATFORM };
            world.by(left, "PATCH", &path(other), Some(back)).await.is(200);
            let (one, two) = (world.sign_in(PLATFORM).await, world.sign_in(STRANGER).await);
            let (stranger, platform) = (path(STRANGER), path(PLATFORM));
            let (first, second) = futures::join!(
                world.call("PATCH", &stranger, Some(&one), Some(change.clone())),
                world.call("PATCH", &platform, Some(&two), Some(change.clone())),
            );
            let mut statuses = [first.status, second.status];
            statuses.sort_unstable();
            assert!(statuses[0] == 200 && [401, 403, 409].contains(&statuses[1]), "{statuses:?}");
            let left = if first.status == 200 { &one } else { &two };
            let users = world.call("GET", "/api/v1/users?limit=500", Some(left), None).await.is(200);
            let admins = users.json["items"].as_array().unwrap().iter();
            let admins = admins.filter(|user| user["platform_admin"] == true && user["disabled_at"].is_null());
            assert_eq!(admins.count(), 1);
        }
    });
}

#[test]
fn attack_59_a_credentials_secret_goes_in_and_does_not_come_out() {
    each_engine(|world| async move {
        let path = "/api/v1/tenants/acme/credentials";
        let good = json!({"plugin": "aws", "name": "prod", "type": "aws-keys", "secret": {"access_key_id": "AKIA", "secret_access_key": planted().aws}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut body = good.clone();
            change(&mut body);
            body
        };
        let aws = || json!(planted().aws);
        let refused: Vec<(&str, Value, Value)> = vec![
            ("plugin", json!("plugin"), with(&|body| body["plugin"] = json!("gcp"))),
            ("type", json!("type"), with(&|body| body["type"] = json!("AWS-KEYS"))),
            ("no credential", json!("type"), with(&|body| body["plugin"] = json!("host"))),
            ("access_key_id", json!("secret"), with(&|body| body["secret"] = json!({"secret_access_key": aws()}))),
            ("access_key_id", json!("secret"), with(&|body| body["secret"]["access_key_id"] = json!(""))),
            ("colour", json!("secret"), with(&|body| body["secret"]["colour"] = aws())),
            ("printable", json!("name"), with(&|body| body["name"] = json!("a\nb"))),
            // Nor where it stands in the wrong place.
            ("secret", Value::Null, with(&|body| body["secret"] = aws())),
            ("secret", Value::Null, with(&|body| body["secret"] = json!([aws()]))),
            ("secret", Value::Null, with(&|body| body["secret"]["access_key_id"] = json!({"x": aws()}))),
            ("created_by", Value::Null, with(&|body| body["created_by"] = aws())),
        ];
        for (words, field, body) in refused {
            let answer = world.by(&admin(), "POST", path, Some(body.clone())).await.is(400).says(words);
            assert_eq!(answer.json["field"], field, "{body}");
        }
        assert_eq!(world.by(&admin(), "GET", path, None).await.json["items"], json!([]), "nothing is half-written");
        let made = world.by(&admin(), "POST", path, Some(good)).await.is(201);
        assert!(made.json.get("secret").is_none());
        let shown = world.by(&admin(), "GET", &format!("{path}/{}", made.id()), None).await.is(200);
        assert_eq!(shown.json, made.json);
        for path in [path, "/api/v1/tenants/acme/audit", "/api/v1/audit"] {
            world
                .by(&if path.ends_with("v1/audit") { PLATFORM.to_owned() } else { admin() }, "GET", path, None)
                .await
                .is(200);
        }
        let jobs = "/api/v1/tenants/acme/jobs";
        let runs = [
            (json!({"plugin": "aws"}), 400),
            (json!({"plugin": "host", "credential": "prod"}), 400),
            (json!({"plugin": "aws", "credential": "dev"}), 400),
            (json!({"plugin": "aws", "credential": made.id()}), 201),
            (json!({"plugin": "aws", "credential": "prod"}), 201),
        ];
        for (body, status) in runs {
            let answer = world.by(&holder(Role::SecurityAnalyst, 'a'), "POST", jobs, Some(body)).await.is(status);
            assert_eq!(answer.json["field"] == "credential", status == 400, "{}", answer.text);
        }
    });
}

#[test]
fn every_member_is_told_who_the_ids_are_of_members_and_of_nobody_else() {
    each_engine(|world| async move {
        let names = "/api/v1/tenants/acme/names?users=";
        let (boss, reader, theirs) = (admin(), holder(Role::ReadOnly, 'a'), holder(Role::TenantAdmin, 'b'));
        let id = |email: &str| world.user_id(email).to_string();
        let nobody = nobodys(&world, "user");
        let asked =
            [id(&boss), id(&reader), id(&theirs), id(STRANGER), id(PLATFORM), nobody.clone(), id(&boss)].join(",");
        // Who may not list members is told all the same whom a row that they see means, and so is who came last of many.
        for email in [&boss, &reader, &holder(Role::Auditor, 'a')] {
            let told = world.by(email, "GET", &format!("{names}{asked}"), None).await.is(200);
            let mut told: Vec<_> = told.json["items"].as_array().unwrap().clone();
            told.sort_by_key(|one| one["email"].to_string());
            let mut expected =
                [&boss, &reader].map(|email| json!({"user": id(email), "email": email, "name": "Somebody"}));
            expected.sort_by_key(|one| one["email"].to_string());
            assert_eq!(told, expected);
        }
        // Of others nothing is told apart: neither whether they are, nor whether they are somewhere else.
        let other = world.by(&reader, "GET", &format!("{names}{}", id(&theirs)), None).await.is(200);
        assert_eq!(
            other.masked(&[]),
            world.by(&reader, "GET", &format!("{names}{nobody}"), None).await.is(200).masked(&[])
        );
        world.by(&theirs, "GET", &format!("{names}{}", id(&boss)), None).await.is(404);
        world.by(STRANGER, "GET", &format!("{names}{}", id(&boss)), None).await.is(404);
        world.by(PLATFORM, "GET", &format!("{names}{}", id(&boss)), None).await.is(404);
        // Whoever left is named no more.
        let left = world.member(world.a).await;
        let path = format!("{names}{left}");
        assert_eq!(world.by(&reader, "GET", &path, None).await.is(200).json["items"].as_array().unwrap().len(), 1);
        world.by(&boss, "DELETE", &format!("/api/v1/tenants/acme/members/{left}"), None).await.is(204);
        assert_eq!(world.by(&reader, "GET", &path, None).await.is(200).json["items"], json!([]));
        let many: Vec<_> = (0..101).map(|_| nobodys(&world, "user")).collect();
        world.by(&reader, "GET", &format!("{names}{}", many[..100].join(",")), None).await.is(200);
        world.by(&reader, "GET", &format!("{names}{}", many.join(",")), None).await.is(400).says("at most 100");
        for wrong in ["", "x", &format!("{nobody},"), "usr_%27", "ten_00000000000000000000000000", &boss] {
            let answer = world.by(&reader, "GET", &format!("{names}{wrong}"), None).await.is(400);
            assert_eq!(answer.json["field"], "users", "{wrong}");
        }
    });
}
