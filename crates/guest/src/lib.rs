//! Plugins that others wrote: programs in any language, each run in a sandbox, spoken to over gRPC on a Unix socket (`proto/plugin.proto`).
//!
//! To the rest of the server such a plugin is a [`plugins::Plugin`] like the built-in ones: [`GuestPlugin`].
//!
//! **Not for** what plugins of this project need, and not for making calls: `transport` does that, when the broker has found a call in
//! the plugin's manifest.
//!
//! Invariants:
//! - a plugin's process has no network, no file but its own folder and its runtime, no child, and an end: `launch` confines it before its
//!   first instruction, and where the kernel cannot confine it, it does not run;
//! - a plugin gets a credential's id and never a secret, and makes no call that its manifest does not list;
//! - what a plugin says is checked before it goes on: sizes, types of nodes, scopes, and whether its calls bear a "complete" out;
//! - a plugin can show, and close, nothing of another plugin or of another source of its own.

mod allow;
mod broker;
pub mod check;
mod folder;
pub mod launch;
mod manifest;
mod observe;
mod plugin;
mod process;
mod run;
mod syscalls;
pub mod tape;
mod trial;

/// The messages, made out of `proto/plugin.proto`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    reason = "generated code"
)]
mod proto {
    tonic::include_proto!("cairn.plugin.v1");
}

pub use folder::{Folder, load_all};
pub use manifest::Manifest;
pub use plugin::GuestPlugin;
pub use process::Surroundings;
