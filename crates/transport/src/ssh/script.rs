//! What is asked of a host, as one POSIX shell script, and what its output says. Pure.
//!
//! The script is fed to a shell's standard input: nothing is written at the target, and nothing that is asked shows in its process list.
//! Each question is tested with the shell's own `[`, which starts no process, and those of one kind are then answered by one `head`, `stat`,
//! `readlink` or `sha256sum` for many files.
//!
//! Invariants:
//! - every path and argument is one quoted word: no shell that POSIX describes reads anything else out of it;
//! - where an answer begins and ends is told by a random word that only the asker knows: no content of a file or name of one can pretend to
//!   be another's. The word is in the environment of the shell and its children and never among their arguments, which everybody may read;
//! - a question whose answer is not certain (a file went away meanwhile, say) is left open, to be asked again by itself.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use domain::Digest;
use memchr::memmem;

use crate::call::{CallError, DirEntry, FileKind, FileStat, FileUsage};

/// Questions that one process answers. Shells copy their list of arguments for each that is added.
const CHUNK: usize = 100;
/// Files of which at most so many bytes are wanted are read together, with this limit; each one's own is judged here.
const READ_TOGETHER: usize = 8 * 1_024 * 1_024;
/// What every process of the script finds its own environment in, and with it the random word.
const ENVIRON: &str = "/proc/self/environ";
/// More than that environment has: what stands between two contents must not be cut.
const ENVIRON_BYTES: usize = 4_096;
/// Where programs are looked for, as on the machine itself.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// A question about the host's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ask {
    /// A regular file's content, of at most so many bytes, links followed.
    Read(usize, String),
    /// A directory's entries.
    List(String),
    /// `lstat`.
    Stat(String),
    /// Where a link points.
    Link(String),
    /// SHA-256 of a regular file.
    Hash(String),
    /// `statvfs`.
    Usage(String),
}

impl Ask {
    fn path(&self) -> &str {
        match self {
            Self::Read(_, path)
            | Self::List(path)
            | Self::Stat(path)
            | Self::Link(path)
            | Self::Hash(path)
            | Self::Usage(path) => path,
        }
    }

    /// Whether both can be answered by the same process.
    fn goes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Read(a, _), Self::Read(b, _)) => together(*a) == together(*b),
            (Self::List(_), _) => false,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// How much is read of files that one process reads: those of which little is wanted go together.
fn together(max: usize) -> usize {
    max.max(READ_TOGETHER)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// To [`Ask::Read`].
    Content(Bytes),
    /// To [`Ask::List`], sorted by name.
    Entries(Vec<DirEntry>),
    /// To [`Ask::Stat`].
    Stat(FileStat),
    /// To [`Ask::Link`].
    Link(String),
    /// To [`Ask::Hash`].
    Digest(Digest),
    /// To [`Ask::Usage`].
    Usage(FileUsage),
}

/// What a script's output says of its questions.
pub(super) type Answers = HashMap<Ask, Result<Answer, CallError>>;

/// One word of a POSIX shell, whatever the text holds. NUL, which no path or argument can hold, is the caller's to refuse.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What every script begins with. `$N` is the random word.
///
/// `t`: what a path is, in `c`: `f` a readable file, `i` a file that is not readable, `d` a directory, `l` a link, `o` something else, `x` not
/// there, `p` not to be known. `e`: the same of what links lead to. `y`: why something is not there.
const PRELUDE: &str = r#"cd /
s() { printf '\n%s %s\n' "$N" "$1"; }
y() {
c=x
if [ -L "$1" ]; then
case $(head -c 0 -- "$1" 2>&1) in *': Permission denied') c=p;; esac
return
fi
q=${1%/*}
while [ -n "$q" ]; do
if [ -d "$q" ]; then [ -x "$q" ] || c=p; return; fi
if [ -e "$q" ]; then return; fi
q=${q%/*}
done
}
e() {
if [ -f "$1" ]; then if [ -r "$1" ]; then c=f; else c=i; fi
elif [ -d "$1" ]; then c=d
elif [ -e "$1" ]; then c=o
else y "$1"; fi
}
t() { if [ -L "$1" ]; then c=l; else e "$1"; fi; }
l() {
for n in "$1"/* "$1"/.[!.]* "$1"/..?*; do
t "$n"
case $c in
f|i) printf 'f%s\0' "${n##*/}";;
d|l|o) printf '%s%s\0' "$c" "${n##*/}";;
esac
done
}
"#;

