//! Inputs from object stores: Parquet files are read in place, files of other formats are copied
//! into unnamed files, as pipes are.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use vexact_core::error::{Error, Result};

use super::input::Input;
use super::inputs::{ALL, PARQUET, Paths, has_suffix, suffixes};
use super::object_stores::files::{FoundFile, list};
use super::object_stores::{Location, ObjectStores, is_remote};
use super::probe::{self, Candidate, Format, Probe};

/// First bytes of a Parquet file.
const PARQUET_MARK: &[u8] = b"PAR1";

/// Returns the inputs of a format, as [`Paths::inputs`] does; URLs of stores are downloaded.
///
/// # Errors
/// As [`Paths::inputs`]; a failed request.
pub async fn inputs(stores: &Arc<ObjectStores>, paths: Paths, format: Format) -> Result<Vec<Input>> {
    match paths.is_remote() {
        true => downloaded(stores, paths, suffixes(format), |path| Paths::from(path).inputs(format)).await,
        false => paths.inputs(format),
    }
}

/// Returns inputs of any format, as [`Paths::any_inputs`] does; URLs of stores are downloaded.
///
/// # Errors
/// As [`Paths::any_inputs`]; a failed request.
pub async fn any_inputs(stores: &Arc<ObjectStores>, paths: Paths) -> Result<Vec<Input>> {
    if !paths.is_remote() {
        return paths.any_inputs();
    }
    Paths::Open(downloaded(stores, paths, &ALL, |path| Paths::from(path).any_inputs()).await?).any_inputs()
}

async fn downloaded(
    stores: &Arc<ObjectStores>,
    paths: Paths,
    suffixes: &[&str],
    local: impl Fn(&Path) -> Result<Vec<Input>>,
) -> Result<Vec<Input>> {
    let paths = match paths {
        Paths::Open(inputs) => return Ok(inputs),
        Paths::Given(paths) => paths,
    };
    let mut inputs = Vec::new();
    for path in paths {
        if !is_remote(&path) {
            inputs.extend(local(&path)?);
            continue;
        }
        let location = Location::parse(&path)?;
        for file in list(&stores.store(location.store())?, &location, suffixes).await? {
            inputs.push(download(stores, &location, &file).await?);
        }
    }
    Ok(inputs)
}

/// Returns the bytes of one object of a store.
///
/// # Errors
/// A missing object, or the URL of a folder or pattern of several; a failed request.
pub async fn bytes(stores: &Arc<ObjectStores>, path: &Path) -> Result<Vec<u8>> {
    let location = Location::parse(path)?;
    let found = list(&stores.store(location.store())?, &location, &ALL).await?;
    let [file] = found.as_slice() else {
        return Err(Error::InvalidArgument(format!("{location}: expected one file, got {}", found.len())));
    };
    let object = stores.object(location.store(), &file.meta)?;
    let parts: Vec<bytes::Bytes> = object.read_all().try_collect().await?;
    Ok(parts.concat())
}

/// Copies an object into an unnamed file.
async fn download(stores: &Arc<ObjectStores>, location: &Location, file: &FoundFile) -> Result<Input> {
    let object = stores.object(location.store(), &file.meta)?;
    let path = PathBuf::from(&object.url);
    let io = |error| Error::Io { path: path.clone(), source: error };
    let mut copy = tempfile::tempfile().map_err(io)?;
    let mut parts = object.read_all();
    while let Some(part) = parts.try_next().await? {
        copy.write_all(&part).map_err(io)?;
    }
    copy.rewind().map_err(io)?;
    Ok(Input::of_copy(&path, copy))
}

/// Returns true if a path of a store is Parquet, by its name or that of its first file, else by its
/// content.
///
/// # Errors
/// A failed request.
pub async fn is_parquet(stores: &Arc<ObjectStores>, path: &Path) -> Result<bool> {
    let location = Location::parse(path)?;
    if has_suffix(location.key(), &ALL) {
        return Ok(has_suffix(location.key(), &PARQUET));
    }
    let found = list(&stores.store(location.store())?, &location, &ALL).await?;
    let Some(first) = found.first() else { return Ok(false) };
    let name = first.meta.location.as_ref();
    if has_suffix(name, &ALL) {
        return Ok(has_suffix(name, &PARQUET));
    }
    let mark = PARQUET_MARK.len() as u64;
    if first.meta.size < mark {
        return Ok(false);
    }
    let mark = 0..mark;
    let start = stores.object(location.store(), &first.meta)?.read(std::slice::from_ref(&mark)).await?;
    Ok(start.first().is_some_and(|start| start.as_ref() == PARQUET_MARK))
}

/// Probes a file of a store, as [`probe::probe`] does a local one. Of Parquet files only the footer
/// is read.
///
/// # Errors
/// A missing object; a failed request.
pub async fn probe_remote(stores: &Arc<ObjectStores>, path: &Path) -> Result<Probe> {
    if !is_parquet(stores, path).await? {
        let inputs = any_inputs(stores, Paths::from(path)).await?;
        return match inputs.as_slice() {
            [input] => probe::probe(input),
            inputs => {
                Err(Error::InvalidArgument(format!("{}: expected one file, got {}", path.display(), inputs.len())))
            }
        };
    }
    let (schema, warnings) = match super::parquet::open_paths(stores, Paths::from(path)).await {
        Ok(table) => (Some(table.schema()), Vec::new()),
        Err(error @ Error::BadFile { .. }) => (None, vec![error.to_string()]),
        Err(error) => return Err(error),
    };
    let candidate = Candidate { format: Format::Parquet, score: 100, reason: "begins as Parquet does".into() };
    let suggested_table_name = probe::table_name(path);
    Ok(Probe { path: path.into(), schema, suggested_table_name, warnings, candidates: vec![candidate] })
}
