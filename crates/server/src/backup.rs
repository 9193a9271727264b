//! `cairn-server backup` and `restore`: everything of an installation in one encrypted file, and back on an empty machine.
//!
//! **Not for** the rows (`store`) or the file's format (`archive.rs`, `frame.rs`).
//!
//! Invariants:
//! - a backup is one moment of the database with every artifact that it names, taken while the server works;
//! - the master key is not in it and seals it: who has the file alone has nothing;
//! - a restore touches nothing that is in use, checks every byte, and appears whole or not at all.

mod archive;
mod create;
mod frame;
mod restore;

pub(crate) use create::create;
#[cfg(test)]
pub(crate) use create::tests::read_all;
pub(crate) use restore::restore;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{OpCtx, ops};
use anyhow::bail;
use crypto::aead::AeadKey;
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng};
use serde::Serialize;
use store::{OpenOptions, Store};

use crate::config::Config;
use crate::datadir;

/// What `cairn-server backup` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArguments {
    /// The file to write; it must not exist.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Also copy the master key to this file, which must not exist. Keep the two apart: together they are everything.
    #[arg(long, value_name = "KEYFILE")]
    with_master_key: Option<PathBuf>,
    /// Leave out artifacts that are missing or damaged here, and list them, instead of stopping.
    #[arg(long)]
    skip_damaged: bool,
    /// Say what was done as JSON on standard output, and nothing while it is done.
    #[arg(long)]
    json: bool,
}

/// What `cairn-server restore` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The master key of the installation that was backed up, or `master.wrapped` with a key provider [default: what the configuration names].
    #[arg(long, value_name = "KEYFILE")]
    master_key: Option<PathBuf>,
    /// Say what was done as JSON on standard output, and nothing while it is done.
    #[arg(long)]
    json: bool,
}

/// At the first start after a restore: the mark that going back in time was meant goes away, with a record.
pub(crate) async fn accept_restored(store: &Store, clock: &Arc<dyn Clock>, rng: &Arc<dyn Rng>) -> anyhow::Result<()> {
    if store.restored().await?.is_none() {
        return Ok(());
    }
    let ctx = OpCtx::system_platform("first-start-after-restore", Arc::clone(clock), Arc::clone(rng));
    let unit = store.write_platform(ctx.authorize_platform::<ops::RestoreAccept>()?).await?;
    if let Some(restored) = unit.restore_accept().await? {
        tracing::warn!(backup = %restored.backup, taken_at = %restored.taken_at, "this installation was restored: what happened after the backup is not here");
    }
    Ok(())
}

/// The database and keys that the configuration names, for a data directory at `data`.
fn options(config: &Config, data: &Path, master: AeadKey) -> OpenOptions {
    let sqlite = || format!("sqlite:{}", data.join(datadir::DATABASE).display());
    OpenOptions {
        url: config.database.url.clone().unwrap_or_else(sqlite),
        owner_url: config.database.owner_url.clone(),
        master,
        // The copy outside is the running server's to raise, and a restore begins a new one.
        vault: store::VaultOptions::default(),
        blobs: data.join(datadir::BLOBS),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
    }
}

fn is_postgres(config: &Config) -> bool {
    config.database.url.as_deref().is_some_and(|url| url.starts_with("postgres"))
}

/// Refuses to write over a file.
fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("`{}` exists already: give another name; nothing was written", path.display());
    }
    Ok(())
}

/// What both commands say in the end.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    backup: domain::BackupId,
    taken_at: domain::Timestamp,
    version: String,
    engine: String,
    schema: store::Schema,
    tables: u64,
    rows: u64,
    artifacts: u64,
    /// Bytes before compression.
    content_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_sha256: Option<domain::Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<PathBuf>,
    skipped: Vec<String>,
}

impl Report {
    fn say(&self, json: bool, text: &str) -> anyhow::Result<()> {
        if json {
            let mut out = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
        } else {
            crate::say(text);
            for skipped in &self.skipped {
                crate::say(&format!("  not in it: {skipped}"));
            }
        }
        Ok(())
    }
}

/// A line a second for people while something takes longer.
struct Progress {
    quiet: bool,
    said: Instant,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        Self { quiet, said: Instant::now() }
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if !self.quiet && self.said.elapsed() >= Duration::from_secs(1) {
            self.said = Instant::now();
            crate::say(&format!("  {}", line()));
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// What to do about a disk that is full, where that is what an error says.
fn advise(error: std::io::Error, path: &Path) -> anyhow::Error {
    use std::io::ErrorKind;
    let what = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full: free some space, then try again",
        ErrorKind::InvalidData => return anyhow::Error::new(error),
        _ => "check the disk and its permissions",
    };
    anyhow::Error::new(error).context(format!("cannot write `{}`: {what}", path.display()))
}
