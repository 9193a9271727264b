//! The agent at work.

use std::io::Write;

use anyhow::Context as _;
use crypto::system::SystemClock;
use domain::Clock as _;
use inventory::state_digest;
use wire::report::{End, Head, Line, Program};

use crate::collect::{self, LinuxHost, Source};
use crate::config::Config;
use crate::memory::Memory;
use crate::report::Part;

/// What runs here.
pub(crate) fn program(source: &dyn Source) -> anyhow::Result<Program> {
    Ok(Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: collect::own_digest().context("cannot read the running program: is /proc mounted?")?,
        config_sha256: source.settings(),
        host: rustix::system::uname().nodename().to_string_lossy().chars().take(255).collect(),
    })
}

/// Prints what a first report would say, line by line as it would be sent.
pub(crate) async fn print(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let source = LinuxHost::open(config.host.settings()).await?;
    let (mut memory, clock) = (Memory::default(), SystemClock);
    let epoch = u64::try_from(clock.now().as_millis()).unwrap_or_default();
    let (machine, program) = (source.machine().to_owned(), program(&source)?);
    let mut part = Part::default();
    let version = wire::report::VERSION;
    part.line(&Line::Head(Head {
        version,
        machine,
        epoch,
        sequence: 1,
        at: clock.now(),
        clock_offset_ms: None,
        program,
    }))?;
    out.write_all(part.text())?;
    for name in source.scopes() {
        let collected = collect::collect(&source, name, &memory, &clock).await?;
        if let Some(part) = collected.part {
            out.write_all(part.text())?;
        }
        memory.keep(name, collected.said, None)?;
    }
    let mut part = Part::default();
    part.line(&Line::End(End { forget: Vec::new(), state: state_digest(memory.digests()) }))?;
    out.write_all(part.text())?;
    Ok(())
}
