//! Restoring a backup: into a folder beside the data directory and one transaction, which appear together when everything agreed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions as FileOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{OpCtx, ops};
use anyhow::{Context as _, bail, ensure};
use crypto::aead::AeadKey;
use crypto::system::{SystemClock, SystemRng};
use domain::{Digest, TenantId};
use secrets::Stores;
use store::Restore;

use super::archive::{self, Event, Manifest, Part};
use super::{Progress, Report, RestoreArguments, advise, is_postgres, megabytes, options};
use crate::config::Config;
use crate::datadir::{self, read_private, write_private};
use crate::keys::Source;

/// Where the configuration of the backup is put for the operator to read; the server does not.
const CONFIGURATION: &str = "configuration-of-the-backup.toml";
/// Bytes of one row.
const LINE_BYTES_MAX: usize = 256 * 1_024 * 1_024;

/// The folder in which a data directory is put together; gone again unless it takes its place.
struct Staging {
    path: PathBuf,
    kept: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Staging {
    fn make(data: &Path) -> anyhow::Result<Self> {
        let mut name = data.file_name().context("the data directory has no name: give its path")?.to_owned();
        name.push(".restoring");
        let path = data.with_file_name(name);
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(|error| advise(error, above))?;
        }
        if path.symlink_metadata().is_ok() {
            bail!("`{}` is left from a restore that was cut off: remove it, then try again", path.display());
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| advise(error, &path))?;
        Ok(Self { path, kept: false })
    }

    fn create(&self, relative: &Path) -> anyhow::Result<(PathBuf, File)> {
        let path = self.path.join(relative);
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| advise(error, folder))?;
        }
        let file = FileOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| advise(error, &path))?;
        Ok((path, file))
    }
}

/// Refuses a data directory with anything in it.
fn refuse_used(data: &Path) -> anyhow::Result<()> {
    match fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", data.display())),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!(
                "the data directory `{}` is not empty: restore into one that is empty or not there; nothing was changed",
                data.display()
            ),
        },
    }
}

/// What is being read at the moment.
enum Target {
    Nothing,
    Table { name: String, line: Vec<u8>, lines: u64 },
    File { path: PathBuf, file: File },
    Artifact { path: PathBuf, file: File, tenant: TenantId, digest: Digest, sha256: crypto::Sha256 },
}

/// Everything of the archive into the database's transaction and the staging folder.
struct Reading<'a> {
    restore: &'a mut Restore,
    staging: &'a Staging,
    target: Target,
    tables: Vec<(String, u64)>,
    artifacts: BTreeSet<(TenantId, Digest)>,
}

impl Reading<'_> {
    fn begin(&mut self, part: Part) -> anyhow::Result<()> {
        self.target = match part {
            Part::Table(name) => Target::Table { name, line: Vec::new(), lines: 0 },
            Part::Configuration => {
                let (path, file) = self.staging.create(Path::new(CONFIGURATION))?;
                Target::File { path, file }
            }
            Part::File(relative) => {
                let (path, file) = self.staging.create(&relative)?;
                Target::File { path, file }
            }
            Part::Artifact(tenant, digest) => {
                let relative = Path::new(datadir::BLOBS).join(store::artifact_path(tenant, digest));
                let (path, file) = self.staging.create(&relative)?;
                Target::Artifact { path, file, tenant, digest, sha256: crypto::Sha256::new() }
            }
        };
        Ok(())
    }

    async fn data(&mut self, data: &[u8]) -> anyhow::Result<()> {
        match &mut self.target {
            Target::Nothing => bail!("the backup is damaged: its parts are in no order"),
            Target::Table { name, line, lines } => {
                for piece in data.split_inclusive(|byte| *byte == b'\n') {
                    ensure!(
                        line.len() + piece.len() <= LINE_BYTES_MAX,
                        "the backup is damaged: a row of `{name}` has no end"
                    );
                    line.extend_from_slice(piece);
                    if line.pop_if(|byte| *byte == b'\n').is_some() {
                        self.restore.line(name, line).await?;
                        line.clear();
                        *lines += 1;
                    }
                }
            }
            Target::File { path, file } => file.write_all(data).map_err(|error| advise(error, path))?,
            Target::Artifact { path, file, sha256, .. } => {
                sha256.update(data);
                file.write_all(data).map_err(|error| advise(error, path))?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.target, Target::Nothing) {
            Target::Nothing => {}
            Target::Table { name, line, lines } => {
                ensure!(line.is_empty() && lines > 0, "the backup is damaged: the table `{name}` ends within a row");
                self.tables.push((name, lines - 1));
            }
            Target::File { path, file } => file.sync_all().map_err(|error| advise(error, &path))?,
            Target::Artifact { path, file, tenant, digest, sha256 } => {
                ensure!(sha256.finish() == digest, "the backup is damaged: an artifact is not what its name says");
                file.sync_all().map_err(|error| advise(error, &path))?;
                self.artifacts.insert((tenant, digest));
            }
        }
        Ok(())
    }

    /// Whether everything that the manifest and the rows name is there.
    async fn agrees(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        ensure!(
            manifest.tables == self.tables,
            "the backup is damaged: its tables are not those that its manifest lists"
        );
        ensure!(
            manifest.artifacts == self.artifacts.len() as u64,
            "the backup is damaged: its artifacts are not those that its manifest lists"
        );
        let named = self.restore.artifacts().await?;
        let missing = named.iter().filter(|artifact| !self.artifacts.contains(artifact)).count();
        ensure!(
            missing == manifest.skipped.len(),
            "the backup is incomplete: {missing} artifacts are missing, and its manifest knows of {}",
            manifest.skipped.len()
        );
        Ok(())
    }
}

