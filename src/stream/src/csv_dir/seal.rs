//! Checksums of the bytes that were read of each file. They detect a file that was rewritten:
//! within a query when it reads on, and by a checkpoint before the query resumes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use vexact_core::error::{Error, Result};

use super::Positions;

/// Number of bytes before a position that are compared when the reader resumes a file.
const TAIL_BYTES: usize = 4096;

/// Version of a file: every change of its content changes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    changed_ns: i64,
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        let changed_ns = metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec());
        Self { inode: metadata.ino(), changed_ns }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self { inode: 0, changed_ns: since.map_or(0, |since| since.as_nanos() as i64) }
    }
}

/// A file as far as it was read, as a checkpoint stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    bytes: u64,
    /// Checksum of these bytes.
    xxh64: String,
    #[serde(flatten)]
    stamp: Stamp,
}

/// Checksum of a file while it is read.
#[derive(Debug, Clone)]
enum Seal {
    Stored(Stored),
    Open { bytes: u64, hasher: XxHash64, tail: u64, tail_bytes: usize, stamp: Stamp },
}

impl Seal {
    fn bytes(&self) -> u64 {
        match self {
            Self::Stored(stored) => stored.bytes,
            Self::Open { bytes, .. } => *bytes,
        }
    }

    fn stored(&self) -> Stored {
        match self {
            Self::Stored(stored) => stored.clone(),
            Self::Open { bytes, hasher, stamp, .. } => {
                Stored { bytes: *bytes, xxh64: in_hex(hasher.finish()), stamp: *stamp }
            }
        }
    }
}

fn in_hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Checksums of the files that were read.
#[derive(Debug, Default)]
pub(super) struct Seals(BTreeMap<String, Seal>);

impl Seals {
    /// Returns the checksums in the form of a checkpoint.
    pub fn evidence(&self) -> serde_json::Value {
        let stored = self.0.iter().map(|(name, seal)| (name, seal.stored()));
        // Texts and numbers always convert to JSON.
        serde_json::to_value(stored.collect::<BTreeMap<_, _>>()).unwrap_or_default()
    }

    /// Removes files that are no longer read.
    pub fn retain(&mut self, positions: &Positions) {
        self.0.retain(|name, _| positions.contains_key(name));
    }

    /// Compares the files with their checksums in a checkpoint.
    ///
    /// # Errors
    /// A file whose first bytes are not those that were read.
    pub fn verify(&mut self, folder: &Path, positions: &Positions, evidence: &serde_json::Value) -> Result<()> {
        if evidence.is_null() {
            return Ok(());
        }
        let stored: BTreeMap<String, Stored> = serde_json::from_value(evidence.clone()).map_err(|error| {
            Error::InvalidArgument(format!("source evidence of folder {}: {error}", folder.display()))
        })?;
        self.0.clear();
        for (name, stored) in stored {
            let path = folder.join(&name);
            if positions.get(&name) != Some(&stored.bytes) {
                continue;
            }
            let stamp = match std::fs::metadata(&path) {
                Ok(metadata) => Stamp::of(&metadata),
                // A file that was read to its end may be deleted.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(&path, error)),
            };
            let seal = match stamp == stored.stamp {
                true => Seal::Stored(stored),
                false => reopened(&path, &stored)?,
            };
            self.0.insert(name, seal);
        }
        Ok(())
    }

    /// Adds the part of a file from `start` on.
    ///
    /// # Errors
    /// A file whose beginning differs from the bytes that were read.
    pub fn add(&mut self, path: &Path, name: &str, start: u64, part: &[u8]) -> Result<()> {
        let stamp = Stamp::of(&std::fs::metadata(path).map_err(|error| Error::io(path, error))?);
        let before = self.0.remove(name).filter(|seal| seal.bytes() == start);
        let (mut hasher, mut tail) = match before {
            _ if start == 0 => (XxHash64::with_seed(0), Vec::new()),
            Some(Seal::Stored(stored)) => match reopened(path, &stored)? {
                Seal::Open { hasher, .. } => (hasher, tail_of(path, start)?),
                Seal::Stored(_) => (hash_of(path, start)?, tail_of(path, start)?),
            },
            Some(Seal::Open { hasher, tail, tail_bytes, stamp: before, .. }) => {
                let now = tail_of(path, start)?;
                let is_same = XxHash64::oneshot(0, &now[now.len().saturating_sub(tail_bytes)..]) == tail;
                // If another file has the name, all of it is compared.
                if !is_same || before.inode != stamp.inode && hash_of(path, start)?.finish() != hasher.finish() {
                    return Err(written_anew(path, start));
                }
                (hasher, now)
            }
            // Another reader has read it.
            None => (hash_of(path, start)?, tail_of(path, start)?),
        };
        hasher.write(part);
        tail.extend_from_slice(&part[part.len().saturating_sub(TAIL_BYTES)..]);
        let tail = &tail[tail.len().saturating_sub(TAIL_BYTES)..];
        let seal = Seal::Open {
            bytes: start + part.len() as u64,
            hasher,
            tail: XxHash64::oneshot(0, tail),
            tail_bytes: tail.len(),
            stamp,
        };
        self.0.insert(name.into(), seal);
        Ok(())
    }
}

/// Resumes the checksum of a file, if it begins with the bytes that were read.
fn reopened(path: &Path, stored: &Stored) -> Result<Seal> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if metadata.len() < stored.bytes {
        let (read, got) = (stored.bytes, metadata.len());
        let problem = format!("expected a file that only grows: {read} bytes of it were read, got {got}");
        return Err(Error::BadFile { path: path.into(), problem });
    }
    let hasher = hash_of(path, stored.bytes)?;
    if in_hex(hasher.finish()) != stored.xxh64 {
        return Err(written_anew(path, stored.bytes));
    }
    let tail = tail_of(path, stored.bytes)?;
    Ok(Seal::Open {
        bytes: stored.bytes,
        hasher,
        tail: XxHash64::oneshot(0, &tail),
        tail_bytes: tail.len(),
        stamp: Stamp::of(&metadata),
    })
}

fn written_anew(path: &Path, bytes: u64) -> Error {
    let problem = format!("expected the {bytes} bytes that were read, got others: it was written anew");
    Error::BadFile { path: path.into(), problem }
}

/// Returns the checksum of the first bytes of a file.
fn hash_of(path: &Path, bytes: u64) -> Result<XxHash64> {
    let io = |error| Error::io(path, error);
    let mut file = File::open(path).map_err(io)?.take(bytes);
    let (mut hasher, mut block) = (XxHash64::with_seed(0), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).map_err(io)? {
            0 => return Ok(hasher),
            read => hasher.write(&block[..read]),
        }
    }
}

fn tail_of(path: &Path, end: u64) -> Result<Vec<u8>> {
    vexact_sources::csv_part::read_bytes(path, end.saturating_sub(TAIL_BYTES as u64), end)
}
