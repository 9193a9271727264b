//! A plugin's folder: read, judged and hashed before anything in it runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use domain::{Digest, Error, Result};

use crate::manifest::{FILE, FILE_BYTES, Manifest};

/// Most files of a plugin.
const FILES: usize = 50_000;
/// Most bytes of a plugin.
const BYTES: u64 = 1_024 * 1_024 * 1_024;

/// A plugin as it lies in its folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder, as an absolute path without links.
    pub path: PathBuf,
    /// What it says it is.
    pub manifest: Manifest,
    /// SHA-256 over the names, kinds and contents of all of its files: which code it is.
    pub digest: Digest,
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Invalid { field: None, message: format!("`{}`: {why}", path.display()) }
}

/// Whether somebody other than root and this user could change it.
fn is_open(found: &std::fs::Metadata) -> bool {
    let owner = found.uid();
    let foreign = owner != 0 && owner != rustix::process::geteuid().as_raw();
    foreign || found.mode() & 0o022 != 0
}

/// Refuses a place that others could change, or put another one in the place of.
fn check_ancestors(path: &Path) -> Result<()> {
    for ancestor in path.ancestors() {
        let found = std::fs::metadata(ancestor).map_err(|error| refused(ancestor, error))?;
        // In a folder such as /tmp everybody makes files, and nobody renames those of others.
        let sticky = ancestor != path && found.mode() & 0o1000 != 0 && found.uid() == 0;
        if is_open(&found) && !sticky {
            return Err(refused(
                ancestor,
                "others can change it: give it to root or the server's user, and `chmod go-w`",
            ));
        }
    }
    Ok(())
}

struct Hashed {
    lines: Vec<String>,
    bytes: u64,
}

impl Hashed {
    fn add(&mut self, root: &Path, path: &Path) -> Result<()> {
        let found = std::fs::symlink_metadata(path).map_err(|error| refused(path, error))?;
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        if name.contains(['\n', '\0']) {
            return Err(refused(path, "a file's name holds a line's end: rename it"));
        }
        if found.is_symlink() {
            // Where it leads, the sandbox judges: it opens what is beneath the folder and the runtimes.
            let target = std::fs::read_link(path).map_err(|error| refused(path, error))?;
            self.lines.push(format!("{name}\0link\0{}", crypto::sha256(target.to_string_lossy().as_bytes())));
            return Ok(());
        }
        if is_open(&found) {
            return Err(refused(path, "others can change it: give it to root or the server's user, and `chmod go-w`"));
        }
        if self.lines.len() > FILES {
            return Err(refused(root, format!("it has more than {FILES} files")));
        }
        if found.is_dir() {
            self.lines.push(format!("{name}\0folder"));
            for entry in std::fs::read_dir(path).map_err(|error| refused(path, error))? {
                self.add(root, &entry.map_err(|error| refused(path, error))?.path())?;
            }
        } else if found.is_file() {
            self.bytes += found.len();
            if self.bytes > BYTES {
                return Err(refused(root, format!("it has more than {BYTES} bytes")));
            }
            let digest = hash(path).map_err(|error| refused(path, error))?;
            self.lines.push(format!("{name}\0file\0{digest}"));
        } else {
            return Err(refused(path, "it is neither a file nor a folder"));
        }
        Ok(())
    }
}

fn hash(path: &Path) -> std::io::Result<Digest> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = crypto::Sha256::new();
    let mut piece = vec![0u8; 64 * 1_024];
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(hash.finish()),
            length => hash.update(piece.get(..length).unwrap_or_default()),
        }
    }
}

impl Folder {
    /// Reads a plugin's folder. Nothing is run.
    pub fn read(path: &Path) -> Result<Self> {
        let path = std::fs::canonicalize(path).map_err(|error| refused(path, error))?;
        let file = path.join(FILE);
        let size = std::fs::metadata(&file).map_err(|error| refused(&file, error))?.len();
        if size > FILE_BYTES {
            return Err(refused(&file, format!("it is larger than {FILE_BYTES} bytes")));
        }
        check_ancestors(&path)?;
        let text = std::fs::read_to_string(&file).map_err(|error| refused(&file, error))?;
        let manifest = Manifest::read(&text).map_err(|error| refused(&path, error))?;
        let mut hashed = Hashed { lines: Vec::new(), bytes: 0 };
        hashed.add(&path, &path)?;
        hashed.lines.sort();
        let digest = crypto::sha256(hashed.lines.join("\n").as_bytes());
        Ok(Self { path, manifest, digest })
    }

