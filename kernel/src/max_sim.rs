//! Late interaction: rows that are lists of token vectors, scored by the sum over the query's tokens
//! of the largest inner product with a token of the row ([`crate::reference::max_sim`]).

use arrow_array::cast::AsArray;
use arrow_array::{Array, GenericListArray, OffsetSizeTrait};
use arrow_buffer::{BooleanBuffer, OffsetBuffer};
use arrow_schema::DataType;

use crate::arch::{Backend, Kernels};
use crate::column::VectorColumn;
use crate::error::{KernelError, Result};
use crate::metric::Metric;
use crate::query::Query;
use crate::reference::Element;
use crate::scan::max_sim::{PanelsF64, scan};

/// The offsets of a list array.
#[derive(Debug, Clone)]
enum Offsets {
    I32(OffsetBuffer<i32>),
    I64(OffsetBuffer<i64>),
}

/// One Arrow array of rows of tokens: `List` or `LargeList` of `FixedSizeList` of floats, read in
/// place. A row that is NULL, has no tokens, or a token that is NULL or has a NULL component, cannot
/// be compared and is skipped by a search.
#[derive(Debug, Clone)]
pub struct TokenColumn<'a> {
    tokens: VectorColumn<'a>,
    offsets: Offsets,
    valid: Option<BooleanBuffer>,
    len: usize,
}

impl<'a> TokenColumn<'a> {
    /// Borrows an array. Nothing is copied; validation reads the validity bitmaps only.
    ///
    /// # Errors
    /// [`KernelError::NotATokenColumn`] for any other type.
    pub fn try_new(array: &'a dyn Array) -> Result<Self> {
        match array.data_type() {
            DataType::List(_) => Self::of(array.as_list::<i32>(), Offsets::I32),
            DataType::LargeList(_) => Self::of(array.as_list::<i64>(), Offsets::I64),
            other => Err(KernelError::NotATokenColumn { got: other.to_string() }),
        }
    }

    fn of<O: OffsetSizeTrait>(
        list: &'a GenericListArray<O>,
        offsets: impl FnOnce(OffsetBuffer<O>) -> Offsets,
    ) -> Result<Self> {
        let refused = || KernelError::NotATokenColumn { got: list.data_type().to_string() };
        let is_of_floats = match list.values().data_type() {
            DataType::FixedSizeList(item, _) => item.data_type().is_floating(),
            _ => false,
        };
        if !is_of_floats {
            return Err(refused());
        }
        let tokens = VectorColumn::try_new(list.values().as_ref()).map_err(|_| refused())?;
        let valid = list.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
        Ok(Self { tokens, offsets: offsets(list.offsets().clone()), valid, len: list.len() })
    }

    /// Rows, NULL ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Components of each token.
    pub fn dim(&self) -> usize {
        self.tokens.dim()
    }

    pub(crate) fn tokens(&self) -> &VectorColumn<'a> {
        &self.tokens
    }

    /// The tokens of a row that can be compared.
    pub(crate) fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        if self.valid.as_ref().is_some_and(|valid| !valid.value(row)) {
            return None;
        }
        let range = match &self.offsets {
            Offsets::I32(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Offsets::I64(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
        };
        let is_whole = self
            .tokens
            .valid()
            .is_none_or(|valid| valid.slice(range.start, range.len()).count_set_bits() == range.len());
        (!range.is_empty() && is_whole).then_some(range)
    }
}

/// A search for the rows of tokens with the largest [`crate::reference::max_sim`]. The query is validated
/// here, the column when the search runs.
#[derive(Debug, Clone)]
pub struct MaxSim {
    pub(crate) queries: Vec<Query>,
    pub(crate) panels: PanelsF64,
    pub(crate) top_k: Option<usize>,
    pub(crate) selection: Option<BooleanBuffer>,
    pub(crate) threads: usize,
    backend: Option<Backend>,
}

/// The rows found, best first, ties by position.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxSimHits {
    /// Positions, all rows of earlier chunks counted.
    pub rows: Vec<u64>,
    /// The score of each row.
    pub scores: Vec<f64>,
    /// Rows of the selection that cannot be compared.
    pub skipped_rows: u64,
    /// Rows computed in `f64`; the bounds decided the others.
    pub refined_rows: u64,
    /// The instruction set.
    pub backend: Backend,
}

impl MaxSim {
    /// A search for the tokens of a query, all of one dim.
    ///
    /// # Errors
    /// No tokens, tokens of different dims, an empty or non-finite token.
    pub fn new<T: Element, Q: AsRef<[T]>>(tokens: &[Q]) -> Result<Self> {
        let queries: Vec<Query> =
            tokens.iter().map(|token| Query::try_new(Metric::Dot, token.as_ref())).collect::<Result<_>>()?;
        let expected = queries.first().ok_or(KernelError::EmptyQuery)?.values.len();
        if let Some(got) = queries.iter().map(|query| query.values.len()).find(|got| *got != expected) {
            return Err(KernelError::DimensionMismatch { expected, got });
        }
        let panels = PanelsF64::new(&queries);
        Ok(Self { queries, panels, top_k: None, selection: None, threads: 0, backend: None })
    }

    /// Only the `k` best rows; all of them without it.
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// A prefilter: one bit for each row; only set rows are searched.
    pub fn selection(mut self, selection: &BooleanBuffer) -> Self {
        self.selection = Some(selection.clone());
        self
    }

    /// At most this many threads of the current rayon pool; 0 for all. The result does not depend
    /// on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Forces an instruction set (for tests and benchmarks). The result does not depend on it.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// The score of one row: [`crate::reference::max_sim`], `None` also where the row is NULL or holds one.
    ///
    /// # Panics
    /// If `row` is not below [`TokenColumn::len`] or the column has another dim than the query.
    pub fn score(&self, column: &TokenColumn<'_>, row: usize) -> Option<f64> {
        assert_eq!(self.dim(), column.dim(), "components of the query");
        self.panels.max_sim(column.tokens(), column.range(row)?)
    }

    /// Components of the query's tokens.
    pub fn dim(&self) -> usize {
        self.queries[0].values.len()
    }

    /// Searches the chunks of a column.
    ///
    /// # Errors
    /// Chunks of another dim, `top_k` 0, a selection of another length, an unavailable backend.
    pub fn run(&self, chunks: &[TokenColumn<'_>]) -> Result<MaxSimHits> {
        let kernels = Kernels::select(self.backend)?;
        if let Some(expected) = chunks.iter().map(TokenColumn::dim).find(|dim| *dim != self.dim()) {
            return Err(KernelError::DimensionMismatch { expected, got: self.dim() });
        }
        if self.top_k == Some(0) {
            return Err(KernelError::InvalidTopK);
        }
        let rows = chunks.iter().map(TokenColumn::len).sum();
        if let Some(got) = self.selection.as_ref().map(BooleanBuffer::len).filter(|got| *got != rows) {
            return Err(KernelError::SelectionLength { expected: rows, got });
        }
        Ok(scan(self, chunks, kernels))
    }
}
