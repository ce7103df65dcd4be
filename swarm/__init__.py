"""Devices that do not trust each other decide together over MQTT.

The public names load on first use (PEP 562): `import swarm` costs nothing, a device agent never loads the lab, and
the floors below stay free of a chain through this file. Nothing inside the package imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

__version__: Final = "0.1.0"

__all__ = [
    "Application",
    "Behaviour",
    "__version__",
    "connect",
    "parse_genesis",
    "run_scenario",
    "verify_proof",
]

_HOMES: Final = {
    "Application": "swarm.apps.application:Application",
    "Behaviour": "swarm.behaviours.behaviour:Behaviour",
    "connect": "swarm.agent.client.connect:connect",
    "parse_genesis": "swarm.wire.genesis:parse_genesis",
    "run_scenario": "swarm.lab.scenario.runner:run_scenario",
    "verify_proof": "swarm.apps.verify:verify_proof",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module where it lives, and keep it; `AttributeError` for any other name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names without loading them."""
    return sorted({*globals(), *__all__})
