"""A whole device in virtual time: behaviours, watchdog, power, attestation."""

from __future__ import annotations

import pytest

from firmware_sim.board import WATCHDOG_MS, Board, Reset, bomb_delay_ms, provision
from firmware_sim.bootloader import BootSettings
from firmware_sim.errors import FlashError, PowerLoss
from firmware_sim.flash import Cut
from firmware_sim.image import image_digest, make_image, verifier
from firmware_sim.slots import DeviceLayout, Swap
from firmware_sim.world import World

LAYOUT = DeviceLayout(image_sectors=2, sector=1024)


def board_with(behaves: str, settings: BootSettings | None = None) -> Board:
    """Return a board that is off, with a healthy image running and one that `behaves` so ordered."""
    old, new = make_image(b"old", behaves="healthy"), make_image(b"new", behaves=behaves)
    board = Board(LAYOUT.make_flash(), LAYOUT, verifier(), secret=b"s", settings=settings)
    provision(board.flash, LAYOUT, old, image_digest(old))
    board.power_on()
    board.application.begin(image_digest(new), len(new))
    board.application.write_chunk(0, new)
    board.application.seal()
    board.application.set_pending()
    return board


def test_a_healthy_image_stays_once_it_is_confirmed() -> None:
    board = board_with("healthy")
    assert board.reset().swapped is Swap.TEST
    assert board.is_responsive
    assert board.says_healthy
    board.application.confirm()
    assert board.advance(10**9) == []
    assert not board.reset().on_trial


@pytest.mark.parametrize(
    ("behaves", "reason", "within_ms"),
    [("crash", Reset.CRASH, 300), ("hang", Reset.WATCHDOG, 300 + WATCHDOG_MS)],
)
def test_an_image_that_ends_or_hangs_is_reverted(behaves: str, reason: Reset, within_ms: int) -> None:
    board = board_with(behaves)
    board.reset()
    assert not board.is_responsive
    (start,) = board.advance(within_ms)
    assert (start.reason, start.boot.swapped) == (reason, Swap.REVERT)
    assert board.behaves == "healthy"
    assert board.now_ms == within_ms


def test_three_attempts_are_three_crashes() -> None:
    board = board_with("crash", BootSettings(attempts=3))
    board.reset()
    starts = board.advance(60_000)
    assert [start.boot.swapped for start in starts] == [Swap.NONE, Swap.NONE, Swap.REVERT]
    assert [start.boot.attempt for start in starts] == [2, 3, 0]


def test_a_silent_brick_is_only_ended_by_the_power_switch() -> None:
    board = board_with("brick")
    board.reset()
    assert board.advance(10**9) == []
    assert (board.is_responsive, board.says_healthy, board.is_on) == (False, False, True)
    board.power_off()
    assert board.behaves == "off"
    assert board.power_on().swapped is Swap.REVERT


def test_a_liar_says_that_it_is_well() -> None:
    board = board_with("lie")
    board.reset()
    assert (board.is_responsive, board.says_healthy) == (False, True)


def test_a_bomb_goes_off_after_its_time_at_every_start() -> None:
    board = board_with("bomb: 60000")
    board.reset()
    board.application.confirm()
    board.advance(59_999)
    assert board.is_responsive
    board.advance(1)
    assert board.behaves == "brick"
    board.reset(Reset.POWER)
    assert board.is_responsive


@pytest.mark.parametrize(
    ("text", "delay"), [("bomb: 5", 5), ("bomb:7", 7), ("bomb", None), ("bomb: x", None), ("crash", None)]
)
def test_the_delay_of_a_bomb(text: str, delay: int | None) -> None:
    assert bomb_delay_ms(text) == delay


def test_a_cut_in_the_bootloader_leaves_a_board_that_goes_on() -> None:
    board = board_with("healthy")
    board.cut_at(Cut(op=9, shape=("random", 1)))
    with pytest.raises(PowerLoss):
        board.reset()
    assert not board.is_on
    with pytest.raises(FlashError, match="no image"):
        _ = board.application
    assert board.power_on().resumed


def test_a_cut_in_the_application_turns_the_board_off() -> None:
    board = board_with("healthy")
    board.reset()
    board.cut_at(Cut(op=1))
    assert not board.survive("confirm")
    assert not board.is_on
    assert board.power_on().swapped is Swap.REVERT


def test_attestation_is_of_the_image_that_runs() -> None:
    board = board_with("healthy")
    before = board.attest(b"nonce")
    board.reset()
    on_trial = board.attest(b"nonce")
    board.reset()
    assert board.attest(b"nonce") == before
    assert on_trial != before
    assert board.attest(b"other") != before


def test_a_board_without_an_image_is_off() -> None:
    flash = World(layout=LAYOUT).provisioned()
    flash.flip(500)
    board = Board(flash, LAYOUT, verifier())
    with pytest.raises(FlashError, match="never started"):
        _ = board.last
    assert board.power_on().started is None
    assert (board.is_on, board.behaves, board.is_responsive) == (False, "off", False)


def test_a_board_says_when_it_will_restart_by_itself() -> None:
    board = board_with("crash")
    assert board.next_reset() is None
    board.reset()
    due = board.next_reset()
    assert due is not None
    assert due[1] is Reset.CRASH
    assert board.advance(due[0] - board.now_ms - 1) == []
    assert [start.reason for start in board.advance(1)] == [Reset.CRASH]
    assert board.next_reset() is None


def test_a_flash_may_take_more_in_one_call() -> None:
    flash = LAYOUT.make_flash(program_max=LAYOUT.sector)
    flash.write(0, bytes(LAYOUT.sector))
    assert flash.ops == 1
