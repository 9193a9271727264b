//! The session with the user: who is let in, and what of what they ask for is passed on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crypto::ed25519::SigningKey;
use gateway::recording::{About, Unrecorded};
use russh::client::Handle;
use russh::keys::{Certificate, HashAlg};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use wire::recording::RecordingTarget;

use crate::forward::{Forwards, There};
use crate::host::{Gate, Way};
use crate::pair::{Of, Pair};
use crate::queue::Item;
use crate::stream::Meters;
use crate::{Admitted, Around, Cut, Unreadable};

/// Sessions of one connection at a time: as many as OpenSSH's server lets be.
const SESSIONS_MAX: usize = 10;
/// Longest command, in bytes.
const COMMAND_BYTES: usize = 64 * 1_024;
/// How long a word may take to be taken.
const WORD: Duration = Duration::from_millis(100);
/// The name of a file transfer.
const SFTP: &str = "sftp";

/// What a connection's parts share.
pub(crate) struct Shared {
    pub(crate) admitted: Admitted,
    pub(crate) around: Around,
    pub(crate) meters: Arc<Meters>,
    way: Way,
    host: OnceCell<Result<Handle<Gate>, String>>,
    pairs: Mutex<HashMap<ChannelId, Arc<Pair>>>,
    /// Channels that say why the host cannot be reached.
    broken: Mutex<HashMap<ChannelId, String>>,
    is_in: AtomicBool,
    pub(crate) forwards: Forwards,
    /// Ends the user's socket.
    pub(crate) user_end: CancellationToken,
    /// Ends the host's.
    pub(crate) host_end: CancellationToken,
    why: OnceLock<String>,
    stop: CancellationToken,
}

impl Shared {
    pub(crate) fn new(
        admitted: Admitted,
        key: &SigningKey,
        around: Around,
        meters: &Arc<Meters>,
    ) -> Result<Arc<Self>, Unreadable> {
        let way = Way::new(&admitted, key, &*around.rng)?;
        Ok(Arc::new(Self {
            admitted,
            around,
            meters: Arc::clone(meters),
            way,
            host: OnceCell::new(),
            pairs: Mutex::default(),
            broken: Mutex::default(),
            is_in: AtomicBool::new(false),
            forwards: Forwards::default(),
            user_end: CancellationToken::new(),
            host_end: CancellationToken::new(),
            why: OnceLock::new(),
            stop: CancellationToken::new(),
        }))
    }

    pub(crate) fn now_s(&self) -> u64 {
        u64::try_from(self.around.clock.now().as_seconds()).unwrap_or_default()
    }

    /// Whether the user was let in.
    pub(crate) fn is_in(&self) -> bool {
        self.is_in.load(Ordering::Acquire)
    }

    /// Whether the user got as far as the host.
    pub(crate) fn is_reached(&self) -> bool {
        matches!(self.host.get(), Some(Ok(_)))
    }

    /// Ends the connection, with a word for its user.
    pub(crate) fn stop(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.stop.cancel();
    }

    /// Ends it where something that has to be recorded cannot be.
    pub(crate) fn judge(&self, passed: Result<(), Unrecorded>) {
        if let Err(unrecorded) = passed {
            self.stop(&unrecorded.to_string());
        }
    }

    /// Waits until it has to end, and says why.
    pub(crate) async fn stopped(&self, cut: &Cut) -> String {
        tokio::select! {
            () = cut.wait() => cut.why().unwrap_or_default().to_owned(),
            () = self.stop.cancelled() => self.why.get().cloned().unwrap_or_default(),
        }
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<Pair>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pair(&self, id: ChannelId) -> Option<Arc<Pair>> {
        self.pairs().get(&id).cloned()
    }

    /// A channel that the user opened begins.
    pub(crate) fn keep(&self, pair: Arc<Pair>) {
        self.pairs().insert(pair.id, pair);
    }

    /// A channel is over.
    pub(crate) fn forget(&self, id: ChannelId) {
        self.pairs().remove(&id);
    }

    /// Tells the user why everything ends, in each session and by the last message.
    pub(crate) async fn tell(&self, handle: &server::Handle, why: &str) {
        let open: Vec<_> = self.pairs().values().filter(|pair| pair.is_session).map(|pair| pair.id).collect();
        let text = format!("cairn: this session was cut off: {why}");
        for id in open {
            // Who does not read is not waited for.
            let told = handle.extended_data(id, 1, format!("\r\n{text}\r\n"));
            let _ = tokio::time::timeout(WORD, told).await;
        }
        let _ = handle.disconnect(Disconnect::ByApplication, text, String::new()).await;
    }

    /// Everything is over: recordings end.
    pub(crate) fn end(&self, why: &str) {
        for (_, pair) in self.pairs().drain() {
            pair.end(why);
        }
    }

    /// The session with the host, which begins when it is first asked for.
    pub(crate) async fn host(self: &Arc<Self>) -> Result<&Handle<Gate>, String> {
        let host = self.host.get_or_init(|| async {
            let went = self.way.go(self).await;
            if let Err(why) = &went {
                tracing::warn!(connection = self.admitted.connection, why, "a host is not reached");
            }
            went
        });
        host.await.as_ref().map_err(Clone::clone)
    }
}

/// Answers the user.
pub(crate) struct User {
    shared: Arc<Shared>,
}

impl User {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn is_theirs(&self, certificate: &Certificate) -> Result<(), &'static str> {
        let admitted = &self.shared.admitted;
        let authorities: Vec<_> =
            self.shared.way.authorities().iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
        if !certificate.cert_type().is_user() {
            return Err("it is the certificate of a host");
        }
        if certificate.validate_at(self.shared.now_s(), authorities.iter()).is_err() {
            return Err("it is not signed by an authority that is known, or not good now");
        }
        if !certificate.valid_principals().contains(&admitted.principal) {
            return Err("it is for another host, role, user or session than the token");
        }
        // What is forced upon its holder and is not known here cannot be kept to.
        if certificate.critical_options().is_empty() { Ok(()) } else { Err("it has options that are not known here") }
    }

