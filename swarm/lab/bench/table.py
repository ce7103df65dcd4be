"""The figures for people: every field of `bench.json`, the bare loop beside what it measures."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swarm.lab.bench.figures import BenchResult, DeliveryResult
from swarm.primitives.limits import HEARTBEAT_MS


def render(result: BenchResult) -> RenderableType:
    """Return what `swarm bench` prints."""
    return Group(
        _headline(result),
        _primitives(result),
        _commits(result),
        _ratio(result),
        _agent(result),
        _simulator(result),
    )


def render_delivery(result: DeliveryResult) -> RenderableType:
    """Return what `swarm bench --delivery` prints."""
    found = result.delivery
    mib = found.image_bytes // (1024 * 1024)
    return Group(
        _headline(result),
        _two_columns(
            f"{mib} MiB to {found.devices} devices",
            (
                (
                    f"frames of {found.chunk_bytes // 1024} KiB, the client's bulk",
                    f"{found.bulk_mb_per_s:.1f} MB/s",
                ),
                ("chunks, signed and checked", f"{found.chunks_mb_per_s:.1f} MB/s"),
            ),
        ),
        _two_columns(
            f"\n{found.commits_per_s} commits a second",
            (
                ("alone, p50", f"{found.idle_p50_ms:.2f} ms"),
                ("alone, p99", f"{found.idle_p99_ms:.2f} ms"),
                (
                    f"beside {found.chunks_beside_mb_per_s:.2f} MB/s of chunks, p50",
                    f"{found.loaded_p50_ms:.2f} ms",
                ),
                (
                    f"beside {found.chunks_beside_mb_per_s:.2f} MB/s of chunks, p99",
                    f"{found.loaded_p99_ms:.2f} ms",
                ),
            ),
        ),
        Text(
            f"\n  chunks reach {found.bulk_share:.0%} of the same client's bulk;"
            f" commits beside them take {found.p99_ratio:.2f} times as long (p99)\n",
            style="bold",
        ),
    )


def _headline(result: BenchResult | DeliveryResult) -> Text:
    machine, broker = result.machine, result.broker
    return Text(
        f"{machine.cpu}, {machine.cores} cores, {machine.arch}, Python {machine.python}\n"
        f"broker {broker.url}, {broker.kind}\n"
    )


def _primitives(result: BenchResult) -> Table:
    found = result.primitives
    return _two_columns(
        "parts",
        (
            ("sign", f"{found.sign_us:.1f} us"),
            ("verify", f"{found.verify_us:.1f} us"),
            ("encode one vote", f"{found.encode_us:.1f} us"),
            ("decode one vote", f"{found.decode_us:.1f} us"),
            ("one synced write", f"{found.sync_us:.0f} us"),
            ("over the broker and back, p50", f"{found.broker_rtt_p50_ms:.2f} ms"),
            ("over the broker and back, p99", f"{found.broker_rtt_p99_ms:.2f} ms"),
        ),
    )


def _commits(result: BenchResult) -> Table:
    ours, bare = result.commit, result.bare_loop
    table = Table(box=None, padding=(0, 2))
    table.add_column(f"commit, {ours.devices} devices", min_width=34)
    table.add_column("swarm", justify="right")
    table.add_column("bare loop", justify="right")
    rows = (
        ("one at a time, p50", f"{ours.low_load_p50_ms:.2f} ms", f"{bare.p50_ms:.2f} ms"),
        ("one at a time, p99", f"{ours.low_load_p99_ms:.2f} ms", f"{bare.p99_ms:.2f} ms"),
        ("blocks, one submission each, in turn", "", f"{bare.blocks_per_s:.0f}/s"),
        ("submissions of one command", f"{ours.single_per_s:.0f}/s", f"{bare.submissions_per_s:.0f}/s"),
        (f"commands, {ours.bundle} in a submission", f"{ours.bundled_commands_per_s:.0f}/s", ""),
        ("disk of one device, per block", f"{ours.disk_bytes_per_commit:.0f} bytes", ""),
    )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _ratio(result: BenchResult) -> Text:
    return Text(
        f"\n  one commit at low load takes {result.low_load_ratio:.2f} bare loops (p50)\n", style="bold"
    )


def _agent(result: BenchResult) -> Table:
    agent, restart = result.agent, result.agent.restart_s_at_entries
    return _two_columns(
        "one agent",
        (
            ("resident memory", f"{agent.rss_mb:.1f} MB"),
            ("growth at full load, caches filling", f"{agent.rss_growth_mb_per_min:.1f} MB/min"),
            ("idle, of one core", f"{agent.idle_cpu_percent:.2f} %"),
            ("idle, messages", _messages(agent.idle_publishes_per_min)),
            (f"restart with {restart.entries} entries in the log", f"{restart.seconds:.2f} s"),
        ),
    )


def _messages(per_min: float | None) -> str:
    beat_s = HEARTBEAT_MS // 1000
    return f"- (watched less than a heartbeat, {beat_s} s)" if per_min is None else f"{per_min:.1f}/min"


def _simulator(result: BenchResult) -> Table:
    found = result.simulator
    return _two_columns(
        "simulator, greenhouse, one core",
        (
            ("virtual time", f"{found.virtual_s_per_wall_s:.1f} times real time"),
            ("events", f"{found.events_per_s:.0f}/s"),
        ),
    )


def _two_columns(title: str, rows: tuple[tuple[str, str], ...]) -> Table:
    table = Table(box=None, padding=(0, 2))
    table.add_column(title, min_width=34)
    table.add_column("", justify="right")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    return table
