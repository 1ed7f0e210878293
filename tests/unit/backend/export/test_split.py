"""Training or validation, by content."""

import pytest

from backend.export.split import split_of

FILES = [bytes([i % 256, i // 256]) for i in range(2000)]


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.2, 0.17, 0.23), (0.5, 0.46, 0.54), (1, 1, 1)])
def test_shares(share, low, high):
    found = sum(split_of(data, share) == "val" for data in FILES) / len(FILES)
    assert low <= found <= high


def test_a_larger_share_only_moves_pictures_to_validation():
    before = {data for data in FILES if split_of(data, 0.2) == "val"}
    assert before < {data for data in FILES if split_of(data, 0.3) == "val"}


def test_it_is_the_same_for_ever():
    assert [split_of(data, 0.2) for data in FILES[:6]] == [split_of(data, 0.2) for data in FILES[:6]]
    assert "".join(split_of(data, 0.5)[0] for data in FILES[:20]) == "tvtttvtvttvtttvvvtvv"
