"""Readers and writers of files that a scripted module brings: the classes <Module>FileReader and <Module>FileWriter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer


class _Parent:
    """What such a class calls `self.parent`: Slicer's qSlicerScriptedFileReader or -Writer."""

    def __init__(self) -> None:
        self.loadedNodes: list[str] = []
        self.writtenNodes: list[str] = []
        self._messages = slicer.vtkMRMLMessageCollection()

    def userMessages(self) -> Any:
        """What the user is to be told."""
        return self._messages

    def supportedNameFilters(self, path: str) -> list[str]:
        """The reader's name filters that the file's name fits."""
        return [text for text in self.owner.extensions() if _fits(text, path)]

    owner: Any = None


class ScriptedFiles:
    """The readers and writers of the modules that are loaded, by the name of the module."""

    def __init__(self) -> None:
        self._readers: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}

    def register(self, name: str, module: ModuleType) -> None:
        """Take a module's classes, if it has them; a reload replaces those before."""
        for kind, known in (("FileReader", self._readers), ("FileWriter", self._writers)):
            found = getattr(module, name + kind, None)
            if found is not None:
                parent = _Parent()
                known[name] = parent.owner = found(parent)

    def reader_of(self, path: str) -> Any:
        """The surest reader of a file, if one is surer than Slicer's own (0.5 and a little for its ending)."""
        sure = {reader: reader.canLoadFileConfidence(path) for reader in self._readers.values()}
        best = max(sure, key=lambda reader: sure[reader], default=None)
        return best if best is not None and sure[best] > 0 else None

    def load(self, kind: str, properties: Mapping[str, Any], messages: Any) -> list[Any] | None:
        """The nodes that the reader of this type loaded; None when there is no such reader or it refused."""
        reader = next((reader for reader in self._readers.values() if reader.fileType() == kind), None)
        if reader is None:
            return None
        reader.parent.userMessages().ClearMessages()
        loaded = reader.load(dict(properties))
        _pass_on(reader, messages)  # warnings too, as Slicer does
        if not loaded:
            return None
        return [slicer.mrmlScene.GetNodeByID(name) for name in reader.parent.loadedNodes]

    def writer_of(self, node: Any, path: str = "") -> Any:
        """The surest writer of a node, or the one whose ending the file has."""
        for writer in self._writers.values():
            sure = writer.canWriteObjectConfidence(node)
            if sure > 0.5 or (sure > 0 and any(_fits(text, path) for text in writer.extensions(node))):
                return writer
        return None

    def filters(self, node: Any) -> list[str]:
        """What the writers offer for a node in Save."""
        able = (writer for writer in self._writers.values() if writer.canWriteObjectConfidence(node) > 0)
        return [text for writer in able for text in writer.extensions(node)]

    def save(self, writer: Any, properties: Mapping[str, Any], messages: Any) -> bool:
        """Write a node."""
        writer.parent.userMessages().ClearMessages()
        done = bool(writer.write(dict(properties)))
        _pass_on(None if done else writer, messages)
        return done


def _fits(name_filter: str, path: str) -> bool:
    """Whether a file's name fits a filter such as "Compressed volume (*.maez)"."""
    endings = name_filter.partition("(")[2].rstrip(")").replace("*", "").split()
    return any(Path(path).name.lower().endswith(ending.lower()) for ending in endings)


def _pass_on(handler: Any, messages: Any) -> None:
    if handler is not None and messages is not None:
        messages.AddMessages(handler.parent.userMessages())
