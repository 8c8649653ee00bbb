"""`python -m mutants` (make rtl-mutants)."""

from __future__ import annotations

import os
import sys

# Before numpy is loaded: forked processes must not find threads of their parent's; they run one beside the other anyway.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

from mutants.command import main

code = main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)  # at an ordinary end pyslang lists at length what it was not given back
