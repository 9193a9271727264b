//! A plugin that does what it must not. What it tried comes back as a node's properties, or as the run's end.

use std::path::Path;
use std::time::{Duration, Instant};

use domain::{Coverage, Result};
use serde_json::{Value, json};

use crate::support::{self, Kept, TestReach};

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    support::installed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile"))
}

async fn run_with(config: Value, reach: &TestReach) -> (Result<()>, Kept) {
    let (_dir, path) = folder();
    support::run(&path, support::settings(config), reach).await
}

async fn run(mode: &str) -> (Result<()>, Kept) {
    run_with(json!({"mode": mode}), &TestReach::new(None)).await
}

/// Runs a mode that has to fail, and returns why it did.
async fn failure(mode: &str) -> (String, Kept) {
    let (ended, kept) = run(mode).await;
    (ended.expect_err(mode).to_string(), kept)
}

/// Has a plugin try everything that it may not, and says what that did.
async fn probe(older_kernel: bool) {
    let secrets = tempfile::tempdir().unwrap();
    let victim = secrets.path().join("master.key");
    std::fs::write(&victim, testkit::logs::plant("8f1e5b0cfe1e4a6c")).unwrap();
    let _listening = std::os::unix::net::UnixListener::bind(secrets.path().join("master.key.sock")).unwrap();
    let before = std::fs::metadata(&victim).unwrap();
    let ((_dir, path), reach) = (folder(), TestReach::new(None));
    let config = support::settings(json!({"mode": "probe", "victim": victim}));
    let (ended, kept) = if older_kernel {
        support::run_on_older_kernel(&path, config, &reach).await
    } else {
        support::run(&path, config, &reach).await
    };
    ended.unwrap();
    let seen = kept.seen();
    let tried = seen.as_object().unwrap();
    let done: Vec<_> =
        tried.iter().filter(|(_, how)| how.as_str().is_some_and(|how| how.starts_with("DONE"))).collect();
    assert!(done.is_empty() && tried.len() > 100, "{done:#?}");
    // An attempt that fails for another reason than that it is forbidden proves nothing.
    let odd: Vec<_> = tried
        .iter()
        .filter(|(name, how)| {
            !["environment", "inherited", "needed"].contains(&name.as_str()) && **how != json!("PermissionError")
        })
        .map(|(name, how)| format!("{name}: {how}"))
        .collect();
    assert_eq!(odd, ["clone3: \"OSError\"", "raise_limit: \"ValueError\"", "system: \"ZeroDivisionError\""]);
    assert_eq!(tried["environment"], "CAIRN_PLUGIN_SOCKET,LC_ALL,MALLOC_ARENA_MAX");
    assert_eq!(tried["inherited"], json!([]), "no descriptor of the server is open in it");
    assert_eq!(tried["needed"], json!([2, false, true, true, true]), "what plugins need of descriptors works");
    let after = std::fs::metadata(&victim).unwrap();
    assert_eq!((before.len(), before.permissions()), (after.len(), after.permissions()));
}

#[tokio::test]
async fn attack_59_a_plugin_reaches_no_network_no_file_no_process_and_no_other_socket() {
    probe(false).await;
}

/// A plugin has the user id of the server or relay, so that it could have the kernel kill that for it: with `F_SETOWN`, `F_SETSIG` and
/// `O_ASYNC` on its own socket. Landlock's scope of signals stops it from Linux 6.12 on; before, nothing but the list of system calls.
#[tokio::test]
async fn attack_59_a_plugin_signals_nobody_also_where_landlock_has_no_scopes() {
    probe(true).await;
}

#[tokio::test]
async fn attack_26_memory_threads_processor_and_messages_without_end_are_ended() {
    for (mode, expect) in [
        // Python says so of a MemoryError.
        ("memory", "exception iterating responses"),
        // The memory for their stacks is used up, or they are counted, whichever comes first.
        ("threads", "thread"),
        ("processor", "signal: 9"),
        ("huge", "a message is larger than"),
        ("nested", "no json object"),
        ("flood", "tells its progress more than"),
    ] {
        let begun = Instant::now();
        let (why, _) = failure(mode).await;
        // On a busy machine its silence is over before its processor time.
        let why_low = why.to_lowercase();
        let ended = why_low.contains(expect)
            || (mode == "processor" && why.contains("silent for"))
            // Python says it of a MemoryError, too, where even the thread's own objects find no room.
            || (mode == "threads" && why_low.contains("exception iterating responses"));
        assert!(ended, "{mode}: {why}");
        assert!(begun.elapsed() < Duration::from_secs(90), "{mode}");
    }
}

