//! What is bound in the cluster, and what is to be: a function of its inputs.
//!
//! A role that is granted in the whole cluster is bound by a ClusterRoleBinding to the group `cairn-role:ROLE`; one that is granted in a namespace by
//! a RoleBinding there to the group `cairn-role:ROLE@PLACE`. A place is a number that stands for one namespace: RBAC limits impersonation to
//! names that are known beforehand, and knows no prefixes, so the names of namespaces cannot be a part of them (ADR 0060). No role's name holds `@`.
//!
//! Invariants:
//! - a place stands for one namespace at a time, and for another one only after nothing of the one before was found any more;
//! - nothing is changed that does not carry the label.

use std::collections::{BTreeMap, BTreeSet};

use domain::{DestinationId, DestinationRole, Slug};
use gateway::kubernetes::identity::ROLE_PREFIX;
use serde_json::{Map, Value, json};

/// The label of what is Cairn's, and its value.
pub(super) const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "cairn");
/// The annotation with the destination's id.
const DESTINATION: &str = "cairn/destination";
const API: &str = "rbac.authorization.k8s.io";
/// Where the API server has them.
pub(super) const PATH: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A role, and the namespace in which it is granted; none: in the whole cluster.
pub(super) type Pair = (DestinationRole, Option<Slug>);

/// A binding as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Binding {
    pub(super) role: DestinationRole,
    /// The namespace and its place.
    pub(super) at: Option<(Slug, u32)>,
}

impl Binding {
    pub(super) fn pair(&self) -> Pair {
        (self.role.clone(), self.at.as_ref().map(|(namespace, _)| namespace.clone()))
    }

    /// Its group without the prefix.
    fn group(&self) -> String {
        match &self.at {
            None => self.role.to_string(),
            Some((_, place)) => format!("{}@{place}", self.role),
        }
    }

    /// Where its like are.
    pub(super) fn collection(&self) -> String {
        match &self.at {
            None => format!("{PATH}/clusterrolebindings"),
            Some((namespace, _)) => format!("{PATH}/namespaces/{namespace}/rolebindings"),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        format!("{}/{ROLE_PREFIX}{}", self.collection(), self.role)
    }

    /// It, as the API server takes it.
    pub(super) fn document(&self, destination: DestinationId) -> Value {
        self.version(destination, None)
    }

    /// The same in place of one of this version.
    fn version(&self, destination: DestinationId, version: Option<&Value>) -> Value {
        let name = format!("{ROLE_PREFIX}{}", self.role);
        let namespace = self.at.as_ref().map(|(namespace, _)| json!(namespace));
        let fixed = [
            ("name", json!(name)),
            ("labels", json!({LABEL.0: LABEL.1})),
            ("annotations", json!({DESTINATION: destination})),
        ];
        let more = [("namespace", namespace), ("resourceVersion", version.cloned())];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let metadata: Map<String, Value> =
            fixed.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
        json!({
            "apiVersion": format!("{API}/v1"),
            "kind": if self.at.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
            "metadata": metadata,
            "roleRef": self.role_ref(),
            "subjects": [{"apiGroup": API, "kind": "Group", "name": format!("{ROLE_PREFIX}{}", self.group())}],
        })
    }

    fn role_ref(&self) -> Value {
        let (kind, name) = match self.role.of_namespace() {
            Some(own) => ("Role", own),
            None => ("ClusterRole", self.role.as_str()),
        };
        json!({"apiGroup": API, "kind": kind, "name": name})
    }
}

/// One of ours, as the cluster has it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    document: Value,
    /// What its name and its namespace say.
    pair: Pair,
    /// Its place, where it names one.
    place: Option<u32>,
}

impl Found {
    /// Reads an item of a list. None: it is not ours, or its name is none of ours.
    pub(super) fn read(document: &Value) -> Option<Self> {
        let metadata = document.get("metadata")?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        if metadata.get("labels")?.get(LABEL.0)? != LABEL.1 {
            return None;
        }
        let role: DestinationRole = text("name")?.strip_prefix(ROLE_PREFIX)?.parse().ok()?;
        let namespace = text("namespace").map(str::parse).transpose().ok()?;
        let group = document.pointer("/subjects/0/name").and_then(Value::as_str).unwrap_or_default();
        let place = group.strip_prefix(ROLE_PREFIX).and_then(|group| group.rsplit_once('@')?.1.parse().ok());
        Some(Self { document: document.clone(), pair: (role, namespace), place })
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        let (role, namespace) = self.pair.clone();
        Binding { role, at: namespace.map(|namespace| (namespace, 0)) }.path()
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn role(&self) -> &str {
        self.pair.0.as_str()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.pair.1.as_ref().map(Slug::as_str)
    }

    fn text(&self, pointer: &str) -> &Value {
        self.document.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// That what is removed is this one, and no other that took its name meanwhile.
    pub(super) fn preconditions(&self) -> Value {
        let (uid, version) = (self.text("/metadata/uid"), self.text("/metadata/resourceVersion"));
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid, "resourceVersion": version}})
    }

    /// What takes its place, if it is still the same.
    pub(super) fn replacement(&self, binding: &Binding, destination: DestinationId) -> Value {
        binding.version(destination, Some(self.text("/metadata/resourceVersion")))
    }

    /// Whether it is as this is to be.
    fn is(&self, binding: &Binding, destination: DestinationId) -> bool {
        let wanted = binding.document(destination);
        let note = format!("/metadata/annotations/{}", DESTINATION.replace('/', "~1"));
        ["/roleRef", "/subjects", &note].into_iter().all(|at| self.document.pointer(at) == wanted.pointer(at))
    }
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// First.
    pub(super) remove: Vec<Found>,
    /// Then.
    pub(super) replace: Vec<(Found, Binding)>,
    /// Then.
    pub(super) create: Vec<Binding>,
    /// What is as it is to be.
    pub(super) kept: Vec<Binding>,
    /// For what there is no place.
    pub(super) unplaced: Vec<Pair>,
}

