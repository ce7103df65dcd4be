"""The fields of bench.json: complete, typed, in numbers that JSON knows, and all of them in the table."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
from rich.console import Console

from swarm.lab.bench.figures import (
    AgentFigures,
    BareLoopFigures,
    BenchResult,
    BrokerFigures,
    CommitFigures,
    DeliveryFigures,
    DeliveryResult,
    MachineFigures,
    PrimitiveFigures,
    RestartFigures,
    SimulatorFigures,
    percentile,
)
from swarm.lab.bench.footprint import publishes_per_min
from swarm.lab.bench.table import render, render_delivery

FIELDS = {
    "machine": {"cpu", "cores", "python", "arch"},
    "broker": {"url", "kind"},
    "primitives": {
        "sign_us",
        "verify_us",
        "encode_us",
        "decode_us",
        "sync_us",
        "broker_rtt_p50_ms",
        "broker_rtt_p99_ms",
    },
    "bare_loop": {"p50_ms", "p99_ms", "blocks_per_s", "submissions_per_s"},
    "commit": {
        "devices",
        "low_load_p50_ms",
        "low_load_p99_ms",
        "single_per_s",
        "bundle",
        "bundled_commands_per_s",
        "disk_bytes_per_commit",
    },
    "agent": {
        "rss_mb",
        "idle_cpu_percent",
        "idle_publishes_per_min",
        "rss_growth_mb_per_min",
        "restart_s_at_entries",
    },
    "simulator": {"virtual_s_per_wall_s", "events_per_s"},
}
"""As CONTRACTS has them."""


def a_result() -> BenchResult:
    """Return figures that are all different, so that one in the place of another is seen."""
    return BenchResult(
        machine=MachineFigures(cpu="[bold]abacus[/]", cores=2, python="3.11.0", arch="x86_64"),
        broker=BrokerFigures(url="mqtt://127.0.0.1:1", kind="embedded"),
        primitives=PrimitiveFigures(
            sign_us=101.5,
            verify_us=102.5,
            encode_us=103.5,
            decode_us=104.5,
            sync_us=105.0,
            broker_rtt_p50_ms=1.06,
            broker_rtt_p99_ms=1.07,
        ),
        bare_loop=BareLoopFigures(p50_ms=4.0, p99_ms=4.25, blocks_per_s=203.0, submissions_per_s=204.0),
        commit=CommitFigures(
            devices=4,
            low_load_p50_ms=10.0,
            low_load_p99_ms=12.75,
            single_per_s=301.0,
            bundle=64,
            bundled_commands_per_s=302.0,
            disk_bytes_per_commit=303.0,
        ),
        agent=AgentFigures(
            rss_mb=41.5,
            idle_cpu_percent=0.42,
            idle_publishes_per_min=6.25,
            rss_growth_mb_per_min=-0.5,
            restart_s_at_entries=RestartFigures(entries=4711, seconds=1 / 3),
        ),
        simulator=SimulatorFigures(virtual_s_per_wall_s=50.1, events_per_s=51234.5678),
    )


def test_the_fields_are_those_of_the_contract_and_every_one_has_a_number_or_a_word() -> None:
    data = a_result().to_json()
    assert {section: set(fields) for section, fields in data.items()} == FIELDS
    assert set(data["agent"]["restart_s_at_entries"]) == {"entries", "seconds"}

    def leaves(value: Any) -> list[Any]:
        return (
            [leaf for item in value.values() for leaf in leaves(item)] if isinstance(value, dict) else [value]
        )

    assert all(isinstance(leaf, int | float | str) for leaf in leaves(data))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert msgspec.convert(data, BenchResult).commit == a_result().commit


def test_floats_have_four_significant_digits_and_counts_stay_whole() -> None:
    data = a_result().to_json()
    assert data["simulator"]["events_per_s"] == 51230.0
    assert data["agent"]["restart_s_at_entries"] == {"entries": 4711, "seconds": 0.3333}


def test_the_ratio_is_commit_over_bare_loop() -> None:
    assert a_result().low_load_ratio == 2.5


def test_the_table_shows_every_figure_and_takes_no_orders_from_names() -> None:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False).print(render(a_result()))
    text = out.getvalue()
    assert "[bold]abacus[/], 2 cores, x86_64, Python 3.11.0" in text
    assert "one commit at low load takes 2.50 bare loops" in text
    shown = (
        *("101.5 us", "102.5 us", "103.5 us", "104.5 us", "105 us", "1.06 ms", "1.07 ms"),
        *("4.00 ms", "4.25 ms", "203/s", "204/s", "10.00 ms", "12.75 ms", "301/s", "302/s", "303 bytes"),
        *("41.5 MB", "0.42 %", "6.2/min", "-0.5 MB/min", "4711 entries", "0.33 s", "50.1 times", "51235/s"),
    )
    assert [words for words in shown if words not in text] == []


def test_a_run_too_short_for_a_heartbeat_has_no_messages_instead_of_none() -> None:
    assert publishes_per_min(3, 1.25, 4) is None
    assert publishes_per_min(8, 10.0, 4) == 12.0
    result = a_result()
    short = msgspec.structs.replace(
        result, agent=msgspec.structs.replace(result.agent, idle_publishes_per_min=None)
    )
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False).print(render(short))
    assert "- (watched less than a heartbeat, 10 s)" in out.getvalue()
    assert short.to_json()["agent"]["idle_publishes_per_min"] is None


def test_percentiles_are_measured_values() -> None:
    values = (5.0, 1.0, 4.0, 2.0, 3.0)
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 5.0, 5.0]


def a_delivery() -> DeliveryResult:
    result = a_result()
    return DeliveryResult(
        machine=result.machine,
        broker=result.broker,
        delivery=DeliveryFigures(
            devices=4,
            image_bytes=16 * 1024 * 1024,
            chunk_bytes=32 * 1024,
            bulk_mb_per_s=171.25,
            chunks_mb_per_s=104.75,
            commits_per_s=10,
            chunk_rate_mb_per_s=1.048576,
            chunks_beside_mb_per_s=1.03125,
            idle_p50_ms=21.5,
            idle_p99_ms=40.25,
            loaded_p50_ms=25.125,
            loaded_p99_ms=56.375,
        ),
    )


def test_the_figures_of_a_delivery_are_all_there_and_all_told() -> None:
    result = a_delivery()
    data = json.loads(json.dumps(result.to_json()))
    assert set(data) == {"machine", "broker", "delivery"}
    assert set(data["delivery"]) == set(DeliveryFigures.__struct_fields__)
    text = printed_delivery(result)
    for words in (
        "16 MiB to 4 devices",
        "171.2 MB/s",
        "104.8 MB/s",
        "21.50 ms",
        "40.25 ms",
        "25.12 ms",
        "56.38 ms",
    ):
        assert words in text
    assert "chunks reach 61% of the same client's bulk" in text
    assert "1.40 times as long (p99)" in text


def printed_delivery(result: DeliveryResult) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render_delivery(result))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()
