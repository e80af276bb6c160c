"""The exceptions of vexact. Each also is the built-in exception that fits, so that either can be caught."""


class VexactError(Exception):
    """Every failure of the engine."""


class InvalidRequestError(VexactError, ValueError, RuntimeError):
    """The request cannot be met as it is: an unknown table or column, a bad query vector, SQL that cannot be planned, a file
    whose content is not what it should be. The message names the thing, what was expected and what came. It is a `ValueError`
    and a `RuntimeError`: code that catches either goes on to work."""


class SourceNotFoundError(VexactError, FileNotFoundError):
    """A file, or the folder to write it into, is not there."""


class SourceIOError(VexactError, OSError):
    """The operating system refused to read or write."""


class ResourcesExhaustedError(VexactError, MemoryError):
    """A query needs more memory than the session's limit."""


class EngineError(VexactError, RuntimeError):
    """A failure of the replication engine: a statement, a value or a call that it refuses, or SQLite does."""


class ExecutionError(VexactError, RuntimeError):
    """A query failed while it ran."""


class QueryTimeoutError(ExecutionError, EngineError, TimeoutError):
    """A query took longer than it may."""


class InternalError(ExecutionError, EngineError):
    """A fault of vexact: native code panicked. The message names the statement or the file; please report it with them. Sessions and
    engines go on."""


class BitableClientError(VexactError, RuntimeError):
    """Feishu refused a request, could not be reached, or answered what is no answer. `code`: the API's own; `status`: HTTP's."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class MissingDependencyError(VexactError, ImportError):
    """A package that an optional part of vexact needs is not installed."""
