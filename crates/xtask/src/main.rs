//! The project's own commands: `cargo xtask up`, `test`, and what they are made of.
//!
//! **Not for** anything that ships: nothing depends on this crate, and it depends on none of ours, so that it builds in seconds on
//! a fresh machine.
//!
//! Invariants:
//! - a step that did not succeed makes the exit code 1, and is named;
//! - what is missing on the machine is installed or its exact install command printed: no step is skipped;
//! - `.ci/run` is `cargo xtask test`: there is no other definition of what has to pass.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its terminal")]

mod bench;
mod console;
mod deb;
mod fips;
mod golden;
mod image;
mod planted;
mod run;
mod setup;
mod suite;
mod tidy;
mod up;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
cargo xtask <command>

  up [SERVER OPTIONS]      build (release) and run cairn-server with its data in `data/`
  test [--advisories] [RUNNER OPTIONS]
                           set up, check and test everything; options go to `cargo nextest run` or `cargo test`
  setup                    install what the tests need
  console                  build the web console into the folder that the server embeds
  browser [--screens]      run the console's tests in Chromium; with the option also write docs/screens anew
  tidy                     check the rules of the house: crate edges, file sizes, lints, headers, documents
  bench [NAME]             run the benchmarks and compare them with their goals
  deb [PROGRAM]            pack the agent as a Debian package, in target/deb
  image NAME [--fips] [PROGRAM]
                           make the container image of `server` or `relay`, in target/image
  fips                     build with the FIPS module, check what is linked, run its tests and one server (minutes)
  golden [TEST OPTIONS]    write the golden files anew
  openapi                  write openapi/ anew
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let known = |run: fn(&Workspace, &[String]) -> anyhow::Result<()>| {
        let result = Workspace::find().and_then(|workspace| run(&workspace, &rest));
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("error: {e:#}");
                ExitCode::FAILURE
            }
        }
    };
    match command.as_str() {
        "up" => known(up::run),
        "test" => suite::main(&rest),
        "setup" => known(setup::run),
        "console" => known(console::run),
        "browser" => known(console::browser),
        "tidy" => known(tidy::run),
        "bench" => known(bench::run),
        "deb" => known(deb::run),
        "image" => known(image::run),
        "fips" => known(fips::run),
        "golden" => known(golden::run),
        "openapi" => known(golden::openapi),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        other => {
            eprint!("error: there is no command `{other}`\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}
