//! A server of its own for each test, and the command line with a home of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::logs;
use testkit::postgres::{Postgres, TestDatabase};

/// Longest wait for a condition: debug builds on two busy cores are slow.
const PATIENCE: Duration = Duration::from_mins(5);

/// Which database the server runs on.
pub(crate) enum Engine {
    Sqlite,
    Postgres(TestDatabase<'static>),
}

impl Engine {
    pub(crate) fn postgres() -> Self {
        Self::Postgres(Postgres::shared().database())
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: Option<JoinHandle<String>>,
    pub(crate) url: String,
}

/// A test's own folder, database and passwords.
pub(crate) struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    pub(crate) password: String,
    extra: Vec<(String, String)>,
    /// What starts the server, with arguments; nothing: it is started as it is.
    wrapper: Vec<String>,
}

/// What a run of `cairn` gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output, who: &str) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran =
            Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
        logs::tee(who, &ran.out);
        logs::tee(who, &ran.err);
        ran
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

fn cairn_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn");
    assert!(
        program.exists(),
        "`cairn` is not built: run the suite with `cargo xtask test`, or `cargo build -p cli` first"
    );
    program
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What is to be loaded so that a program's clock is off by so much. `faketime` itself would stand between a test's signals and the program.
#[allow(dead_code, reason = "of no use to `hostile`")]
pub(crate) fn faketime(by: &str) -> String {
    let asked = Command::new("faketime").args(["-f", by, "printenv", "LD_PRELOAD"]).output();
    let library = String::from_utf8(asked.expect("install `faketime`: `cargo xtask setup`").stdout).unwrap();
    library.trim().to_owned()
}

impl World {
    pub(crate) fn new(engine: Engine) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let first = logs::plant(&format!("journey-{number}-first-password"));
        let world = Self {
            dir,
            engine,
            password: logs::plant(&format!("journey-{number}-password")),
            extra: Vec::new(),
            wrapper: Vec::new(),
        };
        world.private("first-password", &first);
        world.private("password", &world.password);
        world
    }

    /// Another server on the same database, with a data directory, a certificate and a port of its own. The master key is the same.
    pub(crate) fn beside(&self) -> Self {
        let Engine::Postgres(database) = &self.engine else { panic!("SQLite is for one server") };
        let key = self.data().join("master.key");
        let mut other = Self::new(Engine::Sqlite).with("CAIRN_DATABASE_MASTER_KEY_FILE", key.to_str().unwrap());
        other.private("password", &self.password);
        other.password.clone_from(&self.password);
        other.extra.extend(self.extra.iter().cloned());
        for (name, url) in
            [("CAIRN_DATABASE_URL", &database.app_url), ("CAIRN_DATABASE_OWNER_URL", &database.owner_url)]
        {
            other.extra.push((name.to_owned(), url.clone()));
        }
        other
    }

