"""Draws `docs/img/run.svg`: what `swarm run configs/scenarios/greenhouse.yaml` prints, without its longer tables.

Run it from anywhere after a change of what is printed: `.venv/bin/python docs/img/make_picture.py`. It runs the
scenario in the simulator with the seed of the file, so the picture shows a run that everybody can repeat.
"""  # noqa: INP001  -- a script beside the picture it makes, imported by nobody but a test

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.runner import run_loaded
from swarm.lab.scenario.table import render

ROOT: Final = Path(__file__).resolve().parents[2]
SCENARIO: Final = "configs/scenarios/greenhouse.yaml"
PICTURE: Final = ROOT / "docs" / "img" / "run.svg"
COLUMNS: Final = 118

TABLES: Final = ("Devices", "Last decisions", "Suspects: a hint, no evidence")
"""The tables that fit one screen together."""
TEXTS: Final = ("Invariants:",)
"""Beginnings of the lines of text that are shown beside them."""

# Rich's own template names a font on a server of somebody else; this one takes what the reader's machine has.
TEMPLATE: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
  <title>swarm run configs/scenarios/greenhouse.yaml</title>
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px;
      line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""


def draw() -> str:
    """Run the scenario and return the picture as SVG text."""
    scenario = load_scenario(ROOT / SCENARIO)
    whole = render(run_loaded(scenario, engine="sim"), scenario)
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(f"$ swarm run {SCENARIO}", style="bold", highlight=False)
    for part in choose_parts(whole):
        console.print(part)
    svg = console.export_svg(title="swarm run", code_format=TEMPLATE, unique_id="run")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def choose_parts(whole: RenderableType) -> Iterator[RenderableType]:
    """Yield the headline and those parts of the printed result that fit one screen."""
    for index, part in enumerate(flatten(whole)):
        if isinstance(part, Table) and str(part.title) in TABLES:
            yield part
        elif isinstance(part, Text) and index == 0:
            # Without the digest: it changes with every change of the code, and means nothing to the eye.
            yield Text("\n").join(part.split("\n")[:2])
        elif isinstance(part, Text) and part.plain.startswith(TEXTS):
            yield part


def flatten(part: RenderableType) -> Iterator[RenderableType]:
    """Yield the parts of a group, and of groups in it."""
    if isinstance(part, Group):
        for inner in part.renderables:
            yield from flatten(inner)
    else:
        yield part


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
