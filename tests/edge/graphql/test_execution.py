"""What an operation does: calls by the rules of HTTP, links without N+1, errors beside data."""

import asyncio
from typing import Any

import pytest

from edge.graphql.refused import Refused
from edge.graphql.settings import GraphqlSettings
from services._kit.actor import ANONYMOUS, Actor
from tests.edge.graphql.backend import STRANGER, Client, MemoryBackend
from tests.edge.graphql.sample import guest_id, host_id

HOST = host_id(0)
INVITE = 'guestListInvite(input: {{name: "{}", hostId: "' + HOST + '"}}) {{ name }}'


def only(answer: dict[str, Any]) -> dict[str, Any]:
    """The one error of an answer."""
    (error,) = answer["errors"]
    found: dict[str, Any] = error
    return found


async def held(backend: MemoryBackend, count: int) -> None:
    """Waits until so many calls are under way."""
    async with asyncio.timeout(5):
        while backend.running < count:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)


@pytest.mark.parametrize("rows", [1, 10, 200])
async def test_calls_do_not_grow_with_rows(rows: int) -> None:
    backend = MemoryBackend(guests=rows, hosts=20)
    data = await Client(backend, GraphqlSettings(cost_max=1_000)).data(
        """{ guestListGuests(limit: 200) { data {
             host { name deputy { name deputy { name } } }
             friends { name host { name } friends { name } }
           } } }"""
    )
    shown = data["guestListGuests"]["data"]
    assert len(shown) == rows
    for number, guest in enumerate(shown):
        assert guest["host"]["name"] == f"host {number % 20}"
        assert guest["host"]["deputy"]["name"] == f"host {(number % 20 + 1) % 20}"
        assert guest["friends"][0]["name"] == f"guest {(number + 1) % rows}"
        assert guest["friends"][0]["host"]["name"] == f"host {(number + 1) % rows % 20}"
    assert len(backend.invoked) == 1
    kinds = [kind for kind, _ in backend.fetched]
    assert len(kinds) <= 6
    for kind in ("Host", "Guest"):
        asked = [one for name, ids in backend.fetched if name == kind for one in ids]
        assert len(asked) == len(set(asked))


async def test_links_of_all_root_fields_are_asked_for_together() -> None:
    backend = MemoryBackend(guests=4, hosts=4)
    a, b = guest_id(0), guest_id(1)
    await Client(backend).data(
        f'{{ a: guestListGuest(id: "{a}") {{ host {{ name }} }}'
        f'   b: guestListGuest(id: "{b}") {{ host {{ name }} }} }}'
    )
    assert backend.fetched == [("Host", (host_id(0), host_id(1)))]


async def test_a_batch_has_an_end() -> None:
    backend = MemoryBackend(guests=25, hosts=25)
    client = Client(backend, GraphqlSettings(link_ids_max=10))
    data = await client.data("{ guestListGuests { data { host { name } } } }")
    assert [len(ids) for _, ids in backend.fetched] == [10, 10, 5]
    assert [guest["host"]["name"] for guest in data["guestListGuests"]["data"]] == [
        f"host {number}" for number in range(25)
    ]


async def test_a_link_to_what_is_gone_is_null() -> None:
    backend = MemoryBackend()
    del backend.store.hosts[host_id(1)]
    data = await Client(backend).data("{ guestListGuests { data { hostId host { name } } } }")
    assert data["guestListGuests"]["data"][1] == {"hostId": host_id(1), "host": None}


async def test_a_link_that_is_forbidden_is_null_and_an_error() -> None:
    actor = Actor(id="u", tenant="acme", permissions=frozenset({"guest-list.guest.read"}))
    answer = await Client(MemoryBackend()).ask(
        "{ guestListGuests { data { name host { name } } } }", actor=actor
    )
    rows = answer["data"]["guestListGuests"]["data"]
    assert [row["host"] for row in rows] == [None] * 3
    assert [row["name"] for row in rows] == ["guest 0", "guest 1", "guest 2"]
    assert [error["path"] for error in answer["errors"]] == [
        ["guestListGuests", "data", number, "host"] for number in range(3)
    ]
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"auth.forbidden"}


async def test_one_refused_field_leaves_the_others() -> None:
    query = f"""{{ here: guestListGuest(id: "{guest_id(0)}") {{ name }}
  gone: guestListGuest(id: "{guest_id(77)}") {{ name }} }}"""
    answer = await Client(MemoryBackend()).ask(query)
    assert answer["data"] == {"here": {"name": "guest 0"}, "gone": None}
    error = only(answer)
    assert error["message"] == "there is no such guest"
    assert error["path"] == ["gone"]
    assert error["locations"] == [{"line": 2, "column": 3}]
    assert error["extensions"] == {
        "code": "not_found",
        "what": "guest",
        "traceId": "0af7651916cd43dd8448eb211c80319c",
    }


