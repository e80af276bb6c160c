//! The tracked run of a command, to which the command reports besides its answer.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::Serialize;
use vexact::sources::row_file::{RowFile, RowFormat};
use vexact_core::error::Result;
use vexact_workspace::{ActiveRun, ArtifactKind, NewArtifact, Preview};

use super::threads::Stop;

/// A tracked run, or none.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    run: Option<Arc<ActiveRun>>,
    /// The request to stop, which ends the command from outside.
    pub stop: Stop,
}

impl Track {
    pub fn of(run: &Arc<ActiveRun>) -> Self {
        Self { run: Some(Arc::clone(run)), stop: Stop::default() }
    }

    /// Returns the path of a file among the run's artifacts, or `None` without a run.
    pub fn artifact_path(&self, name: &str) -> Option<PathBuf> {
        self.run.as_ref().map(|run| run.artifact_path(name))
    }

    /// Adds a snapshot to the run's progress.
    pub fn progress(&self, snapshot: &impl Serialize) -> Result<()> {
        self.run.as_ref().map_or(Ok(()), |run| run.progress(snapshot))
    }

    /// Replaces the newest rows of the run's output.
    pub fn latest(&self, rows: &Preview) -> Result<()> {
        self.run.as_ref().map_or(Ok(()), |run| run.latest(rows))
    }

    /// Returns true if a run is tracked.
    pub fn is_tracked(&self) -> bool {
        self.run.is_some()
    }

    /// Stores the explain of the query as a file of the run.
    pub fn explain(&self, explained: &super::answer::Explained) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let path = run.explain(explained)?;
        let rows = explained.row()?;
        let preview = Preview::new(&rows.schema(), &[rows], 1)?;
        run.add_artifact(NewArtifact { kind: ArtifactKind::Explain, format: "json", path, rows_path: None, preview })
            .map(drop)
    }

    /// Records a file that the run has made. `rows_path`: its rows as the run made them, if the
    /// file is not its own.
    pub fn artifact(
        &self,
        format: &'static str,
        path: PathBuf,
        rows_path: Option<PathBuf>,
        preview: Preview,
    ) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        run.add_artifact(NewArtifact { kind: ArtifactKind::Result, format, path, rows_path, preview }).map(drop)
    }

    /// A file among the run's artifacts for the rows of a result, in a form that has all their
    /// types.
    pub fn rows_file(&self, schema: &SchemaRef) -> Result<Option<(RowFile, PathBuf)>> {
        let form = RowFormat::for_schema(schema);
        let Some(path) = self.artifact_path(&format!("result.{}", form.name())) else { return Ok(None) };
        Ok(Some((RowFile::create(&path, form, schema)?, path)))
    }
}
