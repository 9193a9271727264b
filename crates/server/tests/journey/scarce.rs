//! What runs out while the server works: disk, file descriptors, the database. It refuses, says what to do, and goes on by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::{logs, suite};

use crate::world::{Engine, Ran, World, until};

/// Set in the process that has mounts of its own.
const INSIDE: &str = "CAIRN_TEST_INSIDE_NAMESPACE";

/// Runs a test in a process that sees mounts of its own, which end with it.
fn with_own_mounts(test: &str, body: impl FnOnce()) {
    if suite::env(INSIDE).is_some() {
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("`unshare` of util-linux: apt-get install -y util-linux");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    logs::tee("journey-scarce", &text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\nthis test mounts a small disk: run it as root, or where users may make namespaces (`sysctl kernel.unprivileged_userns_clone=1`)"
    );
}

/// A disk of its own for a world's data directory.
struct Disk {
    ballast: PathBuf,
}

impl Disk {
    fn mount(world: &World, megabytes: u32) -> Self {
        let data = world.data();
        fs::create_dir(&data).unwrap();
        let options = format!("size={megabytes}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "cairn-test"]).arg(&data).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self { ballast: data.join("ballast") }
    }

    /// Fills it but for so many bytes.
    fn fill(&self, leave: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.ballast).unwrap();
        let page = [0u8; 4096];
        loop {
            match file.write_all(&page) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        file.set_len(file.metadata().unwrap().len().saturating_sub(leave)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(&self.ballast).unwrap();
    }
}

fn add(world: &World, name: &str) -> Ran {
    let secret = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "x".repeat(40)}).to_string();
    world.cairn_with(
        ["creds", "add", "--plugin", "aws", "--name", name, "--type", "aws-keys", "--secret-stdin"],
        &secret,
    )
}

/// Adds credentials until one is refused, and says so.
fn add_until_refused(world: &World, prefix: &str) -> Ran {
    (0..500).map(|number| add(world, &format!("{prefix}{number}"))).find(|ran| ran.code != 0).expect("none was refused")
}

fn list(world: &World, arguments: &[&str]) -> Vec<Value> {
    let ran = world.cairn(arguments.iter().copied().chain(["--all", "-o", "json"])).ok();
    ran.json().as_array().unwrap().clone()
}

/// The log has no gap, and as many credentials were made as it says.
fn log_and_data_agree(world: &World) {
    let records = list(world, &["audit", "list"]);
    let mut places: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
    let made =
        records.iter().filter(|record| record["action"] == "credential_create" && record["outcome"] == "success");
    assert_eq!(made.count(), list(world, &["creds", "list"]).len());
}

/// Every blob is what its name says; half-written ones are under no such name.
fn blobs_are_whole(folder: &Path) -> usize {
    let mut whole = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            whole += blobs_are_whole(&path);
        } else if !name.starts_with('.') {
            assert_eq!(crypto::sha256(&fs::read(&path).unwrap()).to_hex(), name);
            whole += 1;
        }
    }
    whole
}

#[test]
fn attack_75_a_full_disk_refuses_a_change_whole_and_takes_the_next_when_there_is_room() {
    with_own_mounts(
        "scarce::attack_75_a_full_disk_refuses_a_change_whole_and_takes_the_next_when_there_is_room",
        || {
            let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
            let disk = Disk::mount(&world, 24);
            let server = world.start();
            world.first_login(&server);
            add(&world, "before").ok();
            disk.fill(0);
            let refused = add_until_refused(&world, "while-full-");
            assert!(refused.err.contains("disk is full: free some space"), "{}", refused.err);
            // Reading goes on, and what was refused is not there.
            log_and_data_agree(&world);
            let before = list(&world, &["creds", "list"]).len();
            disk.free();
            // The very next ones, on connections that saw the failure: the driver must not still be in the transaction that was undone.
            for number in 0..4 {
                add(&world, &format!("after-{number}")).ok();
            }
            assert_eq!(list(&world, &["creds", "list"]).len(), before + 4);
            log_and_data_agree(&world);
            server.stop();
            let server = world.start();
            world.login(&server);
            log_and_data_agree(&world);
            server.stop();
        },
    );
}

