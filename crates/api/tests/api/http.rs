//! What HTTP itself can do wrong. The headers, the request id and the form of every error are checked on every answer, in `world`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use access::Role;
use axum::body::Body;
use http::Request;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use serde_json::json;

use crate::document::operations;
use crate::world::{PLATFORM, World, admin, each_engine, holder};

/// Posts these bytes as an administrator.
async fn post(world: &World, path: &str, kind: Option<&str>, body: impl Into<Body>) -> crate::world::Answer {
    let email = if path.starts_with("/api/v1/tenants/") { admin() } else { PLATFORM.to_owned() };
    let request = Request::post(path).header("authorization", format!("Bearer {}", world.token(&email).await));
    let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
    world.send(request.body(body.into()).unwrap()).await
}

const JSON: Option<&str> = Some("application/json");
const JOBS: &str = "/api/v1/tenants/acme/jobs";

#[test]
fn every_answer_carries_the_headers_and_a_request_id() {
    each_engine(|world| async move {
        let mut seen = std::collections::HashSet::new();
        let answers = [
            world.call("GET", "/healthz", None, None).await.is(200),
            world.call("GET", "/readyz", None, None).await.is(200),
            world.call("GET", "/api/openapi.json", None, None).await.is(200),
            world.call("GET", "/", None, None).await.is(404),
            world.call("GET", "/api/v1/nothing", None, None).await.is(404),
            world.call("GET", "/api/v1/../../etc/passwd", None, None).await.is(404),
            world.call("PUT", "/api/v1/me", None, None).await.is(405),
            world.call("GET", "/api/v1/me", None, None).await.is(401),
            world.call("POST", "/api/v1/sessions", None, Some(json!({}))).await.is(400),
            world.by(&holder(Role::ReadOnly, 'a'), "GET", JOBS, None).await.is(403),
            post(&world, JOBS, JSON, vec![b' '; 2 << 20]).await.is(413),
        ];
        for answer in &answers {
            assert!(seen.insert(answer.header("x-request-id").to_owned()));
            assert_eq!(answer.header("cache-control"), "no-store");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
            assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
            assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
            assert!(
                answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-") && name != "server")
            );
        }
    });
}

/// The series that metrics have.
#[derive(Default)]
struct Series(Mutex<BTreeSet<String>>);

impl metrics::Recorder for Series {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.lock().unwrap().insert(key.to_string());
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.lock().unwrap().insert(key.to_string());
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.lock().unwrap().insert(key.to_string());
        Histogram::noop()
    }
}

#[test]
fn attack_69_strangers_make_no_series_of_metrics_by_what_they_invent() {
    each_engine(|world| async move {
        let series = Series::default();
        let _here = metrics::set_default_local_recorder(&series);
        let ask = async |number: usize| {
            let method = format!("X{number}");
            let path = format!("/api/v1/invented/{number}?{number}");
            let request = Request::builder().method(method.as_str()).uri(path).header("host", format!("h{number}"));
            world.send(request.header("user-agent", format!("a{number}")).body(Body::empty()).unwrap()).await
        };
        ask(0).await;
        let first = series.0.lock().unwrap().clone();
        assert!(first.iter().any(|key| key.contains("cairn_http_requests_total")), "{first:?}");
        for number in 1..50 {
            ask(number).await;
        }
        assert_eq!(*series.0.lock().unwrap(), first);
    });
}

#[test]
fn a_server_that_takes_no_more_requests_still_says_that_it_is_alive() {
    each_engine(|world| async move {
        let full = world.server(|settings| settings.requests_max = 0);
        let ask = |path: &str| world.send_to(&full, Request::get(path).body(Body::empty()).unwrap());
        ask("/healthz").await.is(200);
        for other in ["/readyz", "/healthz/", "/api/openapi.json"] {
            ask(other).await.is(503).says("too many requests");
        }
    });
}

#[test]
fn a_handler_that_panics_is_an_answer_like_any_other_and_tells_nothing() {
    each_engine(|world| async move {
        let path = "/api/v1/tenants/acme/evaluations";
        world.panics.store(true, Ordering::SeqCst);
        let answer = world.by(&admin(), "POST", path, None).await.is(500).says("internal error");
        assert!(answer.json["code"] == "internal" && !answer.text.contains("panic"), "{}", answer.text);
        world.by(&admin(), "POST", path, None).await.is(200);
    });
}

