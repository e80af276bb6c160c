//! Exact top-k vector search over Arrow arrays, at memory speed.
//!
//! ```
//! use arrow_array::{FixedSizeListArray, types::Float32Type};
//! use vexact_kernel::{Metric, Search, VectorColumn};
//!
//! let array = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
//!     [Some(vec![Some(1.0), Some(0.0)]), None, Some(vec![Some(0.6), Some(0.8)])],
//!     2,
//! );
//! let column = VectorColumn::try_new(&array)?;
//! let hits = Search::new(Metric::Cosine, &[0.0_f32, 1.0])?.top_k(1).run(&column)?;
//! assert_eq!(hits.rows, [2]);
//! assert_eq!(hits.report.skipped_rows, Some(1)); // the NULL row
//! # Ok::<(), vexact_kernel::KernelError>(())
//! ```
//!
//! A [`Sketch`] lets a search read up to 15 times fewer bytes for the same answer. Its
//! [`SketchBasis`] is trained once for a table and encodes each chunk:
//!
//! ```
//! # use arrow_array::{FixedSizeListArray, types::Float32Type};
//! # use vexact_kernel::{ChunkedColumn, Metric, Search, SketchBasis, Tier, VectorColumn};
//! # let rows = (0..2000).map(|i| Some((0..64).map(|j| Some(((i * 7 + j * 3) % 101) as f32)).collect::<Vec<_>>()));
//! # let array = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 64);
//! let column = VectorColumn::try_new(&array)?;
//! let training = SketchBasis::train(&ChunkedColumn::from(&column), Tier::Auto);
//! if let Some(basis) = training.basis {
//!     let sketch = basis.encode(&column)?;
//!     let search = Search::new(Metric::L2, &[50.0_f32; 64])?.top_k(5);
//!     let hits = search.run(&column.clone().with_sketch(&sketch)?)?;
//!     assert_eq!(hits.scores, search.run(&column)?.scores);
//! }
//! # Ok::<(), vexact_kernel::KernelError>(())
//! ```
//!
//! Plain floats are searched as they are, and the queries of a batch may be an Arrow array:
//!
//! ```
//! # use arrow_array::{FixedSizeListArray, types::Float32Type};
//! use vexact_kernel::{Metric, Search, VectorColumn};
//!
//! let floats = [1.0_f32, 0.0, 0.0, 1.0, 0.6, 0.8];
//! let column = VectorColumn::from_floats(&floats, 2)?;
//! let queries = [Some(vec![Some(1.0), Some(0.0)]), Some(vec![Some(0.0), Some(1.0)])];
//! let queries = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(queries, 2);
//! let hits = Search::batch_of(Metric::L2, &queries)?.top_k(1).run(&column)?;
//! assert_eq!((&hits.rankings[0].rows, &hits.rankings[1].rows), (&vec![0], &vec![1]));
//! # Ok::<(), vexact_kernel::KernelError>(())
//! ```
//!
//! # Modules
//!
//! Two are public on purpose: [`mod@reference`] is the definition that every answer equals, and
//! [`mod@tier`] has the error bounds of the fast path. All else is at the top of the crate.
//!
//! # What "exact" means
//!
//! A search returns the rows, the order and the scores of [`mod@reference`]: every selected row's
//! distance in `f64` from the stored values, sorted by (distance, row position), the first k.
//! Neither the instruction set, nor the number of threads, nor the layout of the chunks changes a
//! bit of it. The fast path scans in `f32` with a certified error bound ([`mod@tier`]), keeps each
//! row whose best case still reaches the current k-th worst case, and recomputes those few with the
//! reference's own function.

mod arch;
mod candidates;
mod column;
mod error;
mod max_sim;
mod metric;
mod pool;
mod query;
pub mod reference;
mod report;
mod scan;
mod search;
mod sketch;
pub mod tier;

pub use arch::Backend;
pub use column::{ChunkedColumn, VectorColumn, to_fixed_size_list};
pub use error::{KernelError, Result};
pub use max_sim::{MaxSim, MaxSimHits, TokenColumn};
pub use metric::Metric;
pub use pool::in_pool;
pub use reference::Element;
pub use report::{Acceleration, Execution, FilterExecution, FilterReport, RankedBy, Report, ScanInput};
pub use search::{BatchHits, GroupedHits, GroupedRow, Hits, Many, One, Ranking, Search};
pub use sketch::{Sketch, SketchBasis, SketchFilter, SketchedRow, Training};
pub use tier::Tier;
