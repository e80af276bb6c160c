"""Kernel-level peers: libraries that search an in-memory float32 matrix, exactly, without SQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from measure import read_all
from protocol import Dataset, Ids, Peer, Workload

_SCAN_BLOCK_ROWS = 16_384
"""Rows a pairwise kernel is given at a time with one query (measured: no slower than larger or smaller blocks)."""
_BATCH_BLOCK_ROWS = 4_096
"""The same with a query batch, whose distance block should stay in cache."""


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _smallest(keys: np.ndarray, k: int) -> np.ndarray:
    """Column numbers of the k smallest keys of each row, unordered."""
    if k >= keys.shape[1]:
        return np.tile(np.arange(keys.shape[1]), (len(keys), 1))
    return np.argpartition(keys, k - 1, axis=1)[:, :k]


def _merge(parts: list[tuple[np.ndarray, np.ndarray]], axis: int, k: int) -> np.ndarray:
    """Join (keys, ids) of parts along `axis`; the ids of the k smallest keys of each row, smallest first."""
    keys, ids = (np.concatenate(values, axis) for values in zip(*parts, strict=True))
    order = np.argsort(keys, axis=1)[:, :k]
    return np.take_along_axis(ids, order, 1)


class _KernelPeer(Peer):
    """Shared parts: these libraries have no filter over a column of another kind."""

    def declines(self, workload: Workload) -> str | None:
        return None if workload.max_bucket is None else "no column filter"


class _IndexPeer(_KernelPeer):
    """A library whose index is built for one metric; only the latest is kept, to bound memory."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._data: Dataset | None = None
        self._built: tuple[str, Any] | None = None

    def prepare(self, data: Dataset) -> None:
        self._data, self._built = data, None

    def close(self) -> None:
        self._data = self._built = None

    def _index(self, metric: str) -> Any:
        """The index for `metric`, built on its first use."""
        if self._built is None or self._built[0] != metric:
            self._built = None
            assert self._data is not None, "prepare first"
            self._built = metric, self._build(self._data, metric)
        return self._built[1]

    def _build(self, data: Dataset, metric: str) -> Any:
        """A new index over all rows of `data`."""
        raise NotImplementedError


class Faiss(_IndexPeer):
    """faiss-cpu IndexFlatIP and IndexFlatL2; it has no cosine, so rows are normalised beforehand, untimed."""

    name = "faiss-cpu"
    packages = ("faiss-cpu",)

    def __init__(self, threads: int) -> None:
        import faiss

        super().__init__(threads)
        self._faiss = faiss
        faiss.omp_set_num_threads(threads)

    def _build(self, data: Dataset, metric: str) -> Any:
        index = self._faiss.IndexFlatL2(data.dim) if metric == "l2" else self._faiss.IndexFlatIP(data.dim)
        index.add(_unit(data.vectors) if metric == "cosine" else data.vectors)
        return index

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        return self._index(metric).search(queries, k)[1]


class FaissPanorama(Faiss):
    """faiss-cpu IndexFlatL2Panorama and IndexFlatIPPanorama, over rows in the basis of their principal components.

    The components are computed from 20 000 rows when the index is built, untimed; turning the queries is timed. Eight
    levels and batches of 1 024 rows measured best. Inner products need a basis without centring, which l2 allows too.
    """

    name = "faiss-cpu Panorama"
    _levels, _batch_rows, _train_rows = 8, 1_024, 20_000

    def _build(self, data: Dataset, metric: str) -> Any:
        rows = _unit(data.vectors) if metric == "cosine" else data.vectors
        components = self._faiss.PCAMatrix(data.dim, data.dim)
        components.train(rows[: self._train_rows])
        self._basis = self._faiss.vector_to_array(components.A).reshape(data.dim, data.dim).T.copy()
        kind = self._faiss.IndexFlatL2Panorama if metric == "l2" else self._faiss.IndexFlatIPPanorama
        index = kind(data.dim, self._levels, self._batch_rows)
        index.add(rows @ self._basis)
        return index

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        index = self._index(metric)
        return index.search(queries @ self._basis, k)[1]


