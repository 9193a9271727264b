//! Plugins of others that are written in Python, installed as somebody would who uses one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::suite::workspace;

/// The Python environment that `cargo xtask setup` makes.
pub fn venv() -> PathBuf {
    let venv = crate::suite::env("CAIRN_MOTO_VENV").map_or_else(|| workspace().join(".venv"), PathBuf::from);
    let grpc = venv.join("bin/python-grpc-tools-protoc");
    assert!(grpc.is_file(), "{} is missing: run `cargo xtask setup`", grpc.display());
    venv
}

/// What such a plugin reads besides the system's folders: the environment, and a Python that does not lie in those.
pub fn runtimes() -> Vec<PathBuf> {
    let venv = venv();
    let python = venv.join("bin/python").canonicalize().expect("a Python");
    let home = python.parent().and_then(Path::parent).expect("its folder").to_owned();
    std::iter::once(venv).chain((home != Path::new("/usr")).then_some(home)).collect()
}

/// The example of this repository.
pub fn example() -> PathBuf {
    workspace().join("examples/plugin-python")
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Copies a plugin's folder to `path`, with the messages that `grpc_tools` makes of the committed `.proto` file.
pub fn install(source: &Path, path: &Path) {
    fs::create_dir(path).expect("a new folder");
    for entry in fs::read_dir(source).expect("the source's folder") {
        let name = entry.expect("a file").file_name();
        if Path::new(&name).extension().is_some_and(|kind| kind == "toml" || kind == "py") {
            fs::copy(source.join(&name), path.join(&name)).expect("a copy");
        }
    }
    let made = Command::new(venv().join("bin/python"))
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(workspace().join("crates/guest/proto"))
        .arg(format!("--python_out={}", path.display()))
        .arg(format!("--grpc_python_out={}", path.display()))
        .arg("plugin.proto")
        .output()
        .expect("grpc_tools");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for entry in fs::read_dir(path).expect("the folder") {
        mode(&entry.expect("a file").path(), 0o644);
    }
    mode(path, 0o755);
}
