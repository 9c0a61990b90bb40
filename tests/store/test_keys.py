"""The table of keys is complete: what a script touches is in it, and what is in it is freed, renewed and reaped."""

import re
from pathlib import Path

import pytest

from cloudpool.host import agent
from cloudpool.store import scripts
from cloudpool.store.keys import MESSAGES, PARTS, Keys, kind_of

LUA = Path(scripts.__file__).parent / "lua"
NAMES = sorted(path.stem for path in LUA.glob("*.lua"))
GENERAL = {  # of no kind, or of several: the parts come as arguments
    "account", "admit", "beat", "blobs", "free", "holders_leave", "log_empty", "name", "reap_container", "relief", "renew", "rights",
    "session_set",
}  # fmt: skip
# A dead process leaves nothing there.
NOTHING_TO_REAP = {"block", "host", "fleet", "launch", "bundle", "blob", "question"}


def kind_of_script(name: str) -> str:
    return name.removeprefix("reap_").split("_")[0]


@pytest.mark.parametrize("name", sorted(set(NAMES) - GENERAL))
def test_parts_that_a_script_touches_are_in_the_table(name):
    body = scripts.source(name)
    parts = PARTS[kind_of_script(name)]
    own = set(re.findall(r"(?:base|KEYS\[1\]) \.\. '([a-z-]+)'(?! \.\.)", body))
    per_party = set(re.findall(r"(?:base|KEYS\[1\]) \.\. '([a-z-]+):'", body))
    assert own <= {*parts.own, *parts.party}
    assert per_party <= set(parts.party)


@pytest.mark.parametrize("name", NAMES)
def test_each_script_has_a_head_that_says_what_it_does_takes_and_returns(name):
    head = [line for line in scripts.source(name).splitlines() if line.startswith("--")]
    text = "\n".join(head)
    assert len(head[0]) > 10
    assert "-- KEYS  1 " in text
    assert "-- Returns " in text
    if "ARGV" in scripts.source(name).replace(text, ""):
        assert "-- ARGV  " in text
    body = [line for line in scripts.source(name).splitlines() if not line.startswith(("--", "#!"))]
    assert len(body) <= 40


@pytest.mark.parametrize("kind", PARTS)
def test_each_kind_is_reaped_or_has_nothing_to_reap(kind):
    assert (agent.REAPED.get(kind) in NAMES) == (kind not in NOTHING_TO_REAP)


@pytest.mark.parametrize("kind", [kind for kind, parts in PARTS.items() if parts.party])
def test_kinds_with_keys_for_each_party_know_their_parties(kind):
    assert "parties" in PARTS[kind].own


def test_messages_are_in_parts_of_their_kind():
    for kind, parts in MESSAGES.items():
        assert set(parts) <= {*PARTS[kind].own, *PARTS[kind].party}


def test_keys_of_an_object_are_in_one_slot_of_a_cluster_and_tell_their_session():
    keys = Keys("0123")
    assert keys.base("queue.1.2.3") == "cp:0123:{queue.1.2.3}:"
    assert kind_of("queue.1.2.3") == "queue"
    assert {key.rsplit("}", 1)[0] for key in (keys.objects, keys.live, keys.hosts, keys.beat)} == {
        "cp:0123:{session"
    }
