"""A bar on stderr for long work, so that stdout holds the result alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# The name of a piece of work, how much of it is finished, and how much it is.
ShowProgress = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[ShowProgress]:
    """One bar for each name that is shown; where stderr is no terminal, its last state only."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {}

        def show(name: str, finished: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=finished, total=total)

        yield show
