"""Golden scripts: a command, `----`, and exactly what the swarm does then. SWARM_REWRITE=1 writes what it did.

Inspect the difference before you commit it: a changed line is a changed protocol. Commands (I, J = device numbers):

    swarm N [budget=balanced] [delta=50] [observers=0]
    submit I "text"                       the device submits under its own name
    operator NAME "text" -> I,J           an operator's submission reaches these devices and nobody else
    deliver|drop|duplicate [I->J] [kind=N] [count=1]      of the messages that are waiting, oldest first
    tick MS                               time passes, nothing is delivered
    stabilize                             everything is delivered until nothing waits; no time passes
    settle MS                             both
    partition 0,1|2,3 / heal              messages between the groups are lost from now on
    crash I / restart I / beat I
    byzantine I                           the seat has no replica; `lie` speaks for it
    lie I propose NAME [parent=b1] ["text"] -> J,K      a block of the current view of J
    lie I N|K|F VIEW [NAME] -> J,K
    quiet / loud                          from here on print only what `status` and `log` say / everything
    status / log / waiting
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.messages import (
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskSubmissions,
    Proposal,
    SubmissionItem,
    decode_submission,
)
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, genesis_header, header_hash
from tests.support.chaos import complaints_of
from tests.support.cluster import Cluster, Message, digest_of, kind_of
from tests.support.fake_signatures import SWARM_ID, make_certificate, make_statement, make_submission
from tests.support.mini_device import Leaving, Payload

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))
SEPARATOR = "----"


class Script:
    """One swarm, the names of its blocks and submissions, and what was printed since the last command."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.lines: list[str] = []
        self.names: dict[bytes, str] = {header_hash(genesis_header(SWARM_ID)): "genesis"}
        self.headers: dict[bytes, Header] = {}
        self.seen: dict[int, dict[str, int]] = {}
        self.groups: list[set[int]] = []
        self.quiet = False
        self.operators: dict[str, int] = {}

    def run(self, line: str) -> list[str]:
        """Run one command and return what is printed."""
        self.lines = []
        name, *words = shlex.split(line)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        getattr(self, f"do_{name}")(plain, options)
        complaints = complaints_of(self.cluster) if self.cluster.n > 1 else []
        return [*self.lines, *(f"COMPLAINT {c}" for c in complaints)]

    # ------------------------------------------------------------------------------ what is printed

    def say(self, text: str) -> None:
        if not self.quiet:
            self.lines.append(text)

    def block(self, digest: bytes) -> str:
        return self.names.get(digest, digest.hex()[:6])

    def name_block(self, header: Header) -> None:
        digest = header_hash(header)
        self.headers[digest] = header
        name = f"b{header.view}"
        while digest not in self.names and name in self.names.values():
            name += "'"
        self.names.setdefault(digest, name)

    def title(self, payload: Payload) -> str:
        match payload:
            case Proposal(header=header):
                self.name_block(header)
                inside = ",".join(self.block(s) for s in header.submissions) or "empty"
                return f"P {header.view} {self.block(digest_of(payload))} on {self.block(header.parent)} [{inside}]"
            case SignedStatement(kind=Kind.ATTEST):
                return f"A {payload.number}"
            case SignedStatement() | Certificate():
                block = "" if payload.digest == ZERO_DIGEST else f" {self.block(payload.digest)}"
                return f"{kind_of(payload)} {payload.number}{block}"
            case SubmissionItem(raw=raw):
                return f"S {self.text_of(raw)}"
            case AskCertificates(view=view):
                return f"certificates from view {view}"
            case AskBlock(hash=digest):
                return f"block {self.block(digest)}"
            case AskBlocks(height=height):
                return f"blocks from height {height}"
            case AskSubmissions(ids=ids):
                return "submissions " + ",".join(self.block(i) for i in ids)
            case _:
                return kind_of(payload)

    def text_of(self, raw: bytes) -> str:
        submission = decode_submission(raw)
        self.names.setdefault(submission.id, submission.body.commands[0].body.decode())
        return self.names[submission.id]

    def on_turn(self, source: int, leaving: list[Leaving]) -> None:
        device = self.cluster.devices[source]
        seen = self.seen.setdefault(source, {"notes": 0, "log": 0, "checkpoints": 0, "evidence": 0})
        for left in leaving:
            self.title(left.payload)
        for word, number in device.notes[seen["notes"] :]:
            self.say(f"{source}: {word} {number}")
        for block in device.disk.log[seen["log"] :]:
            marks = [
                f"{self.block(s.id)}" if c else f"({self.block(s.id)})"
                for s, c in zip(block.submissions, block.counts, strict=True)
            ]
            self.say(
                f"{source}: applies height {block.header.height} {self.block(block.hash)} [{','.join(marks)}]"
            )
        for left in leaving:
            to = "" if left.to is None else f" -> {self.cluster.index(left.to)}"
            verb = "asks" if kind_of(left.payload) == "ask" else "says"
            self.say(f"{source}: {verb} {self.title(left.payload)}{to}")
        for checkpoint in device.disk.checkpoints[seen["checkpoints"] :]:
            self.say(f"{source}: checkpoint of height {checkpoint.height}")
        for one, two in device.evidence[seen["evidence"] :]:
            self.say(f"{source}: evidence against {one.voter}: {self.title(one)} and {self.title(two)}")
        seen |= {
            "notes": len(device.notes),
            "log": len(device.disk.log),
            "checkpoints": len(device.disk.checkpoints),
            "evidence": len(device.evidence),
        }

    # ------------------------------------------------------------------------------ commands

    def do_swarm(self, plain: list[str], options: dict[str, str]) -> None:
        self.cluster = Cluster(
            int(plain[0]),
            options.get("budget", "balanced"),
            observers=int(options.get("observers", "0")),
            delta_ms=int(options.get("delta", "50")),
        )
        self.cluster.on_turn = self.on_turn
        budget = self.cluster.devices[0].config.budget
        self.lines.append(f"n={budget.n} u={budget.u} r={budget.r} q={budget.q}")

    def do_submit(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.submit(int(plain[0]), plain[1])

    def do_operator(self, plain: list[str], _options: dict[str, str]) -> None:
        name, text, _, targets = plain
        self.operators[name] = self.operators.get(name, 0) + 1
        item = SubmissionItem(raw=make_submission(name, self.operators[name], text).raw)
        self.title(item)
        for target in targets.split(","):
            self.cluster.take(Message(0, int(target), int(target), item))

    def chosen(self, plain: list[str], options: dict[str, str]) -> list[Message]:
        source, target = plain[0].split("->") if plain else ("", "")
        found = self.cluster.select(
            source=int(source) if source else None,
            target=int(target) if target else None,
            kind=options.get("kind"),
        )
        return found[: int(options.get("count", "1000"))]

    def do_deliver(self, plain: list[str], options: dict[str, str]) -> None:
        found = self.chosen(plain, options)
        for message in found:
            self.cluster.pending.remove(message)
        for message in found:
            self.cluster.take(message)

    def do_duplicate(self, plain: list[str], options: dict[str, str]) -> None:
        for message in self.chosen(plain, options):
            self.cluster.take(message)

    def do_drop(self, plain: list[str], options: dict[str, str]) -> None:
        found = self.chosen(plain, options)
        for message in found:
            self.cluster.pending.remove(message)
        self.lines.append(f"dropped {len(found)}")

    def passes(self, message: Message) -> bool:
        return not self.groups or any({message.source, message.target} <= group for group in self.groups)

    def do_tick(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.tick(int(plain[0]))

    def do_stabilize(self, _plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.stabilize(where=self.passes)

    def do_settle(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.settle(int(plain[0]), where=self.passes)

    def do_partition(self, plain: list[str], _options: dict[str, str]) -> None:
        self.groups = [{int(i) for i in group.split(",")} for group in plain[0].split("|")]

    def do_heal(self, _plain: list[str], _options: dict[str, str]) -> None:
        self.groups = []

    def do_crash(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.crash(int(plain[0]))

    def do_restart(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.restart(int(plain[0]))

    def do_beat(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.beat(int(plain[0]))

    def do_byzantine(self, plain: list[str], _options: dict[str, str]) -> None:
        self.cluster.byzantine.add(int(plain[0]))

    def do_quiet(self, _plain: list[str], _options: dict[str, str]) -> None:
        self.quiet = True

    def do_loud(self, _plain: list[str], _options: dict[str, str]) -> None:
        self.quiet = False

    def do_lie(self, plain: list[str], options: dict[str, str]) -> None:
        liar, what, *rest = plain
        targets = [int(i) for i in rest[-1].split(",")]
        name = self.cluster.devices[int(liar)].name
        digests = {name: digest for digest, name in self.names.items()}
        payloads: list[Payload] = []
        if what == "propose":
            text = rest[1] if len(rest) == 4 else None
            payloads = self.lie_block(
                int(liar), rest[0], digests[options.get("parent", "genesis")], text, targets[0]
            )
        else:
            digest = digests[rest[1]] if len(rest) == 4 else ZERO_DIGEST
            payloads = [make_statement(Kind(ord(what)), int(rest[0]), digest, int(liar), name)]
        for target in targets:
            for payload in payloads:
                self.cluster.take(Message(0, int(liar), target, payload))

    def lie_block(self, liar: int, name: str, parent: bytes, text: str | None, target: int) -> list[Payload]:
        above = self.headers.get(parent)
        bodies = [] if text is None else [make_submission(f"liar-{name}", 1, text)]
        view = self.cluster.devices[target].up.state.cur
        header = Header(
            epoch=0,
            view=view,
            height=above.height + 1 if above else 1,
            parent_view=above.view if above else 0,
            parent=parent,
            submissions=tuple(s.id for s in bodies),
            next=ZERO_DIGEST,
            proposer=liar,
        )
        digest = header_hash(header)
        self.names[digest] = name
        self.headers[digest] = header
        statement = make_statement(Kind.PROPOSE, view, digest, liar, self.cluster.devices[liar].name)
        items: list[Payload] = [SubmissionItem(raw=s.raw) for s in bodies]
        for item in items:
            self.title(item)
        certificate = None
        if above is not None:
            q = self.cluster.devices[0].config.budget.q
            names = {v: self.cluster.devices[v].name for v in range(q)}
            certificate = make_certificate(Kind.NOTARIZE, above.view, parent, names)
        return [*items, Proposal(header=header, parent=certificate, skips=(), signature=statement.signature)]

    # ------------------------------------------------------------------------------ questions

    def do_status(self, _plain: list[str], _options: dict[str, str]) -> None:
        for i, device in enumerate(self.cluster.devices):
            if i in self.cluster.byzantine:
                self.lines.append(f"{i}: byzantine")
            elif device.replica is None:
                self.lines.append(f"{i}: down")
            else:
                state = device.up.state
                wake = (
                    "no timer"
                    if device.wake_at_ms is None
                    else f"wakes in {device.wake_at_ms - self.cluster.now_ms} ms"
                )
                self.lines.append(
                    f"{i}: view {state.cur} final {state.final_view} height {state.delivered_height}"
                    f" pending {len(state.pool.pending)} {'work' if state.work else 'idle'}, {wake}"
                )

    def do_log(self, _plain: list[str], _options: dict[str, str]) -> None:
        for i in self.cluster.correct:
            texts = [self.block(s) for s in self.cluster.devices[i].disk.applied_ids()]
            heights = len(self.cluster.devices[i].disk.log)
            self.lines.append(f"{i}: {heights} block{'s' if heights != 1 else ''} [{','.join(texts)}]")

    def do_waiting(self, _plain: list[str], _options: dict[str, str]) -> None:
        for message in self.cluster.pending:
            self.lines.append(f"{message.source}->{message.target} {self.title(message.payload)}")


def replay(text: str) -> str:
    """Run a script and return it with what really happened below each command."""
    script = Script()
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        command_lines = block.split("\n" + SEPARATOR)[0].splitlines()
        commands = [line for line in command_lines if line and not line.startswith("#")]
        printed = [line for command in commands for line in script.run(command)] or ["ok"]
        shown = [*command_lines, SEPARATOR, *printed] if commands else command_lines
        blocks.append("\n".join(shown))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    happened = replay(text)
    if os.environ.get("SWARM_REWRITE"):
        path.write_text(happened, encoding="utf-8")
        text = happened
    assert happened == text
    assert "COMPLAINT" not in happened


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 10