/// Restores a backup, as the arguments say.
pub(crate) async fn restore(config: &Config, stores: &Stores, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let data = std::path::absolute(&config.server.data_dir)?;
    refuse_used(&data)?;
    let source = Source::of(config, &data, stores)?;
    let master = match &arguments.master_key {
        Some(file) => source.read(file).await.with_context(|| format!("the master key `{}`", file.display())),
        None => source.existing(stores).await.context(
            "the master key is not in a backup: name its file with --master-key, as it was when the backup was taken",
        ),
    }?;
    let mut reader = archive::open(&arguments.file, &master)?;
    let header = reader.header.clone();

    let staging = Staging::make(&data)?;
    let ctx = OpCtx::system_platform("restore", Arc::new(SystemClock), Arc::new(SystemRng));
    let options = options(config, &staging.path, AeadKey::from_bytes(*master.expose()));
    let mut restore = Restore::begin(options, ctx.authorize_platform::<ops::BackupRestore>()?, &header.schema).await?;
    let mut progress = Progress::new(arguments.json);
    let mut reading = Reading {
        restore: &mut restore,
        staging: &staging,
        target: Target::Nothing,
        tables: Vec::new(),
        artifacts: BTreeSet::new(),
    };
    while let Some(event) = reader.next()? {
        match event {
            Event::Begin(part) => reading.begin(part)?,
            Event::Data(data) => reading.data(&data).await?,
            Event::End => reading.end()?,
        }
        let (rows, artifacts) = (reading.restore.rows(), reading.artifacts.len());
        progress.tell(|| format!("{rows} rows, {artifacts} artifacts, {}", megabytes(reader.bytes())));
    }
    let manifest = reader.manifest()?;
    reading.agrees(&manifest).await?;
    let rows = restore.rows();

    // The key goes where the server will look for it, unless the configuration says that it has a place of its own.
    if let (Some(path), Some(file)) =
        (source.path().and_then(|path| path.strip_prefix(&data).ok()), &arguments.master_key)
    {
        write_private(&staging.path.join(path), &read_private(file)?)?;
    }
    restore.finish(header.id, header.taken_at).await?;
    put_in_place(staging, &data, is_postgres(config))?;
    let report = Report {
        file: arguments.file.clone(),
        backup: header.id,
        taken_at: header.taken_at,
        version: header.version,
        engine: header.engine,
        schema: header.schema,
        tables: manifest.tables.len() as u64,
        rows,
        artifacts: manifest.artifacts,
        content_bytes: manifest.bytes,
        file_bytes: None,
        file_sha256: None,
        data_dir: Some(data.clone()),
        master_key: None,
        skipped: manifest.skipped,
    };
    let text = format!(
        "backup {} of {} is restored into `{}`: {rows} rows, {} artifacts\n  every session has ended: people sign in again\n  \
         what was revoked or changed after the backup is as it was before: look through users, roles and keys\n  \
         the configuration that it had is in `{CONFIGURATION}` there",
        report.backup,
        report.taken_at,
        data.display(),
        report.artifacts
    );
    report.say(arguments.json, &text)
}

/// The one step after which the data directory is there.
fn put_in_place(mut staging: Staging, data: &Path, database_is_done: bool) -> anyhow::Result<()> {
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
    let moved = sync(&staging.path).and_then(|()| fs::rename(&staging.path, data));
    if let Err(error) = moved {
        if database_is_done {
            // The database is restored and cannot be taken back: what belongs to it must not go.
            staging.kept = true;
            let (from, to) = (staging.path.display(), data.display());
            return Err(anyhow::Error::new(error).context(format!(
                "the database is restored, but `{from}` could not become `{to}`: run `mv {from} {to}`"
            )));
        }
        return Err(advise(error, data));
    }
    staging.kept = true;
    match data.parent() {
        Some(above) => sync(above).map_err(|error| advise(error, above)),
        None => Ok(()),
    }
}
