import pickle
import pickletools
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detector.errors import CheckpointError
from detector.published.plain_pickle import read_pickled_weights
from tests.builders_detector import tiny_model

KINDS = ["f4", "f8", "f2", "i8", "u1", "b1", ">f4", ">i4"]
A_HUGE_LENGTH = b"\x8e" + (1 << 60).to_bytes(8, "little")  # BINBYTES8


def written(folder: Path, content: Any, protocol: int = 2) -> Path:
    path = folder / "weights.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Calling:
    """Asks for a function when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_arrays_come_back_whatever_the_protocol(tmp_path: Path, protocol: int) -> None:
    weights = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 4), np.float32),
        "one": np.array(3.0),
    }
    found = read_pickled_weights(written(tmp_path, weights, protocol))
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        assert found[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(found[name].numpy(), array)


@given(
    values=st.sampled_from(KINDS).flatmap(
        lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(max_dims=4, max_side=5))
    ),
    protocol=st.integers(1, 5),
    is_fortran=st.booleans(),
)
def test_every_array_comes_back(
    values: Any, protocol: int, is_fortran: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored = np.asfortranarray(values) if is_fortran else values
    path = written(tmp_path_factory.mktemp("pickle"), {"name": stored}, protocol)
    found = read_pickled_weights(path)["name"].numpy()
    np.testing.assert_array_equal(found, values)


def test_the_wrapping_of_detectron2_and_of_caffe2_is_taken_off(tmp_path: Path) -> None:
    array = np.ones(2, np.float32)
    wrapped: dict[str, Any] = {"model": {"a": array}, "__author__": "somebody", "iteration": 7}
    assert list(read_pickled_weights(written(tmp_path, wrapped))) == ["a"]
    blobs: dict[str, Any] = {
        "blobs": {"conv1_w": array, "conv1_w_momentum": array, "lr": 0.1, "weight_order": "x"},
        "cfg": "a text",
    }
    assert list(read_pickled_weights(written(tmp_path, blobs))) == ["conv1_w"]
    ordered = OrderedDict([("a", array), ("__author__", "somebody")])
    assert list(read_pickled_weights(written(tmp_path, ordered))) == ["a"]


def test_text_of_python_2_is_bytes_of_an_array(tmp_path: Path) -> None:
    # As Python 2 wrote {"a": array([1, 2], dtype=float32)}: protocol 2, bytes as short strings.
    array = np.array([1.0, 2.0], np.float32)
    content = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\x09"
        b"U\x02f4q\x0aK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff"
        b"\xffK\x00tq\x0eb\x89U\x08" + array.tobytes() + b"q\x0ftq\x10bs."
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(content)
    assert pickle.loads(content, encoding="latin-1")["a"].tolist() == [1.0, 2.0]
    assert read_pickled_weights(path)["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_that_a_file_asks_for_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {"a": Calling()}, protocol)
    with pytest.raises(CheckpointError, match=r"weights\.pkl: (it asks for|instruction)"):
        read_pickled_weights(path)
    assert not Path("was_run").exists()
    pickle.loads(path.read_bytes())
    assert Path("was_run").exists()  # so the file does ask for it


def spoiled(state: tuple[Any, ...]) -> bytes:
    """A pickle of an array whose parts contradict each other."""

    class Spoiled:
        def __reduce__(self) -> Any:
            return (
                np.ndarray.__reduce__(np.zeros(1))[0],  # type: ignore[index]  # numpy's own
                (np.ndarray, (0,), b"b"),
                state,
            )

    return pickle.dumps({"a": Spoiled()}, protocol=2)


FLOAT = np.dtype("f4")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": np.ones(5)}, protocol=2)[:-20],
        pickle.dumps([np.ones(5)]),
        pickle.dumps({"a": torch.ones(2)}),
        pickle.dumps({"a": "text"}),
        pickle.dumps({3: np.ones(1)}),
        pickle.dumps({((1,),): np.ones(1)}),
        pickle.dumps({"a": np.array([object], dtype=object)}),
        pickle.dumps({"a": np.zeros(2, dtype=[("x", "f4")])}),
        pickle.dumps({"a": np.array(["text"])}),
        spoiled((1, (3,), FLOAT, False, b"1234")),
        spoiled((1, (-1, -1), FLOAT, False, b"1234")),
        spoiled((1, (1 << 200, 1 << 200), FLOAT, False, b"1234")),
        spoiled((1, (1.0,), FLOAT, False, b"1234")),
        spoiled((1, (1,), "f4", False, b"1234")),
        spoiled((1, (1,), FLOAT, False, ["a"])),
        b"\x80\x04" + A_HUGE_LENGTH + b".",
        b"\x80\x02.",
        b"\x80\x02}b.",
        b"\x80\x02h\x07.",
        b"\x80\x02K\x01a.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
        b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
        b"\x80\x02" + b"K\x01" + b"\x85" * 20_000 + b"}" + b"\x86.",
        b"\x80\x02}" + b"K\x01" + b"\x85" * 50_000 + b"K\x01s.",
    ],
)
def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path}: ") as refusal:
        read_pickled_weights(path)
    assert "\n" not in str(refusal.value)


@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pickle") / "weights.pkl"
    path.write_bytes(b"\x80\x02" + content)
    with suppress(CheckpointError):
        read_pickled_weights(path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # pickletools, of damaged text
@example(position=136, value=ord("\\"))
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_gives_arrays_or_a_refusal(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(pickle.dumps({"a": np.ones((2, 3), np.float32)}, protocol=2))
    content[position % len(content)] = value
    path = tmp_path_factory.mktemp("pickle") / "weights.pkl"
    path.write_bytes(bytes(content))
    with suppress(CheckpointError):
        found = read_pickled_weights(path)
        assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


def test_a_file_that_makes_much_of_little_is_refused(tmp_path: Path) -> None:
    text = b"X" + (1 << 17).to_bytes(4, "little") + b"x" * (1 << 17) + b"q\x00"
    encoded = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02" + text + encoded * 50 + b".")
    with pytest.raises(CheckpointError, match="much more than it holds"):
        read_pickled_weights(path)
    one = np.zeros(1 << 17, np.uint8)
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_pickled_weights(written(tmp_path, {str(number): one for number in range(50)}))


def test_a_whole_network_comes_back(tmp_path: Path) -> None:
    weights = tiny_model().state_dict()
    stored = {name: tensor.numpy() for name, tensor in weights.items()}
    path = written(tmp_path, {"model": stored, "__author__": "us", "matching_heuristics": True}, 4)
    assert any(code.name == "STACK_GLOBAL" for code, _, _ in pickletools.genops(path.read_bytes()))
    found = read_pickled_weights(path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
