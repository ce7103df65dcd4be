"""What `swarm bench` found out: the fields of `bench.json` (CONTRACTS), each with its unit in its name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np


class _Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Plain numbers and words."""


class MachineFigures(_Figures, frozen=True, kw_only=True):
    """Where it ran; `cpu` is the model as the system names it."""

    cpu: str
    cores: int
    """Cores this process may use."""
    python: str
    arch: str


class BrokerFigures(_Figures, frozen=True, kw_only=True):
    """What carried the messages; `kind` is `embedded`, what the broker says of itself, or `unknown`."""

    url: str
    kind: str


class PrimitiveFigures(_Figures, frozen=True, kw_only=True):
    """Medians of the parts that everything else is made of."""

    sign_us: float
    verify_us: float
    encode_us: float
    """A frame of one vote."""
    decode_us: float
    """The same, with every check of the wire format."""
    sync_us: float
    """One SQLite transaction of one vote, `synchronous=FULL`."""
    broker_rtt_p50_ms: float
    broker_rtt_p99_ms: float
    """From a QoS 1 publish to its arrival at the same client, one at a time."""


class BareLoopFigures(_Figures, frozen=True, kw_only=True):
    """The measuring stick (`bare_loop`): means of the runs before, between and after the runs of the swarm."""

    p50_ms: float
    p99_ms: float
    blocks_per_s: float
    submissions_per_s: float


class CommitFigures(_Figures, frozen=True, kw_only=True):
    """What the swarm does: four voters, budget `balanced`."""

    devices: int
    low_load_p50_ms: float
    low_load_p99_ms: float
    """From the call of `submit` to the event that says it is in the log, one submission at a time."""
    single_per_s: float
    """Submissions of one command, 64 outstanding over all devices."""
    bundle: int
    bundled_commands_per_s: float
    """Commands, `bundle` of them in a submission."""
    disk_bytes_per_commit: float
    """Growth of one device's store per block of one submission."""


class RestartFigures(_Figures, frozen=True, kw_only=True):
    """Start of a process to its connection, with `entries` in the log of its store."""

    entries: int
    seconds: float


class AgentFigures(_Figures, frozen=True, kw_only=True):
    """What one device costs, the mean of all of them."""

    rss_mb: float
    idle_cpu_percent: float
    """Of one core."""
    idle_publishes_per_min: float | None
    """None when the run was too short to see every device's heartbeat once."""
    rss_growth_mb_per_min: float
    """In the second half of the time under full load, where caches and the log of the run fill; a short run says less."""
    restart_s_at_entries: RestartFigures


class SimulatorFigures(_Figures, frozen=True, kw_only=True):
    """The simulator with `greenhouse`, on one core."""

    virtual_s_per_wall_s: float
    events_per_s: float


class DeliveryFigures(_Figures, frozen=True, kw_only=True):
    """A release on its way to `devices`, from one of them that is a voter; MB are 10^6 bytes."""

    devices: int
    image_bytes: int
    chunk_bytes: int
    bulk_mb_per_s: float
    """Frames of a chunk's size through the same client, unsigned and unread: mean of the runs around the fetches."""
    chunks_mb_per_s: float
    """Chunks asked for, signed, checked and held, over all devices, without a rate cap and without commits."""
    commits_per_s: int
    chunk_rate_mb_per_s: float
    """Rate cap while commits are timed."""
    chunks_beside_mb_per_s: float
    """What came of chunks beside the commits."""
    idle_p50_ms: float
    idle_p99_ms: float
    """From `submit` to the log, `commits_per_s` by the clock, without chunks."""
    loaded_p50_ms: float
    loaded_p99_ms: float
    """The same at the device that serves chunks, with chunks."""

    @property
    def bulk_share(self) -> float:
        """What the chunks reach of the same client's bulk."""
        return self.chunks_mb_per_s / self.bulk_mb_per_s

    @property
    def p99_ratio(self) -> float:
        """How much longer the slowest commits take beside chunks."""
        return self.loaded_p99_ms / self.idle_p99_ms


class DeliveryResult(_Figures, frozen=True, kw_only=True):
    """The figures of `swarm bench --delivery`."""

    machine: MachineFigures
    broker: BrokerFigures
    delivery: DeliveryFigures

    def to_json(self) -> dict[str, Any]:
        """Return plain data, floats with four significant digits."""
        data: dict[str, Any] = _rounded(msgspec.to_builtins(self))
        return data


class BenchResult(_Figures, frozen=True, kw_only=True):
    """All figures of one machine and one broker."""

    machine: MachineFigures
    broker: BrokerFigures
    primitives: PrimitiveFigures
    bare_loop: BareLoopFigures
    commit: CommitFigures
    agent: AgentFigures
    simulator: SimulatorFigures

    @property
    def low_load_ratio(self) -> float:
        """How many bare loops one commit takes at low load: p50 over p50."""
        return self.commit.low_load_p50_ms / self.bare_loop.p50_ms

    def to_json(self) -> dict[str, Any]:
        """Return the content of `bench.json`, floats with four significant digits."""
        data: dict[str, Any] = _rounded(msgspec.to_builtins(self))
        return data


def percentile(values: tuple[float, ...], share: float) -> float:
    """Return the nearest-rank percentile of at least one value."""
    return float(np.percentile(values, 100 * share, method="inverted_cdf"))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