#[tokio::test]
async fn a_plugin_that_is_silent_runs_on_or_is_cancelled_is_ended_with_its_process() {
    let (why, _) = failure("silent").await;
    assert!(why.contains("silent for 10 s"), "{why}");
    let (why, kept) = failure("endless").await;
    assert!(why.contains("it ran for 20 s"), "{why}");
    assert!(!kept.progress.is_empty() && kept.progress.iter().all(|what| what == "still at work [31m"));

    let (_dir, path) = folder();
    let reach = TestReach::new(None);
    let begun = Instant::now();
    let cancel = async {
        while processes(&path) == 0 {
            tokio::task::yield_now().await;
        }
        reach.cancel();
    };
    let config = support::settings(json!({"mode": "endless"}));
    let ((ended, _), ()) = tokio::join!(support::run(&path, config, &reach), cancel);
    assert_eq!(ended.unwrap_err().to_string(), "the task was stopped");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(processes(&path), 0, "the process is gone before the run ends");

    // A run that is dropped, as when the lease is lost, leaves no process either.
    let config = support::settings(json!({"mode": "endless"}));
    let reach = TestReach::new(None);
    {
        let running = support::run(&path, config, &reach);
        tokio::pin!(running);
        let started = async {
            while processes(&path) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut running => panic!("it ended"),
            () = started => {}
        }
    }
    let begun = Instant::now();
    while processes(&path) != 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives on");
        tokio::task::yield_now().await;
    }
}

/// How many processes run this folder's program.
fn processes(path: &Path) -> usize {
    let program = path.join("plugin.py").display().to_string();
    let found = std::fs::read_dir("/proc").unwrap().filter_map(std::result::Result::ok).filter(|entry| {
        let text = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(&program)
    });
    found.count()
}

#[tokio::test]
async fn what_is_not_its_own_is_refused_and_what_was_open_is_not_complete() {
    for (mode, expect) in [
        ("foreign_node", "is not its own"),
        ("foreign_scope", "is no scope"),
        ("after_verdict", "whose verdict it gave"),
        ("no_done", "ended without `Done`"),
        ("unchanged", "for which it was given no checkpoint"),
        ("gone", "for which it was given no checkpoint"),
        ("difference", "for which it was given no checkpoint"),
    ] {
        let (why, kept) = failure(mode).await;
        assert!(why.starts_with("the plugin `hostile`: ") && why.contains(expect), "{mode}: {why}");
        assert!(kept.pages.iter().all(|page| page.scope.as_str().starts_with("hostile:")), "{mode}");
        assert!(kept.verdicts.values().all(|coverage| !coverage.may_close()), "{mode}: {kept:?}");
    }
    let (why, kept) = failure("exit").await;
    assert!(why.contains("exit status: 3") && why.contains("the secret of the trade [31m"), "{why}");
    assert!(matches!(kept.verdict("s"), Coverage::Failed { .. }));
    let (ended, kept) = run("no_verdict").await;
    ended.unwrap();
    assert_eq!(kept.verdict("s").as_str(), "partial");
}

async fn diff(mode: &str, url: &str) -> (Result<()>, Kept) {
    let (_dir, path) = folder();
    let config = support::settings(json!({"mode": mode, "url": url}));
    support::run_since(&path, config, &TestReach::new(None), vec![("s", b"known".to_vec())]).await
}

#[tokio::test]
async fn a_difference_that_rests_on_nothing_or_contradicts_itself_is_refused() {
    let (url, _) = support::registry(None).await;
    for (mode, expect) in [
        ("other_scope", "difference of the scope `t`, for which it was given no checkpoint"),
        ("unchanged", "the scope `s` is unchanged, and what changed in it"),
        ("gone_and_unchanged", "the scope `s` is unchanged, and what changed in it"),
        ("gone_and_whole", "not that it showed only the difference"),
        ("absent_since", "ABSENT is said of a whole scope"),
        ("foreign_gone", "is not its own, so it cannot say that it is gone"),
        ("large_checkpoint", "larger than 65536 bytes"),
        ("start_over_late", "too late"),
    ] {
        let (ended, kept) = diff(mode, &url).await;
        let why = ended.expect_err(mode).to_string();
        assert!(why.contains(expect), "{mode}: {why}");
        // Also where it said nothing of the scope that it was to begin from.
        assert!(matches!(kept.verdict("s"), Coverage::Failed { .. }), "{mode}: {kept:?}");
        assert!(kept.endings.is_empty(), "{mode}");
    }
    let (ended, kept) = diff("talkative", &url).await;
    ended.unwrap();
    assert_eq!(kept.verdict("s").as_str(), "partial", "not a word of it");
    let (ended, kept) = diff("unasked", &url).await;
    ended.unwrap();
    let reason = "the plugin said unchanged without having asked for anything";
    assert_eq!(*kept.verdict("s"), Coverage::Partial { reason: reason.to_owned() });
}

#[tokio::test]
async fn a_difference_comes_with_what_is_gone_and_a_checkpoint_that_is_too_old_with_everything() {
    let (url, asked) = support::registry(None).await;
    let (ended, kept) = diff("asked", &url).await;
    ended.unwrap();
    let ending = kept.endings.values().next().unwrap();
    let removed = ending.since.as_ref().unwrap();
    assert_eq!((ending.coverage.clone(), ending.checkpoint.as_slice()), (Coverage::Complete, &b"known!"[..]));
    assert_eq!(removed.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["hostile:global:hostile.attempt:y"]);

    let (ended, kept) = diff("start_over", &url).await;
    ended.unwrap();
    assert_eq!((kept.pages.len(), kept.verdict("s").as_str()), (1, "partial"), "a second process discovered");
    assert_eq!(kept.progress, ["reads everything: older  than a week"]);
    assert!(kept.endings.values().all(|ending| ending.since.is_none()));
    drop(asked);
}

