//! A relay of its own for each test, on a cable.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use testkit::cable::Cable;
use testkit::logs;

use crate::world::{Server, World, until};

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    pub(crate) id: String,
}

fn program() -> std::path::PathBuf {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_cairn-server")).with_file_name("cairn-relay");
    assert!(
        program.exists(),
        "`cairn-relay` is not built: run the suite with `cargo xtask test`, or `cargo build -p relay` first"
    );
    program
}

pub(crate) fn port(server: &Server) -> u16 {
    server.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A request as the person who is signed in with `cairn`.
pub(crate) fn api(world: &World, server: &Server, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    fn token(value: &Value) -> Option<String> {
        match value {
            Value::Object(fields) => fields
                .get("token")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .or_else(|| fields.values().find_map(token)),
            _ => None,
        }
    }
    let kept: Value = serde_json::from_slice(&fs::read(world.path("home").join("config.json")).unwrap()).unwrap();
    let token = token(&kept).unwrap();
    let authority = reqwest::Certificate::from_pem(&fs::read(world.data().join("ca.crt")).unwrap()).unwrap();
    crypto::tls::install();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("{}/api/v1/tenants/default/{path}", server.url);
        let mut request = client.request(method.parse().unwrap(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    })
}

impl Relay {
    /// Starts a relay that enrolls itself if it did not before, and waits until it is connected.
    pub(crate) fn start(world: &World, server: &Server, cable: &Cable, extra: &[(&str, &str)]) -> Self {
        let mut relay = Self::begin(world, server, cable, extra);
        relay.connects(world);
        relay
    }

    /// The same on a machine whose only writable place is the relay's folder.
    pub(crate) fn start_read_only(world: &World, server: &Server, cable: &Cable) -> Self {
        let folder = world.path("relay");
        let mut made = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700).create(&folder).unwrap();
        // In a namespace of its own: nobody else's mounts change.
        let script = "mount --bind \"$1\" \"$1\"
            while read -r _ place _; do
                case \"$place\" in \"$1\"|/proc*|/sys*) ;; *) mount -o remount,bind,ro \"$place\" ;; esac
            done </proc/self/mounts
            for place in / /tmp /var/tmp /dev/shm /run \"$HOME\" \"$TMPDIR\"; do
                if [ -d \"$place\" ] && touch \"$place/written\" 2>/dev/null; then echo \"$place can be written\" >&2; exit 9; fi
            done
            touch \"$1/written\" && rm \"$1/written\" && shift && exec \"$@\"";
        let folder = folder.to_str().unwrap();
        let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", folder];
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts the root file system read-only: run it as root"
        );
        let mut relay = Self::begin_under(&wrapper, world, server, cable, &[]);
        relay.connects(world);
        relay
    }

    /// The same behind other words that start it: in a network of its own, say.
    pub(crate) fn start_under(wrapper: &[String], world: &World, server: &Server, cable: &Cable) -> Self {
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let mut relay = Self::begin_under(&wrapper, world, server, cable, &[]);
        relay.connects(world);
        relay
    }

    /// Starts one and waits for nothing.
    pub(crate) fn begin(world: &World, server: &Server, cable: &Cable, extra: &[(&str, &str)]) -> Self {
        Self::begin_under(&[], world, server, cable, extra)
    }

    fn connects(&mut self, world: &World) {
        self.says("connected");
        let identity: Value =
            serde_json::from_slice(&fs::read(world.path("relay").join("identity.json")).unwrap()).unwrap();
        identity["id"].as_str().unwrap().clone_into(&mut self.id);
    }

    fn begin_under(wrapper: &[&str], world: &World, server: &Server, cable: &Cable, extra: &[(&str, &str)]) -> Self {
        let folder = world.path("relay");
        let mut words = wrapper.iter().map(std::ffi::OsString::from).chain([program().into()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", world.path("relay-home"))
            .env("TMPDIR", world.path("relay-tmp"))
            .env("RELAY_SERVER", format!("https://127.0.0.1:{}", cable.port()))
            .env("RELAY_NAME", "rly-1")
            .env("RELAY_DATA_DIR", &folder)
            .env("RELAY_CA_CERT", authorities(world));
        for (name, value) in extra {
            command.env(name, value);
        }
        for folder in ["relay-home", "relay-tmp"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        if !folder.join("identity.json").exists() && extra.iter().all(|(name, _)| *name != "RELAY_TOKEN") {
            let body = serde_json::json!({"kind": "relay"});
            let (status, made) = api(world, server, "POST", "enrollment-tokens", Some(&body));
            assert_eq!(status, 201, "{made}");
            let token = made["token"].as_str().unwrap();
            logs::plant_as("enrollment token", token);
            command.env("RELAY_TOKEN", format!("file:{}", world.private("relay-token", token).display()));
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (pipe, kept) = (child.stderr.take().unwrap(), Arc::clone(&said));
        let reader = std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)).map_while(Result::ok) {
                logs::tee("journey-relay", &line);
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, said, reader: Some(reader), id: String::new() }
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said this.
    pub(crate) fn says(&mut self, text: &str) {
        self.says_times(text, 1);
    }

    /// Waits until it has said this so often.
    pub(crate) fn says_times(&mut self, text: &str, times: usize) {
        until(&format!("the relay saying `{text}`"), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the relay ended with {status}: {}", self.said());
            }
            (self.said().matches(text).count() >= times).then_some(())
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself; its exit code, and what it said.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (code, self.said())
    }

    /// Kills it with -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }

    /// Asks it to stop, and waits for nothing.
    pub(crate) fn ask_to_stop(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap().success());
    }

    /// Asks it to stop; whether it did so in order.
    pub(crate) fn stop(mut self) {
        self.ask_to_stop();
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("relay: {}", self.said());
        }
    }
}

/// The authorities of this world's server, and of others that a test adds.
fn authorities(world: &World) -> std::path::PathBuf {
    let path = world.path("authorities.pem");
    if !path.exists() {
        fs::copy(world.data().join("ca.crt"), &path).unwrap();
    }
    path
}

/// Also trusts another server.
pub(crate) fn trust_also(world: &World, other: &World) {
    let path = authorities(world);
    let both = [fs::read(&path).unwrap(), fs::read(other.data().join("ca.crt")).unwrap()].concat();
    fs::write(&path, both).unwrap();
}
