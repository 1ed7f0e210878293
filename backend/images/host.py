"""Which Label Studio a request came from."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LabelStudioHost:
    """The Label Studio that a request came from, as it introduced itself on /setup.

    Attributes:
        url: Its address, or `None` if it gave none.
        token: The token it sent; never logged.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
