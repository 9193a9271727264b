//! `cargo xtask up`: from a fresh checkout to a running server.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::run;
use crate::workspace::Workspace;
use crate::{console, setup};

const REPORT_EVERY: Duration = Duration::from_mins(1);

/// Builds, says what comes next, and becomes the server: Ctrl-C and every other signal reach it directly.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    console(workspace);
    build(workspace)?;
    let bin = workspace.target.join("release");
    println!("next, in another terminal:");
    println!("  export PATH=\"{}:$PATH\"", bin.display());
    println!(
        "  cairn login https://127.0.0.1:8443      (shows the server's fingerprint: compare it with the one below)"
    );
    println!("  cairn findings list");
    println!("starting the server; Ctrl-C ends it, `cargo xtask up` starts it again with the same data\n");
    let server = bin.join("cairn-server");
    let error = Command::new(&server).current_dir(&workspace.root).args(server_args(args)).exec();
    Err(error).with_context(|| format!("cannot start {}", server.display()))
}

/// The web console, if it can be built here. The server is worth starting without it, and says at `/` what is missing.
fn console(workspace: &Workspace) {
    if let Err(error) = setup::console().and_then(|()| console::build(workspace).map(drop)) {
        eprintln!("going on without the web console: {error:#}");
    }
}

/// Ours come first; another data folder may be named instead.
fn server_args(args: &[String]) -> Vec<String> {
    let named = args.iter().any(|arg| arg == "--data-dir" || arg.starts_with("--data-dir="));
    let ours = if named { Vec::new() } else { vec!["--data-dir".to_owned(), "data".to_owned()] };
    ours.into_iter().chain(args.iter().cloned()).collect()
}

fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let begun = Instant::now();
    println!(
        "building cairn-server and cairn (release): about 10 minutes on two cores the first time, seconds after that"
    );
    let mut child = run::cargo(workspace, &["build", "--release", "--locked", "-p", "server", "-p", "cli"]).spawn()?;
    let (done, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let status = std::thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(REPORT_EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("   … building for {}", run::duration(begun.elapsed()));
            }
        });
        let status = child.wait();
        drop(done);
        status
    })?;
    if !status.success() {
        anyhow::bail!("the build failed: the messages above say where");
    }
    println!("built in {}", run::duration(begun.elapsed()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_can_be_chosen_and_options_are_passed_on() {
        let args = |given: &[&str]| server_args(&given.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).join(" ");
        assert_eq!(args(&[]), "--data-dir data");
        assert_eq!(args(&["--config", "x.toml"]), "--data-dir data --config x.toml");
        assert_eq!(args(&["--data-dir=/srv"]), "--data-dir=/srv");
        assert_eq!(args(&["--data-dir", "/srv"]), "--data-dir /srv");
    }
}
