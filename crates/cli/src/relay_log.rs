//! A relay's log as it comes: a line of text for each of its lines, or a line of JSON.

use std::time::Duration;

use serde::Deserialize;
use wire::relay::LogLine;

use crate::api::Api;
use crate::clean::clean;
use crate::failure::{Failure, Result};
use crate::output::{self, Format, warn};
use crate::sse::Parser;

/// The server sends comments in between: a stream that is silent for this long is dead.
const SILENCE: Duration = Duration::from_mins(1);

/// Why there are no more lines.
#[derive(Deserialize)]
struct End {
    reason: String,
    message: String,
}

/// Shows the log to its end; without `follow` that is where the relay's memory ends.
pub(crate) async fn show(api: &Api, id: &str, name: &str, follow: bool) -> Result {
    let query = [("follow", follow.then_some("true"))];
    let mut stream = api.stream(&["relays", id, "logs"], &query).await?;
    let mut parser = Parser::default();
    let wrong = |error| Failure::new(format!("the server's event is not as expected: {error}"));
    // A stream that fell silent is as good as ended.
    while let Some(bytes) = tokio::time::timeout(SILENCE, stream.chunk()).await.unwrap_or(Ok(None))? {
        for event in parser.push(&bytes)? {
            match event.name.as_str() {
                "line" => {
                    let line: LogLine = serde_json::from_str(&event.data).map_err(wrong)?;
                    if line.dropped > 0 {
                        warn(&format!("{} lines came too fast and are missing here", line.dropped));
                    }
                    let text = if api.out.format == Format::Table { text(&line) } else { event.data };
                    output::data(format!("{}\n", clean(&text)).as_bytes())?;
                }
                "end" => {
                    let end: End = serde_json::from_str(&event.data).map_err(wrong)?;
                    return if end.reason == "done" {
                        Ok(())
                    } else {
                        Err(Failure::new(end.message).hint(format!("cairn relays show {name}")))
                    };
                }
                _ => {}
            }
        }
    }
    Err(Failure::new("the stream of the log broke").hint(format!("cairn relays show {name}")))
}

fn text(line: &LogLine) -> String {
    let mut text = format!("{} {:5} {}: {}", line.at, line.level.to_uppercase(), line.target, line.text);
    for (name, value) in &line.fields {
        text.extend([" ", name, "=", value]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_in_one_line_with_what_it_is_about() {
        let line: LogLine = serde_json::from_value(serde_json::json!({
            "at": "2026-01-01T00:00:00.000Z", "level": "warn", "target": "cairn_relay::link", "text": "no link",
            "fields": {"error": "refused\u{1b}[2J"},
        }))
        .unwrap();
        let shown = clean(&text(&line)).into_owned();
        assert!(
            shown.starts_with("2026-01-01T00:00:00.000Z WARN  cairn_relay::link: no link error=refused"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'));
    }
}
