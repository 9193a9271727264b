//! Programs that tests start as another user, and what of them no other process may look into.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The user that nobody is: `nobody`.
const NOBODY: u32 = 65_534;
/// How long a program may take to begin.
const PATIENCE: Duration = Duration::from_mins(1);

/// A file that nobody reads but [`NOBODY`], in a folder that is theirs.
pub fn private_file_of_nobody(folder: &Path, name: &str, content: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, content).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
    for path in [folder, &file] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("its owner: run this test as root");
    }
    file
}

/// A program that runs until this is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Waits until it has dialed the listener.
    pub fn dials(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).expect("a socket that does not wait");
        let begun = Instant::now();
        loop {
            if let Ok((stream, _)) = listener.accept() {
                return stream;
            }
            let ended = self.0.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended before it dialed: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "it does not dial");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// No core dump is written of it, and no process of its user looks into its memory.
    pub fn keeps_its_memory_private(&self) {
        assert_eq!(core_limits(self.0.id()), ["0", "0"]);
        // The memory of what may be dumped is its user's in /proc, and of everything else root's.
        let memory = fs::metadata(format!("/proc/{}/mem", self.0.id())).expect("its memory");
        assert_eq!(memory.uid(), 0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the kernel writes of a process at most when it crashes: the soft and the hard limit.
pub fn core_limits(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("the line");
    line.split_whitespace().take(2).map(str::to_owned).collect()
}
