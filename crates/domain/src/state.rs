//! States that a thing can be in, with their one spelling for database, wire and screen.

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every state, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The one spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> Result<Self, crate::Error> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(crate::Error::Invalid {
                        field: None,
                        message: format!("`{}` is not one of {}", text.escape_debug(), [$($text,)*].join(", ")),
                    }),
                }
            }
        }
    )*};
}

states! {
    /// How bad a finding is.
    Severity {
        /// Worth knowing.
        Info = "info",
        /// Fix when convenient.
        Low = "low",
        /// Fix within the quarter.
        Medium = "medium",
        /// Fix within the month.
        High = "high",
        /// Fix now.
        Critical = "critical",
    }

    /// Where a finding stands.
    FindingStatus {
        /// The node violates the rule.
        Open = "open",
        /// The node no longer violates the rule, or is gone.
        Resolved = "resolved",
        /// Somebody accepted the risk, with a reason and an expiry.
        Accepted = "accepted",
    }

    /// Where a job stands.
    JobStatus {
        /// Waiting for a worker.
        Queued = "queued",
        /// At work.
        Running = "running",
        /// Every scope was read completely.
        Completed = "completed",
        /// Done; some scopes could not be read completely, and closed nothing.
        Partial = "partial",
        /// Nothing could be read.
        Failed = "failed",
        /// Stopped on request.
        Cancelled = "cancelled",
    }

    /// Where a task stands.
    TaskStatus {
        /// Waiting for a worker.
        Queued = "queued",
        /// Held by a worker under a lease.
        Running = "running",
        /// Done; the coverage of its scopes says how well.
        Completed = "completed",
        /// Given up after its last try.
        Failed = "failed",
        /// Stopped on request.
        Cancelled = "cancelled",
    }

    /// Where a validation stands.
    ValidationStatus {
        /// Waiting for a worker.
        Queued = "queued",
        /// At work.
        Running = "running",
        /// Everything that was tried is answered.
        Passed = "passed",
        /// Something is answered, and something is not.
        Incomplete = "incomplete",
        /// Nothing is answered.
        Failed = "failed",
    }

    /// How one thing went that a validation tried.
    CheckOutcome {
        /// It is answered.
        Good = "good",
        /// The target refuses it to this credential.
        Denied = "denied",
        /// There is no answer, or one that cannot be understood.
        Failed = "failed",
        /// It was left out.
        NotTried = "not_tried",
    }

    /// How much a line of a job's log matters.
    LineLevel {
        /// What is going on.
        Debug = "debug",
        /// Something began or ended.
        Info = "info",
        /// Something was not read, or has to be tried again.
        Warn = "warn",
        /// Something is given up.
        Error = "error",
    }
}

impl ValidationStatus {
    /// Whether nothing more will happen to the validation.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Passed | Self::Incomplete | Self::Failed)
    }
}

impl JobStatus {
    /// Whether nothing more will happen to the job.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Partial | Self::Failed | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_parses_back() {
        for severity in Severity::ALL {
            assert_eq!(severity.as_str().parse::<Severity>().unwrap(), *severity);
        }
        assert!("HIGH".parse::<Severity>().is_err());
    }
}
