"""`slicer.parameterNodeWrapper`: typed members over a parameter node, bound to the widgets that name them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

import vtk

from . import gui_connectors
from .parameter_text import Parameter
from .validators import (
    Choice,
    Decimals,
    Default,
    Exclude,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
SlicerParameterNamePropertyName = "SlicerParameterName"


class _Wrapper:
    """What the decorator adds to a parameter node class."""

    allParameters: Mapping[str, Parameter] = {}
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._bindings: dict[int, _Binding] = {}
        self._next_tag = 0
        self._updating_gui = False
        for parameter in self.allParameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default)

    def getValue(self, name: str) -> Any:
        """Value of the parameter of that name."""
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        """Set the parameter of that name."""
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        """Default of the parameter of that name."""
        return Default(self._parameter(name).default)

    @classmethod
    def dataType(cls, name: str) -> Any:
        """Annotated type of the parameter of that name."""
        return cls._parameter(name).annotated

    @classmethod
    def _parameter(cls, name: str) -> Parameter:
        if name not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(cls.allParameters)}")
        return cls.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Bind every widget whose property SlicerParameterName names a parameter; returns a tag for disconnectGui."""
        import qt

        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int:
        """Bind widgets by parameter name; returns a tag for disconnectGui."""
        links = {name: gui_connectors.connect(widget, self._parameter(name)) for name, widget in mapping.items()}
        self._next_tag += 1
        self._bindings[self._next_tag] = _Binding(self, links)
        return self._next_tag

    def disconnectGui(self, tag: int) -> None:
        """Undo connectGui."""
        binding = self._bindings.pop(tag, None)
        if binding is not None:
            binding.release()

    def StartModify(self) -> Any:
        """Hold back Modified events."""
        return self.parameterNode.StartModify()

    def EndModify(self, before: Any) -> Any:
        """Let Modified events go."""
        return self.parameterNode.EndModify(before)

    def AddObserver(self, event: Any, handler: Any, priority: float = 0.0) -> int:
        """Observe the parameter node."""
        return self.parameterNode.AddObserver(event, handler, priority)

    def RemoveObserver(self, tag: int) -> None:
        """Stop observing the parameter node."""
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        """Tell the observers of the parameter node."""
        self.parameterNode.Modified()


class _Binding:
    """Widgets and parameters kept in step until release()."""

    def __init__(self, wrapper: _Wrapper, links: Mapping[str, gui_connectors.Link]) -> None:
        self._wrapper, self._links = wrapper, links
        self._handlers: dict[str, Callable[..., None]] = {}
        for name, link in links.items():
            link.write(wrapper.getValue(name))
            if link.signal is not None:
                self._handlers[name] = self._handler(name, link)
                link.signal.connect(self._handlers[name])
        self._tag = wrapper.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_modified)

    def _handler(self, name: str, link: gui_connectors.Link) -> Callable[..., None]:
        def on_changed(*_values: Any) -> None:
            if not self._wrapper._updating_gui:
                self._wrapper.setValue(name, link.read())

        return on_changed

    def _on_modified(self, _caller: Any = None, _event: str = "") -> None:
        if self._wrapper._updating_gui:
            return
        self._wrapper._updating_gui = True
        try:
            for name, link in self._links.items():
                link.write(self._wrapper.getValue(name))
        finally:
            self._wrapper._updating_gui = False

    def release(self) -> None:
        """Stop keeping them in step."""
        self._wrapper.RemoveObserver(self._tag)
        for name, handler in self._handlers.items():
            self._links[name].signal.disconnect(handler)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: annotated members become typed, stored, bindable parameters."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: Parameter(name, hint, getattr(classtype, name, ...)) for name, hint in hints.items()}
    for name in parameters:
        if hasattr(_Wrapper, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(classtype, name, _property(name))
    for name, value in vars(_Wrapper).items():
        if not name.startswith("__") or name == "__init__":
            setattr(classtype, name, value)
    classtype.allParameters = parameters  # type: ignore[attr-defined]
    return classtype


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def isParameterNodeWrapper(thing: Any) -> bool:
    """Whether a class or object was made by parameterNodeWrapper."""
    return getattr(thing, "_is_parameter_node_wrapper", False)
