//! Stores on this machine: `plaintext`, `env` and `file`.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domain::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::encoding::Encoding;
use crate::error::{Result, SecretError};
use crate::stores::{Environment, Store, Surroundings, settings};

/// Largest file.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    #[serde(alias = "base64")]
    base64: bool,
    #[serde(alias = "base64UrlEncoded")]
    base64_url_encoded: bool,
    #[serde(alias = "base64Raw")]
    base64_raw: bool,
    /// `file`: the folder that ids are relative to.
    path: Option<PathBuf>,
    /// `file`: accept files that others may read, as mounted volumes have them.
    shared: bool,
}

/// A store of a base kind.
pub(crate) fn store(
    name: &str,
    kind: &str,
    given: Map<String, Value>,
    around: &Surroundings,
) -> Result<Arc<dyn Store>> {
    let Settings { base64, base64_url_encoded, base64_raw, path, shared } = settings(name, given)?;
    let encoding = Encoding { base64, url: base64_url_encoded, raw: base64_raw };
    if kind != "file" && (path.is_some() || shared) {
        return Err(SecretError::new(name, "`path` and `shared` are settings of the kind `file` only"));
    }
    let name = name.to_owned();
    Ok(match kind {
        "plaintext" => Arc::new(Plaintext { name, encoding }),
        "env" => Arc::new(Env { name, encoding, environment: Arc::clone(&around.environment) }),
        _ => Arc::new(File { name, encoding, root: path, shared }),
    })
}

struct Plaintext {
    name: String,
    encoding: Encoding,
}

#[async_trait]
impl Store for Plaintext {
    async fn read(&self, id: &str) -> Result<Secret> {
        // The id is the value: no error may show it.
        self.encoding
            .decode(id.as_bytes())
            .ok_or_else(|| SecretError::new(&self.name, "the value is not the base64 that its settings say"))
    }
}

struct Env {
    name: String,
    encoding: Encoding,
    environment: Environment,
}

#[async_trait]
impl Store for Env {
    async fn read(&self, id: &str) -> Result<Secret> {
        let no = |problem: String| SecretError::new(&self.name, problem);
        if id.contains(['$', '=', '\0', '{', '}']) {
            return Err(no(format!(
                "`{}` is no variable's name: write the name alone, without `$`",
                id.escape_debug()
            )));
        }
        let value =
            (self.environment)(id).ok_or_else(|| no(format!("the variable `{}` is not set", id.escape_debug())))?;
        self.encoding.decode(value.as_bytes()).ok_or_else(|| {
            no(format!("the variable `{}` is not the base64 that the store's settings say", id.escape_debug()))
        })
    }
}

struct File {
    name: String,
    encoding: Encoding,
    root: Option<PathBuf>,
    shared: bool,
}

impl File {
    fn path(&self, id: &str) -> Result<PathBuf> {
        let id = Path::new(id);
        let no = |what: &str| SecretError::new(&self.name, format!("`{}` {what}", id.display()));
        if id.components().any(|part| part == Component::ParentDir) {
            return Err(no("leads out of its folder: remove the `..`"));
        }
        match &self.root {
            Some(_) if id.is_absolute() => Err(no("is absolute, but the store has a `path`: name the file below it")),
            Some(root) => Ok(root.join(id)),
            None if id.is_absolute() => Ok(id.to_owned()),
            None => Err(no("is relative to nothing: name the whole path, or give the store a `path`")),
        }
    }

    fn load(&self, path: &Path) -> Result<Secret> {
        let shown = path.display();
        let no = |problem: String| SecretError::new(&self.name, problem);
        // Without blocking on a pipe that nobody writes to.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let mut file = file.map_err(|error| no(format!("`{shown}` cannot be read: {}", error.kind())))?;
        let data = file.metadata().map_err(|error| no(format!("`{shown}` cannot be read: {}", error.kind())))?;
        if !data.is_file() {
            return Err(no(format!("`{shown}` is not a file")));
        }
        let mode = data.mode() & 0o777;
        if mode & 0o077 != 0 && !self.shared {
            return Err(no(format!(
                "`{shown}` is open to others (mode {mode:03o}): run `chmod 600 {shown}`, or set `shared` for a mounted volume"
            )));
        }
        if data.len() > BYTES_MAX {
            return Err(no(format!("`{shown}` is larger than {BYTES_MAX} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(data.len()).unwrap_or_default() + 1);
        file.by_ref()
            .take(BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| no(format!("`{shown}` cannot be read: {}", error.kind())))?;
        let secret = Secret::new(bytes);
        self.encoding
            .decode(secret.expose())
            .ok_or_else(|| no(format!("`{shown}` is not the base64 that the store's settings say")))
    }
}

#[async_trait]
impl Store for File {
    async fn read(&self, id: &str) -> Result<Secret> {
        self.load(&self.path(id)?)
    }
}
