//! Where a run of the suite keeps its files, and the few things that tests take from the machine.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// An environment variable that is set and not empty.
pub fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// Cargo's target folder of this run: the one that holds the running test, else `target` of the workspace.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let marked = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// Unpredictable hex digits, two for each byte.
pub fn fresh_hex(bytes: usize) -> String {
    let mut random = vec![0u8; bytes];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).expect("/dev/urandom is readable");
    random.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_holds_the_running_test() {
        assert!(std::env::current_exe().unwrap().starts_with(target_dir()));
    }

    #[test]
    fn hex_is_fresh() {
        assert_eq!(fresh_hex(16).len(), 32);
        assert_ne!(fresh_hex(16), fresh_hex(16));
    }
}
