"""The section `firmware`, its orders, faults and expectations: what they mean, and every complaint's key path."""

from __future__ import annotations

import pytest

from swarm.apps.rollout.spec import PlanSpec, Step
from swarm.lab.scenario.firmware import (
    ExpectFirmware,
    FirmwareModel,
    FirmwareOrder,
    KeysModel,
    ReleaseModel,
)
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.schema import PowerCut, Scenario, StolenKeys, check_engine
from swarm.primitives.errors import ConfigError

FULL = """\
name: fw
duration: 5m
devices: {voters: 4, observers: 2, operators: 2}
firmware:
  keys: 2of3
  approve: 2
  obey_halt: false
  t_arm: 30s
  classes: {gateway: voters, sensor: [obs-0, obs-1]}
  release:
    v2: {behaves: healthy, class: gateway, bytes: 20000, chunk: 8192, needs: {sensor: 2}}
    v3: {behaves: {bomb: 60s}, number: 7, counter: 3, oldest: 2, use_before: 900}
    s2: {behaves: "bomb: 2s", class: sensor}
faults:
  - {at: 5s, power_cut: [dev-0], during: swap, for: 3s}
  - {at: 6s, power_cut: dev-1}
  - {at: 7s, stolen_keys: 2, release: v3, from: ops-1}
  - {at: 8s, stolen_keys: 1}
workload:
  - {at: 2s, firmware: {propose: v2}}
  - {at: 3s, firmware: {propose: {release: v3, signers: 1}}, from: dev-3}
  - {at: 4s, firmware: {plan: {release: v2, steps: [{voters: 1}, {voters: 50%}, {observers: 2.5%}], soak: 2s, deadline: 20s,
      trial: 5s, attempts: 2, max_fail: 1, min_confirmed: 0, pause_after: [0], barrier: true, hold_back: 2, reserve: 0, retries: 1}}}
  - {every: 1s, submit: {bytes: 10}}
  - {at: 1s, firmware: {approve: v2}, from: voters}
  - {at: 9s, firmware: {halt: {class: gateway}}}
  - {at: 9s, firmware: {halt: v2}}
  - {at: 9s, firmware: {resume: {release: v2, without: [dev-1]}}}
  - {at: 9s, firmware: {rollback: v2}}
  - {at: 9s, firmware: {abandon: v2}}
  - {at: 9s, firmware: {revoke: v2}}
  - {at: 9s, firmware: {go: v2}}
  - {at: 9s, firmware: {consent: {release: v2, device: dev-2}}}
  - {at: 9s, firmware: {keys: 1of2}}
expect:
  firmware: {state: completed, running: {v2: 4, factory: 2}, halted_by: failed, at_risk_max: 1, releases: {v2: approved, v3: unknown}}
"""


def parse(text: str) -> Scenario:
    return parse_scenario(text, "s.yaml")


def model_of(scenario: Scenario) -> FirmwareModel:
    assert scenario.firmware is not None
    return scenario.firmware


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def changed(old: str, new: str) -> str:
    assert FULL.count(old) == 1, old
    return FULL.replace(old, new)


def test_everything_said_is_meant() -> None:
    scenario = parse(FULL)
    assert scenario.devices.operator_ids == ("ops-0", "ops-1")
    assert scenario.devices.ids[-1] == "obs-1", "an operator is no device"
    assert scenario.firmware == FirmwareModel(
        keys=KeysModel(k=2, n=3),
        classes={"gateway": ("dev-0", "dev-1", "dev-2", "dev-3"), "sensor": ("obs-0", "obs-1")},
        releases={
            "v2": ReleaseModel(
                name="v2",
                behaves="healthy",
                class_name="gateway",
                number=2,
                image_bytes=20_000,
                chunk_bytes=8192,
                needs={"sensor": 2},
            ),
            "v3": ReleaseModel(
                name="v3",
                behaves="bomb",
                bomb_ms=60_000,
                class_name="gateway",
                number=7,
                counter=3,
                oldest=2,
                use_before=900,
            ),
            "s2": ReleaseModel(name="s2", behaves="bomb", bomb_ms=2_000, class_name="sensor", number=4),
        },
        approve=2,
        obey_halt=False,
        t_arm_ms=30_000,
    )
    assert model_of(scenario).class_of("obs-1") == "sensor"
    assert scenario.faults == (
        PowerCut(at_ms=5_000, order=0, for_ms=3_000, devices=("dev-0",), during="swap"),
        PowerCut(at_ms=6_000, order=1, for_ms=1_000, devices=("dev-1",)),
        StolenKeys(at_ms=7_000, order=2, count=2, release="v3", origin="ops-1"),
        StolenKeys(at_ms=8_000, order=3, count=1),
    )
    assert len(scenario.workload) == 1, "orders are no load"
    assert scenario.expect.firmware == ExpectFirmware(
        state="completed",
        running={"v2": 4, "factory": 2},
        halted_by="failed",
        at_risk_max=1,
        releases={"v2": "approved", "v3": "unknown"},
    )


