//! Files that nobody else may read: an enrollment token, with which whoever reads it enrolls in the place of the one whom it was made for, and a private
//! key, with which they are taken for whom its certificate names.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use domain::Secret;

use crate::error::{Error, Result};

/// Longest token that is read, in bytes.
const TOKEN_BYTES: u64 = 1_024;
/// Longest private key, in bytes.
const KEY_BYTES: u64 = 64 * 1_024;

/// Reads a token from a file that nobody else can read. A group may where the file is root's and this process is not: that is how a service is
/// given one.
pub fn read_token(path: &Path) -> Result<Secret> {
    let advice =
        "whoever reads the token can use it; `chmod 600` it, and make a new token if somebody else may have read it";
    read(path, "the enrollment token", advice, TOKEN_BYTES)
}

/// Reads a private key, PEM, from a file that nobody else can read: as for a token, so that a Kubernetes secret is good with `defaultMode: 0440`.
pub fn read_key(path: &Path) -> Result<Secret> {
    let advice = "whoever reads the key can pass for this machine; `chmod 600` it (0640 where it is root's and another user runs this), and make a new \
                  key if somebody else may have read it";
    read(path, "the private key", advice, KEY_BYTES)
}

fn read(path: &Path, what: &str, advice: &str, bytes_max: u64) -> Result<Secret> {
    let fail = |error: &std::io::Error| Error::file(&format!("read {what} from"), path, error);
    // A pipe that nobody writes to would be waited for: it is opened, and refused.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| fail(&error))?;
    // Asked of the open file: the one that is read is the one that was checked.
    let found = file.metadata().map_err(|error| fail(&error))?;
    if !found.is_file() {
        return Err(Error::Setting(format!("`{}` is no file: name the one with {what}", path.display())));
    }
    let of_root = found.uid() == 0 && !rustix::process::geteuid().is_root();
    let mode = found.mode() & 0o7777;
    if mode & if of_root { 0o037 } else { 0o077 } != 0 {
        return Err(Error::Setting(format!(
            "`{}` can be read by others (its mode is {mode:04o}): {advice}",
            path.display()
        )));
    }
    // Long enough from the beginning: what grows leaves a copy behind.
    let mut text = Vec::with_capacity(usize::try_from(bytes_max.min(found.len())).unwrap_or_default());
    file.take(bytes_max).read_to_end(&mut text).map_err(|error| fail(&error))?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_that_others_can_read_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "et_x\n").unwrap();
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o644, false), (0o640, false), (0o604, false), (0o622, false)]
        {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for (read, what) in [(read_token(&path), "the token"), (read_key(&path), "the key")] {
                match read {
                    Ok(text) => assert!(good && text.expose() == b"et_x\n", "{mode:o}"),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(!good && text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
                        assert!(text.contains(what) && !text.contains("et_x"), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [pipe.as_path(), dir.path()] {
            assert!(read_token(path).unwrap_err().to_string().contains("no file"), "{}", path.display());
        }
        assert!(read_token(&dir.path().join("missing")).unwrap_err().to_string().contains("cannot read"));
    }
}
