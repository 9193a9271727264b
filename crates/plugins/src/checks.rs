//! What a validation has tried so far, and how the outcome of a call is told.

use std::sync::{Mutex, PoisonError};

use domain::{Check, CheckOutcome};
use transport::CallError;

/// The checks of one validation. What is in it is there also when the validation is cut short.
#[derive(Debug, Default)]
pub struct Checks(Mutex<Vec<Check>>);

impl Checks {
    /// Adds a check. Beyond [`Check::MAX`] the last one says that there were more.
    pub fn add(&self, what: &str, outcome: CheckOutcome, reason: Option<&str>) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.len() + 1 < Check::MAX {
            checks.push(Check::new(what, outcome, reason));
        } else if checks.len() < Check::MAX {
            let reason = format!("only the first {} are told", Check::MAX - 1);
            checks.push(Check::new("more", CheckOutcome::NotTried, Some(&reason)));
        }
    }

    /// Adds how a call ended; `learned` from an answer.
    pub fn call<T>(&self, what: &str, answer: &Result<T, CallError>, learned: Option<&str>) {
        match answer {
            Ok(_) => self.add(what, CheckOutcome::Good, learned),
            Err(error) => self.add(what, told(error), Some(&error.to_string())),
        }
    }

    /// Adds that something was left out, and why.
    pub fn left_out(&self, what: &str, why: &str) {
        self.add(what, CheckOutcome::NotTried, Some(why));
    }

    /// What was tried so far.
    pub fn all(&self) -> Vec<Check> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether it is the target that refuses this caller, or something else that went wrong.
pub fn told(error: &CallError) -> CheckOutcome {
    match error {
        CallError::Denied(_) | CallError::Credential(_) => CheckOutcome::Denied,
        CallError::Cancelled => CheckOutcome::NotTried,
        _ => CheckOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_checks_has_an_end_and_says_so() {
        let checks = Checks::default();
        for at in 0..Check::MAX + 100 {
            checks.add(&at.to_string(), CheckOutcome::Good, None);
        }
        let all = checks.all();
        assert_eq!(all.len(), Check::MAX);
        assert_eq!(all.last().map(|check| check.outcome), Some(CheckOutcome::NotTried));
    }
}
