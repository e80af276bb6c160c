//! Differences between two runs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use vexact_core::error::Result;

use super::{ArtifactKind, Run, Workspace};

/// A field that differs; null if a run does not have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Path of the field, such as `status` or `inputs.options.query`.
    pub field: String,
    /// Value in the first run.
    pub run: Value,
    /// Value in the second run.
    pub other: Value,
}

/// Two runs and their differences.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// The first run.
    pub run: Run,
    /// The second run.
    pub other: Run,
    /// Differences by field: inputs, outcomes and results. Times and durations are not compared.
    pub changes: Vec<Change>,
}

impl Workspace {
    /// Compares two runs.
    ///
    /// # Errors
    /// A run that the workspace does not have.
    pub fn diff(&self, run_id: &str, other_run_id: &str) -> Result<Diff> {
        let (run, fields) = self.compared(run_id)?;
        let (other, other_fields) = self.compared(other_run_id)?;
        let value = |fields: &BTreeMap<String, Value>, name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
        let names: std::collections::BTreeSet<&String> = fields.keys().chain(other_fields.keys()).collect();
        let changes = names.into_iter().filter(|name| fields.get(*name) != other_fields.get(*name));
        let changes = changes.map(|name| Change {
            field: name.clone(),
            run: value(&fields, name),
            other: value(&other_fields, name),
        });
        let changes = changes.collect();
        Ok(Diff { run, other, changes })
    }

    fn compared(&self, run_id: &str) -> Result<(Run, BTreeMap<String, Value>)> {
        let run = self.run(run_id)?;
        let mut fields = BTreeMap::new();
        let mut add = |name: &str, value: Value| flatten(name, value, &mut fields);
        add("action", run.action.clone().into());
        add("status", run.status.name().into());
        add("tags", json!(run.tags));
        add("timeout_ms", json!(run.timeout_ms));
        add("version", run.version.clone().into());
        add("error", json!(run.error.as_ref().map(|error| &error.error)));
        add("inputs", self.inputs(run_id)?.unwrap_or(Value::Null));
        let result = self.artifacts(Some(run_id), None)?.into_iter().find(|a| a.kind == ArtifactKind::Result);
        if let Some(result) = result {
            add("result.row_count", result.row_count.into());
            add("result.schema", json!(result.schema));
        }
        Ok((run, fields))
    }
}

/// Flattens objects to entries `a.b`; lists stay whole.
fn flatten(name: &str, value: Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) => {
            for (entry, value) in entries {
                flatten(&format!("{name}.{entry}"), value, fields);
            }
        }
        value => {
            fields.insert(name.to_owned(), value);
        }
    }
}