    /// Sets an environment variable of the server.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has another program start the server, which becomes it.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A command of `cairn-server` on the data directory; what it said.
    pub(crate) fn tool<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let output = self.bare_command().args(arguments).output().unwrap();
        Ran::of(&output, "journey-tool")
    }

    pub(crate) fn command(&self) -> Command {
        self.command_on("0")
    }

    /// Starts a server where an earlier one was.
    pub(crate) fn start_on(&self, port: &str) -> Server {
        self.start_command(self.command_on(port))
    }

    fn command_on(&self, port: &str) -> Command {
        let mut command = self.bare_command();
        command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.arg("--port-file").arg(self.path("port")).arg("--admin-password-file").arg(self.path("first-password"));
        command
    }

    fn bare_command(&self) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_cairn-server")]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path());
        command
            .env("CAIRN_SERVER_METRICS_LISTEN", "")
            .env("CAIRN_SESSION_BCRYPT_COST", "10")
            .env("CAIRN_DISCOVERY_LEASE_S", "5");
        if let Engine::Postgres(database) = &self.engine {
            command.env("CAIRN_DATABASE_URL", &database.app_url).env("CAIRN_DATABASE_OWNER_URL", &database.owner_url);
        }
        for (name, value) in &self.extra {
            command.env(name, value);
        }
        if self.path("cairn.toml").exists() {
            command.arg("--config").arg(self.path("cairn.toml"));
        }
        command.arg("--data-dir").arg(self.data());
        command
    }

    pub(crate) fn start(&self) -> Server {
        self.start_command(self.command())
    }

    /// Starts a server by a command that ends in [`World::command`]'s.
    pub(crate) fn start_command(&self, mut command: Command) -> Server {
        let _ = fs::remove_file(self.path("port"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = logs::tee_pipe("journey-server", child.stderr.take().unwrap());
        let port = until("the server's start", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status} instead of starting");
            }
            fs::read_to_string(self.path("port")).ok().and_then(|text| text.trim().parse::<u16>().ok())
        });
        Server { child, log: Some(log), url: format!("https://127.0.0.1:{port}") }
    }

    /// Starts a server that is expected to refuse; what it said.
    pub(crate) fn start_refused(&self) -> String {
        let output = self.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        logs::tee("journey-server", &text);
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    }

    /// The fingerprint that the server prints, as `openssl` computes it: of its authority's public key.
    pub(crate) fn fingerprint(&self) -> String {
        let script =
            "openssl x509 -pubkey -noout -in \"$0\" | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
        let output = Command::new("sh").args(["-c", script]).arg(self.data().join("ca.crt")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').next().unwrap().to_owned()
    }

    pub(crate) fn cairn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.cairn_with(arguments, "")
    }

    pub(crate) fn cairn_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(cairn_program());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("CAIRN_HOME", self.path("home")).args(arguments);
        command
    }

    /// A command whose document shows a secret once, in this field: from now on no log may hold it.
    pub(crate) fn cairn_secretly<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, field: &str) -> Value {
        let output = self.cairn_command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        logs::plant_as("shown once", document[field].as_str().unwrap());
        document
    }

    pub(crate) fn cairn_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &str) -> Ran {
        let mut command = self.cairn_command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        Ran::of(&child.wait_with_output().unwrap(), "journey-cairn")
    }

    /// The first login: trusts the fingerprint and replaces the first password.
    pub(crate) fn first_login(&self, server: &Server) {
        let trust = self.fingerprint();
        let (first, password) = (self.path("first-password"), self.path("password"));
        self.cairn([
            OsStr::new("login"),
            OsStr::new(&server.url),
            OsStr::new("--user"),
            OsStr::new("admin@localhost"),
            OsStr::new("--trust"),
            OsStr::new(&trust),
            OsStr::new("--password-file"),
            first.as_os_str(),
            OsStr::new("--new-password-file"),
            password.as_os_str(),
        ])
        .ok();
    }

    /// A later login, as the port changes with each start.
    pub(crate) fn login(&self, server: &Server) {
        let trust = self.fingerprint();
        let password = self.path("password");
        let arguments = [
            "login",
            &server.url,
            "--user",
            "admin@localhost",
            "--trust",
            &trust,
            "--password-file",
            password.to_str().unwrap(),
        ];
        self.cairn(arguments).ok();
    }

    /// The newest job when it has ended.
    pub(crate) fn job_ended(&self) -> Value {
        until("the job's end", || {
            let jobs = self.cairn(["jobs", "list", "-o", "json"]).ok().json();
            let job = jobs.get(0)?.clone();
            let status = job.get("status")?.as_str()?.to_owned();
            ["completed", "partial", "failed", "cancelled"].contains(&status.as_str()).then_some(job)
        })
    }
}

impl Server {
    fn end(&mut self) -> String {
        self.log.take().map(|log| log.join().unwrap()).unwrap_or_default()
    }

    /// Asks it to stop; what it logged.
    pub(crate) fn stop(mut self) -> String {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let status = self.child.wait().unwrap();
        let log = self.end();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// Kills it with -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.end();
    }

    /// The most memory that it ever held, in kB.
    pub(crate) fn peak_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.end();
        if std::thread::panicking() {
            eprintln!("{log}");
        } else {
            assert!(!log.contains(" ERROR "), "an error was logged: {log}");
        }
    }
}
