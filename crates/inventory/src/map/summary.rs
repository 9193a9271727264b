//! The graph in numbers: how many nodes each cell holds and how many edges lead from cell to cell, from which every overview is made that asks
//! for nothing else. It is small, so a server keeps it in the database and need not read the graph to draw it for the first time.

use std::collections::HashMap;

use domain::{Error, Timestamp};
use serde::{Deserialize, Serialize};

use super::{GraphMap, index, small};

/// Open findings by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severities {
    /// Of severity `critical`.
    pub critical: u64,
    /// Of severity `high`.
    pub high: u64,
    /// Of severity `medium`.
    pub medium: u64,
    /// Of severity `low`.
    pub low: u64,
    /// Of severity `info`.
    pub info: u64,
}

impl Severities {
    /// How many severities there are.
    pub const COUNT: usize = 5;

    pub(super) fn add(&mut self, counts: &[u32; Self::COUNT]) {
        let [critical, high, medium, low, info] = counts.map(u64::from);
        *self += Self { critical, high, medium, low, info };
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.critical + self.high + self.medium + self.low + self.info
    }
}

impl std::ops::AddAssign for Severities {
    fn add_assign(&mut self, more: Self) {
        self.critical += more.critical;
        self.high += more.high;
        self.medium += more.medium;
        self.low += more.low;
        self.info += more.info;
    }
}

/// What nodes are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// The account, or the source and region of what is in none.
    #[default]
    Account,
    /// The network: a VPC, a machine, a device, or what an address is in.
    Network,
    /// The type.
    Kind,
    /// The region.
    Region,
    /// The source.
    Provider,
}

impl By {
    /// Every way.
    pub const ALL: [Self; 5] = [Self::Account, Self::Network, Self::Kind, Self::Region, Self::Provider];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Network => "network",
            Self::Kind => "kind",
            Self::Region => "region",
            Self::Provider => "provider",
        }
    }
}

impl std::str::FromStr for By {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|by| by.as_str() == text)
            .ok_or_else(|| Error::invalid("by", "use account, network, kind, region or provider"))
    }
}

/// Which nodes; what is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A type, or the beginning of types and `*`.
    pub kind: Option<String>,
    /// The source.
    pub provider: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The network; empty: those in none.
    pub network: Option<String>,
}

impl Filter {
    pub(super) fn takes(&self, cell: &CellText<'_>) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let kind = self.kind.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => cell.kind.starts_with(beginning),
            None => cell.kind == wanted,
        });
        kind && is(&self.provider, cell.provider)
            && is(&self.region, cell.region)
            && is(&self.account, cell.account)
            && is(&self.network, cell.network)
    }
}

/// A cell in texts.
pub(super) struct CellText<'t> {
    pub provider: &'t str,
    pub region: &'t str,
    pub kind: &'t str,
    pub account: &'t str,
    pub network: &'t str,
}

impl<'t> CellText<'t> {
    pub(super) fn by(&self, by: By) -> &'t str {
        match by {
            By::Account => self.account,
            By::Network => self.network,
            By::Kind => self.kind,
            By::Region => self.region,
            By::Provider => self.provider,
        }
    }
}

/// Nodes that agree in all that they are grouped by: numbers of texts, and counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellCount {
    provider: u32,
    region: u32,
    kind: u32,
    account: u32,
    network: u32,
    nodes: u64,
    unseen: u64,
    findings: Severities,
}

/// The graph in numbers, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    texts: Vec<Box<str>>,
    cells: Vec<CellCount>,
    /// Edges from one cell to another.
    links: Vec<(u32, u32, u64)>,
}

/// A group of an overview.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverviewGroup {
    /// What its nodes have in common; none for what did not fit.
    pub value: Option<String>,
    /// How many groups it stands for.
    pub groups: u64,
    /// Nodes that were seen.
    pub nodes: u64,
    /// Nodes that only edges name.
    pub unseen: u64,
    /// Edges inside of it.
    pub inside: u64,
    /// Open findings.
    pub findings: Severities,
}

/// Edges from one group to another, by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverviewLink {
    /// The group that they leave.
    pub source: u32,
    /// The group that they reach.
    pub target: u32,
    /// How many.
    pub count: u64,
}

