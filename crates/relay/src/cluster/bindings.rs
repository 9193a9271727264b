//! Keeps what is bound in the cluster in step with what is granted: periodically, and at once where a token speaks of what is not bound yet.
//!
//! **Not for** whom the bindings let in: their groups are nobody's but those of requests that the proxy lets on.
//!
//! Invariants:
//! - a group of a namespace is told to the API server only while its binding is known to be there;
//! - nothing is removed before the server has said what is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use domain::{DestinationId, DestinationRole, Slug};
use gateway::kubernetes::{Cluster, Granted, Live, Refusal, Roles};
use http::{Method, StatusCode};
use serde_json::Value;
use wire::destination::RoleGranted;

use super::binding::{Binding, Found, LABEL, PATH, Pair, Plan, plan};

/// How long a request may wait for its binding.
const WAIT: Duration = Duration::from_secs(5);
/// How long an API server takes to act by a binding that it has just taken: it reads them from a watch of its own.
const SEEN: Duration = Duration::from_millis(250);
/// Most bindings of Cairn's that are read.
const FOUND_MAX: usize = 20_000;

/// What is bound in the cluster.
pub(crate) struct Bindings {
    cluster: Arc<Cluster>,
    live: Arc<Live>,
    offered: BTreeSet<DestinationRole>,
    /// In how many namespaces; none: administrators bind by hand, one group for a role.
    places_max: Option<u32>,
    /// The places of what is bound, by role and namespace; 0 for what is bound in the whole cluster.
    bound: RwLock<BTreeMap<(String, Option<String>), u32>>,
    /// What the server says is granted.
    told: Mutex<Option<BTreeSet<Pair>>>,
    /// What was reported and is not reported again.
    reported: Mutex<BTreeSet<String>>,
    settling: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bindings {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        live: Arc<Live>,
        offered: &[DestinationRole],
        places_max: Option<u32>,
    ) -> Self {
        Self {
            cluster,
            live,
            offered: offered.iter().cloned().collect(),
            places_max,
            bound: RwLock::default(),
            told: Mutex::default(),
            reported: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
        }
    }

    fn place(&self, role: &str, namespace: Option<&str>) -> Option<u32> {
        let bound = self.bound.read().unwrap_or_else(PoisonError::into_inner);
        bound.get(&(role.to_owned(), namespace.map(str::to_owned))).copied()
    }

    /// The pair of what a token says, if the role is one that is offered.
    fn pair(&self, granted: &Granted) -> Option<Pair> {
        let role = self.offered.iter().find(|role| role.as_str() == granted.role)?;
        let namespace = granted.namespace.as_deref().map(str::parse::<Slug>).transpose().ok()?;
        Some((role.clone(), namespace))
    }

    /// What tokens in use say.
    fn in_use(&self) -> BTreeSet<Pair> {
        let tokens = self.live.all().into_iter().filter(|token| token.why_cut().is_none());
        tokens
            .flat_map(|token| token.admission().grants.iter().filter_map(|one| self.pair(one)).collect::<Vec<_>>())
            .collect()
    }

    /// What the server says is granted is bound, where its namespace exists, and nothing else.
    pub(super) async fn follow(
        &self,
        granted: Option<Vec<RoleGranted>>,
        namespaces: &[Slug],
        destination: DestinationId,
    ) {
        let (Some(granted), Some(_)) = (granted, self.places_max) else { return };
        let exists = |namespace: &Option<Slug>| namespace.as_ref().is_none_or(|name| namespaces.contains(name));
        let granted = granted.into_iter().map(|one| (one.role, one.namespace));
        let granted = granted.filter(|(role, namespace)| self.offered.contains(role) && exists(namespace)).collect();
        *lock(&self.told) = Some(granted);
        let _one = self.settling.lock().await;
        if let Err(error) = self.settle(BTreeSet::new(), destination).await {
            tracing::warn!(error = format!("{error:#}"), "what is granted is not bound in the cluster yet");
        }
    }

    /// Binds at once what a token speaks of, where it is not bound yet.
    pub(super) async fn ensure(&self, granted: &[Granted], destination: DestinationId) {
        if self.places_max.is_none() {
            return;
        }
        let missing = || {
            let missing = granted.iter().filter(|one| self.place(&one.role, one.namespace.as_deref()).is_none());
            missing.filter_map(|one| self.pair(one)).collect::<BTreeSet<_>>()
        };
        if missing().is_empty() {
            return;
        }
        let settled = async {
            let _one = self.settling.lock().await;
            let missing = missing();
            if !missing.is_empty() && self.settle(missing, destination).await? {
                tokio::time::sleep(SEEN).await;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(WAIT, settled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = format!("{error:#}"), "what a token speaks of is not bound in the cluster");
            }
            Err(_) => tracing::warn!("the API server did not bind in time what a token speaks of"),
        }
    }

