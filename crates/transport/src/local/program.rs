//! Runs one program: no shell, no input, no environment but `PATH` and `LC_ALL`, bounded output, its whole process group ended in time.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::Access;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{io_failure, words};
use crate::call::CallError;

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";
const STDERR_BYTES: usize = 4_096;

/// What a program printed.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: Bytes,
    pub(super) stderr: String,
}

/// Ends the group when the run is over, cut off or dropped: a child of the program may have outlived it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It is gone already, as a rule.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

fn found(program: &str) -> Result<String, CallError> {
    let candidates: Vec<String> = if program.starts_with('/') {
        vec![program.to_owned()]
    } else {
        PATH.split(':').map(|dir| format!("{dir}/{program}")).collect()
    };
    let runs = |path: &&String| {
        std::path::Path::new(path).is_file() && rustix::fs::access(path.as_str(), Access::EXEC_OK).is_ok()
    };
    candidates.iter().find(runs).cloned().ok_or_else(|| CallError::NotFound(format!("program {}", words(program))))
}

/// Reads to the end; `Err` once there are more than `max` bytes.
async fn all(mut from: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, CallError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    (&mut from).take(limit).read_to_end(&mut out).await.map_err(|error| io_failure("output", &error))?;
    if out.len() > max { Err(CallError::TooLarge { max }) } else { Ok(out) }
}

/// Reads to the end, keeping the first `max` bytes.
async fn first(mut from: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, CallError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    (&mut from).take(limit).read_to_end(&mut out).await.map_err(|error| io_failure("output", &error))?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map_err(|error| io_failure("output", &error))?;
    Ok(out)
}

pub(super) async fn run(argv: &[&str], max: usize, timeout: Duration) -> Result<Ran, CallError> {
    let (program, args) = argv.split_first().ok_or_else(|| CallError::NotFound("program".into()))?;
    let path = found(program)?;
    let mut command = Command::new(&path);
    command
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| io_failure(&path, &error))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return Err(CallError::Unreachable("no pipes".into())) };
    let work = async {
        let (stdout, stderr) = tokio::try_join!(all(stdout, max), first(stderr, STDERR_BYTES))?;
        let status = child.wait().await.map_err(|error| io_failure(&path, &error))?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Ran { code: status.code().unwrap_or(-1), stdout: Bytes::from(stdout), stderr })
    };
    let result = tokio::time::timeout(timeout, work).await.unwrap_or(Err(CallError::Timeout(timeout)));
    drop(group);
    result
}
