"""A stream's timeline: units of all media in, parts of all renditions out. No I/O, no clock.

States of a run:

    waiting --both media, or one and START_WAIT_SECONDS--> running --lost, or a unit that
       ^                                                      |    belongs to another timeline
       +------------------------------------------------------+

While waiting, units are kept; a run starts with a key frame, video and audio together. One medium
leads and gives the boundaries of segments: video, if there is any, else Opus. Video's segments end
before a key frame once the segment is due; without one they are cut all the same, before the target
duration would be exceeded (then the next segment does not start with a key frame, which the
playlist does not claim, and ends at the next key frame). The other renditions end theirs at the
same times, so that media sequence numbers mean the same period everywhere.

A run that ends closes all renditions' segments and brings them to the same number; the next run
begins with a discontinuity in all of them. Ticks go on where they were; the stream's clock dates
them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from media.cmaf.audio import AAC_FRAME_SAMPLES, OPUS_CLOCK_HZ, opus_samples, opus_track
from media.cmaf.h264 import CLOCK_HZ, video_track
from media.cmaf.header import Track as Format
from media.hls.pace import JUMP_MS
from media.hls.track import HOLE_MS, LONGER_MS, Boundary, Made, Track
from media.hls.units import UnitLike

START_WAIT_SECONDS = 1.5
"""How long the first units of one medium wait for the other's."""
KEY_WAIT_SECONDS = 3.0
"""How long audio waits for the first key frame."""

_WAITING_UNITS_MAX = 2_000
_SLACK_MS = 400
"""A segment without a key frame is cut so long after it was due."""
_LATE_MS = 350
"""So long after that, other media's progress cuts the segment of a video that stands still."""
_FOLLOW_MS = 1_000
"""A rendition that has not come to a boundary so long after it is filled with a gap."""
_STALL_MS = 300
"""Parts do not wait for a leading medium that is so far behind."""
_HEAR_MS_MAX = 10_000
"""A hole longer than this begins a new run."""
_LOOK_NS = 100_000_000
"""How often it is looked for media that stand still."""
_NEAR_NS = 30_000_000
"""A part that ends this shortly before a boundary would leave nothing for the last part."""
_AAC_STOPPED = -1


class Started(NamedTuple):
    """A rendition begins with segment `msn`."""

    rendition: str
    timescale: int
    msn: int
    discontinuities: int


class NewInit(NamedTuple):
    """An init segment that holds from the next segment on."""

    rendition: str
    number: int
    format: Format


class Resumed(NamedTuple):
    """Where a rendition stood when the former process ended. `end` in its ticks."""

    rendition: str
    msn: int
    parts: int
    end: int


class Sound(NamedTuple):
    """An Opus packet for the AAC encoder: `at` in ticks of 48 kHz; `run` tells runs apart."""

    run: int
    at: int
    data: bytes


Output = Made | Started | NewInit


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change in a stream's life."""

    target_seconds: int
    part_target_ms: int
    segment_ms: int


@dataclass(slots=True)
class Counts:
    """What was left out."""

    dropped: int = 0
    """Units that belong nowhere: before the first key frame, after a hole, too many."""
    unreadable: int = 0
    """Key frames whose parameter sets cannot be read, packets that are no Opus."""