    /// A session on which nothing runs yet.
    fn waiting(&self, id: ChannelId) -> Option<Arc<Pair>> {
        self.shared.pair(id).filter(|pair| pair.is_session && !pair.is_recorded())
    }

    /// Connects a channel that the user opened, beside the connection: it asks the host, and whoever keeps the record.
    fn forward(&self, channel: Channel<Msg>, there: There, reply: ChannelOpenHandle, session: &Session) {
        let (shared, handle, over) = (Arc::clone(&self.shared), session.handle(), self.shared.user_end.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = shared.forward(channel, there, reply, handle) => {}
            }
        });
    }

    /// Says on a channel why the host is not reached, in place of what was to run there.
    fn excuse(&self, id: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        let why = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let Some(why) = why else { return Ok(false) };
        fail(id, &why, session)?;
        Ok(true)
    }

    /// Begins what a channel is to run, once it is known how it is recorded.
    async fn begin(
        &mut self,
        id: ChannelId,
        command: &str,
        shows: bool,
        session: &mut Session,
    ) -> Result<Option<Arc<Pair>>, russh::Error> {
        if self.excuse(id, session)? {
            return Ok(None);
        }
        let Some(pair) = self.waiting(id) else {
            session.channel_failure(id)?;
            return Ok(None);
        };
        let admitted = &self.shared.admitted;
        // What runs is recorded, and not what was asked for.
        let command = match (&admitted.force_command, command) {
            (None, asked) => asked.to_owned(),
            (Some(forced), "") => forced.clone(),
            (Some(forced), asked) => format!("{forced} (asked for: {asked})"),
        };
        let about = About {
            destination: admitted.destination,
            user: admitted.user.clone(),
            user_id: admitted.user_id,
            session: admitted.session,
            token: admitted.token.clone(),
            role: admitted.account.clone(),
            from: admitted.from,
            call: admitted.connection.clone(),
            target: RecordingTarget::Ssh { account: admitted.account.clone(), command, tty: pair.echoes() },
        };
        let recorded = match self.shared.around.recorder.begin(about).await {
            Ok(recording) => pair.record(recording, shows).await,
            Err(unrecorded) => Err(unrecorded),
        };
        if let Err(unrecorded) = recorded {
            fail(id, &unrecorded.to_string(), session)?;
            return Ok(None);
        }
        Ok(Some(pair))
    }
}

/// Ends a channel on which nothing runs, with a word that `ssh` shows.
fn fail(id: ChannelId, why: &str, session: &mut Session) -> Result<(), russh::Error> {
    session.channel_success(id)?;
    session.extended_data(id, 1, Bytes::from(format!("cairn: {why}\r\n")))?;
    session.exit_status_request(id, 255)?;
    session.eof(id)?;
    session.close(id)
}

fn answered(id: ChannelId, well: bool, session: &mut Session) -> Result<(), russh::Error> {
    if well { session.channel_success(id) } else { session.channel_failure(id) }
}

/// Whether a variable may be set at the host: what is said of languages and terminals. The host decides again.
fn is_harmless(name: &str) -> bool {
    matches!(name, "LANG" | "LANGUAGE" | "COLORTERM" | "TERM") || name.starts_with("LC_")
}

