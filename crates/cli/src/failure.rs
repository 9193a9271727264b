//! What a command ends with when it does not end well: one line that says what is wrong, one that says what to do, and an exit code.

use std::fmt;

/// The exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Evidence does not verify.
    NotVerified = 3,
    /// Ended by Ctrl-C, as shells number it.
    Interrupted = 130,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Empty where nothing is to be said (a closed pipe).
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Whether the same request may work a little later.
    pub(crate) transient: bool,
    /// The server's word for why, where it said one.
    pub(crate) code: Option<String>,
    /// Whether the session is not, or no longer, one.
    pub(crate) unauthenticated: bool,
    /// Whether the same request may work after a fresh proof of who is signed in.
    pub(crate) needs_proof: bool,
    /// The answer's status, where there was an answer.
    pub(crate) status: Option<u16>,
}

/// `Result` with [`Failure`].
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
            hint: None,
            transient: false,
            code: None,
            unauthenticated: false,
            needs_proof: false,
            status: None,
        }
    }

    /// Whether the condition of a change did not hold.
    pub(crate) fn is_precondition(&self) -> bool {
        self.code.as_deref() == Some("precondition_failed")
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: impl fmt::Display) -> Self {
        Self::new(format!("cannot {what} `{}`: {error}", path.display()))
    }

    /// Standard output that cannot be written. A reader that went away (`| head`) is no failure.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, ..Self::new("") };
        }
        Self::new(format!("cannot write to the standard output: {error}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Failure::output(&std::io::ErrorKind::BrokenPipe.into());
        assert_eq!((gone.exit, gone.message.as_str()), (Exit::Done, ""));
        assert_eq!(Failure::output(&std::io::ErrorKind::StorageFull.into()).exit, Exit::Failed);
    }
}
