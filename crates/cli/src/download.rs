//! What a server sends becomes a file: whole or not at all, and never in the place of another one that was not to go.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::api::Api;
use crate::client::Query;
use crate::config::Draft;
use crate::failure::{Failure, Result};

/// What is said of a file that cannot be written.
pub(crate) fn failed(to: &Path, error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(format!("`{}` exists already", to.display()))
            .hint("choose another name, or replace it with --force"),
        _ => Failure::file("write", to, error),
    }
}

/// Refuses a file that is there, before the server works for it; what decides is the moment at which it is kept.
pub(crate) fn check(to: &Path, force: bool) -> Result {
    if !force && to.symlink_metadata().is_ok() { Err(failed(to, ErrorKind::AlreadyExists.into())) } else { Ok(()) }
}

/// Writes an answer to a file, and shows each of its pieces on the way.
pub(crate) async fn download(
    api: &Api,
    parts: &[&str],
    query: Query<'_>,
    (to, force): (&Path, bool),
    mut seen: impl FnMut(&[u8]),
) -> Result {
    check(to, force)?;
    let mut answer = api.stream(parts, query).await?;
    let mut draft = Draft::create(to).map_err(|error| failed(to, error))?;
    while let Some(bytes) = answer.chunk().await? {
        seen(&bytes);
        draft.file.write_all(&bytes).map_err(|error| failed(to, error))?;
    }
    draft.keep(to, force).map_err(|error| failed(to, error))
}
