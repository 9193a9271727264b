//! The scripts in real shells, compared with the machine's own answers.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const NONCE: &str = "00112233445566778899aabbccddeeff";
/// dash is Debian's `/bin/sh`; the others are what other systems have there.
const SHELLS: [&[&str]; 3] = [&["/bin/dash"], &["busybox", "sh"], &["bash", "--posix"]];

fn fed(shell: &[&str], script: &str) -> (Vec<u8>, String, Option<i32>) {
    let mut child = Command::new("env")
        .arg("-i")
        .args(shell)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let script = script.to_owned();
    let feed = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = feed.join().unwrap();
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

fn asked(shell: &[&str], asks: &[Ask], singly: bool) -> Answers {
    let script = script(asks.to_vec(), NONCE, singly);
    let (stdout, stderr, _) = fed(shell, &script.text);
    answers(&script, NONCE, &Bytes::from(stdout)).unwrap_or_else(|error| panic!("{shell:?}: {error}: {stderr}"))
}

#[test]
fn every_shell_gives_the_same_answers_as_the_machine_itself() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("plain"), "abc\n").unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("binary"), [0, 255, 10, 0, 27, 91, 49, 109]).unwrap();
    std::fs::write(at("no end"), "x").unwrap();
    std::fs::write(at(".hidden"), "").unwrap();
    std::fs::write(at("it's \"$(touch pwned)\" `id`; *"), "odd").unwrap();
    std::fs::create_dir(at("sub")).unwrap();
    symlink("plain", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    std::fs::set_permissions(at("plain"), std::fs::Permissions::from_mode(0o4750)).unwrap();
    let root = dir.path().to_str().unwrap().to_owned();
    for shell in SHELLS {
        for singly in [false, true] {
            let read = |name: &str| Ask::Read(100, at(name));
            let names = ["plain", "empty", "binary", "no end", "it's \"$(touch pwned)\" `id`; *", "link"];
            let mut asks: Vec<Ask> = names.iter().map(|name| read(name)).collect();
            asks.extend([read("dangling"), read("gone"), read("gone/too"), read("sub"), Ask::Read(2, at("plain"))]);
            asks.extend([Ask::List(root.clone()), Ask::List(at("sub")), Ask::List(at("plain")), Ask::List("/".into())]);
            asks.extend(["plain", "link", "dangling", "sub", "gone"].map(|name| Ask::Stat(at(name))));
            asks.extend(["link", "dangling", "plain"].map(|name| Ask::Link(at(name))));
            asks.extend([Ask::Hash(at("plain")), Ask::Hash(at("gone")), Ask::Usage("/".into())]);
            asks.push(Ask::Read(4_096, "/proc/sys/kernel/ostype".into()));
            let mut got = asked(shell, &asks, singly);
            assert_eq!(got.len(), asks.len(), "{shell:?}");
            let mut take = |ask: Ask| got.remove(&ask).unwrap();
            for name in names {
                let expect = std::fs::read(at(name)).unwrap();
                assert_eq!(take(read(name)), Ok(Answer::Content(expect.into())), "{shell:?} {name}");
            }
            for name in ["dangling", "gone", "gone/too"] {
                assert!(matches!(take(read(name)), Err(CallError::NotFound(_))), "{shell:?} {name}");
            }
            assert!(matches!(take(read("sub")), Err(CallError::Malformed(_))));
            assert_eq!(take(Ask::Read(2, at("plain"))), Err(CallError::TooLarge { max: 2 }));
            let Ok(Answer::Entries(entries)) = take(Ask::List(root.clone())) else { panic!("{shell:?}") };
            let shown: Vec<String> = entries.iter().map(|entry| format!("{:?} {}", entry.kind, entry.name)).collect();
            assert_eq!(
                shown,
                [
                    "File .hidden",
                    "File binary",
                    "Link dangling",
                    "File empty",
                    "File it's \"$(touch pwned)\" `id`; *",
                    "Link link",
                    "File no end",
                    "File plain",
                    "Dir sub",
                ],
                "{shell:?}"
            );
            assert_eq!(take(Ask::List(at("sub"))), Ok(Answer::Entries(vec![])));
            assert!(matches!(take(Ask::List(at("plain"))), Err(CallError::Malformed(_))));
            let Ok(Answer::Entries(top)) = take(Ask::List("/".into())) else { panic!("{shell:?}") };
            assert!(top.iter().any(|entry| entry.name == "etc" && entry.kind == FileKind::Dir));
            let Ok(Answer::Stat(stat)) = take(Ask::Stat(at("plain"))) else { panic!("{shell:?}") };
            assert_eq!((stat.kind, stat.mode, stat.size), (FileKind::File, 0o4750, 4));
            let Ok(Answer::Stat(stat)) = take(Ask::Stat(at("dangling"))) else { panic!("{shell:?}") };
            assert_eq!(stat.kind, FileKind::Link);
            assert!(matches!(take(Ask::Stat(at("gone"))), Err(CallError::NotFound(_))));
            assert_eq!(take(Ask::Link(at("link"))), Ok(Answer::Link("plain".into())));
            assert_eq!(take(Ask::Link(at("dangling"))), Ok(Answer::Link("nowhere".into())));
            assert!(matches!(take(Ask::Link(at("plain"))), Err(CallError::Malformed(_))));
            assert_eq!(take(Ask::Hash(at("plain"))), Ok(Answer::Digest(crypto::sha256(b"abc\n"))));
            let Ok(Answer::Usage(usage)) = take(Ask::Usage("/".into())) else { panic!("{shell:?}") };
            assert!(usage.total > usage.available);
            let expect = Ok(Answer::Content(Bytes::from_static(b"Linux\n")));
            assert_eq!(take(Ask::Read(4_096, "/proc/sys/kernel/ostype".into())), expect, "{shell:?}");
        }
    }
    assert!(!dir.path().join("pwned").exists() && !std::path::Path::new("/pwned").exists());
}

