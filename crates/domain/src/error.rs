//! The one error of the inner crates; `api` maps it to HTTP in one place.

/// What went wrong, by what the caller can do about it.
///
/// `message`s are for the caller: lower case, no full stop, their own input in backticks. `detail`s are for the log only.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The input cannot be accepted as it is (HTTP 400). Says what to change.
    #[error("{message}")]
    Invalid {
        /// The input's field, in the wire's spelling, where one field is to blame.
        field: Option<&'static str>,
        /// What to change.
        message: String,
    },
    /// Nobody is there: no, an unknown or an ended session (HTTP 401).
    #[error("sign in first")]
    Unauthenticated,
    /// The caller may see the thing but not do this to it (HTTP 403).
    #[error("{message}")]
    Forbidden {
        /// Which permission is missing.
        message: String,
    },
    /// The caller may do this, but has to prove anew who they are (HTTP 403, so that a client knows to ask and to try once more).
    #[error(
        "this needs a fresh proof of who you are: send your password, or your second factor where you have one, to \
         `POST /api/v1/sessions/current/step-up`, then try again"
    )]
    StepUpRequired,
    /// It does not exist, or the caller may not know whether it does (HTTP 404, the same bytes for both).
    #[error("there is no such {what}")]
    NotFound {
        /// The kind of thing, never its id.
        what: &'static str,
    },
    /// It clashes with what is already there (HTTP 409).
    #[error("{message}")]
    Conflict {
        /// What it clashes with.
        message: String,
    },
    /// The condition that the caller made does not hold: somebody else was there first (HTTP 412). The caller reads again, and decides anew.
    #[error("{message}")]
    Precondition {
        /// What is there instead.
        message: String,
    },
    /// A limit was reached (HTTP 413).
    #[error("over the limit of {max} {which}")]
    Limit {
        /// The limit's name with its unit.
        which: &'static str,
        /// The most that is accepted.
        max: u64,
    },
    /// Too many guesses were made: the next one is judged after a while (HTTP 429).
    #[error("too many tries: try again in {wait_s} s")]
    Throttled {
        /// How long to wait, in seconds.
        wait_s: u64,
    },
    /// It may work later (HTTP 503): the database is locked, the disk is full, a peer is away.
    #[error("{message}")]
    Unavailable {
        /// What to do about it.
        message: String,
        /// For the log.
        detail: String,
    },
    /// A defect or a broken installation (HTTP 500).
    #[error("internal error: the server's log says more under this request id")]
    Internal {
        /// For the log.
        detail: String,
    },
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Invalid`] of one field.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field), message: message.into() }
    }

    /// An [`Error::Internal`].
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal { detail: detail.to_string() }
    }

    /// An [`Error::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    /// The stable machine-readable code of the wire's `code` field.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden { .. } => "forbidden",
            Self::StepUpRequired => "step_up_required",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Precondition { .. } => "precondition_failed",
            Self::Limit { .. } => "limit",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }
}