@pytest.mark.parametrize(
    ("actor", "code"), [(STRANGER, "auth.forbidden"), (ANONYMOUS, "auth.missing")]
)
async def test_who_may_not_is_told_nothing_else(actor: Actor, code: str) -> None:
    backend = MemoryBackend()
    client = Client(backend)
    bad = f'mutation {{ guestListInvite(input: {{name: "", hostId: "{HOST}"}}) {{ name }} }}'
    assert only(await client.ask(bad, actor=actor))["extensions"]["code"] == code
    assert backend.invoked == []


async def test_a_public_field_is_anybodys() -> None:
    answer = await Client(MemoryBackend()).ask("{ hostsCount }", actor=ANONYMOUS)
    assert answer == {"data": {"hostsCount": 2}}


async def test_mutations_run_one_after_another_whatever_fails() -> None:
    backend = MemoryBackend()
    names = ("one", "full", "bug", "two")
    asked = " ".join(f"{name}: {INVITE.format(name)}" for name in names)
    answer = await Client(backend).ask(f"mutation {{ {asked} }}")
    assert [entry[1] for entry in backend.store.log] == ["one", "two"]
    assert backend.most == 1
    assert list(answer["data"]) == list(names)
    assert answer["data"]["two"] == {"name": "two"}
    full, bug = answer["errors"]
    assert full["extensions"]["code"] == "guest_list.full"
    assert full["extensions"]["capacity"] == 3
    assert bug["extensions"]["code"] == "internal"
    assert "never shown" not in str(bug)


async def test_a_mutation_sees_what_the_one_before_did() -> None:
    backend = MemoryBackend()
    gone = guest_id(1)
    answer = await Client(backend).ask(
        f'mutation {{ a: guestListRename(id: "{guest_id(0)}", expectedVersion: 1,'
        f'   idempotencyKey: "k", input: {{name: "x", hostId: "{HOST}"}}) {{ friends {{ name }} }}'
        f'  guestListRemove(id: "{gone}")'
        f'  b: guestListRename(id: "{guest_id(0)}", expectedVersion: 1,'
        f'   idempotencyKey: "k", input: {{name: "x", hostId: "{HOST}"}}) {{ friends {{ name }} }}'
        " }"
    )
    data = answer["data"]
    assert data["a"]["friends"] == [{"name": "guest 1"}, {"name": "guest 2"}]
    assert data["guestListRemove"] is True
    assert data["b"]["friends"] == [None, {"name": "guest 2"}]


async def test_guards_of_http_are_arguments() -> None:
    backend = MemoryBackend()
    client = Client(backend)
    await client.data(
        f'mutation {{ guestListRename(id: "{guest_id(0)}", expectedVersion: 7,'
        f' idempotencyKey: "key-1", input: {{name: "x", hostId: "{HOST}"}}) {{ version }} }}'
    )
    ((name, arguments, key),) = backend.invoked
    assert (name, arguments["expected"], key) == ("guest-list.rename", 7, "key-1")
    with pytest.raises(Refused) as refused:
        await client.ask(f'mutation {{ guestListRename(id: "{HOST}") {{ id }} }}')
    said = " ".join(error["message"] for error in refused.value.errors)
    assert "expectedVersion" in said
    assert "idempotencyKey" in said


@pytest.mark.parametrize("key", ["", "x" * 256, "a\\u0000b"])
async def test_a_bad_idempotency_key_is_refused(key: str) -> None:
    backend = MemoryBackend()
    answer = await Client(backend).ask(
        f'mutation {{ guestListRemove(id: "{guest_id(0)}", idempotencyKey: "{key}") }}'
    )
    assert only(answer)["extensions"]["pointer"] == "/idempotencyKey"
    assert backend.invoked == []


@pytest.mark.parametrize(
    ("arguments", "pointer"),
    [
        ("limit: 0", "/limit"),
        ("limit: 201", "/limit"),
        ('cursor: "nonsense"', "/cursor"),
        (f'cursor: "{"x" * 1_100}"', "/cursor"),
        ('namePrefix: "a\\u0000"', "/namePrefix"),
    ],
)
async def test_a_bad_argument_has_its_pointer(arguments: str, pointer: str) -> None:
    answer = await Client(MemoryBackend()).ask(
        f"{{ guestListGuests({arguments}) {{ nextCursor }} }}"
    )
    error = only(answer)
    assert error["extensions"]["code"] == "request.invalid"
    assert error["extensions"]["pointer"] == pointer


async def test_a_bad_field_of_a_body_has_its_pointer() -> None:
    client = Client(MemoryBackend())
    nobody = await client.ask(f"mutation {{ {INVITE.format('nobody')} }}")
    assert only(nobody)["extensions"]["pointer"] == "/input/hostId"
    empty = await client.ask(f"mutation {{ {INVITE.format('')} }}")
    assert only(empty)["extensions"]["pointer"] == "/input/name"
    assert only(empty)["extensions"]["errors"][0]["code"]