class HnswlibBruteForce(_IndexPeer):
    """hnswlib's BFIndex, a scan of row after row into a heap; its cosine normalises when rows are added."""

    name = "hnswlib BFIndex"
    packages = ("hnswlib",)

    def __init__(self, threads: int) -> None:
        import hnswlib

        super().__init__(threads)
        self._hnswlib = hnswlib

    def _build(self, data: Dataset, metric: str) -> Any:
        index = self._hnswlib.BFIndex({"cosine": "cosine", "dot": "ip", "l2": "l2"}[metric], data.dim)
        index.init_index(data.rows)
        index.set_num_threads(self._threads)
        index.add_items(data.vectors)
        return index

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        return self._index(metric).knn_query(queries, k=k, num_threads=self._threads)[0].astype(np.int64)


class Usearch(_KernelPeer):
    """usearch's `search(..., exact=True)`, straight over the matrix."""

    name = "usearch exact"
    packages = ("usearch",)

    def __init__(self, threads: int) -> None:
        # usearch loads NumKong's symbols for the whole process. Extensions that carry symbols of the same names bind to
        # their own only when they are loaded earlier; loaded later, simsimd fails and numkong is 20 times slower.
        for library in ("vexact", "numkong", "simsimd"):
            with suppress(ImportError):
                import_module(library)
        from usearch.index import MetricKind, search

        self._threads = threads
        self._search = search
        self._kinds = {"cosine": MetricKind.Cos, "dot": MetricKind.IP, "l2": MetricKind.L2sq}

    def prepare(self, data: Dataset) -> None:
        self._vectors = data.vectors

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        found = self._search(self._vectors, queries, k, self._kinds[metric], exact=True, threads=self._threads)
        return np.atleast_2d(found.keys).astype(np.int64)

    def close(self) -> None:
        del self._vectors


class _PairwisePeer(_KernelPeer):
    """A library of distance kernels: blocks of rows over a thread pool, argpartition in each block, then a merge.

    The library returns distances, not the best k; the top k around it is ours, in numpy, in the same threads.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def prepare(self, data: Dataset) -> None:
        self._vectors = data.vectors

    def close(self) -> None:
        del self._vectors

    def _kernel(self, queries: np.ndarray, metric: str) -> Callable[[np.ndarray], np.ndarray]:
        """A function from a block of rows to its distances, (rows, batch); for `dot` the similarities."""
        raise NotImplementedError

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        kernel = self._kernel(queries, metric)
        block = _SCAN_BLOCK_ROWS if len(queries) == 1 else _BATCH_BLOCK_ROWS

        def search_block(start: int) -> tuple[np.ndarray, np.ndarray]:
            keys = np.ascontiguousarray(kernel(self._vectors[start:start + block]).T)
            if metric == "dot":
                np.negative(keys, out=keys)
            ids = _smallest(keys, k)
            return np.take_along_axis(keys, ids, 1), ids + start

        parts = list(self._pool.map(search_block, range(0, len(self._vectors), block)))
        return _merge(parts, 1, k)


class NumKong(_PairwisePeer):
    """NumKong: `cdist` in float32 for one query; for a batch its packed kernels, which accumulate in float64."""

    name = "numkong"
    packages = ("numkong",)

    def __init__(self, threads: int) -> None:
        import numkong

        super().__init__(threads)
        self._numkong = numkong

    def _kernel(self, queries: np.ndarray, metric: str) -> Callable[[np.ndarray], np.ndarray]:
        library = self._numkong
        if len(queries) == 1:
            name = {"cosine": "angular", "dot": "dot", "l2": "sqeuclidean"}[metric]
            return lambda rows: np.asarray(library.cdist(rows, queries, name, out_dtype="float32")).reshape(-1, 1)
        packed = library.dots_pack(queries)
        kernels = {"cosine": library.angulars_packed, "dot": library.dots_packed, "l2": library.euclideans_packed}
        return lambda rows: np.asarray(kernels[metric](rows, packed))


class SimSimd(_PairwisePeer):
    """simsimd's `cdist`: one pairwise kernel call per row and query."""

    name = "simsimd"
    packages = ("simsimd",)

    def __init__(self, threads: int) -> None:
        import simsimd

        super().__init__(threads)
        self._cdist = simsimd.cdist

    def _kernel(self, queries: np.ndarray, metric: str) -> Callable[[np.ndarray], np.ndarray]:
        name = {"cosine": "cosine", "dot": "dot", "l2": "sqeuclidean"}[metric]
        return lambda rows: np.asarray(self._cdist(rows, queries, name)).reshape(-1, len(queries))


