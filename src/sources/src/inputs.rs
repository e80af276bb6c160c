//! Resolves a path to files: one file, the files of a folder and its subfolders, or those that
//! match a pattern.

use std::fs;
use std::path::{Path, PathBuf};

use vexact_core::error::{Error, Result};

use super::bad_file;
use super::input::{Input, local_path};
use super::object_stores::is_remote;
use super::probe::{Format, extension};

/// Maximum depth of nested folders.
const MOST_DEPTH: usize = 32;
/// Suffixes of the files of a folder that are read, in any case.
pub(crate) const PARQUET: [&str; 3] = ["parquet", "parq", "pq"];
const ARROW: [&str; 4] = ["arrow", "arrows", "feather", "ipc"];
const CSV: [&str; 2] = ["csv", "tsv"];
const JSON: [&str; 3] = ["json", "jsonl", "ndjson"];
const LINE: [&str; 2] = ["log", "txt"];
/// Suffixes of the files of all formats.
pub(crate) const ALL: [&str; 14] = [
    "parquet", "parq", "pq", "arrow", "arrows", "feather", "ipc", "csv", "tsv", "json", "jsonl", "ndjson", "log", "txt",
];

/// Inputs to read: paths, or inputs that are already open.
#[derive(Debug, Clone)]
pub enum Paths {
    /// Paths that are files, folders or patterns.
    Given(Vec<PathBuf>),
    /// Inputs that are already open.
    Open(Vec<Input>),
}

impl<T: AsRef<Path> + ?Sized> From<&T> for Paths {
    fn from(path: &T) -> Self {
        Self::Given(vec![path.as_ref().to_owned()])
    }
}

impl From<PathBuf> for Paths {
    fn from(path: PathBuf) -> Self {
        Self::Given(vec![path])
    }
}

impl From<Vec<PathBuf>> for Paths {
    fn from(paths: Vec<PathBuf>) -> Self {
        Self::Given(paths)
    }
}

impl From<Vec<Input>> for Paths {
    fn from(inputs: Vec<Input>) -> Self {
        Self::Open(inputs)
    }
}

/// Returns true if a text names a file, a folder's files or a pattern by the suffix of a known format.
pub fn is_file_name(text: &str) -> bool {
    has_suffix(text, &ALL) || is_remote(text)
}

impl Paths {
    /// Returns true if one of the paths is a URL of an object store.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Given(paths) if paths.iter().any(is_remote))
    }

    /// Returns the files in the order of the paths, those of a folder or a pattern by name. A path
    /// that exists is that file, even if it looks like a pattern.
    ///
    /// # Errors
    /// A path that does not exist; a folder without files of the format.
    pub fn inputs(self, format: Format) -> Result<Vec<Input>> {
        self.found(suffixes(format))
    }

    /// Returns the files of any format; all must be of one format family.
    ///
    /// # Errors
    /// As [`Self::inputs`].
    pub fn any_inputs(self) -> Result<Vec<Input>> {
        let inputs = self.found(&ALL)?;
        let family = |input: &Input| {
            let suffix = extension(input.path());
            [&PARQUET[..], &ARROW, &CSV, &JSON, &LINE].iter().position(|family| family.contains(&suffix.as_str()))
        };
        match inputs.iter().find(|input| family(input) != family(&inputs[0])) {
            None => Ok(inputs),
            Some(other) => {
                let (first, other) = (inputs[0].path().display(), other.path().display());
                Err(Error::InvalidArgument(format!("path: expected files of one form, got {first} and {other}")))
            }
        }
    }

    fn found(self, suffixes: &[&str]) -> Result<Vec<Input>> {
        let paths = match self {
            Self::Open(inputs) => return Ok(inputs),
            Self::Given(paths) if paths.is_empty() => {
                return Err(Error::InvalidArgument("path: expected at least one, got none".into()));
            }
            Self::Given(paths) => paths,
        };
        let files = paths.iter().map(|path| files(path, suffixes));
        files.collect::<Result<Vec<_>>>()?.iter().flatten().map(Input::open).collect()
    }
}

pub(crate) fn suffixes(format: Format) -> &'static [&'static str] {
    match format {
        Format::Parquet => &PARQUET,
        Format::Arrow { .. } => &ARROW,
        Format::Csv(_) => &CSV,
        Format::Json(_) => &JSON,
        Format::Line => &LINE,
        Format::Excel => &["xlsx", "xlsm"],
    }
}

/// Returns true if a path is a pattern and no file has this name.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '['])) && !path.exists()
}

