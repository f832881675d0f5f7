from detector.published.renaming import Renaming

NAMES = Renaming(
    heads=(("stem.norm.", "trunk.bn0."), ("stem.", "trunk.stem."), ("res2.", "trunk.0.")),
    pieces=((".conv1.norm.", ".bn1."), (".shortcut.", ".downsample.")),
)


def test_names_go_there_and_back() -> None:
    for foreign, ours in (
        ("stem.norm.bias", "trunk.bn0.bias"),
        ("stem.weight", "trunk.stem.weight"),
        ("res2.0.conv1.norm.bias", "trunk.0.0.bn1.bias"),
        ("res2.0.shortcut.weight", "trunk.0.0.downsample.weight"),
        ("res2.0.conv1.weight", "trunk.0.0.conv1.weight"),
    ):
        assert NAMES.read(foreign) == ours
        assert NAMES.written(ours) == foreign


def test_a_name_without_a_head_is_unknown() -> None:
    assert NAMES.read("head.weight") is None
    assert NAMES.written("head.weight") is None


def test_a_name_that_no_name_of_ours_becomes_is_unknown() -> None:
    assert NAMES.read("res2.0.bn1.bias") is None  # else it would hide res2.0.conv1.norm.bias
