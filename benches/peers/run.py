"""vexact and its peers, side by side in one run. `python benches/peers/run.py --help` says what can be chosen."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path

import machine
from terms import GROUPS, METRICS

RESULTS = Path(__file__).resolve().parent / "results"


def _counts(text: str) -> tuple[int, ...]:
    """`10k,100k,1m` -> (10000, 100000, 1000000)."""
    zeros = text.lower().replace("k", "000").replace("m", "000000").split(",")
    if not all(number.isdecimal() and int(number) > 0 for number in zeros):
        raise argparse.ArgumentTypeError(f"expected counts such as 1,16 or 10k,1m, got {text!r}")
    return tuple(map(int, zeros))


def _percents(text: str) -> tuple[int, ...]:
    """`100,10,1` -> (100, 10, 1)."""
    percents = _counts(text)
    if max(percents) > 100:
        raise argparse.ArgumentTypeError(f"expected percents from 1 to 100, got {text!r}")
    return percents


def _names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names out of `allowed`."""
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if unknown := set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected {', '.join(allowed)}")
        return chosen
    return names


def _positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def _arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute or two: cosine, one size, few rounds")
    parser.add_argument("--only", type=_names(GROUPS), default=GROUPS, metavar="GROUP",
                        help="kernel, sql, ways (comma-separated)")
    parser.add_argument("--peers", type=lambda text: tuple(text.split(",")), default=(), metavar="TEXT",
                        help="only peers whose name contains one of these")
    parser.add_argument("--data", choices=("synthetic", "real", "both"), default="both")
    parser.add_argument("--rows", type=_counts, metavar="N", help="sizes of synthetic data, e.g. 10k,100k,1m")
    parser.add_argument("--dims", type=_counts, metavar="N", help="dims of synthetic data, e.g. 96,128,384,768,1536")
    parser.add_argument("--batches", type=_counts, metavar="N",
                        help="queries searched at once, e.g. 1,16,256 (kernel group)")
    parser.add_argument("--metrics", type=_names(METRICS), help="cosine, dot, l2")
    parser.add_argument("--selectivity", type=_percents, metavar="PERCENT", help="e.g. 100,10,1 (sql group)")
    parser.add_argument("--k", type=_positive, default=10)
    parser.add_argument("--rounds", type=_positive,
                        help="most rounds of a row (15; with --quick 5); 3 when they are slow")
    parser.add_argument("--threads", type=_positive, default=2)
    parser.add_argument("--json", type=Path, nargs="?", metavar="PATH",
                        const=RESULTS / f"{datetime.date.today().isoformat()}.json",
                        help="write the record; without PATH to results/<date>.json beside this program")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the tables as Markdown")
    return parser.parse_args()


def main() -> int:
    """Run and report. 0 even where vexact loses; 1 where vexact itself answered wrong."""
    arguments = _arguments()
    machine.limit_threads(arguments.threads)
    # Only now, as the libraries read the limits when they are loaded.
    import plan
    import report
    from suite import Suite

    options = plan.Options(groups=arguments.only, data=arguments.data, rows=arguments.rows, dims=arguments.dims,
                           batches=arguments.batches, metrics=arguments.metrics, selectivities=arguments.selectivity,
                           k=arguments.k, quick=arguments.quick)
    rounds = arguments.rounds or (5 if arguments.quick else 15)
    suite = Suite(arguments.threads, rounds, budget_s=1.0 if arguments.quick else 5.0, only_peers=arguments.peers)
    suite.run(plan.sections(options), options.largest_batch)

    described = machine.describe(arguments.threads, suite.packages)
    print(report.as_text(suite.results, described))
    if arguments.json is not None:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()
                    if name not in ("json", "markdown")} | {"rounds": rounds}
        report.write_json(arguments.json, suite.results, described, settings)
    if arguments.markdown is not None:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(report.as_markdown(suite.results, described))
    return int(any(row.subject_answer.startswith("wrong") for row in suite.results.rows))


if __name__ == "__main__":
    sys.exit(main())
