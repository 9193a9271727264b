//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The workspace that this xtask was built in.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// From `CARGO_MANIFEST_DIR` where cargo runs us (a checkout may have been moved since the build), else from the build.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root =
            manifest.ancestors().nth(2).context("xtask is two folders below the workspace's root")?.to_path_buf();
        let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
        let target =
            target.map_or_else(|| root.join("target"), |dir| std::env::current_dir().unwrap_or_default().join(dir));
        Ok(Self { root, target })
    }

    /// The file's path as messages show it.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
