//! Signing in with an identity provider: a real one, and one that lies.

use std::time::Duration;

use access::Role;
use domain::Clock as _;
use serde_json::{Value, json};
use testkit::OidcProvider;

use crate::cookie::step;
use crate::idp::{Browser, Double, PUBLIC_URL};
use crate::second_factor::App;
use crate::world::{PLATFORM, STRANGER, World, admin, each_engine, holder, planted};

pub(crate) const SESSION: &str = "__Host-cairn_session";
const LOGIN: &str = "__Host-cairn_login";
const SECOND_STEP: &str = "__Host-cairn_second_step";
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// The reason of the newest refused sign-in.
async fn reason(world: &World) -> String {
    let answer =
        world.by(PLATFORM, "GET", "/api/v1/audit?action=login_callback&outcome=deny&limit=1", None).await.is(200);
    answer.json["items"][0]["detail"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// Who a browser is signed in as, if it is.
pub(crate) async fn me(world: &World, browser: &mut Browser) -> Option<Value> {
    let answer = browser.get(world, "/api/v1/me").await;
    (answer.status == 200).then_some(answer.json)
}

async fn map(world: &World, tenant: &str, by: &str, provider: &str, group: &str, role: &str) -> crate::world::Answer {
    let body = json!({"provider": provider, "group": group, "role": role});
    world.by(by, "PUT", &format!("/api/v1/tenants/{tenant}/group-roles"), Some(body)).await
}

fn roles(me: &Value) -> Vec<(String, String)> {
    let tenants = me["tenants"].as_array().unwrap().iter();
    tenants.map(|t| (t["slug"].as_str().unwrap().to_owned(), t["role"].as_str().unwrap().to_owned())).collect()
}

fn held(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(slug, role)| ((*slug).to_owned(), (*role).to_owned())).collect()
}

#[test]
fn a_sign_in_with_a_real_provider_ends_in_a_browser_session_with_the_roles_of_its_groups() {
    each_engine(|world| async move {
        // The provider's clock is the machine's.
        world.clock.set(crypto::system::SystemClock.now());
        let ann = json!({"email": "Ann@corp.example", "email_verified": true, "name": "Ann", "groups": ["auditors", "owner"]});
        let redirect = format!("{PUBLIC_URL}/api/v1/login/real/callback");
        let provider = OidcProvider::start("cairn", &planted().client, &redirect, &json!({ "ann": ann }));
        world.provider_at("real", &provider.issuer).await;
        map(&world, "acme", &admin(), "real", "auditors", "auditor").await.is(200);
        map(&world, "globex", &holder(Role::TenantAdmin, 'b'), "real", "analysts", "security-analyst").await.is(200);

        let mut browser = Browser::default();
        let answer = browser.sign_in_at(&world, "real", "ann").await.is(303);
        assert_eq!(answer.header("location"), "/findings", "{}", reason(&world).await);
        let who = me(&world, &mut browser).await.unwrap();
        assert_eq!((who["email"].as_str(), who["name"].as_str()), (Some("ann@corp.example"), Some("Ann")));
        assert_eq!((roles(&who), who["platform_admin"].as_bool()), (held(&[("acme", "auditor")]), Some(false)));
        assert!(browser.cookie(LOGIN).is_none());
        // Once more: the same user, another session.
        let mut second = Browser::default();
        second.sign_in_at(&world, "real", "ann").await.is(303);
        let again = me(&world, &mut second).await.unwrap();
        assert_eq!(again["id"], who["id"]);
        assert_ne!(again["session"], who["session"]);

        // Attack 39: what the provider takes away is lost at the next check, in sessions that are open.
        assert_eq!(api::recheck(&world.state).await.unwrap(), 0, "not yet due");
        let moved = json!({"email": "ann@corp.example", "email_verified": true, "groups": ["analysts"]});
        provider.set_users(&json!({ "ann": moved }));
        world.clock.advance(14 * MINUTE);
        assert_eq!(api::recheck(&world.state).await.unwrap(), 1);
        let who = me(&world, &mut browser).await.unwrap();
        assert_eq!(roles(&who), held(&[("globex", "security-analyst")]));
        // The refresh token was rotated and the new one kept: it works again.
        world.clock.advance(14 * MINUTE);
        assert_eq!(api::recheck(&world.state).await.unwrap(), 1);
        assert!(me(&world, &mut browser).await.is_some());

        provider.set_users(&json!({ "ann": null }));
        world.clock.advance(14 * MINUTE);
        assert_eq!(api::recheck(&world.state).await.unwrap(), 1);
        assert!(me(&world, &mut browser).await.is_none() && me(&world, &mut second).await.is_none());
        let users = world.by(PLATFORM, "GET", "/api/v1/users?limit=500", None).await.is(200);
        let row = users.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["email"] == "ann@corp.example")
            .unwrap()
            .clone();
        assert!(row["disabled_at"].is_string(), "so that no key works either: {row}");
        let members = world.by(&holder(Role::TenantAdmin, 'b'), "GET", "/api/v1/tenants/globex/members", None).await;
        assert!(!members.text.contains("ann@corp.example"), "{}", members.text);

        // Whom the provider takes back may come back.
        provider.set_users(&json!({ "ann": moved }));
        browser.sign_in_at(&world, "real", "ann").await.is(303);
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), held(&[("globex", "security-analyst")]));
    });
}

