//! Lists the objects of a URL: one object, those of a folder, or those that match a pattern.

use std::sync::Arc;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};
use vexact_core::error::{Error, Result};

use super::failure::own;
use super::location::Location;
use crate::bad_file;
use crate::inputs::{expected_files, has_suffix};

/// A file of a table.
#[derive(Debug, Clone)]
pub(crate) struct FoundFile {
    pub meta: ObjectMeta,
    /// Folders of the file below the folder or pattern that was given, separated by slashes.
    pub folders: String,
}

/// Returns the files of a location, in the order of their keys. An object with the key is that one
/// file. Else the key is a folder: files with one of the suffixes in it and its subfolders, without
/// names that begin with `.` or `_`.
///
/// # Errors
/// A missing object; a folder or pattern without files; a failed request.
pub(crate) async fn list(
    store: &Arc<dyn ObjectStore>,
    location: &Location,
    suffixes: &[&str],
) -> Result<Vec<FoundFile>> {
    let url = location.to_string();
    let missing = || Error::FileNotFound { path: url.as_str().into() };
    let key = location.key();
    if location.is_http() {
        return match key.is_empty() || key.ends_with('/') {
            true => Err(bad_file(url.as_ref(), &"expected the URL of a file: folders of HTTP servers are not listed")),
            false => Ok(vec![FoundFile { meta: head(store, location).await?, folders: String::new() }]),
        };
    }
    let mut found = if is_pattern(key) {
        matching(store, location).await?
    } else if key.is_empty() || key.ends_with('/') {
        below(store, location, suffixes).await?
    } else {
        match head(store, location).await {
            Ok(meta) => return Ok(vec![FoundFile { meta, folders: String::new() }]),
            Err(Error::FileNotFound { .. }) => below(store, location, suffixes).await?,
            Err(error) => return Err(error),
        }
    };
    if found.is_empty() {
        let is_folder = key.is_empty() || key.ends_with('/');
        return Err(if is_folder { bad_file(url.as_ref(), &expected_files(suffixes)) } else { missing() });
    }
    found.sort_unstable_by(|a, b| a.meta.location.cmp(&b.meta.location));
    Ok(found)
}

/// Returns the metadata of an object.
pub(crate) async fn head(store: &Arc<dyn ObjectStore>, location: &Location) -> Result<ObjectMeta> {
    let found = store.head(&location.path()?).await;
    found.map_err(|error| own(location.to_string().as_ref(), error))
}

fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// Returns the files in a folder and its subfolders.
async fn below(store: &Arc<dyn ObjectStore>, location: &Location, suffixes: &[&str]) -> Result<Vec<FoundFile>> {
    let prefix = prefix(location, location.key())?;
    let mut found = Vec::new();
    for meta in all(store, prefix.as_ref(), location).await? {
        let relative = below_prefix(&meta.location, prefix.as_ref());
        let is_hidden = relative.split('/').any(|name| name.starts_with(['.', '_']));
        if !is_hidden && has_suffix(relative, suffixes) {
            let folders = folders(relative).to_owned();
            found.push(FoundFile { meta, folders });
        }
    }
    Ok(found)
}

/// Returns the objects whose keys match a pattern.
async fn matching(store: &Arc<dyn ObjectStore>, location: &Location) -> Result<Vec<FoundFile>> {
    let key = location.key();
    let pattern = Pattern::new(key)
        .map_err(|error| Error::InvalidArgument(format!("{location}: expected a path or a pattern: {error}")))?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    // The folders in front of the first one with a wildcard.
    let wild = key.find(['*', '?', '[']).unwrap_or(key.len());
    let end = key[..wild].rfind('/').unwrap_or(0);
    let prefix = prefix(location, &key[..end])?;
    let is_flat = !key[wild..].contains('/') && !key[wild..].contains("**");
    let listed = match is_flat {
        true => {
            let listed = store.list_with_delimiter(prefix.as_ref()).await;
            listed.map_err(|error| own(location.to_string().as_ref(), error))?.objects
        }
        false => all(store, prefix.as_ref(), location).await?,
    };
    let matches = |meta: &ObjectMeta| pattern.matches_with(meta.location.as_ref(), options);
    let found = listed.into_iter().filter(matches).map(|meta| {
        let folders = folders(below_prefix(&meta.location, prefix.as_ref())).to_owned();
        FoundFile { meta, folders }
    });
    Ok(found.collect())
}

