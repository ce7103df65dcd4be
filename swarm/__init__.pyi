# The public names for type checkers, imported from where they live; at run time `__init__.py` loads them lazily.

from typing import Any, Final

from swarm.agent.client.connect import connect as connect
from swarm.apps.application import Application as Application
from swarm.apps.verify import verify_proof as verify_proof
from swarm.behaviours.behaviour import Behaviour as Behaviour
from swarm.lab.scenario.runner import run_scenario as run_scenario
from swarm.wire.genesis import parse_genesis as parse_genesis

__version__: Final[str]
__all__ = [
    "Application",
    "Behaviour",
    "__version__",
    "connect",
    "parse_genesis",
    "run_scenario",
    "verify_proof",
]

# As at run time: any other name is an `AttributeError` there.
def __getattr__(name: str) -> Any: ...