#[test]
fn attack_75_a_disk_that_fills_during_a_job_leaves_a_whole_graph_and_whole_artifacts() {
    with_own_mounts(
        "scarce::attack_75_a_disk_that_fills_during_a_job_leaves_a_whole_graph_and_whole_artifacts",
        || {
            let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
            let disk = Disk::mount(&world, 512);
            let server = world.start();
            world.first_login(&server);
            disk.fill(1_500_000);
            world.cairn(["jobs", "run", "--plugin", "host"]).ok();
            until("the job's first artifacts", || world.data().join("blobs").exists().then_some(()));
            let refused = add_until_refused(&world, "while-full-");
            assert!(refused.err.contains("disk is full: free some space"), "{}", refused.err);
            log_and_data_agree(&world);
            disk.free();
            // It ends by itself, whole or given up with the reason; another one has what it needs.
            let job = world.job_ended();
            let text = job.to_string();
            assert!(job["status"] != "failed" || text.contains("disk is full"), "{text}");
            world.cairn(["jobs", "run", "--plugin", "host", "--wait"]).ok();
            let packages = || list(&world, &["nodes", "list", "--type", "host.package"]);
            let seen: Vec<(Value, Value)> =
                packages().iter().map(|node| (node["id"].clone(), node["valid_from"].clone())).collect();
            assert!(seen.len() > 100, "{}", seen.len());
            world.cairn(["jobs", "run", "--plugin", "host", "--wait"]).ok();
            let again: Vec<(Value, Value)> =
                packages().iter().map(|node| (node["id"].clone(), node["valid_from"].clone())).collect();
            assert_eq!(seen, again, "an identical run writes nothing");
            assert!(blobs_are_whole(&world.data().join("blobs")) > 5);
            let bundle = world.path("bundle.zip");
            world.cairn(["evidence", "export", "--framework", "nist-800-53-r5", "-o", bundle.to_str().unwrap()]).ok();
            world.cairn(["evidence", "verify", bundle.to_str().unwrap()]).ok();
            log_and_data_agree(&world);
            server.stop();
        },
    );
}

#[test]
fn attack_75_a_backup_or_a_restore_without_room_leaves_nothing_behind() {
    with_own_mounts("scarce::attack_75_a_backup_or_a_restore_without_room_leaves_nothing_behind", || {
        let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
        let server = world.start();
        world.first_login(&server);
        let file = world.path("cairn.backup");
        world.tool(["backup", "-o", file.to_str().unwrap()]).ok();
        server.stop();

        let other = World::new(Engine::Sqlite);
        let disk = Disk::mount(&other, 1);
        let on_disk = other.data().join("cairn.backup");
        disk.fill(8_192);
        let ran = world.tool(["backup", "-o", on_disk.to_str().unwrap()]);
        assert!(ran.code == 1 && ran.err.contains("the disk is full: free some space"), "{}", ran.err);
        assert_eq!(fs::read_dir(other.data()).unwrap().count(), 1, "the ballast only");

        // A folder on the small disk as the data directory.
        let key = world.data().join("master.key");
        let data = other.data().join("data");
        let restore = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-server"));
            command.env_clear().args(["restore", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
            command.args(["--master-key", key.to_str().unwrap()]).output().unwrap()
        };
        let refused = restore();
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && text.contains("full"), "{text}");
        assert_eq!(fs::read_dir(other.data()).unwrap().count(), 1, "the ballast only");
    });
}

#[test]
fn attack_75_without_file_descriptors_nothing_is_half_done_and_it_recovers() {
    let world =
        World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false").under(&["prlimit", "--nofile=64:64"]);
    let mut server = world.start();
    world.first_login(&server);
    add(&world, "before").ok();
    let address = server.url.trim_start_matches("https://").to_owned();
    let held: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(held.len() > 64, "{}", held.len());
    // Told or done: both are right, half done is not.
    let while_out = add(&world, "while-out");
    assert!(while_out.code == 0 || !while_out.err.is_empty());
    drop(held);
    until("an answer", || (add(&world, "after").code == 0).then_some(()));
    assert!(server.is_alive());
    log_and_data_agree(&world);
    server.stop();
}

