//! Logging: one line per event on standard error, as text or JSON, through the filter of `redact.rs`.

use anyhow::Context as _;
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::LogSection;
use crate::redact::Redacting;

/// RFC 3339 in UTC.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", domain::Clock::now(&crypto::system::SystemClock))
    }
}

/// The subscriber that [`start`] sets, over any sink.
pub(crate) fn dispatch<W>(section: &LogSection, sink: W) -> anyhow::Result<Dispatch>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&section.level)
        .with_context(|| format!("log.level is `{}`", section.level.escape_debug()))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_timer(Utc).with_ansi(false).with_writer(Redacting(sink));
    Ok(if section.format == "json" { builder.json().into() } else { builder.into() })
}

/// Starts logging for the whole process.
pub(crate) fn start(section: &LogSection) -> anyhow::Result<()> {
    tracing_subscriber::util::SubscriberInitExt::try_init(dispatch(section, std::io::stderr)?)
        .context("the log was started twice")
}
