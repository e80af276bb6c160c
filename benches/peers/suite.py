"""The run: load a source, check every answer, then time each peer in turn with vexact."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

import plan
import sources
from kernel_peers import KERNEL_PEERS
from measure import alternate, read_bandwidth
from protocol import Dataset, Peer, Workload
from reference import Reference, Verdict
from sql_peers import SQL_PEERS
from vexact_peers import WAYS_IN, VexactOrderBy, VexactPython

_QUERY_SETS = 5
"""Different single queries that the rounds rotate through."""
FLOOR = "floor"
"""The answer of a system that does only a part of the work and returns no ids."""
_SUBJECTS: dict[str, type[Peer]] = {"kernel": VexactPython, "sql": VexactOrderBy, "ways": VexactPython}
_PEERS: dict[str, tuple[type[Peer], ...]] = {"kernel": KERNEL_PEERS, "sql": SQL_PEERS, "ways": WAYS_IN}


@dataclass(frozen=True)
class Row:
    """One workload with one peer. Times are medians in milliseconds, None for a system that is absent or wrong."""

    group: str
    workload: str
    rows_read: int
    dim: int
    batch: int
    subject: str
    subject_ms: float | None
    subject_answer: str
    peer: str
    peer_ms: float | None
    peer_answer: str
    ratio: float | None
    """Median over the rounds of peer time / vexact time."""
    ratio_quartiles: tuple[float, float] | None
    rounds: int

    @property
    def is_loss(self) -> bool:
        """True where vexact was slower than a system that does the same work."""
        return self.ratio is not None and self.ratio < 1.0 and self.is_comparison

    @property
    def is_comparison(self) -> bool:
        """True for two systems that did the same work; False for a floor and between vexact's own ways in."""
        return self.ratio is not None and self.group != "ways" and self.peer_answer != FLOOR


