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
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid, chownat};

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
        /// File with the token (`et_...`), which nobody else may be able to read (0600); `-` for the standard input, which is where it comes from otherwise.
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
    let token = if token_file == Path::new("-") {
        let mut token = Vec::new();
        std::io::stdin().lock().take(TOKEN_BYTES).read_to_end(&mut token)?;
        Secret::new(token)
    } else {
        fleet::read_token(token_file)?
    };
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

/// Whoever enrolls as root does so for the user whose state directory it is. That user may put anything in the identity's place meanwhile: only
/// what root itself made is given away, and no link is followed.
fn give_to_owner(state: &Path, identity: &Path) -> anyhow::Result<()> {
    let owner = std::fs::metadata(state)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(identity, flags, Mode::empty())?;
    if rustix::fs::fstat(&folder)?.st_uid != 0 {
        anyhow::bail!("`{}` is not the folder that was made for it", identity.display());
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())));
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            chownat(&folder, entry.file_name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    rustix::fs::fchown(&folder, uid, gid)?;
    Ok(())
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
    crypto::system::keep_memory_private().context("core dumps cannot be turned off")?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn owner(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn the_identity_goes_to_the_user_of_the_state_directory_and_nothing_in_its_place_does() {
        assert!(rustix::process::geteuid().is_root(), "run this test as root: it gives files to another user");
        let dir = tempfile::tempdir().unwrap();
        let (state, elsewhere) = (dir.path().join("state"), dir.path().join("elsewhere"));
        let identity = state.join("identity");
        for folder in [&state, &elsewhere, &identity] {
            std::fs::create_dir(folder).unwrap();
        }
        for folder in [&elsewhere, &identity] {
            std::fs::write(folder.join("identity.json"), "{}").unwrap();
        }
        symlink(elsewhere.join("identity.json"), identity.join("link")).unwrap();
        chown(&state, Some(65_534), Some(65_534)).unwrap();
        give_to_owner(&state, &identity).unwrap();
        for given in [identity.clone(), identity.join("identity.json"), identity.join("link")] {
            assert_eq!(owner(&given), 65_534, "{}", given.display());
        }
        assert_eq!(owner(&elsewhere.join("identity.json")), 0, "no link is followed");

        // What the user put there instead: a link to a folder of root's, or a folder of its own with something in it.
        let link = state.join("to-root");
        symlink(&elsewhere, &link).unwrap();
        assert!(give_to_owner(&state, &link).is_err());
        let own = state.join("own");
        std::fs::create_dir(&own).unwrap();
        chown(&own, Some(65_534), None).unwrap();
        std::fs::hard_link(elsewhere.join("identity.json"), own.join("identity.json")).unwrap();
        assert!(give_to_owner(&state, &own).is_err());
        assert_eq!((owner(&elsewhere), owner(&elsewhere.join("identity.json"))), (0, 0));
    }
}