/// Questions in the order of a script, in groups that one process answers.
#[derive(Debug)]
pub(super) struct Script {
    /// What the shell is fed.
    pub(super) text: String,
    chunks: Vec<Vec<Ask>>,
}

/// A script that asks all of this; each by itself where `singly`.
pub(super) fn script(mut asks: Vec<Ask>, nonce: &str, singly: bool) -> Script {
    asks.sort_unstable();
    asks.dedup();
    let mut chunks: Vec<Vec<Ask>> = Vec::new();
    for ask in asks {
        match chunks.last_mut() {
            Some(chunk)
                if !singly && chunk.len() < CHUNK && chunk.first().is_some_and(|first| first.goes_with(&ask)) =>
            {
                chunk.push(ask);
            }
            _ => chunks.push(vec![ask]),
        }
    }
    let mut text = format!("N={nonce}; PATH={PATH}; LC_ALL=C; export N PATH LC_ALL\n{PRELUDE}");
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "s b; head -q -c {ENVIRON_BYTES} -- {ENVIRON} </dev/null 2>/dev/null; s \"a $?\"");
    for chunk in &chunks {
        // What is tested, and which results of the test are asked further.
        let (test, go, arguments) = match chunk.first() {
            Some(Ask::Read(..)) => ("e", "f", format!("\"$f\" {ENVIRON}")),
            Some(Ask::Hash(_)) => ("e", "f", "\"$f\"".to_owned()),
            Some(Ask::List(_)) => ("e", "d", "\"$f\"".to_owned()),
            Some(Ask::Link(_)) => ("t", "l", "\"$f\"".to_owned()),
            Some(Ask::Stat(_) | Ask::Usage(_)) => ("t", "f|i|d|l|o", "\"$f\"".to_owned()),
            None => continue,
        };
        let paths: Vec<String> = chunk.iter().map(|ask| quoted(ask.path())).collect();
        let _ = writeln!(
            text,
            "set --; r=; for f in {}; do {test} \"$f\"; r=$r$c; case $c in {go}) set -- \"$@\" {arguments};; esac; done",
            paths.join(" ")
        );
        let run = match chunk.first() {
            Some(Ask::Read(max, _)) => format!("head -q -c {} -- \"$@\"", together(*max).saturating_add(1)),
            // `[ -r ]` of a directory; a name of its own where it is the root, so that no path begins with two slashes.
            Some(Ask::List(_)) => "if [ -r \"$1\" ] && [ -x \"$1\" ]; then l \"${1%/}\"; else (exit 13); fi".to_owned(),
            Some(Ask::Stat(_)) => "stat -c '%f %u %g %s %Y' -- \"$@\"".to_owned(),
            Some(Ask::Link(_)) => {
                "readlink -z -- \"$@\" || for n; do printf '%s\\0' \"$(readlink -- \"$n\")\"; done".to_owned()
            }
            Some(Ask::Hash(_)) => "sha256sum -- \"$@\"".to_owned(),
            Some(Ask::Usage(_)) => "stat -f -c '%S %b %a' -- \"$@\"".to_owned(),
            None => continue,
        };
        let _ = writeln!(
            text,
            "s \"b $r\"; if [ $# != 0 ]; then {{ {run}; }} </dev/null 2>/dev/null; else (exit 0); fi; s \"a $?\""
        );
    }
    text.push_str("s z\n");
    Script { text, chunks }
}

/// What a script prints last.
pub(super) fn end(nonce: &str) -> String {
    format!("\n{nonce} z\n")
}

/// Reads a script's output piece by piece.
struct Output<'a> {
    bytes: &'a Bytes,
    at: usize,
    marker: Vec<u8>,
}

impl Output<'_> {
    /// The bytes up to the next marker, and what stands behind it.
    fn next(&mut self) -> Option<(Bytes, &str)> {
        let rest = self.bytes.get(self.at..)?;
        let found = memmem::find(rest, &self.marker)?;
        let word_at = self.at + found + self.marker.len();
        let word = self.bytes.get(word_at..)?;
        let length = memchr::memchr(b'\n', word)?;
        let before = self.bytes.slice(self.at..self.at + found);
        self.at = word_at + length + 1;
        Some((before, std::str::from_utf8(word.get(..length)?).ok()?))
    }
}

