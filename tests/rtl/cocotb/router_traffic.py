"""Random flits through one router, driven by what it accepts, and where each of them must go."""

from __future__ import annotations

from collections import deque
from random import Random

from stepper import Stepper

from neuromorphic_llm.chip.spec import ChipSpec

ROUTES = 32
PORTS = range(5)
LOCAL = 4


async def router_traffic(stepper: Stepper, spec: ChipSpec, seed: int, cycles: int, idle: float, backpressure: float) -> None:
    """Every flit leaves by each output of its route once, in the order in which it came in by its input; no other flit leaves."""
    random = Random(seed)
    await stepper.reset()
    await stepper.step({f"in{n}_valid": 0 for n in PORTS}, ())
    masks = [random.randrange(1, 32) for _ in range(ROUTES)]
    for route, mask in enumerate(masks):
        await stepper.step({"cfg_valid": 1, "cfg_address": route, "cfg_data": mask}, ())
    await stepper.step({"cfg_valid": 0}, ())
    due: list[list[deque[int]]] = [[deque() for _ in PORTS] for _ in PORTS]  # [output][input] flits
    offered: list[int | None] = [None] * 5
    outputs = [f"in{n}_ready" for n in PORTS] + [f"out{n}_{part}" for n in PORTS for part in ("valid", "flit")]
    serial = 0
    remaining = cycles
    while remaining > 0 or any(flits for output in due for flits in output) or any(flit is not None for flit in offered):
        remaining -= 1
        assert remaining > -200 * cycles, "a flit was lost"
        inputs = {}
        for n in PORTS:
            if offered[n] is None and remaining > 0 and random.random() >= idle:
                serial += 1
                # route, flag and tag above the payload of 64 bits
                offered[n] = random.randrange(ROUTES) << 81 | random.getrandbits(17) << 64 | serial << 3 | n
            inputs[f"in{n}_valid"] = int(offered[n] is not None)
            # without valid the flit is anything
            inputs[f"in{n}_flit"] = random.getrandbits(64) if offered[n] is None else offered[n]
        ready = [random.random() >= backpressure for _ in range(4)]
        values = await stepper.step(inputs | {f"out{n}_ready": int(ready[n]) for n in range(4)}, outputs)
        for n in PORTS:
            if values[f"out{n}_valid"] and (n == LOCAL or ready[n]):
                flit = values[f"out{n}_flit"]
                assert (flit & 7) in PORTS and due[n][flit & 7], f"output {n}: {flit:x} was not due"
                assert due[n][flit & 7].popleft() == flit, f"output {n}: {flit:x} is lost, repeated or out of order"
        for n in PORTS:
            flit = offered[n]
            if flit is not None and values[f"in{n}_ready"]:
                for output in PORTS:
                    if masks[flit >> 81] >> output & 1:
                        due[output][n].append(flit)
                offered[n] = None
