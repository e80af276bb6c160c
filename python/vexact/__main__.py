"""The command `vexact`, also as `python -m vexact`: the same program as the Rust crate's."""

import signal
import sys

from . import _native


def main() -> int:
    """Runs the command of `sys.argv` and returns the exit code."""
    if sys.stdout is None:
        # The first file that the command opens would get its number.
        if sys.stderr is not None:
            print("error: expected a standard output for the answer, got a closed one", file=sys.stderr)
        return 1
    # Ctrl-C ends the process, as any program: Python's handler would not run before the command ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.cli_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
