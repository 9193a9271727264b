//! `cargo xtask golden` and `openapi`: write the committed outputs anew. The change is then read in the commit's diff.

use anyhow::bail;

use crate::run;
use crate::suite::Counts;
use crate::workspace::Workspace;

/// Runs the tests (all, or those that the options name) in writing mode.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    let all: &[&str] = if run::names_package(args) { &[] } else { &["--workspace"] };
    write(workspace, &[&["test", "--no-fail-fast"], all].concat(), args)
}

/// The OpenAPI document only.
pub(crate) fn openapi(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("`openapi` takes no option `{arg}`");
    }
    write(workspace, &["test", "-p", "api", "openapi"], &[])
}

fn write(workspace: &Workspace, command: &[&str], args: &[String]) -> anyhow::Result<()> {
    let mut counts = Counts::default();
    run::watch(run::cargo(workspace, command).args(args).env("CAIRN_UPDATE_GOLDEN", "1"), |line| counts.see(line))?;
    if counts.passed == 0 {
        bail!("no test ran, so nothing was written: check the test's name");
    }
    println!("{} tests ran; read what changed with `git diff`", counts.passed);
    Ok(())
}