    /// Refuses a folder that is not what it was.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let now = Self::read(&self.path)?;
        if now.digest == self.digest {
            return Ok(());
        }
        Err(refused(&self.path, "its files have changed since the server started: start the server again to take them"))
    }

    /// The program as an absolute path, and its arguments.
    pub(crate) fn exec(&self, runtimes: &[PathBuf]) -> Result<Vec<String>> {
        let (program, arguments) = self.manifest.exec.split_first().ok_or_else(|| Error::internal("no program"))?;
        let text = |path: PathBuf| {
            path.into_os_string().into_string().map_err(|path| refused(Path::new(&path), "it is not UTF-8"))
        };
        let places = if program.contains('/') {
            vec![self.path.join(program)]
        } else {
            let system = ["/usr/local/bin", "/usr/bin"].into_iter().map(PathBuf::from);
            let folders = runtimes.iter().map(|runtime| runtime.join("bin")).chain(system);
            std::iter::once(self.path.clone()).chain(folders).map(|folder| folder.join(program)).collect()
        };
        let found = places.into_iter().find(|place| place.is_file());
        let found = found.ok_or_else(|| {
            let name = program.escape_debug();
            refused(&self.path, format!("there is no program `{name}` in it, in a runtime, or in /usr/bin"))
        })?;
        let mut out = vec![text(found)?];
        for argument in arguments {
            let own = self.path.join(argument);
            out.push(if !argument.starts_with('-') && own.is_file() { text(own)? } else { argument.clone() });
        }
        Ok(out)
    }
}

/// Every plugin of a folder of plugins, by name.
pub fn load_all(folder: &Path) -> Result<Vec<Folder>> {
    let folder = std::fs::canonicalize(folder).map_err(|error| refused(folder, error))?;
    check_ancestors(&folder)?;
    let mut found: Vec<Folder> = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| refused(&folder, error))? {
        let path = entry.map_err(|error| refused(&folder, error))?.path();
        if !path.is_dir() {
            continue;
        }
        let plugin = Folder::read(&path)?;
        if let Some(twin) = found.iter().find(|other| other.manifest.name == plugin.manifest.name) {
            return Err(refused(&path, format!("`{}` has the same name", twin.path.display())));
        }
        found.push(plugin);
    }
    found.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn plugin(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let manifest = format!(
            "protocol = 1\nname = \"{name}\"\nversion = \"1\"\nabout = \"a\"\nexec = [\"run\"]\nnode_types = [\"{name}.x\"]\n"
        );
        std::fs::write(path.join(FILE), manifest).unwrap();
        std::fs::write(path.join("run"), "#!/bin/sh\n").unwrap();
        for path in [&path.join(FILE), &path.join("run")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_folder_that_others_can_change_is_refused_wherever_that_is() {
        let (dir, path) = plugin("one");
        assert!(Folder::read(&path).is_ok());
        for open in [dir.path().to_owned(), path.clone(), path.join("run"), path.join(FILE)] {
            let before = std::fs::metadata(&open).unwrap().permissions();
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
            let error = Folder::read(&path).unwrap_err().to_string();
            assert!(error.contains("others can change it"), "{}: {error}", open.display());
            std::fs::set_permissions(&open, before).unwrap();
        }
        assert_eq!(load_all(dir.path()).unwrap().len(), 1);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(load_all(dir.path()).is_err());
    }

    #[test]
    fn the_digest_is_of_every_file_and_a_changed_folder_is_not_run() {
        let (_dir, path) = plugin("one");
        let folder = Folder::read(&path).unwrap();
        folder.check_unchanged().unwrap();
        std::fs::write(path.join("run"), "#!/bin/sh\necho\n").unwrap();
        assert!(folder.check_unchanged().unwrap_err().to_string().contains("have changed"));
        std::fs::write(path.join("run"), "#!/bin/sh\n").unwrap();
        folder.check_unchanged().unwrap();
        std::fs::write(path.join("more"), "").unwrap();
        assert!(folder.check_unchanged().is_err());
    }
}
