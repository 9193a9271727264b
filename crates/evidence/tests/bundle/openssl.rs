//! The same checks by stock tools: `sh`, `openssl`, `sha256sum`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crypto::ed25519::SigningKey;
use crypto::sha256;
use evidence::artifact::blob_path;
use evidence::{LogProof, Statement};

use crate::sample::*;

pub(crate) fn write_tree(root: &Path, files: &FileMap) {
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

pub(crate) fn run_script(root: &Path, fingerprint: Option<&str>) -> Output {
    Command::new("sh").arg(root.join("verify.sh")).args(fingerprint).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_script_accepts_the_bundle_and_checks_the_fingerprint() {
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), &unpack(&bundle()));
    let fingerprint = key(1).public().fingerprint().to_hex();
    for argument in [None, Some(fingerprint.as_str())] {
        let output = run_script(root.path(), argument);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(
            text(&output.stdout).contains(&format!("OK: 20 files, signed by key {fingerprint}")),
            "{}",
            text(&output.stdout)
        );
    }
    let output = run_script(root.path(), Some(&key(2).public().fingerprint().to_hex()));
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("keys/evidence.pem"));
}

#[test]
fn the_script_notices_a_changed_byte_in_any_file_and_names_it() {
    let files = unpack(&bundle());
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), &files);
    // A changed script proves nothing by itself: run the one that was shipped.
    let script = root.path().join("verify.sh");
    for (name, content) in &files {
        if name == "verify.sh" {
            continue;
        }
        for position in [0, content.len() / 2, content.len() - 1] {
            let mut changed = content.clone();
            changed[position] ^= 1;
            fs::write(root.path().join(name), &changed).unwrap();
            let output = Command::new("sh").arg(&script).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{name} byte {position}");
            assert!(text(&output.stderr).contains(name), "{name} byte {position}: {}", text(&output.stderr));
        }
        fs::write(root.path().join(name), content).unwrap();
    }
    assert!(run_script(root.path(), None).status.success());
}

#[test]
fn the_script_notices_missing_extra_and_strange_files() {
    let files = unpack(&bundle());
    let check = |change: &dyn Fn(&Path), named: &str| {
        let root = tempfile::tempdir().unwrap();
        write_tree(root.path(), &files);
        change(root.path());
        let output = run_script(root.path(), None);
        assert_eq!(output.status.code(), Some(3), "{named}");
        assert!(text(&output.stderr).contains(named), "{named}: {}", text(&output.stderr));
    };
    for name in files.keys().filter(|name| *name != "verify.sh") {
        check(&|root| fs::remove_file(root.join(name)).unwrap(), name);
    }
    check(&|root| fs::write(root.join("extra"), "").unwrap(), "extra");
    check(&|root| fs::write(root.join("ev/.hidden"), "").unwrap(), "ev/.hidden");
    check(&|root| fs::write(root.join("README.txt\nREADME.txt"), "").unwrap(), "README.txt");
    check(&|root| fs::write(root.join("a b"), "").unwrap(), "a b");
    check(&|root| std::os::unix::fs::symlink("README.txt", root.join("link")).unwrap(), "link");
}

#[test]
fn attack_62_the_script_checks_signatures_behind_a_valid_manifest() {
    let key = key(1);
    let blob = blob_path(&sha256(REPLY));
    let statement = format!("ev/evd_{}1.sig", "0".repeat(25));
    // A proof of another statement, and one whose checkpoint was signed by somebody else.
    let other = signed(Statement::Collection(Box::new(collection('1', &[CONFIG]))), &key);
    let proof = format!("ev/evd_{}1.tlog-proof", "0".repeat(25));
    let mut unsigned: LogProof = String::from_utf8(unpack(&bundle())[&proof].clone()).unwrap().parse().unwrap();
    unsigned.checkpoint.signatures[0].payload = key.sign(unsigned.checkpoint.text().as_bytes()).to_vec();
    let unsigned = unsigned.to_string();
    for (name, content) in [
        (statement, key.sign(b"other").to_vec()),
        (format!("{blob}.sig"), key.sign(REPLY).to_vec()),
        (format!("{blob}.sig"), evidence::sign_artifact_digest(&sha256(REPLY), &self::key(3)).to_vec()),
        (format!("{blob}.sha256"), sha256(CONFIG).0.to_vec()),
        (blob.clone(), b"{}".to_vec()),
        (proof.clone(), logged(&other).to_string().into_bytes()),
        (proof, unsigned.into_bytes()),
    ] {
        let mut files = unpack(&bundle());
        files.insert(name.clone(), content);
        resign(&mut files, &key);
        let root = tempfile::tempdir().unwrap();
        write_tree(root.path(), &files);
        let output = run_script(root.path(), None);
        assert_eq!(output.status.code(), Some(3), "{name}");
        assert!(text(&output.stderr).contains(&name), "{}", text(&output.stderr));
    }
    // All of it signed again by another key.
    let mut files = unpack(&bundle());
    resign(&mut files, &SigningKey::generate().unwrap());
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), &files);
    let output = run_script(root.path(), None);
    assert!(
        output.status.code() == Some(3) && text(&output.stderr).contains("manifest.sig"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_commands_of_the_documentation_work() {
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), &unpack(&bundle()));
    let shell = |command: &str| {
        let output = Command::new("sh").arg("-c").arg(command).current_dir(root.path()).output().unwrap();
        (output.status.success(), text(&output.stdout))
    };
    let blob = blob_path(&sha256(REPLY));
    let page = fs::read_to_string(root.path().join("VERIFY.md")).unwrap();
    let commands: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("       "))
        .map(|line| line.replace("blobs/sha256/aa/bb/D", &blob).replace("ID", &format!("evd_{}1", "0".repeat(25))))
        .collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let fingerprint = key(1).public().fingerprint().to_hex();
    for (command, expected) in commands.iter().zip([
        fingerprint.as_str(),
        "Signature Verified Successfully",
        &sha256(REPLY).to_hex(),
        "Signature Verified Successfully",
        "",
    ]) {
        let (success, output) = shell(command);
        assert!(success && output.contains(expected), "{command}: {output}");
    }
    for path in unpack(&bundle()).keys().filter_map(|name| name.strip_suffix(".pae")) {
        let (success, _) = shell(&format!(
            "openssl pkeyutl -verify -pubin -inkey keys/evidence.pem -rawin -in {path}.pae -sigfile {path}.sig"
        ));
        assert!(success, "{path}");
    }
}
