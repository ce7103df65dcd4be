"""Transactions of a device, each with what it may end in if the power goes at any point.

A scenario acts one power cycle at a time. `first` is true only in the cycle that starts the transaction; a
recovery begins with a boot and knows nothing but the media. `ends` names, from the media at the cut alone, the
images that the device may run, confirmed, in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_sim.application import Application
from firmware_sim.board import Board
from firmware_sim.bootloader import BootSettings, CounterPolicy
from firmware_sim.errors import Refused
from firmware_sim.flash import NorFlash
from firmware_sim.image import image_digest, verifier
from firmware_sim.nv import BootRecords, RecordStore
from firmware_sim.oracle import MediaView
from firmware_sim.world import World

AGENT = BootSettings(counter_policy=CounterPolicy.AGENT)


def _always(*names: str) -> Callable[[MediaView], frozenset[str]]:
    return lambda _: frozenset(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A transaction: `setup` makes the media, `act` does the work of one power cycle and says whether it is done."""

    name: str
    setup: Callable[[World], NorFlash]
    act: Callable[[World, Board, bool], bool]
    ends: Callable[[MediaView], frozenset[str]]
    normal: str = "old"
    """The image that runs in the end if nothing goes wrong."""
    running: bool = False
    """The transaction starts in an application that already runs, without a boot."""
    sealed: frozenset[str] = frozenset()
    """Images that must be sealed in the end, the last one whole in the spare slot."""
    counter: int | None = None
    """The security counter in the end, where it does not follow from the image."""
    untouched: bool = False
    """Primary slot and counter must keep every byte (I7)."""
    restless: bool = False
    """Every boot writes something, so rest is judged by what the media say, not by each byte."""
    starts_max: int = 1
    """Starts that may find an unconfirmed image (I4)."""
    settings: BootSettings = field(default_factory=BootSettings)


# -------------------------------------------------------------------------------- update and back


def _act_update(world: World, board: Board, first: bool, *, permanent: bool = False) -> bool:
    view = world.oracle.look(board.flash)
    if view.primary == "old":
        if first:
            board.application.set_pending(permanent=permanent)
        return not first
    if view.on_trial and not permanent:
        board.application.confirm()
    return not view.on_trial


def _ends_update(view: MediaView) -> frozenset[str]:
    if view.reverting:
        return frozenset({"old"})
    if view.primary == "new" and view.first.magic and view.first.copy_done != "unset":
        if view.first.image_ok == "unset":
            return frozenset({"old"} if view.first.copy_done == "set" else {"old", "new"})
        return frozenset({"new"} if view.first.image_ok == "set" else {"old", "new"})
    return frozenset({"new"} if view.second.magic or view.swapping else {"old"})


def _ends_permanent(view: MediaView) -> frozenset[str]:
    done = view.primary == "new" and view.first.magic
    return frozenset({"new"} if done or view.second.magic or view.swapping else {"old"})


def _act_again(world: World, board: Board, _first: bool) -> bool:
    view = world.oracle.look(board.flash)
    if view.primary == "new":
        if view.on_trial:
            board.application.confirm()
        return not view.on_trial
    board.application.set_pending()
    return False


def _act_revert(world: World, board: Board, first: bool) -> bool:
    view = world.oracle.look(board.flash)
    return not first and view.primary == "old"


def _act_bad_update(world: World, board: Board, first: bool) -> bool:
    view = world.oracle.look(board.flash)
    if view.primary == "old" and first:
        board.application.set_pending()
        return False
    return view.primary == "old"


def _act_confirm(_world: World, board: Board, first: bool) -> bool:
    if first:
        board.application.confirm()
    return not first


def _act_early_fetch(world: World, board: Board, first: bool) -> bool:
    if first:
        image = world.images["new"]
        try:
            board.application.begin(image_digest(image), len(image))
            board.application.write_chunk(0, image[: world.layout.sector])
        except Refused:
            pass
    return not first


# -------------------------------------------------------------------------------- fetch, records


def _act_download(world: World, board: Board, _first: bool) -> bool:
    image, sector = world.images["new"], world.layout.sector
    app = board.application
    for _ in range(2):
        app.begin(image_digest(image), len(image))
        for index, have in enumerate(app.have()):
            if not have:
                app.write_chunk(index, image[index * sector : (index + 1) * sector])
        try:
            app.seal()
        except Refused:
            app.discard()
        else:
            return True
    return False


def _fetched(world: World, name: str, count: int) -> NorFlash:
    """Return a device that has fetched some chunks of an image, and sealed it if they are all."""
    flash, image = world.provisioned(), world.images[name]
    app = Application(flash, world.layout, verifier())
    app.begin(image_digest(image), len(image))
    for index in range(count):
        app.write_chunk(index, image[index * world.layout.sector :][: world.layout.sector])
    if count == world.layout.image_sectors:
        app.seal()
    return flash


