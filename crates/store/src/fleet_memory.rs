//! What the one server on a SQLite database remembers of its fleet from one change of the database to the next.
//!
//! Invariants:
//! - what is told was read since the last change that was committed, whatever it was: there is no list of changes that matter, and so none that
//!   could be forgotten. A revocation that was answered is seen by the next request;
//! - only who was let in is remembered, and only until its time is over;
//! - on PostgreSQL, where other servers write too, nothing is.

use std::sync::Arc;

use domain::Timestamp;

use crate::fleet_credential::{self, LiveUnit, SeenAgain};
use crate::remembered::Answers;
use crate::report::{self, ReportState};

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct FleetMemory {
    units: Answers<fleet_credential::Question, (Timestamp, Arc<LiveUnit>)>,
    reports: Answers<report::Question, Arc<ReportState>>,
}

impl FleetMemory {
    /// Somebody who is let in, as of this state.
    pub(crate) fn unit(
        &self,
        question: fleet_credential::Question,
        state: Option<u64>,
        now: Timestamp,
    ) -> Option<LiveUnit> {
        self.units.recall(&question, state).filter(|(until, _)| now < *until).map(|(_, unit)| LiveUnit::clone(&unit))
    }

    /// Remembers who is let in until then.
    pub(crate) fn keep_unit(
        &self,
        question: fleet_credential::Question,
        state: Option<u64>,
        until: Timestamp,
        unit: &LiveUnit,
    ) {
        self.units.keep(question, state, (until, Arc::new(unit.clone())));
    }

    /// What is known of an agent's reports, as of this state.
    pub(crate) fn report(&self, question: report::Question, state: Option<u64>) -> Option<ReportState> {
        self.reports.recall(&question, state).map(|known| ReportState::clone(&known))
    }

    /// Remembers it.
    pub(crate) fn keep_report(&self, question: report::Question, state: Option<u64>, known: &ReportState) {
        self.reports.keep(question, state, Arc::new(known.clone()));
    }

    /// A proof of somebody was written down, which is no change to anybody else. Two of them may come here in any order.
    pub(crate) fn saw_unit(&self, question: fleet_credential::Question, seen: &SeenAgain, now: Timestamp) {
        self.units.amend(&question, |(_, unit)| {
            if unit.number < seen.number {
                let unit = Arc::make_mut(unit);
                (unit.number, unit.last_seen_at) = (seen.number, Some(now));
                unit.proof_id.clone_from(&seen.proof_id);
                unit.last_seen_ip.clone_from(&seen.ip);
                unit.version.clone_from(&seen.version);
            }
        });
    }

    /// Forgets somebody of whom a proof could not be written down.
    pub(crate) fn forget_unit(&self, question: fleet_credential::Question) {
        self.units.forget(&question);
    }
}
