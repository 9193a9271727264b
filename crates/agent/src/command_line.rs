//! The command line.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, process_environment};
use crate::{run, talk};

/// The version, and in a FIPS build the module that does the cryptography.
pub(crate) const VERSION: &str = if crypto::fips::is_fips_build() {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS build: AWS-LC-FIPS)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Collects this host and reports what changed to a Cairn server.
#[derive(Debug, Parser)]
#[command(name = "cairn-agent", version = VERSION)]
struct Arguments {
    /// Configuration file (TOML) [default: /etc/cairn-agent/agent.toml, where it is there].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect and report until stopped.
    Run {
        /// Collect once, send it, and end.
        #[arg(long)]
        once: bool,
        /// Print what would be sent instead of sending it: needs no server and no identity, and leaves nothing behind.
        #[arg(long, requires = "once")]
        print: bool,
    },
}

async fn execute(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        Command::Run { print: true, .. } => {
            let mut out = std::io::stdout().lock();
            run::print(&config, &mut out).await?;
            out.flush().map_err(Into::into)
        }
        Command::Run { .. } => anyhow::bail!("this version only prints: use `run --once --print`"),
    }
}

fn try_main(arguments: Arguments) -> anyhow::Result<()> {
    crypto::fips::self_test()?;
    crypto::tls::install();
    // Everything that the agent writes is for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let config = config::load(arguments.config.as_deref(), &process_environment)?;
    if config.agent.quiet {
        talk::quiet();
    }
    // One thread, and two more for reads that block, which end when they are idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .thread_stack_size(512 * 1_024)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()?;
    let ended = runtime.block_on(execute(arguments.command, config));
    // A read that hangs in the kernel must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Runs, and tells how it went.
pub(crate) fn main() -> u8 {
    match try_main(Arguments::parse()) {
        Ok(()) => 0,
        Err(error) => {
            // Whoever closed the pipe has read enough.
            if error.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe) {
                return 0;
            }
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            1
        }
    }
}
