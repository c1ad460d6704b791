"""Typed parameters as the texts and node references that a vtkMRMLScriptedModuleNode keeps (in Slicer's own format)."""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import slicer

from .validators import Default, Validator

_PATHS = (pathlib.Path, pathlib.PurePath)
_NUMBERS = (int, float)


def split_annotations(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    """Type and annotations of `Annotated[type, ...]`."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *rest = typing.get_args(annotated)
        return kind, tuple(one() if isinstance(one, type) and issubclass(one, Validator) else one for one in rest)
    return annotated, ()


def node_classes(kind: Any) -> tuple[type, ...]:
    """The MRML classes of a node parameter (`vtkMRMLModelNode`, a union of such, or with None); () for other types."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    members = [member for member in (typing.get_args(kind) if is_union else (kind,)) if member is not type(None)]
    all_nodes = all(isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode) for member in members)
    return tuple(members) if members and all_nodes else ()


def _is_simple(kind: Any) -> bool:
    return kind in (bool, int, float, str, *_PATHS) or (isinstance(kind, type) and issubclass(kind, enum.Enum))


class Parameter:
    """One parameter: its name, type, limits and default; reads and writes it on a parameter node."""

    def __init__(self, name: str, annotated: Any, default: Any) -> None:
        self.name, self.annotated = name, annotated
        self.type, self.annotations = split_annotations(annotated)
        self.nodes = node_classes(self.type)
        if not self.nodes and not _is_simple(self.type):
            raise TypeError(f"{name}: the host's own wrapper keeps no {annotated}; name Slicer's in SLICER_PYTHON_DIR")
        given = [one.value for one in self.annotations if isinstance(one, Default)]
        self.default = given[0] if given else self._plain_default() if default is ... else default

    def _plain_default(self) -> Any:
        if self.nodes:
            return None
        return next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()

    def is_in(self, node: Any) -> bool:
        """Whether the parameter was ever written."""
        return bool(node.HasParameter(self.name))

    def write(self, node: Any, value: Any) -> None:
        """Check and write a value; ValueError or TypeError when it is not allowed."""
        for one in self.annotations:
            if isinstance(one, Validator):
                one.validate(value)
        if self.nodes:
            self._write_node(node, value)
            return
        self._check_type(value)
        node.SetParameter(self.name, _to_text(self.type, value))

    def _write_node(self, node: Any, value: Any) -> None:
        if value is not None and not isinstance(value, self.nodes):
            raise TypeError(f"{self.name}: {value.GetClassName()} is none of {[cls.__name__ for cls in self.nodes]}")
        before = node.StartModify()
        node.SetParameter(self.name, "")
        node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        node.EndModify(before)

    def _check_type(self, value: Any) -> None:
        kind = self.type
        allowed = _NUMBERS if kind is float else _PATHS if kind in _PATHS else kind
        if kind is bool:
            return  # Slicer takes any truth value
        if value is None:
            raise ValueError(f"{self.name}: Value must not be None")
        if not isinstance(value, allowed):
            raise TypeError(f"{self.name}: {value!r} is no {kind.__name__}")

    def read(self, node: Any) -> Any:
        """The value; the default is written first when there is none."""
        if not self.is_in(node):
            self.write(node, self.default)
        if self.nodes:
            return node.GetNodeReference(self.name)
        return _from_text(self.type, node.GetParameter(self.name))


def _to_text(kind: Any, value: Any) -> str:
    if kind is bool:
        return "True" if value else "False"
    if isinstance(value, enum.Enum):
        return value.name
    return str(value)


def _from_text(kind: Any, text: str) -> Any:
    if kind is bool:
        return text == "True"
    if issubclass(kind, enum.Enum):
        return kind[text]
    return kind(text)
