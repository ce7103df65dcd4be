"""What an agent says about its own firmware: one line for each thing that somebody may want to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from swarm.primitives.ids import short

_BACK: Final = ("reverted", "fell_back", "revoked_running")
_PEER_WORDS: Final = {
    "bad-chunk": "sent a wrong chunk",
    "bad-leaves": "sent a wrong leaf list",
    "used-up": "sent too much that was wrong and is not asked again",
}


class Line(NamedTuple):
    """A line, and whether somebody may have to look."""

    text: str
    is_complaint: bool = False


def firmware_line(data: Mapping[str, object]) -> Line | None:
    """Return the line of one event `firmware`, None for what only programs want to know."""
    what = str(data.get("what", ""))
    release = data.get("release")
    name = f"release {short(release)}" if isinstance(release, bytes) and release else "a release"
    match what:
        case "fetching":
            return Line(f"fetching release {data['number']} ({name}), {data['chunks']} chunks")
        case "sealed":
            return Line(f"{name} is sealed in the other slot")
        case "armed":
            return Line(f"{name} is armed under permit {data['permit']}")
        case "rebooting":
            ways = {"activate": "restarting into the armed image", "revert": "going back to the old image"}
            return Line(ways.get(str(data["after"]), "restarting"), data["after"] == "revert")
        case "confirmed":
            return Line("the new image is confirmed")
        case "declined":
            return Line(f"permit {data['permit']} is declined: {data['reason']}")
        case "withdrawn":
            return Line("the armed image is withdrawn")
        case "self-test" if not data["passed"]:
            detail = f" ({data['detail']})" if data["detail"] else ""
            return Line(f"self test failed: {data['reason']}{detail}", is_complaint=True)
        case "refused":
            return Line(f"{data['operation']} refused: {data['reason']}", is_complaint=True)
        case "unreadable":
            return _unreadable(str(data["reason"]))
        case "reported" if data["result"] in _BACK or (data["result"] == "declined" and data["reason"]):
            reason = f": {data['reason']}" if data["reason"] else ""
            return Line(f"reported {data['result']}{reason}", is_complaint=True)
        case "bad-chunk" | "bad-leaves" | "used-up":
            return Line(f"{data['peer']} {_PEER_WORDS[what]} of {name}", is_complaint=True)
        case _:
            return None


def _unreadable(reason: str) -> Line:
    if reason.endswith("started without a launcher"):
        return Line("started without its launcher: it votes on firmware and is not updated itself")
    return Line(f"its slots cannot be read: {reason}", is_complaint=True)