/// A way to the database that can be cut.
struct Wire {
    port: u16,
    up: Arc<AtomicBool>,
    /// Bytes that still pass to the database before everything is cut; negative for all.
    left: Arc<AtomicI64>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(authority: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            up: Arc::new(AtomicBool::new(true)),
            left: Arc::new(AtomicI64::new(-1)),
            ends: Arc::default(),
        };
        let (up, left, ends) = (Arc::clone(&wire.up), Arc::clone(&wire.left), Arc::clone(&wire.ends));
        std::thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let there = if up.load(Ordering::SeqCst) { TcpStream::connect(&authority).ok() } else { None };
                let Some(there) = there else { continue };
                ends.lock().unwrap().extend([here.try_clone().unwrap(), there.try_clone().unwrap()]);
                let pairs = [(here.try_clone().unwrap(), there.try_clone().unwrap(), true), (there, here, false)];
                for (from, to, counted) in pairs {
                    let (up, left, ends) = (Arc::clone(&up), Arc::clone(&left), Arc::clone(&ends));
                    std::thread::spawn(move || pass(from, to, counted.then_some(&*left), &up, &ends));
                }
            }
        });
        wire
    }

    fn cut(up: &AtomicBool, ends: &Mutex<Vec<TcpStream>>) {
        up.store(false, Ordering::SeqCst);
        for end in ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn down(&self) {
        Self::cut(&self.up, &self.ends);
    }

    fn down_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.left.store(-1, Ordering::SeqCst);
        self.up.store(true, Ordering::SeqCst);
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    left: Option<&AtomicI64>,
    up: &AtomicBool,
    ends: &Mutex<Vec<TcpStream>>,
) {
    let mut piece = [0u8; 16 * 1_024];
    while let Ok(length) = from.read(&mut piece) {
        let mut passes = length;
        if let Some(left) = left
            && left.load(Ordering::SeqCst) >= 0
        {
            let before = left.fetch_sub(i64::try_from(length).unwrap(), Ordering::SeqCst);
            if before < i64::try_from(length).unwrap() {
                passes = usize::try_from(before.max(0)).unwrap();
                let _ = to.write_all(&piece[..passes]);
                Wire::cut(up, ends);
                return;
            }
        }
        if length == 0 || to.write_all(&piece[..passes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn attack_75_a_database_that_goes_away_in_the_middle_is_told_and_taken_up_again() {
    let Engine::Postgres(mut database) = Engine::postgres() else { unreachable!() };
    let authority = database.app_url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let wire = Wire::to(authority.clone());
    database.app_url = database.app_url.replace(&authority, &format!("127.0.0.1:{}", wire.port));
    let world = World::new(Engine::Postgres(database)).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let mut server = world.start();
    world.first_login(&server);
    add(&world, "before").ok();

    wire.down();
    let refused = add(&world, "while-down");
    assert!(
        refused.code == 1 && refused.err.contains("the database cannot be reached: check that it runs"),
        "{}",
        refused.err
    );
    wire.mend();
    until("the database", || (add(&world, "after").code == 0).then_some(()));

    // Cut in the middle of a request, a little later each time: whatever was kept, the log and the data agree.
    for step in 0..12 {
        wire.down_after(200 + step * 400);
        let cut = add(&world, &format!("cut-{step}"));
        wire.down();
        assert!(cut.code == 0 || !cut.err.is_empty());
        wire.mend();
        until("the database", || (world.cairn(["creds", "list"]).code == 0).then_some(()));
        log_and_data_agree(&world);
    }
    assert!(server.is_alive());
    server.stop();
}

#[test]
fn the_small_disk_is_really_full() {
    with_own_mounts("scarce::the_small_disk_is_really_full", || {
        let world = World::new(Engine::Sqlite);
        let disk = Disk::mount(&world, 1);
        disk.fill(0);
        let file = File::create(world.data().join("more")).and_then(|mut file| file.write_all(&[1; 4096]));
        assert_eq!(file.unwrap_err().kind(), ErrorKind::StorageFull);
    });
}
