//! The command line.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use crypto::system::{SystemClock, SystemRng};
use domain::{FleetKind, Secret};
use fleet::{Enrolling, Folder};

use crate::config::{self, AgentSection, Config, process_environment};
use crate::status::Status;
use crate::{disk, run, talk};

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
    /// Exchange an enrollment token for an identity of this host.
    Enroll {
        /// File with the token (`et_...`), 0600; `-` for the standard input, which is where it comes from otherwise.
        #[arg(long, value_name = "FILE", default_value = "-")]
        token_file: PathBuf,
        /// What the agent is called [default: the host's name].
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// How the agent that runs on this host is.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
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

/// Longest token, in bytes.
const TOKEN_BYTES: u64 = 1_024;

async fn enroll(agent: &AgentSection, token_file: &Path, name: Option<String>) -> anyhow::Result<()> {
    let connection = run::connection(agent)?;
    let mut token = Vec::new();
    if token_file == Path::new("-") {
        std::io::stdin().lock().take(TOKEN_BYTES).read_to_end(&mut token)?;
    } else {
        let file = std::fs::File::open(token_file)
            .with_context(|| format!("cannot read the token from `{}`", token_file.display()))?;
        file.take(TOKEN_BYTES).read_to_end(&mut token)?;
    }
    let token = Secret::new(token);
    disk::make_folder(&agent.state_dir)
        .with_context(|| format!("cannot make the state directory `{}`", agent.state_dir.display()))?;
    let path = run::identity_folder(agent);
    let folder = Folder::open(&path)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.unwrap_or(host);
    let who = Enrolling { kind: FleetKind::Agent, name: &name, version: env!("CARGO_PKG_VERSION") };
    let identity = connection.enroll(folder, &token, who, Arc::new(SystemClock), Arc::new(SystemRng)).await?;
    give_to_owner(&agent.state_dir, &path)
        .context("the identity cannot be given to the owner of the state directory")?;
    writeln!(std::io::stdout(), "enrolled as {} (`{name}`)", identity.id())?;
    Ok(())
}

/// Whoever enrolls as root does so for the user whose state directory it is.
fn give_to_owner(state: &Path, identity: &Path) -> std::io::Result<()> {
    let owner = std::fs::metadata(state)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Some(owner.uid()), Some(owner.gid()));
    for entry in std::fs::read_dir(identity)? {
        std::os::unix::fs::lchown(entry?.path(), uid, gid)?;
    }
    std::os::unix::fs::lchown(identity, uid, gid)
}

async fn execute(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        Command::Run { print: true, .. } => {
            let mut out = std::io::stdout().lock();
            run::print(&config, &mut out).await?;
            out.flush().map_err(Into::into)
        }
        Command::Run { once: true, .. } => run::once(&config).await,
        Command::Run { .. } => run::run(&config).await,
        Command::Enroll { token_file, name } => enroll(&config.agent, &token_file, name).await,
        Command::Status { json } => {
            let status = Status::read(&config.agent.state_dir)?;
            let mut out = std::io::stdout().lock();
            if json {
                serde_json::to_writer_pretty(&mut out, &status)?;
                writeln!(out)?;
            } else {
                status.show(&mut out)?;
            }
            out.flush().map_err(Into::into)
        }
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
