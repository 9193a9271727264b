//! The machine as a target: what it must refuse, bound, redact and record.

use std::os::unix::fs::symlink;

use domain::{ScopeId, Timestamp};

use super::*;

struct Hand;

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(7)
    }
}

fn host() -> (LocalHost, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (LocalHost::new(Arc::new(Hand), Arc::clone(&recorder), "h1".into()), recorder)
}

fn tag(keep: bool) -> CallTag {
    CallTag { scope: scope(), about: None, keep }
}

fn scope() -> ScopeId {
    "host:h1:test".parse().unwrap()
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_read_is_hashed_and_recorded_and_kept_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(&dir, "a");
    std::fs::write(&file, "abc").unwrap();
    let (host, recorder) = host();
    let reply = host.read(&file, 3, &tag(true)).await.unwrap();
    assert_eq!(reply.digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(host.hash(&file, &tag(false)).await.unwrap(), reply.digest);
    assert_eq!(host.read(&file, 2, &tag(true)).await.unwrap_err(), CallError::TooLarge { max: 2 });
    let records = recorder.take(&scope());
    assert_eq!(records.len(), 3);
    assert_eq!(records[0].kept.as_deref(), Some(b"abc".as_slice()));
    assert_eq!(records[0].request.system, "file");
    assert!(records[1].kept.is_none() && records[2].outcome.is_err());
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = path(&dir, "fifo");
    rustix::fs::mknodat(CWD, &*fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let (loop_a, loop_b) = (path(&dir, "l"), path(&dir, "m"));
    symlink(&loop_a, &loop_b).unwrap();
    symlink(&loop_b, &loop_a).unwrap();
    let (host, _) = host();
    for bad in [fifo.as_str(), "/dev/zero", "/etc", &loop_a] {
        assert!(matches!(host.read(bad, 10, &tag(false)).await, Err(CallError::Malformed(_))), "{bad}");
        assert!(host.hash(bad, &tag(false)).await.is_err(), "{bad}");
    }
    assert!(matches!(host.read(&path(&dir, "none"), 10, &tag(false)).await, Err(CallError::NotFound(_))));
    assert_eq!(host.stat(&loop_a, &tag(false)).await.unwrap().kind, FileKind::Link);
    assert_eq!(host.read_link(&loop_a).await.unwrap(), loop_b);
}

#[tokio::test]
async fn proc_files_without_a_size_are_read_and_secrets_are_not() {
    let (host, recorder) = host();
    assert!(!host.read("/proc/self/mountinfo", 1_000_000, &tag(false)).await.unwrap().body.is_empty());
    if let Ok(reply) = host.read("/etc/shadow", 1_000_000, &tag(true)).await {
        assert!(!reply.body.contains(&b'$'));
    }
    assert!(host.hash("/etc/shadow", &tag(true)).await.is_err());
    let kept: Vec<Bytes> = recorder.take(&scope()).into_iter().filter_map(|record| record.kept).collect();
    assert!(kept.iter().all(|body| !body.contains(&b'$')));
}

#[tokio::test]
async fn programs_run_without_a_shell_and_end_in_time_with_their_children() {
    let (host, _) = host();
    let long = Duration::from_secs(20);
    let ran = host.command(&["env"], 1_000, long, &tag(true)).await.unwrap();
    let text = String::from_utf8(ran.stdout.body.to_vec()).unwrap();
    assert_eq!((ran.code, text.lines().count(), text.contains("LC_ALL=C")), (0, 2, true));
    assert_eq!(host.command(&["echo", "$HOME; id"], 100, long, &tag(false)).await.unwrap().stdout.body, "$HOME; id\n");
    assert!(matches!(host.command(&["no-such-program"], 1, long, &tag(false)).await, Err(CallError::NotFound(_))));
    assert_eq!(
        host.command(&["cat", "/dev/zero"], 1_000, long, &tag(false)).await.unwrap_err(),
        CallError::TooLarge { max: 1_000 }
    );
    let dir = tempfile::tempdir().unwrap();
    let file = path(&dir, "pid");
    let short = Duration::from_millis(500);
    let script = format!("sleep 300 & echo $! > {file}; wait");
    assert_eq!(
        host.command(&["sh", "-c", &script], 10, short, &tag(false)).await.unwrap_err(),
        CallError::Timeout(short)
    );
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    // It may be a zombie for a moment, until its new parent takes note of its end.
    let ended = || !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
    for _ in 0..10_000 {
        if ended() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(ended());
}

#[test]
fn fingerprints_are_those_of_ssh_keygen() {
    // ssh-keygen -l of a key of 32 zero bytes, computed by hand from RFC 4253, 6.6.
    let blob = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let raw = [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 32], &[0; 32]].concat();
    assert_eq!(decoded(blob).unwrap(), raw);
    assert_eq!(encoded(&raw), blob);
    assert_eq!(ssh_key_fingerprint(blob).unwrap().len(), "SHA256:".len() + 43);
    assert_eq!(ssh_key_fingerprint("not base64!"), None);
}

#[tokio::test]
async fn a_part_is_found_wherever_it_lies_without_the_rest_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(&dir, "binary");
    let (host, recorder) = host();
    let part = Part { begins: b"\x7fELF", marker: b"here:", length: 100 };
    // At the end of a piece, across two, at the file's end, at no multiple of 16 bytes, and nowhere.
    for (at, size, expect) in [
        (PIECE - 16, 3 * PIECE, Some(100)),
        (PIECE, 3 * PIECE, Some(100)),
        (2 * PIECE - 32, 2 * PIECE, Some(32)),
        (PIECE + 8, 3 * PIECE, None),
        (3 * PIECE - 16, 3 * PIECE, Some(16)),
    ] {
        let mut bytes = vec![7; size];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[at..at + 5].copy_from_slice(b"here:");
        std::fs::write(&file, &bytes).unwrap();
        let reply = host.part(&file, part, size, &tag(false)).await.unwrap();
        assert_eq!(reply.body, part.of(&bytes).unwrap_or_default(), "{at}");
        assert_eq!((reply.body.len(), reply.digest), (expect.unwrap_or_default(), crypto::sha256(&bytes)), "{at}");
        let record = recorder.take(&scope()).remove(0);
        assert_eq!((record.outcome.unwrap().size, record.kept), (size as u64, None));
        let error = host.part(&file, part, size - 1, &tag(false)).await.unwrap_err();
        assert_eq!(error, CallError::TooLarge { max: size - 1 });
        recorder.take(&scope());
    }
    std::fs::write(&file, b"#!/bin/sh here:").unwrap();
    assert!(host.part(&file, part, 99, &tag(false)).await.unwrap().body.is_empty());
}
