//! Bundles written, changed in every way we could think of, and checked by us and by `openssl`.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "the functions that tests share")]

mod earlier_key;
mod log;
mod openssl;
mod refusal;
mod sample;
mod statement;