pub(crate) async fn with_double(world: &World) -> Double {
    let double = Double::start(world).await;
    world.provider_at("corp", &double.issuer).await;
    map(world, "acme", &admin(), "corp", "staff", "read-only").await.is(200);
    double
}

/// Signs in, expects a refusal and no session, and returns the recorded reason.
pub(crate) async fn refused(world: &World, double: &Double) -> String {
    let mut browser = Browser::default();
    let answer = browser.sign_in(world, "corp", double).await.is(303);
    assert!(answer.header("location").starts_with("/login?error="), "{}", answer.header("location"));
    assert!(browser.cookie(SESSION).is_none());
    reason(world).await
}

#[test]
fn attack_40_a_state_that_is_missing_another_or_used_before_is_refused_and_so_is_a_code_used_twice() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let mut browser = Browser::default();
        let asked = browser.begin(&world, "corp").await;
        assert_eq!((asked["code_challenge_method"].as_str(), asked["code_challenge"].len()), ("S256", 43));
        assert_eq!(asked["redirect_uri"], format!("{PUBLIC_URL}/api/v1/login/corp/callback"));
        let cookie = browser.cookie(LOGIN).unwrap().clone();
        let code = double.code(&asked);
        let state = asked["state"].clone();
        for (answer, why) in [
            (vec![("code", code.as_str())], "state is missing"),
            (vec![("code", &code), ("state", "another")], "state is missing or of another"),
            (vec![("code", &code), ("state", &state), ("state", &state)], "the answer is not one"),
            (vec![("code", &code), ("state", &state), ("code", &code)], "the answer is not one"),
        ] {
            browser.plant(LOGIN, &cookie);
            let location = browser.back(&world, "corp", &answer).await.is(303);
            assert!(location.header("location").starts_with("/login?error="), "{answer:?}");
            assert!(browser.cookie(SESSION).is_none() && browser.cookie(LOGIN).is_none());
            assert!(reason(&world).await.contains(why), "{answer:?}: {}", reason(&world).await);
        }
        // Another browser has not begun this sign-in (login CSRF): it has no cookie, or its own.
        let good = [("code", code.as_str()), ("state", state.as_str())];
        let mut victim = Browser::default();
        victim.back(&world, "corp", &good).await.is(303);
        assert!(victim.cookie(SESSION).is_none() && reason(&world).await.contains("no sign-in was begun"));
        victim.begin(&world, "corp").await;
        victim.back(&world, "corp", &good).await.is(303);
        assert!(victim.cookie(SESSION).is_none());
        // A changed cookie opens nothing.
        let mut changed = cookie.clone();
        changed.replace_range(20..21, if &cookie[20..21] == "A" { "B" } else { "A" });
        victim.plant(LOGIN, &changed);
        victim.back(&world, "corp", &good).await.is(303);
        assert!(victim.cookie(SESSION).is_none() && reason(&world).await.contains("cookie was changed"));

        browser.plant(LOGIN, &cookie);
        let done = browser.back(&world, "corp", &good).await.is(303);
        assert_eq!(done.header("location"), "/findings", "{}", reason(&world).await);
        assert!(browser.cookie(SESSION).is_some());
        let mut again = Browser::default();
        again.plant(LOGIN, &cookie);
        again.back(&world, "corp", &good).await.is(303);
        assert!(again.cookie(SESSION).is_none() && reason(&world).await.contains("used before"));
        // A code that was redeemed, in a sign-in of one's own.
        let mut thief = Browser::default();
        let own = thief.begin(&world, "corp").await;
        thief.back(&world, "corp", &[("code", &code), ("state", &own["state"])]).await.is(303);
        assert!(thief.cookie(SESSION).is_none() && reason(&world).await.contains("does not know the code"));
        // Somebody else's code, injected: it is bound to their verifier and nonce.
        let mut other = Browser::default();
        let theirs = other.begin(&world, "corp").await;
        let stolen = double.code(&theirs);
        let own = thief.begin(&world, "corp").await;
        thief.back(&world, "corp", &[("code", &stolen), ("state", &own["state"])]).await.is(303);
        assert!(thief.cookie(SESSION).is_none() && reason(&world).await.contains("does not know the code"));
        // Too late.
        let late = other.begin(&world, "corp").await;
        let code = double.code(&late);
        world.clock.advance(11 * MINUTE);
        other.back(&world, "corp", &[("code", &code), ("state", &late["state"])]).await.is(303);
        assert!(other.cookie(SESSION).is_none() && reason(&world).await.contains("took too long"));
    });
}

