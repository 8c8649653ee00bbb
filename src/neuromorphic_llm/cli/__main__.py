"""`python -m neuromorphic_llm.cli`."""

from neuromorphic_llm.cli.main import main

main()
