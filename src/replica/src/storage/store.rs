//! The store: a folder, its lock, and the save that makes a state durable.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use vexact_core::disk::{Disk, DiskLock};
use vexact_core::error::{Error, Result};
use vexact_core::folder::{Folder, TEMPORARY, bad};

use super::bitmaps::{BitmapFile, bytes_of};
use super::format::StorageFormat;
use super::manifest::{BitmapEntry, MANIFEST, Manifest, SegmentEntry, TableEntry, made_with};
use super::parallel;
use crate::Snapshot;
use crate::version::{Part, Segment, SyncMode};

/// The lock file, which gives one opener exclusive access to the store.
const LOCK: &str = "lock";

/// Minimum bytes of rows to write with more than one thread.
const PARALLEL_BYTES: usize = 1 << 20;

/// Maximum bytes of rows that are written at once: while it is written, a segment is in memory
/// twice.
const WRITTEN_BYTES: usize = 1 << 28;

/// Maximum ratio of the bytes of bitmap files to those of the bitmaps in use; above it all bitmaps
/// are written again.
const BITMAP_WASTE: usize = 4;

/// Replicas in a folder, held by one opener at a time. [`Self::save`] replaces one whole state by
/// the next: whenever the process or the machine stops, the state that is found is one that a save
/// was given, and none older than the last save that returned.
#[derive(Debug)]
pub struct Store {
    pub(super) folder: Folder,
    pub(super) format: StorageFormat,
    state: Mutex<State>,
    _lock: Box<dyn DiskLock>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The last manifest that is known to be durable.
    pub manifest: Manifest,
    /// Stored segments, by [`Segment::id`].
    pub segments: HashMap<u64, SegmentEntry>,
    /// Names are not used twice, so no file that a manifest names is ever written again.
    next_file: u64,
    /// True if the folder holds only the manifest and the files that it names.
    is_clean: bool,
}

/// The number in a name that the store gave.
fn number_of(name: &str) -> Option<u64> {
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    let (stem, extension) = name.rsplit_once('.')?;
    let (kind, number) = stem.split_once('-')?;
    let is_known = matches!((kind, extension), ("segment", "arrow" | "parquet") | ("live", "bits"));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_known && is_number).then(|| number.parse().ok()).flatten()
}

impl State {
    fn new_name(&mut self, kind: &str, extension: &str) -> String {
        self.next_file += 1;
        format!("{kind}-{:08}.{extension}", self.next_file)
    }
}

