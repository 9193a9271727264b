//! npm's `oidc-provider`, a certified OpenID provider, as a private server of one test: its own process, its own free port, its own users.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::suite;

/// A running provider. It ends when this is dropped, also when the test process is killed: it reads until its standard input ends.
pub struct OidcProvider {
    /// Its issuer, `http://127.0.0.1:<port>`.
    pub issuer: String,
    child: Child,
    /// Held so that it can go on writing: it warns of its defaults when they are first used.
    _output: BufReader<ChildStdout>,
    _config: tempfile::NamedTempFile,
}

impl OidcProvider {
    /// Starts a provider with one client and these users (`{"SUBJECT": {claims}}`), and waits until it listens.
    pub fn start(client_id: &str, client_secret: &str, redirect_uri: &str, users: &Value) -> Self {
        let folder = suite::workspace().join("crates/testkit/peers/oidc");
        assert!(
            folder.join("node_modules/oidc-provider").is_dir(),
            "{} lacks its modules: run `cargo xtask setup`",
            folder.display()
        );
        let settings = json!({
            "client_id": client_id,
            "client_secret": client_secret,
            "redirect_uris": [redirect_uri],
            "users": users,
        });
        let mut config = tempfile::NamedTempFile::new().expect("a temporary file");
        config.write_all(settings.to_string().as_bytes()).expect("the settings can be written");
        let mut child = Command::new("node")
            .arg(folder.join("provider.mjs"))
            .arg(config.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts: `cargo xtask setup` installs it");
        let mut lines = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = String::new();
        // Warnings about its defaults come first.
        while !line.starts_with('{') {
            line.clear();
            let read = lines.read_line(&mut line).expect("its output can be read");
            assert!(read > 0, "the provider ended: run `node {}` to see why", folder.join("provider.mjs").display());
        }
        let said: Value = serde_json::from_str(&line).expect("it prints JSON");
        let issuer = said["issuer"].as_str().expect("it prints its issuer").to_owned();
        Self { issuer, child, _output: lines, _config: config }
    }

    /// Changes what it thinks of its users: `{"SUBJECT": {claims}}`, or `null` for one who is gone.
    pub fn set_users(&self, users: &Value) {
        let host = self.issuer.trim_start_matches("http://");
        let body = users.to_string();
        let mut stream = TcpStream::connect(host).expect("the provider listens");
        let request = format!(
            "POST /test/users HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the provider reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the provider answers");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
