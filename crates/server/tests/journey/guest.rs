//! A plugin of somebody else: the example, installed in the server's folder, against a registry that asks for a password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use testkit::{logs, python_plugin};

use crate::world::{Engine, World};

/// Two repositories of the OCI distribution API, for who knows the password.
async fn registry(password: &str) -> String {
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("reader:{password}")));
    let may = move |headers: &HeaderMap| headers.get("authorization").is_some_and(|value| value == expected.as_str());
    let allowed = may.clone();
    let catalog = async move |headers: HeaderMap| {
        if may(&headers) { Ok(Json(json!({"repositories": ["app", "tools"]}))) } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let tags = async move |Path(name): Path<String>, headers: HeaderMap| {
        if allowed(&headers) {
            Ok(Json(json!({"name": name, "tags": ["v1", "v2"]})))
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
    let url = registry(&password).await;
    tokio::task::spawn_blocking(move || walk(&url, &password)).await.unwrap();
}

fn walk(url: &str, password: &str) {
    let runtimes: Vec<String> = python_plugin::runtimes().iter().map(|path| path.display().to_string()).collect();
    let world = World::new(Engine::Sqlite);
    let plugins = world.path("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::set_permissions(&plugins, fs::Permissions::from_mode(0o755)).unwrap();
    python_plugin::install(&python_plugin::example(), &plugins.join("registry"));
    let config = format!(
        "[discovery]\nown_host = false\nloopback_targets = true\nplugins_dir = {:?}\nplugin_runtimes = {runtimes:?}\n",
        plugins.display().to_string()
    );
    world.private("cairn.toml", &config);
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
