"""Hyper-parameters from the command line: "noise_level=500" becomes a typed field, or a clear refusal.

Fields are validated by pydantic from the dataclass's own annotations, so that one declaration is the schema, the help
text and the record. Nothing here reads data or imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from uadbench.errors import BadParameter, suggest, unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: its name, type in words, default (None if `required`) and description."""

    name: str
    type: str
    default: Any
    description: str
    required: bool = False


@dataclass(frozen=True)
class Resolved:
    """The value of a parameter and where it came from."""

    value: Any
    source: str


def describe(cls: type) -> list[Parameter]:
    """Return the parameters of a dataclass, in order."""
    hints = get_type_hints(cls, include_extras=True)
    out = []
    for f in fields(cls):
        info = _info(hints[f.name])
        required = f.default is MISSING and f.default_factory is MISSING
        default = None if required else f.default if f.default_factory is MISSING else f.default_factory()
        description = (info.description or "") if info else ""
        out.append(Parameter(f.name, type_in_words(hints[f.name]), default, description, required))
    return out


def type_in_words(hint: Any) -> str:
    """Return "integer in [1, 1000]", "one of: a, b" and so on for an annotation."""
    if get_origin(hint) is Annotated:
        return type_in_words(get_args(hint)[0]) + _bounds(_info(hint))
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of: " + ", ".join(str(a) for a in args)
    if origin in (Union, UnionType):
        return " or ".join("none" if a is type(None) else type_in_words(a) for a in args)
    if origin in (tuple, list):
        words = type_in_words(args[0])
        if words.startswith("one of"):
            return f"list of {words.removeprefix('one of: ')}"
        noun, _, limits = words.partition(" ")
        fixed = origin is tuple and args[-1] is not Ellipsis
        return f"{len(args) if fixed else 'list of'} {noun}s {limits}".rstrip()
    plain = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def resolve(
    cls: type[T], layers: Sequence[tuple[str, Mapping[str, Any]]], *, owner: str = ""
) -> tuple[T, dict[str, Resolved]]:
    """Make an instance of the dataclass `cls`.

    Args:
        cls: a dataclass with annotated fields.
        layers: (origin, values by parameter name), later ones win: a preset, a settings file, the command line. Values
            may be text as typed by the user.
        owner: name for messages, such as "mddpm".

    Returns:
        The instance, and every parameter with its value and origin.

    Raises:
        BadParameter: for an unknown name, a wrong type or a value out of range.
    """
    owner = owner or cls.__name__
    hints = get_type_hints(cls, include_extras=True)
    parameters = describe(cls)
    values: dict[str, Resolved] = {p.name: Resolved(p.default, "default") for p in parameters}
    missing = [p for p in parameters if p.required and not any(p.name in given for _, given in layers)]
    if missing:
        words = "; ".join(f"{p.name}=... ({p.description})" for p in missing)
        raise BadParameter(f"{owner} needs {words}")
    for source, given in layers:
        for name, value in given.items():
            if name not in values:
                raise BadParameter(
                    f"{owner} has no parameter {name!r} ({source}).{suggest(name, values)} "
                    f"It has: {', '.join(values) or 'none'}."
                )
            values[name] = Resolved(_validate(owner, name, value, hints[name]), source)
    return create(cls, {n: r.value for n, r in values.items()}, owner=owner), values


def create(cls: type[T], values: Mapping[str, Any], *, owner: str = "") -> T:
    """Make an instance of `cls` from typed values; a ValueError of its own checks becomes BadParameter."""
    try:
        return cls(**values)
    except ValueError as error:
        raise BadParameter(f"{owner or cls.__name__}: {error}") from error


def choose_preset(owner: str, presets: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the preset `name`. "quick" and "paper" always exist; without an entry they are the defaults.

    Raises:
        UnknownName: if there is no such preset.
    """
    if name in presets:
        return presets[name]
    if name in ("quick", "paper"):
        return {}
    raise unknown_name(f"preset of {owner}", name, {"quick", "paper", *presets})


def assign(
    texts: Sequence[str], owners: Mapping[str, Sequence[str]], kind: str = "method"
) -> dict[str, dict[str, str]]:
    """Sort "key=value" and "owner.key=value" by owner.

    Args:
        texts: as typed.
        owners: the parameters of each method (or dataset) that takes part.
        kind: for messages.

    Returns:
        Text by parameter name for each owner. A key without an owner goes to all that have such a parameter.

    Raises:
        BadParameter: without "=", for an owner that takes no part, or a key that no owner has.
    """
    out: dict[str, dict[str, str]] = {owner: {} for owner in owners}
    special: dict[str, dict[str, str]] = {owner: {} for owner in owners}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise BadParameter(f"{text!r} is not of the form key=value or name.key=value, such as seed=3")
        owner, dot, name = key.rpartition(".")
        if dot and owner not in owners:
            raise BadParameter(
                f"{text!r}: no {kind} {owner!r} takes part here.{suggest(owner, owners)} Here: {', '.join(owners)}."
            )
        takers = [owner] if dot else [o for o, names in owners.items() if name in names]
        if not takers:
            known = sorted({n for names in owners.values() for n in names})
            raise BadParameter(
                f"no {kind} here ({', '.join(owners)}) has a parameter {name!r}.{suggest(name, known)} "
                f"Known: {', '.join(known) or 'none'}."
            )
        for taker in takers:
            (special if dot else out)[taker][name] = value
    return {owner: out[owner] | special[owner] for owner in owners}  # The more special word wins, whatever the order.


def _info(hint: Any) -> FieldInfo | None:
    if get_origin(hint) is Annotated:
        return next((a for a in get_args(hint)[1:] if isinstance(a, FieldInfo)), None)
    return None


def _bounds(info: FieldInfo | None) -> str:
    """Return " in [1, 1000)" for the limits of a field, or ", at least 1 of them" for those of a list."""
    low, high, left, right = None, None, "[", "]"
    for limit in info.metadata if info else []:
        if (length := getattr(limit, "min_length", None)) is not None:
            return f", at least {length} of them"
        low = getattr(limit, "ge", low)
        high = getattr(limit, "le", high)
        if (gt := getattr(limit, "gt", None)) is not None:
            low, left = gt, "("
        if (lt := getattr(limit, "lt", None)) is not None:
            high, right = lt, ")"
    if low is None and high is None:
        return ""
    if high is None:
        return f" {'>' if left == '(' else '>='} {low}"
    if low is None:
        return f" {'<' if right == ')' else '<='} {high}"
    return f" in {left}{low}, {high}{right}"


def _validate(owner: str, name: str, value: Any, hint: Any) -> Any:
    """Return `value`, text or typed, as the type `hint`."""
    typed = _from_text(value, hint) if isinstance(value, str) else value
    try:
        return TypeAdapter(hint).validate_python(typed)
    except ValidationError:
        info = _info(hint)
        words, description = type_in_words(hint), (info.description if info else None) or ""
        if any(getattr(limit, "pattern", None) for limit in (info.metadata if info else [])):
            words, description = description, ""  # The description says it better than a regular expression.
        meaning = f" ({description})" if description else ""
        got = repr(value) if value != "" else "nothing"
        raise BadParameter(f"{owner}.{name} must be {words}; got {got}{meaning}") from None


def as_text(value: Any) -> str:
    """Return a value as a user would type it: (1, 2) is "1,2"."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _from_text(text: str, hint: Any) -> Any:
    """Return None, a list of texts or the text itself, whatever the annotation asks for."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    options = get_args(bare) if get_origin(bare) in (Union, UnionType) else (bare,)
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    if any(get_origin(option) in (tuple, list) for option in options):
        return [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    return text