async fn all(store: &Arc<dyn ObjectStore>, prefix: Option<&Path>, location: &Location) -> Result<Vec<ObjectMeta>> {
    let listed: Result<Vec<ObjectMeta>, StoreError> = store.list(prefix).try_collect().await;
    listed.map_err(|error| own(location.to_string().as_ref(), error))
}

fn prefix(location: &Location, key: &str) -> Result<Option<Path>> {
    let key = key.strip_suffix('/').unwrap_or(key);
    if key.is_empty() {
        return Ok(None);
    }
    let parsed = Path::parse(key);
    parsed.map(Some).map_err(|error| Error::InvalidArgument(format!("{location}: expected a key, got {error}")))
}

fn below_prefix<'a>(location: &'a Path, prefix: Option<&Path>) -> &'a str {
    let start = prefix.map_or(0, |prefix| prefix.as_ref().len() + 1);
    location.as_ref().get(start..).unwrap_or_default()
}

fn folders(relative: &str) -> &str {
    relative.rsplit_once('/').map_or("", |(folders, _)| folders)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_folder_and_a_pattern_are_their_objects_by_key() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for key in
            ["d/b.PQ", "d/a.parquet", "d/y=1/c.parquet", "d/_x/h.parquet", "d/.h.parquet", "d/n.csv", "dd.parquet"]
        {
            store.put(&Path::parse(key).unwrap(), "x".into()).await.unwrap();
        }
        let suffixes = ["parquet", "pq"];
        for (url, expected) in [
            ("s3://b/d/", "d/a.parquet, d/b.PQ, d/y=1/c.parquet in y=1"),
            ("s3://b/d", "d/a.parquet, d/b.PQ, d/y=1/c.parquet in y=1"),
            ("s3://b", "d/a.parquet in d, d/b.PQ in d, d/y=1/c.parquet in d/y=1, dd.parquet"),
            ("s3://b/d/*.parquet", "d/.h.parquet, d/a.parquet"),
            ("s3://b/d/?.parquet", "d/a.parquet"),
            (
                "s3://b/**/*.parquet",
                "d/.h.parquet in d, d/_x/h.parquet in d/_x, d/a.parquet in d, d/y=1/c.parquet in d/y=1, dd.parquet",
            ),
            ("s3://b/d/y=*/*", "d/y=1/c.parquet in y=1"),
            ("s3://b/d/n.csv", "d/n.csv"),
        ] {
            let found = list(&store, &Location::parse(url).unwrap(), &suffixes).await.unwrap();
            let found: Vec<String> = found
                .iter()
                .map(|file| match file.folders.as_str() {
                    "" => file.meta.location.to_string(),
                    folders => format!("{} in {folders}", file.meta.location),
                })
                .collect();
            assert_eq!(found.join(", "), expected, "{url}");
        }
        for (url, expected) in [
            ("s3://b/missing", "file not found: s3://b/missing"),
            ("s3://b/missing/", "s3://b/missing/: expected files *.parquet, *.pq in the folder, got none"),
            ("s3://b/d/*.x", "file not found: s3://b/d/*.x"),
            ("s3://b/[", "s3://b/[: expected a path or a pattern"),
            ("http://h/d/", "http://h/d/: expected the URL of a file"),
        ] {
            let error = list(&store, &Location::parse(url).unwrap(), &suffixes).await.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
