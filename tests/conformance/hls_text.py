"""Reads media playlists and says what breaks RFC 8216bis in them. Independent of the code under
test.

`read` gives a `Media`; `faults` checks one playlist, `step_faults` one against its successor,
`merge` applies a delta update. All faults are sentences.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_ROUNDING_SECONDS = 0.0001
_DATE_SECONDS = 0.025
"""How far PROGRAM-DATE-TIME may be from the sum of durations."""


@dataclass
class Part:
    uri: str
    duration: float
    independent: bool
    gap: bool


@dataclass
class Segment:
    msn: int
    discontinuity: int
    """EXT-X-DISCONTINUITY-SEQUENCE that holds for it."""
    uri: str = ""
    duration: float = 0.0
    """0: still open."""
    date: float = 0.0
    init: str = ""
    gap: bool = False
    breaks: bool = False
    parts: list[Part] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return bool(self.uri)


@dataclass
class Media:
    text: str
    target: int = 0
    version: int = 0
    part_target: float = 0.0
    first: int = 0
    first_discontinuity: int = 0
    control: dict[str, str] = field(default_factory=dict)
    independent: bool = False
    skipped: int = 0
    ended: bool = False
    hints: list[dict[str, str]] = field(default_factory=list)
    reports: list[dict[str, str]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    """The open one, if it has parts, comes last."""
    unknown: list[str] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, int]:
        """Number and part of the newest part."""
        newest = self.segments[-1]
        return newest.msn, len(newest.parts) - 1

    @property
    def next(self) -> tuple[int, int]:
        """Number and part of the one that comes next."""
        newest = self.segments[-1]
        return (newest.msn + 1, 0) if newest.whole else (newest.msn, len(newest.parts))


def attributes(text: str) -> dict[str, str]:
    """An attribute list; quotes are taken off."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def read(text: str) -> Media:
    """Raises: ValueError, KeyError when a tag cannot be read."""
    media = Media(text)
    lines = text.split("\n")
    if lines[0] != "#EXTM3U" or lines[-1] != "":
        raise ValueError("neither starts with #EXTM3U nor ends with a newline")
    current: Segment | None = None
    init = ""
    for line in lines[1:-1]:
        name, _, value = line.partition(":")
        if current is None and _head(media, name, value):
            continue
        if current is None:
            current = Segment(media.first + media.skipped, media.first_discontinuity)
        if name == "#EXT-X-MAP":
            init = attributes(value)["URI"]
        elif line.startswith("#"):
            _segment_tag(media, current, name, value)
        else:
            current.uri, current.init = line, init
            media.segments.append(current)
            current = Segment(current.msn + 1, current.discontinuity)
    if current is not None and current.parts:
        current.init = init
        media.segments.append(current)
    return media


def _head(media: Media, name: str, value: str) -> bool:
    match name:
        case "#EXT-X-VERSION":
            media.version = int(value)
        case "#EXT-X-TARGETDURATION":
            media.target = int(value)
        case "#EXT-X-SERVER-CONTROL":
            media.control = attributes(value)
        case "#EXT-X-PART-INF":
            media.part_target = float(attributes(value)["PART-TARGET"])
        case "#EXT-X-MEDIA-SEQUENCE":
            media.first = int(value)
        case "#EXT-X-DISCONTINUITY-SEQUENCE":
            media.first_discontinuity = int(value)
        case "#EXT-X-INDEPENDENT-SEGMENTS":
            media.independent = True
        case "#EXT-X-SKIP":
            media.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
        case _:
            return False
    return True


def _segment_tag(media: Media, current: Segment, name: str, value: str) -> None:
    match name:
        case "#EXTINF":
            current.duration = float(value.rstrip(","))
        case "#EXT-X-PROGRAM-DATE-TIME":
            current.date = datetime.fromisoformat(value).timestamp()
        case "#EXT-X-DISCONTINUITY":
            current.breaks = True
            current.discontinuity += 1
        case "#EXT-X-GAP":
            current.gap = True
        case "#EXT-X-PART":
            found = attributes(value)
            current.parts.append(
                Part(
                    found["URI"],
                    float(found["DURATION"]),
                    found.get("INDEPENDENT") == "YES",
                    found.get("GAP") == "YES",
                )
            )
        case "#EXT-X-PRELOAD-HINT":
            media.hints.append(attributes(value))
        case "#EXT-X-RENDITION-REPORT":
            media.reports.append(attributes(value))
        case "#EXT-X-ENDLIST":
            media.ended = True
        case _:
            media.unknown.append(name)