#[test]
fn attack_40_a_nonce_of_another_sign_in_and_a_provider_without_s256_are_refused() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        for nonce in [json!("another"), json!(""), json!(null), json!(7), json!(["n"])] {
            double.say(|says| says.claims = json!({"nonce": nonce}));
            assert!(refused(&world, &double).await.contains("nonce"), "{nonce}");
        }
        for methods in [json!(["plain"]), json!([])] {
            world.clock.advance(61 * MINUTE);
            double.say(|says| says.discovery = json!({"code_challenge_methods_supported": methods}));
            let mut browser = Browser::default();
            let answer = browser.get(&world, "/api/v1/login/corp").await.is(303);
            assert_eq!(answer.header("location"), "/login?error=unavailable");
            assert!(browser.cookie(LOGIN).is_none());
        }
    });
}

#[test]
fn attack_41_an_id_token_that_is_not_for_us_now_is_refused() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let now = world.clock.now().as_seconds();
        for (claims, why) in [
            (json!({"iss": "https://evil.example"}), "another issuer"),
            (json!({"iss": format!("{}/", double.issuer)}), "another issuer"),
            (json!({"iss": null}), "another issuer"),
            (json!({"aud": "another"}), "another client"),
            (json!({"aud": ["cairn", "another"]}), "another client"),
            (json!({"aud": ["cairn", "another"], "azp": "cairn"}), "another client"),
            (json!({"aud": []}), "another client"),
            (json!({"aud": null}), "another client"),
            (json!({"azp": "another"}), "another client"),
            (json!({"exp": now}), "expired"),
            (json!({"exp": now - 1}), "expired"),
            (json!({"exp": null}), "expired"),
            (json!({"exp": "9999999999"}), "expired"),
            (json!({"iat": now + 61}), "not valid yet"),
            (json!({"iat": null}), "not valid yet"),
            (json!({"nbf": now + 61}), "not valid yet"),
            (json!({"sub": ""}), "no subject"),
            (json!({"sub": null}), "no subject"),
            (json!({"sub": "a\u{0}b"}), "no subject"),
            (json!({"sub": "s".repeat(256)}), "no subject"),
        ] {
            double.say(|says| says.claims = claims.clone());
            let reason = refused(&world, &double).await;
            assert!(reason.contains(why), "{claims}: {reason}");
        }
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "RS256"}),
            json!({"jku": "https://evil.example"}),
            json!({"jwk": {"kty": "OKP"}}),
            json!({"crit": ["exp"]}),
        ] {
            double.say(|says| says.header = header.clone());
            assert!(refused(&world, &double).await.contains("ID token"), "{header}");
        }
        double.say(|says| (says.header, says.signature) = (json!({"alg": "none"}), Some(String::new())));
        assert!(refused(&world, &double).await.contains("malformed"));
        double.say(|says| says.other_key = true);
        assert!(refused(&world, &double).await.contains("signature"));
        double.say(|_| {});
        let answer = Browser::default().sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(answer.header("location"), "/findings");
    });
}

