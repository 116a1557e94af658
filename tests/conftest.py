"""What holds for every test: a fixed seed, poisoned fresh memory, settings put back, a time budget."""

import hashlib
import time
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# The same examples at every run: a red test is the fault of the change, not of the draw.
hypothesis.settings.register_profile("elman", deadline=None, derandomize=True, max_examples=20, database=None)
hypothesis.settings.load_profile("elman")

_STARTED = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--budget SECONDS`."""
    parser.addoption(
        "--budget",
        type=float,
        default=None,
        metavar="SECONDS",
        help="run in a stable shuffled order and skip what has not begun after so many seconds",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread a budget over all files: order by a hash of the name, the same in every worker and at every run."""
    if config.getoption("--budget") is not None:
        items.sort(key=lambda item: hashlib.sha256(item.nodeid.encode()).digest())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip once the budget is used up."""
    budget = item.config.getoption("--budget")
    if budget is not None and time.monotonic() - _STARTED > budget:
        pytest.skip(f"the budget of {budget:g} s is used up (`make slow` runs all)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A tree without slow tests is no failure."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("--budget") is not None:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Seed torch, fill fresh memory with NaN, and put back what a test may have changed."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(0)
    # Fresh memory is filled with NaN only while deterministic algorithms are asked for.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
