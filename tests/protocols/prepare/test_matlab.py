"""Files that SciPy wrote and files that Matlab wrote, which SciPy brings for its own tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.matlab
from scipy.io import loadmat, savemat

from protocols.prepare.matlab import read_field

MATLAB = Path(scipy.io.matlab.__file__).parent / "tests" / "data"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (0, 4), (2, 3, 4)])
def test_what_scipy_wrote(shape: tuple[int, ...], dtype: str, compressed: bool, tmp_path: Path) -> None:
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    fields = {"before": [[1, 2]], "wanted": numbers, "a_name_of_the_greatest_length_31": {"nested": 3}}
    variables = {"other": np.eye(3), "found": fields}
    savemat(tmp_path / "x.mat", variables, do_compression=compressed, long_field_names=True)
    assert np.array_equal(read_field(tmp_path / "x.mat", "found", "wanted"), numbers)
    with pytest.raises(ValueError, match="no field absent"):
        read_field(tmp_path / "x.mat", "found", "absent")
    with pytest.raises(ValueError, match="no struct other"):
        read_field(tmp_path / "x.mat", "other", "wanted")


# 7.x compresses, Solaris (SOL2) is big-endian.
@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_what_matlab_wrote(version: str) -> None:
    path = MATLAB / f"teststruct_{version}.mat"
    if not path.is_file():
        pytest.skip("this SciPy brings no files of its tests")
    expected = loadmat(path)["teststruct"]["doublefield"][0, 0]
    assert np.array_equal(read_field(path, "teststruct", "doublefield"), expected)


def test_any_other_file_is_a_value_error() -> None:
    for path in sorted(MATLAB.glob("*.mat")):
        with pytest.raises(ValueError, match=r"no struct|no Matlab file|cut short|incorrect"):
            read_field(path, "GTcls", "Segmentation")
