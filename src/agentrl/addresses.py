"""Which hosts may be called: this machine where it is meant, the internet, private networks where they are asked for.

A URL may come from anywhere: a config, a job file, a name server. What must not be reached through one are the services
that trust whoever can reach them, such as a cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
"""Of AWS and most others, AWS by IPv6, Alibaba, Oracle."""
V4_IN_V6 = ipaddress.ip_network("::/96")  # ::127.0.0.1, deprecated by RFC 4291
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s\[\]:/?#@]+)(?::[0-9]*)?")
"""A host, and perhaps a port."""


def host_problem(host: str, *, allow_private: bool) -> str:
    """Why a host must not be called, going by how it is written; empty where it may be, or has to be looked up."""
    if (address := plain_address(host)) is not None:
        return address_problem(address, allow_private=allow_private, is_loopback_meant=True)
    if _is_disguised(host):
        return f"found {host}, an address in disguise; write it plainly, such as 127.0.0.1"
    return ""


def address_problem(address: Address, *, allow_private: bool, is_loopback_meant: bool) -> str:
    """Why an address must not be called; empty where it may be.

    Args:
        is_loopback_meant: whoever wrote the host wrote this machine.
    """
    inner = _inner(address)
    if inner is not None and (inner == address or not inner.is_global):
        return f"found {address}, an IPv4 address inside an IPv6 address; it is never called"
    if address.is_loopback:
        return "" if allow_private or is_loopback_meant else f"found {address}, this machine; {_PERMIT}"
    for names, is_it in (
        ("a metadata service", address in METADATA),
        ("a link-local address", address.is_link_local),
        ("the unspecified address", address.is_unspecified),
        ("a multicast address", address.is_multicast),
    ):
        if is_it:
            return f"found {address}, {names}; it is never called"
    if any(address in network for network in PRIVATE):
        return "" if allow_private else f"found {address}, a private network; {_PERMIT}"
    return "" if address.is_global else f"found {address}, which is no public address; it is never called"


_PERMIT = "set `allow_private: true` for this endpoint to call it"


def plain_address(host: str) -> Address | None:
    """The address that a host is, written as everybody writes it; None for names and everything else."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def asked_host(headers: Sequence[str]) -> str:
    """The host that a request's `Host` headers name; empty where they name none, or several."""
    match = HOST.fullmatch(headers[0]) if len(headers) == 1 else None
    return match[1] if match else ""


def is_this_machine(host: str) -> bool:
    """Whether a name means this machine (RFC 6761, 6.3)."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def is_loopback(host: str) -> bool:
    """Whether a host, going by how it is written, is this machine and nothing else."""
    address = plain_address(host)
    return is_this_machine(host) or (address is not None and address.is_loopback)


def _is_disguised(host: str) -> bool:
    """2130706433, 0x7f.1, 0177.0.0.1, 127.1, full-width digits: a last part that is a number makes no name."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower().rstrip(".")
    return NUMBER.fullmatch(name.rpartition(".")[2]) is not None


def _inner(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 address leads to; the address itself where it only spells one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped or (address in V4_IN_V6 and int(address) > 1):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or (address.teredo and address.teredo[1])
