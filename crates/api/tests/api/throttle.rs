//! Guessing at passwords: who has to wait, who has not, and what the log says.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use serde_json::json;

use crate::world::{Answer, World, admin, each_engine, planted};

async fn sign_in_from(world: &World, address: &str, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password}).to_string();
    let request = Request::post("/api/v1/sessions").header("content-type", "application/json");
    let mut request = request.body(Body::from(body)).unwrap();
    let peer = if address.contains(':') { format!("[{address}]:1") } else { format!("{address}:1") };
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    world.send(request).await
}

#[test]
fn guesses_at_an_account_have_to_wait_and_its_owner_at_home_has_not() {
    each_engine(|world| async move {
        let (wrong, right) = (testkit::logs::plant("a wrong password"), &planted().password);
        sign_in_from(&world, "192.0.2.7", &admin(), right).await.is(201);
        let mut statuses = Vec::new();
        for n in 0..12 {
            statuses.push(sign_in_from(&world, &format!("198.51.100.{n}"), &admin(), &wrong).await.status);
        }
        assert_eq!(statuses, [vec![401; 10], vec![429; 2]].concat());
        let refused = sign_in_from(&world, "198.51.100.99", &admin(), right).await.is(429).says("try again in 1 s");
        assert_eq!((refused.header("retry-after"), &refused.json["code"]), ("1", &json!("throttled")));
        // The owner where they signed in before is not stopped, nor is somebody else.
        for _ in 0..20 {
            sign_in_from(&world, "192.0.2.7", &admin(), right).await.is(201);
        }
        sign_in_from(&world, "198.51.100.99", crate::world::STRANGER, right).await.is(201);
        // A wait that was waited is enough, and who was right begins anew.
        world.clock.advance(Duration::from_secs(1));
        sign_in_from(&world, "198.51.100.99", &admin(), right).await.is(201);
        sign_in_from(&world, "203.0.113.5", &admin(), &wrong).await.is(401);
    });
}

#[test]
fn an_account_that_does_not_exist_waits_with_the_same_bytes() {
    each_engine(|world| async move {
        let wrong = testkit::logs::plant("a wrong password");
        let mut answers = Vec::new();
        for (email, net) in [(admin(), "198.51.100"), ("nobody@example.org".to_owned(), "203.0.113")] {
            let mut of_this = Vec::new();
            for n in 0..13 {
                let answer = sign_in_from(&world, &format!("{net}.{n}"), &email, &wrong).await;
                of_this.push(answer.masked(&[]));
            }
            answers.push(of_this);
        }
        assert!(answers[0].last().unwrap().starts_with("429\n"));
        assert_eq!(answers[0], answers[1]);
    });
}

#[test]
fn one_network_that_guesses_at_many_accounts_has_to_wait_and_a_64_of_ipv6_is_one_network() {
    each_engine(|world| async move {
        let wrong = testkit::logs::plant("a wrong password");
        let mut judged = 0;
        for n in 0..40 {
            let (address, email) = (format!("2001:db8:7:7:{n:x}::1"), format!("u{n}@example.org"));
            judged += usize::from(sign_in_from(&world, &address, &email, &wrong).await.status == 401);
        }
        assert_eq!(judged, 30);
        sign_in_from(&world, "2001:db8:7:8::1", &admin(), &planted().password).await.is(201);
    });
}

#[test]
fn a_flood_leaves_one_record_for_a_burst() {
    each_engine(|world| async move {
        let wrong = testkit::logs::plant("a wrong password");
        let last = world.audit(None, -1).await.last().unwrap().0;
        for n in 0..60 {
            sign_in_from(&world, &format!("198.51.100.{n}"), &admin(), &wrong).await;
        }
        let records = world.audit(None, last).await;
        assert_eq!(records.len(), 10 + 1, "ten guesses that were judged, and one record for the fifty that were not");
        assert!(records.iter().all(|(_, action, outcome)| action == "session_create" && outcome == "deny"));
    });
}

#[test]
fn the_old_password_cannot_be_guessed_with_a_stolen_session() {
    each_engine(|world| async move {
        let token = world.token(&admin()).await;
        let new = &planted().new_password;
        let change = |old: String| {
            world.call("POST", "/api/v1/me/password", Some(&token), Some(json!({"old": old, "new": new})))
        };
        for n in 0..5 {
            change(format!("a wrong password {n}")).await.is(400);
        }
        change(planted().password.clone()).await.is(429);
        world.clock.advance(Duration::from_secs(1));
        change(planted().password.clone()).await.is(204);
    });
}

#[test]
fn a_new_password_that_attackers_try_first_is_refused() {
    each_engine(|world| async move {
        let token = world.token(&admin()).await;
        for (new, words) in [
            ("Password2026!!", "breached"),
            ("tenant-admin-a", "your address"),
            ("abcdefghijklmno", "neighbours"),
            ("elevenchars", "12 characters"),
        ] {
            let body = json!({"old": planted().password, "new": new});
            let answer = world.call("POST", "/api/v1/me/password", Some(&token), Some(body)).await.is(400).says(words);
            assert_eq!(answer.json["field"], "new");
        }
    });
}