fn files(path: &Path, suffixes: &[&str]) -> Result<Vec<PathBuf>> {
    let path = local_path(path)?;
    if path.is_dir() {
        let files = files_of_folder(&path, suffixes)?;
        if files.is_empty() {
            return Err(bad_file(&path, &expected_files(suffixes)));
        }
        return Ok(files);
    }
    let Some(pattern) = path.to_str().filter(|_| is_pattern(&path)) else { return Ok(vec![path]) };
    let refused =
        |problem: String| Error::InvalidArgument(format!("{pattern}: expected a path or a pattern: {problem}"));
    let mut found = Vec::new();
    for file in glob::glob(pattern).map_err(|error| refused(error.to_string()))? {
        let file = file.map_err(|error| Error::io(&path, error.into()))?;
        if !file.is_dir() {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(Error::FileNotFound { path });
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the files of a path, a folder or a pattern, each with its folders below that path or
/// below the first folder with a wildcard. Folders may be partitions.
pub(crate) fn local_files(path: &Path, suffixes: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let (found, base): (Vec<PathBuf>, PathBuf) = if path.is_dir() {
        let mut found = Vec::new();
        add_files(path, suffixes, MOST_DEPTH, true, &mut found)?;
        found.sort_unstable();
        (found, path.to_owned())
    } else if is_pattern(path) {
        let is_wild = |name: &std::path::Component<'_>| has_wildcard(name.as_os_str());
        (files(path, suffixes)?, path.components().take_while(|name| !is_wild(name)).collect())
    } else {
        (files(path, suffixes)?, path.parent().unwrap_or(Path::new("")).to_owned())
    };
    let folders = |path: &PathBuf| {
        let below = path.parent().and_then(|folder| folder.strip_prefix(&base).ok());
        let names = below.into_iter().flatten().map(|name| name.to_string_lossy().into_owned());
        names.collect::<Vec<_>>().join("/")
    };
    Ok(found.into_iter().map(|path| (path.clone(), folders(&path))).collect())
}

fn has_wildcard(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().contains(['*', '?', '['])
}

/// Returns the problem of a folder without files of a format.
pub(crate) fn expected_files(suffixes: &[&str]) -> String {
    let expected = suffixes.iter().map(|suffix| format!("*.{suffix}")).collect::<Vec<_>>().join(", ");
    format!("expected files {expected} in the folder, got none")
}

/// Returns true if a file's name has one of these suffixes, in any case.
pub(crate) fn has_suffix(path: impl AsRef<Path>, suffixes: &[&str]) -> bool {
    suffixes.contains(&extension(path.as_ref()).as_str())
}

/// Returns the files of a folder and its subfolders with one of these suffixes, in any case, sorted
/// by name. Names that begin with `.` or `_` are skipped: they are metadata of other programs.
///
/// # Errors
/// A subfolder whose name is the value of a column, which would be lost.
pub(crate) fn files_of_folder(folder: &Path, suffixes: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    add_files(folder, suffixes, MOST_DEPTH, false, &mut found)?;
    found.sort_unstable();
    Ok(found)
}

fn add_files(
    folder: &Path,
    suffixes: &[&str],
    depth: usize,
    has_partitions: bool,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    let io = |error| Error::io(folder, error);
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            // A link may lead back to a folder that it is in.
            let Some(deeper) = depth.checked_sub(1) else {
                return Err(bad_file(&path, &format!("expected at most {MOST_DEPTH} folders in each other")));
            };
            let before = found.len();
            add_files(&path, suffixes, deeper, has_partitions, found)?;
            if !has_partitions && name.contains('=') && found.len() > before {
                let problem =
                    "expected a folder whose files have all columns, got a partition, whose name is a value of one";
                return Err(bad_file(&path, &problem));
            }
        } else if has_suffix(&path, suffixes) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_pattern_are_their_files_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("sub/deeper")).unwrap();
        for name in ["b.CSV", "a.csv", "sub/deeper/c.csv.gz", "_note.csv", ".hidden.csv", "x.json", "[a].csv"] {
            fs::write(root.join(name), "n\n1\n").unwrap();
        }
        let names = |path: PathBuf| -> Vec<String> {
            let found = Paths::from(path).inputs(Format::Csv(',')).unwrap();
            found.iter().map(|input| input.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(root.to_owned()), ["[a].csv", "a.csv", "b.CSV", "sub/deeper/c.csv.gz"]);
        assert_eq!(names(root.join("?.csv")), ["a.csv"]);
        assert_eq!(names(root.join("**/*.gz")), ["sub/deeper/c.csv.gz"]);
        assert_eq!(names(root.join("[a].csv")), ["[a].csv"]);
        let missing = Paths::from(root.join("no*.csv")).inputs(Format::Csv(',')).unwrap_err();
        assert!(matches!(missing, Error::FileNotFound { .. }), "{missing}");
        let none = Paths::from(root).inputs(Format::Parquet).unwrap_err().to_string();
        assert!(none.contains("expected files *.parquet"), "{none}");
        fs::create_dir(root.join("year=2024")).unwrap();
        fs::write(root.join("year=2024/a.csv"), "n\n").unwrap();
        let partition = Paths::from(root).inputs(Format::Csv(',')).unwrap_err().to_string();
        assert!(partition.contains("year=2024: expected a folder"), "{partition}");
    }
}
