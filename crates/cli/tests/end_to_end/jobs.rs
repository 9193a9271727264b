//! Watching jobs: streams that break, and what the end means.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::double::Reply;
use crate::world::{World, id, wire_form};

fn job(status: &str, done: u64, message: &str) -> Value {
    wire_form::<wire::job::JobDetail>(json!({
        "id": id("job"), "plugin": "aws", "credential": null, "schedule": null, "config": {}, "status": status, "requested_by": "ann",
        "created_at": "2026-11-22T03:00:00.000Z", "started_at": null, "finished_at": null,
        "error": (status == "failed").then_some("the keys have expired"), "done": done, "total": 2,
        "tasks": [{"id": id("tsk"), "key": "us-east-1", "status": "running", "attempt": 1, "done": done, "total": 2, "message": message, "error": null}],
        "coverage": [
            {"scope": "aws:1:us-east-1:ec2", "coverage": "complete", "reason": null, "nodes": 3, "edges": 1},
            {"scope": "aws:1:us-east-1:iam", "coverage": if status == "partial" { "denied" } else { "complete" }, "reason": "AccessDenied", "nodes": 0, "edges": 0},
        ],
    }))
}

/// A server where a job runs and ends so. Its first stream breaks in the middle of an event.
fn world(status: &'static str) -> World {
    let streams = AtomicUsize::new(0);
    let path = format!("/api/v1/tenants/acme/jobs/{}", id("job"));
    World::signed_in(move |request| {
        if request.line() == "POST /api/v1/tenants/acme/jobs" {
            return Some(Reply::Json(201, wire_form::<wire::job::Job>(job("queued", 0, ""))));
        }
        if request.path == path {
            return Some(Reply::Json(200, job(status, 2, "")));
        }
        (request.path == format!("{path}/events")).then(|| {
            let first = streams.fetch_add(1, Ordering::SeqCst) == 0;
            let event = |done, message| format!("event: job\r\ndata: {}\r\n\r\n", job("running", done, message));
            let text = if first {
                let whole = format!(": hello\n\n{}{}", event(0, "ec2"), event(1, "cut off"));
                whole[..whole.len() - 9].to_owned()
            } else {
                format!("{}event: end\ndata:\n\n", event(1, "i\u{1b}am"))
            };
            let pieces = text.into_bytes().chunks(7).map(<[u8]>::to_vec).collect();
            Reply::Pieces { kind: "text/event-stream", pieces, breaks: first }
        })
    })
}

const RUN: [&str; 10] =
    ["jobs", "run", "--plugin", "aws", "--credential", "prod", "--set", "regions=[\"us-east-1\"]", "--set", "n=text"];

#[test]
fn a_job_is_started_with_settings_and_not_waited_for() {
    let world = world("completed");
    let run = world.run(&RUN).expect(0).says(&format!("cairn jobs watch {}", id("job")));
    assert!(run.out.contains("queued"));
    let body = world.server.seen().pop().unwrap().json();
    assert_eq!(body, json!({"plugin": "aws", "credential": "prod", "config": {"regions": ["us-east-1"], "n": "text"}}));
}

#[test]
fn waiting_survives_a_broken_stream_and_ends_with_the_job() {
    let world = world("completed");
    let run = world.run(&[&RUN[..], &["--wait", "-o", "json"]].concat()).expect(0);
    assert_eq!(run.json(), job("completed", 2, ""));
    let lines: Vec<&str> = run.err.lines().collect();
    let id = id("job");
    assert_eq!(
        lines,
        [
            format!("job {id} 0/2 running: us-east-1 ec2"),
            format!("job {id} 1/2 running: us-east-1 i\u{fffd}am"),
            format!("job {id} completed: 3 nodes, 1 edges"),
        ]
    );
    assert_eq!(world.server.lines().iter().filter(|line| line.ends_with("/events")).count(), 2);
    assert_eq!(world.run(&["jobs", "watch", &id, "--quiet", "-o", "json"]).expect(0).err, "");
}

#[test]
fn a_failed_or_cancelled_job_is_exit_code_1_and_its_data_is_shown() {
    let failed =
        world("failed").run(&["jobs", "watch", &id("job"), "-o", "json"]).expect(1).says("the keys have expired");
    assert_eq!(failed.json()["status"], "failed");
    world("cancelled").run(&["jobs", "watch", &id("job")]).expect(1).says("was cancelled");
}

#[test]
fn a_partial_job_is_done_and_warns_of_its_gaps() {
    let run = world("partial").run(&["jobs", "watch", &id("job"), "--quiet"]).expect(0);
    assert_eq!(
        run.err,
        format!(
            "warning: job {} is partial: 1 of 2 scopes were not read completely and closed nothing\nwarning: aws:1:us-east-1:iam denied: AccessDenied\n",
            id("job")
        )
    );
}

