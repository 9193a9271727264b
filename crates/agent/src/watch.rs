//! Tells when one of the watched files may have changed: inotify on the folders that hold them and that their links lead through.
//!
//! Folders, because a file is mostly replaced and not written to. Events only say that it is time to look: what is reported is what the
//! collector then reads, so that a lost event (an overflow) costs one look more, and one that is made up shows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Links that are followed, one after the other.
const LINKS: usize = 16;

/// The watch.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: AsyncFd<OwnedFd>,
    paths: Vec<PathBuf>,
    /// Names that matter, by watch.
    names: BTreeMap<i32, BTreeSet<Vec<u8>>>,
}

/// The places of a path: itself, and what its links lead to.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_path_buf()];
    let mut at = path.to_path_buf();
    for _ in 0..LINKS {
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("/")).join(target);
        places.push(at.clone());
    }
    places
}

impl Watch {
    /// Watches these files.
    pub(crate) fn open(paths: &[String]) -> std::io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its replacement is unsafe; it owns the descriptor, which nobody else closes or replaces"
        )]
        let fd = AsyncFd::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        let mut watch = Self { fd, paths: paths.iter().map(PathBuf::from).collect(), names: BTreeMap::new() };
        watch.renew();
        Ok(watch)
    }

    /// Watches what is there now: folders may have come, and links may lead elsewhere.
    pub(crate) fn renew(&mut self) {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut names: BTreeMap<i32, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for place in self.paths.iter().flat_map(|path| places(path)) {
            let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else { continue };
            // A folder that is not there yet, or may not be looked at: the collector runs at every interval in any case.
            if let Ok(watch) = add_watch(self.fd.get_ref(), folder, flags) {
                names.entry(watch).or_default().insert(name.as_encoded_bytes().to_vec());
            }
        }
        self.names = names;
    }

    /// Waits until it is time to look.
    pub(crate) async fn changed(&self) -> std::io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            if self.drain()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Reads all events; whether one of them matters.
    pub(crate) fn drain(&self) -> std::io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
        let mut matters = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let lost =
                        ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                    let named = event.file_name().map(|name| name.to_bytes().to_vec());
                    matters |= event.events().intersects(lost)
                        || named
                            .is_some_and(|name| self.names.get(&event.wd()).is_some_and(|names| names.contains(&name)));
                }
                Err(Errno::WOULDBLOCK) => return Ok(matters),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn matters(watch: &Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_watched_file_that_is_written_replaced_removed_or_re_moded_matters_and_its_neighbours_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("passwd"), dir.path().join("other"));
        std::fs::write(&file, "a").unwrap();
        let watch = Watch::open(&[file.display().to_string()]).unwrap();
        std::fs::write(&other, "x").unwrap();
        assert!(!matters(&watch).await);
        std::fs::write(&file, "b").unwrap();
        assert!(matters(&watch).await);
        std::fs::rename(&other, &file).unwrap();
        assert!(matters(&watch).await);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        assert!(matters(&watch).await);
        std::fs::remove_file(&file).unwrap();
        assert!(matters(&watch).await);
        assert!(!matters(&watch).await);
    }

    #[tokio::test]
    async fn what_a_link_leads_to_is_watched_too_also_after_the_link_changed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("conf"), "1").unwrap();
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("a/conf", &link).unwrap();
        let mut watch = Watch::open(&[link.display().to_string()]).unwrap();
        std::fs::write(dir.path().join("a/conf"), "2").unwrap();
        assert!(matters(&watch).await);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("b/conf", &link).unwrap();
        assert!(matters(&watch).await);
        watch.renew();
        std::fs::write(dir.path().join("b/conf"), "2").unwrap();
        assert!(matters(&watch).await);
    }

    #[tokio::test]
    async fn an_overflow_is_time_to_look() {
        let max: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::open(&[dir.path().join("never").display().to_string()]).unwrap();
        // Two events a turn, and none of them about the watched name; alternating, so that the kernel merges none.
        for _ in 0..max {
            std::fs::write(dir.path().join("x"), "1").unwrap();
            std::fs::remove_file(dir.path().join("x")).unwrap();
        }
        assert!(matters(&watch).await);
    }
}
