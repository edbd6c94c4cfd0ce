from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from uadbench.errors import BadParameter, UnknownName
from uadbench.params import assign, choose_preset, describe, resolve, type_in_words


@dataclass
class Toy:
    noise_level: Annotated[int, Field(ge=1, le=1000, description="steps")] = 500
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    noise: Literal["simplex", "gaussian"] = "simplex"
    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2)
    sides: Annotated[tuple[int, int, int], Field(description="8 to 256 each")] = (8, 8, 8)
    modality: Annotated[str, Field(pattern="^(t1|t2)$", description="t1 or t2")] = "t1"
    size: Annotated[int | None, Field(ge=8)] = None
    flag: bool = False
    where: Path = Path("x")

    def __post_init__(self) -> None:
        if self.noise_level == 13:
            raise ValueError("13 is refused")


def command_line(**given: str) -> list[tuple[str, dict[str, str]]]:
    return [("command line", given)]


def test_text_becomes_typed() -> None:
    toy, record = resolve(
        Toy, command_line(noise_level="3", channels="32, 64", size="none", flag="true", noise="gaussian", where="/a/b")
    )
    assert toy == Toy(3, 0.5, "gaussian", (32, 64), size=None, flag=True, where=Path("/a/b"))
    assert record["noise_level"].source == "command line"
    assert record["rate"].source == "default"


def test_later_layers_win_and_are_named() -> None:
    toy, record = resolve(Toy, [("preset quick", {"rate": 0.1, "noise_level": 7}), ("uadbench.toml", {"rate": 0.2})])
    assert (toy.rate, toy.noise_level) == (0.2, 7)
    assert record["rate"].source == "uadbench.toml"
    assert record["noise_level"].source == "preset quick"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("noise_level", "abc", ["toy.noise_level", "integer in [1, 1000]", "'abc'"]),
        ("noise_level", "0", ["integer in [1, 1000]"]),
        ("noise_level", "1.5", ["integer"]),
        ("rate", "1", ["number in (0, 1)"]),
        ("noise", "simplx", ["one of: simplex, gaussian"]),
        ("channels", "a,b", ["list of integers >= 1"]),
        ("channels", "", ["list of integers >= 1, at least 1 of them; got nothing"]),
        ("channels", "-3,5", ["list of integers >= 1", "'-3,5'"]),
        ("sides", "3,3", ["must be 3 integers; got '3,3' (8 to 256 each)"]),
        ("modality", "flair", ["toy.modality must be t1 or t2; got 'flair'"]),
        ("size", "7", ["integer or none"]),
        ("flag", "perhaps", ["true or false"]),
        ("noise_level", "13", ["13 is refused"]),
    ],
)
def test_wrong_values_are_answered_with_type_and_range(name: str, value: str, words: list[str]) -> None:
    with pytest.raises(BadParameter) as caught:
        resolve(Toy, command_line(**{name: value}), owner="toy")
    for word in words:
        assert word in str(caught.value)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(BadParameter, match="no parameter 'nois_level'.*Did you mean 'noise_level'"):
        resolve(Toy, command_line(nois_level="3"))
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        choose_preset("toy", {}, "quik")


def test_required_parameters_are_named() -> None:
    @dataclass
    class Needy:
        source: Annotated[str, Field(description="where from")]

    with pytest.raises(BadParameter, match=r"source=\.\.\. \(where from\)"):
        resolve(Needy, [])
    assert describe(Needy)[0].required


def test_describe_has_type_default_and_description() -> None:
    first = describe(Toy)[0]
    assert (first.name, first.type, first.default, first.description) == (
        "noise_level",
        "integer in [1, 1000]",
        500,
        "steps",
    )
    assert type_in_words(Annotated[int, Field(ge=2)]) == "integer >= 2"
    assert type_in_words(Annotated[float, Field(lt=2)]) == "number < 2"
    assert type_in_words(tuple[Literal["a", "b"], ...]) == "list of a, b"


def test_assignments_go_to_their_owners_and_the_special_one_wins() -> None:
    owners = {"a": ["steps", "rate"], "b": ["steps"]}
    assert assign(["a.steps=3", "steps=1", "rate=2"], owners) == {"a": {"steps": "3", "rate": "2"}, "b": {"steps": "1"}}
    assert assign(["where=a=b"], {"a": ["where"]}) == {"a": {"where": "a=b"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("c.steps=1", "no method 'c' takes part"),
        ("stps=1", "Did you mean 'steps'"),
    ],
)
def test_wrong_assignments_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        assign([text], {"a": ["steps"], "b": ["steps"]})