    /// Brings the cluster to what is granted, by the server's last word, by the tokens in use and by `more`. Whether something was bound anew.
    async fn settle(&self, more: BTreeSet<Pair>, destination: DestinationId) -> anyhow::Result<bool> {
        let told = lock(&self.told).clone();
        let is_told = told.is_some() && more.is_empty();
        let mut wanted = told.unwrap_or_default();
        wanted.extend(self.in_use());
        wanted.extend(more);
        let mut found = Vec::new();
        for collection in ["clusterrolebindings", "rolebindings"] {
            let target = format!("{PATH}/{collection}?labelSelector={}%3D{}&", LABEL.0.replace('/', "%2F"), LABEL.1);
            let items = list(&self.cluster, &target, FOUND_MAX).await.with_context(|| collection.to_owned())?;
            found.extend(items.iter().filter_map(Found::read));
        }
        let Plan { remove, replace, create, kept, unplaced } =
            plan(found, &wanted, destination, self.places_max.unwrap_or_default());
        for pair in unplaced {
            self.report(
                &format!("{pair:?}"),
                "a role is granted in more namespaces than there are places for: raise RELAY_CLUSTER_BINDINGS",
            );
        }
        let mut bound: BTreeMap<_, _> = kept.iter().map(entry).collect();
        let key = |one: &Found| (one.role().to_owned(), one.namespace().map(str::to_owned));
        self.bound
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known, _| !remove.iter().any(|one| key(one) == *known));
        if is_told {
            for one in &remove {
                self.write(Method::DELETE, &one.path(), &one.preconditions()).await?;
                tracing::info!(binding = one.path(), "removed: nothing is granted by it any more");
            }
        }
        let mut anew = false;
        for (one, binding) in &replace {
            let path = one.path();
            if self.write(Method::PUT, &path, &one.replacement(binding, destination)).await?.is_success() {
                tracing::warn!(binding = path, "put right: somebody had changed it");
                anew = true;
                bound.extend([entry(binding)]);
            }
        }
        for binding in &create {
            let path = binding.path();
            match self.write(Method::POST, &binding.collection(), &binding.document(destination)).await? {
                StatusCode::CONFLICT => {
                    self.report(&path, "is there and is not Cairn's (it lacks the label): it stays as it is, and what is granted there may not hold");
                }
                StatusCode::NOT_FOUND => tracing::info!(binding = path, "not bound: there is no such namespace"),
                _ => {
                    tracing::info!(binding = path, "bound");
                    anew = true;
                    bound.extend([entry(binding)]);
                }
            }
        }
        *self.bound.write().unwrap_or_else(PoisonError::into_inner) = bound;
        Ok(anew)
    }

    /// Writes something down once and not every time.
    fn report(&self, what: &str, text: &str) {
        if lock(&self.reported).insert(what.to_owned()) {
            tracing::error!(what, "{text}");
        }
    }

    async fn write(&self, method: Method, target: &str, document: &Value) -> anyhow::Result<StatusCode> {
        let sent = Some(("application/json", document));
        let (status, answer) = self.cluster.ask(method.clone(), target, sent).await.map_err(anyhow::Error::msg)?;
        match status {
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(status),
            status if status.is_success() => Ok(status),
            status => {
                let said = answer.get("message").and_then(Value::as_str).unwrap_or_default();
                bail!("the API server answers {status} to {method} of `{target}`: {said}")
            }
        }
    }
}

fn entry(binding: &Binding) -> ((String, Option<String>), u32) {
    let (role, namespace) = binding.pair();
    ((role.to_string(), namespace.map(|name| name.to_string())), binding.at.as_ref().map_or(0, |(_, place)| *place))
}

impl Roles for Bindings {
    fn group(&self, granted: &Granted) -> Result<String, Refusal> {
        let Granted { role, namespace } = granted;
        match namespace {
            None => Ok(role.clone()),
            Some(_) if self.places_max.is_none() => Ok(role.clone()),
            Some(namespace) => match self.place(role, Some(namespace)) {
                Some(place) => Ok(format!("{role}@{place}")),
                None => Err(Refusal::Forbidden(format!(
                    "`{role}` is not bound in the namespace `{namespace}`: does it exist? The relay's log says more"
                ))),
            },
        }
    }
}

/// Every item of a list, as far as `max`. `target` ends where its query goes on.
pub(super) async fn list(cluster: &Cluster, target: &str, max: usize) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut more) = (Vec::new(), String::new());
    loop {
        let page = format!("{target}limit=500{more}");
        let (status, mut list) = cluster.ask(Method::GET, &page, None).await.map_err(anyhow::Error::msg)?;
        if !status.is_success() {
            bail!("the API server answers {status}: the relay's service account needs `list`");
        }
        if let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) {
            all.extend(items);
        }
        let next = list.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default();
        if next.is_empty() {
            return Ok(all);
        }
        if all.len() > max {
            tracing::warn!(read = max, target, "there are more than are read");
            all.truncate(max);
            return Ok(all);
        }
        let plain = next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        anyhow::ensure!(plain, "the API server goes on with something that is no mark");
        more = format!("&continue={next}");
    }
}

#[cfg(test)]
mod tests {
    use gateway::kubernetes::TokenFile;
    use serde_json::json;
    use testkit::KubeApi;

