//! What the proxy asks the server: which tokens are good here, and whether what is open may stay open.
//!
//! Invariants:
//! - without a word of the server since the relay's start nobody is let in;
//! - keys are believed for as long as a token lives and no longer: who has a key that was withdrawn gains nothing by keeping the relay from its
//!   server;
//! - while the server is away, a token that is good lets its user in; what is open under one ends when what it rests on ends by the server's last
//!   word, and soon after the token where the server stays away: of each token it counts when the server said something about that one;
//! - a server that says no is believed at once.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use crypto::es512::KeySet;
use domain::{Clock, DestinationId, Timestamp};
use fleet::Client;
use gateway::Verifier;
use gateway::kubernetes::{Admission, Admit, Confirm, Live, Refusal, Token};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use wire::destination::{
    AccessCheck, AccessChecked, DestinationRegister, DestinationRegistered, RoleGranted, Standing,
};
use wire::destination_token::LIFETIME_S_MAX;

use super::bindings::Bindings;
use super::settings::{ClusterSettings, Groups, Lendable};
use crate::recording::Recordings;
use crate::standing::{Ask, is_final, judge};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// After so long without a word about it, what is open ends when what it rests on does by the last one.
const UNSURE: Duration = Duration::from_secs(6);
/// After so long without a word about it, it ends with its token. Longer than a server takes to start anew.
const ALONE: Duration = Duration::from_secs(66);
/// How far the server's clock may be off, in seconds.
const LEEWAY_S: i64 = 30;
/// For how long keys are believed.
const KEYS: Duration = Duration::from_secs(LIFETIME_S_MAX.unsigned_abs() + LEEWAY_S.unsigned_abs());
/// Why something is cut.
const GONE: &str = "the grant, the membership or the session behind it is gone";

/// What the server said of this destination.
struct Registered {
    id: DestinationId,
    issuer: String,
    verifier: Verifier,
    /// When the keys were read.
    read: Instant,
}

struct Server {
    client: Client,
    /// The groups that the cluster is told of.
    groups: Groups,
    /// The names that grants may lend.
    lendable: Lendable,
    bindings: Arc<Bindings>,
    live: Arc<Live>,
    /// Who has to know what is to be recorded.
    recordings: Recordings,
    clock: Arc<dyn Clock>,
    registered: RwLock<Option<Registered>>,
}

/// The proxy's questions to the server; cheap to clone.
#[derive(Clone)]
pub(crate) struct Asking(Arc<Server>);

impl Asking {
    pub(super) fn new(
        client: Client,
        settings: &ClusterSettings,
        bindings: Arc<Bindings>,
        live: Arc<Live>,
        recordings: Recordings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (groups, lendable) = (settings.groups.clone(), settings.lendable.clone());
        let registered = RwLock::default();
        let server = Server { client, groups, lendable, bindings, live, recordings, clock, registered };
        Self(Arc::new(server))
    }

    /// The destination, once it is registered.
    pub(crate) fn destination(&self) -> Option<DestinationId> {
        self.0.registered.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|known| known.id)
    }

    /// Tells something of a destination, and needs no answer but that it came. A no counts for the one that is told of.
    pub(super) async fn tell(&self, of: DestinationId, path: &str, document: &impl Serialize) -> anyhow::Result<()> {
        let answer = self.post(path, document).await;
        if answer.as_ref().is_err_and(is_final) && self.destination() == Some(of) {
            self.end();
        }
        answer.map(drop)
    }

    /// Asks about this relay's own.
    async fn call<A: DeserializeOwned>(&self, path: &str, document: &impl Serialize) -> anyhow::Result<A> {
        serde_json::from_slice(&self.send(path, document).await?).context("the server answers something else")
    }

    /// The answer's body; a no is believed.
    async fn send(&self, path: &str, document: &impl Serialize) -> anyhow::Result<Vec<u8>> {
        let answer = self.post(path, document).await;
        if answer.as_ref().is_err_and(is_final) {
            self.end();
        }
        answer
    }

    async fn post(&self, path: &str, document: &impl Serialize) -> anyhow::Result<Vec<u8>> {
        let target = format!("{}/{path}", self.0.client.path());
        let body = serde_json::to_vec(document)?;
        let answer = tokio::time::timeout(ANSWER, self.0.client.call(Method::POST, &target, &body)).await;
        let answer = answer.context("the server did not answer in time")?.map_err(anyhow::Error::new);
        Ok(answer?.body)
    }

    /// Nobody is let in any more, and nothing stays open, until the server says otherwise.
    fn end(&self) {
        let before = self.0.registered.write().unwrap_or_else(PoisonError::into_inner).take();
        if before.is_some() {
            let cut = self.0.live.cut("the relay does not serve this destination any more", |_| true);
            tracing::error!(cut, "the server says that this relay does not serve the destination any more");
        }
    }

    /// Registers the cluster, and reads the keys of tokens. Its id, and what is granted there as far as the server says.
    pub(super) async fn register(
        &self,
        document: &DestinationRegister,
    ) -> anyhow::Result<(DestinationId, Option<Vec<RoleGranted>>)> {
        let read = Instant::now();
        let told: DestinationRegistered = self.call("destinations", document).await?;
        self.0.recordings.note(told.id, told.recording);
        let keys = KeySet::parse(told.keys.to_string().as_bytes()).context("the server's keys are not understood")?;
        let mut registered = self.0.registered.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *registered {
            Some(known) if known.id == told.id && known.issuer == told.issuer => {
                known.verifier.replace_keys(keys);
                known.read = read;
            }
            _ => {
                tracing::info!(destination = %told.id, name = document.name, "the cluster is registered");
                let verifier = Verifier::new(told.issuer.clone(), told.id, keys, LEEWAY_S);
                *registered = Some(Registered { id: told.id, issuer: told.issuer, verifier, read });
            }
        }
        Ok((told.id, told.granted))
    }

    /// Looks once after everything that is in use.
    pub(super) async fn look(&self) {
        let now = self.0.clock.now();
        look(&self.0.live, self.destination(), now, self).await;
    }
}