@dataclass
class Results:
    """What a run found."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    bandwidths: list[float] = field(default_factory=list)
    """Read bandwidth in bytes per second, measured before each kernel section and at the end."""

    def skip(self, line: str) -> None:
        """Record and show loudly what is not measured."""
        line = f"SKIPPED: {line}"
        if line not in self.skipped:
            self.skipped.append(line)
            print(line, file=sys.stderr, flush=True)


class Suite:
    """Runs sections with one number of threads; `only_peers` keeps the peers whose name contains one of the texts."""

    def __init__(self, threads: int, rounds: int, budget_s: float, only_peers: tuple[str, ...]) -> None:
        self.results = Results()
        self._threads, self._rounds, self._budget_s, self._only_peers = threads, rounds, budget_s, only_peers

    @property
    def packages(self) -> set[str]:
        """All distributions that a run may use."""
        classes: tuple[type[Peer], ...] = (*KERNEL_PEERS, *SQL_PEERS, VexactPython)
        return {package for peer in classes for package in peer.packages} | {"numpy", "pyarrow"}

    def run(self, sections: Iterable[plan.Section], queries: int) -> None:
        """Run all sections; `queries` is the number of query vectors that each source gets."""
        source: plan.Source | None = None
        data: Dataset | None = None
        reference: Reference | None = None
        for section in sections:
            if section.source != source:
                data = reference = None  # released before the next is made
                source, data = section.source, self._load(section.source, queries)
                reference = Reference(data, _QUERY_SETS) if data is not None else None
            if data is not None and reference is not None:
                self._run_section(section, data, reference)
        self._measure_bandwidth()

    def _load(self, source: plan.Source, queries: int) -> Dataset | None:
        """The data set; for the real one the reference is checked against the shipped ground truth."""
        if source.rows is not None and source.dim is not None:
            return sources.synthetic(source.rows, source.dim, max(queries, _QUERY_SETS))
        loaded = sources.real(max(queries, _QUERY_SETS))
        if isinstance(loaded, str):
            self.results.skip(loaded)
            return None
        data, truth = loaded
        if not sources.FULL.is_file():
            self.results.skip(f"{sources.FULL.name} is absent, the {data.rows}-row sample stands in for it")
        answers = Reference(data, len(truth.rows)).answers(len(truth.rows), sources.TRUTH_K, "cosine", None)
        if not all(np.array_equal(a.rows, rows) for a, rows in zip(answers, truth.rows, strict=True)):
            raise AssertionError(f"the reference disagrees with the ground truth shipped with {data.name}")
        return data

    def _run_section(self, section: plan.Section, data: Dataset, reference: Reference) -> None:
        if section.group == "kernel":
            self._measure_bandwidth()
        subject = self._open(_SUBJECTS[section.group], data)
        verdicts: dict[Workload, Verdict] = {}
        for kind in _PEERS[section.group]:
            if self._only_peers and not any(text in kind.name for text in self._only_peers):
                continue
            peer = self._open(kind, data)
            if peer is None:
                continue
            for workload in section.workloads:
                if reason := peer.declines(workload):
                    if peer.returns_ids:
                        self.results.skip(f"{peer.name}: {reason}")
                    continue
                if subject is not None and workload not in verdicts:
                    verdicts[workload] = self._judge(subject, workload, data, reference)
                self._run_row(section.group, workload, data, reference, subject, verdicts.get(workload), peer)
            peer.close()
        if subject is not None:
            subject.close()

    def _open(self, kind: type[Peer], data: Dataset) -> Peer | None:
        """A prepared peer; None, and a loud line, when its package is missing or it cannot load the data."""
        try:
            peer = kind(self._threads)
            peer.prepare(data)
        except ImportError as error:
            self.results.skip(f"{kind.name}: {error}")
            return None
        except Exception as error:  # any failure of a peer is a line in the report, not the end of the run
            self.results.skip(f"{kind.name} on {data.name}: {type(error).__name__}: {error}")
            return None
        return peer

    def _judge(self, peer: Peer, workload: Workload, data: Dataset, reference: Reference) -> Verdict:
        """Compare the peer's answers to all queries that will be timed with the reference; also its warm-up."""
        kind = "same" if peer.returns_ids else FLOOR
        for first, queries in enumerate(self._query_sets(workload, data)):
            try:
                got = peer.run(queries, workload.k, workload.metric, workload.max_bucket)
            except Exception as error:  # the same: shown as this peer's answer
                return Verdict("wrong", f"{type(error).__name__}: {error}")
            if not peer.returns_ids:
                continue
            if len(got) != len(queries):
                return Verdict("wrong", f"{len(got)} answers to {len(queries)} queries")
            verdict = reference.check(got, first, workload.k, workload.metric, workload.max_bucket)
            if verdict.kind == "wrong":
                return verdict
            if verdict.kind == "ties":
                kind = "ties"
        return Verdict(kind)

    @staticmethod
    def _query_sets(workload: Workload, data: Dataset) -> list[np.ndarray]:
        """The arrays of queries that the rounds rotate through, each (batch, dim)."""
        if workload.batch > 1:
            return [data.queries[:workload.batch]]
        return [data.queries[i:i + 1] for i in range(_QUERY_SETS)]

    def _run_row(self, group: str, workload: Workload, data: Dataset, reference: Reference, subject: Peer | None,
                 subject_verdict: Verdict | None, peer: Peer) -> None:
        peer_verdict = self._judge(peer, workload, data, reference)
        timed_subject = subject if subject_verdict is not None and subject_verdict.kind != "wrong" else None
        subject_ms = peer_ms = ratio = quartiles = None
        rounds = 0
        if peer_verdict.kind != "wrong":
            def call(system: Peer, queries: np.ndarray) -> object:
                return system.run(queries, workload.k, workload.metric, workload.max_bucket)

            timings = alternate(None if timed_subject is None else lambda queries: call(timed_subject, queries),
                                lambda queries: call(peer, queries), self._query_sets(workload, data),
                                self._rounds, self._budget_s)
            peer_ms, rounds = float(np.median(timings.peer)), len(timings.peer)
            if timed_subject is not None:
                subject_ms, ratio = float(np.median(timings.subject)), float(np.median(timings.ratios))
                low, high = np.quantile(timings.ratios, (0.25, 0.75))
                quartiles = float(low), float(high)
        row = Row(group, workload.label(data), len(data.selection(workload.max_bucket)), data.dim, workload.batch,
                  _SUBJECTS[group].name, subject_ms, "absent" if subject_verdict is None else str(subject_verdict),
                  peer.name, peer_ms, str(peer_verdict), ratio, quartiles, rounds)
        self.results.rows.append(row)
        shown = "-" if peer_ms is None else f"{peer_ms:.2f} ms"
        print(f"  {row.workload}: {row.peer} {shown}, {row.peer_answer}", file=sys.stderr, flush=True)

    def _measure_bandwidth(self) -> None:
        self.results.bandwidths.append(read_bandwidth(self._threads))
