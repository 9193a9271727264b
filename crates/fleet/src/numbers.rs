//! Numbers that are never used twice, also after a crash: a range of them is written down as used up before the first one is used.
//!
//! The server refuses a number that is not greater than those before, and takes one that is far behind for the sign that somebody else uses
//! the same key (ADR 0029). A copy of the folder begins with the same range, so one of the two falls behind.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::folder::Folder;

const FILE: &str = "number";
/// How many are used up by a start at least: 2^63 is enough for some 2^43 starts.
const RANGE: i64 = 1 << 20;

/// The numbers of one folder.
#[derive(Debug)]
pub(crate) struct Numbers {
    folder: Arc<Folder>,
    /// The next one, and the first that is not ours yet.
    range: Mutex<(i64, i64)>,
}

impl Numbers {
    /// Goes on behind those that were used up. `began`: whether there must have been some.
    pub(crate) fn open(folder: Arc<Folder>, began: bool) -> Result<Self> {
        let path = folder.path().join(FILE);
        let broken =
            || Error::folder(format!("`{}` is missing or broken: remove the folder and enroll anew", path.display()));
        let next = match folder.read(FILE)? {
            None if began => return Err(broken()),
            None => 0,
            Some(text) => {
                let text = String::from_utf8(text).map_err(|_| broken())?;
                text.trim_end().parse().ok().filter(|next: &i64| *next >= 0).ok_or_else(broken)?
            }
        };
        Ok(Self { folder, range: Mutex::new((next, next)) })
    }

    /// The next number.
    pub(crate) fn take(&self) -> Result<i64> {
        let mut range = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, end) = *range;
        let after = next.checked_add(1).ok_or_else(|| Error::folder("every number is used up: enroll anew"))?;
        let end = if next < end {
            end
        } else {
            let end = next.saturating_add(RANGE);
            // Always as long: a start on a full disk writes it in its own place.
            self.folder.write_fixed(FILE, format!("{end:019}\n").as_bytes())?;
            end
        };
        *range = (after, end);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_comes_twice_also_after_a_crash_and_at_the_end_of_a_range() {
        let dir = tempfile::tempdir().unwrap();
        let open = |began| {
            let folder = Folder::open(&dir.path().join("identity")).unwrap();
            Numbers::open(Arc::new(folder), began).unwrap()
        };
        let mut last = -1;
        let mut grows = |number: i64| {
            assert!(number > last, "{number} after {last}");
            last = number;
        };
        for start in 0..3 {
            // Dropping it without a word is what a crash does.
            let numbers = open(start > 0);
            for _ in 0..5 {
                grows(numbers.take().unwrap());
            }
        }
        let numbers = open(true);
        *numbers.range.lock().unwrap() = (RANGE * 9, RANGE * 9);
        grows(numbers.take().unwrap());
        drop(numbers);
        grows(open(true).take().unwrap());
    }

    #[test]
    fn a_start_that_takes_none_uses_none_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        drop(Numbers::open(Arc::new(Folder::open(&path).unwrap()), false).unwrap());
        assert!(!path.join(FILE).exists());
    }

    #[test]
    fn a_missing_or_broken_file_is_told_and_never_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(&dir.path().join("identity")).unwrap());
        assert!(Numbers::open(folder.clone(), true).unwrap_err().to_string().contains("enroll anew"));
        for broken in ["", "x", "-1", "99999999999999999999"] {
            folder.write(FILE, broken.as_bytes()).unwrap();
            assert!(Numbers::open(folder.clone(), false).is_err(), "{broken}");
        }
        folder.write(FILE, format!("{}\n", i64::MAX).as_bytes()).unwrap();
        assert!(Numbers::open(folder, true).unwrap().take().unwrap_err().to_string().contains("used up"));
    }
}
