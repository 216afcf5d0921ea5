"""The multivariant playlist: what a player may choose from. Pure: a book in, text out.

Opus is offered first; AAC beside it as a second variant for players that know no Opus in MP4,
though it is made only while somebody asks for it. Bandwidths are measured over the listed segments.
"""

from typing import Literal

from media.hls.book import Book, Shelved

Audio = Literal["", "opus", "aac"]

AAC_CODEC = "mp4a.40.2"
_AUDIO_BITS_GUESSED = 128_000
"""Bits a second of an audio rendition of which nothing has been measured."""
_VIDEO_BITS_GUESSED = 2_500_000
_PART_RATE_MARGIN = 1.1
"""Put to what was measured: BANDWIDTH is a bound."""


def render(book: Book, audio: Audio) -> bytes:
    """The playlist; `audio` limits what is offered to that codec, empty: all."""
    video = _offered(book, "v")
    opus = _offered(book, "a")
    groups = [name for name in ("a", "c") if audio != ("aac" if name == "a" else "opus")]
    out = ["#EXTM3U\n#EXT-X-VERSION:9\n"]
    if opus is None:
        assert video is not None, "something is offered"
        out.append(_variant(book, video, None, "v"))
    elif video is None:
        out += [_variant(book, None, name, name) for name in groups]
    else:
        out += [
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{"opus" if name == "a" else "aac"}",NAME="Audio",'
            f'DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="{name}/live.m3u8"\n'
            for name in groups
        ]
        out += [_variant(book, video, name, "v") for name in groups]
    return "".join(out).encode()


def ready(book: Book) -> bool:
    """Whether there is something to offer."""
    return any(
        not shelved.playlist.empty and shelved.init is not None
        for name in ("v", "a")
        if (shelved := book.renditions.get(name)) is not None
    )


def _offered(book: Book, name: str) -> Shelved | None:
    shelved = book.renditions.get(name)
    if shelved is None or shelved.init is None:
        return None
    others = [each for each in book.renditions.values() if each.name in "va" and each.current]
    return shelved if shelved.current or not others else None


def _variant(book: Book, video: Shelved | None, audio: str | None, folder: str) -> str:
    codecs, peak, average = [], 0.0, 0.0
    details = ""
    if video is not None:
        assert video.init is not None, "an offered rendition has an init segment"
        codecs.append(video.init.codec)
        peak, average = _rates(video, _VIDEO_BITS_GUESSED)
        details = f",RESOLUTION={video.init.width}x{video.init.height}"
        if frames := _frame_rate(video):
            details += f",FRAME-RATE={frames:.3f}"
    if audio is not None:
        codecs.append("opus" if audio == "a" else AAC_CODEC)
        sound = _rates(book.renditions.get(audio), _AUDIO_BITS_GUESSED)
        peak, average = peak + sound[0], average + sound[1]
        if video is not None:
            details += f',AUDIO="{"opus" if audio == "a" else "aac"}"'
    return (
        f"#EXT-X-STREAM-INF:BANDWIDTH={round(peak)},AVERAGE-BANDWIDTH={round(average)},"
        f'CODECS="{",".join(codecs)}"{details}\n{folder}/live.m3u8\n'
    )


def _rates(shelved: Shelved | None, guess: int) -> tuple[float, float]:
    """Bits a second: the highest of a segment, and over all."""
    if shelved is None:
        return guess, guess
    whole = [segment for segment in shelved.segments.values() if segment.complete and segment.size]
    measured = whole or [each for each in shelved.segments.values() if each.size]
    if not measured:
        return guess, guess
    size, ticks = sum(each.size for each in measured), sum(each.ticks for each in measured)
    scale = 8 * shelved.timescale
    peak = max(each.size / each.ticks for each in measured)
    return peak * scale * _PART_RATE_MARGIN, size / ticks * scale


def _frame_rate(video: Shelved) -> float:
    seen = [segment for segment in video.segments.values() if segment.samples]
    ticks = sum(segment.ticks for segment in seen)
    return sum(segment.samples for segment in seen) * video.timescale / ticks if ticks else 0.0