#[test]
fn attack_41_a_rotated_key_is_fetched_once_and_a_made_up_one_does_not_make_us_fetch_at_every_try() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        Browser::default().sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(double.key_fetches(), 1);
        world.clock.advance(2 * MINUTE);
        double.say(|says| says.kid = "k2".to_owned());
        let answer = Browser::default().sign_in(&world, "corp", &double).await.is(303);
        assert_eq!((answer.header("location"), double.key_fetches()), ("/findings", 2));
        for _ in 0..5 {
            double.say(|says| (says.kid, says.header) = ("k2".to_owned(), json!({"kid": "made-up"})));
            assert!(refused(&world, &double).await.contains("not known"));
        }
        assert_eq!(double.key_fetches(), 2, "at most once a minute");
        world.clock.advance(2 * MINUTE);
        for _ in 0..5 {
            assert!(refused(&world, &double).await.contains("not known"));
        }
        assert_eq!(double.key_fetches(), 3);
    });
}

#[test]
fn attack_41_a_discovery_document_or_an_answer_of_another_issuer_is_refused() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        for discovery in [
            json!({"issuer": "https://evil.example"}),
            json!({"issuer": format!("{}/", double.issuer)}),
            json!({"authorization_endpoint": "javascript:alert(1)"}),
            json!({"authorization_endpoint": "http://evil.example/"}),
            json!({"token_endpoint": null}),
        ] {
            double.say(|says| says.discovery = discovery.clone());
            let answer = Browser::default().get(&world, "/api/v1/login/corp").await.is(303);
            assert_eq!(answer.header("location"), "/login?error=unavailable", "{discovery}");
        }
        double.say(|says| says.discovery = json!({"authorization_response_iss_parameter_supported": true}));
        for (iss, good) in [(None, false), (Some("https://evil.example"), false), (Some(double.issuer.as_str()), true)]
        {
            let mut browser = Browser::default();
            let asked = browser.begin(&world, "corp").await;
            let code = double.code(&asked);
            let mut answer = vec![("code", code.as_str()), ("state", &asked["state"])];
            answer.extend(iss.map(|iss| ("iss", iss)));
            browser.back(&world, "corp", &answer).await.is(303);
            assert_eq!(browser.cookie(SESSION).is_some(), good, "{iss:?}");
        }
    });
}

#[test]
fn attack_42_an_address_that_is_not_verified_or_is_somebody_elses_links_nothing() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let claim = |email: &str, sub: &str| json!({"email": email, "sub": sub});
        for verified in [json!(false), json!(null), json!("true"), json!(1)] {
            for email in [STRANGER, "nobody@corp.example"] {
                let mut claims = claim(email, "mallory");
                claims["email_verified"] = verified.clone();
                double.say(|says| says.claims = claims);
                assert!(refused(&world, &double).await.contains("did not verify"), "{verified} {email}");
            }
        }
        double.say(|says| says.claims = json!({"email": null}));
        // Userinfo answers 401 here.
        assert!(!refused(&world, &double).await.is_empty());
        // Who manages the platform is not taken over by an address, however verified.
        double.say(|says| says.claims = claim(PLATFORM, "mallory"));
        assert!(refused(&world, &double).await.contains("manages the platform"));

        // With a verified address an account is linked, once.
        double.say(|says| says.claims = claim(STRANGER, "stranger"));
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        let who = me(&world, &mut browser).await.unwrap();
        assert_eq!(who["id"], world.user_id(STRANGER).to_string());
        double.say(|says| says.claims = claim(STRANGER, "another-subject"));
        assert!(refused(&world, &double).await.contains("another identity"));
        // A second provider with the same address gets neither this account nor its roles.
        let second = Double::start(&world).await;
        world.provider_at("second", &second.issuer).await;
        second.say(|says| says.claims = claim(STRANGER, "stranger"));
        let mut browser = Browser::default();
        browser.sign_in(&world, "second", &second).await.is(303);
        assert!(browser.cookie(SESSION).is_none() && reason(&world).await.contains("another identity"));
        // The subject counts, not the address: it may change there without another account.
        double.say(|says| says.claims = claim(&admin(), "stranger"));
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(me(&world, &mut browser).await.unwrap()["email"], STRANGER);
        let links = world.by(PLATFORM, "GET", "/api/v1/audit?action=identity_link", None).await.is(200);
        assert_eq!(links.json["items"].as_array().unwrap().len(), 1);
        // Whom an administrator disabled stays out, whatever the provider says.
        let path = format!("/api/v1/users/{}", world.user_id(STRANGER));
        world.by(PLATFORM, "PATCH", &path, Some(json!({"disabled": true}))).await.is(200);
        assert!(refused(&world, &double).await.contains("disabled"));
    });
}