#[async_trait::async_trait]
impl Ask for Asking {
    async fn ask(&self, check: AccessCheck) -> anyhow::Result<AccessChecked> {
        self.call("access-check", &check).await
    }
}

/// Whether the server knows of nothing of this relay by that name.
pub(super) fn is_unknown(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(fleet::Error::Refused { status: 404, .. }))
}

/// Asks about what these tokens rest on, and cuts those that rest on nothing.
async fn check(tokens: Vec<Arc<Token>>, destination: DestinationId, server: &dyn Ask) -> anyhow::Result<()> {
    let mut asked = Vec::with_capacity(tokens.len());
    for token in tokens {
        match standing(token.admission(), destination) {
            Ok(standing) => asked.push((token, standing)),
            Err(_) => token.cut(GONE),
        }
    }
    for (token, until) in judge(asked, server).await? {
        if let Some(until) = until {
            token.word().say(until);
        } else {
            tracing::info!(user = token.admission().user, open = token.open(), "cut off: {GONE}");
            token.cut(GONE);
        }
    }
    Ok(())
}

/// Looks once after everything that is in use: asks about it, and ends what stands no more by the last word about it.
async fn look(live: &Live, destination: Option<DestinationId>, now: Timestamp, server: &dyn Ask) {
    live.forget(now);
    // One question for all tokens of one session in one role: a watch outlives many.
    let mut asked = BTreeMap::<_, Vec<Arc<Token>>>::new();
    for token in live.all().into_iter().filter(|token| token.why_cut().is_none()) {
        let Admission { user_id, session, grants, act_as, groups, .. } = token.admission();
        let rests_on = (*user_id, *session, grants.clone(), act_as.clone(), groups.clone());
        asked.entry(rests_on).or_default().push(token);
    }
    let mut first: Vec<_> = asked.values().filter_map(|tokens| tokens.first().cloned()).collect();
    // Whom a slow answer left unasked is asked before all others the next time.
    first.sort_by_key(|token| token.word().at());
    if let Some(destination) = destination
        && let Err(error) = check(first, destination, server).await
    {
        tracing::warn!(error = format!("{error:#}"), "nobody says what may stay open");
    }
    for tokens in asked.values() {
        let [first, rest @ ..] = tokens.as_slice() else { continue };
        for token in rest {
            first.word().learn_from(token.word());
        }
        for token in rest {
            token.word().learn_from(first.word());
            if let Some(why) = first.why_cut() {
                token.cut(why);
            }
        }
    }
    live.cut("it ended, and the server cannot be asked", |token| {
        token.word().silence() > UNSURE && token.word().is_over(now)
    });
    live.cut("the token has ended, and the server cannot be asked", |token| {
        token.word().silence() > ALONE && token.admission().expires <= now
    });
}

/// What an admission rests on.
fn standing(admission: &Admission, destination: DestinationId) -> anyhow::Result<Standing> {
    let role = admission.grants.first().context("a token without a role")?.role.parse()?;
    let namespaces: Option<Vec<_>> = admission.grants.iter().map(|grant| grant.namespace.as_deref()).collect();
    let namespaces = namespaces.map(|names| names.into_iter().map(str::parse).collect::<Result<_, _>>()).transpose()?;
    let act_as = admission.act_as.clone();
    let groups = admission.groups.iter().map(|group| group.parse()).collect::<Result<_, _>>()?;
    Ok(Standing {
        user: admission.user_id,
        name: Some(admission.user.clone()),
        session: admission.session,
        destination,
        role,
        namespaces,
        act_as,
        groups,
        ssh: None,
    })
}

impl Admit for Asking {
    fn admit(&self, token: &str, now: Timestamp) -> Result<Admission, Refusal> {
        let registered = self.0.registered.read().unwrap_or_else(PoisonError::into_inner);
        let known = registered.as_ref().ok_or_else(|| {
            Refusal::Unavailable(
                "this relay has not registered its cluster with the server: its log says why".to_owned(),
            )
        })?;
        if known.read.elapsed() > KEYS {
            let why = "this relay has not heard of its server for too long to judge a token";
            return Err(Refusal::Unavailable(why.to_owned()));
        }
        let admitted = known.verifier.admit(token, now).map_err(|refusal| {
            tracing::info!(%refusal, "a token is refused");
            Refusal::Unauthenticated("the token is not accepted: make another one (`cairn tokens add`)".to_owned())
        })?;
        let mut admission = Admission::from(admitted);
        admission.groups.retain(|group| self.0.groups.has(group));
        self.0.lendable.limit(&mut admission.act_as);
        Ok(admission)
    }
}

#[async_trait::async_trait]
impl Confirm for Asking {
    async fn confirm(&self, token: &Arc<Token>) -> Result<(), Refusal> {
        let Some(destination) = self.destination() else { return Ok(()) };
        if let Err(error) = check(vec![Arc::clone(token)], destination, self).await {
            tracing::warn!(error = format!("{error:#}"), "a token is taken at its word: the server cannot be asked");
        }
        if token.why_cut().is_none() {
            self.0.bindings.ensure(&token.admission().grants, destination).await;
        }
        // A token that was cut is refused by who asked.
        Ok(())
    }
}

#[cfg(test)]
mod tests;
