"""The rules of placements, by a model: claims race, messages are late, lost or sent twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ops.ids import IdMaker
from ops.placement import Placement, State
from services._kit.errors import Conflict, Invalid, Stale
from services.platform.placement import logic
from services.platform.placement.api import ChangePlacement
from services.platform.placement.logic import TRANSITIONS, Event, follow

REGIONS = ("eu1", "us1", "ap1")
regions = st.sampled_from(REGIONS)
BORN = IdMaker("us1").new("ten")


class Claims(RuleBasedStateMachine):
    """The directory and three regions that claim, serve, move and let go of one tenant."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.kept: Placement | None = None
        self.answers: list[tuple[str, Placement]] = []
        """Reservations on their way back to who asked, in any order, or never."""
        self.copies: dict[str, Placement] = {}
        """What each region knows; it serves by this alone."""

    @rule(region=regions)
    def reserve(self, region: str) -> None:
        self.kept = logic.reserve(self.kept, "acme", region=region, now=self.now, lease_seconds=10)
        self.answers.append((region, self.kept))

    @rule(seconds=st.sampled_from((1, 5, 11)))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(number=st.integers(0, 30))
    def confirm(self, number: int) -> None:
        """Any answer that ever came, again and again."""
        if not self.answers:
            return
        region, answer = self.answers[number % len(self.answers)]
        if answer.home != region or answer.state is not State.RESERVED:
            return
        try:
            self.kept = logic.confirm(self.kept, region=region, epoch=answer.epoch)
        except Conflict:
            return
        self._copy(region, self.kept)

    @rule(home=regions, epoch=st.integers(0, 12))
    def place(self, home: str, epoch: int) -> None:
        wanted = ChangePlacement(home=home)
        try:
            self.kept = logic.change(
                self.kept, "acme", wanted, expected=epoch, regions=REGIONS, now=self.now
            )
        except (Conflict, Stale):
            return

    @rule(region=regions)
    def pull(self, region: str) -> None:
        if self.kept is not None and self.kept.state is not State.RESERVED:
            self._copy(region, self.kept)

    @rule(region=regions)
    def let_go(self, region: str) -> None:
        known = self.copies.get(region)
        if known is None or known.state is not State.MOVING or known.previous != region:
            return
        try:
            self.kept = logic.release(self.kept, region=region, epoch=known.epoch)
        except Conflict:
            return

    @invariant()
    def one_home(self) -> None:
        serving = [name for name, known in self.copies.items() if known.served_in(name)]
        assert len(serving) <= 1, self.copies

    def _copy(self, region: str, told: Placement) -> None:
        known = self.copies.get(region)
        if known is None or told.newer_than(known):
            self.copies[region] = told


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=300, stateful_step_count=40)


def test_every_event_in_every_state() -> None:
    for state in State:
        for event in Event:
            following = TRANSITIONS[state].get(event)
            if following is not None:
                assert follow(state, event) is following
                continue
            with pytest.raises(Conflict) as caught:
                follow(state, event)
            assert caught.value.code == f"placement.{state.value}"


def test_a_claim_of_who_was_born_somewhere_changes_nothing() -> None:
    found = logic.reserve(None, BORN, region="eu1", now=0, lease_seconds=10)
    assert (found.home, found.epoch, found.state) == ("us1", 0, State.SETTLED)


def test_who_was_born_somewhere_moves_from_there() -> None:
    moved = logic.change(
        None, BORN, ChangePlacement(home="eu1"), expected=0, regions=REGIONS, now=0
    )
    assert (moved.state, moved.previous, moved.epoch) == (State.MOVING, "us1", 1)
    settled = logic.release(moved, region="us1", epoch=1)
    assert settled.served_in("eu1")
    assert logic.release(settled, region="us1", epoch=1) == settled


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        (ChangePlacement(home="xx9"), "/home"),
        (ChangePlacement(home="eu1", regions=("us1", "xx9")), "/regions/1"),
    ],
)
def test_regions_must_exist(wanted: ChangePlacement, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        logic.change(None, "acme", wanted, expected=0, regions=REGIONS, now=0)
    assert caught.value.problems[0].pointer == pointer


def test_a_change_names_the_epoch_that_was_seen() -> None:
    placed = logic.change(
        None, "acme", ChangePlacement(home="eu1"), expected=0, regions=REGIONS, now=0
    )
    assert (placed.state, placed.epoch) == (State.SETTLED, 1)
    with pytest.raises(Stale):
        logic.change(
            placed, "acme", ChangePlacement(home="us1"), expected=0, regions=REGIONS, now=0
        )


def test_a_settled_move_needs_a_greater_epoch() -> None:
    moving = logic.change(
        None, BORN, ChangePlacement(home="eu1"), expected=0, regions=REGIONS, now=0
    )
    settled = logic.settle(moving, expected=1)
    assert (settled.state, settled.epoch, settled.previous) == (State.SETTLED, 2, "")
    for known, code in ((None, "placement.free"), (settled, "placement.settled")):
        with pytest.raises(Conflict) as caught:
            logic.settle(known, expected=2)
        assert caught.value.code == code
    with pytest.raises(Conflict):
        logic.release(settled, region="us1", epoch=1)
