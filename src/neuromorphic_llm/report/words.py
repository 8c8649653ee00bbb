"""Terms of the report, their meaning, and the pages that define them."""

from __future__ import annotations

TERMS = {
    "token": "a word or a piece of one; the model reads and writes tokens",
    "visible tokens": "the context: the tokens that the model looks back at when it writes the next one, itself included",
    "dense model": "the pretrained model as it is published, every number of it multiplied for every token",
    "spiking network": "the same model, its activations coded as trains of spikes; converted without training",
    "spikes per activation": "mean spikes that an activation (an input of a layer) is coded by, weighted by the weights that each reaches",
    "perplexity": "how surprised a model is by a text: e to the mean loss in nats per token; lower is better",
    "KL divergence": "how far the spiking network's predictions lie from the dense model's, nats per token; 0 is equal",
    "prefill, decoding": "reading the prompt; then writing one token after another, of which most figures are",
    "INT8, FP16": "the same model on an ideal digital accelerator of the same process, every weight multiplied for every token; "
    "weights wait in registers beside their multipliers, or are read from SRAM",
    "nominal (low to high)": "a figure at the most likely constants, and with all constants at their low or all at their high bounds",
    "crossbar": "a grid of memristive cells that holds weights and adds the currents of rows on which a spike arrives",
    "synaptic operation": "one spike that meets one weight",
}
"""Term -> its meaning, for the terms that the page uses."""

PAGES = {
    "energy": "where each joule comes from: constants, sources, bounds, and the INT8 and FP16 references",
    "evaluation": "how perplexity and its comparisons are measured",
    "timing": "how many cycles everything takes, and what waits for what",
    "numerics": "what every operation computes, to the bit",
    "conversion": "how a model becomes a spiking network",
    "compiler": "how a network becomes a chip program",
    "formats": "every field of report.json",
}
"""Page of the reference -> what it answers."""