#[test]
fn attack_26_a_body_over_a_mebibyte_is_refused_and_one_of_a_mebibyte_is_read() {
    each_engine(|world| async move {
        let padded = |bytes: usize| {
            let text = r#"{"plugin":"host"}"#;
            format!("{text}{}", " ".repeat(bytes - text.len()))
        };
        post(&world, JOBS, JSON, padded(1 << 20)).await.is(201);
        post(&world, JOBS, JSON, padded((1 << 20) + 1)).await.is(413).says("1048576");
        // Without a length: a stream that does not end by itself.
        let chunk = bytes::Bytes::from(vec![b' '; 1 << 16]);
        let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        post(&world, JOBS, JSON, Body::from_stream(endless)).await.is(413);
        // Nobody's body is read.
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")));
        let request = Request::post(JOBS).header("content-type", "application/json").body(Body::from_stream(endless));
        world.send(request.unwrap()).await.is(401);
    });
}

#[test]
fn attack_71_a_long_address_and_a_compressed_body_are_refused() {
    each_engine(|world| async move {
        let long = format!("/healthz?{}", "a".repeat(8 * 1_024));
        world.call("GET", &long, None, None).await.is(414).says("8 KiB");
        for coding in ["gzip", "zstd", "br", "identity, gzip"] {
            let request = Request::post("/api/v1/sessions").header("content-encoding", coding);
            let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
            world.send(request).await.is(415).says("compressed");
        }
    });
}

