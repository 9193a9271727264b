//! Makes the C library's allocator overwrite whatever is freed.
//!
//! What the relay opens is wiped where it is held (`domain::Secret`), but libraries on the way to a target copy parts of it into buffers of
//! their own. With these settings no freed block keeps its content. They are read before `main`: the relay sets them and becomes itself again.
//!
//! Not for musl or another allocator: there the variables mean nothing.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Overwrites on free (and, with it, on allocation); without the cache for small blocks, which would keep them as they are. Large blocks have
/// mappings of their own, which are gone when they are freed.
const TUNABLES: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=131072");

/// Starts this program anew in the same process with the settings, once; an operator's own setting stays.
pub(crate) fn tune(environment: &dyn Fn(&str) -> Option<String>) {
    if environment(TUNABLES.0).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Returns only when it failed.
        let _ = command.args(arguments).env(TUNABLES.0, TUNABLES.1).exec();
    }
}
