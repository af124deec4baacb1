"""Every public function lists its arguments, what it returns and what it raises."""

import builtins
import inspect
import re

import pytest

import ufm

FUNCTIONS = [
    name
    for name in ufm.__all__
    if callable(getattr(ufm, name)) and not inspect.isclass(getattr(ufm, name))
]
#: Functions that look at no argument which could be wrong.
RAISE_NOTHING = {"enable_compilation_cache", "origin", "sample_mesh"}


def sections(name: str) -> dict[str, str]:
    text = inspect.getdoc(getattr(ufm, name)) or ""
    parts = re.split(r"^(Args|Returns|Raises):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> list[str]:
    return re.findall(r"^    (\w+): \S", section, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_are_those_of_the_signature(name):
    listed = entries(sections(name).get("Args", ""))
    assert listed == list(inspect.signature(getattr(ufm, name)).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_says_what_comes_back_and_what_is_raised(name):
    found = sections(name)
    assert found["Returns"].strip()
    raised = entries(found.get("Raises", ""))
    assert bool(raised) == (name not in RAISE_NOTHING)
    assert all(issubclass(getattr(builtins, error), Exception) for error in raised)
