//! The web console's files, inside the binary.
//!
//! **Not for** serving them (`api::console`) or building them (`ui/`, by `cargo xtask console`).
//!
//! Invariants:
//! - the crate builds without Node, and without the console: then there are no files;
//! - nothing is read from the disk when the server runs.

/// A file of the console.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its path below the root: `index.html`, `assets/index-C0ffee.js`.
    pub name: &'static str,
    /// As it is.
    pub bytes: &'static [u8],
    /// Compressed with Brotli.
    pub brotli: &'static [u8],
}

/// All of them; none where the console was not built before this crate.
pub static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));