/// From what was found of ours to what is wanted. Removing comes first, so that what a place stood for is gone before it stands for something else;
/// and a place that was found anywhere is not given anew in the same plan.
pub(super) fn plan(found: Vec<Found>, wanted: &BTreeSet<Pair>, destination: DestinationId, places_max: u32) -> Plan {
    let mut places: BTreeMap<&Slug, u32> = BTreeMap::new();
    let mut taken: BTreeSet<u32> = found.iter().filter_map(|one| one.place).collect();
    let mut kept_places = BTreeSet::new();
    for one in &found {
        let Some((_, Some(namespace))) = wanted.get(&one.pair) else { continue };
        let Some(place) = one.place.filter(|place| (1..=places_max).contains(place)) else { continue };
        if !places.contains_key(namespace) && kept_places.insert(place) {
            places.insert(namespace, place);
        }
    }
    for namespace in wanted.iter().filter_map(|(_, namespace)| namespace.as_ref()) {
        if !places.contains_key(namespace)
            && let Some(free) = (1..=places_max).find(|place| !taken.contains(place))
        {
            taken.insert(free);
            places.insert(namespace, free);
        }
    }
    let binding = |pair: &Pair| {
        let at = match &pair.1 {
            None => None,
            Some(namespace) => Some((namespace.clone(), *places.get(namespace)?)),
        };
        Some(Binding { role: pair.0.clone(), at })
    };
    let (mut plan, mut there) = (Plan::default(), BTreeSet::new());
    for one in found {
        match wanted.get(&one.pair).and_then(binding) {
            Some(binding) if one.is(&binding, destination) => {
                there.insert(one.pair.clone());
                plan.kept.push(binding);
            }
            // What a binding refers to cannot be changed: it is made anew, the next time.
            Some(binding) if *one.text("/roleRef") == binding.role_ref() => {
                there.insert(one.pair.clone());
                plan.replace.push((one, binding));
            }
            other => {
                if other.is_some() {
                    there.insert(one.pair.clone());
                }
                plan.remove.push(one);
            }
        }
    }
    for pair in wanted.iter().filter(|pair| !there.contains(*pair)) {
        match binding(pair) {
            Some(binding) => plan.create.push(binding),
            None => plan.unplaced.push(pair.clone()),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: u32 = 4;

    fn destination() -> DestinationId {
        format!("dst_{}", "0".repeat(26)).parse().unwrap()
    }

    fn pair(role: &str, namespace: &str) -> Pair {
        (role.parse().unwrap(), (!namespace.is_empty()).then(|| namespace.parse().unwrap()))
    }

    /// A cluster: what is bound, by its path.
    #[derive(Debug, Clone, Default)]
    struct Cluster(BTreeMap<String, Value>);

    impl Cluster {
        fn found(&self) -> Vec<Found> {
            self.0.values().filter_map(Found::read).collect()
        }

        fn put(&mut self, path: String, mut document: Value) {
            document["metadata"]["uid"] = json!(path);
            self.0.insert(path, document);
        }

        /// In which namespaces each group holds which role.
        fn reach(&self) -> BTreeMap<String, BTreeSet<(String, String)>> {
            let mut reach = BTreeMap::<String, BTreeSet<(String, String)>>::new();
            for document in self.0.values() {
                let text = |at: &str| document.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
                for subject in document["subjects"].as_array().unwrap() {
                    let group = subject["name"].as_str().unwrap().to_owned();
                    reach.entry(group).or_default().insert((text("/roleRef/name"), text("/metadata/namespace")));
                }
            }
            reach
        }

        /// Does one plan, step by step, and looks after each of them.
        fn settle(&mut self, wanted: &BTreeSet<Pair>, look: impl Fn(&Self)) -> Plan {
            let plan = plan(self.found(), wanted, destination(), PLACES);
            for one in &plan.remove {
                assert_eq!(one.preconditions()["preconditions"]["uid"], json!(one.path()));
                self.0.remove(&one.path()).unwrap();
                look(self);
            }
            for (one, binding) in &plan.replace {
                self.put(one.path(), one.replacement(binding, destination()));
                look(self);
            }
            for binding in &plan.create {
                if !self.0.contains_key(&binding.path()) {
                    self.put(binding.path(), binding.document(destination()));
                }
                look(self);
            }
            plan
        }
    }

    #[test]
    fn a_role_is_bound_where_it_is_granted_and_each_namespace_has_a_group_of_its_own() {
        let mut cluster = Cluster::default();
        let mut wanted: BTreeSet<Pair> =
            [pair("view", ""), pair("view", "a"), pair("edit", "a"), pair("view", "b")].into();
        cluster.settle(&wanted, |_| ());
        let place = |role: &str, namespace: &str| (role.to_owned(), namespace.to_owned());
        let expect = [
            ("cairn-role:edit@1", place("edit", "a")),
            ("cairn-role:view", place("view", "")),
            ("cairn-role:view@1", place("view", "a")),
            ("cairn-role:view@2", place("view", "b")),
        ];
        assert_eq!(cluster.reach(), expect.map(|(group, at)| (group.to_owned(), [at].into())).into());
        // A place is not given to another namespace before what it stood for is gone.
        wanted.remove(&pair("view", "b"));
        wanted.insert(pair("view", "c"));
        cluster.settle(&wanted, |_| ());
        assert_eq!(cluster.reach()["cairn-role:view@3"], [place("view", "c")].into());
        wanted.insert(pair("view", "d"));
        cluster.settle(&wanted, |_| ());
        assert_eq!(cluster.reach()["cairn-role:view@2"], [place("view", "d")].into());
        // More namespaces than places: those have nothing, and the others keep theirs.
        wanted.extend([pair("view", "e"), pair("edit", "f")]);
        let plan = cluster.settle(&wanted, |_| ());
        assert_eq!((plan.unplaced, plan.kept.len()), (vec![pair("view", "e")], 5));
        assert_eq!(cluster.reach()["cairn-role:edit@4"], [place("edit", "f")].into());
    }

    #[test]
    fn what_somebody_changes_of_ours_is_put_right_and_what_is_not_ours_stays() {
        let (mut cluster, wanted) = (Cluster::default(), BTreeSet::from([pair("view", "a"), pair("edit", "b")]));
        cluster.settle(&wanted, |_| ());
        let right = cluster.reach();
        let path =
            |namespace: &str, role: &str| format!("{PATH}/namespaces/{namespace}/rolebindings/cairn-role:{role}");
        // A subject more, another place, another role behind a name.
        let view = cluster.0.get_mut(&path("a", "view")).unwrap();
        view["subjects"].as_array_mut().unwrap().push(json!({"kind": "User", "name": "eve"}));
        let edit = cluster.0.get_mut(&path("b", "edit")).unwrap();
        edit["roleRef"]["name"] = json!("cluster-admin");
        edit["subjects"][0]["name"] = json!("cairn-role:edit@2");
        let foreign = json!({"metadata": {"name": "cairn-role:view", "namespace": "c"}, "roleRef": {"name": "view"}, "subjects": []});
        cluster.put(path("c", "view"), foreign.clone());
        for _ in 0..2 {
            cluster.settle(&wanted, |_| ());
        }
        cluster
            .0
            .remove(&path("c", "view"))
            .filter(|kept| kept["metadata"]["name"] == foreign["metadata"]["name"])
            .unwrap();
        assert_eq!(cluster.reach(), right);
        cluster.settle(&BTreeSet::new(), |_| ());
        assert!(cluster.0.is_empty());
    }

    fn any_wanted() -> impl Strategy<Value = BTreeSet<Pair>> {
        let one =
            (prop::sample::select(vec!["view", "edit"]), prop::sample::select(vec!["", "a", "b", "c", "d", "e", "f"]));
        prop::collection::btree_set(one.prop_map(|(role, namespace)| pair(role, namespace)), 0..9)
    }

    proptest! {
        #[test]
        fn whatever_is_granted_after_whatever_no_group_ever_reaches_two_namespaces(steps in prop::collection::vec(any_wanted(), 1..6)) {
            let mut cluster = Cluster::default();
            for wanted in steps {
                let alone = |cluster: &Cluster| {
                    for (group, places) in cluster.reach() {
                        assert_eq!(places.len(), 1, "{group} is bound in {places:?}");
                        let (role, namespace) = places.first().unwrap();
                        assert!(group.starts_with(&format!("cairn-role:{role}")) && group.contains('@') != namespace.is_empty());
                    }
                };
                // The second time places of what went are free.
                let _ = cluster.settle(&wanted, alone);
                let plan = cluster.settle(&wanted, alone);
                let bound: BTreeSet<Pair> = cluster.found().into_iter().map(|one| one.pair).collect();
                let namespaces: BTreeSet<_> = wanted.iter().filter_map(|(_, namespace)| namespace.as_ref()).collect();
                let unplaced: BTreeSet<Pair> = plan.unplaced.into_iter().collect();
                prop_assert_eq!(&bound | &unplaced, wanted.clone());
                prop_assert!(bound.is_disjoint(&unplaced) && (namespaces.len() > PLACES as usize || unplaced.is_empty()));
                let again = cluster.settle(&wanted, alone);
                prop_assert!(again.remove.is_empty() && again.replace.is_empty() && again.create.is_empty(), "it comes to rest");
            }
        }
    }
}
