"""Read text, JSON and YAML files that people or damaged disks may have written. Every error names file and remedy."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


def read_text(path: Path, what: str = "", hint: str = "") -> str:
    """Return the content of a UTF-8 file.

    Args:
        what: kind of file, for the messages: "params file".
        hint: what to do if the file does not exist.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    name = f"{what} {path}".strip()
    try:
        # A FIFO or a device would block, or never end.
        if path.exists() and not path.is_file():
            raise ValueError(f"{name} is not a regular file; give the path of one")
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ValueError(f"{name} does not exist{f'; {hint}' if hint else ''}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None


def parse_json(text: str, name: str) -> Any:
    """Return parsed JSON.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits too
        raise ValueError(f"{name} is not a complete JSON file ({error})") from None


def read_yaml(path: Path, what: str, examples: str) -> Any:
    """Return the content of a YAML file. Keys must be unique, and aliases are refused: they can multiply endlessly.

    Args:
        what: kind of file, for the messages: "params file".
        examples: folder with examples of such files.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    text = read_text(path, what, f"see the folder {examples}")
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except RecursionError:
        raise ValueError(f"{what} {path} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from None


class _StrictLoader(yaml.SafeLoader):
    """A safe loader without aliases and without duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.YAMLError(f"line {mark.line + 1}: aliases (*name) are not supported; repeat the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: key {key.value!r} occurs twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_as(kind: type[Kind], path: Path, what: str, examples: str) -> Kind:
    """Return a YAML file as a checked model.

    Raises:
        ValueError: one line that names the file, the key, its value, and what is wrong with it.
    """
    try:
        return kind.model_validate(read_yaml(path, what, examples))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or what
        said = "is an unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{what} {path}: {where}={first['input']!r}: {said}") from None
