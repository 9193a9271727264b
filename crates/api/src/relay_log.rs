//! A relay's log while somebody follows it: the lines come over the relay's channel, are never stored, and end with the relay, the session or
//! the role.
//!
//! What a relay sends is its word: lines are parsed strictly, cut, and go through the filter for secrets once more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::ops;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use domain::{Error, RelayId};
use futures::Stream;
use gateway::StreamHandle;
use serde::Deserialize;
use serde_json::json;
use wire::frame::MessageKind;
use wire::relay::{FollowLog, LogLine};

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// How many may follow one relay at a time: each takes a stream, of which its tasks need the rest.
const FOLLOWERS_MAX: usize = 4;
/// How often it is looked whether the follower may still follow.
const LOOK: Duration = Duration::from_secs(5);
/// Longest text of a line, in characters.
const TEXT_MAX: usize = 4_000;
/// Most fields of a line.
const FIELDS_MAX: usize = 32;

/// How many follow the log of each relay.
#[derive(Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<HashMap<RelayId, usize>>>);

/// A place among those who follow one relay.
struct Place {
    followers: Followers,
    relay: RelayId,
}

impl Followers {
    fn enter(&self, relay: RelayId) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(relay).or_default();
        if *count >= FOLLOWERS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { followers: self.clone(), relay })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.relay) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.relay);
            }
        }
    }
}

/// What to send.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Go on with the lines that follow; default only those that the relay still has.
    #[serde(default)]
    follow: bool,
}

/// Why there is no line any more: `done`, `not_connected`, `elsewhere`, `limit`, `relay_gone` or `server_stops`, and words about it.
struct End(&'static str, String);

/// The lines of a relay's log (`text/event-stream`): `line` for each, then `end` with the reason. A relay that hangs on another server of this
/// installation is followed there: `end` names it. Who follows is recorded.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/relays/{relay}/logs", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("relay" = String, Path, description = "the relay's id"), Asked),
    responses((status = 200, description = "server-sent events; the data of `line` is a LogLine", body = LogLine, content_type = "text/event-stream")))]
