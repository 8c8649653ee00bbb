"""`make synth`: synthesises the units of the RTL, runs them at gate level and prints what they take."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from neuromorphic_llm.cli.outputs import check_writable_file
from neuromorphic_llm.energy.rtl_units import RTL_UNITS
from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.rtl.synthesis.mapping import map_module, missing_yosys
from neuromorphic_llm.rtl.synthesis.measure import Measurement, Unit, measure
from neuromorphic_llm.rtl.synthesis.netlist import generic_size
from synthesis.libraries import GT2N, IHP, folder, macro_area_per_bit, targets
from synthesis.report import Report


def main() -> int:
    """Exit code: 1 if a unit failed, 2 for a wrong argument."""
    from synthesis.compare import compare
    from synthesis.units import UNITS

    names = [unit.name for unit in UNITS]
    parser = argparse.ArgumentParser(prog="make synth", description=__doc__)
    parser.add_argument("units", nargs="*", metavar="UNIT", help=f"units to take (default: all): {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON, after every unit")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown, after every unit")
    arguments = parser.parse_args()
    try:
        for option, path in (("--json", arguments.json), ("--markdown", arguments.markdown)):
            if path is not None:
                check_writable_file(path, option)  # before the work
    except UsageError as error:
        parser.error(str(error))
    if unknown := sorted(set(arguments.units) - set(names)):
        parser.error(f"unknown unit {unknown[0]!r}; the units are {', '.join(names)}")
    if reason := missing_yosys():
        sys.stderr.write(reason + "\n")
        return 1
    report = Report(macro_area_per_bit())
    libraries = targets()
    if not libraries:
        sys.stderr.write(f"no liberty libraries in {folder()}: generic gates and depth only; name their folder in NMLLM_PDK\n")
    for unit in UNITS:
        if arguments.units and unit.name not in arguments.units:
            continue
        found: dict[str, Measurement] = {}
        for target in libraries or [None]:
            begin = time.monotonic()
            try:
                measurement = measure(unit, target) if target else _generic(unit)
            except (NeuromorphicLLMError, AssertionError) as error:
                report.fail(unit.name, target.name if target else "generic", str(error))
                continue
            finally:
                sys.stderr.write(f"{unit.name} {target.name if target else 'generic'} {time.monotonic() - begin:.0f} s\n")
            found[measurement.target] = measurement
            report.measurements.append(measurement)
        comparison = compare(found, RTL_UNITS[unit.name], IHP, GT2N) if unit.name in RTL_UNITS else None
        if comparison:
            report.comparisons.append(comparison)
        if arguments.json:
            report.write_json(arguments.json)
        if arguments.markdown:
            report.write_markdown(arguments.markdown)
    report.show()
    return 1 if report.failures else 0


def _generic(unit: Unit) -> Measurement:
    gates, flips, depth, boxes = generic_size(map_module(unit.module, unit.spec, unit.parameters, None))
    memories: dict[str, int] = {}
    for box in boxes:
        memories[box.module] = memories.get(box.module, 0) + box.bits
    return Measurement(unit.name, "generic", gates + flips, flips, 0.0, depth, 0.0, 0.0, memories)


if __name__ == "__main__":
    sys.exit(main())
