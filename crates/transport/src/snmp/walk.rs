//! GETs of many objects and walks of many columns: what is asked next depends on what came.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::client::{Device, SnmpClient, lock};
use super::credentials::Kind;
use super::message::{Ask, Version};
use super::value::{Oid, SnmpValue, VarBind};
use crate::CallError;

/// Objects of one GET.
const GET_OBJECTS: usize = 16;
/// What an object takes in memory, with its line in the transcript.
const OBJECT_BYTES: u64 = 256;
/// Columns that are walked side by side.
const WALK_COLUMNS: usize = 8;

/// An error status other than 0 and those that the callers handle.
fn status(status: i32, about: &Oid) -> CallError {
    let words = match status {
        1 => "tooBig",
        2 => "noSuchName",
        3 => "badValue",
        4 => "readOnly",
        5 => "genErr",
        6 => "noAccess",
        13 => "resourceUnavailable",
        16 => "authorizationError",
        _ => "an error",
    };
    match status {
        6 | 16 => CallError::Denied(format!("{words} about {about}")),
        _ => CallError::Unreachable(format!("the device answers {words} ({status}) about {about}")),
    }
}

const TOO_BIG: i32 = 1;
const NO_SUCH_NAME: i32 = 2;

impl SnmpClient {
    pub(super) async fn get_some(
        &self,
        device: &Device,
        oids: &[Oid],
        found: &mut Vec<VarBind>,
        retries: &mut u32,
    ) -> Result<(), CallError> {
        let mut parts: Vec<&[Oid]> = oids.chunks(GET_OBJECTS).rev().collect();
        while let Some(part) = parts.pop() {
            let pdu = self.ask(device, Ask::Get, part, self.config.tries, retries).await?;
            let about = usize::try_from(pdu.error_index).unwrap_or_default().checked_sub(1);
            match (pdu.error_status, about) {
                (0, _) => {
                    let as_asked = pdu.varbinds.len() == part.len()
                        && pdu.varbinds.iter().zip(part).all(|((got, _), asked)| got == asked);
                    if !as_asked {
                        return Err(CallError::Malformed("an answer about other objects than asked for".to_owned()));
                    }
                    found.extend(pdu.varbinds);
                }
                (TOO_BIG, _) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                // v1 refuses all for one.
                (NO_SUCH_NAME, Some(at)) if at < part.len() => {
                    let (before, rest) = part.split_at(at);
                    if let Some((missing, after)) = rest.split_first() {
                        // The order of the answers is that of the questions: those before are asked first.
                        if before.is_empty() {
                            found.push((missing.clone(), SnmpValue::NoSuchObject));
                            parts.extend(Some(after).filter(|after| !after.is_empty()));
                        } else {
                            parts.extend([rest, before]);
                        }
                    }
                }
                (error, about) => {
                    let about = about.and_then(|at| part.get(at)).or(part.first()).cloned().unwrap_or_default();
                    return Err(status(error, &about));
                }
            }
        }
        Ok(())
    }

    /// Walks until all columns are done.
    pub(super) async fn walk_all(
        &self,
        device: &Device,
        cursors: &mut [Cursor],
        retries: &mut u32,
    ) -> Result<(), CallError> {
        let is_v1 = matches!(self.credentials.0, Kind::Community { version: Version::V1, .. });
        let mut objects = 0;
        loop {
            let mut active: Vec<&mut Cursor> =
                cursors.iter_mut().filter(|cursor| !cursor.done).take(WALK_COLUMNS).collect();
            if active.is_empty() {
                return Ok(());
            }
            let size = lock(&device.pace).size();
            active.truncate(size);
            let rows = if is_v1 { 1 } else { size / active.len().max(1) };
            let asked = rows * active.len();
            let ask = if is_v1 {
                Ask::GetNext
            } else {
                Ask::GetBulk { repetitions: u32::try_from(rows).unwrap_or(u32::MAX) }
            };
            let oids: Vec<Oid> = active.iter().map(|cursor| cursor.at.clone()).collect();
            let begun = Instant::now();
            // Of an answer that is too large for the way, every try is lost: fewer tries, and then a smaller one.
            let tries = if size > 1 { self.config.tries.min(2) } else { self.config.tries };
            let pdu = match self.ask(device, ask, &oids, tries, retries).await {
                Err(error @ CallError::Timeout(_)) => {
                    if lock(&device.pace).failed() {
                        continue;
                    }
                    return Err(error);
                }
                other => other?,
            };
            let about = usize::try_from(pdu.error_index).unwrap_or_default().saturating_sub(1);
            match pdu.error_status {
                0 => {}
                TOO_BIG => {
                    if lock(&device.pace).failed() {
                        continue;
                    }
                    return Err(status(TOO_BIG, &oids.first().cloned().unwrap_or_default()));
                }
                NO_SUCH_NAME if is_v1 => {
                    // Nothing comes after: the column that the answer names, or the only one.
                    match active.get_mut(about) {
                        Some(cursor) => cursor.done = true,
                        None => return Err(CallError::Malformed("an error about no object".to_owned())),
                    }
                    continue;
                }
                error => return Err(status(error, &oids.get(about).or(oids.first()).cloned().unwrap_or_default())),
            }
            let got = pdu.varbinds.len();
            if got == 0 || got > asked {
                return Err(CallError::Malformed(format!("{got} objects where {asked} were asked for")));
            }
            objects += got;
            let of_device = device.objects.fetch_add(got, Ordering::Relaxed) + got;
            for (count, max) in [(objects, self.config.walk_objects_max), (of_device, self.config.device_objects_max)] {
                if count > max {
                    return Err(CallError::TooMany { max });
                }
            }
            device.memory.draw(OBJECT_BYTES * u64::try_from(got).unwrap_or(u64::MAX)).await?;
            let columns = active.len();
            let mut ended = false;
            for (at, varbind) in pdu.varbinds.into_iter().enumerate() {
                if let Some(cursor) = active.get_mut(at % columns) {
                    ended |= cursor.take(varbind)?;
                }
            }
            let mut pace = lock(&device.pace);
            if got < asked && !ended {
                pace.cut(got);
            } else if got == asked {
                pace.answered(got, begun.elapsed());
            }
        }
    }
}

/// Where a walk is in one column.
pub(super) struct Cursor {
    root: Oid,
    at: Oid,
    done: bool,
    found: Vec<VarBind>,
}

impl Cursor {
    pub(super) fn new(root: &Oid) -> Self {
        Self { root: root.clone(), at: root.clone(), done: false, found: Vec::new() }
    }

    pub(super) fn found(&self) -> &[VarBind] {
        &self.found
    }

    pub(super) fn into_found(self) -> Vec<VarBind> {
        self.found
    }

    /// Takes the next object; tells whether the column has ended.
    fn take(&mut self, (oid, value): VarBind) -> Result<bool, CallError> {
        if self.done {
            return Ok(true);
        }
        if !value.is_some() || oid.below(&self.root).is_none() {
            self.done = true;
            // Behind the column, or before it: an agent that goes back would let us walk for ever.
            return if oid < self.at { Err(self.stuck(&oid)) } else { Ok(true) };
        }
        if oid <= self.at {
            return Err(self.stuck(&oid));
        }
        self.at = oid.clone();
        self.found.push((oid, value));
        Ok(false)
    }

    fn stuck(&self, oid: &Oid) -> CallError {
        CallError::Malformed(format!("a loop: {oid} comes after {}", self.at))
    }
}
