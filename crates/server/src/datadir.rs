//! The data directory: for its owner only, held by one server at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The embedded database's file.
pub(crate) const DATABASE: &str = "cairn.db";
/// The master key's file, where the configuration names no other.
pub(crate) const MASTER_KEY: &str = "master.key";
/// The folder of artifacts.
pub(crate) const BLOBS: &str = "blobs";
/// How far the vault in the database has come.
pub(crate) const WITNESS: &str = "vault.witness";
/// The newest signed head of each audit log.
pub(crate) const LOG_HEADS: &str = "log-heads";
/// The file that a running server holds.
pub(crate) const LOCK: &str = "lock";

/// The data directory of a running server.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Holds the lock until the process ends.
    _lock: File,
}

impl DataDir {
    /// Opens the directory, making it when it is absent (0700), and refuses one that others may read or that another server holds.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot make the data directory `{}`: check the disk and its permissions", path.display())
        })?;
        check_owner_only(path, &fs::metadata(path)?, "700").context("the data directory")?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| format!("cannot write to the data directory `{}`", path.display()))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another cairn-server holds `{}`: stop it first, or use another data directory", path.display());
        }
        Ok(Self { path: path.canonicalize()?, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Refuses what others may read, and what belongs to another user than the one that we are (root's is never somebody else's).
pub(crate) fn check_owner_only(path: &Path, found: &fs::Metadata, right: &str) -> anyhow::Result<()> {
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("`{0}` is open to others (mode {mode:03o}): run `chmod {right} {0}`", path.display());
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        bail!(
            "`{}` belongs to user {} and this is user {us}: start as its owner, or change it",
            path.display(),
            found.uid()
        );
    }
    Ok(())
}

/// The folder that a file is in; one that is named without a folder is in the one of the process.
fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Makes sure that a file's name survives a crash.
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    folder_of(path).map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Writes a file that only its owner may read: whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    };
    write().with_context(|| format!("cannot write `{}`: check the disk and its permissions", path.display()))
}

/// Reads a file with a secret; refuses one that others may read.
pub(crate) fn read_private(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    check_owner_only(path, &file.metadata()?, "600")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_named_without_a_folder_has_one() {
        for (path, folder) in [("port", "."), ("./port", "."), ("a/port", "a"), ("/port", "/")] {
            assert_eq!(folder_of(Path::new(path)), Some(Path::new(folder)), "{path}");
            assert!(path.starts_with("a/") || sync_folder(Path::new(path)).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_directory_is_for_its_owner_and_for_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(DataDir::open(&path).unwrap_err().to_string().contains("another cairn-server"));
        drop(first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(format!("{:#}", DataDir::open(&path).unwrap_err()).contains("chmod 700"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        // Root, as which the suite may run, can give it away; nobody else has anything to test here.
        if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
            assert!(format!("{:#}", DataDir::open(&path).unwrap_err()).contains("belongs to user 65534"));
        }
    }
}
