"""Digests of what was configured."""

from clipdiy.loading import digest_of


def test_a_digest_is_of_what_is_said_not_of_the_order_in_which_it_is():
    said = digest_of({"a": 1, "b": [2, None]})
    assert said == digest_of({"b": [2, None], "a": 1})
    assert len(said) == 64
    assert len({said, digest_of({"a": 1, "b": [None, 2]}), digest_of({"a": 2, "b": [2, None]})}) == 3
