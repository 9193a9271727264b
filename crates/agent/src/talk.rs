//! Talk to people and to the journal: one line per event on the standard error, free of control characters.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Says only what is wrong from here on.
pub(crate) fn quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn line(priority: u8, text: &str) {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2_000).collect();
    // `<N>` is how the journal tells priorities (sd-daemon(3)); a closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "<{priority}>{clean}");
}

/// Something happened.
pub(crate) fn info(text: impl AsRef<str>) {
    if !QUIET.load(Ordering::Relaxed) {
        line(6, text.as_ref());
    }
}

/// Something is wrong, and the agent goes on.
pub(crate) fn warn(text: impl AsRef<str>) {
    line(4, text.as_ref());
}