def faults(media: Media) -> list[str]:
    """What is wrong with this playlist by itself."""
    found = [f"unknown tag {name}" for name in media.unknown]
    if media.version < (9 if media.skipped else 8):
        found.append(f"version {media.version} is too low for its tags")
    found += _control_faults(media)
    for segment in media.segments:
        found += [f"{segment.msn}: {fault}" for fault in _segment_faults(media, segment)]
    for one, two in pairwise(media.segments):
        off = two.date - one.date - one.duration
        if not two.breaks and abs(off) > _DATE_SECONDS:
            found.append(f"{two.msn}: dated {off * 1000:.0f} ms off the one before")
        if not two.breaks and one.init != two.init and one.init and two.init:
            found.append(f"{two.msn}: a new init segment without a discontinuity")
    uris = [part.uri for segment in media.segments for part in segment.parts]
    uris += [segment.uri for segment in media.segments if segment.whole]
    if len(set(uris)) != len(uris):
        found.append("a URI stands twice")
    if media.ended != (not media.hints) or len(media.hints) > 1:
        found.append(f"{len(media.hints)} preload hints, ended: {media.ended}")
    found += [f"hint {hint} names what is listed" for hint in media.hints if hint["URI"] in uris]
    found += _placement_faults(media)
    return found


def _control_faults(media: Media) -> list[str]:
    control, found = media.control, []
    if control.get("CAN-BLOCK-RELOAD") != "YES":
        found.append("no blocking reload")
    if float(control.get("PART-HOLD-BACK", 0)) < 3 * media.part_target - 1e-6:
        found.append("PART-HOLD-BACK under three part targets")
    if float(control.get("HOLD-BACK", 0)) < 3 * media.target:
        found.append("HOLD-BACK under three target durations")
    if float(control.get("CAN-SKIP-UNTIL", 0)) < 6 * media.target:
        found.append("CAN-SKIP-UNTIL under six target durations")
    return found


def _segment_faults(media: Media, segment: Segment) -> list[str]:
    found = []
    if segment.whole and round(segment.duration) > media.target:
        found.append(f"lasts {segment.duration}, over the target duration")
    if segment.whole and segment.parts:
        total = sum(part.duration for part in segment.parts)
        if abs(total - segment.duration) > _ROUNDING_SECONDS * len(segment.parts):
            found.append(f"parts last {total}, the segment {segment.duration}")
        if segment.gap != all(part.gap for part in segment.parts):
            found.append("EXT-X-GAP does not fit its parts")
    if not segment.init and not media.skipped:
        found.append("no EXT-X-MAP")
    for index, part in enumerate(segment.parts):
        final = segment.whole and index == len(segment.parts) - 1
        if part.duration > media.part_target + 1e-6:
            found.append(f"part {index} lasts {part.duration}, over {media.part_target}")
        if part.duration < 0.85 * media.part_target and not final and not part.gap:
            found.append(f"part {index} lasts {part.duration}, under 85 %")
    first = segment.parts[0] if segment.parts else None
    if media.independent and first and not first.independent and not first.gap:
        found.append("does not start with a key frame, but EXT-X-INDEPENDENT-SEGMENTS")
    return found


def _placement_faults(media: Media) -> list[str]:
    """Parts stand where they are of use: in the two newest whole segments at least, in nothing that
    lies beyond three target durations from the end."""
    found, after = [], 0.0
    newest = [segment.msn for segment in media.segments if segment.whole][-2:]
    for segment in reversed(media.segments):
        beyond = bool(segment.parts) and after > 3 * media.target + 0.01
        if segment.whole and (beyond or (not segment.parts and segment.msn in newest)):
            found.append(f"{segment.msn}: {len(segment.parts)} parts, {after:.1f} s from the end")
        after += sum(part.duration for part in segment.parts) or segment.duration
    if media.skipped:
        kept = sum(segment.duration for segment in media.segments)
        if kept < float(media.control["CAN-SKIP-UNTIL"]) - 1e-3:
            found.append("skips what is inside the skip boundary")
    return found


