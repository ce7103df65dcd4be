"""Whether the behaviours of a scenario can be built, asked before anything runs and told with the file's own keys."""

from __future__ import annotations

from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import load_behaviours
from swarm.lab.scenario.schema import Engine, Scenario
from swarm.primitives.errors import ConfigError


def check_behaviours(scenario: Scenario, engine: Engine) -> None:
    """Build the behaviour of every device once and throw it away; importing `module:Class` runs the user's code.

    Raises `ConfigError` with file, line and key (`greenhouse.yaml:9: devices.each.dev-3.behaviour.lie`).
    """
    for device in scenario.devices.ids:
        block = scenario.devices.behaviour_of(device)
        if block is None:
            continue
        context = BehaviourContext(device=device, seed=0, simulated=engine == "sim", now_ms=0)
        try:
            load_behaviours((dict(block),), context, where="behaviour")
        except ConfigError as error:
            key = error.where.removeprefix("behaviour[0]").removeprefix(".")
            override = scenario.devices.each.get(device)
            own = override is not None and override.behaviour is not None and key in override.behaviour
            path = f"devices.each.{device}.behaviour" if own else "devices.behaviour"
            where = f"{path}.{key}" if key else path
            # What is missing has no line of its own: it belongs where the block stands.
            line = scenario.behaviour_lines.get(where, scenario.behaviour_lines.get(path))
            place = scenario.source if line is None else f"{scenario.source}:{line}"
            raise ConfigError(error.message, where=f"{place}: {where}", hint=error.hint) from None
