//! The real `kubectl` of the person who is signed in, in front of whatever cluster the test has.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::world::{Ran, World, until};

/// `kubectl` with contexts that `cairn use` wrote.
pub(crate) fn kubectl(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", world.path("home"))
        .env("CAIRN_HOME", world.path("home"))
        .env("KUBECONFIG", world.path("kubeconfig"))
        .stdin(Stdio::null());
    command
}

/// `cairn use`, as the same person.
pub(crate) fn select(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.cairn_command([&["use"], arguments].concat());
    let output = command.env("KUBECONFIG", world.path("kubeconfig")).output().unwrap();
    Ran::of(&output, "journey-cairn")
}

/// Grants this role at `prod` to who is signed in: the grant's id.
pub(crate) fn grant(world: &World, role: &str, more: &[&str]) -> String {
    let words = ["grants", "create", role, "--user", "admin@localhost", "--destination", "prod", "-o", "json"];
    let made = world.cairn([&words[..], more].concat()).ok().json();
    made["id"].as_str().unwrap().to_owned()
}

/// What the audit log says of calls, newest first.
pub(crate) fn records(world: &World) -> Vec<serde_json::Value> {
    let words = ["audit", "list", "--action", "kubernetes_call", "--all", "-o", "json"];
    world.cairn(words).ok().json().as_array().unwrap().clone()
}

/// Begins one that goes on.
pub(crate) fn begin(mut command: Command) -> Going {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let (stdin, lines) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
    Going { child, stdin, lines }
}

/// A `kubectl` that goes on.
pub(crate) struct Going {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Going {
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ends(mut self) {
        let mut rest = Vec::new();
        let _ = self.lines.read_to_end(&mut rest);
        until("the end of kubectl", || self.child.try_wait().unwrap());
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
