"""The simulated back end: the conformance suite on boards of several kinds, and what only a board can do."""

from __future__ import annotations

import pytest

from swarm.install.port import InstallReason
from tests.install.conformance import Conformance, refused
from tests.support.install import Rig
from tests.support.simulated_devices import SimulatedRig, simulated_rig


class TestOneAttempt(Conformance):
    @pytest.fixture
    def rig(self) -> SimulatedRig:
        return simulated_rig()


class TestThreeAttempts(Conformance):
    @pytest.fixture
    def rig(self) -> SimulatedRig:
        return simulated_rig(attempts=3)


class TestImagesOfOneSector(Conformance):
    """The two places of the spare slot do not overlap then; and the device can prove nothing."""

    @pytest.fixture
    def rig(self) -> SimulatedRig:
        return simulated_rig(secret=b"", size=3000)

    def test_nothing_incomplete_is_sealed(self, rig: Rig) -> None:
        backend = rig.start()
        staging = backend.begin(rig.release(2).plan)
        assert refused(lambda: backend.seal(staging)) is InstallReason.INCOMPLETE
