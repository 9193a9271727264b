//! Reports that wait for the server: one file each, in order, of bounded size together; the oldest go first, and never half of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk;

const END: &str = ".report";

/// Which report: by run, then by number.
pub(crate) type Number = (u64, u64);

/// Reports on disk, and one that found no place there.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    files: BTreeMap<Number, u64>,
    /// Where the disk takes nothing, the newest report waits here.
    held: Option<(Number, Vec<u8>)>,
    /// How many reports were given up so far.
    pub(crate) dropped: u64,
}

fn number(name: &str) -> Option<Number> {
    let (epoch, sequence) = name.strip_suffix(END)?.split_once('-')?;
    Some((epoch.parse().ok()?, sequence.parse().ok()?))
}

impl Spool {
    /// Opens the folder, or makes it; what was being written when the agent was killed is removed.
    pub(crate) fn open(state: &Path, bytes_max: u64) -> std::io::Result<Self> {
        let folder = state.join("spool");
        let mut files = BTreeMap::new();
        // A full disk, or one that is read-only, is no reason not to report.
        let _ = disk::make_folder(&folder);
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match number(&name) {
                Some(number) => _ = files.insert(number, entry.metadata()?.len()),
                // One that cannot be removed, on a disk that became read-only, is in nobody's way.
                None if name.ends_with(disk::PART) => drop(std::fs::remove_file(entry.path())),
                None => {}
            }
        }
        Ok(Self { folder, bytes_max, files, held: None, dropped: 0 })
    }

    fn path(&self, (epoch, sequence): Number) -> PathBuf {
        self.folder.join(format!("{epoch:020}-{sequence:010}{END}"))
    }

    /// The newest run of which a report waits.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.files.keys().next_back().map(|(epoch, _)| *epoch)
    }

    /// Reports that wait.
    pub(crate) fn len(&self) -> usize {
        self.files.len() + usize::from(self.held.is_some())
    }

    /// Whether a report waits in memory, because the disk takes nothing.
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().sum::<u64>() + self.held.as_ref().map_or(0, |(_, report)| report.len() as u64)
    }

    /// Adds a report behind the others. Whether some had to be given up for it, and why it is not on disk, if it is not.
    pub(crate) fn push(&mut self, number: Number, report: Vec<u8>) -> (bool, Option<std::io::Error>) {
        let before = self.dropped;
        if let Some((number, held)) = self.held.take() {
            // The disk may have room again; otherwise the newer one takes its place.
            match disk::replace(&self.path(number), &held) {
                Ok(()) => _ = self.files.insert(number, held.len() as u64),
                Err(_) => self.dropped += 1,
            }
        }
        let length = report.len() as u64;
        while self.files.values().sum::<u64>() + length > self.bytes_max && self.drop_oldest() {}
        let error = disk::make_folder(&self.folder).and_then(|()| disk::replace(&self.path(number), &report)).err();
        match error {
            None => _ = self.files.insert(number, length),
            Some(_) => self.held = Some((number, report)),
        }
        (self.dropped > before, error)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((number, _)) = self.files.pop_first() else { return false };
        self.dropped += 1;
        // One that cannot be removed is sent after the next start.
        let _ = std::fs::remove_file(self.path(number));
        true
    }

    /// The oldest report. One that cannot be read is given up.
    pub(crate) fn first(&mut self) -> Option<(Number, Vec<u8>)> {
        while let Some(number) = self.files.keys().next().copied() {
            match std::fs::read(self.path(number)) {
                Ok(report) => return Some((number, report)),
                Err(_) => _ = self.drop_oldest(),
            }
        }
        self.held.clone()
    }

    /// Takes a report off.
    pub(crate) fn done(&mut self, number: Number) {
        if self.files.remove(&number).is_some() {
            let _ = std::fs::remove_file(self.path(number));
        } else if self.held.as_ref().is_some_and(|(held, _)| *held == number) {
            self.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system of so many bytes, gone when it is dropped.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount(size: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut mount = std::process::Command::new("mount");
            let mount = mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "cairn-test"]);
            let done = mount.arg(dir.path()).output().unwrap();
            let why = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "this test mounts a small file system: run it as root ({why})");
            Self(dir)
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).output();
        }
    }

    fn numbers(spool: &mut Spool) -> Vec<Number> {
        let mut out = Vec::new();
        while let Some((number, report)) = spool.first() {
            assert_eq!(report, number.1.to_string().repeat(100).into_bytes());
            out.push(number);
            spool.done(number);
        }
        out
    }

    fn report(sequence: u64) -> Vec<u8> {
        sequence.to_string().repeat(100).into_bytes()
    }

    #[test]
    fn reports_come_back_in_their_order_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        for number in [(2, 1), (1, 9), (1, 10), (2, 2)] {
            assert!(matches!(spool.push(number, report(number.1)), (false, None)));
        }
        std::fs::write(dir.path().join("spool/00000000000000000001-0000000003.report.part"), b"half").unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(numbers(&mut spool), [(1, 9), (1, 10), (2, 1), (2, 2)]);
        assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_over_the_limit_costs_the_oldest_and_whole_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 350).unwrap();
        for sequence in 1..=3 {
            assert!(!spool.push((1, sequence), report(sequence)).0);
        }
        assert!(spool.push((1, 4), report(4)).0);
        assert_eq!((spool.dropped, spool.len(), spool.bytes()), (1, 3, 300));
        assert_eq!(numbers(&mut spool), [(1, 2), (1, 3), (1, 4)]);
    }

    #[test]
    fn a_full_disk_is_survived_and_told_and_leaves_no_half_file() {
        let disk = SmallDisk::mount("64k");
        let mut spool = Spool::open(disk.path(), 1 << 30).unwrap();
        let large = vec![7u8; 28 * 1_024];
        let mut errors = 0;
        for sequence in 1..=4 {
            errors += usize::from(spool.push((1, sequence), large.clone()).1.is_some());
        }
        assert!(errors >= 2, "{errors}");
        // The newest is held in memory; what is on disk is whole.
        assert_eq!(spool.held.as_ref().map(|(number, _)| *number), Some((1, 4)));
        for entry in std::fs::read_dir(disk.path().join("spool")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().len(), 28 * 1_024);
        }
        // There is room again: everything that was kept is sent, the newest last.
        let (first, _) = spool.first().unwrap();
        spool.done(first);
        assert!(spool.push((1, 5), vec![8; 10]).1.is_none());
        let mut seen = Vec::new();
        while let Some((number, _)) = spool.first() {
            seen.push(number.1);
            spool.done(number);
        }
        assert_eq!(seen.last(), Some(&5));
        assert!(seen.contains(&4), "{seen:?}");
    }
}
