//! The witness: a file outside of the database that remembers how far each scope's vault has come. A database that comes back older than
//! the file was restored from a copy, with secrets that were replaced or withdrawn since.
//!
//! The file is written **after** the transaction commits, so a server that is killed in between leaves a file that is behind, which is no
//! alarm: only a database that is behind the file is. What a killed server's last transaction changed can therefore be rolled back
//! unnoticed until the next start has caught up; nothing that was committed before it can.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{Digest, Error, Result, TenantId};

const FIRST_LINE: &str = "cairn vault witness v1";

type Seen = BTreeMap<TenantId, (i64, Digest)>;

/// What was seen of each scope, in memory and (where there is a path) on disk.
pub(crate) struct Witness {
    path: Option<PathBuf>,
    key: [u8; 32],
    seen: Mutex<Seen>,
}

/// What a transaction raises when it commits.
#[derive(Default)]
pub(crate) struct Raised {
    heads: Seen,
    witness: Option<Arc<Witness>>,
}

impl Raised {
    pub(super) fn add(&mut self, witness: &Arc<Witness>, scope: TenantId, counter: i64, tag: [u8; 32]) {
        self.heads.insert(scope, (counter, Digest(tag)));
        self.witness = Some(Arc::clone(witness));
    }

    /// Tells the witness; the change is committed already, so a disk that cannot be written is a warning and the next change tries again.
    pub(crate) fn tell(self) {
        if let Some(witness) = self.witness
            && let Err(error) = witness.raise(self.heads)
        {
            tracing::error!(%error, "the vault's witness file cannot be written: a rollback of the database would go unnoticed");
        }
    }
}

fn render(seen: &Seen, key: &[u8; 32]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (scope, (counter, tag)) in seen {
        let _ = writeln!(text, "{scope} {counter} {tag}");
    }
    let mac = Digest(crypto::hmac_sha256(key, text.as_bytes()));
    text + &format!("{mac}\n")
}

fn parse(text: &str, key: &[u8; 32]) -> Option<Seen> {
    let body = text.trim_end().rsplit_once('\n').map(|(body, _)| body)?;
    let body = format!("{body}\n");
    let mac = text.strip_prefix(&body)?.trim_end().parse::<Digest>().ok()?;
    if !crypto::constant_time_eq(&crypto::hmac_sha256(key, body.as_bytes()), mac.as_bytes()) {
        return None;
    }
    let lines = body.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
    let line = |line: &str| {
        let mut parts = line.split(' ');
        let scope = parts.next()?.parse().ok()?;
        Some((scope, (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
    };
    lines.lines().map(line).collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

impl Witness {
    /// Reads the file, if there is one.
    pub(crate) fn open(path: Option<PathBuf>, mac: &[u8; 32]) -> Result<Self> {
        let key = crypto::hmac_sha256(mac, b"cairn/vault/witness/v1");
        let seen = match path.as_deref().map(std::fs::read_to_string) {
            None => Seen::new(),
            Some(Ok(text)) => parse(&text, &key).ok_or_else(|| {
                Error::invalid(
                    "data_dir",
                    "`vault.witness` in the data directory was changed or belongs to another installation: put the right file back, or start \
                     once with `--accept-vault-rollback`",
                )
            })?,
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Seen::new(),
            Some(Err(error)) => {
                return Err(Error::Unavailable {
                    message: "`vault.witness` in the data directory cannot be read: check its owner and permissions".to_owned(),
                    detail: error.to_string(),
                });
            }
        };
        Ok(Self { path, key, seen: Mutex::new(seen) })
    }

    /// A witness that has seen nothing, whatever the file says.
    pub(crate) fn forgetful(path: Option<PathBuf>, mac: &[u8; 32]) -> Self {
        Self { path, key: crypto::hmac_sha256(mac, b"cairn/vault/witness/v1"), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every scope that was seen.
    pub(super) fn scopes(&self) -> Vec<TenantId> {
        self.seen().keys().copied().collect()
    }

    /// Refuses a head that is older than the newest that was seen, or another one of the same age.
    pub(super) fn admit(&self, scope: TenantId, counter: i64, tag: &[u8; 32]) -> Result<(), String> {
        match self.seen().get(&scope) {
            Some((seen, _)) if *seen > counter => Err(format!(
                "the database holds state {counter}, but this server has left state {seen}: it was restored from an older copy"
            )),
            Some((seen, known)) if *seen == counter && !crypto::constant_time_eq(known.as_bytes(), tag) => {
                Err(format!("state {counter} is not the one that this server left"))
            }
            _ => Ok(()),
        }
    }

    /// Remembers newer heads, on disk first.
    pub(super) fn raise(&self, heads: Seen) -> io::Result<()> {
        let mut seen = self.seen();
        let mut next = seen.clone();
        for (scope, (counter, tag)) in heads {
            // Two transactions of one scope may tell in another order than they committed in.
            if next.get(&scope).is_none_or(|(known, _)| *known < counter) {
                next.insert(scope, (counter, tag));
            }
        }
        let written = match &self.path {
            Some(path) if next != *seen || !path.exists() => write(path, &render(&next, &self.key)),
            _ => Ok(()),
        };
        // Also when the disk failed: this process must not forget.
        *seen = next;
        written
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn scope(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn what_was_seen_survives_a_restart_and_any_change_of_the_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.witness");
        let witness = Witness::open(Some(path.clone()), &[1; 32]).unwrap();
        witness.raise([(scope(1), (3, Digest([3; 32]))), (scope(2), (9, Digest([9; 32])))].into()).unwrap();
        witness.raise([(scope(1), (2, Digest([2; 32])))].into()).unwrap();
        let again = Witness::open(Some(path.clone()), &[1; 32]).unwrap();
        assert_eq!(again.scopes(), [scope(1), scope(2)]);
        assert!(again.admit(scope(1), 3, &[3; 32]).is_ok() && again.admit(scope(1), 4, &[0; 32]).is_ok());
        assert!(again.admit(scope(1), 2, &[2; 32]).is_err(), "older");
        assert!(again.admit(scope(1), 3, &[4; 32]).is_err(), "another state of the same age");
        assert!(again.admit(scope(7), 1, &[0; 32]).is_ok(), "a new scope");

        let text = std::fs::read_to_string(&path).unwrap();
        assert!(Witness::open(Some(path.clone()), &[2; 32]).is_err(), "of another installation");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(1);
        for bad in [text.replacen(" 3 ", " 1 ", 1), lines.join("\n"), String::new(), text.replace('\n', " ")] {
            std::fs::write(&path, &bad).unwrap();
            assert!(Witness::open(Some(path.clone()), &[1; 32]).is_err(), "{bad}");
        }
    }
}
