//! The example plugin, against a registry, and under `check` with a tape.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use domain::{Clock, Rng, Secret};
use guest::check::{Calls, Options, Report, Verdict, check};
use serde_json::{Map, Value, json};
use testkit::{TestClock, TestRng};

use crate::support::{self, TestReach};

fn example() -> (tempfile::TempDir, PathBuf) {
    support::installed(&testkit::python_plugin::example())
}

fn basic(password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("reader:{password}")))
}

async fn checked(options: Options) -> Report {
    let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(TestClock::default()), Arc::new(TestRng::default()));
    check(&options, &clock, &rng).await
}

fn options(path: &std::path::Path, settings: Map<String, Value>, calls: Calls) -> Options {
    let (path, surroundings) = (path.to_owned(), support::surroundings());
    Options { path, surroundings, settings, calls, credential: None, loopback: true }
}

fn results(report: &Report) -> Vec<Verdict> {
    report.items.iter().map(|item| item.result).collect()
}

#[tokio::test]
async fn the_example_reads_a_registry_through_the_broker_with_a_password_that_it_never_sees() {
    let password = testkit::logs::plant("registry-password-90");
    let (url, asked) = support::registry(Some(basic(&password))).await;
    let (_dir, path) = example();
    let stored = json!({"origin": url, "username": "reader", "password": password});
    let config = support::settings(json!({"url": url}));
    let (ended, kept) = support::run(&path, config.clone(), &TestReach::new(Some(stored))).await;
    ended.unwrap();
    assert_eq!(kept.verdict("repositories").as_str(), "complete");
    let nodes: usize = kept.pages.iter().map(|page| page.nodes.len()).sum();
    let edges: usize = kept.pages.iter().map(|page| page.edges.len()).sum();
    // 131 repositories; 0 to 3 tags for each of 130, and 150 for the last.
    assert_eq!((nodes, edges), (131 + 193 + 150, 193 + 150));
    assert_eq!(asked.lock().unwrap().len(), 2 + 131 + 1);
    assert!(!format!("{:?}", kept.pages).contains(password.as_str()));
    // Without the credential: denied, and so it says.
    let (ended, kept) = support::run(&path, config, &TestReach::new(None)).await;
    ended.unwrap();
    assert_eq!(kept.verdict("repositories").as_str(), "denied");
}

#[tokio::test]
async fn a_check_records_a_tape_without_the_secret_and_replays_it_without_a_network() {
    let password = testkit::logs::plant("registry-password-91");
    let (url, asked) = support::registry(Some(basic(&password))).await;
    let (dir, path) = example();
    let tape = dir.path().join("tape.json");
    let mut recording = options(&path, support::settings(json!({"url": url})), Calls::Record(tape.clone()));
    let stored = json!({"origin": url, "username": "reader", "password": password});
    recording.credential = Some(Secret::new(stored.to_string().into_bytes()));
    let report = checked(recording).await;
    assert!(report.is_ok() && !results(&report).contains(&Verdict::Skipped), "{:#?}", report.items);
    let text = std::fs::read_to_string(&tape).unwrap();
    assert!(
        text.contains("team/app-001") && !text.contains(password.as_str()) && !text.contains(&basic(&password)[6..])
    );
    let calls = asked.lock().unwrap().len();
    assert_eq!(calls, 2 * (2 + 131 + 1), "a discovery, and a diff");

    let report = checked(options(&path, Map::new(), Calls::Replay(tape.clone()))).await;
    assert!(report.is_ok(), "{:#?}", report.items);
    assert!(report.items.iter().any(|item| item.detail.contains("1 scopes unchanged")), "{:#?}", report.items);
    assert_eq!(asked.lock().unwrap().len(), calls, "a replay asks nobody");

    // A plugin that stops at the first page and says complete is not the same any more; one that swallows denials lies.
    let program = std::fs::read_to_string(path.join("plugin.py")).unwrap();
    let lying = program.replace("verdict=why.verdict, reason=str(why)", "verdict=pb.VERDICT_COMPLETE");
    assert_ne!(lying, program);
    std::fs::write(path.join("plugin.py"), lying).unwrap();
    let report = checked(options(&path, Map::new(), Calls::Replay(tape))).await;
    let failed: Vec<_> = report.items.iter().filter(|item| item.result == Verdict::Failed).collect();
    assert_eq!(failed.len(), 2, "{:#?}", report.items);
    assert!(
        failed
            .iter()
            .all(|item| { item.check.contains("with every call denied") && item.detail.contains("said complete") })
    );
}

#[test]
fn the_example_is_a_plugin_that_somebody_reads_in_one_go() {
    let program = std::fs::read_to_string(testkit::python_plugin::example().join("plugin.py")).unwrap();
    assert!(program.lines().count() <= 100, "{} lines", program.lines().count());
}

#[tokio::test]
async fn a_check_without_calls_still_looks_at_everything_else() {
    let (_dir, path) = example();
    let config = support::settings(json!({"url": "https://registry.example.com"}));
    let report = checked(options(&path, config, Calls::None)).await;
    assert!(report.is_ok(), "{:#?}", report.items);
    assert!(results(&report).contains(&Verdict::Skipped));
    let config = support::settings(json!({"url": "https://docker.io"}));
    let report = checked(options(&path, config, Calls::None)).await;
    assert!(!report.is_ok() && report.items.last().unwrap().detail.contains("Docker Hub"));
    std::fs::write(path.join("plugin.toml"), "protocol = 9\n").unwrap();
    let report = checked(options(&path, Map::new(), Calls::None)).await;
    assert!(!report.is_ok() && report.items.len() == 1);
}
