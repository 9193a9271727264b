//! An enrollment token's file: who can read it can enroll in the place of the one whom it was made for.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use domain::Secret;

use crate::error::{Error, Result};

/// Longest token that is read, in bytes.
const TOKEN_BYTES: u64 = 1_024;

/// Reads a token from a file that nobody else can read. A group may where the file is root's and this process is not: that is how a service is
/// given one.
pub fn read_token(path: &Path) -> Result<Secret> {
    let fail = |error: &std::io::Error| Error::file("read the enrollment token from", path, error);
    // A pipe that nobody writes to would be waited for: it is opened, and refused.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| fail(&error))?;
    // Asked of the open file: the one that is read is the one that was checked.
    let found = file.metadata().map_err(|error| fail(&error))?;
    if !found.is_file() {
        return Err(Error::Setting(format!("`{}` is no file: name the one with the enrollment token", path.display())));
    }
    let of_root = found.uid() == 0 && !rustix::process::geteuid().is_root();
    let mode = found.mode() & 0o7777;
    if mode & if of_root { 0o037 } else { 0o077 } != 0 {
        return Err(Error::Setting(format!(
            "`{}` can be read by others (its mode is {mode:04o}): whoever reads the token can use it; `chmod 600` it, and make a new token \
             if somebody else may have read it",
            path.display()
        )));
    }
    let mut token = Vec::new();
    file.take(TOKEN_BYTES).read_to_end(&mut token).map_err(|error| fail(&error))?;
    Ok(Secret::new(token))
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
            match read_token(&path) {
                Ok(token) => assert!(good && token.expose() == b"et_x\n", "{mode:o}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!good && text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
                    assert!(!text.contains("et_x"), "{text}");
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
