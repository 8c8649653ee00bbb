"""The cocotb tests of every unit: traffic, and reset in the middle of it. NMLLM_PROTOCOL (JSON) says which unit, its size, how long."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from random import Random
from typing import Any

import cocotb
from cocotb.task import bridge
from protocol_units import UNITS, Unit
from router_traffic import router_traffic
from script_bench import ScriptBench
from stepper import Stepper, StoppedError

from neuromorphic_llm.rtl.build import Port

SETTINGS = json.loads(os.environ["NMLLM_PROTOCOL"])
UNIT: Unit = UNITS[SETTINGS["unit"]]
SIZE = list(UNIT.sizes)[SETTINGS["size"]]
CYCLES: int = SETTINGS["cycles"]


async def scenario(stepper: Stepper, seed: int, idle: float, backpressure: float) -> None:
    """Random work from reset to its end, every output compared with what it must be."""
    if UNIT.scenario is None:
        await router_traffic(stepper, SIZE, seed, CYCLES, idle, backpressure)
        return
    ports = [Port(**entry | {"shape": tuple(entry["shape"])}) for entry in SETTINGS["ports"]]
    bench: Any = ScriptBench(stepper, UNIT.top, ports)
    await bridge(UNIT.scenario)(bench, SIZE, seed, CYCLES, idle, backpressure)


async def start(dut: Any) -> Stepper:
    """The unit after its first reset, all inputs 0."""
    stepper = Stepper(dut, UNIT.monitors(), SETTINGS["seed"])
    for port in SETTINGS["ports"]:
        if not port["output"]:
            stepper.clear(port["name"])
    await stepper.reset(2)
    return stepper


@cocotb.test()
async def traffic(dut: Any) -> None:
    """Every pair of idle cycles and backpressure, with the monitors on."""
    stepper = await start(dut)
    for seed, (idle, backpressure) in enumerate(UNIT.pauses):
        await scenario(stepper, seed, idle, backpressure)
    dut._log.info("%d cycles", stepper.cycles)


@cocotb.test()
async def reset_in_the_middle(dut: Any) -> None:
    """A cycle of `rst` anywhere, inputs left as they were: what follows is as after the first reset."""
    stepper = await start(dut)
    random = Random(SETTINGS["seed"])
    for cut in range(SETTINGS["cuts"]):
        stepper.limit = stepper.cycles + random.randrange(20, CYCLES)
        with suppress(StoppedError):
            await scenario(stepper, 100 + cut, *random.choice(UNIT.pauses))
        stepper.limit = None
        await stepper.reset()
        await scenario(stepper, cut, *random.choice(UNIT.pauses))
    dut._log.info("%d cycles", stepper.cycles)
