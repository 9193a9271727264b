//! The event stream of a job (`text/event-stream` of the HTML standard, section 9.2), as far as it is used: event names and data.

use crate::failure::{Failure, Result};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` where the stream names none.
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Longest event that is accepted.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Makes events of the bytes of a stream, however they were cut on the way.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The line so far ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// The events that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for byte in bytes {
            let continues_cr = std::mem::take(&mut self.after_cr) && *byte == b'\n';
            match byte {
                b'\n' if continues_cr => {}
                b'\r' | b'\n' => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                other => self.line.push(*other),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                return Err(Failure::new("the server sent an event of more than 16 MiB"));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        let line = if std::mem::replace(&mut self.begun, true) { line } else { line.trim_start_matches('\u{feff}') };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            return Some(Event { name: if name.is_empty() { "message".to_owned() } else { name }, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment, `id`, `retry`, and what a later server may add.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    fn parse(text: &str) -> Vec<Event> {
        Parser::default().push(text.as_bytes()).unwrap()
    }

    #[test]
    fn lines_end_in_any_of_the_three_ways() {
        let expect = vec![event("job", "{\"a\":1}"), event("end", "")];
        for end in ["\n", "\r\n", "\r"] {
            assert_eq!(
                parse(&"event: job\ndata: {\"a\":1}\n\nevent: end\ndata:\n\n".replace('\n', end)),
                expect,
                "{end:?}"
            );
        }
    }

    #[test]
    fn data_of_many_lines_is_joined_and_comments_are_ignored() {
        assert_eq!(
            parse(": keep-alive\n\ndata: a\ndata:  b\nid: 7\nretry: 10\ndata\n\n"),
            [event("message", "a\n b\n")]
        );
        assert_eq!(
            parse("event: job\n\ndata: x\n\n"),
            [event("message", "x")],
            "an event without data is none, and its name is not kept"
        );
        assert_eq!(parse("\u{feff}data: x\n\n"), [event("message", "x")]);
        assert_eq!(parse("data: not finished"), []);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'a'; 1024 * 1024];
        assert!((0..17).any(|_| parser.push(&piece).is_err()));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(
            text in "((event|data|id|x)?:? ?[a-zé]{0,3}(\r\n|\n|\r)){0,12}",
            cuts in prop::collection::vec(1usize..5, 0..40),
        ) {
            let (mut parser, mut events, mut rest) = (Parser::default(), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                events.extend(parser.push(piece).unwrap());
                rest = after;
            }
            events.extend(parser.push(rest).unwrap());
            prop_assert_eq!(events, parse(&text));
        }

        #[test]
        fn written_events_are_read_back(events in prop::collection::vec(("[a-z]{1,8}", "[^\r]{0,20}"), 0..6), end in prop::sample::select(vec!["\n", "\r\n", "\r"])) {
            let mut text = String::new();
            for (name, data) in &events {
                text.extend(["event: ", name, end]);
                for line in data.split('\n') {
                    text.extend(["data: ", line, end]);
                }
                text.push_str(end);
            }
            let expect: Vec<Event> = events.iter().map(|(name, data)| event(name, data)).collect();
            prop_assert_eq!(parse(&text), expect);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
