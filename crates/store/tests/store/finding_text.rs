//! A text is looked for in what a finding and its node say now, whoever wrote it and when.

use std::time::Duration;

use access::ops;
use domain::{Coverage, NodeObservation, Page, TenantId};
use store::{FindingFilter, GroupBy};

use crate::pair::{Pair, each_engine};

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";

impl Pair<'_> {
    /// What a scope shows: nodes and their names.
    async fn shown(&self, tenant: TenantId, scope: &str, nodes: &[(&str, &str)]) {
        self.clock.advance(Duration::from_secs(1));
        let mut ingest = self.store.ingest(self.permit(tenant), "aws".parse().unwrap()).await.unwrap();
        let node = |(id, name): &(&str, &str)| NodeObservation {
            id: id.parse().unwrap(),
            name: (*name).to_owned(),
            properties: domain::Properties::default(),
            tags: domain::Tags::default(),
        };
        let scope: domain::ScopeId = scope.parse().unwrap();
        let nodes = nodes.iter().map(node).collect();
        ingest.page(&Page { scope: scope.clone(), nodes, edges: vec![] }).await.unwrap();
        let collection = domain::CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
    }

    /// How many findings a text finds, in the list, in the counts and in both kinds of groups.
    async fn with_text(&self, tenant: TenantId, text: &str) -> usize {
        let filter = FindingFilter { text: Some(text.to_owned()), ..FindingFilter::default() };
        let mut read = self.read::<ops::FindingList>(tenant).await;
        let found = read.finding_list(&filter, None, 500).await.unwrap().items.len();
        for by in [GroupBy::Rule, GroupBy::Node] {
            let groups = read.finding_groups(by, &filter, None, 500).await.unwrap().items;
            assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), found as u64, "{by:?} {text}");
        }
        let selection = read.finding_selection(&filter, store::FindingVerb::Resolve).await.unwrap();
        assert_eq!(selection.count + selection.left, found as u64, "{text}");
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_renamed_is_found_by_its_new_name_at_once() {
    each_engine(async |world| {
        world.shown(world.a, "s1", &[(B1, "Payroll"), (B2, "Website")]).await;
        world.findings(world.a, &[("r1", B1, 10), ("r2", B1, 20), ("r1", B2, 30)]).await;
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.a, "WEB").await), (2, 1));
        world.shown(world.a, "s1", &[(B1, "Salaries"), (B2, "Website")]).await;
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.a, "salar").await), (0, 2));
        // Another scope calls it something else, and is left with it.
        world.shown(world.a, "s2", &[(B1, "Wages")]).await;
        assert_eq!((world.with_text(world.a, "wages").await, world.with_text(world.a, "salar").await), (0, 2));
        world.shown(world.a, "s1", &[(B2, "Website")]).await;
        assert_eq!((world.with_text(world.a, "wages").await, world.with_text(world.a, "salar").await), (2, 0));
        // Gone, and its findings with it, which are still there to be looked for.
        world.shown(world.a, "s2", &[]).await;
        assert_eq!(world.with_text(world.a, "wages").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_other_alphabets_are_found_as_they_are_written() {
    each_engine(async |world| {
        world.shown(world.a, "s1", &[(B1, "Équipe Ünïcode 日本"), (B2, "équipe")]).await;
        world.findings(world.a, &[("r1", B1, 10), ("r1", B2, 30)]).await;
        for (text, found) in
            [("É", 1), ("é", 1), ("QUIPE", 2), ("Équipe ü", 0), ("équipe Ü", 0), ("日本", 1), ("NïCODE", 1)]
        {
            assert_eq!(world.with_text(world.a, text).await, found, "{text}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_finds_nothing_of_another_tenant() {
    each_engine(async |world| {
        for (tenant, name) in [(world.a, "Payroll"), (world.b, "Website")] {
            world.shown(tenant, "s1", &[(B1, name)]).await;
            world.findings(tenant, &[("r1", B1, 10)]).await;
        }
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.a, "website").await), (1, 0));
        assert_eq!((world.with_text(world.b, "payroll").await, world.with_text(world.b, "website").await), (0, 1));
        // The same node in both: a new name in one is none in the other.
        world.shown(world.b, "s1", &[(B1, "Shop")]).await;
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.b, "shop").await), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_puts_right_what_a_server_of_before_left() {
    each_engine(async |world| {
        world.shown(world.a, "s1", &[(B1, "Payroll"), (B2, "Website")]).await;
        world.evaluate(&[B1, B2], &[B1, B2], 50).await;
        // As if an older server had opened one finding and renamed the node of the other.
        let node = |name: &str| format!("finding_node SET name = 'Before' WHERE name = '{name}'");
        world.raw(world.a, &format!("UPDATE {}", node("Website"))).await.unwrap();
        world.raw(world.a, "DELETE FROM finding_node WHERE name = 'Payroll'").await.unwrap();
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.a, "website").await), (0, 0));
        world.clock.advance(Duration::from_secs(1));
        world.evaluate(&[B1, B2], &[B1, B2], 50).await;
        assert_eq!((world.with_text(world.a, "payroll").await, world.with_text(world.a, "website").await), (1, 1));
        assert_eq!(world.with_text(world.a, "before").await, 0);
    })
    .await;
}
