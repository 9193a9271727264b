//! Why there is no secret.

/// The store that has no answer, and what to change. Holds no secret: ids and paths only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret store `{store}`: {problem}")]
pub struct SecretError {
    /// The store's name.
    pub store: String,
    /// What is wrong and what to change.
    pub problem: String,
}

impl SecretError {
    pub(crate) fn new(store: &str, problem: impl Into<String>) -> Self {
        Self { store: store.to_owned(), problem: problem.into() }
    }
}

pub(crate) type Result<T, E = SecretError> = std::result::Result<T, E>;
