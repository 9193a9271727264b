//! Keeps what is bound in the cluster in step with what is granted: periodically, and at once where a token speaks of what is not bound yet.
//!
//! **Not for** whom the bindings let in: their groups are nobody's but those of requests that the proxy lets on.
//!
//! Invariants:
//! - a group of a namespace is told to the API server only while its binding is known to be there;
//! - nothing is removed before the server has said what is granted;
//! - nothing is bound while not all that is bound was seen: a place that looks free may stand for another namespace.

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
use super::list::list;

/// How long a request may wait for its binding.
const WAIT: Duration = Duration::from_secs(5);
/// How long an API server takes to act by a binding that it has just taken: it reads them from a watch of its own.
const SEEN: Duration = Duration::from_millis(250);
/// Most bindings of Cairn's that are looked at together: each offered role in each place, many times over.
const FOUND_MAX: usize = 20_000;
/// Most that are removed in one go while there are more than can be looked at, so that the next registration is not late.
const REMOVED_MAX: usize = 1_000;

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
    found_max: usize,
}

/// Whether a role can be bound there: a namespace's own is in that namespace only.
fn has_sense(role: &DestinationRole, namespace: Option<&Slug>) -> bool {
    role.of_namespace().is_none() || namespace.is_some()
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
            found_max: FOUND_MAX,
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
        has_sense(role, namespace.as_ref()).then(|| (role.clone(), namespace))
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
        let there: BTreeSet<&Slug> = namespaces.iter().collect();
        let exists = |namespace: &Option<Slug>| namespace.as_ref().is_none_or(|name| there.contains(name));
        let granted = granted.into_iter().map(|one| (one.role, one.namespace));
        let fits = |(role, namespace): &Pair| {
            self.offered.contains(role) && exists(namespace) && has_sense(role, namespace.as_ref())
        };
        let granted = granted.filter(fits).collect();
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
        let (mut found, mut whole) = (Vec::new(), true);
        for collection in ["clusterrolebindings", "rolebindings"] {
            let target = format!("{PATH}/{collection}?labelSelector={}%3D{}&", LABEL.0.replace('/', "%2F"), LABEL.1);
            let listed = list(&self.cluster, &target, self.found_max, Found::read).await;
            let listed = listed.with_context(|| collection.to_owned())?;
            whole &= listed.whole;
            found.extend(listed.items);
        }
        if !whole {
            return self.remove_strays(&found, is_told.then_some(&wanted)).await;
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

    /// What can be done without knowing all that is bound: what nobody is granted goes. A place that looks free may stand for a namespace that was
    /// not seen, so nothing is bound or changed.
    async fn remove_strays(&self, found: &[Found], wanted: Option<&BTreeSet<Pair>>) -> anyhow::Result<bool> {
        let stray = |one: &&Found| wanted.is_some_and(|wanted| !wanted.contains(one.pair()));
        let strays: Vec<&Found> = found.iter().filter(stray).take(REMOVED_MAX).collect();
        let key = |one: &Found| (one.role().to_owned(), one.namespace().map(str::to_owned));
        let gone: BTreeSet<_> = strays.iter().map(|one| key(one)).collect();
        self.bound.write().unwrap_or_else(PoisonError::into_inner).retain(|known, _| !gone.contains(known));
        for one in &strays {
            self.write(Method::DELETE, &one.path(), &one.preconditions()).await?;
        }
        bail!(
            "more than {} bindings carry the label {}={}: nothing is bound or changed while they are not all seen; {} that nobody is granted were removed",
            self.found_max,
            LABEL.0,
            LABEL.1,
            strays.len()
        )
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
            // A namespace's own role reaches nothing in the whole cluster, whatever is bound to a group of its name.
            None if role.parse::<DestinationRole>().is_ok_and(|role| role.of_namespace().is_some()) => {
                Err(Refusal::Forbidden(format!("`{role}` is a role of a namespace, and this is not in one")))
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::KubeApi;

    use super::super::list::tests::{cluster, run};
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
        let (cluster, folder) = cluster(api);
        let roles = ["view", "edit", "role:deployer"].map(|role| role.parse().unwrap());
        (Bindings::new(Arc::new(cluster), Arc::default(), &roles, places_max), folder)
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
    fn a_namespaces_own_role_is_bound_in_its_namespace_and_nowhere_else() {
        let api = KubeApi::start("the-relay");
        api.unbind();
        let (bindings, _folder) = world(&api, Some(9));
        let namespaces = ["a".parse().unwrap(), "b".parse().unwrap()];
        let told = [("role:deployer", "a"), ("role:deployer", ""), ("role:other", "a"), ("view", "a")];
        run(bindings.follow(Some(granted(&told)), &namespaces, destination()));
        let expect = [
            "namespaces/a/rolebindings/cairn-role:role:deployer: cairn-role:role:deployer@1",
            "namespaces/a/rolebindings/cairn-role:view: cairn-role:view@1",
        ];
        assert_eq!(bound(&api), expect);
        let made = api.seen().into_iter().filter(|seen| seen.method == "POST").map(|seen| seen.body);
        let refs: Vec<Value> =
            made.map(|body| serde_json::from_slice::<Value>(&body).unwrap()["roleRef"].clone()).collect();
        let group = "rbac.authorization.k8s.io";
        assert_eq!(
            refs,
            [
                json!({"apiGroup": group, "kind": "Role", "name": "deployer"}),
                json!({"apiGroup": group, "kind": "ClusterRole", "name": "view"})
            ]
        );
        assert_eq!(bindings.group(&spoken("role:deployer", "a")).unwrap(), "role:deployer@1");
        // Not in the whole cluster, whatever a token says.
        run(bindings.ensure(&[spoken("role:deployer", "")], destination()));
        assert!(bindings.group(&spoken("role:deployer", "")).is_err());
        assert!(bindings.group(&spoken("role:deployer", "b")).is_err());
        assert_eq!(bound(&api), expect);
        // A cluster role of the same name behind ours is put right.
        let path = format!("{PATH}/namespaces/a/rolebindings/cairn-role:role:deployer");
        let labels = json!({LABEL.0: LABEL.1});
        let subjects = json!([{"kind": "Group", "name": "cairn-role:role:deployer@1"}]);
        let role_ref = json!({"apiGroup": group, "kind": "ClusterRole", "name": "deployer"});
        api.put(
            &path,
            json!({"kind": "RoleBinding", "metadata": {"labels": labels}, "roleRef": role_ref, "subjects": subjects}),
        );
        // What a binding refers to cannot be changed: it goes, and is made anew the next time.
        for _ in 0..2 {
            run(bindings.follow(Some(granted(&told)), &namespaces, destination()));
        }
        assert_eq!(bound(&api), expect);
        let last = api.seen().into_iter().rfind(|seen| seen.method == "POST").unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&last.body).unwrap()["roleRef"], refs[0]);
        run(bindings.follow(Some(Vec::new()), &namespaces, destination()));
        assert!(bound(&api).is_empty());
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

    #[test]
    fn a_place_is_not_given_away_while_not_all_that_is_bound_was_seen() {
        let api = KubeApi::start("the-relay");
        api.unbind();
        api.put("/api/v1/namespaces/z", json!({"kind": "Namespace"}));
        let (mut bindings, _folder) = world(&api, Some(9));
        bindings.found_max = 500;
        let namespaces = ["a".parse().unwrap(), "z".parse().unwrap()];
        run(bindings.follow(Some(granted(&[("view", "z")])), &namespaces, destination()));
        let first = ["namespaces/z/rolebindings/cairn-role:view: cairn-role:view@1"];
        assert_eq!(bound(&api), first);
        // Somebody who may write bindings in one namespace floods it with what looks like ours.
        for number in 0..1_200 {
            let path = format!("{PATH}/namespaces/b/rolebindings/cairn-role:junk-{number}");
            let labels = json!({LABEL.0: LABEL.1});
            api.put(&path, json!({"kind": "RoleBinding", "metadata": {"labels": labels}, "roleRef": {"name": "view"}, "subjects": []}));
        }
        let seen = api.seen().len();
        run(bindings.ensure(&[spoken("view", "a")], destination()));
        assert!(bindings.group(&spoken("view", "a")).is_err(), "and not let in as somebody of `z`");
        assert_eq!(bindings.group(&spoken("view", "z")).unwrap(), "view@1", "what was seen before holds");
        assert!(api.seen()[seen..].iter().all(|seen| seen.method == "GET"));
        // The server's word takes the strays away, in steps.
        let told = || Some(granted(&[("view", "a"), ("view", "z")]));
        run(bindings.follow(told(), &namespaces, destination()));
        assert_eq!(bound(&api).len(), 201);
        run(bindings.follow(told(), &namespaces, destination()));
        let both = ["namespaces/a/rolebindings/cairn-role:view: cairn-role:view@2", first[0]];
        assert_eq!(bound(&api), both);
        assert_eq!(bindings.group(&spoken("view", "a")).unwrap(), "view@2");
    }
}