impl Store {
    /// Opens the store in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::Engine`]: another has it open. [`Error::BadFile`]: the folder is of another format or version, or its manifest is
    /// damaged or missing.
    pub fn open(path: &Path, format: StorageFormat, disk: Arc<dyn Disk>) -> Result<Self> {
        let of_path = |error| Error::Io { path: path.to_owned(), source: error };
        disk.create_folder(path).map_err(of_path)?;
        let lock = disk.lock(&path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                Error::Engine(format!("{}: the storage folder is in use by another engine", path.display()))
            }
            _ => of_path(error),
        })?;
        let folder = Folder { path: path.to_owned(), disk };
        let manifest = manifest(&folder, format)?;
        // The manifest may have been renamed just before its process was killed. It must be durable
        // before anything relies on it.
        folder.sync()?;
        let next_file = folder.list()?.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
        let state = State { manifest, segments: HashMap::new(), next_file, is_clean: false };
        Ok(Self { folder, format, state: Mutex::new(state), _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Returns the format of a store's folder, and the sync mode of its tables, if it has any.
    /// Returns `None` if there is no readable store. Takes no lock.
    pub fn made_with(path: &Path) -> Option<(StorageFormat, Option<SyncMode>)> {
        made_with(path)
    }

    /// Returns the file format.
    pub fn format(&self) -> StorageFormat {
        self.format
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes a state durable: all tables, with `last_time` and a text of the caller's. It writes
    /// the segments and bitmaps that are not stored yet and the manifest, and then removes what is
    /// no longer needed. A state that is the stored one costs nothing.
    ///
    /// # Errors
    /// A file that cannot be written; [`Error::InvalidArgument`]: a column of a type that is not
    /// registered. The state before is then still there (or, where only the last step failed, it or
    /// this one), and the next save may succeed.
    pub fn save(&self, snapshot: &Snapshot, last_time: i64, extra: &str) -> Result<()> {
        let mut state = self.state();
        let was_clean = std::mem::replace(&mut state.is_clean, false);
        let mut written = Vec::new();
        let prepared = self.prepare(&mut state, snapshot, &mut written).and_then(|(next, segments)| {
            let next = Manifest { last_time, extra: extra.to_owned(), ..next };
            if was_clean && next.saves > 0 && next == state.manifest {
                return Ok(None);
            }
            let next = Manifest { saves: next.saves + 1, ..next };
            write_manifest(&self.folder, &next)?;
            Ok(Some((next, segments)))
        });
        let (next, segments) = match prepared {
            Ok(Some(next)) => next,
            Ok(None) => {
                state.is_clean = true;
                return Ok(());
            }
            Err(error) => {
                // No manifest names these files, and a full disk needs the space.
                self.remove(&written);
                return Err(error);
            }
        };
        self.folder.rename_temporary(MANIFEST)?;
        self.folder.sync()?;
        state.manifest = next;
        state.segments = segments;
        state.is_clean = self.collect(&state.manifest);
        Ok(())
    }

    /// Writes the files of the next manifest that are not stored yet; returns the manifest and its
    /// segments.
    fn prepare(
        &self,
        state: &mut State,
        snapshot: &Snapshot,
        written: &mut Vec<String>,
    ) -> Result<(Manifest, HashMap<u64, SegmentEntry>)> {
        let mut tables = Vec::new();
        let mut missing: Vec<&Segment> = Vec::new();
        for table in snapshot.tables() {
            tables.push(TableEntry::try_new(&table.version.definition, table.failed.clone())?);
            let segments = table.version.parts.iter().flatten().map(|part| &*part.segment);
            missing.extend(segments.filter(|segment| !state.segments.contains_key(&segment.id)));
        }
        let named = |segment| (segment, state.new_name("segment", self.format.extension()));
        let missing: Vec<(&Segment, String)> = missing.into_iter().map(named).collect();
        written.extend(missing.iter().map(|(_, name)| name.clone()));
        let mut segments = self.write_segments(&missing)?;

        let parts = || snapshot.tables().flat_map(|table| table.version.parts.iter().flatten());
        let known: HashMap<u64, BitmapEntry> = match needs_new_bitmaps(&state.manifest, parts()) {
            true => HashMap::new(),
            false => {
                let live = |(id, entry): (&u64, &SegmentEntry)| Some((*id, entry.live.clone()?));
                state.segments.iter().filter_map(live).collect()
            }
        };
        let mut file = BitmapFile { name: state.new_name("live", "bits"), content: Vec::new() };
        let mut next = HashMap::new();
        for (table, entry) in snapshot.tables().zip(&mut tables) {
            for part in table.version.parts.iter().flatten() {
                let id = part.segment.id;
                let stored = segments.remove(&id).or_else(|| state.segments.get(&id).cloned());
                let stored = stored.ok_or_else(|| Error::Engine("a segment was not written".into()))?;
                let live = part.live.as_ref().map(|live| match known.get(&id) {
                    // Rows of a segment are only ever deleted, so the number of live rows
                    // identifies the bitmap.
                    Some(known) if known.rows == part.live_rows => known.clone(),
                    _ => file.push(live, part.live_rows),
                });
                let stored = SegmentEntry { live, ..stored };
                entry.segments.push(stored.clone());
                next.insert(id, stored);
            }
        }
        let mut bitmaps = state.manifest.bitmaps.clone();
        if !file.content.is_empty() {
            written.push(file.name.clone());
            bitmaps.push(self.folder.write(&file.name, |out| out.write_all(&file.content))?);
        }
        let live = next.values().filter_map(|entry| entry.live.as_ref());
        let used: HashSet<&str> = live.map(|live| live.file.as_str()).collect();
        bitmaps.retain(|file| used.contains(file.name.as_str()));
        if !written.is_empty() {
            self.folder.sync()?;
        }
        let (applied_seq, text) = (snapshot.applied_seq, snapshot.text_token());
        let manifest = Manifest { applied_seq, tables, bitmaps, text, ..state.manifest.clone() };
        Ok((manifest, next))
    }

    fn write_segments(&self, missing: &[(&Segment, String)]) -> Result<HashMap<u64, SegmentEntry>> {
        let bytes = |(segment, _): &(&Segment, String)| segment.size_bytes();
        let largest = missing.iter().map(bytes).max().unwrap_or(0).max(1);
        let workers = match missing.iter().map(bytes).sum::<usize>() < PARALLEL_BYTES {
            true => 1,
            false => (WRITTEN_BYTES / largest).clamp(1, parallel::cores()),
        };
        let entries = parallel::map(missing, workers, |(segment, name)| {
            let file = self.folder.write(name, |out| self.format.write(&segment.rows, out))?;
            Ok((segment.id, SegmentEntry { file, rows: segment.rows.num_rows(), live: None }))
        })?;
        Ok(entries.into_iter().collect())
    }

    /// Removes files of the store that are not in use; returns true if all of them were removed. A
    /// failure is not reported, because the next save retries.
    fn collect(&self, manifest: &Manifest) -> bool {
        let Ok(names) = self.folder.list() else { return false };
        let used: HashSet<&str> = manifest.files().collect();
        let is_unused = |name: &&String| number_of(name).is_some() && !used.contains(name.as_str());
        let unused: Vec<&String> = names.iter().filter(is_unused).collect();
        let removed = unused.into_iter().map(|name| self.folder.disk.remove(&self.folder.path_of(name)));
        removed.fold(true, |all, removed| all & removed.is_ok())
    }

    /// Removes the files of a failed save, as far as that is possible.
    fn remove(&self, names: &[String]) {
        for name in names {
            for name in [name.clone(), format!("{name}{TEMPORARY}")] {
                // The next save removes files that could not be removed now.
                let _ = self.folder.disk.remove(&self.folder.path_of(&name));
            }
        }
    }
}

/// Returns true if so few of the stored bitmaps are in use that all should be written again.
fn needs_new_bitmaps<'p>(manifest: &Manifest, parts: impl Iterator<Item = &'p Part>) -> bool {
    let stored: u64 = manifest.bitmaps.iter().map(|file| file.bytes).sum();
    let used: usize = parts.filter(|part| part.live.is_some()).map(|part| bytes_of(part.segment.rows.num_rows())).sum();
    stored > (BITMAP_WASTE * used) as u64
}

/// The manifest of a folder. A new folder gets an empty one before anything else, so that segments
/// without one are known to have lost it.
fn manifest(folder: &Folder, format: StorageFormat) -> Result<Manifest> {
    let path = folder.path_of(MANIFEST);
    match folder.disk.read(&path) {
        Ok(content) => Manifest::of_json(&content, &path, format),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(name) = folder.list()?.iter().find(|name| number_of(name).is_some()) {
                return Err(bad(&path, format!("expected a manifest beside {name}, got none")));
            }
            let manifest = Manifest::empty(format);
            write_manifest(folder, &manifest)?;
            folder.rename_temporary(MANIFEST)?;
            Ok(manifest)
        }
        Err(error) => Err(Error::io(&path, error)),
    }
}

/// Writes a manifest under its temporary name.
fn write_manifest(folder: &Folder, manifest: &Manifest) -> Result<()> {
    let text = manifest.to_json().map_err(|error| bad(&folder.path_of(MANIFEST), error.to_string()))?;
    folder.write_temporary(MANIFEST, |out| out.write_all(text.as_bytes()))?;
    Ok(())
}
