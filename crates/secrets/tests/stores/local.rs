//! `plaintext`, `env`, `file`, and what a reference is.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use serde_json::json;
use testkit::{TestClock, logs};

use crate::double::{around, declare, read};

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::default())
}

#[tokio::test]
async fn a_value_is_a_reference_exactly_when_it_begins_with_a_stores_name() {
    let stores = declare(
        json!([{"kind": "plaintext", "name": "encoded", "settings": {"base64": true}}]),
        &around(&[("PW", "from env")], &clock()),
    );
    let stores = stores.unwrap();
    for (value, expected) in [
        ("no colon", "no colon"),
        ("pass:word", "pass:word"),
        ("postgres://user:pw@db/cairn", "postgres://user:pw@db/cairn"),
        ("env:PW", "from env"),
        ("plaintext:env:PW", "env:PW"),
        ("encoded:aGVsbG8=", "hello"),
        ("ENV:PW", "ENV:PW"),
        (":env", ":env"),
    ] {
        assert_eq!(read(&stores, value).await.unwrap(), expected, "{value}");
    }
    // The name of a kind that is not declared is a mistake, not a password.
    let error = read(&stores, "vault:db/password").await.unwrap_err().to_string();
    assert!(error.contains("`vault`") && error.contains("[[secrets]]"), "{error}");
    for (value, expected) in [
        ("env:", "name the secret"),
        ("env:NOT_SET", "`NOT_SET` is not set"),
        ("env:$PW", "without `$`"),
        ("encoded:not base64!", "base64"),
        ("file:relative", "whole path"),
    ] {
        let error = read(&stores, value).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{value}: {error}");
    }
}

#[test]
fn mistakes_in_a_declaration_say_what_to_change_and_show_no_value() {
    let planted = logs::plant("store-setting");
    for (declaration, expected) in [
        (json!([{"kind": "redis"}]), "no known kind"),
        (json!([{"kind": "env", "name": "postgres"}]), "how URLs begin"),
        (json!([{"kind": "env", "name": "vault"}]), "name of a kind"),
        (json!([{"kind": "env", "name": "No Good"}]), "a-z"),
        (json!([{"kind": "env", "name": "a"}, {"kind": "file", "name": "a"}]), "twice"),
        (json!([{"kind": "env", "settings": {"path": "/x"}}]), "`file` only"),
        (json!([{"kind": "env", "settings": {"bas64": true}}]), "unknown field `bas64`"),
        (json!([{"kind": "vault", "settings": {"address": "https://v", "token": [planted]}}]), "another type"),
        (json!([{"kind": "vault", "settings": {"address": "https://v"}}]), "exactly one of"),
        (json!([{"kind": "awsssm", "settings": {"region": "eu-west-1", "access_key_id": "a"}}]), "set both or neither"),
        (json!([{"kind": "awsssm"}]), "no region"),
    ] {
        let error = declare(declaration.clone(), &around(&[], &clock())).unwrap_err().to_string();
        assert!(error.contains(expected), "{declaration}: {error}");
        assert!(!error.contains(&planted), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_private_regular_bounded_and_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put("good", "value\n", 0o600);
    put("open", "value", 0o644);
    put("empty", "\n", 0o600);
    put("large", &"x".repeat((1 << 20) + 1), 0o600);
    fs::create_dir(dir.path().join("folder")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    symlink("good", dir.path().join("link")).unwrap();
    let path = dir.path().to_str().unwrap();
    let declared = json!([
        {"kind": "file", "settings": {"path": path}},
        {"kind": "file", "name": "mounted", "settings": {"path": path, "shared": true}},
    ]);
    let stores = declare(declared, &around(&[], &clock())).unwrap();
    assert_eq!(read(&stores, "file:good").await.unwrap(), "value");
    // A mounted Secret is a link to a file that others in the container may read.
    assert_eq!(read(&stores, "file:link").await.unwrap(), "value");
    assert_eq!(read(&stores, "mounted:open").await.unwrap(), "value");
    for (id, expected) in [
        ("open", "chmod 600"),
        ("empty", "empty"),
        ("large", "larger than"),
        ("folder", "is not a file"),
        ("pipe", "is not a file"),
        ("absent", "cannot be read"),
        ("../x", "leads out"),
        ("/etc/passwd", "is absolute"),
    ] {
        let error = read(&stores, &format!("file:{id}")).await.unwrap_err().to_string();
        assert!(error.contains("`file`") && error.contains(expected), "{id}: {error}");
    }
}

#[test]
fn attack_58_a_master_key_is_32_bytes_that_neither_are_all_alike_nor_count_up() {
    let good = "0123456789abcdef".repeat(4);
    assert!(
        secrets::master_key(good.as_bytes()).is_some() && secrets::master_key(format!("{good}\n").as_bytes()).is_some()
    );
    assert!(secrets::master_key(&(0..32).map(|n| n ^ 0x5a).collect::<Vec<u8>>()).is_some());
    for bad in [
        &b""[..],
        b"00",
        &good.as_bytes()[1..],
        "0".repeat(64).as_bytes(),
        &[0; 32],
        &[255; 32],
        &[1; 31],
        &(0..32).collect::<Vec<u8>>(),
        "zz".repeat(32).as_bytes(),
    ] {
        assert!(secrets::master_key(bad).is_none(), "{bad:?}");
    }
}
