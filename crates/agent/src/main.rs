//! `cairn-agent`: collects one host and reports what changed.
//!
//! **Not for** understanding the host (`plugins` does) or judging it (the server does); it reads, compares and sends.
//!
//! Invariants:
//! - it needs no inbound port, changes nothing on the host outside of its own state directory, and runs no command of the server's;
//! - memory follows the largest scope and never the whole inventory; what is kept on disk is bounded, and never half a file;
//! - the server's certificate is always verified: no flag and no setting turns that off.

mod collect;
mod command_line;
mod config;
mod disk;
mod memory;
mod pace;
mod report;
mod run;
mod spool;
mod status;
mod talk;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(command_line::main())
}
