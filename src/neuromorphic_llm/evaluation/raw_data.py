"""Rows of data sets in the files that their authors and the hub offer: parquet, JSON lines, gzip, zip."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from neuromorphic_llm.errors import DataError, UsageError


def rows(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The first rows of a parquet file or of a file with one JSON object per line. Raises DataError naming file and line."""
    found = _parquet(path) if path.name.endswith(".parquet") else _objects(path)
    yield from islice(found, limit)


def lines(path: Path, limit: int | None = None) -> list[str]:
    """The first lines of a text file, gzipped or not, without their ends. DataError if it cannot be read."""
    try:
        with path.open("rb") as file, io.TextIOWrapper(_unzipped(path, file), encoding="utf-8", newline="\n") as text:
            return [line.removesuffix("\n") for line in islice(text, limit)]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); fetch the file again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch the file again") from error


def _unzipped(path: Path, file: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[return-value]


def member(path: Path, name: str) -> bytes:
    """The file whose path in a zip archive ends with `name`. DataError if there is none or the archive is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [each for each in archive.namelist() if each.split("/")[-1] == name]
            if not found:
                raise DataError(f"{path} holds no {name}; give the archive that the data set's authors offer")
            return archive.read(found[0])
    except (zipfile.BadZipFile, OSError, zlib.error) as error:
        raise DataError(f"{path} is no zip archive, or damaged ({error}); fetch the file again") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("parquet files need the package pyarrow; install it with pip install 'neuromorphic-llm[zero-shot]'")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no parquet file, or damaged ({str(error).splitlines()[0]}); fetch the file again") from error


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({error}); fetch the file again") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not a JSON object; fetch the file again")
        yield row
