"""The exceptions of vexact. Each is also the corresponding built-in exception, so that either can
be caught."""


class VexactError(Exception):
    """Base class of all failures of the engine."""


class InvalidRequestError(VexactError, ValueError, RuntimeError):
    """The request is invalid: an unknown table or column, a bad query vector, SQL that cannot be
    planned, a file with unexpected content. The message has the name, the expected value and the
    actual one. It is a `ValueError` and a `RuntimeError`: code that catches either continues to
    work."""


class SourceNotFoundError(VexactError, FileNotFoundError):
    """A file, or the folder to write it into, does not exist."""


class SourceIOError(VexactError, OSError):
    """The operating system refused to read or write."""


class ResourcesExhaustedError(VexactError, MemoryError):
    """A query needs more memory than the session's limit."""


class EngineError(VexactError, RuntimeError):
    """A failure of the replication engine: it or SQLite rejects a statement, a value or a call."""


class ExecutionError(VexactError, RuntimeError):
    """A query failed while it ran."""


class QueryTimeoutError(ExecutionError, EngineError, TimeoutError):
    """A query exceeded its timeout."""


class InternalError(ExecutionError, EngineError):
    """A fault of vexact: native code panicked. The message names the statement or the file; please
    report it with them. Sessions and engines remain usable."""


class BitableClientError(VexactError, RuntimeError):
    """Feishu rejected a request, could not be reached, or sent an invalid response. `code`: the
    API's own; `status`: HTTP's."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class MissingDependencyError(VexactError, ImportError):
    """A package that an optional part of vexact needs is not installed."""
