//! What a test sees of an answer.

use http::HeaderMap;
use serde_json::Value;

/// An answer, read to its end (an event stream: to its first event).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
    pub(crate) raw: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The answer without what differs between any two requests, and without the ids that were asked for.
    pub(crate) fn masked(&self, ids: &[&str]) -> String {
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        let mut text = self.text.clone();
        for (at, id) in ids.iter().enumerate() {
            text = text.replace(id, &format!("<{at}>"));
        }
        let request = self.header("x-request-id");
        assert!(request.starts_with("req_"), "{request}");
        format!("{}\n{}\n\n{}", self.status, headers.join("\n"), text.replace(request, "<request>"))
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.json["message"].as_str().unwrap_or_default().contains(words), "`{words}` is not in {}", self.text);
        self
    }

    pub(crate) fn id(&self) -> String {
        self.json["id"].as_str().unwrap().to_owned()
    }
}
