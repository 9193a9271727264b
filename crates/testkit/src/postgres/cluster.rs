//! One private PostgreSQL server, shared by the test processes of a target folder.
//!
//! Three `flock`s in the folder order them; the kernel drops a lock with its process, so a crash leaves none behind:
//! - `users`: held shared by each test process; who gets it exclusively knows that nobody needs the server;
//! - `start`: held while the state file is read or a server is started;
//! - `reaper`: held by the shell that waits for `users` to be free, then stops the server and removes its data.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::url::Url;
use super::{newest_bin, psql};
use crate::suite;

/// How long a server without users stays, so that the next test process finds it running.
const IDLE_SECONDS: &str = "20";
const PORT_TRIES: usize = 5;
/// Free memory below which the databases are on disk, in bytes: they take some hundred megabytes.
const MEMORY_MIN: u64 = 4 << 30;
const DATA_PREFIX: &str = "cairn-testkit-postgres-";

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_connections = 300
shared_buffers = 64MB
max_wal_size = 256MB
autovacuum = off
jit = off
";

/// Waits until no test process holds `users` for a while, then ends the server. Takes the lock folder, the idle seconds, the
/// data folder, then the command that stops the server.
const REAPER: &str = r#"
cd / || exit 1
locks=$1 idle=$2 base=$3; shift 3
exec 8>>"$locks/reaper" 9>>"$locks/users"
flock 8
while :; do
  flock 9; flock -u 9
  sleep "$idle"
  flock -n 9 && break
done
"$@" 8>&- 9>&-
rm -rf -- "$base"
if grep -qsF "\"$base\"" "$locks/state.json"; then rm -f -- "$locks/state.json"; fi
"#;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    port: u16,
    password: String,
    /// The folder that holds the data and the server's log.
    base: PathBuf,
}

impl State {
    fn url(&self) -> Url {
        Url {
            user: "postgres".to_owned(),
            password: self.password.clone(),
            authority: format!("127.0.0.1:{}", self.port),
            database: "postgres".to_owned(),
            options: String::new(),
        }
    }

    fn answers(&self) -> bool {
        newest_bin("psql").and_then(|program| psql(&program, &self.url(), "SELECT 1")).is_ok_and(|answer| answer == "1")
    }
}

/// Finds or starts the server of `locks`; the file is to be held as long as the server is used.
pub(super) fn attach(locks: &Path) -> anyhow::Result<(Url, File)> {
    attach_with(locks, IDLE_SECONDS)
}

fn attach_with(locks: &Path, idle_seconds: &str) -> anyhow::Result<(Url, File)> {
    std::fs::create_dir_all(locks).with_context(|| locks.display().to_string())?;
    let users = lock_file(locks, "users")?;
    users.lock_shared()?;
    let start = lock_file(locks, "start")?;
    start.lock()?;

    let path = locks.join("state.json");
    let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<State>(&text).ok());
    let state = match known {
        Some(state) if state.answers() => {
            if lock_file(locks, "reaper")?.try_lock().is_ok() {
                reap_later(locks, idle_seconds, &state.base)?;
            }
            state
        }
        stale => {
            // Its server was killed or the machine restarted. Only what this module made is removed.
            if let Some(base) = stale.map(|state| state.base).filter(|base| is_ours(base)) {
                let _ = stop_command(&base).and_then(|mut stop| Ok(stop.output()?));
                let _ = std::fs::remove_dir_all(base);
            }
            let state = start_server(|base| reap_later(locks, idle_seconds, base))?;
            write_private(&path, &serde_json::to_vec(&state)?)?;
            state
        }
    };
    Ok((state.url(), users))
}

fn lock_file(locks: &Path, name: &str) -> anyhow::Result<File> {
    let path = locks.join(name);
    File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())
}

fn is_ours(base: &Path) -> bool {
    base.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(DATA_PREFIX))
        && base.parent() == Some(temp_root().as_path())
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}

/// Where the databases are: hundreds are made and dropped, of three hundred files each, so in memory if there is room.
/// Root's own temporary folder may be closed to the user that the server runs as.
fn temp_root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if rustix::fs::statvfs(memory).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= MEMORY_MIN)
        && rustix::fs::access(memory, rustix::fs::Access::WRITE_OK).is_ok()
    {
        return memory.to_owned();
    }
    if server_user().is_ok_and(|user| user.is_some()) { PathBuf::from("/tmp") } else { std::env::temp_dir() }
}

/// Whom the server runs as when we are root: PostgreSQL refuses root. `None`: as ourselves.
fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("/proc/self/status names no uid")?;
    if uids.split_whitespace().nth(1) != Some("0") {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let ids = |name: &str| users.lines().find_map(|line| parse_passwd(line, name));
    let found = ids("postgres").or_else(|| ids("nobody"));
    Ok(Some(found.context("PostgreSQL refuses root and there is neither a user `postgres` nor `nobody`")?))
}

