"""Names of tasks and groups, taken apart and put together."""

from itertools import product

import pytest

from egost.tasks.errors import SettingError
from egost.tasks.sample import TASK_KINDS, WAYS, World
from egost.tasks.task_names import named_tasks, parse_task_name, task_name


@pytest.mark.parametrize(("prefix", "world"), [("egost", "official"), ("egost_mini", "mini")])
def test_each_task_is_read_back_from_its_name(prefix: str, world: World) -> None:
    for kind, way in product(TASK_KINDS, WAYS):
        name = task_name(world, kind, way)
        assert name == f"{prefix}_{kind}_{way}"
        found = parse_task_name(name)
        assert found is not None and not found.is_group
        assert (found.name, found.world, found.tasks, found.kinds) == (name, world, ((kind, way),), {kind})


@pytest.mark.parametrize(
    ("ending", "kinds"),
    [
        ("", TASK_KINDS),
        ("_st", ("route", "direction")),
        ("_mcq", ("direction", "landmark", "action")),
        ("_route", ("route",)),
    ],
)
def test_groups_hold_both_ways_of_their_kinds(ending: str, kinds: tuple[str, ...]) -> None:
    for prefix, world in (("egost", "official"), ("egost_mini", "mini")):
        found = parse_task_name(prefix + ending)
        assert found is not None and found.is_group
        assert (found.world, found.tasks) == (world, tuple(product(kinds, WAYS)))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mmmu",
        "egost_",
        "egost_mini_",
        "egost_route_",
        "egost_direction",
        "egostroute",
        "Egost",
        "egost,egost",
    ],
)
def test_other_names_are_none_of_ours(name: str) -> None:
    assert parse_task_name(name) is None
    if "," not in name:
        with pytest.raises(SettingError, match=f"'{name}' is none of our tasks; expected egost, egost_st"):
            named_tasks(name)


def test_lists_of_names_keep_their_order_and_name_each_task_once() -> None:
    assert named_tasks("egost_mini_route_reverse , egost_mini_route") == (
        "mini",
        [("route", "reverse"), ("route", "forward")],
    )
    assert len(named_tasks("egost, egost_mcq")[1]) == 8
    with pytest.raises(SettingError, match="mixes the benchmark and the mini world"):
        named_tasks("egost_mcq,egost_mini_mcq")
