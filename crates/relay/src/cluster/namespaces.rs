//! The namespaces of the cluster.
//!
//! Invariant: nobody hears of a list that was not read to its end. Who takes a namespace for gone because it was not seen removes what is bound there.

use domain::Slug;
use gateway::kubernetes::Cluster;

use super::list::list;

/// Most namespaces that are read: more than a cluster is built for.
const READ_MAX: usize = 100_000;
/// Most that the server is told, for people to choose from: as many as it takes.
const TOLD_MAX: usize = 5_000;

/// Those that were seen last, in the order of their names.
#[derive(Default)]
pub(super) struct Namespaces {
    seen: Option<Vec<Slug>>,
    is_cut: bool,
}

impl Namespaces {
    /// Looks again. Where that fails the ones before do; where there are none there is nothing to act by.
    pub(super) async fn look(&mut self, cluster: &Cluster) -> anyhow::Result<&[Slug]> {
        match (read(cluster).await, &self.seen) {
            (Ok(names), _) => self.seen = Some(names),
            (Err(error), Some(_)) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the cluster's namespaces cannot be listed: the ones before count"
                );
            }
            (Err(error), None) => return Err(error.context("the cluster's namespaces cannot be listed")),
        }
        let names = self.seen.as_deref().unwrap_or_default();
        let is_cut = names.len() > TOLD_MAX;
        if is_cut && !self.is_cut {
            tracing::warn!(
                namespaces = names.len(),
                told = TOLD_MAX,
                "the server is told of some of the namespaces only: grants hold in all of them, but lists of namespaces are not complete"
            );
        }
        self.is_cut = is_cut;
        Ok(names)
    }
}

/// As many of them as the server is told.
pub(super) fn told(names: &[Slug]) -> Vec<Slug> {
    names.iter().take(TOLD_MAX).cloned().collect()
}

async fn read(cluster: &Cluster) -> anyhow::Result<Vec<Slug>> {
    let name = |item: &serde_json::Value| item.pointer("/metadata/name")?.as_str()?.parse::<Slug>().ok();
    let mut listed = list(cluster, "/api/v1/namespaces?", READ_MAX, name).await?;
    anyhow::ensure!(listed.whole, "there are more than {READ_MAX}");
    anyhow::ensure!(!listed.items.is_empty(), "the API server names none, and no cluster is without");
    listed.items.sort_unstable();
    Ok(listed.items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::KubeApi;

    use super::super::list::tests::{cluster, run};
    use super::*;

    #[test]
    fn all_namespaces_count_the_server_hears_of_some_and_those_that_were_not_seen_of_none() {
        let api = KubeApi::start("the-relay");
        let (cluster, _folder) = cluster(&api);
        let mut namespaces = Namespaces::default();
        api.set_refused(Some("/api/v1/namespaces"));
        assert!(run(namespaces.look(&cluster)).is_err(), "nothing to act by");
        api.set_refused(None);
        let names = run(namespaces.look(&cluster)).unwrap();
        assert_eq!(told(names), names);
        assert_eq!(names.iter().map(Slug::as_str).collect::<Vec<_>>(), ["a", "b"]);
        api.set_refused(Some("/api/v1/namespaces"));
        assert_eq!(run(namespaces.look(&cluster)).unwrap().len(), 2, "those before");
        api.set_refused(None);
        for number in 0..TOLD_MAX {
            api.put(&format!("/api/v1/namespaces/n{number:04}"), json!({"kind": "Namespace"}));
        }
        let names = run(namespaces.look(&cluster)).unwrap();
        assert_eq!((names.len(), told(names).len()), (TOLD_MAX + 2, TOLD_MAX));
        let last = format!("n{:04}", TOLD_MAX - 1);
        assert!(
            names.iter().any(|name| name.as_str() == last) && !told(names).iter().any(|name| name.as_str() == last)
        );
    }
}
