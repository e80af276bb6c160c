//! Full-text indexes of replicas, on SQLite's FTS5 in a private file.
//!
//! The step that publishes a snapshot writes the difference to the one before into the file, in one
//! transaction: the indexes are at the version of the tables, and writers of the database pay
//! nothing. The writer retains the old state for the readers of older snapshots.

mod delta;
mod file;
mod folder;
mod index;
#[cfg(test)]
mod tests;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use file::TextFile;
use folder::TextFolder;
pub use index::{TextColumn, Tokenizer};
use vexact_core::error::{Error, Result};
pub use view::TextMatches;
pub(crate) use view::TextView;

use crate::snapshot::{Replicas, Snapshot};
use index::Source;

/// The writer of the text indexes.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    /// Folder of the file; `None` for a temporary folder.
    folder: Option<PathBuf>,
    /// `None` while no index is defined.
    file: Option<TextFile>,
    /// True if the last state could not be written.
    has_failed: bool,
}

impl TextWriter {
    fn definitions(&self) -> Vec<TextColumn> {
        self.file.iter().flat_map(TextFile::indexes).map(|index| index.column.clone()).collect()
    }

    /// Takes the content of the file as that of restored replicas, if `token` is its state.
    fn resume(&mut self, restored: &Snapshot, token: Option<i64>) {
        let Some(file) = &mut self.file else { return };
        match token == Some(file.token()) {
            true => file.accept(restored),
            false => file.forget(),
        }
    }

    /// Writes the state of the next snapshot, and returns it. `wanted` are the columns to index, if
    /// they change.
    fn advance(
        &mut self,
        before: &Snapshot,
        next: &Snapshot,
        wanted: Option<Vec<TextColumn>>,
    ) -> (Option<Arc<TextView>>, Result<()>) {
        let Some(file) = &mut self.file else { return (None, Ok(())) };
        if self.has_failed {
            file.forget();
        }
        let written = file.stage(before, next, wanted).and_then(|staged| {
            let is_changed = staged.is_changed;
            match &before.text {
                Some(view) if is_changed => view.retain()?,
                _ => {}
            }
            file.commit(staged)?;
            Ok(is_changed || self.has_failed)
        });
        match written {
            Ok(is_changed) => {
                self.has_failed = false;
                let view = match &before.text {
                    Some(view) if !is_changed => Arc::clone(view),
                    _ => Arc::new(file.view()),
                };
                (Some(view), Ok(()))
            }
            Err(error) => {
                file.roll_back();
                self.has_failed = true;
                (Some(Arc::new(file.failed_view(error.to_string()))), Err(error))
            }
        }
    }
}

impl Snapshot {
    /// Returns the columns that have a text index.
    pub fn text_columns(&self) -> Vec<TextColumn> {
        self.text.iter().flat_map(|text| text.columns().cloned()).collect()
    }

    /// Checks that a column has a text index that can be read.
    ///
    /// # Errors
    /// A column without a text index.
    pub fn check_text_index(&self, table: &str, column: &str) -> Result<()> {
        match &self.text {
            Some(text) => text.check(table, column),
            None => Err(view::not_indexed(table, column)),
        }
    }

    /// Returns the rows whose text matches a query in the syntax of FTS5, best first, at most
    /// `limit` of them.
    ///
    /// # Errors
    /// A column without a text index; a query that FTS5 rejects.
    pub fn text_search(&self, table: &str, column: &str, query: &str, limit: Option<usize>) -> Result<TextMatches> {
        match &self.text {
            Some(text) => text.search(table, column, query, limit),
            None => Err(view::not_indexed(table, column)),
        }
    }

    /// Returns the state of the text indexes; `None` without an index, or if it cannot be read.
    pub(crate) fn text_token(&self) -> Option<i64> {
        self.text.as_ref().and_then(|text| text.token())
    }
}

impl Replicas {
    /// Keeps the text indexes in a folder, beside stored replicas. It is called before the replicas
    /// are restored. Blocks.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn keep_text_in(&self, folder: PathBuf) -> Result<()> {
        let _writers = self.writers();
        let mut text = self.text.lock();
        // Without an index there is no file.
        if TextFolder::has_file(&folder) {
            text.file = Some(TextFile::open(Arc::new(TextFolder::lasting(&folder)))?);
        }
        text.folder = Some(folder);
        Ok(())
    }

    /// Returns the columns that are defined as indexed, also those whose table is missing now.
    pub fn text_definitions(&self) -> Vec<TextColumn> {
        self.text.lock().definitions()
    }

    /// Changes the columns whose text is indexed, and publishes the result. Blocks while the rows
    /// of added columns are read: about 25 us for each.
    ///
    /// # Errors
    /// A column that is not text, a table without a replica or with a history; a file that cannot
    /// be written.
    pub fn index_text(&self, change: impl FnOnce(Vec<TextColumn>) -> Vec<TextColumn>) -> Result<()> {
        let _writers = self.writers();
        let mut text = self.text.lock();
        let columns = change(text.definitions());
        if text.file.is_none() {
            if columns.is_empty() {
                return Ok(());
            }
            let folder = match &text.folder {
                Some(folder) => TextFolder::lasting(folder),
                None => TextFolder::temporary()?,
            };
            text.file = Some(TextFile::open(Arc::new(folder))?);
        }
        let before = self.snapshot();
        let mut next = Snapshot::clone(&before);
        let (view, written) = text.advance(&before, &next, Some(columns));
        next.text = view;
        self.publish(next);
        written
    }

    /// Checks that the text of a column can be indexed.
    ///
    /// # Errors
    /// As [`Self::index_text`].
    pub fn check_text(&self, table: &str, column: &str) -> Result<()> {
        let snapshot = self.snapshot();
        let Some(state) = snapshot.table(table) else {
            return Err(Error::InvalidArgument(format!(
                "table {table:?} is not replicated: register_table makes a replica of it"
            )));
        };
        Source::of(state.version.definition(), column).map(drop)
    }

    /// Publishes a snapshot, its text indexes written. The caller holds the writers.
    pub(crate) fn publish_with_text(&self, before: &Snapshot, mut next: Snapshot) {
        let mut text = self.text.lock();
        // The view has the error, and the next sync writes again.
        next.text = text.advance(before, &next, None).0;
        self.publish(next);
    }

    /// As [`Self::publish_with_text`], for replicas restored at a state of the text indexes.
    pub(crate) fn publish_restored(&self, mut next: Snapshot, token: Option<i64>) {
        let mut text = self.text.lock();
        text.resume(&next, token);
        // Nothing differs from what was accepted.
        let mut before = next.clone();
        before.text = None;
        next.text = text.advance(&before, &next, None).0;
        self.publish(next);
    }
}
