"""A small dense model and the same shape as a random spiking network."""

from __future__ import annotations

import pytest

from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    return load_checkpoint("random-tiny")


@pytest.fixture(scope="session")
def dense(tiny: Checkpoint) -> DenseModel:
    return DenseModel(tiny.dense_model())


@pytest.fixture
def spiking(tiny: Checkpoint) -> SpikingModel:
    return SpikingModel(FunctionalDecoder(random_decoder(0, config=tiny.config)))
