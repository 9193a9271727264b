//! What can go wrong, by what its program can do about it.

use std::path::Path;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong: somebody has to change it.
    #[error("{0}")]
    Setting(String),
    /// The folder of the identity cannot be used as it is: its permissions, its content, a full disk.
    #[error("{message}")]
    Folder {
        /// What is wrong, and what to do.
        message: String,
        /// Whether it may be better after a while: the disk is full, another process has the folder.
        transient: bool,
    },
    /// The server's certificate is not valid for it. Nothing was sent.
    #[error("the certificate of {server} is not valid: {cause}; nothing was sent")]
    Untrusted {
        /// Which server.
        server: String,
        /// Why.
        cause: String,
    },
    /// No answer came.
    #[error("{server} cannot be reached: {cause}")]
    Unreachable {
        /// Which server.
        server: String,
        /// Why.
        cause: String,
    },
    /// The server said no.
    #[error("{message} (request {request})")]
    Refused {
        /// The status.
        status: u16,
        /// The wire's code.
        code: String,
        /// Why.
        message: String,
        /// The server's name for the request.
        request: String,
        /// How long to wait, where the server said so, in seconds.
        wait_s: Option<u64>,
    },
    /// The answer is not one of a Cairn server.
    #[error("{server} does not answer like a Cairn server of this version")]
    Nonsense {
        /// Which server.
        server: String,
    },
}

impl Error {
    /// Whether the same may go well a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Folder { transient, .. } => *transient,
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Setting(_) | Self::Untrusted { .. } | Self::Nonsense { .. } => false,
        }
    }

    /// Whether the server does not know the credential any more: it is revoked, expired, or used by somebody else too. Only enrolling anew
    /// helps.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Refused { status: 401, code, .. } if code == "unauthenticated")
    }

    pub(crate) fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let transient = matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::Interrupted
        );
        Self::Folder { message: format!("cannot {what} `{}`: {error}", path.display()), transient }
    }

    pub(crate) fn folder(message: impl Into<String>) -> Self {
        Self::Folder { message: message.into(), transient: false }
    }
}