/// What the output of a script answers. What it leaves open is not there: the session was cut, or a file changed meanwhile.
pub(super) fn answers(script: &Script, nonce: &str, output: &Bytes) -> Result<Answers, CallError> {
    let mut found = Answers::new();
    let mut output = Output { bytes: output, at: 0, marker: format!("\n{nonce} ").into_bytes() };
    // What a login shell prints before the script is nobody's answer.
    let Some((_, "b")) = output.next() else {
        return Err(no_shell());
    };
    let own = match output.next() {
        Some((own, _)) if memmem::find(&own, nonce.as_bytes()).is_some() => own,
        _ => return Err(CallError::Malformed("the target is no Linux host with `head` and /proc".to_owned())),
    };
    for chunk in &script.chunks {
        let Some((_, tests)) = output.next() else { break };
        let tests: Vec<u8> = tests.bytes().skip(2).collect();
        let Some((body, code)) = output.next() else { break };
        if tests.len() != chunk.len() {
            break;
        }
        let failed = code != "a 0";
        chunk_answers(chunk, &tests, &own, &body, failed, &mut found);
    }
    Ok(found)
}

fn refused(ask: &Ask, test: u8) -> CallError {
    let path = super::words(ask.path());
    match test {
        b'x' => CallError::NotFound(path),
        b'p' | b'i' => CallError::Denied(path),
        _ => CallError::Malformed(match ask {
            Ask::Link(_) => format!("{path}: not a link"),
            Ask::List(_) => format!("{path}: not a directory"),
            _ => format!("{path}: not a regular file"),
        }),
    }
}

fn chunk_answers(chunk: &[Ask], tests: &[u8], own: &[u8], body: &Bytes, failed: bool, found: &mut Answers) {
    let mut asked = Vec::new();
    for (ask, test) in chunk.iter().zip(tests) {
        let go = match ask {
            Ask::Read(..) | Ask::Hash(_) => *test == b'f',
            Ask::List(_) => *test == b'd',
            Ask::Link(_) => *test == b'l',
            Ask::Stat(_) | Ask::Usage(_) => b"fidlo".contains(test),
        };
        if go {
            asked.push(ask);
        } else {
            found.insert(ask.clone(), Err(refused(ask, *test)));
        }
    }
    let pieces: Vec<Bytes> = match chunk.first() {
        Some(Ask::Read(..)) => split(body, own),
        Some(Ask::Link(_)) => split(body, b"\0"),
        Some(Ask::List(_)) => vec![body.clone()],
        _ => split(body, b"\n"),
    };
    let alone = asked.len() == 1;
    let whole = pieces.len() == asked.len();
    for (at, ask) in asked.into_iter().enumerate() {
        let piece = pieces.get(at).filter(|_| whole);
        // A process that failed says not at which of its files: what could be its silence is asked again.
        let doubtful = failed && piece.is_none_or(|piece| piece.is_empty() || matches!(ask, Ask::List(_)));
        let answer = match piece {
            Some(piece) if !doubtful => read(ask, piece),
            _ if alone && matches!(ask, Ask::List(_) | Ask::Link(_)) => {
                Err(CallError::Denied(super::words(ask.path())))
            }
            _ if alone => Err(CallError::Unreachable(format!("{}: cannot be read", super::words(ask.path())))),
            _ => continue,
        };
        found.insert(ask.clone(), answer);
    }
}

/// The pieces that each end with `end`.
fn split(body: &Bytes, end: &[u8]) -> Vec<Bytes> {
    let (mut out, mut at) = (Vec::new(), 0);
    for found in memmem::find_iter(body, end) {
        out.push(body.slice(at..found));
        at = found + end.len();
    }
    out
}

