"""Read handwritten YAML files, with errors that name the file, the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


def read_yaml(path: Path, what: str, examples: str) -> Any:
    """Return the content of a YAML file.

    Args:
        what: kind of file, for the messages: "params file".
        examples: folder with examples of such files.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{what} {path} does not exist; see the folder {examples}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from None


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
