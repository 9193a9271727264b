//! Makes the C library's allocator give memory back.
//!
//! By default it keeps one pool per thread and almost nothing of a pool's free memory returns to the system, so that a server which once
//! ran a job stays twice as large (docs/BENCHMARKS.md). Its settings are read once, from the environment, before `main`: so the
//! server sets them and becomes itself again. Pools of at most two threads and large blocks of their own cost no measurable time here.
//!
//! Not for musl or another allocator: there the variables mean nothing.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::config::Environment;

/// Pools at most; blocks of this many bytes or more get a mapping of their own; so much free memory at the top of a pool is returned.
const SETTINGS: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Whether anything is left to set: an operator's own setting stays, and the second time nothing is.
fn unset(environment: Environment<'_>) -> bool {
    SETTINGS.iter().all(|(name, _)| environment(name).is_none()) && environment("GLIBC_TUNABLES").is_none()
}

/// Starts this program anew in the same process with the settings, once. Where that fails the server goes on without them.
pub(crate) fn tune(environment: Environment<'_>) {
    if !unset(environment) {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Returns only when it failed.
        let _ = command.args(arguments).envs(SETTINGS).exec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_happens_once_and_an_operators_own_setting_stays() {
        assert!(unset(&|_| None));
        for name in ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"] {
            assert!(!unset(&|asked| (asked == name).then(String::new)), "{name}");
        }
    }
}
