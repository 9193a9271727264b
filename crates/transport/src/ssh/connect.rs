//! A connection: to the target itself or through the jump host, its key recognised, the credential accepted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::HostPort;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Preferred, cipher, kex, mac};
use tokio::time::Instant;

use super::credential::{Proof, SshCredentials};
use super::known_hosts::{Known, fingerprint};
use super::{HostKeyPolicy, SshClient, words};
use crate::CallError;
use crate::budget::Hold;
use crate::host_keys::HostKeys;

/// Bytes of standard error that are kept.
const STDERR_BYTES: usize = 4_096;
/// Without a word from the other side for so long it is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Key exchanges, ciphers and hashes that are offered: nothing with SHA-1, CBC, or a Diffie-Hellman group of less than 3,072 bits.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G15_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];
const HOST_KEYS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// An error of the library, or ours about a host key.
#[derive(Debug)]
pub(super) struct Stop(CallError);

impl From<russh::Error> for Stop {
    fn from(error: russh::Error) -> Self {
        Self(failure(&error))
    }
}

pub(super) fn failure(error: &russh::Error) -> CallError {
    match error {
        russh::Error::NoCommonAlgo { .. } => {
            CallError::Denied(words(&format!("the target offers no algorithm that is used here: {error}")))
        }
        russh::Error::ConnectionTimeout | russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => {
            CallError::Timeout(KEEPALIVE)
        }
        russh::Error::ChannelOpenFailure(reason) => {
            CallError::Denied(words(&format!("the target opens no channel ({reason:?})")))
        }
        other => CallError::Unreachable(words(&format!("the SSH connection failed: {other}"))),
    }
}

/// What is remembered of a host that the settings do not name.
struct Memory {
    target: HostPort,
    recalled: Option<crypto::ssh::PublicKey>,
    keys: Arc<dyn HostKeys>,
}

/// Decides about the other side's key.
struct Gate {
    endpoint: String,
    host: String,
    known: Known,
    memory: Option<Memory>,
    now_s: u64,
    shown: Arc<Mutex<Option<String>>>,
}

impl Gate {
    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), CallError> {
        let key = shown.public_key();
        let print = fingerprint(&key);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(print.clone());
        let same = |known: &PublicKey| known.key_data() == key.key_data();
        let denied = |why: String| Err(CallError::Denied(format!("{}: {why}", words(&self.endpoint))));
        if self.known.revoked.iter().any(same) {
            return denied(format!("its host key {print} is revoked by `known_hosts`"));
        }
        if let PublicKeyOrCertificate::Certificate(certificate) = shown {
            let authorities: Vec<_> =
                self.known.authorities.iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
            let revoked = self.known.revoked.iter().any(|key| key.key_data() == certificate.signature_key());
            let names = certificate.valid_principals();
            let named = !names.is_empty() && names.iter().any(|name| name.eq_ignore_ascii_case(&self.host));
            return match certificate.validate_at(self.now_s, authorities.iter()) {
                Ok(()) if certificate.cert_type().is_host() && named && !revoked => Ok(()),
                Ok(()) => denied(format!("the certificate of its host key {print} is not one for this host")),
                Err(_) => denied(format!(
                    "the certificate of its host key {print} is not signed by a known authority, or not valid now"
                )),
            };
        }
        if self.known.keys.iter().any(same) {
            return Ok(());
        }
        if let Some(known) = self.known.keys.first() {
            return denied(format!(
                "its host key is {print}, and `known_hosts` names {}: somebody may be in between, or the host was set up again",
                fingerprint(known)
            ));
        }
        denied(format!("its host key {print} is not known: put it into `known_hosts` once you have checked it"))
    }
}