def _act_counter(_world: World, board: Board, _first: bool) -> bool:
    board.application.raise_counter(2)
    return True


def _act_revoke(world: World, board: Board, first: bool) -> bool:
    if first:
        board.application.revoke(image_digest(world.images["new"]))
    return not first


def _ends_revoke(view: MediaView) -> frozenset[str]:
    return frozenset({"old"} if "new" in view.revoked else {"new"})


def _act_statements(world: World, board: Board, first: bool) -> bool:
    """Sign for heights 0 to 5, another value whenever memory was lost: what was sent must not change."""
    value = (b"first" if first else b"again").ljust(16, b".")
    for height in range(6):
        board.application.state(height, value, world.outbox(height))
    return True


def _act_late_bomb(_world: World, board: Board, _first: bool) -> bool:
    """A confirmed image that never gets far enough to say that it is well; the old one says so."""
    if board.behaves == "healthy":
        board.application.note_well()
        return True
    return False


def _act_nothing(_world: World, _board: Board, _first: bool) -> bool:
    return True


def _refused(name: str, *, seal: bool = True, revoke: bool = False, rotten: bool = False) -> Scenario:
    def setup(world: World) -> NorFlash:
        flash = world.with_update(name, seal=seal, pending=True)
        if revoke:
            store = RecordStore(flash, world.layout.records)
            records = store.read() or BootRecords()
            store.write(records.with_revoked(image_digest(world.images[name])))
        if rotten:
            flash.flip(8 * (world.layout.secondary.at(1) + 100))
        return flash

    reason = "hash" if rotten else "revoked" if revoke else "unsealed" if not seal else "counter"
    return Scenario(
        name=f"refuse-{reason}", setup=setup, act=_act_nothing, ends=_always("old"), untouched=True
    )


ALL: tuple[Scenario, ...] = (
    Scenario(
        name="update",
        normal="new",
        setup=lambda w: w.with_update("new"),
        act=_act_update,
        ends=_ends_update,
        running=True,
    ),
    Scenario(
        name="permanent",
        normal="new",
        setup=lambda w: w.with_update("new"),
        act=lambda w, b, first: _act_update(w, b, first, permanent=True),
        ends=_ends_permanent,
        running=True,
    ),
    Scenario(
        name="again",
        normal="new",
        setup=lambda w: _fetched(w, "new", w.layout.image_sectors),
        act=_act_again,
        ends=_always("new"),
        running=True,
        starts_max=9,
    ),
    Scenario(
        name="bad-update",
        setup=lambda w: w.with_update("crash"),
        act=_act_bad_update,
        ends=_always("old"),
        running=True,
    ),
    Scenario(
        name="attempts",
        setup=lambda w: w.with_update("crash"),
        act=_act_bad_update,
        ends=_always("old"),
        running=True,
        starts_max=3,
        settings=BootSettings(attempts=3),
    ),
    Scenario(name="revert", setup=lambda w: w.on_trial(), act=_act_revert, ends=_always("old"), starts_max=0),
    Scenario(
        name="confirm",
        normal="new",
        setup=lambda w: w.on_trial(),
        act=_act_confirm,
        ends=_ends_update,
        running=True,
    ),
    Scenario(
        name="early-fetch",
        setup=lambda w: w.on_trial(),
        act=_act_early_fetch,
        ends=_always("old"),
        running=True,
    ),
    Scenario(
        name="download",
        setup=lambda w: _fetched(w, "crash", w.layout.image_sectors - 1),
        act=_act_download,
        ends=_always("old"),
        running=True,
        sealed=frozenset({"new"}),
    ),
    Scenario(
        name="counter",
        normal="new",
        setup=lambda w: w.on_trial(confirmed=True),
        act=_act_counter,
        ends=_always("new"),
        running=True,
        counter=2,
        settings=AGENT,
    ),
    Scenario(
        name="revoke",
        setup=lambda w: w.on_trial(confirmed=True),
        act=_act_revoke,
        ends=_ends_revoke,
        running=True,
        counter=1,
        settings=AGENT,
    ),
    Scenario(
        name="late-bomb",
        setup=lambda w: w.on_trial("crash", confirmed=True),
        act=_act_late_bomb,
        ends=_always("old"),
        counter=1,
        restless=True,
        settings=BootSettings(counter_policy=CounterPolicy.AGENT, fallback_after=5),
    ),
    Scenario(
        name="statements",
        setup=lambda w: w.provisioned(),
        act=_act_statements,
        ends=_always("old"),
        running=True,
    ),
    _refused("low"),
    _refused("new", rotten=True),
    _refused("new", seal=False),
    _refused("new", revoke=True),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