#[test]
fn attack_38_a_claim_named_like_a_role_gives_nothing_and_no_group_gives_more_than_its_giver_holds() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let names =
            json!(["owner", "admin", "system-admin", "tenant-admin", "platform_admin", "Staff", "STAFF", "staff "]);
        double.say(|says| {
            says.claims = json!({"groups": names, "role": "tenant-admin", "roles": ["system-admin"], "platform_admin": true,
                "tenant": "acme", "can": ["users:manage"]});
        });
        assert!(refused(&world, &double).await.contains("no group of theirs gives a role"), "and no account is made");
        double.say(|says| {
            says.claims = json!({"groups": names, "role": "tenant-admin", "roles": ["system-admin"], "platform_admin": true,
                "tenant": "acme", "can": ["users:manage"], "email": STRANGER});
        });
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        let who = me(&world, &mut browser).await.unwrap();
        assert_eq!((roles(&who), who["platform_admin"].as_bool()), (vec![], Some(false)));
        world.by(PLATFORM, "DELETE", "/api/v1/providers/corp", None).await.is(204);
        world.provider_at("corp", &double.issuer).await;
        // Nobody gives by a group what they may not give by hand; the platform gives nothing in a tenant at all.
        map(&world, "acme", &admin(), "corp", "staff", "system-admin").await.is(403);
        map(&world, "acme", &holder(Role::SecurityAnalyst, 'a'), "corp", "staff", "read-only").await.is(403);
        map(&world, "acme", PLATFORM, "corp", "staff", "tenant-admin").await.is(404);
        map(&world, "acme", &holder(Role::TenantAdmin, 'b'), "corp", "staff", "tenant-admin").await.is(404);
        map(&world, "acme", &admin(), "corp", "staff", "Owner").await.is(400);
        map(&world, "acme", &admin(), "nowhere", "staff", "auditor").await.is(400).says("no such provider");
        // A role that somebody gave by hand is neither raised nor taken by the provider.
        double.say(|says| says.claims = json!({"email": STRANGER, "sub": "s"}));
        let by_hand = json!({"email": STRANGER, "role": "auditor"});
        world.by(&admin(), "PUT", "/api/v1/tenants/acme/members", Some(by_hand)).await.is(200);
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), held(&[("acme", "auditor")]));
    });
}

#[test]
fn attack_39_a_role_ends_with_its_group_and_with_what_the_group_gave() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        map(&world, "acme", &admin(), "corp", "leads", "security-analyst").await.is(200);
        double.say(|says| says.claims = json!({"groups": ["staff", "leads"]}));
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), held(&[("acme", "security-analyst")]));
        // The tenant takes it back: at once.
        let list = world.by(&admin(), "GET", "/api/v1/tenants/acme/group-roles", None).await.is(200);
        let leads =
            list.json["items"].as_array().unwrap().iter().find(|row| row["group"] == "leads").unwrap()["id"].clone();
        let path = format!("/api/v1/tenants/acme/group-roles/{}", leads.as_str().unwrap());
        world.by(&admin(), "DELETE", &path, None).await.is(204);
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), held(&[("acme", "read-only")]));
        // The provider takes it back: at the next check.
        double.say(|says| says.claims = json!({"groups": []}));
        world.clock.advance(14 * MINUTE);
        assert_eq!(api::recheck(&world.state).await.unwrap(), 1);
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), vec![]);
        browser.get(&world, "/api/v1/tenants/acme/nodes").await.is(404);
    });
}

#[test]
fn a_provider_that_does_not_answer_keeps_sessions_for_an_hour_and_one_that_gave_no_refresh_token_for_its_access_token()
{
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        double.say(|says| says.token_error = Some((503, json!({}))));
        for minutes in [14, 15, 20] {
            world.clock.advance(Duration::from_mins(minutes));
            api::recheck(&world.state).await.unwrap();
            assert!(me(&world, &mut browser).await.is_some(), "after {minutes} more minutes");
        }
        // A mistake in our own client is no word about the user.
        double.say(|says| says.token_error = Some((401, json!({"error": "invalid_client"}))));
        world.clock.advance(12 * MINUTE);
        api::recheck(&world.state).await.unwrap();
        assert!(me(&world, &mut browser).await.is_none(), "an hour without an answer");
        double.say(|_| {});
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert!(me(&world, &mut browser).await.is_some(), "and back");

        double.say(|says| says.refresh = false);
        browser.sign_in(&world, "corp", &double).await.is(303);
        double.say(|says| says.userinfo = Some(json!({"sub": "ann", "groups": ["staff"]})));
        world.clock.advance(15 * MINUTE);
        api::recheck(&world.state).await.unwrap();
        assert_eq!(roles(&me(&world, &mut browser).await.unwrap()), held(&[("acme", "read-only")]));
        double.say(|says| says.userinfo = Some(json!({"sub": "another", "groups": ["staff"]})));
        world.clock.advance(15 * MINUTE);
        api::recheck(&world.state).await.unwrap();
        assert!(me(&world, &mut browser).await.is_none(), "userinfo about somebody else is no confirmation");
    });
}