impl Gate {
    /// The key is the remembered one, or is remembered from now on.
    async fn remember(&self, memory: &Memory, shown: &PublicKeyOrCertificate) -> Result<(), CallError> {
        let key = ours(&shown.public_key())?;
        let print = key.fingerprint();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(print.clone());
        if self.known.revoked.iter().any(|known| known.key_data() == shown.public_key().key_data()) {
            let why = format!("{}: its host key {print} is revoked by `known_hosts`", words(&self.endpoint));
            return Err(CallError::Denied(why));
        }
        if memory.recalled.as_ref() == Some(&key) {
            return Ok(());
        }
        let counts = memory.keys.meet(&memory.target, &key).await?;
        if counts == key {
            return Ok(());
        }
        Err(CallError::Denied(format!(
            "{}: its host key is {print}, and {} is remembered: somebody may be in between, or the host was set up again; if it was, have the \
             remembered one removed (`cairn host-keys remove {}`), then run the job again",
            words(&self.endpoint),
            counts.fingerprint(),
            memory.target,
        )))
    }
}

/// A key as it is remembered.
fn ours(key: &PublicKey) -> Result<crypto::ssh::PublicKey, CallError> {
    let malformed = || CallError::Malformed("the target's host key is of no form that is known here".to_owned());
    let blob = key.to_bytes().map_err(|_| malformed())?;
    crypto::ssh::PublicKey::from_bytes(&blob).map_err(|_| malformed())
}

impl client::Handler for Gate {
    type Error = Stop;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Stop> {
        let judged = match &self.memory {
            Some(memory) => self.remember(memory, shown).await,
            None => self.judge(shown),
        };
        judged.map(|()| true).map_err(Stop)
    }
}

/// A live connection.
pub(super) struct Session {
    handle: Handle<Gate>,
    /// The connection that this one goes through.
    jump: Option<Handle<Gate>>,
    /// The target's host key, `SHA256:…`.
    pub(super) host_key: String,
}

/// What a shell printed.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<u32>,
    pub(super) stdout: Bytes,
    pub(super) stderr: String,
    /// Why it was cut off, if it was.
    pub(super) cut: Option<CallError>,
}

impl SshClient {
    /// Connects and signs in.
    pub(super) async fn session(&self, host: &str, port: u16) -> Result<Session, CallError> {
        let limit = self.config.call_timeout;
        let work = async {
            let Some((jump_host, jump_port)) = &self.config.jump else {
                let stream = self.guard.connect(host, port, limit).await?;
                let _ = stream.set_nodelay(true);
                let (handle, host_key) = self.handshake(stream, host, port).await?;
                return Ok(Session { handle, jump: None, host_key });
            };
            // The jump host resolves the target's name by itself: it is judged here as far as it can be.
            let place = self.guard.check_elsewhere(host, port).await?;
            let stream = self.guard.connect(jump_host, *jump_port, limit).await?;
            let _ = stream.set_nodelay(true);
            let at_jump = |error: CallError| match error {
                CallError::Denied(why) => CallError::Denied(format!("jump host: {why}")),
                CallError::Unreachable(why) => CallError::Unreachable(format!("jump host: {why}")),
                other => other,
            };
            let (jump, _) = self.handshake(stream, jump_host, *jump_port).await.map_err(at_jump)?;
            let opened = jump.channel_open_direct_tcpip(place, u32::from(port), "127.0.0.1", 0).await;
            let channel = opened.map_err(|error| match error {
                russh::Error::ChannelOpenFailure(reason) => {
                    CallError::Unreachable(words(&format!("the jump host cannot connect to it ({reason:?})")))
                }
                other => failure(&other),
            })?;
            let (handle, host_key) = self.handshake(channel.into_stream(), host, port).await?;
            Ok(Session { handle, jump: Some(jump), host_key })
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(CallError::Timeout(limit)))
    }

