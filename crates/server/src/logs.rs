//! Logging: one line per event on standard error, as text or JSON.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::LogSection;

/// RFC 3339 in UTC.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", domain::Clock::now(&crypto::system::SystemClock))
    }
}

/// Starts logging for the whole process.
pub(crate) fn start(section: &LogSection) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&section.level)
        .with_context(|| format!("log.level is `{}`", section.level.escape_debug()))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_timer(Utc).with_ansi(false).with_writer(std::io::stderr);
    if section.format == "json" {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}
