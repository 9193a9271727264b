//! Taking a backup.

use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{OpCtx, ops};
use anyhow::{Context as _, bail, ensure};
use crypto::aead::AeadKey;
use crypto::system::{SystemClock, SystemRng};
use domain::{BackupId, Clock, Error, Rng};
use secrets::Stores;
use store::{Schema, Store};

use super::archive::{ArchiveWriter, Manifest, Part};
use super::{BackupArguments, Progress, Report, advise, is_postgres, megabytes, options, refuse_existing};
use crate::config::{self, Config, process_environment};
use crate::datadir::{self, write_private};
use crate::keys::Source;

/// Bytes of a file of the data directory that a backup takes: certificates and keys are small.
const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// How deep below the data directory files are looked for.
const FILE_DEPTH_MAX: usize = 4;

/// Sections of the configuration that hold no secret; of `database` the addresses go without user and password.
const SECTIONS: [&str; 4] = ["server", "session", "discovery", "log"];

/// The file under its temporary name; gone again unless it is kept.
struct Unfinished {
    path: PathBuf,
    kept: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `postgres://user:password@host/db` without what stands before the host, and without parameters.
fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// What of the configuration a backup holds: a list of what may, so that a new secret is not in it by mistake.
fn configuration(table: &toml::Table) -> anyhow::Result<String> {
    let mut out = toml::Table::new();
    for section in SECTIONS {
        if let Some(value) = table.get(section) {
            out.insert(section.to_owned(), value.clone());
        }
    }
    if let Some(database) = table.get("database").and_then(toml::Value::as_table) {
        let mut kept = toml::Table::new();
        for key in ["url", "owner_url"] {
            if let Some(url) = database.get(key).and_then(toml::Value::as_str) {
                kept.insert(key.to_owned(), toml::Value::String(without_secrets(url)));
            }
        }
        if let Some(file) = database.get("master_key_file") {
            kept.insert("master_key_file".to_owned(), file.clone());
        }
        out.insert("database".to_owned(), toml::Value::Table(kept));
    }
    Ok(toml::to_string(&out)?)
}

/// Why a piece of a recording is not in a backup whose rows name it.
const DELETED: &str = "deleted while the backup was taken, because its recording's time was over";

/// What lies at the top of the data directory and is no part of a backup: the database and the artifacts, which it holds otherwise; the lock; and what
/// remembers how far the database has come, which would be ahead of the moment that the backup shows.
const LEFT_OUT: [&str; 4] = [datadir::BLOBS, datadir::LOCK, datadir::LOG_HEADS, datadir::WITNESS];

/// The files of the data directory that a backup takes: everything small but the master key and what is [`LEFT_OUT`].
fn files(data: &Path, master: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let master = master.map(fs::canonicalize).transpose()?;
    let (mut out, mut folders) = (Vec::new(), vec![(data.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
            let (entry, at_top) = (entry?, depth == 0);
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let left_out = at_top && (LEFT_OUT.contains(&name.as_str()) || name.starts_with(datadir::DATABASE));
            let kind = entry.file_type()?;
            if left_out
                || path.extension().is_some_and(|end| end == "new")
                || master.is_some() && fs::canonicalize(&path).ok() == master
            {
                continue;
            }
            if kind.is_dir() && depth < FILE_DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
                out.push(path.strip_prefix(data)?.to_owned());
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Takes a backup, as the arguments say.
pub(crate) async fn create(
    config: &Config,
    stores: &Stores,
    file: Option<&Path>,
    arguments: &BackupArguments,
) -> anyhow::Result<()> {
    let data = fs::canonicalize(&config.server.data_dir).with_context(|| {
        format!("there is no data directory `{}`: name it with --data-dir", config.server.data_dir.display())
    })?;
    refuse_existing(&arguments.output)?;
    let folder = fs::canonicalize(folder_of(&arguments.output))
        .with_context(|| format!("there is no folder for `{}`", arguments.output.display()))?;
    ensure!(!folder.starts_with(&data), "a backup in the data directory is lost together with it: write it elsewhere");
    if let Some(copy) = &arguments.with_master_key {
        ensure!(*copy != arguments.output, "the backup and the master key cannot be one file");
        refuse_existing(copy)?;
    }
    if !is_postgres(config) && !data.join(datadir::DATABASE).exists() {
        bail!("there is no database in `{}`: nothing to back up", data.display());
    }
    let source = Source::of(config, &data, stores)?;
    let master = source.existing(stores).await?;
    let table = config::table(file, &process_environment)?;
    let options = options(config, &data, AeadKey::from_bytes(*master.expose()));
    match store::schema_of(&options.url).await? {
        Some(schema) if schema == Schema::known() => {}
        Some(schema) => bail!(
            "the database has schema {schema} and this version of cairn-server knows {}: take the backup with the version that runs",
            Schema::known()
        ),
        None => bail!("the database is empty: nothing to back up"),
    }
    let store = Store::open(options).await?;
    let taken =
        take(&store, &data, source.path(), &master, &configuration(&table)?, arguments, is_postgres(config)).await;
    store.close().await;
    let mut report = taken?;
    if let Some(copy) = &arguments.with_master_key {
        write_private(copy, format!("{}\n", domain::Digest(*master.expose())).as_bytes())?;
        report.master_key = Some(copy.clone());
    }
    let key = match &arguments.with_master_key {
        Some(copy) => format!("the master key is in `{}`: keep the two apart", copy.display()),
        None => format!(
            "the master key is not in it: keep a copy of {} somewhere else, nothing can be restored without it",
            source.path().map_or_else(|| "the secret `keys.master`".to_owned(), |path| format!("`{}`", path.display()))
        ),
    };
    let text = format!(
        "backup {} is in `{}`: {} rows of {} tables, {} artifacts, {} ({} in the file)\n  SHA-256 {}\n  {key}",
        report.backup,
        report.file.display(),
        report.rows,
        report.tables,
        report.artifacts,
        megabytes(report.content_bytes),
        megabytes(report.file_bytes.unwrap_or_default()),
        report.file_sha256.map(|digest| digest.to_string()).unwrap_or_default(),
    );
    report.say(arguments.json, &text)
}

/// An artifact's bytes, or why it is left out.
async fn read(
    store: &Store,
    artifact: &store::Artifact,
    skip_damaged: bool,
) -> anyhow::Result<Result<Vec<u8>, String>> {
    let error = match store.backup_artifact(artifact).await {
        Ok(bytes) => return Ok(Ok(bytes)),
        Err(error) => error,
    };
    // The server goes on with its work meanwhile, and so does this.
    if !store.backup_names(artifact).await? {
        return Ok(Err(DELETED.to_owned()));
    }
    if skip_damaged {
        return Ok(Err(error.to_string()));
    }
    Err(anyhow::Error::new(error)
        .context("an artifact cannot be read: put it back, or take the backup with --skip-damaged"))
}

async fn take(
    store: &Store,
    data: &Path,
    key_file: Option<&Path>,
    master: &AeadKey,
    configuration: &str,
    arguments: &BackupArguments,
    postgres: bool,
) -> anyhow::Result<Report> {
    let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(SystemClock), Arc::new(SystemRng));
    let ctx = OpCtx::system_platform("backup", Arc::clone(&clock), Arc::clone(&rng));
    let (id, taken_at) = (BackupId::generate(&*clock, &*rng), clock.now());
    let mut name = arguments.output.clone().into_os_string();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    let out = FileOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).with_context(|| {
        format!(
            "cannot write `{}`: remove it if an earlier backup was cut off, or check the folder",
            unfinished.display()
        )
    })?;
    let mut guard = Unfinished { path: unfinished.clone(), kept: false };
    let full = |error: std::io::Error| advise(error, &unfinished);
    let engine = if postgres { "postgresql" } else { "sqlite" };
    let head = (id, taken_at, engine, Schema::known());
    let mut writer = ArchiveWriter::new(BufWriter::new(out), head, master, &rng)?;

    let mut progress = Progress::new(arguments.json);
    let (mut rows, mut tables): (u64, Vec<(String, u64)>) = (0, Vec::new());
    let mut broken = None;
    let backup = store
        .backup(ctx.authorize_platform::<ops::BackupCreate>()?, id, |table, line| {
            let write = || -> std::io::Result<()> {
                match tables.last_mut() {
                    Some((name, count)) if name == table => {
                        *count += 1;
                        rows += 1;
                    }
                    _ => {
                        writer.begin(&Part::Table(table.to_owned()))?;
                        tables.push((table.to_owned(), 0));
                    }
                }
                writer.data(line)?;
                writer.data(b"\n")
            };
            let done = { write }();
            progress.tell(|| format!("{rows} rows, {table}"));
            done.map_err(|error| {
                let message = Error::internal(&error);
                broken = Some(error);
                message
            })
        })
        .await;
    if let Some(error) = broken {
        return Err(full(error));
    }
    let backup = backup?;

    let (mut kept, mut skipped) = (0, Vec::new());
    for artifact in &backup.artifacts {
        match read(store, artifact, arguments.skip_damaged).await? {
            Ok(bytes) => {
                writer.begin(&Part::Artifact(artifact.tenant(), artifact.digest())).map_err(full)?;
                writer.data(&bytes).map_err(full)?;
                kept += 1;
            }
            Err(why) => skipped.push(format!("{}/{}: {why}", artifact.tenant(), artifact.digest())),
        }
        progress.tell(|| format!("{kept} of {} artifacts, {}", backup.artifacts.len(), megabytes(writer.bytes())));
    }
    for path in files(data, key_file)? {
        let bytes = match fs::read(data.join(&path)) {
            Ok(bytes) => bytes,
            // A temporary file of the running server.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", data.join(&path).display())),
        };
        writer.begin(&Part::File(path)).map_err(full)?;
        writer.data(&bytes).map_err(full)?;
    }
    writer.begin(&Part::Configuration).map_err(full)?;
    writer.data(configuration.as_bytes()).map_err(full)?;

    let manifest = Manifest { tables, artifacts: kept, skipped: skipped.clone(), ..Manifest::default() };
    let (out, written) = writer.finish(manifest).map_err(|error| match error.downcast() {
        Ok(error) => full(error),
        Err(other) => other,
    })?;
    let file = out.into_inner().map_err(|error| full(error.into_error()))?;
    file.sync_all().map_err(full)?;
    refuse_existing(&arguments.output)?;
    fs::rename(&unfinished, &arguments.output).map_err(full)?;
    guard.kept = true;
    sync_folder(&arguments.output)?;
    Ok(Report {
        file: arguments.output.clone(),
        backup: id,
        taken_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: engine.to_owned(),
        schema: backup.schema,
        tables: written.manifest.tables.len() as u64,
        rows,
        artifacts: kept,
        content_bytes: written.manifest.bytes,
        file_bytes: Some(written.bytes),
        file_sha256: Some(written.sha256),
        data_dir: None,
        master_key: None,
        skipped,
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let folder = folder_of(path);
    File::open(folder)?.sync_all().with_context(|| format!("cannot write to `{}`", folder.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads what a backup's rows named, as a backup does.
    pub(crate) async fn read_all(
        store: &Store,
        artifacts: &[store::Artifact],
    ) -> anyhow::Result<Vec<Result<Vec<u8>, String>>> {
        let mut all = Vec::new();
        for artifact in artifacts {
            all.push(read(store, artifact, false).await?);
        }
        Ok(all)
    }

    #[test]
    fn the_configuration_goes_without_secrets() {
        let password = testkit::logs::plant("backup-configuration-password");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:1\"\n[database]\nurl = \"postgres://u:{password}@h:5/db?password={password}\"\n\
             owner_url = \"postgres://o:{password}@h/db\"\n[secrets.main]\ntoken = \"{password}\"\n"
        );
        let kept = configuration(&text.parse().unwrap()).unwrap();
        assert!(kept.contains("postgres://h:5/db") && kept.contains("127.0.0.1:1"), "{kept}");
        assert!(!kept.contains(&password), "{kept}");
    }

    #[test]
    fn the_master_key_the_database_and_links_are_not_among_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        for name in
            ["cairn.db", "cairn.db-wal", "lock", "vault.witness", "master.key", "tls.crt", "tls.key", "half.new"]
        {
            fs::write(data.join(name), "x").unwrap();
        }
        for folder in ["blobs", "log-heads", "tls"] {
            fs::create_dir(data.join(folder)).unwrap();
            fs::write(data.join(folder).join("file"), "x").unwrap();
        }
        std::os::unix::fs::symlink(data.join("master.key"), data.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", data.join("other-link")).unwrap();
        let found = files(data, Some(&data.join("master.key"))).unwrap();
        let expected: Vec<PathBuf> = ["tls/file", "tls.crt", "tls.key"].iter().map(PathBuf::from).collect();
        assert_eq!(found, expected);
    }
}