class _Blas(_KernelPeer):
    """Products of queries and rows by numpy's BLAS, into a buffer that is kept between calls."""

    packages = ("numpy",)

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def prepare(self, data: Dataset) -> None:
        self._vectors = data.vectors
        self._products = np.empty((0, 0), dtype=np.float32)

    def close(self) -> None:
        del self._vectors, self._products

    def _multiply(self, queries: np.ndarray) -> np.ndarray:
        """Dot products, (batch, rows)."""
        shape = len(queries), len(self._vectors)
        if self._products.shape != shape:
            self._products = np.empty(shape, dtype=np.float32)
        if len(queries) == 1:
            np.matmul(self._vectors, queries[0], out=self._products[0])
        else:
            np.matmul(queries, self._vectors.T, out=self._products)
        return self._products


class NumpyBlas(_Blas):
    """sgemv or sgemm, then argpartition in as many threads; the rows' norms are computed beforehand, untimed."""

    name = "numpy BLAS + argpartition"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._pool = ThreadPoolExecutor(threads)

    def prepare(self, data: Dataset) -> None:
        super().prepare(data)
        squares = np.einsum("ij,ij->i", data.vectors, data.vectors)
        self._negated_inverse_norms, self._half_squares = -1.0 / np.sqrt(squares), 0.5 * squares

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        keys = self._multiply(queries)

        def best(part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
            block, columns = keys[part], part[1]
            if metric == "cosine":
                block *= self._negated_inverse_norms[columns]
            elif metric == "dot":
                np.negative(block, out=block)
            else:
                np.subtract(self._half_squares[columns], block, out=block)
            ids = _smallest(block, k)
            return np.take_along_axis(block, ids, 1), ids + columns.start

        batch, rows = keys.shape
        if batch == 1:
            edges = np.linspace(0, rows, self._threads + 1, dtype=int)
            parts = [(slice(0, 1), slice(a, b)) for a, b in pairwise(edges)]
            axis = 1
        else:
            edges = np.linspace(0, batch, self._threads + 1, dtype=int)
            parts = [(slice(a, b), slice(0, rows)) for a, b in pairwise(edges)]
            axis = 0
        return _merge(list(self._pool.map(best, parts)), axis, k)

    def close(self) -> None:
        super().close()
        del self._negated_inverse_norms, self._half_squares


class SgemmAlone(_Blas):
    """The matrix product of a batch and nothing else, no norms, no top k: what a batch search is held against."""

    name = "numpy sgemm alone"
    returns_ids = False

    def declines(self, workload: Workload) -> str | None:
        return super().declines(workload) or (None if workload.batch > 1 else "for batches only")

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        self._multiply(queries)
        return ()


class ReadAlone(_KernelPeer):
    """All rows read once and nothing kept, in as many threads: what one query's search is held against."""

    name = "reading the rows alone"
    packages = ("numpy",)
    returns_ids = False

    def __init__(self, threads: int) -> None:
        self._threads, self._pool = threads, ThreadPoolExecutor(threads)

    def declines(self, workload: Workload) -> str | None:
        return super().declines(workload) or (None if workload.batch == 1 else "for one query only")

    def prepare(self, data: Dataset) -> None:
        self._shares = np.array_split(data.vectors.reshape(-1), self._threads)

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        read_all(self._pool, self._shares)
        return ()

    def close(self) -> None:
        del self._shares


KERNEL_PEERS: tuple[type[Peer], ...] = (
    ReadAlone, SgemmAlone, NumpyBlas, NumKong, SimSimd, Usearch, Faiss, FaissPanorama, HnswlibBruteForce)
