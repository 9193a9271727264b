//! What the command line knows before it asks a server: the environment, and the sessions kept in `~/.cairn/config.json`.
//!
//! Invariants:
//! - the only module that reads the environment;
//! - the directory is made 0700 and the file 0600, and either is refused when others may use it;
//! - the file is replaced as a whole: a reader sees the old one or the new one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use domain::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::server::Server;

/// The variables that are read, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `CAIRN_HOME`, else `~/.cairn`.
    pub(crate) home: Option<PathBuf>,
    /// `CAIRN_SERVER`.
    pub(crate) server: Option<String>,
    /// `CAIRN_TENANT`.
    pub(crate) tenant: Option<String>,
    /// The first file of `KUBECONFIG`, else `~/.kube/config`.
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| value(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            home: value("CAIRN_HOME")
                .map(PathBuf::from)
                .or_else(|| value("HOME").map(|home| Path::new(&home).join(".cairn"))),
            server: text("CAIRN_SERVER"),
            tenant: text("CAIRN_TENANT"),
            kubeconfig: value("KUBECONFIG")
                .and_then(|paths| std::env::split_paths(&paths).find(|path| !path.as_os_str().is_empty()))
                .or_else(|| value("HOME").map(|home| Path::new(&home).join(".kube/config"))),
        }
    }
}

/// How a server is known to be the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trust {
    /// Its certificate chains to a root that the system trusts.
    System,
    /// This is the SHA-256 of its authority's key, of its own key, or of its certificate: see `trust`.
    Pinned(Digest),
}

/// What is remembered of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) trust: Trust,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The tenant that commands mean when they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<KnownSession>,
}

/// A session's bearer token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KnownSession {
    pub(crate) token: String,
    /// Without it the token is good until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for KnownSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownSession").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// `config.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The server that commands mean when they name none: the one of the last login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<Server>,
    #[serde(default)]
    pub(crate) servers: BTreeMap<Server, Known>,
}

impl Config {
    /// Reads the file in `home`; a file that is not there is an empty one.
    pub(crate) fn load(home: &Path) -> Result<Self> {
        if let Ok(directory) = home.metadata() {
            check_private(home, &directory)?;
        }
        let path = home.join("config.json");
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Failure::file("read", &path, e)),
        };
        // Asked of the open file: the one that is read is the one that was checked.
        check_private(&path, &file.metadata().map_err(|e| Failure::file("read", &path, e))?)?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).map_err(|e| Failure::file("read", &path, e))?;
        serde_json::from_str(&text).map_err(|e| {
            Failure::file("understand", &path, e).hint("remove the file and sign in again with `cairn login SERVER`")
        })
    }

    /// Replaces the file in `home`.
    pub(crate) fn save(&self, home: &Path) -> Result {
        let path = home.join("config.json");
        let write = || -> std::io::Result<()> {
            if !home.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
            }
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            replace(&path, |file| file.write_all(&text), true)
        };
        write().map_err(|e| Failure::file("write", &path, e))
    }
}

/// Refuses what others may read or write. It is not closed in passing: the directory may be one that others need.
fn check_private(path: &Path, found: &std::fs::Metadata) -> Result {
    let mode = found.mode() & 0o7777;
    // Nothing for the group, nothing for others.
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    let private = if found.is_dir() { "700" } else { "600" };
    Err(Failure::new(format!("`{}` is for sessions, and others may use it (mode {mode:04o})", path.display()))
        .hint(format!("chmod {private} {}, and sign in again if others could have read it", path.display())))
}

/// Writes a private file beside `path` and moves it there when it is complete. Without `overwrite`, what is at `path` stays and the
/// answer is [`std::io::ErrorKind::AlreadyExists`].
pub(crate) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
    overwrite: bool,
) -> std::io::Result<()> {
    let mut draft = Draft::create(path)?;
    fill(&mut draft.file)?;
    draft.keep(path, overwrite)
}

/// A file in the making: gone when it is dropped, in place when it is kept.
pub(crate) struct Draft {
    path: PathBuf,
    pub(crate) file: std::fs::File,
}

impl Draft {
    /// An empty file (0600) in the directory of `target`.
    pub(crate) fn create(target: &Path) -> std::io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().ok_or(std::io::ErrorKind::InvalidInput)?);
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let open = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match open() {
            // Left behind by a killed process that had our number.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                open()?
            }
            other => other?,
        };
        Ok(Self { path, file })
    }

    /// Moves the file to `target`, durably.
    pub(crate) fn keep(self, target: &Path, overwrite: bool) -> std::io::Result<()> {
        self.file.sync_all()?;
        if overwrite {
            std::fs::rename(&self.path, target)
        } else {
            // A link, unlike a rename, fails where something is already; the draft's own name goes with the drop.
            std::fs::hard_link(&self.path, target)
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn sample() -> Config {
        let server: Server = "https://127.0.0.1:8443".parse().unwrap();
        let session = KnownSession { token: "planted-token".to_owned(), expires_at: Some(Timestamp::from_millis(0)) };
        let known = Known { trust: Trust::Pinned(Digest([7; 32])), user: None, tenant: None, session: Some(session) };
        Config { current: Some(server.clone()), servers: BTreeMap::from([(server, known)]) }
    }

    #[test]
    fn sessions_are_kept_privately_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("deep/.cairn");
        sample().save(&home).unwrap();
        sample().save(&home).unwrap();
        assert_eq!((mode(&home), mode(&home.join("config.json"))), (0o700, 0o600));
        let config = Config::load(&home).unwrap();
        let known = config.servers.get(config.current.as_ref().unwrap()).unwrap();
        assert_eq!(known.session.as_ref().unwrap().token, "planted-token");
        assert_eq!(known.trust, Trust::Pinned(Digest([7; 32])));
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = &dir.path().join("home");
        sample().save(home).unwrap();
        for bits in [0o640, 0o604, 0o660, 0o644] {
            std::fs::set_permissions(home.join("config.json"), std::fs::Permissions::from_mode(bits)).unwrap();
            let failure = Config::load(home).unwrap_err();
            assert!(failure.hint.unwrap().contains("chmod 600"), "{bits:o}");
        }
    }

    #[test]
    fn a_directory_of_others_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Config::load(dir.path()).unwrap_err().hint.unwrap().contains("chmod 700"));
        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn no_file_is_an_empty_one_and_a_broken_one_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let home = &dir.path().join("home");
        assert!(Config::load(home).unwrap().servers.is_empty());
        sample().save(home).unwrap();
        std::fs::write(home.join("config.json"), "{").unwrap();
        assert!(Config::load(home).unwrap_err().hint.unwrap().contains("cairn login"));
    }

    #[test]
    fn a_failed_or_unwanted_write_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.zip");
        std::fs::write(&path, "old").unwrap();
        assert!(replace(&path, |_| Err(std::io::ErrorKind::StorageFull.into()), true).is_err());
        let kept = replace(&path, |file| file.write_all(b"new"), false).unwrap_err();
        assert_eq!(kept.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        replace(&path, |file| file.write_all(b"new"), true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", sample()).contains("planted"));
    }
}
