//! Checkpoints: the state from which a streaming query resumes after a stop or a crash.
//!
//! ```text
//! lock                    held by the query that uses the folder
//! checkpoint.json         offset, position, counters, and the files of the state; replaced as one
//! state-00000007.arrow    a segment of the state, never changed
//! next.json               exactly-once: the boundaries of the micro-batch that is about to run
//! *.tmp                   a file that is being written
//! ```
//!
//! The JSON files contain the checksum of their content, the checkpoint those of the state's files.
//! Each file is written under a temporary name, made durable and renamed; `checkpoint.json` is the
//! last.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vexact_core::disk::{Disk, DiskLock};
use vexact_core::error::{Error, Result};
use vexact_core::folder::{Folder, NamedFile, checksum};

use super::sink::Position;
use super::source::{Offset, OffsetRange};

const CHECKPOINT: &str = "checkpoint.json";
const NEXT: &str = "next.json";
const STATE: &str = "state-";

/// Version of the checkpoint format: the only one that this code writes and reads.
const VERSION: u32 = 2;

/// JSON file with the xxHash64 of its content, which is serialized in the order of its keys and
/// without spaces.
#[derive(Serialize, Deserialize)]
struct Sealed {
    content: serde_json::Value,
    xxh64: String,
}

impl Sealed {
    fn new(value: &impl Serialize) -> serde_json::Result<Self> {
        let content = serde_json::to_value(value)?;
        Ok(Self { xxh64: checksum(&serde_json::to_vec(&content)?), content })
    }
}

/// A checkpoint between two micro-batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub version: u32,
    /// Identity of the query, source and sink. Others cannot resume from this checkpoint.
    pub owner: Owner,
    /// Offset after the last micro-batch.
    pub offset: Offset,
    /// Evidence that distinguishes the input before the offset from another input, as
    /// [`Source::evidence`](crate::Source::evidence) returns it.
    pub evidence: serde_json::Value,
    /// Position of the sink; `None` if it cannot be truncated.
    pub position: Option<Position>,
    /// Newest event time, in milliseconds since the epoch.
    pub newest: Option<i64>,
    pub late_rows: u64,
    pub batches_processed: u64,
    pub rows_processed: u64,
    /// True if the input has ended and all rows are written.
    pub is_finished: bool,
    /// Files of the state, in order; younger segments replace rows of older ones.
    pub state: Vec<StateFile>,
}

/// Identity of the query that a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The query, as text.
    pub query: String,
    /// Identity of the source, by [`SourceTable::identity`](crate::SourceTable::identity).
    pub source: String,
    /// Identity of the sink, by [`SinkTable::identity`](crate::SinkTable::identity).
    pub sink: String,
}

