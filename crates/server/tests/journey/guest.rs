//! A plugin of somebody else: the example, installed in the server's folder, against a registry that asks for a password.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use testkit::{logs, python_plugin};

use crate::world::{Engine, World};

/// Repositories with their tags.
type Repositories = Arc<Mutex<BTreeMap<&'static str, Vec<&'static str>>>>;

fn two() -> Repositories {
    Arc::new(Mutex::new(BTreeMap::from([("app", vec!["v1", "v2"]), ("tools", vec!["v1", "v2"])])))
}

/// Some repositories of the OCI distribution API, for who knows the password.
async fn registry(password: &str, repositories: Repositories) -> String {
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("reader:{password}")));
    let may = move |headers: &HeaderMap| headers.get("authorization").is_some_and(|value| value == expected.as_str());
    let allowed = may.clone();
    let listed = Arc::clone(&repositories);
    let catalog = async move |headers: HeaderMap| {
        let names: Vec<_> = listed.lock().unwrap().keys().copied().collect();
        if may(&headers) { Ok(Json(json!({"repositories": names}))) } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let tags = async move |Path(name): Path<String>, headers: HeaderMap| {
        if allowed(&headers) {
            let tags = repositories.lock().unwrap().get(name.as_str()).cloned().ok_or(StatusCode::NOT_FOUND)?;
            Ok(Json(json!({"name": name, "tags": tags})))
        } else {
            Err(StatusCode::UNAUTHORIZED)
        }
    };
    let router = Router::new().route("/v2/_catalog", get(catalog)).route("/v2/{name}/tags/list", get(tags));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_of_somebody_else_shows_what_it_found_without_seeing_the_password() {
    let password = logs::plant("registry-password-92");
    let url = registry(&password, two()).await;
    tokio::task::spawn_blocking(move || walk(&url, &password)).await.unwrap();
}

/// A world with the example installed.
fn world_with_example(engine: Engine) -> World {
    let runtimes: Vec<String> = python_plugin::runtimes().iter().map(|path| path.display().to_string()).collect();
    let world = World::new(engine);
    let plugins = world.path("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::set_permissions(&plugins, fs::Permissions::from_mode(0o755)).unwrap();
    python_plugin::install(&python_plugin::example(), &plugins.join("registry"));
    let config = format!(
        "[discovery]\nown_host = false\nloopback_targets = true\nplugins_dir = {:?}\nplugin_runtimes = {runtimes:?}\n",
        plugins.display().to_string()
    );
    world.private("cairn.toml", &config);
    world
}

fn walk(url: &str, password: &str) {
    let world = world_with_example(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    for (name, password) in [("lab", password), ("old", "not the password")] {
        let stored = json!({"origin": url, "username": "reader", "password": password}).to_string();
        let file = world.private("registry.json", &stored);
        let file = file.to_str().unwrap();
        let add = ["creds", "add", "--plugin", "registry", "--name", name, "--type", "http-basic", "--from-file", file];
        world.cairn(add).ok();
    }
    let set = format!("url={url}");
    let run = |credential: &str| {
        let job =
            ["jobs", "run", "--plugin", "registry", "--set", &set, "--credential", credential, "--wait", "-o", "json"];
        world.cairn(job).json()["status"].clone()
    };
    // Tried before anything is read: its own word about the settings, and what its first calls say.
    for (credential, status, outcome) in [("lab", "passed", "good"), ("old", "failed", "denied")] {
        let ran = world.cairn(["creds", "validate", credential, "--set", &set, "-o", "json"]);
        let told = ran.json();
        assert_eq!(told["status"], status, "{told}");
        let checks = told["checks"].as_array().unwrap();
        let catalog = checks.iter().find(|check| check["what"].as_str().unwrap().ends_with("/v2/_catalog")).unwrap();
        assert_eq!(catalog["outcome"], outcome, "{told}");
        assert!(!ran.out.contains(password) && !ran.err.contains(password));
    }
    assert_eq!(run("lab"), "completed");
    let list = |what: &[&str]| -> Vec<Value> {
        let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
        listed.as_array().unwrap().clone()
    };
    assert_eq!(list(&["nodes", "list", "--type", "registry.repository"]).len(), 2);
    assert_eq!(list(&["nodes", "list", "--type", "registry.tag"]).len(), 4);

    // With a wrong password it is told that it may not read, and what is there stays.
    assert_eq!(run("old"), "failed");
    let ledger = list(&["coverage", "--verdict", "denied"]);
    assert!(ledger[0]["reason"].as_str().unwrap().contains("401"), "{ledger:?}");
    assert_eq!(list(&["nodes", "list", "--type", "registry.tag"]).len(), 4);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_keeps_a_checkpoint_shows_what_changed_and_only_that_is_closed() {
    let password = logs::plant("registry-password-93");
    let repositories = two();
    let url = registry(&password, Arc::clone(&repositories)).await;
    tokio::task::spawn_blocking(move || differences(&url, &password, &repositories)).await.unwrap();
}

fn differences(url: &str, password: &str, repositories: &Repositories) {
    let world = world_with_example(Engine::postgres());
    let server = world.start();
    world.first_login(&server);
    let stored = json!({"origin": url, "username": "reader", "password": password}).to_string();
    let file = world.private("registry.json", &stored);
    let file = file.to_str().unwrap();
    let add = ["creds", "add", "--plugin", "registry", "--name", "lab", "--type", "http-basic", "--from-file", file];
    world.cairn(add).ok();
    let set = format!("url={url}");
    let list = |what: &[&str]| -> Vec<Value> {
        let listed = world.cairn(what.iter().copied().chain(["--all", "-o", "json"])).ok().json();
        listed.as_array().unwrap().clone()
    };
    // Runs it, and says how it ended, what the ledger says, and which tags are there.
    let run = || {
        let job = ["jobs", "run", "--plugin", "registry", "--set", &set, "--credential", "lab", "--wait", "-o", "json"];
        let status = world.cairn(job).json()["status"].as_str().unwrap().to_owned();
        let ledger = list(&["coverage", "--source", "registry"]).remove(0);
        let tags = list(&["nodes", "list", "--type", "registry.tag"]);
        let tag = |node: &Value| node["id"].as_str().unwrap().split(':').skip(3).collect::<Vec<_>>().join(":");
        (status, ledger, tags.iter().map(tag).collect::<std::collections::BTreeSet<_>>())
    };
    let tags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let all = tags(&["app:v1", "app:v2", "tools:v1", "tools:v2"]);
    let (status, first, shown) = run();
    assert_eq!((status.as_str(), &first["verdict"], shown), ("completed", &json!("complete"), all));

    let (status, unchanged, shown) = run();
    let all = tags(&["app:v1", "app:v2", "tools:v1", "tools:v2"]);
    assert_eq!((status.as_str(), &unchanged["verdict"], shown), ("completed", &json!("unchanged"), all));
    assert_eq!(unchanged["complete_at"], unchanged["tried_at"]);

    *repositories.lock().unwrap() = BTreeMap::from([("app", vec!["v2", "v3"])]);
    let (status, changed, shown) = run();
    let now = tags(&["app:v2", "app:v3"]);
    assert_eq!((status.as_str(), &changed["verdict"], shown), ("completed", &json!("complete"), now));
    assert_eq!(list(&["nodes", "list", "--type", "registry.repository"]).len(), 1);

    // A repository that fails leaves no checkpoint, and closes nothing; the next run shows everything.
    repositories.lock().unwrap().insert("gone/from/here", vec![]);
    let (_, failed, shown) = run();
    assert_eq!((&failed["verdict"], shown), (&json!("failed"), tags(&["app:v2", "app:v3"])));
    *repositories.lock().unwrap() = BTreeMap::from([("app", vec!["v3"])]);
    let (_, whole, shown) = run();
    assert_eq!((&whole["verdict"], shown), (&json!("complete"), tags(&["app:v3"])));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_checked_on_the_command_line_without_any_server_recorded_once_and_replayed() {
    let password = logs::plant("registry-password-94");
    let repositories = two();
    let url = registry(&password, Arc::clone(&repositories)).await;
    tokio::task::spawn_blocking(move || checked(&url, &password, &repositories)).await.unwrap();
}

fn checked(url: &str, password: &str, repositories: &Repositories) {
    let world = World::new(Engine::Sqlite);
    let plugin = world.path("registry");
    python_plugin::install(&python_plugin::example(), &plugin);
    let (set, tape) = (format!("url={url}"), world.path("tape.json"));
    let tape = tape.to_str().unwrap();
    let stored = json!({"origin": url, "username": "reader", "password": password}).to_string();
    let credential = world.private("registry.json", &stored);
    let check = |words: &[&str]| {
        let runtimes = python_plugin::runtimes();
        let mut command = vec!["plugins", "check", plugin.to_str().unwrap(), "--loopback", "-o", "json"];
        for runtime in &runtimes {
            command.extend(["--runtime", runtime.to_str().unwrap()]);
        }
        command.extend(words);
        let ran = world.cairn(command);
        assert!(!ran.out.contains(password) && !ran.err.contains(password));
        ran
    };
    let results = |told: &Value| -> Vec<String> {
        told.as_array().unwrap().iter().map(|item| item["result"].as_str().unwrap().to_owned()).collect()
    };
    // Without calls what needs them is skipped, and nothing else is wrong.
    let told = check(&["--set", &set]).ok().json();
    assert!(results(&told).contains(&"skipped".to_owned()), "{told}");
    let recording = ["--set", &set, "--record", tape, "--credential-file", credential.to_str().unwrap()];
    let told = check(&recording).ok().json();
    assert!(results(&told).iter().all(|result| result == "passed"), "{told}");
    let kept = fs::read_to_string(tape).unwrap();
    assert!(kept.contains("tools") && !kept.contains(password), "the tape holds the answers and no secret");
    // The tape answers instead of the registry, which holds nothing any more.
    repositories.lock().unwrap().clear();
    let told = check(&["--replay", tape]).ok().json();
    assert!(results(&told).iter().all(|result| result == "passed"), "{told}");

    // One that says that it saw everything where it was kept out is found out, and so is one that does not begin.
    let program = fs::read_to_string(plugin.join("plugin.py")).unwrap();
    let lying = program.replace("verdict=why.verdict, reason=str(why)", "verdict=pb.VERDICT_COMPLETE");
    assert_ne!(lying, program);
    for broken in [lying.as_str(), "raise SystemExit(3)\n"] {
        fs::write(plugin.join("plugin.py"), broken).unwrap();
        let ran = check(&["--replay", tape]);
        assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
        assert!(results(&ran.json()).contains(&"failed".to_owned()), "{}", ran.out);
        assert!(ran.err.contains("did not pass every check"), "{}", ran.err);
    }
}
