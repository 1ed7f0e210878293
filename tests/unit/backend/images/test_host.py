"""Which Label Studio is meant, and what its addresses are."""

import pytest

from backend.images.host import LabelStudioHost


@pytest.mark.parametrize(
    ("url", "path", "address"),
    [
        ("http://ls:8080", "/data/x.png", "http://ls:8080/data/x.png"),
        ("http://ls:8080/", "/data/x.png", "http://ls:8080/data/x.png"),
        ("http://ls/?a=1#b", "/data/x.png?d=1", "http://ls/data/x.png?d=1"),
        ("https://x/label-studio/", "/data/x.png", "https://x/label-studio/data/x.png"),
        ("https://x/label-studio", "/label-studio/data/x.png", "https://x/label-studio/data/x.png"),
        ("https://x/label", "/label-studio/data/x.png", "https://x/label/label-studio/data/x.png"),
    ],
    ids=["plain", "slash", "query", "below a path", "below a path, which is repeated", "only its beginning"],
)
def test_an_address_is_its_own_and_the_path(url: str, path: str, address: str) -> None:
    assert LabelStudioHost(url).address_of(path) == address


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(LabelStudioHost("http://ls", "secret"))