    use super::*;

    fn destination() -> DestinationId {
        format!("dst_{}", "0".repeat(26)).parse().unwrap()
    }

    fn granted(pairs: &[(&str, &str)]) -> Vec<RoleGranted> {
        let one = |(role, namespace): &(&str, &str)| RoleGranted {
            role: role.parse().unwrap(),
            namespace: (!namespace.is_empty()).then(|| namespace.parse().unwrap()),
        };
        pairs.iter().map(one).collect()
    }

    fn spoken(role: &str, namespace: &str) -> Granted {
        Granted { role: role.to_owned(), namespace: (!namespace.is_empty()).then(|| namespace.to_owned()) }
    }

    /// Bindings in a double that offers `view` and `edit`.
    fn world(api: &KubeApi, places_max: Option<u32>) -> (Bindings, tempfile::TempDir) {
        crypto::tls::install();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "the-relay").unwrap();
        std::fs::write(folder.path().join("ca.crt"), &api.authority).unwrap();
        let trust = fleet::Trust::of_file(&folder.path().join("ca.crt")).unwrap();
        let tls = Arc::new(fleet::Tls::new(trust).client_config(&[b"http/1.1"]).unwrap());
        let cluster = Cluster::new(&api.address(), tls, TokenFile::new(folder.path().join("token"))).unwrap();
        let roles = ["view".parse().unwrap(), "edit".parse().unwrap()];
        (Bindings::new(Arc::new(cluster), Arc::default(), &roles, places_max), folder)
    }

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    fn bound(api: &KubeApi) -> Vec<String> {
        api.bindings().into_iter().map(|(path, groups)| format!("{path}: {}", groups.join(" "))).collect()
    }

    #[test]
    fn what_is_granted_is_bound_where_its_namespace_is_and_goes_with_its_last_grant() {
        let api = KubeApi::start("the-relay");
        api.unbind();
        let (bindings, _folder) = world(&api, Some(9));
        let namespaces = ["a".parse().unwrap(), "b".parse().unwrap()];
        let told = granted(&[("view", ""), ("view", "a"), ("edit", "b"), ("view", "nowhere"), ("cluster-admin", "a")]);
        run(bindings.follow(Some(told), &namespaces, destination()));
        let expect = [
            "clusterrolebindings/cairn-role:view: cairn-role:view",
            "namespaces/a/rolebindings/cairn-role:view: cairn-role:view@2",
            "namespaces/b/rolebindings/cairn-role:edit: cairn-role:edit@1",
        ];
        assert_eq!(bound(&api), expect);
        assert_eq!(bindings.group(&spoken("view", "a")).unwrap(), "view@2");
        assert!(bindings.group(&spoken("view", "b")).is_err() && bindings.group(&spoken("view", "nowhere")).is_err());
        // A server that does not say, or is not heard, takes nothing away; one that says nothing is granted does.
        run(bindings.follow(None, &namespaces, destination()));
        assert_eq!(bound(&api).len(), 3);
        run(bindings.follow(Some(granted(&[("view", "a")])), &namespaces, destination()));
        assert_eq!(bound(&api), expect[1..2]);
        assert!(bindings.group(&spoken("edit", "b")).is_err(), "and its group is told to nobody");
    }

    #[test]
    fn a_token_is_the_servers_word_and_what_is_not_ours_stays_as_it_is() {
        let api = KubeApi::start("the-relay");
        let by_hand = bound(&api);
        let foreign = "/apis/rbac.authorization.k8s.io/v1/namespaces/b/rolebindings/cairn-role:view";
        api.put(foreign, json!({"kind": "RoleBinding", "roleRef": {"name": "admin"}, "subjects": []}));
        let (bindings, _folder) = world(&api, Some(9));
        run(bindings.ensure(&[spoken("view", "a"), spoken("view", "b"), spoken("admin", "a")], destination()));
        assert_eq!(bindings.group(&spoken("view", "a")).unwrap(), "view@1");
        assert!(bindings.group(&spoken("view", "b")).is_err(), "nobody is let in by what somebody else bound");
        run(bindings.follow(Some(Vec::new()), &["a".parse().unwrap(), "b".parse().unwrap()], destination()));
        let left = [by_hand, vec!["namespaces/b/rolebindings/cairn-role:view: ".to_owned()]].concat();
        assert_eq!(bound(&api), left);
        let written = api.seen().into_iter().filter(|seen| seen.method != "GET");
        assert!(written.into_iter().all(|seen| seen.method != "DELETE" || !seen.target.contains("/b/")));
    }

    #[test]
    fn where_administrators_bind_by_hand_nothing_is_asked_or_written() {
        let api = KubeApi::start("the-relay");
        let (bindings, _folder) = world(&api, None);
        run(bindings.follow(Some(granted(&[("view", "a")])), &["a".parse().unwrap()], destination()));
        run(bindings.ensure(&[spoken("view", "a")], destination()));
        assert_eq!(bindings.group(&spoken("view", "a")).unwrap(), "view");
        assert!(api.seen().is_empty());
    }
}