impl server::Handler for User {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, _: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        Ok(if user == self.shared.admitted.account { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, russh::Error> {
        if user != self.shared.admitted.account {
            return Ok(Auth::reject());
        }
        match self.is_theirs(certificate) {
            Ok(()) => {
                self.shared.meters.limit(0);
                self.shared.is_in.store(true, Ordering::Release);
                Ok(Auth::Accept)
            }
            Err(why) => {
                tracing::info!(connection = self.shared.admitted.connection, why, "a certificate is refused");
                Ok(Auth::reject())
            }
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).len();
        let sessions = self.shared.pairs().values().filter(|pair| pair.is_session).count();
        if sessions + broken >= SESSIONS_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let opened = match self.shared.host().await {
            Ok(host) => {
                host.channel_open_session().await.map_err(|error| format!("the host opens no session: {error}"))
            }
            Err(why) => Err(format!("the host is not reached: {why}")),
        };
        match opened {
            Ok(host) => {
                Pair::begin(&self.shared, channel, host, session.handle(), Of::Session, reply.accept()).await;
            }
            Err(why) => {
                self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.id(), why);
                reply.accept().await;
            }
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let there = There::Port {
            host: host_to_connect.to_owned(),
            port: port_to_connect,
            from: originator_address.to_owned(),
            from_port: originator_port,
        };
        self.forward(channel, there, reply, session);
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.forward(channel, There::Socket(socket_path.to_owned()), reply, session);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let given = self.shared.listen_port(address, *port, session.handle()).await;
        *port = given.unwrap_or(*port);
        Ok(given.is_some())
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, russh::Error> {
        Ok(self.shared.leave_port(address, port).await)
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, russh::Error> {
        Ok(self.shared.listen_socket(path, session.handle()).await)
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, russh::Error> {
        Ok(self.shared.leave_socket(path).await)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if let Some(pair) = self.shared.pair(id).filter(|pair| pair.takes()) {
            pair.up.push(Item::Data(None, Bytes::copy_from_slice(data)));
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(pair) = self.shared.pair(id) {
            pair.up.push(Item::Eof);
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let pair = self.shared.pairs().remove(&id);
        if let Some(pair) = pair {
            pair.up.push(Item::Close);
        }
        Ok(())
    }

    /// Where what came is not taken, no window is opened any more but by as little as can be said.
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        if self.shared.meters.from_user.is_full() { 2 } else { crate::stream::WINDOW_BYTES }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id) {
            return session.channel_success(id);
        }
        let Some(pair) = self.waiting(id).filter(|_| self.shared.admitted.allows("permit-pty")) else {
            return session.channel_failure(id);
        };
        // Anything but a plain yes may be a no to the host.
        if modes.iter().any(|(mode, value)| *mode == Pty::ECHO && *value != 1) {
            pair.mute();
        }
        let well = pair.ask(pair.to_host.request_pty(true, term, columns, rows, width, height, modes)).await;
        if well && pair.resize(columns, rows).await.is_err() {
            return session.channel_failure(id);
        }
        answered(id, well, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let pair = self.waiting(id).filter(|_| is_harmless(name));
        let Some(pair) = pair else { return session.channel_failure(id) };
        let well = pair.ask(pair.to_host.set_env(true, name, value)).await;
        answered(id, well, session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        let Some(pair) = self.begin(id, "", true, session).await? else { return Ok(()) };
        let well = pair.ask(pair.to_host.request_shell(true)).await;
        if !well {
            pair.refused();
        }
        answered(id, well, session)
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        if data.len() > COMMAND_BYTES {
            return session.channel_failure(id);
        }
        let command = String::from_utf8_lossy(data);
        let Some(pair) = self.begin(id, &command, true, session).await? else { return Ok(()) };
        let well = pair.ask(pair.to_host.exec(true, data)).await;
        if !well {
            pair.refused();
        }
        answered(id, well, session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if name != SFTP {
            return session.channel_failure(id);
        }
        // Where a command is forced, that runs and no transfer of files.
        let is_forced = self.shared.admitted.force_command.is_some();
        let command = if is_forced { SFTP } else { "sftp (files; their bytes are not recorded)" };
        let Some(pair) = self.begin(id, command, is_forced, session).await? else {
            return Ok(());
        };
        let well = pair.ask(pair.to_host.request_subsystem(true, SFTP)).await;
        if !well {
            pair.refused();
        }
        answered(id, well, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(pair) = self.shared.pair(id).filter(|pair| pair.terminal().is_some()) else { return Ok(()) };
        if let Err(unrecorded) = pair.resize(columns, rows).await {
            self.shared.stop(&unrecorded.to_string());
            return Ok(());
        }
        pair.to_host.window_change(columns, rows, width, height).await
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), russh::Error> {
        match self.shared.pair(id) {
            Some(pair) if pair.is_session => pair.to_host.signal(signal).await,
            _ => Ok(()),
        }
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        let Some(pair) = self.waiting(id) else { return Ok(false) };
        Ok(self.shared.ask_agent(&pair, session.handle()).await)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let well = match self.waiting(id) {
            Some(pair) => self.shared.ask_screen(&pair, (single, protocol, cookie, screen), session.handle()).await,
            None => false,
        };
        answered(id, well, session)
    }
}
