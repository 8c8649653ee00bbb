"""Energy: constants with sources, the chip's account from counters, digital and GPU references."""

from neuromorphic_llm.energy.account import EnergyAccount, account
from neuromorphic_llm.energy.constants import Range, load_constants
from neuromorphic_llm.energy.digital import fp16_reference, int8_reference
from neuromorphic_llm.energy.gpu_records import records_for
from neuromorphic_llm.energy.memories import Memory, chip_memories
from neuromorphic_llm.energy.rivals import RIVALS, rival_accounts

__all__ = [
    "RIVALS",
    "EnergyAccount",
    "Memory",
    "Range",
    "account",
    "chip_memories",
    "fp16_reference",
    "int8_reference",
    "load_constants",
    "records_for",
    "rival_accounts",
]
