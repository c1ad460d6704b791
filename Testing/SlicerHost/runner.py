"""Runs a module's own tests as Slicer's harness does, and fails those after which the host saw a problem."""

from __future__ import annotations

import sys
import unittest
from typing import Any, TextIO

import slicer

from . import problems
from .module_loader import ScriptedModule


def run_module_tests(module: ScriptedModule, stream: TextIO | None = None) -> unittest.TestResult:
    """Run each `test_*` of the module's test class on its own, then all of them as the Reload and Test button does."""
    test_class = module.test_class()
    if test_class is None:
        raise AssertionError(f"{module.path} has no class {module.name}Test")
    guarded = _guarded(test_class)
    names = unittest.defaultTestLoader.getTestCaseNames(guarded)
    suite = unittest.TestSuite(guarded(name) for name in names)
    suite.addTest(_by_button(module))
    return unittest.TextTestRunner(stream=stream or sys.stdout, verbosity=2).run(suite)


def _guarded(test_class: Any) -> Any:
    """The same test class; what the host saw during a test is raised at its end."""

    class Guarded(test_class):
        def run(self, result: Any = None) -> Any:
            problems.take()
            self.addCleanup(problems.check)  # runs after tearDown
            return super().run(result)

    Guarded.__name__ = Guarded.__qualname__ = test_class.__name__
    Guarded.__module__ = test_class.__module__
    return Guarded


def _by_button(module: ScriptedModule) -> unittest.TestCase:
    def run_all_as_the_panel_does() -> None:
        problems.take()
        slicer.selfTests[module.name](msec=0)
        problems.check()

    return unittest.FunctionTestCase(run_all_as_the_panel_does, description=f"{module.name}: runTest() of the panel")
