"""Entry point of `nmllm` and `python -m neuromorphic_llm.cli`: imports nothing heavy, so that Ctrl-C is handled from the start."""

from __future__ import annotations

import os
import signal


def _leave(*_: object) -> None:
    """End at once: while modules are still being imported there is nothing to clean up."""
    os.write(2, b"nmllm: error: interrupted\n")
    os._exit(130)


def main() -> None:
    """Run the command line of sys.argv; exit code 130 on Ctrl-C, whenever it comes."""
    # Where the signal is ignored, as under nohup, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from neuromorphic_llm.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