class Timeline:
    """All renditions of one stream.

    origin_ns: unix time of tick 0; msn: the first media sequence number; discontinuities: so many
    have been announced; resumed: the renditions of a former process, whose segments are ended.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        origin_ns: int,
        msn: int,
        discontinuities: int = 0,
        resumed: Sequence[Resumed] = (),
    ) -> None:
        self.counts = Counts()
        self.origin_ns = origin_ns
        self.run = 0
        self.formats: dict[str, Format] = {}
        """Of each rendition, once known."""
        self.tracks: dict[str, Track] = {}
        self.sounds: list[Sound] | None = None
        """Opus packets for the AAC encoder since they were last taken; None: not wanted."""
        self.discontinuities = discontinuities
        self._plan = plan
        self._msn = msn
        self._end_ns = 0
        self._out: list[Output] = []
        self._waiting: deque[UnitLike] = deque(maxlen=_WAITING_UNITS_MAX)
        self._since: float | None = None
        self._running = False
        self._session: int | None = None
        self._leader: Track | None = None
        self._newest_ns = 0
        self._followed_ns = 0
        self._sets: tuple[bytes, tuple[bytes, ...]] = (b"", ())
        self._inits: dict[str, int] = {}
        self._key_wanted = False
        self._aac_msn = _AAC_STOPPED
        self._cut_ns = (plan.segment_ms + _SLACK_MS) * 1_000_000
        self._longest_ns = (plan.target_seconds * 1000 + LONGER_MS) * 1_000_000
        self._cut_ns = min(self._cut_ns, self._longest_ns)
        for former in resumed:
            track = self._track(former.rendition, msn=former.msn, begin=False)
            track.index, track.end, track.origin_ns = former.parts, former.end, origin_ns
        if resumed:
            self._align()

    # -- what happens ---------------------------------------------------------------------

    def push(self, units: Sequence[UnitLike], now: float) -> list[Output]:
        """Takes units of all media in the order they came; gives what is finished."""
        for unit in units:
            if unit.session != self._session:
                self._end_run()
                self._session = unit.session
            if not self._running or not self._take(unit):
                self._wait(unit, now)
        if not self._running and self._since is not None:
            self._try_start(now)
        if self._running:
            self._settle()
        return self._taken()

    def take(self) -> list[Output]:
        """What is finished without a unit: ends of a former process's segments, AAC."""
        if self._running:
            self._settle()
        return self._taken()

    def lost(self) -> list[Output]:
        """The publisher has gone: everything pending is published, all segments end."""
        self._end_run()
        self._session = None
        return self._taken()

    def wants_keyframe(self) -> bool:
        """Whether a key frame would be of use now: a segment is due, or none came yet."""
        if self._running:
            return self._key_wanted
        return any(unit.video for unit in self._waiting)

    @property
    def running(self) -> bool:
        """Whether a publisher's media is being cut."""
        return self._running

    @property
    def msn(self) -> int:
        """The highest media sequence number in use."""
        return max((track.msn for track in self.tracks.values()), default=self._msn)

    # -- AAC ------------------------------------------------------------------------------

    def start_aac(self) -> bool:
        """Begins the AAC rendition; False while there is no Opus to make it from."""
        opus = self.tracks.get("a")
        if not self._running or opus is None or opus.end is None or opus.msn <= self._aac_msn:
            return False
        if "c" not in self.tracks:
            ahead = sum(boundary.broken for boundary in opus.boundaries)
            track = self._track("c", msn=opus.msn, discontinuities=self.discontinuities - ahead)
            track.begin(opus.end, origin_ns=self.origin_ns)
            track.boundaries.extend(opus.boundaries)
        self.sounds = []
        return True

    def aac_format(self, form: Format) -> None:
        """The encoder is there; called before its first frame is pushed."""
        self._init("c", form)

    def push_aac(self, run: int, frames: Sequence[tuple[bytes, int]]) -> None:
        """Encoded frames with the tick of their first sample."""
        track = self.tracks.get("c")
        if track is None or run != self.run or not self._running:
            return
        for data, at in frames:
            if track.end is None and not track.pending() and at < track.newest():
                continue
            track.add(at, data, length=AAC_FRAME_SAMPLES)

    def aac_used(self, msn: int) -> None:
        """A former process made AAC up to this segment."""
        self._aac_msn = msn

    def stop_aac(self) -> None:
        """Forgets the rendition. Its segments' names are not used again."""
        track = self.tracks.pop("c", None)
        self.formats.pop("c", None)
        self.sounds = None
        if track is not None:
            self._aac_msn = track.msn

    # -- waiting --------------------------------------------------------------------------

    def _wait(self, unit: UnitLike, now: float) -> None:
        if self._since is None:
            self._since = now
        if len(self._waiting) >= _WAITING_UNITS_MAX:
            self._waiting.popleft()
            self.counts.dropped += 1
        last = next((each for each in reversed(self._waiting) if each.video == unit.video), None)
        if (
            last is not None
            and not -JUMP_MS < (unit.at_ns - last.at_ns) // 1_000_000 < _HEAR_MS_MAX
        ):
            kept = [each for each in self._waiting if each.video != unit.video]
            self._waiting.clear()
            self._waiting.extend(kept)
        self._waiting.append(unit)

    def _try_start(self, now: float) -> None:
        """Starts a run when both media are there, or one of them has waited long enough."""
        assert self._since is not None, "nothing waits"
        keys = [
            unit for unit in self._waiting if unit.video and unit.keyframe and self._knows(unit)
        ]
        audio = next((unit for unit in self._waiting if not unit.video), None)
        video = any(unit.video for unit in self._waiting)
        waited = now - self._since
        if keys and (audio is not None or waited >= START_WAIT_SECONDS):
            first = keys[0]
            for key in keys:
                if audio is not None and key.at_ns <= audio.at_ns:
                    first = key
            self._start(first)
        elif audio is not None and waited >= (KEY_WAIT_SECONDS if video else START_WAIT_SECONDS):
            self._start(audio)

    def _knows(self, key: UnitLike) -> bool:
        """Whether the key frame can be shown: its parameter sets are there and can be read."""
        sps, pps = key.sps or self._sets[0], key.pps or self._sets[1]
        if not sps or not pps:
            return False
        try:
            video_track(sps, pps)
        except ValueError:
            self.counts.unreadable += 1
            return False
        return True

    def _start(self, first: UnitLike) -> None:
        """A run begins with `first`; what waited before it is left out."""
        if first.at_ns - self.origin_ns < self._end_ns:
            self.origin_ns = first.at_ns - self._end_ns
        start_ns = first.at_ns - self.origin_ns
        self.run += 1
        self._running, self._since, self._newest_ns = True, None, start_ns
        self._followed_ns = start_ns
        self._leader = self._track("v" if first.video else "a")
        for track in self.tracks.values():
            track.begin(start_ns * track.timescale // 1_000_000_000, origin_ns=self.origin_ns)
        waiting = list(self._waiting)
        self._waiting.clear()
        seen = False
        for unit in waiting:
            seen |= unit is first
            apart = (unit.at_ns - first.at_ns) // 1_000_000
            if not -10 <= apart < _HEAR_MS_MAX or (unit.video and not seen):
                self.counts.dropped += 1
            elif not self._running or not self._take(unit):
                self._waiting.append(unit)

    def _end_run(self) -> None:
        self._waiting.clear()
        self._since = None
        if not self._running:
            return
        self._running = self._key_wanted = False
        self._leader = None
        for track in self.tracks.values():
            track.flush()
        self._align()

    def _align(self) -> None:
        """Ends all segments at the same number. What follows does not follow on, in any
        rendition."""
        self._end_ns = max(self._ended_ns(track) for track in self.tracks.values())
        self._msn = max(track.msn + (track.index > 0) for track in self.tracks.values())
        for track in self.tracks.values():
            track.align(self._msn, at=self._end_ns * track.timescale // 1_000_000_000)
        if not any(track.broken for track in self.tracks.values()):
            self.discontinuities += 1
            for track in self.tracks.values():
                track.broken = True

    def _ended_ns(self, track: Track) -> int:
        end = track.end
        return self._end_ns if end is None else end * 1_000_000_000 // track.timescale + 1_000_000

    # -- running --------------------------------------------------------------------------

    def _take(self, unit: UnitLike) -> bool:
        """Puts the unit into its rendition; False: it begins another run."""
        at_ns = unit.at_ns - self.origin_ns
        track = self.tracks.get("v" if unit.video else "a")
        if track is not None:
            true = at_ns * track.timescale // 1_000_000_000
            far = abs(at_ns - self._newest_ns) > _HEAR_MS_MAX * 1_000_000
            if far or track.pace.jumped(unit.timestamp, true=true):
                self._end_run()
                return False
        if at_ns - self._followed_ns > _LOOK_NS:
            still = at_ns - self._newest_ns > HOLE_MS * 1_000_000
            self._newest_ns = self._followed_ns = at_ns
            self._follow(late_ms=0 if still else _LATE_MS)
        elif at_ns > self._newest_ns:
            self._newest_ns = at_ns
        if unit.video:
            self._take_video(unit, at_ns)
        else:
            self._take_audio(unit, at_ns)
        return True

    def _take_video(self, unit: UnitLike, at_ns: int) -> None:
        track = self.tracks.get("v")
        joins = track is None or self._leader is not track
        fresh = track is None or (track.end is None and not track.pending())
        if (joins or fresh) and not (unit.keyframe and self._knows(unit)):
            self._key_wanted = True
            self.counts.dropped += 1
            return
        if joins:
            track = self._lead_by_video(at_ns)
        assert track is not None, "video leads"
        at = track.pace.ticks(unit.timestamp, true=at_ns * CLOCK_HZ // 1_000_000_000)
        changed = unit.keyframe and self._changed(unit)
        if track.end is not None or track.pending():
            self._cut(track, at, key=unit.keyframe, broken=changed)
        if changed:
            self._init("v", video_track(*self._sets))
        track.add(at, unit.data, length=track.nominal, key=unit.keyframe)
        due = at - track.segment_start >= track.due
        self._key_wanted = not unit.keyframe and (due or unit.lost)

    def _take_audio(self, unit: UnitLike, at_ns: int) -> None:
        samples = opus_samples(unit.data)
        if not samples:
            self.counts.unreadable += 1
            return
        track = self.tracks.get("a")
        if track is None:
            track = self._join_audio(at_ns)
        if "a" not in self._inits:
            self._init("a", opus_track())
        at = track.pace.ticks(unit.timestamp, true=at_ns * OPUS_CLOCK_HZ // 1_000_000_000)
        leads = self._leader is track
        if leads and (track.end is not None or track.pending()):
            longest = self._longest_ns * OPUS_CLOCK_HZ // 1_000_000_000
            while at - track.segment_start > longest:
                self._boundary(track.segment_start + track.due)
        if not track.add(at, unit.data, length=samples):
            self.counts.dropped += 1
            return
        if self.sounds is not None:
            self.sounds.append(Sound(self.run, at, unit.data))
        if leads:
            end = track.newest() + samples
            if end - track.segment_start >= track.due - samples // 2:
                self._boundary(end)

    def _join_audio(self, at_ns: int) -> Track:
        leader = self._leader
        assert leader is not None, "a run has a leader"
        track = self._track("a", msn=leader.msn)
        track.begin(at_ns * OPUS_CLOCK_HZ // 1_000_000_000, origin_ns=self.origin_ns)
        return track

    def _lead_by_video(self, at_ns: int) -> Track:
        """Video joins a run that audio led: audio's segment ends here."""
        sound = self._leader
        assert sound is not None, "a run has a leader"
        self._boundary(at_ns * sound.timescale // 1_000_000_000)
        self._leader = track = self._track("v", msn=self._msn)
        track.align(self._msn, at=at_ns * CLOCK_HZ // 1_000_000_000)
        track.begin(at_ns * CLOCK_HZ // 1_000_000_000, origin_ns=self.origin_ns)
        return track

    def _changed(self, key: UnitLike) -> bool:
        """Whether the key frame's parameter sets are new, or not told of yet."""
        sets = (key.sps or self._sets[0], key.pps or self._sets[1])
        if sets == self._sets and "v" in self._inits:
            return False
        if not self._knows(key):
            return False
        self._sets = sets
        return True

    def _cut(self, track: Track, at: int, *, key: bool, broken: bool) -> None:
        """Ends video's segment before a frame at `at`, if it is time."""
        scale = track.timescale
        longest = self._longest_ns * scale // 1_000_000_000
        while at - track.segment_start > longest:
            self._boundary(track.segment_start + self._cut_ticks(track))
        if track.index == 0 and not track.pending():
            if broken:
                self._break()
            return
        length = at - track.segment_start
        ripe = length >= (track.may_end() if key else self._cut_ticks(track))
        if ripe or broken:
            self._boundary(at, broken=broken, following=at)

    def _cut_ticks(self, track: Track) -> int:
        """How long a segment may get while no key frame comes."""
        return self._cut_ns * track.timescale // 1_000_000_000

    def _break(self) -> None:
        """The segment that is about to open does not follow on, in any rendition."""
        assert self._leader is not None, "a run has a leader"
        if self._leader.broken:
            return
        self.discontinuities += 1
        for track in self.tracks.values():
            if track is self._leader or not track.boundaries:
                track.broken = True
            else:
                last = track.boundaries.pop()
                track.boundaries.append(Boundary(last.at, broken=True))

    def _boundary(self, at: int, *, broken: bool = False, following: int | None = None) -> None:
        """The leader's segment ends at `at`, its ticks; the others will follow. following: where
        the leader's next sample lies, if it is there."""
        leader = self._leader
        assert leader is not None, "a run has a leader"
        if broken:
            self.discontinuities += 1
        leader.close(Boundary(at, broken), following=following)
        self._msn = leader.msn
        for track in self.tracks.values():
            if track is not leader:
                there = at * track.timescale // leader.timescale
                track.boundaries.append(Boundary(there, broken))

    def _follow(self, *, late_ms: int) -> None:
        """Keeps going whoever stands still while other media go on."""
        leader, newest = self._leader, self._newest_ns
        assert leader is not None, "a run has a leader"
        scale, limit = leader.timescale, self._longest_ns + late_ms * 1_000_000
        while leader.video and newest - leader.segment_start * 1_000_000_000 // scale > limit:
            self._boundary(leader.segment_start + self._cut_ticks(leader))
            self._key_wanted = True
        for track in self.tracks.values():
            while track.boundaries:
                at_ns = track.boundaries[0].at * 1_000_000_000 // track.timescale
                if newest - at_ns < _FOLLOW_MS * 1_000_000:
                    break
                track.close(track.boundaries.popleft())

    def _settle(self) -> None:
        full = [track for track in self.tracks.values() if track.ripe or track.boundaries]
        if not full:
            return
        leader, newest = self._leader, self._newest_ns
        assert leader is not None, "a run has a leader"
        reached = leader.newest() * 1_000_000_000 // leader.timescale
        if leader.video:
            opened = leader.segment_start * 1_000_000_000 // leader.timescale
            stalled = min(newest - _STALL_MS * 1_000_000, opened + self._cut_ns - _NEAR_NS)
            reached = max(reached, stalled)
        for track in full:
            limit = reached * track.timescale // 1_000_000_000
            if track is leader and leader.video:
                track.settle(-1, may_end=leader.may_end())
            else:
                track.settle(limit, may_end=leader.may_end() * track.timescale // leader.timescale)

    # -- output ---------------------------------------------------------------------------

    def _track(
        self, name: str, *, msn: int = -1, discontinuities: int = -1, begin: bool = True
    ) -> Track:
        """The rendition's track; told of when it is new."""
        track = self.tracks.get(name)
        if track is not None:
            return track
        track = Track(
            name,
            timescale=CLOCK_HZ if name == "v" else OPUS_CLOCK_HZ,
            part_ms=self._plan.part_target_ms,
            segment_ms=self._plan.segment_ms,
            msn=self._msn if msn < 0 else msn,
            video=name == "v",
        )
        self.tracks[name] = track
        if begin:
            told = self.discontinuities if discontinuities < 0 else discontinuities
            self._out.append(Started(name, track.timescale, track.msn, told))
        return track

    def _init(self, name: str, form: Format) -> None:
        self._drain()
        number = max(self.tracks[name].msn, self._inits.get(name, -1) + 1)
        self._inits[name] = number
        self._out.append(NewInit(name, number, form))
        self.formats[name] = form

    def _drain(self) -> None:
        """Moves what tracks have made to the output, keeping each rendition's order."""
        for track in self.tracks.values():
            if track.made:
                self._out += track.made
                track.made.clear()

    def _taken(self) -> list[Output]:
        for track in self.tracks.values():
            if track.made:
                self._drain()
        taken, self._out = self._out, []
        return taken
