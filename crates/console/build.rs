//! Writes the table of the console's files. Each file of `dist/` is there twice: as it is, and compressed as `NAME.br`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !is_hidden {
            files(&path, found)?;
        } else if !is_hidden && path.extension().is_none_or(|extension| extension != "br") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=dist");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    // Asked for when it runs: a checkout may have moved since this was compiled.
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let dist = Path::new(&here).join("dist");
    let mut found = Vec::new();
    files(&dist, &mut found)?;
    found.sort();
    let mut table = "&[\n".to_owned();
    for path in found {
        let name = path.strip_prefix(&dist).map_err(io::Error::other)?.display();
        let compressed = PathBuf::from(format!("{}.br", path.display()));
        let (path, compressed) = (path.display().to_string(), compressed.display().to_string());
        let _ = writeln!(
            table,
            "    File {{ name: {:?}, bytes: include_bytes!({path:?}), brotli: include_bytes!({compressed:?}) }},",
            name.to_string()
        );
    }
    table.push_str("]\n");
    fs::write(Path::new(&out).join("files.rs"), table)
}
