//! Two network namespaces with a cable between them: one to look from, one with as many hosts as a test needs. Needs root.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace, kept by a process that ends when its input is closed, also by our death.
struct Space(Child);

impl Space {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` runs: `cargo xtask setup` installs util-linux");
        // What comes back says that the namespace is there.
        let mut line = String::new();
        child.stdin.as_mut().expect("a pipe").write_all(b"ready\n").expect("`unshare --net` makes a namespace");
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("cat answers");
        assert_eq!(line, "ready\n", "this machine makes no network namespaces: run as root, with CAP_SYS_ADMIN");
        Self(child)
    }

    fn run(&self, command: &str) {
        let target = self.0.id().to_string();
        let output = Command::new("nsenter")
            .args(["--net", "--target", &target, "sh", "-ec", command])
            .output()
            .expect("`nsenter` runs: `cargo xtask setup` installs util-linux");
        assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).expect("the namespace is there");
        let inside = || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The two namespaces. `10.99.0.1` and `fd99::1` look at `10.99.0.2` and `fd99::2`, which is the way to everything else.
pub struct Lab {
    here: Space,
    there: Space,
}

impl Lab {
    /// Makes them.
    #[expect(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        let (here, there) = (Space::new(), Space::new());
        here.run(&format!(
            "ip link set lo up; ip link add v0 type veth peer name v1 netns {}; ip addr add 10.99.0.1/24 dev v0; \
             ip addr add fd99::1/64 dev v0 nodad; ip link set v0 up",
            there.0.id()
        ));
        there.run(
            "ip link set lo up; ip addr add 10.99.0.2/24 dev v1; ip addr add fd99::2/64 dev v1 nodad; ip link set v1 up",
        );
        here.run("ip route add default via 10.99.0.2; ip -6 route add default via fd99::2");
        Self { here, there }
    }

    /// Runs shell commands on the far side, such as `ip route add local 10.50.0.0/20 dev lo`, which makes 4,096 hosts.
    pub fn hosts(&self, command: &str) {
        self.there.run(command);
    }

    /// Runs shell commands on the near side: routes that lead nowhere, say.
    pub fn near(&self, command: &str) {
        self.here.run(command);
    }

    /// Does something on the far side: listens, say. Threads that it starts are there too.
    pub fn there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.there.enter(work)
    }

    /// What starts a program on the near side, before the program's own words.
    pub fn here_words(&self) -> Vec<String> {
        ["nsenter", "--net", "--target", &self.here.0.id().to_string()].map(str::to_owned).to_vec()
    }

    /// Does something on the near side.
    pub fn here<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.here.enter(work)
    }
}