def step_faults(before: Media, after: Media) -> list[str]:
    """What is wrong between a playlist and a later one; both whole, not deltas."""
    found = []
    if (before.target, before.part_target) != (after.target, after.part_target):
        found.append("target durations changed")
    if after.first < before.first:
        found.append(f"media sequence fell from {before.first} to {after.first}")
    if after.next < before.next:
        found.append(f"the end went back from {before.next} to {after.next}")
    if before.ended and after.text != before.text:
        found.append("changed after its end")
    found += _segment_steps(before, after)
    if broken := broken_hint(before, after):
        found.append(broken)
    return found


def _segment_steps(before: Media, after: Media) -> list[str]:
    """What changed of segments that both list."""
    found = []
    later = {segment.msn: segment for segment in after.segments}
    for one in before.segments:
        two = later.get(one.msn)
        if two is None:
            if one.msn >= after.first:
                found.append(f"{one.msn}: vanished")
            continue
        same = ("date", "discontinuity", "init", "breaks")
        if any(getattr(one, name) != getattr(two, name) for name in same):
            found.append(f"{one.msn}: was {one}, is {two}")
        if one.whole and (one.uri, one.duration, one.gap) != (two.uri, two.duration, two.gap):
            found.append(f"{one.msn}: changed after it was complete")
        if two.parts and one.parts != two.parts[: len(one.parts)]:
            found.append(f"{one.msn}: its parts changed")
    if not before.segments[-1].whole and before.segments[-1].msn not in later:
        found.append("the open segment vanished")
    return found


def broken_hint(before: Media, after: Media) -> str:
    """The hint that did not come true, or nothing. A discontinuity excuses it."""
    if not before.hints or after.next == before.next:
        return ""
    hinted = before.hints[0]["URI"]
    uris = {part.uri for segment in after.segments for part in segment.parts}
    fresh = [segment for segment in after.segments if segment.msn > before.last[0]]
    excused = after.ended or any(segment.breaks for segment in fresh)
    excused |= after.segments[-1].msn > before.last[0] + 2 or after.segments[-1].whole
    return "" if hinted in uris or excused else f"{hinted} was hinted and did not come"


def merge(delta: Media, known: Media) -> str:
    """The full playlist that a client makes of a delta update and the one it has.

    Raises: ValueError when the client does not know what is skipped.
    """
    if not delta.skipped:
        return delta.text
    mark = f"#EXT-X-SKIP:SKIPPED-SEGMENTS={delta.skipped}\n"
    head, _, tail = delta.text.partition(mark)
    _, _, listed = known.text.partition("#EXT-X-MEDIA-SEQUENCE:")
    listed = listed[listed.index("\n") + 1 :]
    if listed.startswith("#EXT-X-DISCONTINUITY-SEQUENCE:"):
        listed = listed[listed.index("\n") + 1 :]
    pieces = re.split(r"(?<=\.m4s\n)(?!#EXTINF)", listed)
    blocks = re.findall(r"(?:#[^\n]*\n)*?#EXTINF[^\n]*\n[^#\n]+\n", listed)
    assert pieces, "a playlist has lines"
    first = delta.first - known.first
    wanted = blocks[first : first + delta.skipped]
    if len(wanted) != delta.skipped:
        raise ValueError(f"knows {len(wanted)} of {delta.skipped} skipped segments")
    kept = [re.sub(r"#EXT-X-PART:[^\n]*\n", "", block) for block in wanted]
    init = next((s.init for s in known.segments if s.msn == delta.first), "")
    if not kept[0].startswith("#EXT-X-MAP"):
        kept[0] = f'#EXT-X-MAP:URI="{init}"\n' + kept[0]
    return head + "".join(kept) + tail
