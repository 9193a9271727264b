//! A real agent beside a real server: enrolled, reporting, cut off, and back; on a full disk, by a wrong clock, and revoked.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domain::{Clock as _, Timestamp};
use serde_json::Value;
use testkit::logs;

use crate::world::{Engine, Server, World, faketime, until};

/// A host agent of the world's own.
pub(crate) struct Agent<'w> {
    world: &'w World,
    watched: PathBuf,
    /// What its clock is off by, as `faketime` is told.
    clock: Option<&'static str>,
    /// Settings of its own.
    extra: Vec<(String, String)>,
}

pub(crate) struct Running {
    child: Child,
    log: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn stop(mut self) -> String {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'w> Agent<'w> {
    fn enrolled(world: &'w World, server: &Server) -> Self {
        Self::enrolled_by(world, server, None)
    }

    fn enrolled_by(world: &'w World, server: &Server, clock: Option<&'static str>) -> Self {
        let agent = Self { clock, ..Self::new(world, &[]) };
        let said = agent.enroll(server, &Self::token(world));
        assert!(said.is_ok(), "{said:?}");
        agent
    }

    /// One that is not enrolled yet.
    pub(crate) fn new(world: &'w World, extra: &[(&str, &str)]) -> Self {
        let watched = world.path("watched.conf");
        std::fs::write(&watched, "one").unwrap();
        let extra = extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { world, watched, clock: None, extra }
    }

    /// A file with a new enrollment token.
    pub(crate) fn token(world: &World) -> PathBuf {
        let made = world.cairn_secretly(["agents", "tokens", "create", "-o", "json"], "token");
        world.private("token", made["token"].as_str().unwrap())
    }

    /// Tries to enroll; what it said where it did not.
    pub(crate) fn enroll(&self, server: &Server, token: &Path) -> Result<(), String> {
        let mut command = self.command(server);
        let output = command.args(["enroll", "--name", "host-1", "--token-file"]).arg(token).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        logs::tee("journey-agent", &said);
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    fn command(&self, server: &Server) -> Command {
        self.command_at(&server.url)
    }

    fn command_at(&self, url: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn-agent");
        assert!(program.exists(), "`cairn-agent` is not built: `cargo build -p agent` first");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CAIRN_AGENT_SERVER", url)
            .env("CAIRN_AGENT_CA_FILE", self.world.data().join("ca.crt"))
            .env("CAIRN_AGENT_STATE_DIR", self.world.path("agent"))
            .env("CAIRN_AGENT_INTERVAL_S", "1")
            .env("CAIRN_AGENT_CPU_PERCENT_MAX", "100")
            .env("CAIRN_HOST_COLLECTORS", "accounts,mounts,integrity")
            .env("CAIRN_HOST_INTEGRITY_PATHS", &self.watched);
        if let Some(by) = self.clock {
            command.env("LD_PRELOAD", faketime(by)).env("FAKETIME", by);
        }
        command.envs(self.extra.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, server: &Server) -> Running {
        self.run_at(&server.url)
    }

    fn run_at(&self, url: &str) -> Running {
        let mut child = self.command_at(url).arg("run").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = logs::tee_pipe("journey-agent", child.stderr.take().unwrap());
        Running { child, log: Some(log) }
    }

    /// The watched file's node.
    fn node(&self) -> String {
        until("the watched file's node", || {
            let nodes = self.world.cairn(["nodes", "list", "--type", "host.file", "-o", "json"]).ok().json();
            nodes.as_array().unwrap().iter().find(|node| node["name"] == *self.watched.to_str().unwrap())?["id"]
                .as_str()
                .map(str::to_owned)
        })
    }

    /// In one step: a file that is written in place is empty for a moment, and the agent may see that too.
    pub(crate) fn write(&self, content: &str) {
        let beside = self.world.path("beside-the-watched");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, &self.watched).unwrap();
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self, server: &Server) -> Value {
        let mut command = self.command(server);
        until("the agent's status", || {
            let output = command.args(["status", "--json"]).output().unwrap();
            serde_json::from_slice(&output.stdout).ok()
        })
    }

    /// Whether a report waits that says that the watched file is so.
    pub(crate) fn spools(&self, content: &str) -> bool {
        let hash = crypto::sha256(content.as_bytes()).to_hex();
        std::fs::read_dir(self.world.path("agent").join("spool")).unwrap().any(|file| {
            let (mut text, file) = (String::new(), std::fs::read(file.unwrap().path()).unwrap_or_default());
            flate2::read::MultiGzDecoder::new(&*file).read_to_string(&mut text).is_ok() && text.contains(&hash)
        })
    }

    /// The watched file was so, one after the other, and each was told once.
    pub(crate) fn history_is(&self, contents: &[&str]) {
        let versions = self.world.cairn(["nodes", "history", &self.node(), "-o", "json"]).ok().json();
        let mut versions: Vec<(String, String)> = versions
            .as_array()
            .unwrap()
            .iter()
            .map(|version| (version["valid_from"].as_str().unwrap().to_owned(), version["properties"].to_string()))
            .collect();
        versions.sort();
        let hashes = contents.iter().map(|content| crypto::sha256(content.as_bytes()).to_hex());
        assert_eq!(versions.len(), contents.len(), "{versions:?}");
        assert!(versions.iter().zip(hashes).all(|((_, shown), hash)| shown.contains(&hash)), "{versions:?}");
    }

    pub(crate) fn sha256_is(&self, expected: &str) {
        let id = self.node();
        let hash = crypto::sha256(expected.as_bytes()).to_hex();
        until("the watched file's hash", || {
            let node = self.world.cairn(["nodes", "show", &id, "-o", "json"]).ok().json();
            node.to_string().contains(&hash).then_some(())
        });
    }
}

fn port(server: &Server) -> String {
    server.url.rsplit(':').next().unwrap().to_owned()
}

fn reports(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    // Seen by inotify, and reported without waiting for anything else.
    agent.write("two");
    agent.sha256_is("two");
    // What the agent reported is judged without a job, and rests on its signed statement.
    until("a judgement", || {
        let signed = world.cairn(["evidence", "list", "--kind", "assessment", "-o", "json"]).ok();
        signed.json().as_array().filter(|list| !list.is_empty()).map(drop)
    });
    // The server is away: reports wait, and arrive in order when it is back on the same port.
    let port = port(&server);
    server.kill();
    agent.write("three");
    until("a report in the spool", || agent.spools("three").then_some(()));
    agent.write("four");
    until("another one", || agent.spools("four").then_some(()));
    let server = world.start_on(&port);
    world.login(&server);
    agent.sha256_is("four");
    until("an empty spool", || (agent.status(&server)["spooled"] == 0).then_some(()));
    // Nothing was lost, and nothing came twice.
    agent.history_is(&["one", "two", "three", "four"]);
    running.stop();
    // A new run goes on where the last one ended: nothing is told twice.
    let output = agent.command(&server).args(["run", "--once"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = agent.status(&server);
    assert_eq!((status["error"].is_null(), status["spooled"].as_u64()), (true, Some(0)), "{status}");
    agent.history_is(&["one", "two", "three", "four"]);
    server.stop();
}

#[test]
fn an_agent_reports_what_changed_and_what_happened_while_the_server_was_away() {
    reports(Engine::Sqlite);
}

#[test]
fn an_agent_reports_what_changed_and_what_happened_while_the_server_was_away_on_postgresql() {
    reports(Engine::postgres());
}

/// A file system of so many bytes, gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "cairn-test"]).arg(&at).output().unwrap();
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "this test mounts a small file system: run it as root ({why})");
        Self(at)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn an_agent_whose_disk_is_full_goes_on_reporting_and_says_so() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let disk = SmallDisk::mount(world.path("agent"), "2m");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    assert!(agent.status(&server)["running"].as_bool().unwrap());
    // Nothing can be spooled while the server is away, and the newest waits in memory.
    let port = port(&server);
    server.kill();
    disk.fill();
    agent.write("two");
    let server = world.start_on(&port);
    world.login(&server);
    agent.sha256_is("two");
    server.kill();
    until("a word about the disk", || {
        // Whatever room the agent found or left: until there is none.
        disk.fill();
        agent.write(&format!("{:?}", std::time::Instant::now()));
        let output = agent.command_at("https://127.0.0.1:1").args(["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["disk"].is_string().then_some(())
    });
    agent.write("three");
    let server = world.start_on(&port);
    world.login(&server);
    agent.sha256_is("three");
    // There is room again.
    std::fs::remove_file(disk.ballast()).unwrap();
    agent.write("four");
    agent.sha256_is("four");
    until("a disk that is well", || {
        let status = agent.status(&server);
        (status["disk"].is_null() && status["error"].is_null() && status["spooled"] == 0).then_some(())
    });
    let log = running.stop();
    assert!(log.contains("cannot spool a report, it waits in memory"), "{log}");
    server.stop();
}

#[test]
fn an_agent_that_is_restarted_on_a_full_disk_keeps_who_it_is_and_what_waits_and_delivers_it() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let disk = SmallDisk::mount(world.path("agent"), "2m");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    let id = agent.status(&server)["id"].clone();
    // One report waits on the disk, which then has room for nothing else.
    let (port, url) = (port(&server), server.url.clone());
    server.kill();
    agent.write("two");
    until("a report in the spool", || agent.spools("two").then_some(()));
    disk.fill();
    // Killed, so that it can put nothing in order.
    drop(running);
    disk.fill();
    let running = agent.run_at(&url);
    let status = until("a word about the disk from the one that was started", || {
        disk.fill();
        let output = agent.command_at(&url).args(["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let looked = status["running"] == true && status["collected_at"].is_string() && status["error"].is_string();
        (looked && status["disk"].is_string()).then_some(status)
    });
    assert_eq!(status["id"], id);
    assert!(status["spooled"].as_u64() >= Some(1), "{status}");
    assert!(status["disk"].as_str().unwrap().contains("No space left"), "{status}");
    assert!(agent.spools("two"));
    // The server is back before there is room: what waited comes first, then what is now.
    agent.write("three");
    let server = world.start_on(&port);
    world.login(&server);
    agent.sha256_is("three");
    agent.history_is(&["one", "two", "three"]);
    // There is room again, and it starts once more as the one that it was.
    std::fs::remove_file(disk.ballast()).unwrap();
    running.stop();
    let running = agent.run(&server);
    agent.write("four");
    agent.sha256_is("four");
    until("a disk that is well", || {
        let status = agent.status(&server);
        (status["disk"].is_null() && status["error"].is_null() && status["spooled"] == 0).then_some(())
    });
    assert_eq!(agent.status(&server)["id"], id);
    agent.history_is(&["one", "two", "three", "four"]);
    let agents = world.cairn(["agents", "list", "-o", "json"]).ok().json();
    assert_eq!(agents.as_array().unwrap().len(), 1, "{agents}");
    running.stop();
    server.stop();
}

#[test]
fn an_agent_whose_credential_is_due_on_a_full_disk_goes_on_with_the_one_that_it_has_and_renews_it_when_there_is_room() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let disk = SmallDisk::mount(world.path("agent"), "2m");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    running.stop();
    // It was given its credential half a year ago.
    let file = world.path("agent").join("identity/identity.json");
    let kept = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
    let mut old = kept();
    let issued = old["issued_at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    old["issued_at"] = issued.plus_millis(-180 * 86_400_000).to_string().into();
    std::fs::write(&file, old.to_string()).unwrap();
    disk.fill();
    let running = agent.run(&server);
    let status = until("a word about the credential", || {
        let status = agent.status(&server);
        status["renewal"].is_string().then_some(status)
    });
    let word = status["renewal"].as_str().unwrap();
    assert!(word.contains("No space left") && word.contains(old["expires_at"].as_str().unwrap()), "{word}");
    agent.write("two");
    agent.sha256_is("two");
    assert_eq!(kept(), old);
    // There is room again.
    std::fs::remove_file(disk.ballast()).unwrap();
    agent.write("three");
    agent.sha256_is("three");
    until("a new credential", || (kept()["credential"] != old["credential"]).then_some(()));
    until("a status without a word about it", || agent.status(&server)["renewal"].is_null().then_some(()));
    agent.history_is(&["one", "two", "three"]);
    let log = running.stop();
    assert_eq!(log.matches("the credential is not renewed yet").count(), 1, "{log}");
    server.stop();
}

fn an_hour_off(engine: Engine, clock: &'static str, hour_ms: i64) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled_by(&world, &server, Some(clock));
    let running = agent.run(&server);
    agent.sha256_is("one");
    agent.write("two");
    agent.sha256_is("two");
    let now = || crypto::system::SystemClock.now();
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let minutes = |ms: i64| ms / 60_000;
    let off = time(&agent.status(&server)["collected_at"]).millis_since(now());
    assert!((minutes(hour_ms) - minutes(off)).abs() < 10, "its clock is {} minutes off", minutes(off));
    running.stop();
    // What is stored is told by the server's clock.
    let ledger = world.cairn(["coverage", "--kind", "integrity", "-o", "json"]).ok().json();
    let entry = &ledger.as_array().unwrap()[0];
    assert!(entry["source"].as_str().unwrap().starts_with("agent/"), "{entry}");
    assert_eq!(entry["verdict"], "complete", "{entry}");
    assert!(minutes(now().millis_since(time(&entry["tried_at"]))).abs() < 10, "{entry}");
    agent.history_is(&["one", "two"]);
    server.stop();
}

#[test]
fn an_agent_whose_clock_is_an_hour_ahead_reports_as_if_it_were_right() {
    an_hour_off(Engine::Sqlite, "+3600s", 3_600_000);
}

#[test]
fn an_agent_whose_clock_is_an_hour_late_reports_as_if_it_were_right() {
    an_hour_off(Engine::postgres(), "-3600s", -3_600_000);
}

#[test]
fn a_tokens_file_that_others_can_read_is_refused_and_the_token_is_not_used_up() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let (agent, token) = (Agent::new(&world, &[]), Agent::token(&world));
    let mode = |mode| std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let said = agent.enroll(&server, &token).unwrap_err();
    assert!(said.contains("can be read by others (its mode is 0644)") && said.contains("chmod 600"), "{said}");
    mode(0o600);
    agent.enroll(&server, &token).unwrap();
    server.stop();
}

#[test]
fn an_agent_that_reports_too_often_waits_for_as_long_as_the_server_asks_and_loses_nothing() {
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_REPORTS_PER_MIN", "10");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    let status = until("a word about it", || {
        let status = agent.status(&server);
        status["error"].as_str().is_some_and(|error| error.contains("try again in")).then_some(status)
    });
    assert!(status["retry_at"].is_string(), "{status}");
    agent.write("two");
    agent.sha256_is("two");
    agent.write("three");
    agent.sha256_is("three");
    running.stop();
    agent.history_is(&["one", "two", "three"]);
    let log = server.stop();
    let answered = |status: &str| log.lines().filter(|line| line.contains("/report") && line.contains(status)).count();
    let (taken, refused) = (answered("status=200"), answered("status=429"));
    // It asks once where it is told to wait, and then not before its time: as often as not, one is taken after each.
    assert!(refused > 0 && refused <= taken + 1, "{taken} taken, {refused} refused: {log}");
}

#[test]
fn attack_23_an_agent_that_was_revoked_is_refused_says_so_and_does_not_hammer() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let agent = Agent::enrolled(&world, &server);
    let running = agent.run(&server);
    agent.sha256_is("one");
    world.cairn(["agents", "revoke", "host-1"]).ok();
    agent.write("two");
    let status = until("a word about it", || {
        let status = agent.status(&server);
        status["error"].as_str().is_some_and(|error| error.contains("cairn-agent enroll")).then_some(status)
    });
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let wait_ms = time(&status["retry_at"]).millis_since(crypto::system::SystemClock.now());
    assert!(wait_ms > 50 * 60_000, "{status}");
    // It looks at its host several times more, and asks the server no more.
    let collected = time(&status["collected_at"]);
    until("four more looks", || {
        (time(&agent.status(&server)["collected_at"]).millis_since(collected) > 4_000).then_some(())
    });
    let log = running.stop();
    assert_eq!(log.matches("the server lets this agent in no more").count(), 1, "{log}");
    // Who starts it again is told so, too.
    let output = agent.command(&server).args(["run", "--once"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("cairn-agent enroll"), "{text}");
    agent.history_is(&["one"]);
    let log = server.stop();
    let refused = log.lines().filter(|line| line.contains("/report") && line.contains("status=401")).count();
    assert_eq!(refused, 2, "one of the run, one of the start after it: {log}");
}

#[test]
fn a_watched_file_that_changes_is_reported_long_before_the_next_collection() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    // Nothing but the watch can tell of the second and the third content: the next collection is an hour away.
    let agent = Agent::new(&world, &[("CAIRN_AGENT_INTERVAL_S", "3600")]);
    agent.enroll(&server, &Agent::token(&world)).unwrap();
    let running = agent.run(&server);
    for content in ["one", "two", "three"] {
        agent.write(content);
        agent.sha256_is(content);
    }
    running.stop();
    agent.history_is(&["one", "two", "three"]);
    server.stop();
}
