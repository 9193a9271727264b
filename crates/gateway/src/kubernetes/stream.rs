//! What goes by on a connection that switched protocols for `exec` or `attach`, read passively: nothing is changed, and nothing is held but the
//! beginning of a frame.
//!
//! Both protocols carry channels: standard input, output and error, the size of the terminal, and how the command ended. What is read otherwise
//! than Kubernetes reads it would be recorded otherwise than it was, so what is not understood is an error, and never passed over.

pub(super) mod spdy;
pub(super) mod websocket;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the user.
    Up,
    /// To the user.
    Down,
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// What the user sends.
    Input,
    /// What the user sees.
    Output,
    /// How the command ended.
    Status,
    /// The size of the terminal.
    Size,
}

/// What went by.
pub(super) type Seen = Vec<(Channel, Vec<u8>)>;

/// Why a stream cannot be recorded.
pub(super) type Unreadable = &'static str;

/// Reads one direction.
pub(super) trait Reader: Send {
    /// Takes in the next bytes, and adds what they show.
    fn push(&mut self, bytes: &[u8], seen: &mut Seen) -> Result<(), Unreadable>;
}

/// Takes as many bytes as a buffer lacks of a length; whether it has them all.
fn fill(buffer: &mut Vec<u8>, length: usize, bytes: &mut &[u8]) -> bool {
    let (now, rest) = bytes.split_at(length.saturating_sub(buffer.len()).min(bytes.len()));
    buffer.extend_from_slice(now);
    *bytes = rest;
    buffer.len() >= length
}
