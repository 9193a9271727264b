//! A channel of the user and the one of the host that it is passed on to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gateway::recording::{Recording, Unrecorded};
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::queue::{Item, Queue};
use crate::user::Shared;

/// How long the host may take to answer a request.
const ANSWER: Duration = Duration::from_secs(30);

/// Both channels, and what goes between them.
pub(crate) struct Pair {
    pub(crate) id: ChannelId,
    /// From the user.
    pub(crate) up: Queue,
    down: Queue,
    to_user: ChannelWriteHalf<server::Msg>,
    pub(crate) to_host: ChannelWriteHalf<client::Msg>,
    answers: Mutex<Option<VecDeque<oneshot::Sender<bool>>>>,
    /// Its recording, once something runs on it that is recorded.
    recording: OnceLock<Recording>,
    /// The size of the terminal, where there is one.
    size: Mutex<Option<(u16, u16)>>,
    /// Whether its terminal was asked for with its echo off.
    is_mute: AtomicBool,
    /// Whether something runs that takes what the user sends.
    runs: AtomicBool,
    /// Whether what passes is what people see: of files that are transferred the recording has the name.
    shows: AtomicBool,
    /// Whether it is a session, and not a connection that is forwarded.
    pub(crate) is_session: bool,
    /// What counts it among those that are forwarded.
    _place: Option<OwnedSemaphorePermit>,
}

/// What a channel is of.
pub(crate) enum Of {
    /// A session.
    Session,
    /// A connection that the user opened.
    Forward(OwnedSemaphorePermit),
    /// One that the host opened.
    Back(OwnedSemaphorePermit),
}