/// What is refused to another user is told from what is not there. Needs root, who can become nobody.
#[test]
fn what_is_refused_is_told_from_what_is_not_there() {
    if !rustix::process::geteuid().is_root() {
        // Any user is refused what is root's: the same without a change of user.
        let got = asked(&["/bin/sh"], &[Ask::Read(10, "/etc/shadow".into())], false);
        assert!(matches!(got.values().next(), Some(Err(CallError::Denied(_)))));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(at("closed/deep")).unwrap();
    std::fs::write(at("secret"), "x").unwrap();
    std::fs::set_permissions(at("closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("closed/deep", at("into")).unwrap();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/bin/sh"];
    let denied = [
        Ask::Read(9, at("secret")),
        Ask::Read(9, at("closed/deep/file")),
        Ask::Read(9, at("into")),
        Ask::List(at("closed")),
        Ask::Stat(at("closed/deep")),
        Ask::Hash(at("secret")),
    ];
    let asks: Vec<Ask> = denied.iter().cloned().chain([Ask::Read(9, at("none"))]).collect();
    let got = asked(&nobody, &asks, false);
    for ask in &denied {
        assert!(matches!(got.get(ask), Some(Err(CallError::Denied(_)))), "{ask:?}: {:?}", got.get(ask));
    }
    assert!(matches!(got.get(&Ask::Read(9, at("none"))), Some(Err(CallError::NotFound(_)))));
}

#[test]
fn attack_a_file_that_plays_the_protocol_stays_one_files_content() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let forged = "a\n0000 b f\nroot\n0000 a 0\n/proc/self/environ\0N=guess\0==> /etc/shadow <==\n";
    std::fs::write(at("a"), forged).unwrap();
    std::fs::write(at("b"), "b").unwrap();
    std::fs::write(at("c\n0000 b f"), "").unwrap();
    symlink("x\n1 1 1 1 1\n", at("d")).unwrap();
    let asks =
        [Ask::Read(999, at("a")), Ask::Read(999, at("b")), Ask::List(at("")), Ask::Stat(at("d")), Ask::Link(at("d"))];
    for shell in SHELLS {
        let got = asked(shell, &asks, false);
        assert_eq!(got[&asks[0]], Ok(Answer::Content(forged.into())));
        assert_eq!(got[&asks[1]], Ok(Answer::Content("b".into())));
        let Ok(Answer::Entries(entries)) = &got[&asks[2]] else { panic!() };
        assert_eq!(entries.len(), 4, "{shell:?}: {entries:?}");
        assert!(matches!(&got[&asks[3]], Ok(Answer::Stat(stat)) if stat.kind == FileKind::Link));
    }
    // And the word that would let it is in no argument list.
    assert!(script(asks.to_vec(), NONCE, false).text.matches(NONCE).count() == 1);
}

#[test]
fn a_program_runs_without_a_shell_between_and_a_missing_one_is_told() {
    for shell in SHELLS {
        let ran = |argv: &[&str]| printed(NONCE, &fed(shell, &command(argv, 5, NONCE)).0.into()).unwrap();
        assert_eq!(ran(&["printf", "%s|", "a b", "$HOME", "it's"]), Some((Bytes::from("a b|$HOME|it's|"), 0)));
        assert_eq!(ran(&["no-such-program"]), None, "{shell:?}");
        assert_eq!(ran(&["sh", "-c", "exit 3"]), Some((Bytes::new(), 3)));
        assert_eq!(
            ran(&["env"]).map(|(body, _)| body.windows(NONCE.len()).any(|part| part == NONCE.as_bytes())),
            Some(false)
        );
        // One shell takes one script after another, whatever the one before was.
        let asks = vec![Ask::Stat("/".into()), Ask::Read(100, "/proc/sys/kernel/ostype".into())];
        let whole = script(asks.clone(), NONCE, false);
        let all = [command(&["cat"], 5, NONCE), whole.text.clone(), whole.text.clone()].concat();
        let (stdout, ..) = fed(shell, &all);
        let text = String::from_utf8_lossy(&stdout).into_owned();
        let third = &text[text.match_indices(&end(NONCE)).nth(1).unwrap().0 + end(NONCE).len()..];
        let found = answers(&whole, NONCE, &Bytes::copy_from_slice(third.as_bytes())).unwrap();
        assert!(asks.iter().all(|ask| found[ask].is_ok()), "{shell:?}");
    }
}

#[test]
fn a_cut_output_answers_what_came_and_leaves_the_rest_open() {
    let asks: Vec<Ask> = ["/etc/passwd", "/etc/group"].map(|path| Ask::Stat(path.into())).to_vec();
    let script = script(asks, NONCE, true);
    let (stdout, _, _) = fed(&["/bin/sh"], &script.text);
    for length in 0..=stdout.len() {
        let cut = Bytes::copy_from_slice(&stdout[..length]);
        match answers(&script, NONCE, &cut) {
            Ok(got) => assert!(got.values().all(Result::is_ok), "{length}: {got:?}"),
            Err(_) => assert!(length < stdout.len() / 2),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_quoted_word_is_one_word_whatever_it_holds(word in "[^\0]{0,60}") {
        for shell in SHELLS {
            let (stdout, _, _) = fed(shell, &format!("printf %s {}\n", quoted(&word)));
            prop_assert_eq!(&String::from_utf8_lossy(&stdout), &word);
        }
    }
}

proptest! {
    #[test]
    fn no_output_makes_the_reader_panic(body: Vec<u8>, tests in "[fidlopx]{0,3}", code in "[0-9]{1,3}") {
        let asks = vec![Ask::Read(9, "/a".into()), Ask::Stat("/b".into()), Ask::Link("/c".into()), Ask::List("/d".into())];
        let script = script(asks, NONCE, false);
        let mut output = format!("\n{NONCE} b\nN={NONCE}\0\n{NONCE} a 0\n").into_bytes();
        for _ in 0..4 {
            output.extend(format!("\n{NONCE} b {tests}\n").into_bytes());
            output.extend(&body);
            output.extend(format!("\n{NONCE} a {code}\n").into_bytes());
        }
        let _ = answers(&script, NONCE, &Bytes::from(output));
        let _ = answers(&script, NONCE, &Bytes::from(body));
    }
}
