//! Text indexes of a session's tables: made at the first search of a column, and again after the
//! text has changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DataFusionError, Result};
use parking_lot::Mutex;
use vexact_core::error::Error;
use vexact_replica::{Definition, Replicas, SyncMode, TextColumn, TextMatches, Tokenizer, Update};

use super::TextRequest;

/// Name of the table in the private replicas of an index.
const TABLE: &str = "rows";

/// Its column.
const BODY: &str = "body";

/// Table and column of a session.
type Name = (String, String);

/// The text indexes of a session, each in a temporary file.
#[derive(Debug, Default)]
pub(crate) struct TextCache {
    tokenizers: Mutex<HashMap<Name, Tokenizer>>,
    indexes: Mutex<HashMap<Name, Arc<Mutex<Option<CachedIndex>>>>>,
}

/// The index of a column as it was at a search.
#[derive(Debug)]
struct CachedIndex {
    replicas: Replicas,
    tokenizer: Tokenizer,
    /// Hash of all texts in their order.
    content: u64,
}

impl TextCache {
    /// Sets how the text of a column is split, from the next search on.
    pub fn set_tokenizer(&self, table: &str, column: &str, tokenizer: Tokenizer) {
        self.tokenizers.lock().insert((table.to_owned(), column.to_owned()), tokenizer);
    }

    /// Searches the texts of a table's rows; the keys of the matches are ordinals. The index of an
    /// earlier search serves if the texts are the same.
    ///
    /// # Errors
    /// A query that FTS5 rejects; a file that cannot be written.
    pub fn search(
        &self,
        request: &TextRequest,
        texts: &[&ArrayRef],
        query: &str,
        limit: Option<usize>,
    ) -> Result<TextMatches> {
        let texts = texts.iter().map(|texts| Ok(cast(texts, &DataType::Utf8)?)).collect::<Result<Vec<_>>>()?;
        let name = (request.table.clone(), request.column.clone());
        let tokenizer = self.tokenizers.lock().get(&name).copied().unwrap_or_default();
        let content = hash_of(&texts);
        let slot = Arc::clone(self.indexes.lock().entry(name).or_default());
        let mut slot = slot.lock();
        let is_same = |index: &CachedIndex| (index.tokenizer, index.content) == (tokenizer, content);
        if !slot.as_ref().is_some_and(is_same) {
            // The old file is removed before the new one is made.
            slot.take();
        }
        let index = match &mut *slot {
            Some(index) => index,
            empty => empty.insert(CachedIndex { replicas: built(&texts, tokenizer)?, tokenizer, content }),
        };
        let snapshot = index.replicas.snapshot();
        snapshot.text_search(TABLE, BODY, query, limit).map_err(external)
    }
}

fn hash_of(texts: &[ArrayRef]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for text in texts.iter().flat_map(|texts| texts.as_string::<i32>().iter()) {
        text.hash(&mut hasher);
    }
    hasher.finish()
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn built(texts: &[ArrayRef], tokenizer: Tokenizer) -> Result<Replicas> {
    let fields = vec![Field::new("ordinal", DataType::Int64, false), Field::new(BODY, DataType::Utf8, true)];
    let schema = Arc::new(Schema::new(fields));
    let mut next = 0;
    let batch = |texts: &ArrayRef| {
        let ordinals = Int64Array::from_iter_values(next..next + texts.len() as i64);
        next += texts.len() as i64;
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ordinals), Arc::clone(texts)])
    };
    let batches = texts.iter().map(batch).collect::<Result<Vec<_>, _>>()?;
    let definition = Definition { name: TABLE.into(), schema, key: vec![0], mode: SyncMode::Destructive };
    let replicas = Replicas::default();
    for (_, loaded) in replicas.update(vec![(TABLE.into(), Update::Replace(Arc::new(definition), batches, 0))], 0) {
        loaded.map_err(external)?;
    }
    let column = TextColumn { table: TABLE.into(), column: BODY.into(), tokenizer };
    replicas.index_text(|_| vec![column]).map_err(external)?;
    Ok(replicas)
}
