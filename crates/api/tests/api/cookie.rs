//! Browser sessions by cookie.

use std::time::Duration;

use serde_json::json;

use crate::idp::{Browser, PUBLIC_URL};
use crate::login::{MINUTE, SESSION, me};
use crate::second_factor::App;
use crate::world::{PLATFORM, admin, each_engine, planted};

#[test]
fn attack_43_a_change_by_cookie_needs_our_own_page_and_another_sites_page_cannot_sign_in_here() {
    each_engine(|world| async move {
        let mut browser = Browser::default();
        let json = ("content-type", "application/json");
        let ours = ("origin", PUBLIC_URL);
        let sign_in = json!({"email": admin(), "password": planted().password, "cookie": true}).to_string();
        for bad in [
            &[json][..],
            &[json, ("origin", "null")],
            &[json, ("origin", "https://evil.example")],
            &[json, ours, ("sec-fetch-site", "cross-site")],
        ] {
            browser.ask(&world, "POST", "/api/v1/sessions", bad, Some(&sign_in)).await.is(403);
        }
        let plain = [("content-type", "text/plain"), ours];
        browser.ask(&world, "POST", "/api/v1/sessions", &plain, Some(&sign_in)).await.is(400);
        assert!(browser.cookie(SESSION).is_none());
        let answer = browser.ask(&world, "POST", "/api/v1/sessions", &[json, ours], Some(&sign_in)).await.is(201);
        assert!(answer.json.get("token").is_none(), "no script sees it");
        let cookie = answer.header("set-cookie").to_owned();
        for part in ["__Host-cairn_session=", "Path=/;", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=28800"] {
            assert!(cookie.contains(part) && !cookie.contains("Domain"), "{part}");
        }
        assert_eq!(me(&world, &mut browser).await.unwrap()["email"], admin());
        // Every change of the document, by every way that another site's page has.
        let mut tried = 0;
        for operation in crate::document::operations() {
            // What needs no session takes no cookie's session either.
            if operation.method == "GET" || operation.document.get("security").is_some() {
                continue;
            }
            let path = operation.path.replace("{tenant}", "acme");
            for bad in [
                &[][..],
                &[json],
                &[json, ("origin", "null")],
                &[json, ("origin", "https://evil.example")],
                &[json, ("origin", "https://cairn.test.evil.example")],
                &[ours, ("content-type", "text/plain")],
                &[ours, ("content-type", "application/x-www-form-urlencoded")],
                &[ours, json, ("sec-fetch-site", "same-site")],
            ] {
                browser.ask(&world, &operation.method, &path, bad, Some("{}")).await.is(403).says("own page");
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
        let left = world.by(PLATFORM, "GET", "/api/v1/audit?action=cookie_use&outcome=deny", None).await.is(200);
        assert!(!left.json["items"].as_array().unwrap().is_empty());
        // Both at once could be two people.
        let token = format!("Bearer {}", world.token(&admin()).await);
        browser.ask(&world, "GET", "/api/v1/me", &[("authorization", &token)], None).await.is(400).says("not both");
        // Our own page may.
        let new = json!({"plugin": "host"}).to_string();
        browser.ask(&world, "POST", "/api/v1/tenants/acme/jobs", &[json, ours], Some(&new)).await.is(201);
        let out = browser
            .ask(&world, "DELETE", "/api/v1/sessions/current", &[("x-cairn-request", "1"), ours], None)
            .await
            .is(204);
        assert!(out.header("set-cookie").contains("Max-Age=0") && browser.cookie(SESSION).is_none());
        assert!(me(&world, &mut browser).await.is_none());
    });
}

/// The body of a second step by cookie.
pub(crate) fn step(code: &str) -> String {
    json!({"code": code, "cookie": true}).to_string()
}

#[test]
fn a_cookie_sign_in_has_two_steps_and_its_session_ends_as_every_other() {
    each_engine(|world| async move {
        let (json, ours) = (("content-type", "application/json"), ("origin", PUBLIC_URL));
        let sign_in = json!({"email": admin(), "password": planted().password, "cookie": true}).to_string();
        let mut browser = Browser::default();
        browser.ask(&world, "POST", "/api/v1/sessions", &[json, ours], Some(&sign_in)).await.is(201);
        let app = App::enrol_by_cookie(&world, &mut browser).await;
        world.clock.advance(Duration::from_secs(30));

        let mut second = Browser::default();
        let needed = second.ask(&world, "POST", "/api/v1/sessions", &[json, ours], Some(&sign_in)).await.is(202);
        assert!(needed.json.get("token").is_none() && second.cookie(SESSION).is_none(), "{}", needed.text);
        assert!(me(&world, &mut second).await.is_none());
        let both = json!({"token": "t", "code": app.code(&world, 0), "cookie": true}).to_string();
        let path = "/api/v1/sessions/second-step";
        second.ask(&world, "POST", path, &[json, ours], Some(&both)).await.is(400).says("not both");
        second.ask(&world, "POST", path, &[json, ours], Some(&step(&app.code(&world, 0)))).await.is(201);
        assert!(me(&world, &mut second).await.is_some());

        // Its proof gets old as every proof does, and is made anew by cookie too.
        let put = json!({"provider": "corp", "group": "staff", "role": "read-only"}).to_string();
        world.provider_at("corp", "https://corp.example").await;
        world.clock.advance(16 * MINUTE);
        let role = "/api/v1/tenants/acme/group-roles";
        let stale = second.ask(&world, "PUT", role, &[json, ours], Some(&put)).await.is(403);
        assert_eq!(stale.json["code"], "step_up_required");
        let proof = json!({"code": app.code(&world, 0)}).to_string();
        second.ask(&world, "POST", "/api/v1/sessions/current/step-up", &[json, ours], Some(&proof)).await.is(200);
        second.ask(&world, "PUT", role, &[json, ours], Some(&put)).await.is(200);

        // Ended from elsewhere, and by not being used.
        assert!(me(&world, &mut browser).await.is_some());
        let others = json!({"including_current": false}).to_string();
        second.ask(&world, "POST", "/api/v1/me/sessions/end", &[json, ours], Some(&others)).await.is(200);
        assert!(me(&world, &mut browser).await.is_none());
        world.clock.advance(61 * MINUTE);
        assert!(me(&world, &mut second).await.is_none());
    });
}
