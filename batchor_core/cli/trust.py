"""Which servers a file may name to send an API key to.

A ``batchor.toml`` comes with the folder that it lies in, perhaps from somebody else, and the key comes from the user's
environment. Without this rule, a command that is run in a foreign folder would give the key to whoever wrote the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from batchor_core.cli.profiles import Profile
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.server_address import normal_address

TRUSTED_HOSTS = "BATCHOR_TRUSTED_HOSTS"
"""Environment variable: hosts, separated by commas, that any file may name."""


def check_server(server: str | None, profile: Profile, *, typed: Mapping[str, Any]) -> None:
    """Refuse a server that only a file names, unless it is this machine or the user trusts its host.

    Args:
        server: Where requests would be sent; None for the provider's usual server.
        profile: The file's defaults.
        typed: Settings that the user has typed.

    Raises:
        InvalidInputError: The host is not trusted; says how to trust it.
    """
    named = (profile.base_url, profile.options.get("base_url"))
    if server is None or "base_url" in typed or not any(named):
        return
    if normal_address(server) not in (normal_address(str(one)) for one in named):
        return  # the environment names it
    host = (urlsplit(server).hostname or "").lower()
    trusted = {one.strip().lower() for one in os.environ.get(TRUSTED_HOSTS, "").split(",")} - {""}
    if _is_this_machine(host) or host in trusted:
        return
    raise InvalidInputError(
        f"{profile.source} sends requests, and your API key with them, to {server}. If you trust that file, set "
        f"{TRUSTED_HOSTS}={host or 'HOST'} in your environment, or give --base-url {server}"
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