#[test]
fn attack_66_a_body_that_does_not_fit_is_refused_with_the_field_that_is_to_blame() {
    each_engine(|world| async move {
        let deep = format!(
            "{}{}",
            r#"{"plugin":"host","config":{"packages":"#.to_owned() + &"[".repeat(100_000),
            "]".repeat(100_000) + "}}"
        );
        let cases: Vec<(String, &str)> = vec![
            (r#"{"plugin":"host","pulgin":"x"}"#.to_owned(), "`pulgin`"),
            (r#"{"plugin":7}"#.to_owned(), "plugin"),
            (r#"{"plugin":null}"#.to_owned(), "plugin"),
            (r#"{"plugin":"host","config":[]}"#.to_owned(), "config"),
            (r#"{"config":{}}"#.to_owned(), "`plugin`"),
            (r#"{"plugin":"host","plugin":"aws"}"#.to_owned(), "`plugin`"),
            (r#"{"plugin":"host","config":{"packages":1,"packages":2}}"#.to_owned(), "`packages`"),
            (r#"{"plugin":"host","config":{"packages":[{"x":1,"\u0078":2}]}}"#.to_owned(), "`x`"),
            (r#"{"plugin":"host","config":{"colour":1}}"#.to_owned(), "`colour`"),
            (r#"{"plugin":"host"} x"#.to_owned(), "trailing"),
            (r#"{"plugin":"host""#.to_owned(), "EOF"),
            (String::new(), "EOF"),
            ("[]".to_owned(), "invalid"),
            ("\u{feff}{}".to_owned(), "not JSON"),
            (r#"{"plugin":"host","config":{"packages":1e999}}"#.to_owned(), "number"),
            (deep, "recursion limit"),
        ];
        for (body, words) in cases {
            post(&world, JOBS, JSON, body).await.is(400).says(words);
        }
        post(&world, JOBS, JSON, b"{\"plugin\":\"\xff\"}".to_vec()).await.is(400);
        for kind in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
            Some("application/jsonx"),
            Some("text/json"),
        ] {
            post(&world, JOBS, kind, r#"{"plugin":"host"}"#).await.is(400).says("Content-Type");
        }
        assert_eq!(world.by(&admin(), "GET", JOBS, None).await.json["items"], json!([]), "nothing is half-written");
        for kind in ["application/json; charset=utf-8", "Application/JSON"] {
            post(&world, JOBS, Some(kind), r#"{"plugin":"host"}"#).await.is(201);
        }
        for (path, body, field) in [
            ("/api/v1/tenants", json!({"slug": "A", "name": "x"}), "slug"),
            ("/api/v1/tenants", json!({"slug": "a", "name": "x\u{202e}"}), "name"),
            ("/api/v1/tenants", json!({"slug": "a", "name": "x", "admin": "nobody@example.org"}), "admin"),
            ("/api/v1/users", json!({"email": "x", "name": "x"}), "email"),
            ("/api/v1/tenants/acme/schedules", json!({"plugin": "host", "interval_s": 59}), "interval_s"),
            ("/api/v1/tenants/acme/schedules", json!({"plugin": "host", "interval_s": u64::MAX}), "interval_s"),
            (JOBS, json!({"plugin": "no such"}), "plugin"),
        ] {
            assert_eq!(post(&world, path, JSON, body.to_string()).await.is(400).json["field"], field);
        }
    });
}

#[test]
fn attack_31_a_limit_is_a_whole_number_from_1_to_500() {
    each_engine(|world| async move {
        world.node(world.a).await;
        let mut lists = 0;
        for operation in
            operations().into_iter().filter(|operation| operation.query.iter().any(|query| query == "limit"))
        {
            lists += 1;
            let path = operation.path.replace("{tenant}", "acme").replace("{node}", crate::world::NODE);
            let by = if path.starts_with("/api/v1/tenants/acme/") { admin() } else { PLATFORM.to_owned() };
            for limit in [
                "0",
                "-1",
                "501",
                "9223372036854775808",
                "1e9",
                "",
                "NaN",
                "0x10",
                "1.0",
                "%31%00",
                "\u{661}",
                "1&limit=2",
            ] {
                let limit: String =
                    limit.chars().map(|c| if c.is_ascii() { c.to_string() } else { "%d9%a1".to_owned() }).collect();
                let answer = world.by(&by, "GET", &format!("{path}?limit={limit}"), None).await.is(400);
                assert!(answer.text.contains("limit"), "{}", answer.text);
            }
            // Lists of what belongs to one thing, which is not there.
            let found = if path.contains('{') { 404 } else { 200 };
            for limit in ["1", "500"] {
                world.by(&by, "GET", &format!("{path}?limit={limit}"), None).await.is(found);
            }
            world.by(&by, "GET", &format!("{path}?colour=red"), None).await.is(400).says("`colour`");
        }
        assert!(lists >= 12, "only {lists} lists");
    });
}

#[test]
fn a_filter_with_a_word_that_does_not_exist_is_refused() {
    each_engine(|world| async move {
        for (query, field) in [
            ("jobs?status=done", "status"),
            ("findings?status=OPEN", "status"),
            ("findings?severity=urgent", "severity"),
            ("findings?node=x", "node"),
            ("findings?control=AC-6", "framework"),
            ("finding-groups?by=colour", "by"),
            ("finding-groups?by=node&severity=urgent", "severity"),
            ("nodes?as_of=yesterday", "as_of"),
            ("nodes?closed=yes", "closed"),
            ("nodes/x", "node"),
            ("edges?direction=up", "direction"),
            ("edges?type=A%20B", "type"),
            ("evidence?scope=", "scope"),
            ("evidence?kind=collection", "kind"),
            ("evidence-bundle", "finding"),
            ("evidence-bundle?control=AC-6", "framework"),
            ("evidence-bundle?finding=x&framework=y", "finding"),
            ("audit?category=all", "category"),
            ("audit?outcome=ok", "outcome"),
        ] {
            let answer = world
                .by(&holder(Role::SystemAdmin, 'a'), "GET", &format!("/api/v1/tenants/acme/{query}"), None)
                .await
                .is(400);
            assert!(answer.json["field"] == field || answer.text.contains(field), "{query}: {}", answer.text);
        }
    });
}

#[test]
fn a_job_can_be_watched_until_it_ends() {
    each_engine(|world| async move {
        let job = world.job(world.a).await;
        let events = format!("{JOBS}/{job}/events");
        let first = world.by(&admin(), "GET", &events, None).await.is(200);
        assert_eq!(first.header("content-type"), "text/event-stream");
        assert!(
            first.text.starts_with("event: job\ndata: {") && first.text.contains("\"status\":\"queued\""),
            "{}",
            first.text
        );
        world.by(&admin(), "POST", &format!("{JOBS}/{job}/cancel"), None).await.is(200);
        let last = world.by(&admin(), "GET", &events, None).await.is(200);
        assert!(last.text.ends_with("event: end\ndata: {\"status\":\"cancelled\"}\n\n"), "{}", last.text);
    });
}
