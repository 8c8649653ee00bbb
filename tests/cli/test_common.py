"""Progress bars of several kinds of work."""

from __future__ import annotations

from rich.progress import Progress

from neuromorphic_llm.terminal import WorkBars


def test_a_bar_for_each_kind_of_work() -> None:
    bars = Progress(disable=True)
    work = WorkBars(bars)
    work.show("points", 0, 2)
    work.show("fine-tune", 1, 9, "fine-tune, KL 0.5")
    work.hide()
    assert not any(task.visible for task in bars.tasks)
    work.show("points", 1, 3)
    found = [(task.description, task.completed, task.total, task.visible) for task in bars.tasks]
    assert found == [("points", 1, 3, True), ("fine-tune, KL 0.5", 1, 9, False)]
