//! Providers that do not do as others: other ways to ask for a refresh token, addresses without a word on whether they are verified.

use serde_json::{Value, json};

use crate::idp::Browser;
use crate::login::{MINUTE, me, refused, with_double};
use crate::world::{PLATFORM, each_engine};

#[test]
fn a_refresh_token_is_asked_for_in_the_way_that_the_provider_knows() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let all = "openid email profile groups offline_access";
        // What it lists; which scopes it is asked for; and whether as Google wants it.
        for (listed, scopes, as_google) in [
            (Value::Null, all, false),
            (json!(["openid", "offline_access"]), all, false),
            (json!(["openid", "email", "profile"]), "openid email profile groups", true),
        ] {
            double.say(|says| says.discovery = json!({ "scopes_supported": listed }));
            // What was known of it is too old.
            world.clock.advance(61 * MINUTE);
            let mut browser = Browser::default();
            let asked = browser.begin(&world, "corp").await;
            assert_eq!(asked["scope"], scopes, "{listed}");
            let offline = (asked.get("access_type").map(String::as_str), asked.get("prompt").map(String::as_str));
            assert_eq!(offline, if as_google { (Some("offline"), Some("consent")) } else { (None, None) }, "{listed}");
            let code = double.code(&asked);
            browser.back(&world, "corp", &[("code", &code), ("state", &asked["state"])]).await.is(303);
            world.clock.advance(20 * MINUTE);
            api::recheck(&world.state).await.unwrap();
            assert!(me(&world, &mut browser).await.is_some(), "{listed}");
        }
    });
}

#[test]
fn attack_42_an_address_without_a_word_on_it_counts_at_the_domains_for_which_the_provider_is_trusted_only() {
    each_engine(|world| async move {
        let double = with_double(&world).await;
        let entra = |sub: &str, claims: Value| {
            let mut all = json!({"sub": sub, "email_verified": null, "email": null});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            double.say(|says| {
                says.claims = all;
                says.userinfo = Some(json!({ "sub": sub }));
            });
        };
        entra("bo", json!({"email": "bo@corp.example"}));
        assert!(refused(&world, &double).await.contains("did not verify"));
        entra("bo", json!({"preferred_username": "bo@corp.example"}));
        assert!(refused(&world, &double).await.contains("names no address"));

        let trust = json!({"email_domains": "Corp.example sub.corp.example"});
        let path = "/api/v1/providers/corp";
        let changed = world.by(PLATFORM, "PATCH", path, Some(trust)).await.is(200);
        assert_eq!(changed.json["email_domains"], "corp.example sub.corp.example");
        for (claims, why) in [
            (json!({"email": "bo@other.example"}), "did not verify"),
            (json!({"email": "bo@evil-corp.example"}), "did not verify"),
            (json!({"email": "bo@x.corp.example"}), "did not verify"),
            // What the provider does say of it counts, and of what it says two things, none.
            (json!({"email": "bo@corp.example", "email_verified": false}), "did not verify"),
            (json!({"email": "bo@corp.example", "email_verified": "true"}), "did not verify"),
            (json!({"email": "bo@other.example", "preferred_username": "bo@corp.example"}), "did not verify"),
            (json!({"email": "no address", "preferred_username": "bo@corp.example"}), "names no address"),
            (json!({"preferred_username": "bo@other.example"}), "names no address"),
            // Nor does it take over who manages the platform.
            (json!({"email": PLATFORM}), "did not verify"),
        ] {
            entra("bo", claims.clone());
            let reason = refused(&world, &double).await;
            assert!(reason.contains(why), "{claims}: {reason}");
        }
        for (sub, claims, address) in [
            ("bo", json!({"email": "Bo@corp.example"}), "bo@corp.example"),
            ("cy", json!({"preferred_username": "cy@sub.corp.example"}), "cy@sub.corp.example"),
        ] {
            entra(sub, claims);
            let mut browser = Browser::default();
            browser.sign_in(&world, "corp", &double).await.is(303);
            assert_eq!(me(&world, &mut browser).await.unwrap()["email"], address);
        }
        // The account that manages the platform is at a domain that is trusted now.
        let domain = PLATFORM.split_once('@').unwrap().1;
        world.by(PLATFORM, "PATCH", path, Some(json!({ "email_domains": domain }))).await.is(200);
        entra("mallory", json!({ "email": PLATFORM }));
        assert!(refused(&world, &double).await.contains("manages the platform"));
    });
}
