//! The session that is held with the host.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crypto::ed25519::SigningKey;
use russh::client::{self, AuthResult, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure};

use crate::forward::{Back, take_up};
use crate::stream::{self, Paced};
use crate::user::Shared;
use crate::{Admitted, Unreadable, algorithms, certificate, private, public};

/// How long it may take to sign in.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Kinds of host keys that are known.
const HOST_KEYS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// Recognises the host.
pub(crate) struct Gate {
    key: PublicKey,
    /// Why it is not the host.
    refused: Arc<Mutex<Option<String>>>,
    /// For whom it is.
    shared: Weak<Shared>,
}

impl Gate {
    /// The registered key, and no other. A host's certificate says nothing more: only a registered key is signed, and one that was replaced,
    /// because somebody took it, has a certificate that is good for weeks.
    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        let key = shown.public_key();
        if key.key_data() == self.key.key_data() {
            return Ok(());
        }
        let print = |key: &PublicKey| key.fingerprint(HashAlg::Sha256);
        Err(format!(
            "its key is {}, and {} is registered: somebody may be in between, or the host was set up again (`cairn destinations create \
             … --replace` registers its new key)",
            print(&key),
            print(&self.key)
        ))
    }
}

impl client::Handler for Gate {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        match self.judge(shown) {
            Ok(()) => Ok(true),
            Err(why) => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                Ok(false)
            }
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let back = Back::Port { address: address.to_owned(), port, from: from.to_owned(), from_port };
        take_up(&self.shared, channel, back, reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        take_up(&self.shared, channel, Back::Socket(path.to_owned()), reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        take_up(&self.shared, channel, Back::Agent, reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        take_up(&self.shared, channel, Back::Screen { from: from.to_owned(), from_port }, reply);
        Ok(())
    }

    // The library takes these where nobody says otherwise. A host has nothing to open here.
    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

/// What the way to the host needs.
pub(crate) struct Way {
    private: Arc<russh::keys::PrivateKey>,
    certificate: russh::keys::Certificate,
    key: PublicKey,
    authorities: Vec<PublicKey>,
}

impl Way {
    pub(crate) fn new(admitted: &Admitted, key: &SigningKey, rng: &dyn domain::Rng) -> Result<Self, Unreadable> {
        Ok(Self {
            private: Arc::new(private(key, rng)?),
            certificate: certificate(&admitted.client_certificate)?,
            key: public(&admitted.host_key)?,
            authorities: admitted.authorities.iter().map(public).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn authorities(&self) -> &[PublicKey] {
        &self.authorities
    }

    /// Connects and signs in; why not, in words for the user.
    pub(crate) async fn go(&self, shared: &Arc<Shared>) -> Result<Handle<Gate>, String> {
        let stream = shared.around.dial.dial().await?;
        let _ = stream.set_nodelay(true);
        let signed_in = tokio::time::timeout(HANDSHAKE, self.sign_in(shared, stream)).await;
        signed_in.unwrap_or_else(|_| Err("the host does not answer in time".to_owned()))
    }

    async fn sign_in(&self, shared: &Arc<Shared>, stream: tokio::net::TcpStream) -> Result<Handle<Gate>, String> {
        let (admitted, refused) = (&shared.admitted, Arc::new(Mutex::new(None)));
        let gate = Gate { key: self.key.clone(), refused: Arc::clone(&refused), shared: Arc::downgrade(shared) };
        let config = client::Config {
            client_id: russh::SshId::Standard("SSH-2.0-Cairn".into()),
            // The kind that is registered: a host with several keys must not seem to be another one.
            preferred: algorithms::preferred(vec![self.key.algorithm()], HOST_KEYS.to_vec()),
            window_size: stream::WINDOW_BYTES,
            inactivity_timeout: None,
            keepalive_interval: None,
            ..client::Config::default()
        };
        let stream = Paced::new(stream, Arc::clone(&shared.meters.from_host), shared.host_end.clone());
        let connected = client::connect_stream(Arc::new(config), stream, gate).await;
        let why = || refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut handle = connected.map_err(|error| match why() {
            Some(why) => format!("this is not the host that was registered: {why}"),
            None => format!("the host does not speak SSH as it has to: {error}"),
        })?;
        let account = admitted.account.as_str();
        let (private, certificate) = (Arc::clone(&self.private), self.certificate.clone());
        match handle.authenticate_openssh_cert(account, private, certificate).await {
            Ok(AuthResult::Success) => Ok(handle),
            Ok(AuthResult::Failure { .. }) => Err(format!(
                "the host does not let the account `{account}` in: it has to be told whom to let in (`cairn destinations host NAME --sshd-config`), and \
                 the account has to exist"
            )),
            Err(error) => Err(format!("the host broke the connection: {error}")),
        }
    }
}