    async fn handshake<S>(&self, stream: S, host: &str, port: u16) -> Result<(Handle<Gate>, String), CallError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let endpoint = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let known = self.config.known_hosts.of(host, port);
        let memory = match self.config.host_keys {
            HostKeyPolicy::FirstUse if known.keys.is_empty() && known.authorities.is_empty() => {
                let target = HostPort::new(host, port).ok_or_else(|| CallError::Malformed(words(&endpoint)))?;
                let recalled = self.host_keys.recall(&target).await?;
                Some(Memory { target, recalled, keys: Arc::clone(&self.host_keys) })
            }
            _ => None,
        };
        // Only the kinds of key that are known are asked for: a host with several must not seem to have changed.
        let remembered = memory.as_ref().and_then(|memory| memory.recalled.as_ref()).map(crypto::ssh::PublicKey::kind);
        let is_known = |kind: &Algorithm| {
            remembered == Some(kind.as_str()) || known.keys.iter().any(|key| key.algorithm() == *kind)
        };
        let kinds: Vec<Algorithm> = HOST_KEYS.into_iter().filter(is_known).collect();
        let certificates = if known.authorities.is_empty() { Vec::new() } else { HOST_KEYS.to_vec() };
        let config = client::Config {
            preferred: Preferred {
                kex: KEX.into(),
                key: if kinds.is_empty() { HOST_KEYS.to_vec() } else { kinds }.into(),
                host_key_certificates: certificates.into(),
                cipher: CIPHERS.into(),
                mac: MACS.into(),
                compression: vec![russh::compression::NONE].into(),
            },
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 2,
            nodelay: true,
            ..client::Config::default()
        };
        let shown = Arc::new(Mutex::new(None));
        let now_s = u64::try_from(self.clock.now().as_millis() / 1_000).unwrap_or_default();
        let gate = Gate { endpoint, host: host.to_owned(), known, memory, now_s, shown: Arc::clone(&shown) };
        let mut handle = client::connect_stream(Arc::new(config), stream, gate).await.map_err(|Stop(error)| error)?;
        sign_in(&mut handle, &self.credentials, self.clock.now()).await?;
        let host_key = shown.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        Ok((handle, host_key))
    }
}

async fn sign_in(
    handle: &mut Handle<Gate>,
    credentials: &SshCredentials,
    now: domain::Timestamp,
) -> Result<(), CallError> {
    let user = credentials.user.as_str();
    let result = match &credentials.proof {
        Proof::Password(password) => {
            let text =
                password.expose_str().ok_or_else(|| CallError::Credential("`password` is no text".to_owned()))?;
            let result = handle.authenticate_password(user, text).await.map_err(|error| failure(&error))?;
            let asks = |methods: &russh::MethodSet| methods.contains(&russh::MethodKind::KeyboardInteractive);
            match result {
                AuthResult::Failure { remaining_methods, .. } if asks(&remaining_methods) => {
                    return answer_prompts(handle, user, text).await;
                }
                other => other,
            }
        }
        Proof::Key(key) => {
            let private = key.ready(now).await?;
            match &key.certificate {
                Some(certificate) => handle.authenticate_openssh_cert(user, private, certificate.clone()).await,
                None => handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(private, None)).await,
            }
            .map_err(|error| failure(&error))?
        }
    };
    match result {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { partial_success: true, .. } => Err(CallError::Denied(format!(
            "the target asks `{}` for a second proof, which no credential here has",
            words(user)
        ))),
        AuthResult::Failure { .. } => Err(refused(user)),
    }
}

fn refused(user: &str) -> CallError {
    CallError::Denied(format!("the target does not let `{}` sign in with this credential", words(user)))
}

/// Where the password has to be typed at a prompt: one hidden question, and one only.
async fn answer_prompts(handle: &mut Handle<Gate>, user: &str, password: &str) -> Result<(), CallError> {
    let started = handle.authenticate_keyboard_interactive_start(user, None::<String>).await;
    let mut answer = started.map_err(|error| failure(&error))?;
    let mut given = false;
    for _ in 0..4 {
        let responses = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(()),
            KeyboardInteractiveAuthResponse::Failure { .. } => break,
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => match prompts.as_slice() {
                [] => Vec::new(),
                [one] if !one.echo && !given => {
                    given = true;
                    vec![password.to_owned()]
                }
                _ => break,
            },
        };
        let next = handle.authenticate_keyboard_interactive_respond(responses).await;
        answer = next.map_err(|error| failure(&error))?;
    }
    Err(refused(user))
}

impl Session {
    /// Begins a shell that takes one script after another.
    pub(super) async fn shell(&self, shell: &str, silence: Duration) -> Result<Shell, CallError> {
        let opened = tokio::time::timeout(silence, self.handle.channel_open_session()).await;
        let channel = opened.map_err(|_| CallError::Timeout(silence))?.map_err(|error| failure(&error))?;
        let (incoming, outgoing) = channel.split();
        outgoing.exec(true, shell).await.map_err(|error| failure(&error))?;
        Ok(Shell { incoming, outgoing })
    }

