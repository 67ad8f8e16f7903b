"""The order of versions, asked of dpkg where there is one."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings

from onggi.bootstrap.versions import compare_versions
from tests.unit.test_bootstrap_versions import VERSIONS


@pytest.fixture(scope="module")
def dpkg() -> str:
    """Give the dpkg of this machine."""
    found = shutil.which("dpkg")
    if found is None:
        pytest.skip("needs dpkg: there is none on this distribution")
    return found


def test_dpkg_orders_versions_as_we_do(dpkg: str) -> None:
    compared = 0

    @given(VERSIONS, VERSIONS)
    @settings(max_examples=150)
    def agree(a: str, b: str) -> None:
        nonlocal compared
        order = compare_versions(a, b)
        for relation, expected in (("lt", order < 0), ("gt", order > 0)):
            done = subprocess.run([dpkg, "--compare-versions", a, relation, b], check=False, capture_output=True)
            if not done.stderr:  # dpkg warns of versions that it compares only out of kindness
                assert (done.returncode == 0) is expected, (a, relation, b)
                compared += 1

    agree()
    assert compared > 20
