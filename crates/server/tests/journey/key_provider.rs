//! A master key that another service wraps: the first start, the next ones, the service away, and the wrapped key of another installation.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use testkit::{Moto, logs, suite};

use crate::world::{Engine, World};

/// A server with a provider, in what its data directory and its configuration file say.
fn wrapped(engine: Engine, config: &str) -> World {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    world.private("cairn.toml", config);
    world
}

/// The same for every provider: what a server keeps, and what it says without its key.
fn walk(world: &World, mut lose: impl FnMut(), expected: &str) {
    let server = world.start();
    world.first_login(&server);
    server.stop();
    let file = world.data().join("master.wrapped");
    assert!(!world.data().join("master.key").exists(), "the key itself is nowhere on the disk");
    let held = fs::read_to_string(&file).unwrap();

    let server = world.start();
    world.login(&server);
    server.stop();
    assert_eq!(fs::read_to_string(&file).unwrap(), held, "it is unwrapped, not made anew");

    // What another installation has wrapped by the same key is good for that one only.
    fs::write(&file, held.replacen("cairn master key ", "cairn master key of ", 1)).unwrap();
    let text = world.start_refused();
    assert!(text.contains("master.wrapped"), "{text}");
    fs::write(&file, &held).unwrap();

    lose();
    let text = world.start_refused();
    assert!(text.contains(expected), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), held);
    assert!(!world.data().join("master.key").exists());
}

#[test]
fn a_master_key_wrapped_by_kms_starts_the_server_again_and_without_kms_nothing_starts() {
    for engine in [Engine::Sqlite, Engine::postgres()] {
        let moto = Moto::start();
        let (seeded, text) = Moto::python("seed_secrets.py", &[&moto.url]);
        assert!(seeded, "{text}");
        let config = format!(
            "[keys]\nprovider = \"awskms\"\nstore = \"awsssm\"\nkey = \"alias/cairn\"\n\n\
             [[secrets]]\nkind = \"awsssm\"\nsettings = {{ endpoint = \"{}\", region = \"eu-west-1\", access_key_id = \"AKIDEXAMPLE\", \
             secret_access_key = \"env:KMS_SECRET\", loopback = true }}\n",
            moto.url
        );
        let world = wrapped(engine, &config).with("KMS_SECRET", &logs::plant("journey-kms"));
        let mut moto = Some(moto);
        walk(&world, || drop(moto.take()), "cannot be reached");
    }
}

/// A running `peers/vault.py`.
struct Vault {
    child: Child,
    url: String,
}

impl Vault {
    fn start(token: &str, keys: &std::path::Path) -> Self {
        let mut child = Command::new("python3")
            .arg(suite::workspace().join("crates/testkit/peers/vault.py"))
            .args([token, keys.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_master_key_wrapped_by_vault_starts_the_server_again_and_without_its_key_nothing_starts() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    fs::write(keys.path(), "other\ncairn\n").unwrap();
    let token = logs::plant("journey-vault");
    let vault = Vault::start(&token, keys.path());
    let config = format!(
        "[keys]\nprovider = \"vault\"\nstore = \"vault\"\nkey = \"cairn\"\n\n\
         [[secrets]]\nkind = \"vault\"\nsettings = {{ address = \"{}\", token = \"env:VAULT_TOKEN\", loopback = true }}\n",
        vault.url
    );
    let world = wrapped(Engine::Sqlite, &config).with("VAULT_TOKEN", &token);
    walk(&world, || fs::write(keys.path(), "other\n").unwrap(), "vault");
}