def test_orders_are_in_time_with_their_origin() -> None:
    scenario = parse(FULL)
    assert [(o.at_ms, o.what, o.origin) for o in scenario.orders[:4]] == [
        (1_000, "approve", "voters"),
        (2_000, "propose", "ops-0"),
        (3_000, "propose", "dev-3"),
        (4_000, "plan", "ops-0"),
    ]
    by_kind = {order.what: order for order in scenario.orders}
    assert by_kind["plan"].spec == PlanSpec(
        steps=(Step("voters", 1, 0), Step("voters", 0, 500), Step("observers", 0, 25)),
        soak_ms=2_000,
        deadline_ms=20_000,
        trial_ms=5_000,
        attempts=2,
        max_fail=1,
        min_confirmed=0,
        pause_after=(0,),
        barrier=True,
        hold_back=2,
        reserve=0,
        retries=1,
    )
    assert by_kind["resume"].without == ("dev-1",)
    assert by_kind["consent"].device == "dev-2"
    assert by_kind["keys"].keys == KeysModel(k=1, n=2)
    halts = [order for order in scenario.orders if order.what == "halt"]
    assert [(h.release, h.class_name) for h in halts] == [("", "gateway"), ("v2", "")]
    assert next(o for o in scenario.orders if o.origin == "dev-3").signers == 1


def test_short_forms() -> None:
    scenario = parse(
        "name: x\nduration: 9s\ndevices: {voters: 4}\nfirmware: {approve: auto, release: {v2: {}}}\n"
        "workload: [{at: 1s, firmware: {propose: v2}, from: dev-0}, {at: 2s, firmware: {halt: v2}}]\n"
    )
    model = model_of(scenario)
    assert model.keys == KeysModel(k=2, n=3)
    assert model.releases["v2"] == ReleaseModel(name="v2", behaves="healthy", number=2)
    assert model.classes == {"device": scenario.devices.ids}
    assert model.approve == "auto"
    assert scenario.orders[1] == FirmwareOrder(
        at_ms=2_000, order=1, what="halt", origin="voters", release="v2"
    )