/// Groups, the largest first, and the edges between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// The groups; what did not fit is the last one.
    pub groups: Vec<OverviewGroup>,
    /// Edges between them, the most first.
    pub links: Vec<OverviewLink>,
    /// Links that did not fit.
    pub links_left: u64,
    /// Edges of these.
    pub edges_left: u64,
}

/// Links that an overview has at most for each element that it may have.
pub(super) const LINKS_PER_ELEMENT: usize = 4;

impl Summary {
    fn text(&self, number: u32) -> &str {
        self.texts.get(index(number)).map_or("", |text| text)
    }

    fn cell(&self, cell: &CellCount) -> CellText<'_> {
        CellText {
            provider: self.text(cell.provider),
            region: self.text(cell.region),
            kind: self.text(cell.kind),
            account: self.text(cell.account),
            network: self.text(cell.network),
        }
    }

    /// How many nodes that were seen there are.
    pub fn nodes(&self) -> u64 {
        self.cells.iter().map(|cell| cell.nodes).sum()
    }

    /// How many edges there are.
    pub fn edges(&self) -> u64 {
        self.links.iter().map(|(_, _, count)| count).sum()
    }

    /// The values that nodes are grouped by, with how many nodes each has, the most first.
    pub fn values(&self, by: By) -> Vec<(&str, u64)> {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for cell in &self.cells {
            *counts.entry(self.cell(cell).by(by)).or_default() += cell.nodes;
        }
        let mut values: Vec<_> = counts.into_iter().collect();
        values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        values
    }

    /// The graph in groups, at most `elements` of them.
    pub fn overview(&self, by: By, filter: &Filter, elements: usize) -> Overview {
        let elements = elements.max(1);
        let (mut groups, mut group_of): (Vec<OverviewGroup>, HashMap<&str, usize>) = (Vec::new(), HashMap::new());
        // Which group each cell is in, by its first place.
        let mut at: Vec<Option<usize>> = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let text = self.cell(cell);
            if !filter.takes(&text) || cell.nodes + cell.unseen == 0 {
                at.push(None);
                continue;
            }
            let value = text.by(by);
            let place = *group_of.entry(value).or_insert_with(|| {
                groups.push(OverviewGroup { value: Some(value.to_owned()), groups: 1, ..OverviewGroup::default() });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(place) {
                group.nodes += cell.nodes;
                group.unseen += cell.unseen;
                group.findings += cell.findings;
            }
            at.push(Some(place));
        }
        let order = ranked(&groups);
        let keep = if groups.len() > elements { elements - 1 } else { groups.len() };
        // Where each group is drawn: behind `keep` all are one.
        let mut drawn = vec![keep; groups.len()];
        for (place, first) in order.iter().enumerate().take(keep) {
            if let Some(slot) = drawn.get_mut(*first) {
                *slot = place;
            }
        }
        let mut out = Overview { groups: Vec::with_capacity(keep + 1), ..Overview::default() };
        for first in order {
            let Some(group) = groups.get_mut(first).map(std::mem::take) else { continue };
            if out.groups.len() < keep {
                out.groups.push(group);
            } else if let Some(rest) = out.groups.get_mut(keep) {
                rest.groups += 1;
                rest.nodes += group.nodes;
                rest.unseen += group.unseen;
                rest.findings += group.findings;
            } else {
                out.groups.push(OverviewGroup { value: None, ..group });
            }
        }
        let place = |cell: u32| at.get(index(cell)).copied().flatten().and_then(|first| drawn.get(first)).copied();
        let mut counts: HashMap<(usize, usize), u64> = HashMap::new();
        for (source, target, count) in &self.links {
            let (Some(source), Some(target)) = (place(*source), place(*target)) else { continue };
            if source == target {
                if let Some(group) = out.groups.get_mut(source) {
                    group.inside += count;
                }
            } else {
                *counts.entry((source, target)).or_default() += count;
            }
        }
        let links = counts.into_iter().map(|((source, target), count)| OverviewLink {
            source: small(source),
            target: small(target),
            count,
        });
        (out.links, out.links_left, out.edges_left) = strongest(links.collect(), elements * LINKS_PER_ELEMENT);
        out
    }
}

