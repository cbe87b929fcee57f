"""T8, T9: what users, clients and people write about a release stands, redacted, in what is kept of it, or nowhere.

Secrets and personal data are planted wherever words come in; then every file and every row is searched for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.kept_content import KeptContent
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.brief.records import read_records
from agentrl.release.brief.twin import brief_twin
from agentrl.release.lifecycle.halt import halt
from agentrl.release.lifecycle.incidents import read_incidents, update_incident
from agentrl.release.lifecycle.transition import transition
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.registry import create_bundle
from agentrl.release.store.tables import metadata, sessions
from tests.gateway.world import ADMIN_KEY, World, world
from tests.lifecycle_story import NOW, brought_to
from tests.release.registry.making import make_config, write_policy

KEY, TOKEN, MAIL, CARD = (
    "sk-plantedKey0123456789abcdef",
    "planted/variable=value",
    "jane.planted@example.com",
    "4111 1111 1111 1111",
)
PLANTED = f"my key is {KEY}, write to {MAIL}, card {CARD}, and {TOKEN}"
TRACES = ("plantedKey", "jane.planted", "4111 1111", "4111111111111111", "planted/variable", "planted%2Fvariable")


async def live(here: World) -> None:
    """A session in which everything that a client may write holds what nobody should keep."""
    here.gateway.ask_before_calls(
        ToolPolicyConfig.model_validate({"rules": [{"tool": "refund", "decision": "needs_approval"}]})
    )
    headers = {"X-Intent": PLANTED, "X-User-Id": MAIL, "X-Session-Id": MAIL}
    answer = await here.ask(PLANTED, headers=headers)
    assert answer.status_code == 200, answer.text
    session = answer.headers["X-Session-Id"]
    for kind, said in {
        "override": {"override": True, "by": PLANTED, "override_kind": MAIL},
        "grade": {"score": 0.5},
        "outcome": {"success": True},
    }.items():
        told = await here.tell(event_id=f"{kind}-{MAIL}", session_id=session, kind=kind, **said)
        assert told.status_code == 200, told.text
    call = {
        "session_id": session,
        "tool": "refund",
        "arguments": {"to": MAIL, "card": 4111111111111111, "api_key": TOKEN},
    }
    asked = (await here.client.post("/v1/tools/decide", json=call)).json()
    denial = {"approver": "ada", "approved": False, "reason": PLANTED}
    assert (await here.admin.post(f"/approvals/{asked['approval_id']}", json=denial)).status_code == 200
    await here.written()


def close_all(place: ReleasePlace, here: World) -> None:
    with place.store.write() as connection:
        connection.execute(update(sessions).values(status="closed", closed_at=sessions.c.last_at))
    here.gateway.closing.run_once()


def people_write(place: ReleasePlace) -> str:
    """A release that goes wrong, told in words."""
    release = brought_to(place, ReleaseState.CANARY)
    transition(
        place,
        release.id,
        ReleaseState.ROLLED_BACK,
        actor="ada",
        expected_version=None,
        evidence={"reason": "operator", "text": PLANTED},
        now=NOW + 100,
    )
    (incident,) = read_incidents(place)
    words = {"cause": PLANTED, "follow_up": PLANTED, "invalidated_assumption": PLANTED, "class": "tool", "owner": "ML"}
    update_incident(place, incident["id"], words, actor="ada", now=NOW + 200, is_closing=True)
    halt(place, actor="ada", reason=PLANTED, now=NOW + 300)
    return release.id


def rows(place: ReleasePlace) -> str:
    found: list[Any] = []
    with place.store.read() as connection:
        for table in metadata.sorted_tables:
            found += [dict(row) for row in connection.execute(select(table)).mappings()]
    return json.dumps(found, default=str)


def left(name: str, text: str) -> list[str]:
    return [
        f"{name}: ...{text[max(0, text.find(trace) - 60) : text.find(trace) + 40]}" for trace in TRACES if trace in text
    ]


def test_t8_t9_planted_secrets_and_personal_data_are_found_nowhere(
    place: ReleasePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="agentrl")
    monkeypatch.setenv("TEST_ADMIN", ADMIN_KEY)
    monkeypatch.setenv("SUPPORT_API_KEY", TOKEN)

    async def run() -> None:
        async with world(place, admin_key_env="TEST_ADMIN", keep_content=True) as here:
            kept = KeptContent(place)
            here.gateway.watch([kept])
            kept.start()
            await live(here)
            await kept.aclose()
            await asyncio.to_thread(close_all, place, here)

    asyncio.run(run())
    release = people_write(place)
    tool = {
        "name": "refund",
        "server_url": "http://127.0.0.1:9/r",
        "headers": {"Authorization": "Bearer ${SUPPORT_API_KEY}"},
    }
    config = make_config(tmp_path / "made", tools={"endpoints": [tool]})
    create_bundle(place, config, str(write_policy(tmp_path / "made" / "policy", 1)))
    brief = tmp_path / "brief.json"
    brief.write_text(json.dumps(brief_twin(read_records(place.store, release))))

    files = [path for path in place.folder.rglob("*") if path.is_file()]
    (record,) = read_sessions(place.folder / "sessions")
    said = "my key is [secret], write to [email], card [credit_card], and [secret]"
    assert record["content"] == {
        "messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "base"}]
    }
    assert place.audit_log in files
    found = [line for path in [*files, brief] for line in left(path.name, path.read_bytes().decode("utf-8", "replace"))]
    found += left("rows", rows(place)) + left("log", caplog.text)
    assert found == []
    assert "[secret]" in place.audit_log.read_text()
    assert "[email]" in rows(place)


def test_t8_a_store_that_cannot_be_reached_is_told_without_its_password() -> None:
    from agentrl.release.store import open_store

    with pytest.raises(ReleaseError) as caught:
        open_store("postgresql://ada:planted-password@127.0.0.1:1/releases")
    assert "planted" not in str(caught.value)
