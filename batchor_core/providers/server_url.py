"""Which servers a key may be sent to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from batchor_core.core.exceptions import InvalidInputError


def check_base_url(url: str, *, example: str) -> str:
    """Return ``url`` if a key may be sent there: https to anywhere, plain http only to this machine.

    Raises:
        InvalidInputError: It is no URL, holds a user name or password, or would send the key in the clear.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises on a port that is none
    except ValueError:
        raise InvalidInputError("base_url is not a URL") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError("base_url must not hold a user name or password; give the key as api_key")
    if not host or parts.scheme not in ("http", "https") or parts.fragment or any(c.isspace() for c in url):
        raise InvalidInputError(f"base_url {url!r} is not usable; it should look like {example}")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidInputError(
            f"base_url {url!r} would send the API key unencrypted; use https (http is for localhost only)"
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine, without asking a name server."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
