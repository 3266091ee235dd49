"""One spelling for the address of a server, since an account is the same account however its server is spelled."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

_PORTS = {"https": 443, "http": 80}


def normal_address(url: str) -> str:
    """``url`` with its scheme and host in lower case, without the scheme's own port and without a final slash.

    What is no URL is returned as it is.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if not host:
        return url
    name = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    shown_port = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return urlunsplit(
        (parts.scheme, f"{user}{name}{shown_port}", parts.path.rstrip("/"), parts.query, parts.fragment)
    )


def spellings(url: str) -> list[str]:
    """``url`` as it is, and the usual ways to write the same address: with a final slash or not, with the port or not."""
    normal = normal_address(url)
    parts = urlsplit(normal)
    with_port = normal
    if parts.scheme in _PORTS and parts.netloc and parts.port is None:
        with_port = urlunsplit(parts._replace(netloc=f"{parts.netloc}:{_PORTS[parts.scheme]}"))
    return list(dict.fromkeys((normal, url, normal + "/", with_port, with_port + "/")))
