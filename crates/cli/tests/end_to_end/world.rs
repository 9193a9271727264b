//! One test's world: a home directory, a server, and the real binary run against it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::double::{Double, Identity, Reply, Request};

/// The session of a sign-in, and the command line's own.
pub(crate) const FIRST_TOKEN: &str = "planted-first-token";
pub(crate) const TOKEN: &str = "planted-session-token";
pub(crate) const PASSWORD: &str = "planted-one-time-password";
pub(crate) const NEW_PASSWORD: &str = "planted-new-password";
/// Of somebody who has a second factor.
pub(crate) const TWO_STEP_PASSWORD: &str = "planted-two-step-password";
pub(crate) const CODE: &str = "123456";
pub(crate) const RECOVERY_CODE: &str = "aaaa-bbbb-cccc-dddd";

/// What a run of `cairn` left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        for secret in [FIRST_TOKEN, TOKEN, PASSWORD, NEW_PASSWORD, TWO_STEP_PASSWORD, RECOVERY_CODE] {
            assert!(!self.out.contains(secret) && !self.err.contains(secret), "{self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "`{text}` is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {self:#?}"))
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) identity: Identity,
    pub(crate) server: Double,
}

impl World {
    /// A server with these answers besides those about sessions.
    pub(crate) fn new(handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let identity = Identity::self_signed();
        let server = Double::start(&identity, with_sessions(handler));
        Self { dir: tempfile::tempdir().unwrap(), identity, server }
    }

    /// The same, signed in.
    pub(crate) fn signed_in(handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let world = Self::new(handler);
        world.login().expect(0);
        world
    }

    pub(crate) fn login(&self) -> Run {
        let password = self.file("password", NEW_PASSWORD);
        let (url, fingerprint) = (self.server.url(), self.identity.fingerprint());
        self.run(&["login", &url, "--user", "ann@example.com", "--password-file", &password, "--trust", &fingerprint])
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, "", &[])
    }

    pub(crate) fn run_with(&self, args: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Run {
        run(&self.home(), args, stdin, environment)
    }

    /// The requests since the login.
    pub(crate) fn requests(&self) -> Vec<String> {
        let of_login = ["POST /api/v1/sessions", "POST /api/v1/cli-sessions", "DELETE /api/v1/sessions/current"];
        self.server.lines().into_iter().filter(|line| !of_login.contains(&line.as_str())).collect()
    }
}

pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.env_clear().env("CAIRN_HOME", home);
    command
}

pub(crate) fn run(home: &Path, args: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Run {
    let mut child = command(home)
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}_{}", "0".repeat(26))
}

pub(crate) fn me(must_change_password: bool) -> Value {
    wire_form::<wire::session::Me>(json!({
        "kind": "user", "id": id("usr"), "email": "ann@example.com", "name": "Ann", "session": id("ses"),
        "must_change_password": must_change_password, "platform_admin": false,
        "tenants": [{"id": id("ten"), "slug": "acme", "name": "Acme", "role": "tenant-admin", "can": ["nodes:read"]}],
    }))
}

/// What the server would send: the wire type's own form of the value.
pub(crate) fn wire_form<T: serde::Serialize + serde::de::DeserializeOwned>(value: Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value).unwrap()).unwrap()
}

/// Sessions: one user, whose one-time password must be changed and whose new one need not.
fn with_sessions(
    handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| {
        let line = request.line();
        if line == "POST /api/v1/sessions" {
            let body: wire::session::SessionCreate = serde_json::from_str(&request.body).unwrap();
            let must_change = match body.password.as_str() {
                TWO_STEP_PASSWORD => {
                    let needed = json!({"token": "between", "expires_at": "2026-11-22T11:00:00.000Z", "methods": ["totp", "recovery-code"]});
                    return Reply::Json(202, wire_form::<wire::session::SecondStepNeeded>(needed));
                }
                PASSWORD => true,
                NEW_PASSWORD => false,
                _ => return Reply::problem(401, "unauthenticated", "sign in first"),
            };
            let session =
                json!({"token": FIRST_TOKEN, "expires_at": "2026-11-22T11:00:00.000Z", "me": me(must_change)});
            return Reply::Json(201, wire_form::<wire::session::SessionCreated>(session));
        }
        if line == "POST /api/v1/sessions/second-step" {
            let body: wire::session::SecondStep = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body.token, "between");
            if body.code.as_deref() != Some(CODE) && body.recovery_code.as_deref() != Some(RECOVERY_CODE) {
                return Reply::problem(401, "unauthenticated", "sign in first");
            }
            let session = json!({"token": FIRST_TOKEN, "expires_at": "2026-11-22T11:00:00.000Z", "me": me(false)});
            return Reply::Json(201, wire_form::<wire::session::SessionCreated>(session));
        }
        if request.token.as_deref() == Some(FIRST_TOKEN) {
            return match line.as_str() {
                "POST /api/v1/cli-sessions" => {
                    assert!(request.json()["client"].as_str().unwrap().starts_with("cairn "));
                    let made = json!({"token": TOKEN, "expires_at": "2026-12-22T11:00:00.000Z", "me": me(false)});
                    Reply::Json(201, wire_form::<wire::cli_session::CliSessionCreated>(made))
                }
                "POST /api/v1/me/password" | "DELETE /api/v1/sessions/current" => Reply::Json(204, Value::Null),
                _ => Reply::problem(403, "forbidden", "the first session is for nothing else"),
            };
        }
        if line.starts_with("POST /api/v1/device-") {
            return handler(request).unwrap();
        }
        if request.token.as_deref() != Some(TOKEN) {
            return Reply::problem(401, "unauthenticated", "sign in first");
        }
        if let Some(reply) = handler(request) {
            return reply;
        }
        match line.as_str() {
            "GET /api/v1/me" => Reply::Json(200, me(false)),
            "POST /api/v1/me/password" | "DELETE /api/v1/sessions/current" => Reply::Json(204, Value::Null),
            _ => Reply::problem(404, "not_found", "there is no such thing"),
        }
    }
}
