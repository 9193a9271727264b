//! Frameworks and packs: what the installation judges by, in which version. No tenant's data.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use compliance::{Frameworks, Ruleset};
use wire::List;
use wire::control::{Framework, Pack};

use crate::caller::Caller;
use crate::page;
use crate::problem::Answer;
use crate::state::ApiState;

fn frameworks(known: &Frameworks, ruleset: &Ruleset) -> Vec<Framework> {
    let one = |framework: &compliance::Framework| {
        let rules = || ruleset.rules().iter().filter(|rule| rule.controls.contains_key(&framework.id));
        let supported: BTreeSet<&str> =
            rules().filter_map(|rule| rule.controls.get(&framework.id)).flatten().map(String::as_str).collect();
        let packs: BTreeSet<&str> = rules().map(|rule| rule.pack.as_str()).collect();
        Framework {
            id: framework.id.clone(),
            title: framework.title.clone(),
            version: framework.version.clone(),
            controls: framework.controls.len() as u64,
            supported: supported.len() as u64,
            rules: rules().count() as u64,
            packs: packs.into_iter().map(str::to_owned).collect(),
        }
    };
    known.iter().map(one).collect()
}

fn packs(ruleset: &Ruleset) -> Vec<Pack> {
    let one = |pack: &compliance::Pack| {
        let rules = || ruleset.rules().iter().filter(|rule| rule.pack == pack.id);
        let frameworks: BTreeSet<&str> = rules().flat_map(|rule| rule.controls.keys()).map(String::as_str).collect();
        Pack {
            id: pack.id.clone(),
            version: pack.version.clone(),
            title: pack.title.clone(),
            source: pack.source.clone(),
            description: pack.description.clone(),
            rules: rules().count() as u64,
            frameworks: frameworks.into_iter().map(str::to_owned).collect(),
        }
    };
    ruleset.packs().iter().map(one).collect()
}

/// The frameworks that are known, each with its version and how much of it the rules support.
#[utoipa::path(get, path = "/api/v1/frameworks", tag = "controls", responses((status = 200, description = "frameworks", body = List<Framework>)))]
pub(crate) async fn framework_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Framework>>> {
    caller.may_work()?;
    Ok(page::whole(frameworks(state.catalog.frameworks(), &state.catalog.ruleset())))
}

/// The packs whose rules are in force, each with its version and where its requirements come from.
#[utoipa::path(get, path = "/api/v1/packs", tag = "controls", responses((status = 200, description = "packs", body = List<Pack>)))]
pub(crate) async fn pack_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<List<Pack>>> {
    caller.may_work()?;
    Ok(page::whole(packs(&state.catalog.ruleset())))
}