fn parse_passwd(line: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    if fields.next() != Some(name) {
        return None;
    }
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A program of the server's package, as the server's user, in `base`, with nothing of our environment.
fn server_command(program: &str, base: &Path) -> anyhow::Result<Command> {
    let program = newest_bin(program)?;
    let mut command = match server_user()? {
        None => Command::new(program),
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={uid}"), format!("--regid={gid}")])
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        }
    };
    command.current_dir(base).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").stdin(Stdio::null());
    Ok(command)
}

fn stop_command(base: &Path) -> anyhow::Result<Command> {
    let mut command = server_command("pg_ctl", base)?;
    command.args(["stop", "-s", "-w", "-m", "immediate", "-D"]).arg(base.join("data"));
    Ok(command)
}

/// `made` is told of the folder before anything runs in it: also a start that is killed half-way is cleaned up.
fn start_server(made: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<State> {
    let base = tempfile::Builder::new().prefix(DATA_PREFIX).tempdir_in(temp_root())?;
    made(base.path())?;
    std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o700))?;
    let password = suite::fresh_hex(16);
    let password_file = base.path().join("password");
    write_private(&password_file, password.as_bytes())?;
    if let Some((uid, gid)) = server_user()? {
        chown(base.path(), Some(uid), Some(gid))?;
        chown(&password_file, Some(uid), Some(gid))?;
    }

    let data = base.path().join("data");
    let initialised = server_command("initdb", base.path())?
        .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"])
        .arg(format!("--pwfile={}", password_file.display()))
        .arg("-D")
        .arg(&data)
        .output()
        .context("setpriv (Debian: util-linux) starts initdb")?;
    if !initialised.status.success() {
        bail!("initdb: {}", String::from_utf8_lossy(&initialised.stderr).trim());
    }
    std::fs::remove_file(&password_file)?;
    File::options().append(true).open(data.join("postgresql.conf"))?.write_all(SETTINGS.as_bytes())?;

    let log = base.path().join("server.log");
    for _ in 0..PORT_TRIES {
        // Another process may take the port before the server binds it: then the next is tried.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let started = server_command("pg_ctl", base.path())?
            .args(["start", "-s", "-w", "-t", "120", "-o", &format!("-p {port}"), "-l"])
            .arg(&log)
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if started.success() {
            return Ok(State { port, password, base: base.keep() });
        }
    }
    bail!("the server does not start: {}", std::fs::read_to_string(&log).unwrap_or_default().trim());
}

/// Leaves a shell behind that ends the server; in a process group of its own, so that Ctrl-C on the tests spares it.
fn reap_later(locks: &Path, idle_seconds: &str, base: &Path) -> anyhow::Result<()> {
    let stop = stop_command(base)?;
    Command::new("sh")
        .args(["-c", REAPER, "cairn-testkit-reaper"])
        .arg(std::path::absolute(locks)?)
        .arg(idle_seconds)
        .arg(base)
        .arg(stop.get_program())
        .args(stop.get_args())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("sh and flock (Debian: util-linux) end the server")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn state(locks: &Path) -> State {
        serde_json::from_slice(&std::fs::read(locks.join("state.json")).unwrap()).unwrap()
    }

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(90), "waited 90 s until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn processes_share_one_server_that_ends_after_the_last_and_is_replaced_when_killed() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path();
        let (first, first_use) = attach_with(locks, "0").unwrap();
        let (second, second_use) = attach_with(locks, "0").unwrap();
        assert_eq!(first, second, "the second finds the first's server");
        assert!(state(locks).answers());
        assert_eq!(std::fs::metadata(locks.join("state.json")).unwrap().permissions().mode() & 0o777, 0o600);

        // Killed under its users: the next process starts another and removes what the first left.
        let old = state(locks).base;
        assert!(stop_command(&old).unwrap().status().unwrap().success());
        let (third, third_use) = attach_with(locks, "0").unwrap();
        assert_ne!(first, third);
        assert!(!old.exists() && state(locks).answers());

        drop((first_use, second_use));
        assert!(state(locks).answers(), "one user is left");
        let base = state(locks).base;
        drop(third_use);
        wait_until("the unused server is gone", || !base.exists() && !locks.join("state.json").exists());
    }

    #[test]
    fn a_state_file_cannot_make_us_remove_a_folder_that_we_did_not_make() {
        for foreign in ["/", "/etc", "/tmp", "/etc/cairn-testkit-postgres-x", "/tmp/cairn-testkit-postgres-x/.."] {
            assert!(!is_ours(Path::new(foreign)), "{foreign}");
        }
        assert!(is_ours(&temp_root().join("cairn-testkit-postgres-x")));
    }

    #[test]
    fn users_are_read_from_passwd() {
        assert_eq!(parse_passwd("postgres:x:101:104::/var:/bin/sh", "postgres"), Some((101, 104)));
        assert_eq!(parse_passwd("postgres2:x:101:104::/var:/bin/sh", "postgres"), None);
        assert_eq!(parse_passwd("postgres:x:a", "postgres"), None);
    }
}
