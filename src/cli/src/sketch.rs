//! `vexact sketch`: a sketch beside the vectors of a Parquet file, by which searches read fewer
//! bytes of it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use vexact::sources::parquet_sketch::{AddedSketch, add_sketch};
use vexact_kernel::Tier;

use super::answer::Answer;
use super::failure::{During, Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"path\", \"sketches\": [{\"column\", \"tier\", \"reason\"}]}; tier is null for a column of which no sketch was
        made because it would not save enough. If there is none at all, the file stays as it is.

        The file is written anew, with the column NAME$sketch after its own, and replaced when it is complete. Values, their
        order, codecs and other metadata stay. Searches of the file then read the sketch first, and only the vectors that it
        leaves open; answers do not change.

Examples:
  vexact sketch docs.parquet
  vexact sketch docs.parquet --column embedding --output docs-with-sketch.parquet")]
pub(super) struct SketchCommand {
    /// The Parquet file
    #[arg(value_name = "FILE")]
    pub path: PathBuf,
    /// The column of vectors [default: all columns of vectors of floats]
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// Write this file instead of replacing the first one
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// auto chooses from the data; i8 and pca4 force a form
    #[arg(long, value_name = "TIER", default_value = "auto", value_parser = tier)]
    pub tier: Tier,
}

fn tier(name: &str) -> std::result::Result<Tier, String> {
    match name.parse::<Tier>() {
        Ok(tier @ (Tier::Auto | Tier::I8 | Tier::Pca4)) => Ok(tier),
        _ => Err("expected one of auto, i8, pca4".into()),
    }
}

/// A column of vectors and its sketch, in an answer.
#[derive(Debug, Serialize)]
pub(super) struct Sketched {
    pub column: String,
    pub tier: Option<String>,
    pub reason: String,
}

impl From<AddedSketch> for Sketched {
    fn from(added: AddedSketch) -> Self {
        let AddedSketch { column, tier, reason } = added;
        Self { column, tier: tier.map(|tier| tier.to_string()), reason }
    }
}

impl SketchCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let path = self.path.to_string_lossy().into_owned();
        [("command", "sketch".to_owned()), ("input_path", path)]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter()
            .collect()
    }

    pub async fn run(self) -> Result<Answer, Failure> {
        let path = self.output.clone().unwrap_or_else(|| self.path.clone());
        let add = move || add_sketch(&self.path, self.output.as_deref(), self.column.as_deref(), self.tier);
        let added = tokio::task::spawn_blocking(add).await;
        let added = added.map_err(|error| Failure::internal("sketch", error.to_string()))?;
        let sketches = added.during("sketch")?.into_iter().map(Sketched::from).collect();
        Ok(Answer::Sketched { path, sketches })
    }
}