impl Owner {
    /// Rejects the checkpoint of another query, source or sink.
    ///
    /// # Errors
    /// The first difference: expected and got.
    pub fn check(&self, found: &Self) -> Result<()> {
        let parts = [
            ("query", &self.query, &found.query),
            ("source", &self.source, &found.source),
            ("sink", &self.sink, &found.sink),
        ];
        match parts.into_iter().find(|(_, expected, got)| expected != got) {
            None => Ok(()),
            Some((what, expected, got)) => Err(Error::InvalidArgument(format!(
                "checkpoint_path: the checkpoint is of another {what}: expected {expected:?}, got {got:?}"
            ))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StateFile {
    pub serial: u64,
    pub file: NamedFile,
}

impl Checkpoint {
    /// Returns the checkpoint before the first micro-batch.
    pub fn start(owner: Owner, offset: Offset) -> Self {
        Self {
            version: VERSION,
            owner,
            offset,
            evidence: serde_json::Value::Null,
            position: None,
            newest: None,
            late_rows: 0,
            batches_processed: 0,
            rows_processed: 0,
            is_finished: false,
            state: Vec::new(),
        }
    }
}

/// Content of a checkpoint folder.
pub(super) struct Found {
    pub checkpoint: Checkpoint,
    pub state: Vec<(u64, RecordBatch)>,
    /// Micro-batch that was about to run after the checkpoint.
    pub next: Option<OffsetRange>,
}

/// The folder of a query's checkpoints.
#[derive(Debug)]
pub(super) struct Store {
    folder: Folder,
    saved: BTreeMap<u64, NamedFile>,
    _lock: Box<dyn DiskLock>,
}

impl Store {
    /// Opens a folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// A folder that another query uses; files that are damaged or of another version.
    pub fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Option<Found>)> {
        let io_error = |source| Error::Io { path: path.into(), source };
        if path.is_file() {
            let problem = format!("checkpoint path {}: expected a folder or nothing, got a file", path.display());
            return Err(Error::InvalidArgument(problem));
        }
        disk.create_folder(path).map_err(io_error)?;
        let lock = disk.lock(&path.join("lock")).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => {
                let path = path.display();
                Error::InvalidArgument(format!("checkpoint path {path}: expected one query, got another that uses it"))
            }
            _ => io_error(source),
        })?;
        let mut store = Self { folder: Folder { path: path.into(), disk }, saved: BTreeMap::new(), _lock: lock };
        let Some(checkpoint) = store.json::<Checkpoint>(CHECKPOINT)? else {
            return Ok((store, None));
        };
        let mut state = Vec::new();
        for StateFile { serial, file } in &checkpoint.state {
            let content = store.folder.read(file)?;
            let bad = |error: &dyn std::fmt::Display| Error::BadFile {
                path: store.folder.path_of(&file.name),
                problem: error.to_string(),
            };
            let reader = FileReader::try_new(io::Cursor::new(content.as_slice()), None).map_err(|error| bad(&error))?;
            let schema = reader.schema();
            let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
            state.push((*serial, super::run_plan::concat(batches, &schema)?));
            store.saved.insert(*serial, file.clone());
        }
        let next = store.json::<OffsetRange>(NEXT)?.filter(|next| next.from == checkpoint.offset);
        Ok((store, Some(Found { checkpoint, state, next })))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.folder.path_of(name);
        let content = match self.folder.disk.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| Error::Io { path: path.clone(), source })?,
        };
        let bad = |problem: String| Error::BadFile { path: path.clone(), problem };
        let found: serde_json::Value = serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
        // Another version may be sealed differently.
        let content = found.get("content").unwrap_or(&found);
        if let Some(version) = content.get("version").filter(|version| **version != VERSION) {
            return Err(bad(format!(
                "the checkpoint has format version {version}, and this version of vexact reads version {VERSION}: go on with the \
                 version that made it, or begin with another checkpoint_path"
            )));
        }
        let sealed: Sealed = serde_json::from_value(found).map_err(|error| bad(error.to_string()))?;
        let own = serde_json::to_vec(&sealed.content).map_err(|error| bad(error.to_string()))?;
        let got = checksum(&own);
        if got != sealed.xxh64 {
            let expected = sealed.xxh64;
            return Err(bad(format!("the file is damaged: expected the xxHash64 {expected}, got {got}")));
        }
        serde_json::from_value(sealed.content).map(Some).map_err(|error| bad(error.to_string()))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.path_of(name);
        let sealed = Sealed::new(value).map_err(|error| Error::Io { path, source: error.into() })?;
        self.folder.write(name, |out| Ok(serde_json::to_writer(out, &sealed)?))?;
        self.folder.sync()
    }

    /// Logs a micro-batch before it runs.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn log(&self, next: &OffsetRange) -> Result<()> {
        self.write_json(NEXT, next)
    }

    /// Stores a checkpoint and its state; only new segments are written. The checkpoint is valid
    /// once this has returned.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn save(&mut self, mut checkpoint: Checkpoint, state: &[(u64, RecordBatch)]) -> Result<()> {
        let mut kept = BTreeMap::new();
        let mut is_new = false;
        for (serial, rows) in state {
            let file = match self.saved.get(serial) {
                Some(file) => file.clone(),
                None => {
                    is_new = true;
                    self.folder.write(&format!("{STATE}{serial:08}.arrow"), |out| {
                        let written = FileWriter::try_new(out, rows.schema_ref()).and_then(|mut file| {
                            file.write(rows)?;
                            file.finish()
                        });
                        written.map_err(io::Error::other)
                    })?
                }
            };
            checkpoint.state.push(StateFile { serial: *serial, file: file.clone() });
            kept.insert(*serial, file);
        }
        if is_new {
            self.folder.sync()?;
        }
        self.write_json(CHECKPOINT, &checkpoint)?;
        let gone: Vec<String> = self
            .saved
            .iter()
            .filter(|(serial, _)| !kept.contains_key(serial))
            .map(|(_, file)| file.name.clone())
            .collect();
        self.saved = kept;
        for name in gone {
            let path = self.folder.path_of(&name);
            self.folder.disk.remove(&path).map_err(|source| Error::Io { path, source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use vexact_core::disk::FileSystem;

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
    }

    fn owner(query: &str) -> Owner {
        Owner { query: query.into(), source: "in".into(), sink: "out".into() }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_found_and_old_segments_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let (mut store, found) = Store::open(&path, Arc::new(FileSystem)).unwrap();
        assert!(found.is_none());
        let start = Checkpoint::start(owner("q"), Offset::from(0));
        store.save(start.clone(), &[(0, batch(0)), (1, batch(1))]).unwrap();
        let second = Checkpoint { offset: Offset::from(2), newest: Some(-3), ..start };
        store.save(second.clone(), &[(1, batch(1)), (2, batch(2))]).unwrap();
        store.log(&OffsetRange { from: Offset::from(2), to: Offset::from(3) }).unwrap();
        assert!(Store::open(&path, Arc::new(FileSystem)).is_err(), "the folder is in use");
        drop(store);
        assert_eq!(
            names(&path),
            ["checkpoint.json", "lock", "next.json", "state-00000001.arrow", "state-00000002.arrow"]
        );
        let found = Store::open(&path, Arc::new(FileSystem)).unwrap().1.unwrap();
        assert_eq!(found.state, [(1, batch(1)), (2, batch(2))]);
        assert_eq!(Checkpoint { state: vec![], ..found.checkpoint }, second);
        assert_eq!(found.next.unwrap().to, Offset::from(3));
    }

    #[test]
    fn a_logged_micro_batch_that_was_saved_since_is_no_longer_next() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), Arc::new(FileSystem)).unwrap();
        store.log(&OffsetRange { from: Offset::from(0), to: Offset::from(1) }).unwrap();
        store.save(Checkpoint::start(owner("q"), Offset::from(1)), &[]).unwrap();
        drop(store);
        assert!(Store::open(folder.path(), Arc::new(FileSystem)).unwrap().1.unwrap().next.is_none());
    }

    #[test]
    fn damage_is_told_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), Arc::new(FileSystem)).unwrap();
        store.save(Checkpoint::start(owner("q"), Offset::from(1)), &[(7, batch(1))]).unwrap();
        drop(store);
        let file = folder.path().join("state-00000007.arrow");
        let mut content = std::fs::read(&file).unwrap();
        content[20] ^= 1;
        std::fs::write(&file, content).unwrap();
        let error = Store::open(folder.path(), Arc::new(FileSystem)).err().unwrap().to_string();
        assert!(error.contains("state-00000007.arrow") && error.contains("damaged"), "{error}");
        std::fs::write(folder.path().join("checkpoint.json"), "{").unwrap();
        let error = Store::open(folder.path(), Arc::new(FileSystem)).err().unwrap().to_string();
        assert!(error.contains("checkpoint.json"), "{error}");
    }
    #[test]
    fn every_changed_digit_of_a_checkpoint_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), Arc::new(FileSystem)).unwrap();
        let start = Checkpoint::start(owner("SELECT 1"), Offset::from(12345));
        store.save(Checkpoint { newest: Some(-67), rows_processed: 89, ..start }, &[(7, batch(1))]).unwrap();
        store.log(&OffsetRange { from: Offset::from(12345), to: Offset::from(23456) }).unwrap();
        drop(store);
        for name in [CHECKPOINT, NEXT] {
            let path = folder.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] = if whole[at] == b'5' { b'6' } else { b'5' };
                std::fs::write(&path, &changed).unwrap();
                let found = Store::open(folder.path(), Arc::new(FileSystem));
                let error = found.err().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&changed))).to_string();
                assert!(error.contains(name), "{error}");
            }
            std::fs::write(&path, &whole).unwrap();
        }
        assert!(Store::open(folder.path(), Arc::new(FileSystem)).unwrap().1.unwrap().next.is_some());
    }

    #[test]
    fn a_checkpoint_belongs_to_its_query_source_and_sink() {
        let found = owner("q");
        assert!(found.check(&owner("q")).is_ok());
        for (other, what) in [
            (owner("p"), "another query: expected \"q\", got \"p\""),
            (Owner { source: "x".into(), ..owner("q") }, "another source"),
            (Owner { sink: "x".into(), ..owner("q") }, "another sink"),
        ] {
            assert!(found.check(&other).unwrap_err().to_string().contains(what));
        }
    }
}
