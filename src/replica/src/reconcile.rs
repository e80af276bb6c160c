//! Reconciles a history with its table if the log cannot say what changed: the table was altered,
//! or is read again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use vexact_core::error::{Error, Result};

use super::changes::{Change, ChangeBatch, KeyState};
use super::index::Location;
use super::key::Keys;
use super::version::{Definition, Part, Segment, TableVersion};

/// Comparison of a row with the current row of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// The key has no current row.
    New,
    /// They are the same.
    Same,
    /// They differ.
    Changed,
}

impl TableVersion {
    /// The same rows with the columns of another definition. Columns that are new have the value in
    /// `defaults`.
    ///
    /// # Errors
    /// A new column without a default.
    pub fn with_definition(
        &self,
        definition: Arc<Definition>,
        defaults: &HashMap<String, ArrayRef>,
    ) -> Result<TableVersion> {
        let schema = definition.stored_schema();
        let altered = |part: &Part| -> Result<Part> {
            let rows = &part.segment.rows;
            let column = |field: &Arc<Field>| -> Result<ArrayRef> {
                match (rows.schema().index_of(field.name()), defaults.get(field.name())) {
                    (Ok(at), None) => Ok(Arc::clone(rows.column(at))),
                    (_, Some(value)) => {
                        let first = UInt32Array::from_value(0, rows.num_rows());
                        take(value, &first, None).map_err(Error::arrow)
                    }
                    (Err(_), None) => Err(Error::Engine(format!("column {:?} has no default", field.name()))),
                }
            };
            let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(Error::arrow)?;
            Ok(Part { segment: Arc::new(Segment::try_new(rows, &definition.key)?), ..part.clone() })
        };
        let parts = self.parts.iter().map(|part| part.as_ref().map(altered).transpose()).collect::<Result<_>>()?;
        Ok(TableVersion::new(Arc::clone(&definition), parts, self.generation, Arc::clone(&self.index)))
    }

    /// The changes, all at `time`, that make the current rows equal to `rows`, all rows of the
    /// table, of the registered schema.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn difference(&self, rows: RecordBatch, time: i64) -> Result<ChangeBatch> {
        let keys = Keys::try_new(&rows, &self.definition.key)?;
        let mut changes = Vec::new();
        let mut known: Vec<(u32, Location)> = Vec::new();
        for row in 0..rows.num_rows() {
            match self.locate(&keys, row) {
                Some(location) => known.push((row as u32, location)),
                None => changes.push(Change { time, state: KeyState::Row(row as u32) }),
            }
        }
        let locations: Vec<Location> = known.iter().map(|(_, location)| *location).collect();
        let is_changed = self.is_changed(&rows, &known, &locations)?;
        let changed = known.iter().zip(is_changed).filter(|(_, is_changed)| *is_changed);
        changes.extend(changed.map(|((row, _), _)| Change { time, state: KeyState::Row(*row) }));

        // Current rows that are not among `rows` are deleted.
        let mut seen: Vec<Location> = locations;
        seen.sort_unstable();
        let current = self.current_locations();
        let gone: Vec<Location> =
            current.into_iter().filter(|location| seen.binary_search(location).is_err()).collect();
        changes.extend((0..gone.len() as u32).map(|row| Change { time, state: KeyState::Gone(row) }));
        let gone = self.take(&gone)?.project(&self.definition.key).map_err(Error::arrow)?;
        Ok(ChangeBatch { rows, gone, changes })
    }

    /// Compares rows, of the registered schema, with the current rows of their keys.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn compare(&self, rows: &RecordBatch) -> Result<Vec<RowState>> {
        let keys = Keys::try_new(rows, &self.definition.key)?;
        let located: Vec<Option<Location>> = (0..rows.num_rows()).map(|row| self.locate(&keys, row)).collect();
        let known = located.iter().enumerate().filter_map(|(row, location)| Some((row as u32, (*location)?)));
        let known: Vec<(u32, Location)> = known.collect();
        let locations: Vec<Location> = known.iter().map(|(_, location)| *location).collect();
        let mut standings = vec![RowState::New; rows.num_rows()];
        for ((row, _), is_changed) in known.iter().zip(self.is_changed(rows, &known, &locations)?) {
            standings[*row as usize] = if is_changed { RowState::Changed } else { RowState::Same };
        }
        Ok(standings)
    }

    fn is_changed(&self, rows: &RecordBatch, known: &[(u32, Location)], locations: &[Location]) -> Result<Vec<bool>> {
        let stored = self.take(locations)?;
        let chosen = UInt32Array::from_iter_values(known.iter().map(|(row, _)| *row));
        let mut is_changed = vec![false; known.len()];
        for column in 0..rows.num_columns() {
            let new = take(rows.column(column), &chosen, None).map_err(Error::arrow)?;
            let old = stored.column(column);
            if matches!(new.data_type(), DataType::FixedSizeList(..)) {
                // Arrow compares no nested values.
                is_changed.iter_mut().enumerate().for_each(|(row, is_changed)| {
                    *is_changed |= new.slice(row, 1).to_data() != old.slice(row, 1).to_data();
                });
                continue;
            }
            let differs: BooleanArray = distinct(&new, old).map_err(Error::arrow)?;
            is_changed.iter_mut().zip(differs.values()).for_each(|(is_changed, differs)| *is_changed |= differs);
        }
        Ok(is_changed)
    }

    /// The rows that the index knows: all live rows, in a history the open ones.
    fn current_locations(&self) -> Vec<Location> {
        let mut current = Vec::new();
        for (slot, part) in self.parts.iter().enumerate() {
            let Some(part) = part else { continue };
            let is_current = |row: &usize| {
                let hash = part.segment.keys.hash(*row, &self.index.hasher);
                self.index.find(hash, |location| location == Location::new(slot, *row)).is_some()
            };
            current.extend(part.live_ordinals().into_iter().filter(is_current).map(|row| Location::new(slot, row)));
        }
        current
    }
}
