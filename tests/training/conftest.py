import pytest

from toy_training import fit


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run of ten steps without interruption."""
    return fit(tmp_path_factory.mktemp("whole"), 10)
