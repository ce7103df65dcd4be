"""Agents whose firmware a test plays: voters that follow every wish at once, devices that only say what they run.

`python -m tests.support.puppets AGENT.yaml ...` runs them until its standard input ends. Lines on it change how they
play: `bad dev-1` (a new image fails there), `deaf` and `hearing` (voters follow no wish and give no go, or do again),
`restart dev-1 3` (it reports a start that is so many boots later).
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import parse_agent_config
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.duties import Duties, Wish
from swarm.apps.rollout.entries import (
    Approve,
    Arm,
    ChangeKeys,
    Command,
    Consent,
    Go,
    Halt,
    Report,
    Result,
    Resume,
    Revoke,
    Rollback,
    encode_command,
)
from swarm.apps.rollout.state import Permit
from swarm.cli.firmware.manifests import CLASS_DEFAULT, read_class
from swarm.cli.firmware.release_file import load_release
from swarm.primitives.ids import ZERO_DIGEST

TICK_S = 0.02


@dataclass
class Puppet:
    """One device as the log shall see it."""

    id: str
    agent: Agent
    rollout: Rollout
    digest: bytes
    number: int
    spare: bytes = ZERO_DIGEST
    boot: int = 1
    step: int = 0
    armed_at: int = -4
    bad: bool = False
    said: set[object] = field(default_factory=set)

    def once(self, key: object, command: Command) -> None:
        """Log a command unless it was logged for this reason before."""
        if key not in self.said:
            self.said.add(key)
            self.agent.submit("rollout", encode_command(command))

    def report(self, result: Result, permit: int = 0, *, confirmed: bool = True, reason: str = "") -> None:
        self.step += 1
        command = Report(
            permit=permit,
            incarnation=0,
            boot=self.boot,
            step=self.step,
            result=result,
            reason=reason,
            class_id=read_class(CLASS_DEFAULT).id,
            slot=0 if self.number == 1 else 1,
            digest=self.digest,
            number=self.number,
            counter=0,
            confirmed=confirmed,
            degraded=False,
            spare="empty" if self.spare == ZERO_DIGEST else "sealed",
            spare_digest=self.spare,
            nonce_height=0,
            nonce_root=ZERO_DIGEST,
            attestation=b"",
            previous=0,
        )
        self.once((result, permit, self.boot, self.step), command)

    def tick(self, *, hearing: bool) -> None:
        """Do what is due."""
        if not self.said:
            self.report("started")
        duties = self.rollout.duties(self.id)
        if hearing:
            self.vote(duties)
        permit = duties.permit
        if permit is not None:
            self.try_image(permit)
        elif duties.task is not None and duties.task.refusal is None:
            # Another one may have been faster, so it asks again after some blocks.
            height = self.agent.device.ledger.height
            if height > self.armed_at + 3:
                self.armed_at = height
                arm: Arm = duties.task.arm
                self.once(("arm", arm, height), arm)

    def vote(self, duties: Duties) -> None:
        for go in duties.gos:
            if not go.paused:
                key = ("go", go.plan, go.stage, go.generation, go.again)
                self.once(key, Go(go.plan, go.stage, go.generation))
        for resume in duties.resumes:
            wanted = ("resume", resume.plan, resume.generation, resume.without)
            self.once(wanted, Resume(resume.plan, resume.generation, resume.without))
        for wish in duties.wishes:
            command = self.answer(wish) if wish.by else None
            if command is not None:
                self.once((wish.asked, wish.subject, wish.device), command)

    def answer(self, wish: Wish) -> Command | None:
        match wish.asked:
            case "approve":
                return Approve(wish.subject)
            case "revoke":
                return Revoke(wish.subject, "asked", ())
            case "halt" | "halt-class":
                return Halt(wish.subject, wish.asked == "halt-class", "asked")
            case "rollback" | "abandon":
                return Rollback(wish.subject, wish.asked == "abandon")
            case "consent":
                return Consent(wish.subject, wish.device)
            case _:
                rotation = self.rollout.state.rotations[wish.subject]
                return ChangeKeys(rotation.keys.k, rotation.keys.keys, rotation.signatures)

    def try_image(self, permit: Permit) -> None:
        plan = self.rollout.plan(permit.plan)
        assert plan is not None
        new = self.rollout.state.releases[plan.release].manifest
        if ("tried", permit.id) not in self.said:
            self.said.add(("tried", permit.id))
            if permit.forward:
                self.spare = permit.target
            if self.bad and permit.forward:
                self.report("reverted", permit.id, reason="self-test")
                return
            self.swap(new.number if permit.forward else 1)
            self.report("healthy", permit.id, confirmed=False)
        elif permit.accepted and ("kept", permit.id) not in self.said:
            self.said.add(("kept", permit.id))
            self.report("confirmed", permit.id)
        elif permit.denied and ("kept", permit.id) not in self.said:
            self.said.add(("kept", permit.id))
            self.swap(1 if permit.forward else new.number)
            self.report("reverted", permit.id, reason="rejected")

    def swap(self, number: int) -> None:
        """Start the image in the other slot."""
        self.boot += 1
        self.number = number
        self.digest, self.spare = self.spare, self.digest


def build(path: Path) -> Puppet:
    """Build the agent of a folder of `swarm init --firmware`, without the firmware of its own."""
    settings = yaml.safe_load(path.read_text())
    settings.pop("firmware", None)
    config = parse_agent_config(yaml.safe_dump(settings), path)
    agent = build_agent(config, source=str(path), random=random.random)
    rollout = agent.device.ledger.router.rollout
    assert rollout is not None
    first = load_release(path.parent.parent / "release" / "1.swfw")
    return Puppet(config.device, agent, rollout, first.manifest.image_digest, 1)


async def main(files: list[str]) -> None:
    """Run until standard input ends."""
    puppets = {puppet.id: puppet for puppet in (build(Path(file)) for file in files)}
    running = [asyncio.create_task(puppet.agent.run()) for puppet in puppets.values()]
    hearing = True
    print("up", flush=True)
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    loop = asyncio.get_running_loop()
    reading = loop.run_in_executor(None, read)
    while True:
        while not lines.empty():
            line = lines.get_nowait()
            match line.split():
                case []:
                    for puppet in puppets.values():
                        puppet.agent.stop()
                    await asyncio.gather(*running, reading)
                    return
                case ["bad", id]:
                    puppets[id].bad = True
                case ["restart", id, boots]:
                    puppets[id].boot += int(boots)
                    puppets[id].step = 0
                    puppets[id].report("started")
                case [word]:
                    hearing = word == "hearing"
        for puppet in puppets.values():
            puppet.tick(hearing=hearing)
        await asyncio.sleep(TICK_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
