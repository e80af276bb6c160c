//! Instruction sets: one algorithm ([`generic`]) over a small lane trait ([`lanes`]), one thin file
//! per instruction set, and one dispatch table. Holding a [`Kernels`] is the proof that the
//! processor can run it.

pub(crate) mod bytes;
pub(crate) mod codes;
mod generic;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod simsimd;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use std::fmt;

use crate::error::{KernelError, Result};

/// Floats that a query is padded to a multiple of, with zeros: the widest lane.
pub(crate) const QUERY_PADDING: usize = 16;

/// An instruction set that the scan can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// x86-64 with AVX-512F, 16 lanes.
    Avx512,
    /// x86-64 with AVX2 and FMA, 8 lanes.
    Avx2,
    /// 64-bit ARM with NEON, 8 lanes.
    Neon,
    /// simsimd's pairwise kernels, which choose an instruction set themselves; the default on
    /// processors for which this crate has no kernels.
    Simsimd,
    /// Plain Rust, on any processor.
    Portable,
}

impl Backend {
    const ALL: [Backend; 5] = [Backend::Avx512, Backend::Avx2, Backend::Neon, Backend::Simsimd, Backend::Portable];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Avx512 => "avx512",
            Backend::Avx2 => "avx2",
            Backend::Neon => "neon",
            Backend::Simsimd => "simsimd",
            Backend::Portable => "portable",
        }
    }

    /// The backends that this processor can run, fastest first.
    pub fn available() -> Vec<Backend> {
        Self::ALL.into_iter().filter(|backend| backend.kernels().is_some()).collect()
    }

    /// The backend that a search runs on unless another is forced.
    pub fn fastest() -> Backend {
        Self::ALL.into_iter().find(|backend| backend.kernels().is_some()).unwrap_or(Backend::Portable)
    }

    fn kernels(self) -> Option<&'static Kernels> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => x86_avx512::kernels(),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => x86_avx2::kernels(),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Avx512 | Backend::Avx2 => None,
            #[cfg(target_arch = "aarch64")]
            Backend::Neon => neon::kernels(),
            #[cfg(not(target_arch = "aarch64"))]
            Backend::Neon => None,
            Backend::Simsimd => Some(&simsimd::KERNELS),
            Backend::Portable => Some(&portable::KERNELS),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Vectors in one flat buffer and those of them to compute: row `rows[i]` is
/// `data[rows[i] * dim..][..dim]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub dim: usize,
    pub rows: &'a [u32],
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If a row lies outside the buffer. The kernels rely on it.
    pub fn new(data: &'a [f32], dim: usize, rows: &'a [u32]) -> Self {
        let last = rows.iter().copied().max().unwrap_or(0) as usize;
        assert!(rows.is_empty() || (last + 1) * dim <= data.len(), "row {last} outside of {} floats", data.len());
        Self { data, dim, rows }
    }
}

/// Up to `width` queries, transposed: component `i` of query `j` is `components[i * width + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub components: &'a [f32],
    pub width: usize,
}

/// For each query of a panel, the coefficients of its rejection test (see [`crate::tier::Limits`]).
#[derive(Clone, Copy)]
pub(crate) struct PanelLimits<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub t: &'a [f32],
}

/// Hints that all of `values` will be read.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        for offset in (0..size_of_val(values)).step_by(LINE) {
            // SAFETY: SSE is part of x86-64, and a prefetch never faults.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(offset));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