    /// Says goodbye.
    pub(super) async fn end(&self) {
        for handle in std::iter::once(&self.handle).chain(&self.jump) {
            let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        }
    }
}

/// A shell that waits for a script.
pub(super) struct Shell {
    incoming: russh::ChannelReadHalf,
    outgoing: russh::ChannelWriteHalf<client::Msg>,
}

impl Shell {
    /// Feeds it a script and reads what that prints, up to `end`. Where that does not come the shell is of no more use.
    pub(super) async fn run(
        mut self,
        script: String,
        end: &[u8],
        bytes: usize,
        silence: Duration,
        deadline: Instant,
        memory: &Draw<'_>,
    ) -> (Ran, Option<Self>) {
        let ran = {
            let read = read(&mut self.incoming, end, bytes, silence, deadline, memory);
            tokio::pin!(read);
            tokio::select! {
                ran = &mut read => ran,
                _ = self.outgoing.data_bytes(Bytes::from(script)) => read.await,
            }
        };
        if ran.cut.is_none() && ran.stdout.ends_with(end) {
            return (ran, Some(self));
        }
        // Ends what still writes; there is nobody to tell if it fails.
        let _ = self.outgoing.close().await;
        (ran, None)
    }
}

/// Bytes that are drawn of the task's memory at a time.
const DRAWN: usize = 64 * 1_024;

/// Where the memory for an answer comes from.
pub(super) struct Draw<'a> {
    pub(super) from: &'a Hold,
    /// Whether it may be waited for.
    pub(super) waits: bool,
}

impl Draw<'_> {
    /// For these bytes of an answer: as they come, and as what is kept of them.
    async fn draw(&self, bytes: usize, deadline: Instant, silence: Duration) -> Result<(), CallError> {
        let both = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(2);
        if !self.waits {
            return self.from.draw_now(both);
        }
        let drawn = tokio::time::timeout_at(deadline, self.from.draw(both)).await;
        drawn.unwrap_or(Err(CallError::Timeout(silence)))
    }
}

/// Reads what a channel brings to its end, to the text `end`, or to a limit.
async fn read(
    incoming: &mut russh::ChannelReadHalf,
    end: &[u8],
    bytes: usize,
    silence: Duration,
    deadline: Instant,
    memory: &Draw<'_>,
) -> Ran {
    let mut ran = Ran { code: None, stdout: Bytes::new(), stderr: String::new(), cut: None };
    let (mut stdout, mut stderr, mut talk) = (BytesMut::new(), Vec::new(), 0usize);
    let mut drawn = 0usize;
    loop {
        let until = deadline.min(Instant::now() + silence);
        let Ok(message) = tokio::time::timeout_at(until, incoming.wait()).await else {
            ran.cut = Some(CallError::Timeout(silence));
            break;
        };
        match message {
            Some(ChannelMsg::Data { data }) if stdout.len() + data.len() > bytes => {
                ran.cut = Some(CallError::TooLarge { max: bytes });
                break;
            }
            Some(ChannelMsg::Data { data }) => {
                let more = (stdout.len() + data.len()).saturating_sub(drawn);
                if more > 0 {
                    let step = more.next_multiple_of(DRAWN);
                    if let Err(refused) = memory.draw(step, deadline, silence).await {
                        ran.cut = Some(refused);
                        break;
                    }
                    drawn += step;
                }
                stdout.extend_from_slice(&data);
                if stdout.ends_with(end) {
                    break;
                }
            }
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                talk = talk.saturating_add(data.len());
                if talk > bytes.max(STDERR_BYTES) {
                    ran.cut = Some(CallError::TooLarge { max: bytes });
                    break;
                }
                let room = STDERR_BYTES.saturating_sub(stderr.len());
                stderr.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => ran.code = Some(exit_status),
            Some(ChannelMsg::Failure) => {
                ran.cut = Some(CallError::Denied("the target runs no commands for this account".to_owned()));
                break;
            }
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    ran.stdout = stdout.freeze();
    ran.stderr = String::from_utf8_lossy(&stderr).into_owned();
    ran
}
