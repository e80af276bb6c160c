//! A simulated disk that counts its operations and fails at one of them. After a loss of power it
//! keeps only the data that [`Disk`] promises to be durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::buffer::Buffer;
use vexact_core::disk::{Disk, DiskFile, DiskLock};

/// Fault at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails; a write writes only half of its data.
    Refused,
    /// The operation succeeds, but reports a failure.
    AnswerLost,
    /// The power fails before the operation.
    PowerBefore,
    /// The power fails after the operation.
    PowerAfter,
}

pub const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::PowerBefore, Fault::PowerAfter];

/// A sequence of numbers.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next one, below a bound (splitmix64).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// A change of a folder's names since it was synced.
#[derive(Debug, Clone)]
enum NameChange {
    Created(PathBuf, usize),
    Renamed(PathBuf, PathBuf, usize),
    Removed(PathBuf),
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Created(path, content) => {
            names.insert(path.clone(), *content);
        }
        NameChange::Renamed(from, to, content) => {
            names.retain(|name, held| name != from || held != content);
            names.insert(to.clone(), *content);
        }
        NameChange::Removed(path) => {
            names.remove(path);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    written_bytes: u64,
    fault: Option<(u64, Fault)>,
    is_down: bool,
}

impl State {
    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn content(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The disk; its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts an operation, performed by `act`, and injects the fault if its turn has come. A
    /// refused operation performs `half` instead.
    fn operate<R>(
        &self,
        act: impl FnOnce(&mut State) -> io::Result<R>,
        half: impl FnOnce(&mut State),
    ) -> io::Result<R> {
        let mut state = self.state();
        if state.is_down {
            return Err(io::Error::other("there is no power"));
        }
        state.operations += 1;
        let fault = state.fault.filter(|(at, _)| *at == state.operations).map(|(_, fault)| fault);
        match fault {
            None => act(&mut state),
            Some(Fault::Refused) => {
                half(&mut state);
                Err(io::Error::other("refused"))
            }
            Some(Fault::AnswerLost) => {
                act(&mut state)?;
                Err(io::Error::other("the answer was lost"))
            }
            Some(Fault::PowerBefore) => {
                state.is_down = true;
                Err(io::Error::other("the power went"))
            }
            Some(Fault::PowerAfter) => {
                let _ = act(&mut state);
                state.is_down = true;
                Err(io::Error::other("the power went"))
            }
        }
    }

    /// Sets the operation at which the fault is injected, counted from 1.
    pub fn strike_at(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    pub fn written_bytes(&self) -> u64 {
        self.state().written_bytes
    }

    pub fn is_down(&self) -> bool {
        self.state().is_down
    }

    /// The disk after the process was killed: all that was done is there, and may still be lost.
    pub fn after_kill(&self) -> Self {
        let state = self.state();
        let restarted = State {
            contents: state.contents.clone(),
            names: state.names.clone(),
            synced_names: state.synced_names.clone(),
            changes: state.changes.clone(),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(restarted)))
    }

    /// The disk after a loss of power, as the dice have it.
    pub fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let state = self.state();
        let mut names = state.synced_names.clone();
        for change in &state.changes {
            if dice.below(2) == 0 {
                apply(&mut names, change);
            }
        }
        let torn = |content: &Content| {
            let mut now = content.now.clone();
            if now != content.synced {
                match dice.below(4) {
                    0 => now.clone_from(&content.synced),
                    1 => now.truncate(dice.below(now.len() + 1)),
                    2 => {
                        let from = dice.below(now.len() + 1);
                        now[from..].fill(0);
                    }
                    _ => {}
                }
            }
            Content { synced: now.clone(), now }
        };
        let contents = state.contents.iter().map(torn).collect();
        let restarted = State { contents, synced_names: names.clone(), names, ..State::default() };
        Self(Arc::new(Mutex::new(restarted)))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    content: usize,
    gathered: Vec<u8>,
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return Ok(());
        }
        let put = |state: &mut State, bytes: &[u8]| {
            state.contents[self.content].now.extend_from_slice(bytes);
            state.written_bytes += bytes.len() as u64;
        };
        let whole = |state: &mut State| {
            put(state, &gathered);
            Ok(())
        };
        self.disk.operate(whole, |state| put(state, &gathered[..gathered.len() / 2]))
    }
}

impl DiskFile for SimulatedFile {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        let sync = |state: &mut State| {
            let content = &mut state.contents[self.content];
            content.synced.clone_from(&content.now);
            Ok(())
        };
        self.disk.operate(sync, |_| ())
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        self.operate(|_| Ok(()), |_| ())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        // Locking does not count as an operation: if its result were lost, the lock would have no
        // owner.
        if !self.state().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let create = |state: &mut State| {
            if let Some(content) = state.names.get(path).copied() {
                state.contents[content].now.clear();
                return Ok(content);
            }
            let content = state.contents.len();
            state.contents.push(Content::default());
            state.change(NameChange::Created(path.to_owned(), content));
            Ok(content)
        };
        let content = self.operate(create, |_| ())?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), content, gathered: Vec::new() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |state: &mut State| {
            let content = state.content(from)?;
            state.change(NameChange::Renamed(from.to_owned(), to.to_owned(), content));
            Ok(())
        };
        self.operate(rename, |_| ())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let sync = |state: &mut State| {
            state.changes.clear();
            state.synced_names = state.names.clone();
            Ok(())
        };
        self.operate(sync, |_| ())
    }

    fn read(&self, path: &Path) -> io::Result<Buffer> {
        let read = |state: &mut State| Ok(Buffer::from(state.contents[state.content(path)?].now.as_slice()));
        self.operate(read, |_| ())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let list = |state: &mut State| {
            let names = state.names.keys().filter(|name| name.parent() == Some(folder));
            Ok(names.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
        };
        self.operate(list, |_| ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State| {
            state.content(path)?;
            state.change(NameChange::Removed(path.to_owned()));
            Ok(())
        };
        self.operate(remove, |_| ())
    }
}

#[test]
fn what_was_not_synced_may_be_lost() {
    let folder = Path::new("f");
    let (a, b) = (folder.join("a"), folder.join("b"));
    let disk = SimulatedDisk::default();
    let mut file = disk.create(&a).unwrap();
    file.write_all(b"old").unwrap();
    file.sync().unwrap();
    disk.sync_folder(folder).unwrap();
    let mut file = disk.create(&b).unwrap();
    file.write_all(b"newer").unwrap();
    file.flush().unwrap();
    disk.rename(&b, &a).unwrap();
    let seen: BTreeSet<Vec<u8>> =
        (0..200).map(|seed| disk.after_power_loss(&mut Dice(seed)).read(&a).unwrap().to_vec()).collect();
    for expected in ["old", "newer", "", "new", "ne\0\0\0"] {
        assert!(seen.contains(expected.as_bytes()), "{expected:?} of {seen:?}");
    }
    file.sync().unwrap();
    disk.sync_folder(folder).unwrap();
    assert!((0..50).all(|seed| *disk.after_power_loss(&mut Dice(seed)).read(&a).unwrap() == *b"newer"));
    assert_eq!(*disk.after_kill().read(&a).unwrap(), *b"newer");
}