#[test]
fn attack_45_a_sign_in_ends_on_a_local_page_only() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        for (next, page) in [
            ("/findings?a=b", "/findings?a=b"),
            ("/t/a/nodes/k8s%3Apod%3Ans%2Fone%25?tab=a%2Fb", "/t/a/nodes/k8s%3Apod%3Ans%2Fone%25?tab=a%2Fb"),
            ("/%2fevil.example", "/"),
            ("/.%2f/evil.example", "/"),
            ("/t/..//evil.example", "/"),
            ("//evil.example", "/"),
            ("/%5Cevil.example", "/"),
            ("/\\evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("https://evil.example", "/"),
            ("/a%0d%0aset-cookie:x=y", "/"),
        ] {
            let mut browser = Browser::default();
            let escaped: String =
                next.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).map(char::from).collect();
            let answer = browser.get(&world, &format!("/api/v1/login/corp?next={escaped}")).await.is(303);
            let asked = crate::idp::query(answer.header("location"));
            let code = double.code(&asked);
            let done = browser.back(&world, "corp", &[("code", &code), ("state", &asked["state"])]).await.is(303);
            assert_eq!(done.header("location"), page, "{next}");
            assert!(done.header("content-security-policy").contains("frame-ancestors 'none'"));
        }
        let answer = Browser::default().get(&world, "/api/v1/login/nowhere").await.is(303);
        assert_eq!(answer.header("location"), "/login?error=refused");
        // What the provider calls an error is not shown to anybody.
        let mut browser = Browser::default();
        let asked = browser.begin(&world, "corp").await;
        let error = [("error", "<script>"), ("error_description", "<script>"), ("state", &asked["state"])];
        let error: Vec<(&str, &str)> = error
            .iter()
            .map(|(name, value)| (*name, if *value == "<script>" { "%3Cscript%3E" } else { value }))
            .collect();
        let answer = browser.back(&world, "corp", &error).await.is(303);
        assert_eq!((answer.header("location"), answer.text.as_str()), ("/login?error=refused", ""));
    });
}

#[test]
fn a_user_with_a_second_factor_shows_it_after_the_provider_unless_the_provider_asked_for_one() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let mut first = Browser::default();
        first.sign_in(&world, "corp", &double).await.is(303);
        let mine = me(&world, &mut first).await.unwrap();
        assert_eq!((&mine["has_second_factor"], &mine["has_password"]), (&json!(false), &json!(false)));
        let app = App::enrol_by_cookie(&world, &mut first).await;
        let (json, ours) = (("content-type", "application/json"), ("origin", PUBLIC_URL));

        // Only `mfa` in a list says that it was more than one: anything else is one method, or no word at all.
        let double_says =
            [json!(null), json!(["pwd"]), json!(["pwd", "otp"]), json!("mfa"), json!({"mfa": true}), json!([["mfa"]])];
        for amr in double_says {
            double.say(|says| says.claims = json!({"amr": amr}));
            let mut browser = Browser::default();
            let answer = browser.sign_in(&world, "corp", &double).await.is(303);
            let to = answer.header("location");
            assert_eq!(to, "/login?second_step=totp%2Crecovery-code&next=%2Ffindings", "{amr}");
            assert!(browser.cookie(SESSION).is_none() && browser.cookie(LOGIN).is_none(), "{amr}");
            assert!(me(&world, &mut browser).await.is_none());
            world.clock.advance(Duration::from_secs(30));
            let path = "/api/v1/sessions/second-step";
            let code = step(&app.code(&world, 0));
            // Another site's page must not end it, and another browser cannot.
            browser.ask(&world, "POST", path, &[json, ("origin", "https://evil.example")], Some(&code)).await.is(403);
            Browser::default().ask(&world, "POST", path, &[json, ours], Some(&code)).await.is(401);
            browser.ask(&world, "POST", path, &[json, ours], Some(&step("000000"))).await.is(401);
            let done = browser.ask(&world, "POST", path, &[json, ours], Some(&code)).await.is(201);
            assert!(done.json.get("token").is_none(), "no script sees it");
            assert!(browser.cookie(SESSION).is_some() && browser.cookie(SECOND_STEP).is_none());
            let sessions = browser.get(&world, "/api/v1/me/sessions").await.is(200);
            let current = sessions.json["items"].as_array().unwrap().iter().find(|one| one["current"] == true).unwrap();
            assert_eq!((&current["method"], &current["second_factor"]), (&json!("oidc"), &json!(true)), "{amr}");
        }
        double.say(|says| says.claims = json!({"amr": ["pwd", "mfa"]}));
        let mut browser = Browser::default();
        let answer = browser.sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(answer.header("location"), "/findings", "{}", reason(&world).await);
        assert!(me(&world, &mut browser).await.is_some() && browser.cookie(SECOND_STEP).is_none());
    });
}

