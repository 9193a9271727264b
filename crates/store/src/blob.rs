//! Collected bytes on disk, under the name of their SHA-256: `<blobs>/<tenant>/sha256/ab/cd/<64 hex digits>`.
//!
//! Invariants:
//! - a file is written once, whole or not at all: a temporary file beside it, synced, renamed, the folder synced;
//! - only the server's user may read it (folders 0700, files 0600);
//! - bytes are hashed on every read, and bytes that are not what their name says are never handed out.
//!
//! Many blobs are made durable together: syncing each file and each folder costs a disk's commit, four times a blob.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::{Digest, Error, Result, TenantId};

use crate::Store;

/// Where a tenant's artifact lies below the folder of all blobs.
pub fn artifact_path(tenant: TenantId, digest: Digest) -> PathBuf {
    Path::new(&tenant.to_string()).join(FOLDER).join(below(digest))
}

/// The folder of a tenant's blobs, after the hash that names them.
const FOLDER: &str = "sha256";

fn below(digest: Digest) -> PathBuf {
    let hex = digest.to_hex();
    let (first, rest) = hex.split_at(2);
    let (second, _) = rest.split_at(2);
    Path::new(first).join(second).join(&hex)
}

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

/// Blobs of one call from which on the file system is synced twice as a whole instead of every file and folder by itself.
const TOGETHER: usize = 8;

/// How blobs become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Each,
    Together,
}

/// Makes a folder and those above it, each one durable before something is put into it, where each is.
fn make_dir(path: &Path, durable: Durable) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_dir(above, durable)?;
        match DirBuilder::new().mode(0o700).create(path) {
            // Another task made it in the meantime.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if durable == Durable::Each {
            sync_dir(above)?;
        }
    }
    Ok(())
}

fn write_new(temporary: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    if durable == Durable::Each { file.sync_all() } else { Ok(()) }
}

/// A blob that is written but has its temporary name; removed if it does not get its own.
struct Written {
    temporary: PathBuf,
    path: PathBuf,
}

impl Written {
    fn keep(self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What was not renamed is worth nothing; if it cannot be removed either, it is in nobody's way.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Blobs {
    pub(crate) fn of(store: &Store, tenant: TenantId) -> Self {
        Self { root: store.inner.blobs.join(tenant.to_string()).join(FOLDER) }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.root.join(below(digest))
    }

    /// Writes those that are not there yet, under temporary names, then gives them their own; none is half there, and after an error those
    /// that got their names are whole.
    fn put_now(&self, blobs: &[(Digest, Bytes)], suffix: u64) -> Result<()> {
        let durable = if blobs.len() < TOGETHER { Durable::Each } else { Durable::Together };
        let (mut written, mut dirs, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (digest, bytes) in blobs {
            if crypto::sha256(bytes) != *digest {
                return Err(Error::internal(format!("bytes that are to be kept as {digest:?} have another digest")));
            }
            let path = self.path(*digest);
            if !seen.insert(*digest) || path.exists() {
                continue;
            }
            let Some(dir) = path.parent() else { return Err(Error::internal("a blob has a folder")) };
            make_dir(dir, durable).map_err(|error| failed(&error, dir))?;
            dirs.insert(dir.to_owned());
            let blob = Written { temporary: dir.join(format!(".{digest}.{suffix:016x}")), path };
            write_new(&blob.temporary, bytes, durable).map_err(|error| failed(&error, &blob.path))?;
            written.push(blob);
        }
        if written.is_empty() {
            return Ok(());
        }
        // Bytes first, names after them: a name never stands for bytes that a power cut took.
        if durable == Durable::Together {
            self.sync_all().map_err(|error| failed(&error, &self.root))?;
        }
        for blob in written {
            let path = blob.path.clone();
            blob.keep().map_err(|error| failed(&error, &path))?;
        }
        match durable {
            Durable::Each => dirs.iter().try_for_each(|dir| sync_dir(dir).map_err(|error| failed(&error, dir))),
            Durable::Together => self.sync_all().map_err(|error| failed(&error, &self.root)),
        }
    }

    /// Syncs the file system that the blobs lie on, which also tells of earlier errors in writing to it (Linux 5.8).
    fn sync_all(&self) -> io::Result<()> {
        rustix::fs::syncfs(File::open(&self.root)?).map_err(io::Error::from)
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
    pub(crate) async fn put(&self, store: &Store, blobs: Vec<(Digest, Bytes)>) -> Result<()> {
        let mut suffix = [0u8; 8];
        store.rng().fill(&mut suffix);
        let this = self.clone();
        blocking(move || this.put_now(&blobs, u64::from_be_bytes(suffix))).await
    }

    /// Reads bytes back, checked.
    pub(crate) async fn load(&self, digest: Digest) -> Result<Vec<u8>> {
        let this = self.clone();
        blocking(move || this.load_now(digest)).await
    }
}

impl Blobs {
    /// Removes bytes that no row names any more. What is not there is gone already.
    pub(crate) async fn remove(&self, digests: Vec<Digest>) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            for digest in digests {
                let path = this.path(digest);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error, &path)),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn one(bytes: &'static [u8]) -> [(Digest, Bytes); 1] {
        [(crypto::sha256(bytes), Bytes::from_static(bytes))]
    }

    fn many(count: usize) -> Vec<(Digest, Bytes)> {
        (0..count).map(|n| format!("blob {n}")).map(|text| (crypto::sha256(text.as_bytes()), text.into())).collect()
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn many_blobs_are_kept_as_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs { root: dir.path().join("sha256") };
        let mut new = many(TOGETHER + 3);
        new.push(new[0].clone());
        blobs.put_now(&new[..2], 1).unwrap();
        blobs.put_now(&new, 2).unwrap();
        for (digest, bytes) in &new {
            assert_eq!(&blobs.load_now(*digest).unwrap()[..], &bytes[..]);
        }
        assert_eq!(files(dir.path()).len(), TOGETHER + 3);
    }

    #[test]
    fn when_one_of_many_cannot_be_kept_no_part_of_any_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs { root: dir.path().join("sha256") };
        let mut new = many(TOGETHER + 3);
        new[TOGETHER].1 = Bytes::from_static(b"other bytes");
        assert_eq!(blobs.put_now(&new, 1).unwrap_err().code(), "internal");
        assert_eq!(files(dir.path()), [""; 0].map(PathBuf::from), "neither temporary files nor blobs");
    }

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
        blobs.put_now(&one(b"bytes"), 1).unwrap();
        blobs.put_now(&one(b"bytes"), 2).unwrap();
        let path = blobs.path(digest);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(blobs.load_now(digest).unwrap(), b"bytes");
        assert_eq!(blobs.put_now(&[(digest, Bytes::from_static(b"other"))], 3).unwrap_err().code(), "internal");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs { root: dir.path().join("sha256") };
        let digest = crypto::sha256(b"bytes");
        std::fs::write(dir.path().join("sha256"), "a file where a folder should be").unwrap();
        let error = blobs.put_now(&one(b"bytes"), 1).unwrap_err();
        assert!(error.to_string().contains("check the disk"), "{error}");
        std::fs::remove_file(dir.path().join("sha256")).unwrap();
        assert_eq!(blobs.load_now(digest).unwrap_err().code(), "unavailable");
        blobs.put_now(&one(b"bytes"), 1).unwrap();
        assert_eq!(blobs.load_now(digest).unwrap(), b"bytes");
    }
}
