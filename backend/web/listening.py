"""Where the service listens, before there are settings."""

import os

PORT = 9090
THREADS = 32
"""For what takes long; other requests have threads of their own."""
GRACE_S = 100
"""How long a request may go on when the service is asked to end: as long as Label Studio waits."""

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:", "fd://")


def has_password() -> bool:
    """Whether a user and a password are asked for."""
    return bool(os.environ.get("CLIPDIY_BASIC_AUTH_USER") and os.environ.get("CLIPDIY_BASIC_AUTH_PASSWORD"))


def default_bind() -> str:
    """Return where to listen if nobody says it: without a password only for this machine."""
    return f"0.0.0.0:{PORT}" if has_password() else f"127.0.0.1:{PORT}"


def open_warning(addresses: list[str]) -> str | None:
    """Warn if others can reach one of the addresses and nobody is asked for a password."""
    reached = [address for address in addresses if not address.startswith(_LOOPBACK)]
    if not reached or has_password():
        return None
    return (
        f"listening on {', '.join(reached)} without a password: whoever reaches it gets masks of pictures that its "
        "tokens open. Set CLIPDIY_BASIC_AUTH_USER and CLIPDIY_BASIC_AUTH_PASSWORD, or "
        f"CLIPDIY_BIND=127.0.0.1:{PORT}"
    )


def worker_count(text: str | None) -> int:
    """Return how many processes `CLIPDIY_WORKERS` asks for; one if it is not set.

    Raises:
        SystemExit: If it is no number above 0.
    """
    if not text:
        return 1
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise SystemExit(f"setting CLIPDIY_WORKERS: expected a number of processes, one for each GPU, got {text!r}")
    return int(text)
