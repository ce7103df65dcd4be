"""What became of the last intent, read from the records that every back end keeps."""

from __future__ import annotations

from typing import Final

from swarm.install.port import BootNonce, BootOutcome, Outcome
from swarm.install.records import Confirmed, Trial

_PHASES: Final = {
    "none": Outcome.NONE,
    "armed": Outcome.ARMED,
    "trial": Outcome.TRIAL,
    "reverted": Outcome.REVERTED,
    "withdrawn": Outcome.NEVER_TRIED,
}


def boot_outcome(trial: Trial, confirmed: Confirmed) -> BootOutcome:
    """Join the last intent with what was started: a trial counts until its permit is the confirmed one."""
    if trial.permit > confirmed.permit:
        outcome, reason = _PHASES[trial.phase], trial.reason
    elif confirmed.reason:
        outcome, reason = Outcome.FELL_BACK, confirmed.reason
    elif trial.phase == "reverted" and not trial.permit:
        # The records were lost with all permits in them: something failed, nobody knows under which permit.
        outcome, reason = Outcome.REVERTED, trial.reason
    else:
        outcome, reason = (Outcome.CONFIRMED if confirmed.permit else Outcome.NONE), ""
    nonce = None
    if trial.nonce_root:
        nonce = BootNonce(height=trial.nonce_height, root=bytes.fromhex(trial.nonce_root))
    return BootOutcome(
        outcome=outcome,
        permit=max(trial.permit, confirmed.permit),
        release=bytes.fromhex(trial.release),
        attempts=trial.attempts,
        reason=reason,
        nonce=nonce,
    )
