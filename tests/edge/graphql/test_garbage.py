"""Whatever text comes as a document: an answer or a refusal, soon, and never a bug of ours."""

import contextlib
import os
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.graphql.refused import Refused
from edge.graphql.settings import GraphqlSettings
from tests.edge.graphql.backend import Client, MemoryBackend

EXAMPLES = 5_000 if os.environ.get("NEXUS_PROVE") else 200
SEEDS = (
    """query A($a: Boolean = true) { hosts @include(if: $a) { ...F deputy { id } } }
       fragment F on HostsHost { name __typename }""",
    """mutation { guestListInvite(
         input: {name: "x", hostId: "y", plus: 3, contact: {mail: {address: "a"}}},
         idempotencyKey: \"\"\"k\"\"\"
       ) { id contact { __typename } } }""",
    "{ typesEverything { shape { ... on TypesCircle { radius } } twin { others { name } } } }",
    """{ __type(name: "Query") {
         fields(includeDeprecated: true) { args { type { ofType { kind } } } }
       } }""",
)
WORDS = ("{", "}", "(", ")", "...", "on", "@skip(if: true)", "$a", ":", "[", "]", "!", '"', '"""')
SECONDS_MAX = 2.0
CLIENT = Client(MemoryBackend())


def mutated(seed: int) -> str:
    """One of the seeds with some of it cut, doubled, moved or replaced."""
    chance = random.Random(seed)
    text = list(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        until = min(len(text), at + chance.randint(1, 12))
        piece = text[at:until]
        act = chance.randrange(4)
        if act == 0:
            del text[at:until]
        elif act == 1:
            text[at:at] = piece
        elif act == 2:
            text[at:until] = list(chance.choice(WORDS))
        else:
            text.insert(at, chr(chance.choice((0, 9, 35, 92, 123, 0xFEFF, 0x1F600))))
        if not text:
            text = ["{"]
    return "".join(text)


async def answered(query: str) -> None:
    CLIENT.backend.fill()
    began = time.process_time()
    codes = set()
    with contextlib.suppress(Refused):
        answer = await CLIENT.ask(query)
        codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
    assert "internal" not in codes
    assert time.process_time() - began < SECONDS_MAX


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
async def test_mutated_documents(seed: int) -> None:
    await answered(mutated(seed))


@settings(max_examples=EXAMPLES)
@given(query=st.text(max_size=100) | st.text(alphabet='{}()[]:!$@.." abon#,|&=\\u0', max_size=200))
async def test_any_text(query: str) -> None:
    await answered(query)


FULL = GraphqlSettings()
LONG_NAME = "a" * 200


@pytest.mark.parametrize(
    "query",
    [
        "{ " + "hostsCount " * FULL.repeats_max + "}",
        "{ " + " ".join(f"a{n}: hostsCount" for n in range(FULL.aliases_max)) + " }",
        "{ hosts { " + "deputy { " * 40 + "id " + "} " * 40 + "} }",
        " ".join(f"query Q{n}($a: Int, $b: Int) {{ hostsCount }}" for n in range(250)),
        " ".join(f"fragment F{n} on Query {{ ...F{(n + 1) % 400} }}" for n in range(400))
        + " { ...F0 }",
        "{ "
        + " ".join(f"...F{n}" for n in range(300))
        + " } "
        + " ".join(f"fragment F{n} on Query {{ hostsCount }}" for n in range(300)),
        "query (" + " ".join(f"$v{n}: Int" for n in range(900)) + ") { hostsCount }",
        "{ typesEverything { "
        + " ".join(f"x{n}: shape {{ ... on TypesCircle {{ y: radius }} }}" for n in range(50))
        + " } }",
        "{ " + " ".join(f'a{n}: __type(name: "Query") {{ name }}' for n in range(60)) + " }",
        "{ hostsCount" + f" @{LONG_NAME}" * 90 + " }",
        "mutation { typesEcho(input: {"
        + " ".join(f"x{n}: 1" for n in range(1_200))
        + "}) { body } }",
        'mutation { typesEcho(input: {text: """' + '\\"""' * 30_000 + '"""}) { body } }',
        "#" * 200_000,
    ],
)
async def test_documents_made_to_be_slow(query: str) -> None:
    await answered(query)
