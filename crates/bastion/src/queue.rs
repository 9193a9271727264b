//! What waits to be passed on in one direction. Nobody waits to put something in: the library that reads a connection also writes it, and must not be held
//! up. So the reader of that connection is slowed instead, by what all its queues hold ([`crate::stream`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::stream::Backlog;

/// Something to be passed on.
#[derive(Debug)]
pub(crate) enum Item {
    /// Bytes, of standard output where a number does not say otherwise.
    Data(Option<u32>, Bytes),
    /// How a command ended.
    Exit(u32),
    /// By which signal it ended.
    Signal(russh::Sig, bool, String),
    /// No more bytes come.
    Eof,
    /// The channel is over.
    Close,
}

#[derive(Default)]
struct Held {
    items: VecDeque<Item>,
    closed: bool,
}

/// A queue with one taker.
pub(crate) struct Queue {
    held: Mutex<Held>,
    filled: Notify,
    backlog: Arc<Backlog>,
}

impl Queue {
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        Self { held: Mutex::default(), filled: Notify::new(), backlog }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in; after the end it is dropped.
    pub(crate) fn push(&self, item: Item) {
        let mut held = self.held();
        if held.closed {
            return;
        }
        held.closed = matches!(item, Item::Close);
        if let Item::Data(_, bytes) = &item {
            self.backlog.add(bytes.len());
        }
        held.items.push_back(item);
        drop(held);
        self.filled.notify_one();
    }

    /// The next thing; [`Queue::passed`] says that it was passed on.
    pub(crate) async fn next(&self) -> Item {
        loop {
            let filled = self.filled.notified();
            if let Some(item) = self.held().items.pop_front() {
                return item;
            }
            filled.await;
        }
    }

    /// Bytes went on.
    pub(crate) fn passed(&self, bytes: usize) {
        self.backlog.remove(bytes);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let left: usize =
            self.held().items.iter().map(|item| if let Item::Data(_, bytes) = item { bytes.len() } else { 0 }).sum();
        self.backlog.remove(left);
    }
}
