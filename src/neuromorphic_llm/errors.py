"""Errors that users see: each says what was wrong, where, and what to do."""


class NeuromorphicLLMError(Exception):
    """Base of all errors this package raises on purpose; the command line prints it as one line, exit code 1."""


class UsageError(NeuromorphicLLMError):
    """An argument cannot mean anything valid (exit code 2)."""


class CheckpointError(NeuromorphicLLMError):
    """A checkpoint is missing, truncated, damaged or of an architecture that is not supported."""


class ArtefactError(NeuromorphicLLMError):
    """A network, program or calibration folder is missing, damaged, or written by a newer version."""


class ConversionError(NeuromorphicLLMError):
    """A model cannot be converted as asked."""


class CompileError(NeuromorphicLLMError):
    """A network does not fit the given chip, or the graph is not valid."""


class SimulationError(NeuromorphicLLMError):
    """A simulation cannot start or broke one of its invariants."""


class DataError(NeuromorphicLLMError):
    """An evaluation data set is missing or not in the expected format."""


class NeuromorphicLLMWarning(UserWarning):
    """Something that the user should know though the work goes on; the command line prints it as one line on standard error."""
