//! The folder of an identity: 0700, its files 0600, used by one process at a time, each file replaced as a whole.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crypto::ed25519::SigningKey;
use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1_024;
const KEY: &str = "key.pk8";

/// An identity's folder, which nobody else has while this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens a folder, or makes it. One that others may use, or that another process uses, is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| Error::file("make", path, &error))?;
        let found = std::fs::metadata(path).map_err(|error| Error::file("look at", path, &error))?;
        check_private(path, &found)?;
        let lock = path.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(|error| Error::file("open", &lock, &error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Folder {
            message: format!("another process uses `{}`: stop it first, or name another folder", path.display()),
            transient: true,
        })?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file's content; none where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path, &error)),
        };
        // Asked of the open file: the one that is read is the one that was checked.
        check_private(&path, &file.metadata().map_err(|error| Error::file("look at", &path, &error))?)?;
        let mut content = Vec::new();
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut content);
        read.map_err(|error| Error::file("read", &path, &error))?;
        Ok(Some(content))
    }

    /// Replaces a file; when this returns, a crash does not undo it.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, draft) = (self.path.join(name), self.path.join(format!(".{name}.part")));
        let replace = || -> std::io::Result<()> {
            // Left behind by a killed process: the folder is ours alone.
            match std::fs::remove_file(&draft) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        replace().map_err(|error| {
            // What is in place is complete, whichever it is.
            drop(std::fs::remove_file(&draft));
            Error::file("write", &path, &error)
        })
    }

    /// Whether a file of so many bytes could be written now: fails as [`Self::write`] would, and changes nothing.
    pub(crate) fn has_room(&self, name: &str, bytes: usize) -> Result<()> {
        let draft = self.path.join(format!(".{name}.part"));
        let tried = std::fs::write(&draft, vec![0; bytes]).map_err(|error| Error::file("write", &draft, &error));
        drop(std::fs::remove_file(&draft));
        tried
    }

    /// Replaces a file of a fixed length that fits into one sector; on a disk without room in its own place, where it needs none.
    pub(crate) fn write_fixed(&self, name: &str, content: &[u8]) -> Result<()> {
        let full = match self.write(name, content) {
            Err(error) if error.is_transient() => error,
            done => return done,
        };
        let path = self.path.join(name);
        // Another length could be half there after a crash.
        let Some(mut file) = OpenOptions::new().write(true).open(&path).ok().filter(|file| {
            file.metadata().is_ok_and(|found| usize::try_from(found.len()).is_ok_and(|length| length == content.len()))
        }) else {
            return Err(full);
        };
        file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| Error::file("write", &path, &error))
    }

    /// The key pair, made the first time.
    pub(crate) fn key(&self) -> Result<SigningKey> {
        if let Some(kept) = self.read(KEY)? {
            let kept = domain::Secret::new(kept);
            return SigningKey::from_pkcs8(kept.expose()).map_err(|_| {
                Error::folder(format!(
                    "`{}` is no key: remove the folder and enroll anew",
                    self.path.join(KEY).display()
                ))
            });
        }
        let key = SigningKey::generate().map_err(|error| Error::folder(format!("no key can be made: {error}")))?;
        self.write(KEY, key.to_pkcs8().expose())?;
        Ok(key)
    }
}

/// Refuses what others may read or write, or own.
fn check_private(path: &Path, found: &Metadata) -> Result<()> {
    let mode = found.mode() & 0o7777;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    // Nothing for the group, nothing for others.
    if ours && mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    let private = if found.is_dir() { "700" } else { "600" };
    Err(Error::folder(if ours {
        format!(
            "`{0}` is for a private key, and others may use it (mode {mode:04o}): `chmod {private} {0}`, and enroll anew if others could have \
             read it",
            path.display()
        )
    } else {
        format!("`{}` belongs to another user: name a folder of the user that this runs as", path.display())
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_folder_and_its_files_are_private_and_a_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/identity");
        let folder = Folder::open(&path).unwrap();
        let key = folder.key().unwrap().public();
        assert_eq!(folder.key().unwrap().public(), key);
        folder.write("x", b"1").unwrap();
        folder.write("x", b"2").unwrap();
        assert_eq!(folder.read("x").unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(folder.read("y").unwrap(), None);
        assert_eq!((mode(&path), mode(&path.join(KEY)), mode(&path.join("lock"))), (0o700, 0o600, 0o600));
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 3, "no draft is left");
    }

    #[test]
    fn what_others_may_use_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        Folder::open(&path).unwrap().key().unwrap();
        for bits in [0o750, 0o701, 0o770] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
            assert!(Folder::open(&path).unwrap_err().to_string().contains("chmod 700"));
            assert_eq!(mode(&path), bits);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::set_permissions(path.join(KEY), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Folder::open(&path).unwrap().key().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn one_folder_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let first = Folder::open(&path).unwrap();
        let refused = Folder::open(&path).unwrap_err();
        assert!(refused.is_transient() && refused.to_string().contains("another process"), "{refused}");
        drop(first);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_broken_key_says_what_to_do_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("identity")).unwrap();
        folder.write(KEY, b"no key").unwrap();
        assert!(folder.key().unwrap_err().to_string().contains("enroll anew"));
        assert_eq!(folder.read(KEY).unwrap().as_deref(), Some(b"no key".as_slice()));
    }
}
