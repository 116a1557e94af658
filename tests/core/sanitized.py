"""A pytest plugin: the core built at ELMAN_CORE (a file) takes the place of the installed one."""

import importlib.util
import os
import sys

spec = importlib.util.spec_from_file_location("elman._core", os.environ["ELMAN_CORE"])
assert spec
assert spec.loader
module = importlib.util.module_from_spec(spec)
sys.modules["elman._core"] = module
spec.loader.exec_module(module)


def pytest_report_header() -> str:
    return f"core: {module.__file__}"
