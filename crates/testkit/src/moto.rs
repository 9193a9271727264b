//! moto, a double of AWS, as a private server of one test: its own process, its own free port, its own account.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::suite;

/// A running moto server. It ends when this is dropped.
pub struct Moto {
    /// `http://127.0.0.1:<port>`, for `endpoint_url`.
    pub url: String,
    child: Child,
    venv: PathBuf,
}

/// The Python environment that `cargo xtask setup` makes: `CAIRN_MOTO_VENV`, else `.venv` of the workspace.
fn venv() -> PathBuf {
    let venv = suite::env("CAIRN_MOTO_VENV").map_or_else(|| suite::workspace().join(".venv"), PathBuf::from);
    let server = venv.join("bin/moto_server");
    assert!(
        server.is_file(),
        "{} is missing: run `cargo xtask setup`, or name a venv in CAIRN_MOTO_VENV",
        server.display()
    );
    venv
}

impl Moto {
    /// Starts a server and waits until it answers. It is the account `123456789012`.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a server that is another account.
    pub fn start_as(account: &str) -> Self {
        Self::start_with(Some(account))
    }

    fn start_with(account: Option<&str>) -> Self {
        let venv = venv();
        // moto cannot be told to take a free port: ask the system for one, and try again when somebody else was faster.
        for _ in 0..5 {
            let port =
                TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a free port").port();
            let mut child = Command::new(venv.join("bin/moto_server"))
                .envs(account.map(|account| ("MOTO_ACCOUNT_ID", account)))
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                // The variable makes moto know the policies that AWS itself manages.
                .env("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
                // Certificates stay as they are: by default they are issued a minute after they were asked for.
                .env("MOTO_ACM_VALIDATION_WAIT", "86400")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("moto_server starts");
            let deadline = Instant::now() + Duration::from_secs(90);
            while Instant::now() < deadline {
                if child.try_wait().expect("moto_server can be asked").is_some() {
                    break;
                }
                if answers(port) {
                    return Self { url: format!("http://127.0.0.1:{port}"), child, venv };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("moto_server did not answer: run `{}/bin/moto_server` to see why", venv.display());
    }

    /// Fills the account with `peers/seed_aws.py` and returns what it printed: one JSON object of the ids that it made.
    pub fn seed(&self) -> serde_json::Value {
        let output = Command::new(self.venv.join("bin/python"))
            .arg(suite::workspace().join("crates/testkit/peers/seed_aws.py"))
            .arg(&self.url)
            .env_remove("AWS_PROFILE")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .expect("python starts");
        assert!(output.status.success(), "seed_aws.py failed:\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("seed_aws.py prints JSON")
    }

    /// Runs a script of `peers/` with the environment's Python and returns whether it succeeded and what it printed.
    pub fn python(script: &str, args: &[&str]) -> (bool, String) {
        let output = Command::new(venv().join("bin/python"))
            .arg(suite::workspace().join("crates/testkit/peers").join(script))
            .args(args)
            .output()
            .expect("python starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let request = format!("GET /moto-api/data.json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut start = [0u8; 12];
    stream.write_all(request.as_bytes()).is_ok() && stream.read_exact(&mut start).is_ok() && start.ends_with(b"200")
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