type SurvivorsFn = unsafe fn(&[f32], usize, &[f32], PanelLimits<'_>, &mut Vec<(u32, u32)>);

/// The operations of one instruction set. Every sum is of `dim` terms in some order, each product
/// and each addition rounded at most once, which is what the bounds in [`crate::tier`] assume.
pub(crate) struct Kernels {
    pub backend: Backend,
    /// `(rows, query, dots, squares)`: `x·q` and `x·x` of each row. `query` is padded to
    /// [`QUERY_PADDING`].
    dot_and_square: unsafe fn(Rows<'_>, &[f32], &mut [f32], &mut [f32]),
    /// `(rows, query, out)`: `Σ(x - q)²` of each row.
    l2_squared: unsafe fn(Rows<'_>, &[f32], &mut [f32]),
    /// `(rows, query, out)`: `Σ|x - q|` of each row.
    l1: unsafe fn(Rows<'_>, &[f32], &mut [f32]),
    /// `(rows, panel, out)`: `x·q` of each row with each query; `out` is row-major, `panel.width`
    /// wide.
    tile: unsafe fn(Rows<'_>, Panel<'_>, &mut [f32]),
    /// `(tile, width, squares, limits, survivors)`: the (row, query) cells that the limits do not
    /// reject.
    survivors: SurvivorsFn,
    /// Widths of the panels, widest first. Each divides the one before it.
    pub panel_widths: &'static [usize],
    /// Rows that the tile kernel handles at a time: blocks should be multiples of it.
    pub tile_rows: usize,
}

impl Kernels {
    /// The forced backend, or the fastest that this processor can run.
    pub fn select(forced: Option<Backend>) -> Result<&'static Kernels> {
        let unavailable = |backend: Backend| KernelError::BackendUnavailable {
            backend: backend.to_string(),
            available: Backend::available().iter().map(Backend::to_string).collect::<Vec<_>>().join(", "),
        };
        let backend = forced.unwrap_or_else(Backend::fastest);
        backend.kernels().ok_or_else(|| unavailable(backend))
    }

    /// Those of [`Backend::fastest`].
    pub fn fastest() -> &'static Kernels {
        Backend::fastest().kernels().unwrap_or(&portable::KERNELS)
    }

    /// `x·q` and `x·x` of each row.
    pub fn dot_and_square(&self, rows: Rows<'_>, query: &[f32], dots: &mut [f32], squares: &mut [f32]) {
        assert!(query.len() == rows.dim.next_multiple_of(QUERY_PADDING));
        assert!(dots.len() == rows.rows.len() && squares.len() == rows.rows.len());
        // SAFETY: the processor runs this table's instructions (module docs); `Rows` checked its
        // rows, and the lines above the lengths of the query and of the outputs.
        #[allow(unsafe_code)]
        unsafe {
            (self.dot_and_square)(rows, query, dots, squares)
        }
    }

    /// `Σ(x - q)²` of each row.
    pub fn l2_squared(&self, rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
        assert!(query.len() == rows.dim.next_multiple_of(QUERY_PADDING));
        assert!(out.len() == rows.rows.len());
        // SAFETY: as in `dot_and_square`.
        #[allow(unsafe_code)]
        unsafe {
            (self.l2_squared)(rows, query, out)
        }
    }

    /// `Σ|x - q|` of each row.
    pub fn l1(&self, rows: Rows<'_>, query: &[f32], out: &mut [f32]) {
        assert!(query.len() == rows.dim.next_multiple_of(QUERY_PADDING));
        assert!(out.len() == rows.rows.len());
        // SAFETY: as in `dot_and_square`.
        #[allow(unsafe_code)]
        unsafe {
            (self.l1)(rows, query, out)
        }
    }

    /// `x·q` of each row with each query of the panel.
    pub fn tile(&self, rows: Rows<'_>, panel: Panel<'_>, out: &mut [f32]) {
        assert!(self.panel_widths.contains(&panel.width));
        assert!(panel.components.len() == rows.dim * panel.width);
        assert!(out.len() == rows.rows.len() * panel.width);
        // SAFETY: as in `dot_and_square`; the panel's width is one that the kernel has.
        #[allow(unsafe_code)]
        unsafe {
            (self.tile)(rows, panel, out)
        }
    }

    /// The cells (row, query) of a tile that are not rejected.
    pub fn survivors(
        &self,
        tile: &[f32],
        width: usize,
        squares: &[f32],
        limits: PanelLimits<'_>,
        survivors: &mut Vec<(u32, u32)>,
    ) {
        assert!(self.panel_widths.contains(&width) && tile.len() == width * squares.len());
        assert!(limits.a.len() == width && limits.b.len() == width && limits.t.len() == width);
        // SAFETY: as in `tile`.
        #[allow(unsafe_code)]
        unsafe {
            (self.survivors)(tile, width, squares, limits, survivors)
        }
    }
}

#[cfg(test)]
mod tests;
