//! Logging: one line per event on standard error, as text or JSON, through the filter of `redact`.

use anyhow::Context as _;
use redact::Redacting;
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
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

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn attack_59_no_secret_gets_into_a_log_line_in_text_or_json_and_json_stays_json() {
        let secret = "0123456789abcdef0123456789abcdef";
        let texts = [
            format!("sk_{secret}_x"),
            format!("Authorization: Bearer {secret}"),
            format!(r#"{{"client_secret":"{secret}","a":1}}"#),
            format!("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{secret}\n-----END PRIVATE KEY-----"),
        ];
        for format in ["text", "json"] {
            let buffer = Buffer::default();
            let sink = buffer.clone();
            let section = LogSection { format: format.to_owned(), ..Default::default() };
            let dispatch = dispatch(&section, move || sink.clone()).unwrap();
            tracing::dispatcher::with_default(&dispatch, || {
                for text in &texts {
                    let span = tracing::info_span!("request", given = %text);
                    let _inside = span.enter();
                    tracing::info!(field = %text, debug = ?text, "a library said: {text}");
                    tracing::warn!(error = format!("cannot sign in: {text}"), "refused");
                }
            });
            let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
            assert!(log.matches("[redacted]").count() >= 2 * texts.len() && !log.contains(secret), "{format}: {log}");
            if format == "json" {
                assert_eq!(log.lines().count(), 2 * texts.len());
                for line in log.lines() {
                    let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                    assert!(event["fields"]["message"].is_string());
                }
            }
        }
    }
}
