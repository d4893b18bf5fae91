"""Reading what people write by hand: YAML files, with errors that name the file, the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


def read_yaml(path: Path, what: str, examples: str) -> Any:
    """The content of a YAML file.

    Args:
        what: what the file is, in words: "params file".
        examples: the folder where such files are to be seen.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{what} {path} does not exist; see the folder {examples}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path} is no YAML: {' '.join(str(error).split())}") from None


def read_as(kind: type[Kind], path: Path, what: str, examples: str) -> Kind:
    """A YAML file as a checked model.

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
