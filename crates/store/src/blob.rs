//! Collected bytes on disk, under the name of their SHA-256: `<blobs>/<tenant>/sha256/ab/cd/<64 hex digits>`.
//!
//! Invariants:
//! - a file is written once, whole or not at all: a temporary file beside it, synced, renamed, the folder synced;
//! - only the server's user may read it (folders 0700, files 0600);
//! - bytes are hashed on every read, and bytes that are not what their name says are never handed out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::{Digest, Error, Result, TenantId};

use crate::Store;

/// One tenant's blobs.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    root: PathBuf,
}

/// Maps a failure to what the operator can do about it.
fn failed(error: &io::Error, path: &Path) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the evidence store's disk is full: free some space, then try again; nothing was changed"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "the evidence store cannot be used: check the disk and the owner and permissions of its folder"
        }
        _ => "the evidence store's disk cannot be read or written: check the disk",
    };
    Error::Unavailable { message: message.to_owned(), detail: format!("{}: {error}", path.display()) }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder and those above it, each one durable before something is put into it.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_dir(above)?;
        match DirBuilder::new().mode(0o700).create(path) {
            // Another task made it in the meantime.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        sync_dir(above)?;
    }
    Ok(())
}

fn write_once(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

impl Blobs {
    pub(crate) fn of(store: &Store, tenant: TenantId) -> Self {
        Self { root: store.inner.blobs.join(tenant.to_string()).join("sha256") }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_hex();
        let (first, rest) = hex.split_at(2);
        let (second, _) = rest.split_at(2);
        self.root.join(first).join(second).join(&hex)
    }

    fn put_now(&self, digest: Digest, bytes: &[u8], suffix: u64) -> Result<()> {
        if crypto::sha256(bytes) != digest {
            return Err(Error::internal(format!("bytes that are to be kept as {digest:?} have another digest")));
        }
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        let Some(dir) = path.parent() else { return Err(Error::internal("a blob has a folder")) };
        make_dir(dir).map_err(|error| failed(&error, dir))?;
        let temporary = dir.join(format!(".{digest}.{suffix:016x}"));
        if let Err(error) = write_once(&path, &temporary, bytes) {
            // What was written so far is worth nothing; if it cannot be removed either, it is in nobody's way.
            let _ = std::fs::remove_file(&temporary);
            return Err(failed(&error, &path));
        }
        sync_dir(dir).map_err(|error| failed(&error, dir))
    }

    fn load_now(&self, digest: Digest) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Unavailable {
                message: format!(
                    "the artifact {digest:?} is missing from the evidence store: restore its file from a backup"
                ),
                detail: path.display().to_string(),
            },
            _ => failed(&error, &path),
        })?;
        if crypto::sha256(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(Error::internal(format!("the artifact {digest:?} was changed on disk: {}", path.display())))
        }
    }

    /// Keeps bytes; those that are there already are left alone.
    pub(crate) async fn put(&self, store: &Store, digest: Digest, bytes: Bytes) -> Result<()> {
        let mut suffix = [0u8; 8];
        store.rng().fill(&mut suffix);
        let this = self.clone();
        blocking(move || this.put_now(digest, &bytes, u64::from_be_bytes(suffix))).await
    }

    /// Reads bytes back, checked.
    pub(crate) async fn load(&self, digest: Digest) -> Result<Vec<u8>> {
        let this = self.clone();
        blocking(move || this.load_now(digest)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do() {
        for code in [28, 122] {
            let error = failed(&io::Error::from_raw_os_error(code), Path::new("x"));
            assert!(error.to_string().contains("disk is full: free some space"), "{error}");
        }
    }

    #[test]
    fn a_blob_is_written_once_whole_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs { root: dir.path().join("a/sha256") };
        let digest = crypto::sha256(b"bytes");
        blobs.put_now(digest, b"bytes", 1).unwrap();
        blobs.put_now(digest, b"bytes", 2).unwrap();
        let path = blobs.path(digest);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(blobs.load_now(digest).unwrap(), b"bytes");
        assert_eq!(blobs.put_now(digest, b"other", 3).unwrap_err().code(), "internal");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs { root: dir.path().join("sha256") };
        let digest = crypto::sha256(b"bytes");
        std::fs::write(dir.path().join("sha256"), "a file where a folder should be").unwrap();
        let error = blobs.put_now(digest, b"bytes", 1).unwrap_err();
        assert!(error.to_string().contains("check the disk"), "{error}");
        std::fs::remove_file(dir.path().join("sha256")).unwrap();
        assert_eq!(blobs.load_now(digest).unwrap_err().code(), "unavailable");
        blobs.put_now(digest, b"bytes", 1).unwrap();
        assert_eq!(blobs.load_now(digest).unwrap(), b"bytes");
    }
}
