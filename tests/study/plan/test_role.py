"""A role is what the rows hold, and says what it means."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from study.plan.role import Role


@pytest.mark.parametrize(
    ("text", "arms", "is_default"),
    [("default", (), True), ("arm:T", ("T",), False), ("arm:T+arm:rtol", ("T", "rtol"), False), ("sobol", (), False)],
)
def test_a_role_is_read_from_its_column(text: str, arms: tuple[str, ...], is_default: bool) -> None:
    role = pickle.loads(pickle.dumps(Role(text)))
    assert (role.arms, role.is_default, pa.array([role]).to_pylist()) == (arms, is_default, [text])


def test_a_point_on_two_arms_has_both_roles_and_the_default_its_own() -> None:
    both = Role.arm("T").joined(Role.arm("rtol"))
    assert both == "arm:T+arm:rtol"
    assert both.joined(Role.arm("T")) == both
    assert Role("default").joined(both) == "default"
