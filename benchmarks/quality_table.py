"""Perplexity against spikes per activation, beside INT8, INT6 and input thresholding on the same text.

    python benchmarks/quality_table.py smollm2-135m --task wikitext2 --limit-tokens 65536

One calibration serves all conversions. Prints one row a variant.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.text import calibration_windows, fitting_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.evaluation.balancing import balanced
from neuromorphic_llm.evaluation.language_model import LanguageModelResult, evaluate_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.quality import CALIBRATION_WINDOWS
from neuromorphic_llm.evaluation.quantisers import everywhere, integer_activations, largest_activations, quantised
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.models.checkpoint import load_checkpoint
from table_run import table_parser, text_of

QUANTISERS = {
    "INT8, abs-max": integer_activations(8),
    "INT6, abs-max": integer_activations(6),
    "largest 75 % of inputs": largest_activations(0.75),
    "largest 60 % of inputs": largest_activations(0.6),
    "largest 50 % of inputs": largest_activations(0.5),
}
BALANCED = {"INT8, SmoothQuant": 8, "INT6, SmoothQuant": 6}
"""Name -> bits of the activations."""


def main() -> None:
    """Convert, evaluate and print."""
    parser = table_parser(__doc__)
    parser.add_argument("--spikes", type=float, nargs="+", default=[1.0, 1.25, 1.5, 2.0])
    arguments = parser.parse_args()
    device = checked_device(arguments.device)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    text = text_of(arguments, tokenizer)
    dense = DenseModel(checkpoint.dense_model(device=device))

    def evaluate(model: ScoredModel) -> LanguageModelResult:
        return evaluate_text(model, text, window=arguments.window, batch=8 if device.type == "cuda" else 1)

    table = Table("variant", "spikes per activation", "perplexity", title=f"{checkpoint.name}, {arguments.task}, {len(text.ids):,} tokens")

    def row(*cells: str) -> None:
        table.add_row(*cells)
        print(*cells, sep=", ", flush=True)  # as it goes: the whole table takes a while

    row("dense float32", "-", f"{evaluate(dense).perplexity:.2f}")
    for name, transform in QUANTISERS.items():
        with quantised(dense.model, everywhere(transform)):
            row(f"{name}, 8-bit weights", "-", f"{evaluate(dense).perplexity:.2f}")
    windows = calibration_windows(tokenizer)
    for name, bits in BALANCED.items():
        with balanced(dense.model, fitting_windows(windows[:CALIBRATION_WINDOWS], dense.max_positions), bits):
            row(f"{name}, 8-bit weights", "-", f"{evaluate(dense).perplexity:.2f}")
    calibration = calibrate_checkpoint(checkpoint, windows, device=arguments.device)
    for spikes in arguments.spikes:
        try:
            network = convert(checkpoint, ConvertConfig(spikes=spikes), windows, calibration=calibration, device=arguments.device)
        except ConversionError as error:  # the other rows go on
            row(f"spiking, asked {spikes:g}", "-", f"failed: {error}")
            continue
        model = SpikingModel(network.functional(arguments.device))
        perplexity = evaluate(model).perplexity
        row(f"spiking, asked {spikes:g}", f"{model.decoder.statistics.spikes_per_activation():.3f}", f"{perplexity:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