fn read(ask: &Ask, piece: &Bytes) -> Result<Answer, CallError> {
    let malformed = || {
        CallError::Malformed(format!("{}: the target's tools answer in a way of their own", super::words(ask.path())))
    };
    let numbers = |radix_first: u32| -> Option<Vec<i64>> {
        let text = std::str::from_utf8(piece).ok()?;
        let words = text.split(' ').enumerate();
        words.map(|(at, word)| i64::from_str_radix(word, if at == 0 { radix_first } else { 10 }).ok()).collect()
    };
    match ask {
        Ask::Read(max, _) if piece.len() > *max => Err(CallError::TooLarge { max: *max }),
        Ask::Read(..) => Ok(Answer::Content(piece.clone())),
        Ask::List(_) => {
            let mut entries: Vec<DirEntry> = split(piece, b"\0").iter().filter_map(entry).collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Answer::Entries(entries))
        }
        // What `readlink` says where it may not look.
        Ask::Link(path) if piece.is_empty() => Err(CallError::Denied(super::words(path))),
        Ask::Link(_) => Ok(Answer::Link(String::from_utf8_lossy(piece).into_owned())),
        Ask::Hash(path) => {
            let text = std::str::from_utf8(piece).map_err(|_| malformed())?;
            let (hex, name) = text.split_at_checked(64).ok_or_else(malformed)?;
            if name.get(2..) != Some(path.as_str()) {
                return Err(malformed());
            }
            hex.parse().map(Answer::Digest).map_err(|_| malformed())
        }
        Ask::Stat(_) => {
            let numbers = numbers(16).ok_or_else(malformed)?;
            let [mode, uid, gid, size, mtime_s] = numbers[..] else { return Err(malformed()) };
            let mode = u32::try_from(mode).map_err(|_| malformed())?;
            Ok(Answer::Stat(FileStat {
                kind: match mode & 0o170_000 {
                    0o100_000 => FileKind::File,
                    0o040_000 => FileKind::Dir,
                    0o120_000 => FileKind::Link,
                    _ => FileKind::Other,
                },
                mode: mode & 0o7777,
                uid: u32::try_from(uid).map_err(|_| malformed())?,
                gid: u32::try_from(gid).map_err(|_| malformed())?,
                size: u64::try_from(size).map_err(|_| malformed())?,
                mtime_s,
            }))
        }
        Ask::Usage(_) => {
            let numbers = numbers(10).ok_or_else(malformed)?;
            let [size, total, available] = numbers[..] else { return Err(malformed()) };
            let bytes = |blocks: i64| u64::try_from(blocks.saturating_mul(size)).map_err(|_| malformed());
            Ok(Answer::Usage(FileUsage { total: bytes(total)?, available: bytes(available)? }))
        }
    }
}

fn entry(piece: &Bytes) -> Option<DirEntry> {
    let (kind, name) = piece.split_first()?;
    let kind = match kind {
        b'f' => FileKind::File,
        b'd' => FileKind::Dir,
        b'l' => FileKind::Link,
        b'o' => FileKind::Other,
        _ => return None,
    };
    Some(DirEntry { name: String::from_utf8_lossy(name).into_owned(), kind })
}

/// A script that runs one program as [`crate::HostReach::command`] promises. Where the host has `timeout` the program ends with its time even if
/// the connection does not.
pub(super) fn command(argv: &[&str], seconds: u64, nonce: &str) -> String {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    let program = words.first().map_or("''", String::as_str);
    format!(
        "N={nonce}; PATH={PATH}; LC_ALL=C; export N PATH LC_ALL; cd /\n\
         s() {{ printf '\\n%s %s\\n' \"$N\" \"$1\"; }}\n\
         s b\n\
         if command -v {program} >/dev/null; then\n\
         w=; if timeout 1 true </dev/null >/dev/null 2>&1; then w='timeout {seconds}'; fi\n\
         env -i PATH={PATH} LC_ALL=C $w {} </dev/null\n\
         s \"c $?\"\n\
         else s n; fi\n\
         s z\n",
        words.join(" ")
    )
}

/// What a program printed and the code that it ended with; none where the host has no such program.
pub(super) fn printed(nonce: &str, output: &Bytes) -> Result<Option<(Bytes, i32)>, CallError> {
    let mut output = Output { bytes: output, at: 0, marker: format!("\n{nonce} ").into_bytes() };
    if !matches!(output.next(), Some((_, "b"))) {
        return Err(no_shell());
    }
    match output.next() {
        Some((_, "n")) => Ok(None),
        Some((body, word)) => match word.strip_prefix("c ").and_then(|code| code.parse().ok()) {
            Some(code) => Ok(Some((body, code))),
            None => Err(CallError::Malformed("the target's shell answers in a way of its own".to_owned())),
        },
        None => Err(CallError::Unreachable("the target's answer was cut off".to_owned())),
    }
}

fn no_shell() -> CallError {
    CallError::Denied("the account's login gives no POSIX shell at /bin/sh".to_owned())
}

#[cfg(test)]
mod tests;