#[test]
fn a_provider_is_managed_by_the_platform_and_its_secret_never_comes_out() {
    each_engine(|world| async move {
        let new = json!({"name": "okta", "issuer": "https://example.okta.com", "client_id": "c", "client_secret": planted().client});
        let made = world.by(PLATFORM, "POST", "/api/v1/providers", Some(new.clone())).await.is(201);
        assert_eq!(made.json["redirect_uri"], format!("{PUBLIC_URL}/api/v1/login/okta/callback"));
        assert_eq!(made.json["scopes"], "openid email profile offline_access");
        world.by(PLATFORM, "POST", "/api/v1/providers", Some(new.clone())).await.is(409);
        let with = |name: &str, value: Value| {
            let mut body = new.clone();
            body["name"] = json!("other");
            body[name] = value;
            body
        };
        for (name, value) in [
            ("issuer", json!("http://example.okta.com")),
            ("issuer", json!("https://example.okta.com?x")),
            ("issuer", json!("https://user@example.okta.com")),
            ("issuer", json!("https://")),
            ("client_id", json!("")),
            ("client_secret", json!("")),
            ("scopes", json!("email")),
            ("groups_claim", json!("a\nb")),
            ("email_domains", json!("corp.example @corp.example")),
            ("name", json!("Not a slug")),
        ] {
            if (name, &value) != ("issuer", &json!("http://example.okta.com")) {
                world.by(PLATFORM, "POST", "/api/v1/providers", Some(with(name, value.clone()))).await.is(400);
            }
        }
        let listed = world.call("GET", "/api/v1/login", None, None).await.is(200);
        assert_eq!(listed.json, json!({"items": [{"name": "okta", "title": "okta"}]}));
        world
            .by(PLATFORM, "PATCH", "/api/v1/providers/okta", Some(json!({"issuer": "https://evil.example"})))
            .await
            .is(400);
        let change = json!({"title": "Okta", "client_secret": planted().client});
        assert_eq!(
            world.by(PLATFORM, "PATCH", "/api/v1/providers/okta", Some(change)).await.is(200).json["title"],
            "Okta"
        );
        let shown = world.by(PLATFORM, "GET", "/api/v1/providers/okta", None).await.is(200);
        assert!(!shown.text.contains(&planted().client) && shown.json["scim"] == false);
    });
}

#[test]
fn a_provider_that_is_removed_takes_its_sessions_and_roles_with_it() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let mut browser = Browser::default();
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert!(me(&world, &mut browser).await.is_some());
        world.by(PLATFORM, "DELETE", "/api/v1/providers/corp", None).await.is(204);
        assert!(me(&world, &mut browser).await.is_none());
        let members = world.by(&admin(), "GET", "/api/v1/tenants/acme/members", None).await.is(200);
        assert!(!members.text.contains("ann@corp.example"));
        let roles = world.by(&admin(), "GET", "/api/v1/tenants/acme/group-roles", None).await.is(200);
        assert_eq!(roles.json["items"], json!([]));
        // Made again, it vouches for the same person anew, who keeps their account.
        world.provider_at("corp", &double.issuer).await;
        browser.sign_in(&world, "corp", &double).await.is(303);
        assert_eq!(me(&world, &mut browser).await.unwrap()["email"], "ann@corp.example");
    });
}
