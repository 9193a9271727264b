//! The operating system's clock and random generator: the one place that touches them.
//!
//! The binaries make one of each at start and hand them down as `&dyn Clock` and `&dyn Rng`; nothing else constructs them.

use domain::{Clock, Rng, Timestamp};

/// The machine's real-time clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one implementation of `Clock` over the operating system")]
        let now = std::time::SystemTime::now();
        let millis = match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
        };
        Timestamp::from_millis(millis)
    }
}

/// The cryptographic library's generator, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(
        clippy::expect_used,
        reason = "without randomness no key or token may be made: stopping is the only safe answer"
    )]
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system gives random bytes");
    }
}

/// Keeps what this process holds out of files and away from other processes of its user: it leaves no core dump, and nobody but who may trace
/// everything attaches to it or reads its memory. For programs that hold secrets, before they read the first.
///
/// Both are needed: a limit of 0 stops the kernel's files but not a program that takes dumps by a pipe, and what may not be dumped is not
/// given to that one either.
pub fn keep_memory_private() -> std::io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_in_this_century_and_random_bytes_differ() {
        assert!(SystemClock.now() > "2025-01-01T00:00:00Z".parse().unwrap());
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        SystemRng.fill(&mut a);
        SystemRng.fill(&mut b);
        assert_ne!(a, b);
    }
}
