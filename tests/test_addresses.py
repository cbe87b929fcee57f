"""Which hosts may be called, by spelling and by address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.addresses import address_problem, host_problem, is_this_machine, plain_address

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "192.0.0.192",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1.",
    "127.0.0.01",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "10.1",
    "999.1.1.1",
]
PRIVATE = ["10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.9", "100.64.0.1", "fc00::1", "[fd12::1]"]
ALWAYS = ["127.0.0.1", "127.8.9.10", "[::1]", "::1", "localhost", "8.8.8.8", "[2606:4700::1]", "64:ff9b::808:808"]
NAMES = ["example.com", "tools", "1password.com", "a1", "0x.example", "10.0.0.1.nip.io", "münchen.de"]


@pytest.mark.parametrize("host", NEVER)
def test_some_addresses_are_never_called_however_they_are_spelled(host: str) -> None:
    assert host_problem(host, allow_private=False)
    assert host_problem(host, allow_private=True)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_networks_are_called_where_they_are_asked_for(host: str) -> None:
    assert "allow_private: true" in host_problem(host, allow_private=False)
    assert host_problem(host, allow_private=True) == ""


@pytest.mark.parametrize("host", ALWAYS + NAMES)
def test_this_machine_the_internet_and_names_may_be_written(host: str) -> None:
    assert host_problem(host, allow_private=False) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_that_leads_to_this_machine_needs_leave(address: str) -> None:
    found = ipaddress.ip_address(address)
    problem = address_problem(found, allow_private=False, is_loopback_meant=False)
    assert "this machine" in problem
    assert "allow_private" in problem
    assert address_problem(found, allow_private=True, is_loopback_meant=False) == ""
    assert address_problem(found, allow_private=False, is_loopback_meant=True) == ""


@given(st.ip_addresses(), st.booleans())
def test_what_is_called_without_leave_is_public_or_this_machine(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, is_loopback_meant: bool
) -> None:
    if not address_problem(address, allow_private=False, is_loopback_meant=is_loopback_meant):
        assert address.is_global or (is_loopback_meant and address.is_loopback)


@given(st.integers(0, 2**32 - 1))
def test_no_number_stands_for_an_address(number: int) -> None:
    for spelling in (str(number), hex(number), oct(number).replace("o", ""), f"0{number}"):
        assert host_problem(spelling, allow_private=True)


def test_names_of_this_machine() -> None:
    assert all(map(is_this_machine, ["localhost", "LOCALHOST.", "a.localhost"]))
    assert not any(map(is_this_machine, ["localhost.example.com", "notlocalhost", "127.0.0.1"]))
    assert plain_address("localhost") is None