#[test]
fn a_job_that_does_not_exist_is_not_waited_for() {
    let world = world("completed");
    world.run(&["jobs", "watch", "job_x"]).expect(1).says("there is no such thing (request req_7)");
}

#[test]
fn control_c_detaches_and_says_how_to_watch_again() {
    // Says nothing more until the client is gone.
    let (started, is_started) = std::sync::mpsc::sync_channel(1);
    let world = World::signed_in(move |request| {
        request.path.ends_with("/events").then(|| {
            let _ = started.try_send(());
            Reply::Silence
        })
    });
    let child = crate::world::command(&world.home())
        .args(["jobs", "watch", "job_x"])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    is_started.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("hint: cairn jobs watch job_x"), "{err}");
}

#[test]
fn a_credential_is_validated_and_what_it_may_not_do_is_told() {
    for (status, code, word) in [("passed", 0, "all of 2"), ("incomplete", 0, "1 of 2"), ("failed", 1, "nothing that")]
    {
        let asked = AtomicUsize::new(0);
        let world = World::signed_in(move |request| {
            let validation = |status: &str| {
                let is_over = !["queued", "running"].contains(&status);
                let denied = if status == "passed" { "good" } else { "denied" };
                let good = if status == "failed" { "failed" } else { "good" };
                wire_form::<wire::validation::Validation>(json!({
                    "id": id("val"), "plugin": "aws", "credential": id("crd"), "relay": null, "config": {}, "status": status,
                    "requested_by": "ann", "created_at": "2026-11-22T03:00:00.000Z", "started_at": null, "finished_at": null,
                    "error": null, "checks": if is_over { json!([
                        {"what": "sts:GetCallerIdentity", "outcome": good, "reason": "account 1"},
                        {"what": "ec2:DescribeVpcs", "outcome": denied, "reason": "denied: no\u{1b}[2J"},
                        {"what": "s3:GetBucketPolicy", "outcome": "not_tried", "reason": null},
                    ]) } else { json!([]) },
                }))
            };
            match request.line().as_str() {
                "GET /api/v1/tenants/acme/credentials" => Some(Reply::Json(200, json!({"items": [credential()]}))),
                "POST /api/v1/tenants/acme/validations" => Some(Reply::Json(201, validation("queued"))),
                line if line.ends_with(&id("crd")) => Some(Reply::Json(200, credential())),
                line if line.ends_with(&id("val")) => {
                    let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                    Some(Reply::Json(200, validation(if first { "running" } else { status })))
                }
                _ => None,
            }
        });
        let run = world.run(&["creds", "validate", "prod", "--set", "regions=eu-west-1", "--relay", "berlin"]);
        let run = run.expect(code).says(word);
        assert!(run.out.contains("ec2:DescribeVpcs") && !run.out.contains('\u{1b}'), "{run:#?}");
        let post = world.server.seen().into_iter().rfind(|request| request.method == "POST").unwrap().json();
        let expect =
            json!({"plugin": "aws", "credential": id("crd"), "relay": "berlin", "config": {"regions": "eu-west-1"}});
        assert_eq!(post, expect);
    }
}

fn credential() -> Value {
    wire_form::<wire::credential::Credential>(json!({
        "id": id("crd"), "plugin": "aws", "name": "prod", "type": "aws-keys", "created_at": "2026-11-22T03:00:00.000Z",
        "created_by": "ann", "last_used_at": null,
    }))
}

#[test]
fn a_schedule_is_paused_resumed_and_changed_and_what_is_not_named_stays() {
    let world = World::signed_in(|request| {
        request.path.ends_with(&id("sch")).then(|| {
            Reply::Json(
                200,
                wire_form::<wire::job::Schedule>(json!({
                    "id": id("sch"), "plugin": "host", "credential": null, "relay": null, "config": {}, "interval_s": 60,
                    "next_at": "2026-11-22T03:00:00.000Z", "paused": true, "created_at": "2026-11-22T03:00:00.000Z", "created_by": "ann",
                })),
            )
        })
    });
    let schedule = id("sch");
    for (args, body) in [
        (&["pause", &schedule][..], json!({"paused": true})),
        (&["resume", &schedule], json!({"paused": false})),
        (&["update", &schedule, "--every", "6h", "--no-relay"], json!({"interval_s": 21_600, "relay": ""})),
        (&["update", &schedule, "--set", "site=fra1"], json!({"config": {"site": "fra1"}})),
    ] {
        world.run(&[&["schedules"], args].concat()).expect(0);
        let sent = world.server.seen().pop().unwrap();
        assert_eq!((sent.method.as_str(), sent.json()), ("PATCH", body));
    }
    world.run(&["schedules", "update", &schedule, "--relay", "a", "--no-relay"]).expect(2);
}
