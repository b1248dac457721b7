"""What all tests share: the device they run on, and random numbers that start afresh."""

import pytest

import tinygan
from tinygan.backend import DeviceError


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where arrays live: cpu, gpu or gpu:1")


def pytest_configure(config):
    try:
        tinygan.use_device(config.getoption("--device"))
    except DeviceError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(autouse=True)
def _seeded():
    """No test depends on how many random numbers those before it drew."""
    tinygan.seed(0)
