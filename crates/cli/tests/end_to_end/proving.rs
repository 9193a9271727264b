//! Second factors and fresh proofs: what is asked for, and what is sent how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::double::{Reply, Request};
use crate::world::{CODE, NEW_PASSWORD, RECOVERY_CODE, Run, TWO_STEP_PASSWORD, World, id, me, wire_form};

fn login(world: &World, code: Option<&str>) -> Run {
    let password = world.file("password", TWO_STEP_PASSWORD);
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    let mut args =
        vec!["login", &url, "--user", "ann@example.com", "--password-file", &password, "--trust", &fingerprint];
    let file;
    if let Some(code) = code {
        file = world.file("code", &format!("{code}\n"));
        args.extend(["--code-file", &file]);
    }
    world.run(&args)
}

#[test]
fn a_login_with_a_second_factor_takes_its_code_or_a_recovery_code_from_a_file() {
    for code in [CODE, RECOVERY_CODE] {
        let world = World::new(|_| None);
        login(&world, Some(code)).expect(0).says("signed in to");
        world.run(&["whoami"]).expect(0);
    }
    let world = World::new(|_| None);
    login(&world, None).expect(1).says("--code-file");
    login(&world, Some("000000")).expect(1).says("the code is wrong");
    assert!(!world.home().join("config.json").exists(), "there is no session before the second step");
}

/// A server on which making a tenant needs a fresh proof, which `proof` is.
fn needs_proof(has_second_factor: bool, proof: serde_json::Value, holds: bool) -> (World, Arc<AtomicUsize>) {
    let (proved, asked) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let world = World::signed_in(move |request: &Request| match request.line().as_str() {
        "GET /api/v1/me" => {
            let mut me = me(false);
            me["has_second_factor"] = json!(has_second_factor);
            Some(Reply::Json(200, me))
        }
        "POST /api/v1/tenants" => {
            count.fetch_add(1, Ordering::SeqCst);
            if !proved.load(Ordering::SeqCst) {
                return Some(Reply::problem(403, "step_up_required", "this needs a fresh proof of who you are"));
            }
            let tenant = json!({"id": id("ten"), "slug": "x", "name": "x", "created_at": "2026-11-22T03:00:00.000Z"});
            Some(Reply::Json(201, wire_form::<wire::tenant::Tenant>(tenant)))
        }
        "POST /api/v1/sessions/current/step-up" => {
            if request.json() != proof {
                return Some(Reply::problem(400, "invalid", "this is not your password"));
            }
            proved.store(holds, Ordering::SeqCst);
            Some(Reply::Json(200, json!({"fresh_until": "2026-11-22T03:15:00.000Z"})))
        }
        _ => None,
    });
    (world, asked)
}

#[test]
fn a_command_that_needs_a_fresh_proof_gives_it_and_is_sent_once_more() {
    let (world, asked) = needs_proof(false, json!({"password": NEW_PASSWORD}), true);
    let password = world.file("password", NEW_PASSWORD);
    world.run(&["tenants", "create", "x", "--password-file", &password]).expect(0);
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let (world, _) = needs_proof(true, json!({"code": CODE}), true);
    let code = world.file("code", CODE);
    world.run(&["tenants", "create", "x", "--code-file", &code]).expect(0);
}

#[test]
fn a_proof_that_is_missing_wrong_or_not_enough_ends_the_command_with_a_word_about_it() {
    let (world, asked) = needs_proof(false, json!({"password": NEW_PASSWORD}), true);
    world.run(&["tenants", "create", "x"]).expect(1).says("needs your password").says("--password-file");
    let wrong = world.file("wrong", "planted-wrong-password");
    world.run(&["tenants", "create", "x", "--password-file", &wrong]).expect(1).says("not your password");
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    // A server that asks again and again is not answered again and again.
    let (world, asked) = needs_proof(false, json!({"password": NEW_PASSWORD}), false);
    let password = world.file("password", NEW_PASSWORD);
    world.run(&["tenants", "create", "x", "--password-file", &password]).expect(1).says("fresh proof");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