#[tokio::test]
async fn complete_is_believed_only_where_calls_bear_it_out() {
    let (url, _) = support::registry(None).await;
    let (ended, kept) = run("complete_without_asking").await;
    ended.unwrap();
    let reason = "the plugin said complete without having asked for anything";
    assert_eq!(*kept.verdict("s"), Coverage::Partial { reason: reason.to_owned() });
    let (ended, kept) = run_with(json!({"mode": "null_result", "url": url}), &TestReach::new(None)).await;
    ended.unwrap();
    assert_eq!(*kept.verdict("s"), Coverage::Complete, "asked completely and found none");
    let away = json!({"mode": "null_result", "url": "http://127.0.0.1:1"});
    let (ended, kept) = run_with(away, &TestReach::new(None)).await;
    ended.unwrap();
    assert!(kept.verdict("s").reason().unwrap().contains("brought nothing"), "{kept:?}");
}

#[tokio::test]
async fn a_call_that_the_manifest_does_not_list_is_refused_and_the_coverage_says_so() {
    let (url, asked) = support::registry(None).await;
    let (ended, kept) = run_with(json!({"mode": "off_manifest", "url": url}), &TestReach::new(None)).await;
    ended.unwrap();
    assert_eq!(kept.seen()["answers"], json!(["not_allowed"; 6].to_vec()));
    let reason = kept.verdict("s").reason().unwrap();
    assert!(reason.contains("a call was refused: "), "{reason}");
    assert!(asked.lock().unwrap().is_empty());
    let (ended, kept) = run_with(json!({"mode": "many_calls", "url": url}), &TestReach::new(None)).await;
    ended.unwrap();
    let codes = kept.seen()["codes"].as_array().unwrap().clone();
    assert_eq!((codes[19].clone(), codes[20].clone(), codes.len()), (json!("200"), json!("limit"), 25));
    assert_eq!(kept.verdict("s").as_str(), "partial");
}

#[tokio::test]
async fn a_plugin_gets_no_secret_and_cannot_use_a_credential_that_is_not_the_jobs() {
    let (url, _) = support::registry(None).await;
    let secret = testkit::logs::plant("hostile-plugin-token-41");
    let reach = TestReach::new(Some(json!({"origin": url, "token": secret})));
    let other = "crd_00000000000000000000000000";
    let (ended, kept) = run_with(json!({"mode": "other_credential", "url": url, "victim": other}), &reach).await;
    ended.unwrap();
    assert_eq!(kept.seen(), json!({"code": "credential", "message": "this job has no such credential"}));
    let (ended, kept) = run_with(json!({"mode": "with_credential", "url": url}), &reach).await;
    ended.unwrap();
    let seen = kept.seen().to_string();
    assert!(seen.contains("yes") && seen.contains("crd_") && !seen.contains(secret.as_str()), "{seen}");
    assert_eq!(*kept.verdict("s"), Coverage::Complete);
    // To another origin than the one that it is stored for, the credential does not go, though the job's settings name that origin.
    let (theirs, asked) = support::registry(None).await;
    let (ended, kept) = run_with(json!({"mode": "with_credential", "url": theirs}), &reach).await;
    ended.unwrap();
    assert!(kept.verdict("s").reason().unwrap().contains("is sent nowhere else"), "{kept:?}");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn settings_that_the_plugin_refuses_fail_the_plan_and_much_talk_holds_nothing_up() {
    let (ended, _) = run("invalid").await;
    assert_eq!(ended.unwrap_err().to_string(), "`mode`: not [31mthis");
    let (ended, kept) = run("talkative").await;
    ended.unwrap();
    assert!(kept.verdicts.is_empty());
}

#[tokio::test]
async fn a_folder_without_a_program_or_a_runtime_that_is_gone_says_what_is_missing() {
    let (_dir, path) = folder();
    let manifest = std::fs::read_to_string(path.join("plugin.toml")).unwrap();
    let change = |from: &str, to: &str| {
        std::fs::write(path.join("plugin.toml"), manifest.replace(from, to)).unwrap();
    };
    for (from, to, expect) in [
        ("\"python3\", \"-B\"", "\"no-such-program\"", "there is no program `no-such-program`"),
        ("\"python3\", \"-B\", \"plugin.py\"", "\"true\"", "it ended (exit status: 0)"),
        ("\"plugin.py\"", "\"-c\", \"print('hello')\"", "its first line was not `cairn-plugin 1`"),
        ("\"plugin.py\"", "\"-c\", \"import nothing_such\"", "No module named"),
        ("version = \"1\"", "version = \"2\"", "another name or version than its manifest"),
    ] {
        change(from, to);
        let config = support::settings(json!({"mode": "probe"}));
        let (ended, _) = support::run(&path, config, &TestReach::new(None)).await;
        let why = ended.unwrap_err().to_string();
        assert!(why.contains(expect), "{to}: {why}");
    }
}