async def test_filters_and_pages_reach_the_service() -> None:
    backend = MemoryBackend(guests=5)
    client = Client(backend)
    query = (
        "query ($after: String) { guestListGuests(state: CHECKED_IN, limit: 2, cursor: $after) {"
    )
    query += " data { name state } nextCursor } }"
    first = (await client.data(query))["guestListGuests"]
    assert [row["name"] for row in first["data"]] == ["guest 0", "guest 2"]
    assert {row["state"] for row in first["data"]} == {"CHECKED_IN"}
    assert first["nextCursor"]
    await client.data(query, {"after": first["nextCursor"]})
    _, arguments, _ = backend.invoked[1]
    assert arguments["cursor"] == first["nextCursor"]
    assert arguments["query"].state == "checked-in"


async def test_queries_run_together_and_not_too_many() -> None:
    backend = MemoryBackend()
    backend.hold = asyncio.Event()
    client = Client(backend, GraphqlSettings(concurrent_calls_max=3))
    fields = " ".join(f"f{number}: hostsCount" for number in range(10))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(client.data(f"{{ {fields} }}"))
        await held(backend, 3)
        backend.hold.set()
    assert backend.most == 3
    assert list(asked.result()) == [f"f{number}" for number in range(10)]


async def test_what_takes_too_long_is_an_error_beside_the_rest() -> None:
    backend = MemoryBackend()
    backend.hold = asyncio.Event()
    client = Client(backend, GraphqlSettings(operation_seconds_max=0.1))
    answer = await client.ask("{ __typename hostsCount }")
    assert answer["data"] == {"__typename": "Query", "hostsCount": None}
    assert only(answer)["extensions"] | {"traceId": ""} == {
        "code": "timeout",
        "retryable": True,
        "retryAfterSeconds": 0,
        "traceId": "",
    }


async def test_a_mutation_that_is_too_late_does_not_begin() -> None:
    backend = MemoryBackend()
    backend.hold = asyncio.Event()
    client = Client(backend, GraphqlSettings(operation_seconds_max=0.1))
    answer = await client.ask(f"mutation {{ a: {INVITE.format('a')} b: {INVITE.format('b')} }}")
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["timeout", "timeout"]
    assert [name for name, _, _ in backend.invoked] == ["guest-list.invite"]
    assert backend.store.log == []


async def test_a_client_that_goes_ends_its_calls() -> None:
    backend = MemoryBackend()
    backend.hold = asyncio.Event()
    client = Client(backend)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(client.ask("{ a: hostsCount b: hostsCount }"))
        await held(backend, 2)
        asked.cancel()
    assert backend.running == 0


async def test_errors_have_an_end() -> None:
    backend = MemoryBackend(guests=20)
    actor = Actor(id="u", tenant="acme", permissions=frozenset({"guest-list.guest.read"}))
    client = Client(backend, GraphqlSettings(errors_max=5))
    answer = await client.ask("{ guestListGuests { data { host { name } } } }", actor=actor)
    assert len(answer["errors"]) == 6
    assert answer["errors"][-1]["extensions"] == {"code": "graphql.more_errors", "count": 15}


async def test_skip_and_include_are_decided_by_their_variables() -> None:
    client = Client(MemoryBackend())
    query = """query ($a: Boolean!, $b: Boolean = false) {
        one: hostsCount @skip(if: $a)
        ... on Query @include(if: $a) { two: hostsCount }
        three: hostsCount @include(if: $b)
    }"""
    assert await client.data(query, {"a": True}) == {"two": 2}
    assert await client.data(query, {"a": False}) == {"one": 2}
    assert await client.data(query, {"a": False, "b": True}) == {"one": 2, "three": 2}
    assert await client.data(query, {"a": True}) == {"two": 2}


async def test_equal_fields_are_one_call() -> None:
    backend = MemoryBackend()
    query = f"""{{
        guestListGuest(id: "{guest_id(0)}") {{ name ...Host host {{ id }} }}
        ... {{ guestListGuest(id: "{guest_id(0)}") {{ version host {{ name }} }} }}
    }}
    fragment Host on GuestListGuest {{ host {{ name deputy {{ id }} }} }}"""
    data = await Client(backend).data(query)
    assert data == {
        "guestListGuest": {
            "name": "guest 0",
            "host": {"name": "host 0", "deputy": {"id": host_id(1)}, "id": host_id(0)},
            "version": 1,
        }
    }
    assert len(backend.invoked) == 1


async def test_it_is_charged_before_anything_happens() -> None:
    charged: list[int] = []

    async def charge(tokens: int) -> None:
        charged.append(tokens)
        raise Refused("used up", code="limits.requests", status=429, always=True)

    backend = MemoryBackend()
    client = Client(backend, charge=charge)
    with pytest.raises(Refused):
        await client.ask(f"mutation {{ {INVITE.format('x')} hostsCount: __typename }}")
    assert charged == [5]
    assert backend.invoked == []


async def test_a_null_where_the_default_was_meant_is_an_error_of_the_field() -> None:
    query = "query ($limit: Int) { guestListGuests(limit: $limit) { nextCursor } hostsCount }"
    client = Client(MemoryBackend())
    answer = await client.ask(query, {"limit": None})
    assert answer["data"] == {"guestListGuests": None, "hostsCount": 2}
    assert only(answer)["extensions"]["code"] == "graphql.arguments"
    assert "errors" not in await client.ask(query)