impl Pair {
    /// Lets a channel be opened by `accept`, and passes on what goes between both. Whatever is sent before whoever opened it was told that it
    /// is open is lost on its way (RFC 4254, 5.1), so nothing passes before.
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        user: russh::Channel<server::Msg>,
        host: russh::Channel<client::Msg>,
        handle: server::Handle,
        of: Of,
        accept: impl Future<Output = ()>,
    ) {
        let id = user.id();
        let (from_user, to_user) = user.split();
        // What the user sends comes by the handler, and on a channel that they did not open maybe before anybody has it.
        let by_handler = !matches!(of, Of::Back(_));
        let is_session = matches!(of, Of::Session);
        let (from_host, to_host) = host.split();
        let pair = Arc::new(Self {
            id,
            up: Queue::new(Arc::clone(&shared.meters.from_user)),
            down: Queue::new(Arc::clone(&shared.meters.from_host)),
            to_user,
            to_host,
            answers: Mutex::new(Some(VecDeque::new())),
            recording: OnceLock::new(),
            size: Mutex::new(None),
            is_mute: AtomicBool::new(false),
            runs: AtomicBool::new(false),
            shows: AtomicBool::new(true),
            is_session,
            _place: match of {
                Of::Session => None,
                Of::Forward(place) | Of::Back(place) => Some(place),
            },
        });
        if by_handler {
            shared.keep(Arc::clone(&pair));
        }
        accept.await;
        let (taking, upward, downward) = (Arc::clone(&pair), Arc::clone(&pair), Arc::clone(&pair));
        tokio::spawn(async move { taking.take(from_host).await });
        if !by_handler {
            let hearing = Arc::clone(&pair);
            tokio::spawn(async move { hearing.hear(from_user).await });
        }
        let (over, stops) = (shared.host_end.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                passed = upward.pass_up() => stops.judge(passed),
            }
        });
        let (over, shared) = (shared.host_end.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // The whole connection is over: its user hears why, and its recordings end with that.
                () = over.cancelled() => {}
                passed = downward.pass_down(&handle) => match passed {
                    Ok(()) => {
                        downward.end("the session ended");
                        shared.forget(id);
                        downward.up.push(Item::Close);
                    }
                    unrecorded => shared.judge(unrecorded),
                }
            }
        });
    }

    /// Queues what the host sends; never waits for the user.
    async fn take(&self, mut from_host: ChannelReadHalf) {
        while let Some(message) = from_host.wait().await {
            match message {
                ChannelMsg::Data { data } => self.down.push(Item::Data(None, data)),
                ChannelMsg::ExtendedData { data, ext } => self.down.push(Item::Data(Some(ext), data)),
                ChannelMsg::ExitStatus { exit_status } => self.down.push(Item::Exit(exit_status)),
                ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, .. } => {
                    self.down.push(Item::Signal(signal_name, core_dumped, error_message));
                }
                ChannelMsg::Success => self.answer(true),
                ChannelMsg::Failure => self.answer(false),
                ChannelMsg::Eof => self.down.push(Item::Eof),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        // Whoever still waits for an answer gets none.
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.down.push(Item::Close);
    }

    /// Queues what the user sends; never waits for the host.
    async fn hear(&self, mut from_user: ChannelReadHalf) {
        while let Some(message) = from_user.wait().await {
            match message {
                ChannelMsg::Data { data } => self.up.push(Item::Data(None, data)),
                ChannelMsg::Eof => self.up.push(Item::Eof),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        self.up.push(Item::Close);
    }

    fn answer(&self, well: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = answers.as_mut().and_then(VecDeque::pop_front) {
            let _ = waiting.send(well);
        }
    }

    /// Sends a request to the host, and waits for its answer.
    pub(crate) async fn ask(&self, sent: impl Future<Output = Result<(), russh::Error>>) -> bool {
        let (answered, answer) = oneshot::channel();
        {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(answers) = answers.as_mut() else { return false };
            answers.push_back(answered);
        }
        if sent.await.is_err() {
            return false;
        }
        matches!(tokio::time::timeout(ANSWER, answer).await, Ok(Ok(true)))
    }

    async fn pass_up(&self) -> Result<(), Unrecorded> {
        loop {
            match self.up.next().await {
                Item::Data(_, bytes) => {
                    let length = bytes.len();
                    if let Some(recording) = self.shown() {
                        recording.input(&bytes).await?;
                    }
                    let sent = self.to_host.data_bytes(bytes).await;
                    self.up.passed(length);
                    if sent.is_err() {
                        return Ok(());
                    }
                }
                Item::Eof => {
                    let _ = self.to_host.eof().await;
                }
                Item::Close => {
                    let _ = self.to_host.close().await;
                    return Ok(());
                }
                Item::Exit(_) | Item::Signal(..) => {}
            }
        }
    }

    async fn pass_down(&self, handle: &server::Handle) -> Result<(), Unrecorded> {
        loop {
            match self.down.next().await {
                Item::Data(extended, bytes) => {
                    let length = bytes.len();
                    // What is shown was recorded before.
                    if let Some(recording) = self.shown() {
                        recording.output(&bytes).await?;
                    }
                    let sent = match extended {
                        None => self.to_user.data_bytes(bytes).await,
                        Some(extended) => self.to_user.extended_data_bytes(extended, bytes).await,
                    };
                    self.down.passed(length);
                    if sent.is_err() {
                        return Ok(());
                    }
                }
                Item::Exit(status) => {
                    if let Some(recording) = self.recording.get() {
                        recording.exit(i32::try_from(status).unwrap_or(i32::MAX));
                    }
                    let _ = self.to_user.exit_status(status).await;
                }
                Item::Signal(signal, dumped, message) => {
                    let _ = handle.exit_signal_request(self.id, signal, dumped, message, String::new()).await;
                }
                Item::Eof => {
                    let _ = self.to_user.eof().await;
                }
                Item::Close => {
                    let _ = self.to_user.close().await;
                    return Ok(());
                }
            }
        }
    }

    fn shown(&self) -> Option<&Recording> {
        self.recording.get().filter(|_| self.shows.load(Ordering::Acquire))
    }

    /// Records what runs on it from now on.
    pub(crate) async fn record(&self, recording: Recording, shows: bool) -> Result<(), Unrecorded> {
        self.shows.store(shows, Ordering::Release);
        if let Some((columns, rows)) = self.terminal() {
            recording.resize(columns, rows).await?;
        }
        // A second command on one channel is refused before it is recorded.
        let _ = self.recording.set(recording);
        self.runs.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether what the user sends goes on. On a session, what comes before a command would be in no recording: OpenSSH's server passes over it, and
    /// another one may keep it and take it for what is typed.
    pub(crate) fn takes(&self) -> bool {
        !self.is_session || self.runs.load(Ordering::Acquire)
    }

    /// Whether something runs on it.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording.get().is_some()
    }

    /// The size of its terminal, if it has one.
    pub(crate) fn terminal(&self) -> Option<(u16, u16)> {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its terminal is asked for with its echo off, so what is typed is seen nowhere else.
    pub(crate) fn mute(&self) {
        self.is_mute.store(true, Ordering::Release);
    }

    /// Whether it has a terminal that shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        self.terminal().is_some() && !self.is_mute.load(Ordering::Acquire)
    }

    /// Its terminal has this size.
    pub(crate) async fn resize(&self, columns: u32, rows: u32) -> Result<(), Unrecorded> {
        let within = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let size = (within(columns), within(rows));
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = Some(size);
        match self.shown() {
            Some(recording) if size.0 > 0 && size.1 > 0 => recording.resize(size.0, size.1).await,
            _ => Ok(()),
        }
    }

    /// The host did not let begin what was to be recorded.
    pub(crate) fn refused(&self) {
        self.runs.store(false, Ordering::Release);
        if let Some(recording) = self.recording.get() {
            recording.refused("the host refused it");
        }
    }

    /// Its recording ends.
    pub(crate) fn end(&self, why: &str) {
        if let Some(recording) = self.recording.get() {
            recording.end(why);
        }
    }
}