pub(crate) async fn relay_follow(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let permit = caller.permit::<ops::RelayFollow>(&tenant).await?;
    let relay: RelayId = page::id(&id, "relay")?;
    state.store.write(permit).await?.relay_follow(relay).await?;
    let (lines, end) = match begin(&state, relay, asked.follow).await? {
        Ok(lines) => (Some(lines), None),
        Err(end) => (None, Some(end)),
    };
    let mut looks = tokio::time::interval(LOOK);
    looks.reset();
    let following = Following { state, caller, tenant, lines, end, looks };
    let stream = futures::stream::unfold(following, |mut following| async move {
        let event = following.next_event().await?;
        Some((Ok(event), following))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// A stream of a relay's channel on which its lines come.
struct Lines {
    stream: StreamHandle,
    _place: Place,
}

/// Asks the relay for its log, or says why nobody can.
async fn begin(state: &ApiState, relay: RelayId, keep: bool) -> Result<Result<Lines, End>, Error> {
    let connected = state.relays().ok().and_then(|relays| Some((relays, relays.hub.relay(relay)?)));
    let Some((relays, connected)) = connected.filter(|(_, connected)| connected.channel.is_linked()) else {
        let ours = state.relays().ok().map(|relays| relays.server);
        let link = state.store.relay_link(relay).await?.filter(|link| Some(link.server) != ours);
        return Ok(Err(match link {
            Some(link) => End(
                "elsewhere",
                format!("the relay hangs on another server, `{}`: ask that one for its log", link.place),
            ),
            None => End("not_connected", "the relay is not connected".to_owned()),
        }));
    };
    let Some(place) = relays.followers.enter(relay) else {
        return Ok(Err(End(
            "limit",
            format!("{FOLLOWERS_MAX} follow this relay already: try again when one has ended"),
        )));
    };
    let question = serde_json::to_vec(&FollowLog { keep }).map_err(Error::internal)?;
    let stream = match connected.channel.open() {
        Ok(stream) => stream,
        Err(ended) => return Ok(Err(End("limit", ended.to_string()))),
    };
    match stream.send(MessageKind::Follow, question).await {
        Ok(()) => Ok(Ok(Lines { stream, _place: place })),
        Err(ended) => Ok(Err(End("relay_gone", ended.to_string()))),
    }
}

struct Following {
    state: ApiState,
    caller: Caller,
    tenant: String,
    /// None: it has ended.
    lines: Option<Lines>,
    /// What is still to be said about the end.
    end: Option<End>,
    looks: tokio::time::Interval,
}

impl Following {
    async fn next_event(&mut self) -> Option<Event> {
        if let Some(Lines { stream, .. }) = &self.lines {
            let mut draining = self.state.draining.clone();
            let mut draining = std::pin::pin!(async move { draining.wait_for(|draining| *draining).await.map(drop) });
            let end = loop {
                tokio::select! {
                    message = stream.recv() => match message {
                        Ok(message) if message.kind == MessageKind::Log => match line(&message.bytes) {
                            Some(line) => return Some(event("line", &line)),
                            None => break End("relay_gone", "the relay's log is not understood: update it".to_owned()),
                        },
                        Ok(_) => break End("done", String::new()),
                        Err(ended) => break End("relay_gone", ended.to_string()),
                    },
                    _ = draining.as_mut() => {
                        break End("server_stops", "the server stops: ask again".to_owned());
                    }
                    _ = self.looks.tick() => {
                        // A stream ends when the session or the role does.
                        self.caller.check_again().await.ok()?;
                        drop(self.caller.permit::<ops::RelayFollow>(&self.tenant).await.ok()?);
                    }
                }
            };
            self.end = Some(end);
        }
        self.lines = None;
        let End(reason, message) = self.end.take()?;
        Some(event("end", &json!({"reason": reason, "message": message})))
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// A line as it is passed on.
fn line(bytes: &[u8]) -> Option<LogLine> {
    let line: LogLine = serde_json::from_slice(bytes).ok()?;
    // The filter first: half of a secret does not look like one.
    let clean = |text: &str| redact::redact(text).chars().take(TEXT_MAX).collect::<String>();
    let level = ["error", "warn", "debug", "trace"].into_iter().find(|level| *level == line.level).unwrap_or("info");
    Some(LogLine {
        level: level.to_owned(),
        target: clean(&line.target),
        text: clean(&line.text),
        fields: line.fields.iter().take(FIELDS_MAX).map(|(name, value)| (clean(name), clean(value))).collect(),
        ..line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_hostile_relay_is_cut_and_goes_through_the_filter() {
        let sent = json!({
            "at": "2026-01-01T00:00:00.000Z", "level": "shout", "target": "relay", "text": "password=hunter2",
            "fields": {"header": "Authorization: Bearer abcdefghijkl"}, "dropped": 7,
        });
        let line = line(sent.to_string().as_bytes()).unwrap();
        assert_eq!((line.level.as_str(), line.text.as_str(), line.dropped), ("info", "password=[redacted]", 7));
        assert!(!line.fields["header"].contains("abcdefghijkl"));
        for bad in
            ["", "{}", "[]", r#"{"at":"2026-01-01T00:00:00.000Z","level":"info","target":"","text":"","more":1}"#]
        {
            assert!(super::line(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_few_follow_one_relay_at_a_time_and_whoever_ends_makes_room() {
        let followers = Followers::default();
        let relay = RelayId::from_uuid(uuid::Uuid::from_u128(7));
        let mut places: Vec<_> = (0..FOLLOWERS_MAX).map(|_| followers.enter(relay).unwrap()).collect();
        assert!(followers.enter(relay).is_none());
        assert!(followers.enter(RelayId::from_uuid(uuid::Uuid::from_u128(8))).is_some());
        places.pop();
        assert!(followers.enter(relay).is_some());
        drop(places);
        assert!(followers.0.lock().unwrap().is_empty());
    }
}