SECTION = "firmware:\n  keys: 2of3\n"


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("  keys: 2of3\n", "  keys: 4of3\n", "firmware.keys", "4 of 3 keys cannot sign"),
        ("  keys: 2of3\n", "  keys: two\n", "firmware.keys", "such as 2of3"),
        ("approve: 2", "approve: 0", "firmware.approve", "auto or a number of operators"),
        ("obey_halt: false", "obey: false", "firmware.obey", "unknown key 'obey'"),
        ("sensor: [obs-0, obs-1]", "sensor: [obs-0]", "firmware.classes", "'obs-1' is in no class"),
        (
            "sensor: [obs-0, obs-1]",
            "sensor: all",
            "firmware.classes",
            "'dev-0' is in the classes gateway and sensor",
        ),
        ("sensor: [obs-0, obs-1]", "sensor: [obs-0, obs-7]", "firmware.classes.sensor[1]", "does not exist"),
        ("behaves: healthy", "behaves: sick", "firmware.release.v2.behaves", "unknown behaviour 'sick'"),
        ("behaves: healthy", "behaves: bomb", "firmware.release.v2.behaves", "a bomb needs its time"),
        (
            "{bomb: 60s}",
            "{boom: 60s}",
            "firmware.release.v3.behaves.boom",
            "unknown behaviour with a value 'boom'",
        ),
        ("{bomb: 60s}", "{bomb: soon}", "firmware.release.v3.behaves.bomb", "no duration"),
        ("class: gateway,", "class: getaway,", "firmware.release.v2.class", "did you mean 'gateway'?"),
        ("chunk: 8192", "chunk: 8000", "firmware.release.v2.chunk", "no power of two"),
        ("chunk: 8192", "chunk: 1024", "firmware.release.v2.chunk", "must be 4096 to"),
        ("bytes: 20000", "bytes: 20000000", "firmware.release.v2.bytes", "must be"),
        ("needs: {sensor: 2}", "needs: {sensors: 2}", "firmware.release.v2.needs.sensors", "unknown class"),
        ("number: 7", "number: 1", "firmware.release.v3.number", "must be 2 to"),
        ("oldest: 2", "oldest: 7", "firmware.release.v3.oldest", "not below number 7"),
        ("    v3:", "    factory:", "firmware.release.factory", "every device begins with"),
        ("during: swap", "during: lunch", "faults[0].during", "unknown step 'lunch'"),
        ("power_cut: dev-1", "power_cut: dev-9", "faults[1].power_cut", "does not exist"),
        ("power_cut: dev-1", "power_cut: dev-1, release: v2", "faults[1].release", "unknown fault or key"),
        ("stolen_keys: 2,", "stolen_keys: 4,", "faults[2].stolen_keys", "there are 3 release keys"),
        ("stolen_keys: 1", "stolen_keys: 0", "faults[3].stolen_keys", "must be 1 to"),
        ("release: v3, from: ops-1", "release: v9, from: ops-1", "faults[2].release", "unknown release 'v9'"),
        ("from: ops-1", "from: obs-1", "faults[2].from", "neither a voter nor an operator"),
        ("{propose: v2}", "{propse: v2}", "workload[0].firmware.propse", "did you mean 'propose'?"),
        ("{propose: v2}", "{propose: v4}", "workload[0].firmware.propose", "unknown release 'v4'"),
        ("{propose: v2}", "{}", "workload[0].firmware", "names no order"),
        ("{propose: v2}", "{propose: v2, halt: v2}", "workload[0].firmware", "two orders in one line"),
        ("signers: 1", "signers: 4", "workload[1].firmware.propose.signers", "there are 3 release keys"),
        ("from: dev-3", "from: dev-7", "workload[1].from", "does not exist"),
        ("from: dev-3", "from: obs-0", "workload[1].from", "counts for nothing"),
        ("{voters: 50%}", "{voters: half}", "workload[2].firmware.plan.steps[1].voters", "no share"),
        ("{voters: 50%}", "{people: 50%}", "workload[2].firmware.plan.steps[1].people", "unknown kind"),
        ("deadline: 20s", "deadline: 10s", "workload[2].firmware.plan", "deadline 10000 ms is not above"),
        ("hold_back: 2", "hold_back: 5", "workload[2].firmware.plan", "hold_back 5 of 4 voters"),
        ("hold_back: 2", "hold-back: 2", "workload[2].firmware.plan.hold-back", "did you mean 'hold_back'?"),
        ("{class: gateway}", "{class: x}", "workload[5].firmware.halt.class", "unknown class 'x'"),
        ("without: [dev-1]", "without: [x]", "workload[7].firmware.resume.without[0]", "does not exist"),
        ("device: dev-2", "device: obs-1", "workload[12].firmware.consent.device", "does not exist"),
        ("{keys: 1of2}", "{keys: 3of2}", "workload[13].firmware.keys", "cannot sign"),
        (
            "at: 9s, firmware: {go: v2}",
            "at: 9m, firmware: {go: v2}",
            "workload[11].at",
            "not within the run",
        ),
        (
            "state: completed",
            "state: complete",
            "expect.firmware.state",
            "did you mean 'completed'?",
        ),
        ("{v2: 4, factory: 2}", "{v9: 4}", "expect.firmware.running.v9", "unknown release"),
        ("{v2: 4, factory: 2}", "{v2: 7}", "expect.firmware.running", "7 devices of 6"),
        ("v3: unknown", "v3: gone", "expect.firmware.releases.v3", "unknown state 'gone'"),
        ("at_risk_max: 1", "at_risk: 1", "expect.firmware.at_risk", "did you mean 'at_risk_max'?"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(old: str, new: str, place: str, words: str) -> None:
    message = refusal(changed(old, new))
    assert f": {place}: " in message, message
    assert words in message


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("faults: [{at: 1s, power_cut: [dev-0]}]", "faults[0].power_cut"),
        ("faults: [{at: 1s, stolen_keys: 1}]", "faults[0].stolen_keys"),
        ("workload: [{at: 1s, firmware: {propose: v2}}]", "workload[0].firmware"),
        ("expect: {firmware: {state: completed}}", "expect.firmware"),
    ],
)
def test_nothing_about_firmware_goes_without_the_section(line: str, place: str) -> None:
    message = refusal(f"name: x\nduration: 9s\ndevices: {{voters: 4}}\n{line}\n")
    assert f"{place}: needs the section firmware" in message


def test_a_proposal_without_anybody_who_may_is_refused() -> None:
    message = refusal(
        "name: x\nduration: 9s\ndevices: {voters: 4}\nfirmware: {release: {v2: {}}}\n"
        "workload: [{at: 1s, firmware: {propose: v2}}]\n"
    )
    assert "workload[0]: 'propose' needs an operator" in message
    assert "operators: 1" in message


def test_a_real_broker_refuses_firmware_and_operators_by_name() -> None:
    with pytest.raises(ConfigError, match=r"firmware: firmware is not supported by engine 'mqtt'"):
        check_engine(parse(FULL), "mqtt")
    plain = parse("name: x\nduration: 9s\ndevices: {voters: 4, operators: 1}\n")
    with pytest.raises(
        ConfigError, match=r"devices.operators: an operator is not supported by engine 'mqtt'"
    ):
        check_engine(plain, "mqtt")
    check_engine(parse(FULL), "sim")