/// Places of groups, the one with the most nodes first.
fn ranked(groups: &[OverviewGroup]) -> Vec<usize> {
    let mut order: Vec<(usize, &OverviewGroup)> = groups.iter().enumerate().collect();
    order.sort_unstable_by(|(_, a), (_, b)| {
        (b.nodes + b.unseen).cmp(&(a.nodes + a.unseen)).then_with(|| a.value.cmp(&b.value))
    });
    order.into_iter().map(|(first, _)| first).collect()
}

/// The links with the most edges, in that order, and how many links and edges were left.
pub(super) fn strongest(mut links: Vec<OverviewLink>, most: usize) -> (Vec<OverviewLink>, u64, u64) {
    links.sort_unstable_by(|a, b| b.count.cmp(&a.count).then(a.cmp(b)));
    let left = links.get(most..).unwrap_or_default();
    let told = (left.len() as u64, left.iter().map(|link| link.count).sum());
    links.truncate(most);
    (links, told.0, told.1)
}

/// Edges that are counted by their cells. A large graph has a million pairs of cells and more: sorting what was seen takes a tenth of what a hash
/// table of them takes, and putting together what is equal now and then keeps it as small.
#[derive(Default)]
struct Counting {
    seen: Vec<(u32, u32, u64)>,
    /// How many there were after they were last put together.
    distinct: usize,
}

impl Counting {
    /// Pairs that may be added before they are put together for the first time.
    const FIRST: usize = 1 << 20;

    fn add(&mut self, source: u32, target: u32, count: u64) {
        if self.seen.len() >= self.distinct * 2 + Self::FIRST {
            self.put_together();
        }
        self.seen.push((source, target, count));
    }

    fn put_together(&mut self) {
        self.seen.sort_unstable_by_key(|(source, target, _)| (*source, *target));
        self.seen.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            if same {
                kept.2 += next.2;
            }
            same
        });
        self.distinct = self.seen.len();
    }

    /// All pairs in their order, each once.
    fn counted(mut self) -> Vec<(u32, u32, u64)> {
        self.put_together();
        self.seen.shrink_to_fit();
        self.seen
    }
}

impl GraphMap {
    /// The graph in numbers at a moment; none for now. Findings are those of now, and only in a summary of now.
    pub fn summary(&self, moment: Option<Timestamp>) -> Summary {
        let then = self.at(moment);
        let mut cells: Vec<CellCount> = self
            .cells
            .iter()
            .map(|cell| CellCount {
                provider: cell.provider,
                region: cell.region,
                kind: cell.kind,
                account: cell.account,
                network: cell.network,
                ..CellCount::default()
            })
            .collect();
        let mut links = Counting::default();
        for (node, point) in (0..).zip(&self.points) {
            if !then.is_drawn(node) {
                continue;
            }
            if let Some(cell) = cells.get_mut(index(point.cell)) {
                if then.is_seen(node) {
                    cell.nodes += 1;
                } else {
                    cell.unseen += 1;
                }
                if moment.is_none()
                    && let Some(counts) = self.findings_of(node)
                {
                    cell.findings.add(counts);
                }
            }
            // Neighbours in a row are often in one cell.
            let mut run: Option<(u32, u64)> = None;
            for hop in then.out(node) {
                let Some(target) = self.point(hop.node).map(|point| point.cell) else { continue };
                match &mut run {
                    Some((cell, count)) if *cell == target => *count += 1,
                    _ => {
                        if let Some((cell, count)) = run.replace((target, 1)) {
                            links.add(point.cell, cell, count);
                        }
                    }
                }
            }
            if let Some((cell, count)) = run {
                links.add(point.cell, cell, count);
            }
        }
        Summary { texts: self.texts.texts.clone(), cells, links: links.counted() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_however_many_are_put_together_on_the_way() {
        let mut links = Counting { distinct: 0, seen: Vec::new() };
        let mut expect: HashMap<(u32, u32), u64> = HashMap::new();
        for n in 0..3_000_000_u64 {
            let source = u32::try_from(n.wrapping_mul(2_654_435_761) % 251).unwrap();
            let target = u32::try_from(n % 241).unwrap();
            links.add(source, target, n % 3 + 1);
            *expect.entry((source, target)).or_default() += n % 3 + 1;
            assert!(links.seen.len() <= Counting::FIRST + 2 * 251 * 241);
        }
        let counted = links.counted();
        assert!(counted.is_sorted() && counted.len() == expect.len());
        assert!(counted.iter().all(|(source, target, count)| expect[&(*source, *target)] == *count));
    }
}
