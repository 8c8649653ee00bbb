"""`nmllm tasks`: what models can be evaluated on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console

if TYPE_CHECKING:
    from neuromorphic_llm.evaluation.tasks import Task

EXAMPLES = """
nmllm tasks
nmllm tasks --json tasks.json
"""

MEASURES = {
    "language-model": "perplexity of a text",
    "summaries": "ROUGE of summaries",
    "zero-shot": "accuracy on questions",
}
"""Kind of a task -> what it measures."""


def command(run: CommandRun) -> None:
    """List the evaluation tasks, and where their data are."""
    from neuromorphic_llm.evaluation.tasks import TASKS

    listed = [_described(task) for task in TASKS.values()]
    table = Table("task", "what it measures", "data")
    for task in listed:
        table.add_row(task["name"], task["measure"], _data(task))
    table.caption = "nmllm fetch --data TASK brings what is not here; nmllm eval MODEL --task TASK uses it."
    console.print(table)
    run.result({"tasks": listed})


def _described(task: Task) -> dict[str, Any]:
    """A task as one entry of the JSON result."""
    from neuromorphic_llm.evaluation.tasks import data_file

    return {
        "name": task.name,
        "kind": task.kind,
        "measure": MEASURES[task.kind],
        "members": task.members,
        "file": task.file,
        "data": data_file(task),
    }


def _data(task: dict[str, Any]) -> str:
    if task["members"]:
        return f"those of {', '.join(task['members'])}"
    if task["file"] is None:
        return "comes with the package"
    return str(task["data"] or f"not here: {task['file']}")
