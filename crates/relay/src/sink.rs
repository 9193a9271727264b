//! Where a task's observations go on a relay: over its stream, for the server's own sink.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Coverage, Error, Page, Result, ScopeId};
use gateway::{ChannelEnded, StreamHandle};
use plugins::Sink;
use transport::Recorder;
use wire::frame::MessageKind;
use wire::relay::{Progress, ScopeDone};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);
/// Longest words of it, in characters.
const WORDS: usize = 500;

/// The link is gone with the task's stream: nobody is there to be told.
pub(crate) fn lost(ended: ChannelEnded) -> Error {
    Error::Unavailable { message: format!("the task was taken away: {ended}"), detail: String::new() }
}

/// The sink of one task.
pub(crate) struct RelaySink<'a> {
    stream: &'a StreamHandle,
    recorder: Arc<Recorder>,
    progress: Arc<Mutex<Option<Progress>>>,
}

impl<'a> RelaySink<'a> {
    pub(crate) fn new(stream: &'a StreamHandle, recorder: Arc<Recorder>) -> Self {
        Self { stream, recorder, progress: Arc::default() }
    }

    /// Tells progress until it is dropped, or until nobody listens.
    pub(crate) fn progress_sender(&self) -> impl Future<Output = Error> + use<'a> {
        let (stream, progress) = (self.stream, Arc::clone(&self.progress));
        async move {
            loop {
                tokio::time::sleep(PROGRESS).await;
                let Some(news) = progress.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
                let sent = match serde_json::to_vec(&news) {
                    Ok(document) => stream.send(MessageKind::Progress, document).await.map_err(lost),
                    Err(error) => Err(Error::internal(error)),
                };
                if let Err(error) = sent {
                    return error;
                }
            }
        }
    }

    async fn send(&self, kind: MessageKind, document: Vec<u8>) -> Result<()> {
        self.stream.send(kind, document).await.map_err(lost)
    }
}

/// A page as messages: halved until each part is within a message's limit.
fn parts(page: Page) -> Result<Vec<Vec<u8>>> {
    let document = serde_json::to_vec(&page).map_err(Error::internal)?;
    if document.len() <= MessageKind::Page.bytes_max() {
        return Ok(vec![document]);
    }
    let Page { scope, mut nodes, mut edges } = page;
    if nodes.len() + edges.len() < 2 {
        let max = MessageKind::Page.bytes_max() as u64;
        return Err(Error::Limit { which: "bytes of one observation", max });
    }
    let (more_nodes, more_edges) = (nodes.split_off(nodes.len() / 2), edges.split_off(edges.len().div_ceil(2)));
    let mut all = parts(Page { scope: scope.clone(), nodes, edges })?;
    all.append(&mut parts(Page { scope, nodes: more_nodes, edges: more_edges })?);
    Ok(all)
}

#[async_trait]
impl Sink for RelaySink<'_> {
    async fn page(&mut self, page: Page) -> Result<()> {
        for part in parts(page)? {
            self.send(MessageKind::Page, part).await?;
        }
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        let mut records = self.recorder.take(&scope);
        let (mut kept, mut sent) = (Vec::new(), BTreeSet::new());
        for (at, record) in records.iter_mut().enumerate() {
            let digest = record.outcome.as_ref().ok().map(|response| response.digest);
            if let (Some(bytes), Some(digest)) = (record.kept.take(), digest) {
                kept.push(u32::try_from(at).map_err(Error::internal)?);
                if sent.insert(digest) {
                    self.stream.send(MessageKind::Artifact, bytes).await.map_err(lost)?;
                }
            }
        }
        let done = serde_json::to_vec(&ScopeDone { scope, coverage, records, kept }).map_err(Error::internal)?;
        self.send(MessageKind::ScopeDone, done).await
    }

    fn progress(&mut self, done: u64, total: u64, what: &str) {
        let what = what.chars().take(WORDS).collect();
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress { done, total, what });
    }
}

#[cfg(test)]
mod tests {
    use domain::NodeObservation;

    use super::*;

    #[test]
    fn a_page_that_is_too_long_for_a_message_is_sent_in_parts_and_none_is_lost() {
        let node = |n: usize| NodeObservation {
            id: format!("host:local:host.file:f{n}").parse().unwrap(),
            name: "x".repeat(100_000),
            properties: serde_json::Map::new(),
            tags: std::collections::BTreeMap::new(),
        };
        let page = Page { scope: "host:a:files".parse().unwrap(), nodes: (0..401).map(node).collect(), edges: vec![] };
        let parts = parts(page.clone()).unwrap();
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= MessageKind::Page.bytes_max()));
        let came: Vec<Page> = parts.iter().map(|part| serde_json::from_slice(part).unwrap()).collect();
        let nodes: Vec<_> = came.into_iter().flat_map(|page| page.nodes).collect();
        assert!(nodes == page.nodes);
    }
}
