"""What pyproject.toml cannot say: some folders beside src belong to an installed package too (neuromorphic_llm/repository.py)."""

from __future__ import annotations

import os
import shutil
from glob import glob

from setuptools import setup
from setuptools.command.build_py import build_py

PATTERNS = (
    *("rtl/**/*.sv", "examples/*.txt", "benchmarks/**/*.py", "benchmarks/membrane/*.cir", "benchmarks/membrane/*.lib", "training/*.py"),
    *("tests/models/story.txt", "docs/reference/**/*.md"),
)
FOLDER = os.path.join("neuromorphic_llm", "repository_files")


class BuildWithRepositoryFiles(build_py):
    """Copies what matches PATTERNS into the package; an editable install finds the files where they are."""

    def run(self) -> None:
        """Build the package, then its copy of the files, from nothing: a build folder may hold files that are gone."""
        super().run()
        if self.editable_mode:
            return
        shutil.rmtree(os.path.join(self.build_lib, FOLDER), ignore_errors=True)
        for copy, source in self._copies().items():
            self.mkpath(os.path.dirname(copy))
            self.copy_file(source, copy, preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """Files that the package is made of."""
        return [*super().get_source_files(), *self._copies().values()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Files that the package consists of."""
        return [*super().get_outputs(include_bytecode), *self._copies()]

    def get_output_mapping(self) -> dict[str, str]:
        """Each file of the package -> the one it is made of."""
        return super().get_output_mapping() | self._copies()

    def _copies(self) -> dict[str, str]:
        sources = sorted(path for pattern in PATTERNS for path in glob(pattern, recursive=True))
        return {os.path.join(self.build_lib, FOLDER, source): source for source in sources}


setup(cmdclass={"build_py": BuildWithRepositoryFiles})
