"""Recordings and transcripts in the forms that people have, recognized without a word."""

from pathlib import Path

import pytest

from elman.config import UserError
from elman.data.account import Account
from elman.data.audio.segments import read_segments
from elman.data.audio.transcripts import Listing, Recording, read_recordings
from tests.speech.sounds import tones, write_wav


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def sound(path: Path) -> Path:
    return write_wav(path, tones("ab"))


PLAIN = Listing()


def read(path: Path, how: Listing = PLAIN) -> tuple[list[Recording], Account]:
    account = Account("recordings")
    return read_recordings([str(path)], account, how), account


def said(path: Path, how: Listing = PLAIN) -> dict[str, str]:
    found, account = read(path, how)
    assert account.bad == 0, account.lines()
    assert account.read == len(found)
    return {recording.path.name: recording.text for recording in found}


def test_a_table_with_a_header(home: Path) -> None:
    for number in (1, 2):
        sound(home / "clips" / f"{number}.wav")
    (home / "t.csv").write_text('file,transcript,speaker_id\n1.wav,"a, b",x\nclips/2.wav,c,y\n3.wav,d,x\n')
    found, account = read(home / "t.csv")
    assert [(r.path.name, r.text, r.speaker) for r in found] == [("1.wav", "a, b", "x"), ("2.wav", "c", "y")]
    assert account.lines()[-1].startswith("read 3 recordings, used 2, left out 1: 1 no such recording (")
    assert "transcripts in 'transcript'" in account.found[0]


def test_common_voice(home: Path) -> None:
    sound(home / "clips" / "a.wav")
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\n"
    (home / "train.tsv").write_text(f"{header}q1\ta.wav\t77\tHello there\t2\t0\n")
    found, _ = read(home / "train.tsv")
    assert [(r.text, r.speaker, r.fields["up_votes"]) for r in found] == [("Hello there", "q1", "2")]


def test_ljspeech(home: Path) -> None:
    for name in ("LJ-1", "LJ-2"):
        sound(home / "wavs" / f"{name}.wav")
    (home / "metadata.csv").write_text('LJ-1|in 1900|in nineteen hundred\nLJ-2|"so" it is|so it is\n')
    assert said(home) == {"LJ-1.wav": "in nineteen hundred", "LJ-2.wav": "so it is"}


def test_librispeech(home: Path) -> None:
    for name in ("84-1-0000", "84-1-0001"):
        sound(home / "84" / "1" / f"{name}.flac")
    (home / "84" / "1" / "84-1.trans.txt").write_text("84-1-0000 GO ON\n84-1-0001 STOP\n")
    found, _ = read(home)
    assert [(r.path.name, r.text, r.speaker) for r in found] == [
        ("84-1-0000.flac", "GO ON", "84"),
        ("84-1-0001.flac", "STOP", "84"),
    ]


def test_kaldi(home: Path) -> None:
    sound(home / "x.wav")
    (home / "wav.scp").write_text(f"rec1 {home}/x.wav\nrec2 sph2pipe x.sph |\n")
    (home / "segments").write_text("u1 rec1 0.05 0.15\nu2 rec2 0 1\n")
    (home / "utt2spk").write_text("u1 ann\nu2 bob\n")
    (home / "text").write_text("u1 go on\nu2 no\nu3 lost\n")
    found, account = read(home)
    assert [(r.text, r.start, r.end, r.speaker) for r in found] == [("go on", 0.05, 0.15, "ann")]
    assert sorted(account.faults) == [
        "command in wav.scp, which is not run: write its sound to a file",
        "utterance without a segment",
    ]


def test_nemo(home: Path) -> None:
    sound(home / "x.wav")
    rows = '{"audio_filepath": "x.wav", "duration": 0.1, "offset": 0.05, "text": "go"}\n'
    (home / "manifest.json").write_text(rows + rows.replace("go", "on").replace('"offset": 0.05, ', ""))
    found, _ = read(home)
    assert [(r.text, r.start, round(r.end or 0, 3)) for r in found] == [("go", 0.05, 0.15), ("on", 0.0, 0.1)]


def test_a_text_beside_each(home: Path) -> None:
    for name in ("a", "b", "c"):
        sound(home / f"{name}.wav")
    (home / "a.txt").write_text("Go\non\n")
    (home / "b.lab").write_text("stop")
    found, account = read(home)
    assert [(r.path.name, r.text) for r in found] == [("a.wav", "Go on"), ("b.wav", "stop")]
    assert list(account.faults) == ["recording without a transcript"]


def test_subtitles_and_labels_beside_a_recording(home: Path) -> None:
    sound(home / "a.wav")
    (home / "a.srt").write_text(
        "1\n00:00:00,010 --> 00:00:00,100\n<i>go</i>\non\n\n2\n0:00:00,1 --> 0:00:00,2\nstop\n"
    )
    found, _ = read(home)
    assert [(r.text, r.start, r.end) for r in found] == [("go on", 0.01, 0.1), ("stop", 0.1, 0.2)]


def test_segments_of_each_form() -> None:
    vtt = "WEBVTT\n\n00:01.500 --> 00:02.000 align:start\ngo\n"
    grid = (
        'File type = "ooTextFile"\nitem [1]:\n  class = "IntervalTier"\n  name = "words"\n  xmin = 0\n  xmax = 1.25\n'
        "  intervals: size = 2\n  intervals [1]:\n    xmin = 0\n    xmax = 0.5\n"
        '    text = ""\n  intervals [2]:\n    xmin = 0.5\n    xmax = 1.25\n    text = "say ""go"""\n'
        'item [2]:\n  class = "IntervalTier"\n  name = "more"\n  xmin = 0\n  xmax = 1\n  intervals: size = 1\n'
        '  intervals [1]:\n    xmin = 0\n    xmax = 1\n    text = "other"\n'
    )
    found = {
        ".vtt": read_segments(vtt, ".vtt"),
        ".TextGrid": read_segments(grid, ".TextGrid"),
        ".txt": read_segments("0.5\t1.25\tgo on\n2\t3\n", ".txt"),
    }
    times = {kind: [(s.start, s.end, s.text) for s in own or ()] for kind, own in found.items()}
    assert times[".vtt"] == [(1.5, 2.0, "go")]
    assert times[".TextGrid"] == [(0.0, 0.5, ""), (0.5, 1.25, 'say "go"')]
    assert times[".txt"] == [(0.5, 1.25, "go on"), (2.0, 3.0, "")]
    assert read_segments("just words\n", ".txt") is None


def test_a_folder_a_word(home: Path) -> None:
    for name in ("yes/a.wav", "yes/b.wav", "no/c.wav", "_background_noise_/n.wav"):
        sound(home / name)
    found, account = read(home)
    assert sorted(r.text for r in found) == ["no", "yes", "yes"]
    assert (account.read, account.bad, account.used) == (4, 0, 3)


def test_names_by_a_pattern(home: Path) -> None:
    for name in ("3_ann_0.wav", "7_bob_jr_12.wav", "odd.wav"):
        sound(home / name)
    found, account = read(home, Listing(pattern="{text}_{speaker}_{index}"))
    assert [(r.text, r.speaker, r.fields["index"]) for r in found] == [
        ("3", "ann", "0"),
        ("7", "bob", "jr_12"),
    ]
    assert list(account.faults) == ["name that does not fit the pattern"]
    with pytest.raises(UserError, match="no transcripts: give a table"):
        read(home)


def test_a_pattern_adds_to_any_form(home: Path) -> None:
    sound(home / "ann" / "1.wav")
    (home / "ann" / "1.txt").write_text("go")
    found, _ = read(home, Listing(pattern="{speaker}/{number}"))
    assert [(r.text, r.speaker) for r in found] == [("go", "ann")]


@pytest.mark.parametrize("pattern", ["text", "{text}_{text}", "{}"])
def test_a_pattern_that_is_none(pattern: str) -> None:
    from elman.data.audio.transcripts import pattern_of

    with pytest.raises(UserError, match="expected fields in braces"):
        pattern_of(pattern)


def test_what_is_not_there(home: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read(home / "nothing")
    with pytest.raises(UserError, match="holds no recordings"):
        read(home)
    (home / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="column of recordings"):
        read(home / "t.csv")


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.5
            mark = "7"
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "say ""12"" [now]! xmax = 3"
        intervals [3]:
            xmin = 1
            xmax = 1.5
            text = "two
lines"
"""


def test_textgrids_long_and_short() -> None:
    wanted = [(0.0, 0.5, ""), (0.5, 1.0, 'say "12" [now]! xmax = 3'), (1.0, 1.5, "two lines")]
    short = (
        'File type = "ooTextFile"\n"TextGrid"\n\n0\n1.5\n<exists>\n2\n"TextTier"\n"clicks"\n0\n1.5\n1\n0.5\n"7"\n'
        '"IntervalTier"\n"words"\n0\n1.5\n3\n0\n0.5\n""\n0.5\n1\n"say ""12"" [now]! xmax = 3"\n1\n1.5\n"two\nlines"\n'
    )
    for text in (TEXTGRID, short):
        found = read_segments(text, ".TextGrid")
        assert found is not None
        assert [(piece.start, piece.end, piece.text) for piece in found] == wanted
    assert read_segments(TEXTGRID.partition("intervals [3]")[0], ".TextGrid") is not None
    assert read_segments("", ".TextGrid") == []


def test_a_file_of_times_without_any_is_named(home: Path) -> None:
    sound(home / "a.wav")
    sound(home / "b.wav")
    (home / "a.srt").write_text("")
    (home / "b.txt").write_text("said")
    found, account = read(home)
    assert [recording.text for recording in found] == ["said"]
    assert account.faults[".srt without segments"][0].file.endswith("a.srt")


def test_words_with_times_are_put_together_between_pauses(home: Path) -> None:
    sound(home / "one.wav")
    sound(home / "wav" / "two.wav")
    lines = [
        ";; made by hand",
        "one 1 0.10 0.20 hello 0.9",
        "one 1 0.40 0.20 there",
        "two A 0.00 0.30 go 0.5 lex",
        "one 1 2.00 0.50 again 1.0",
        "one 1 2.60 0.10 <sil>",
        "gone 1 0.0 0.1 x",
        "one 1 half a second",
    ]
    (home / "all.ctm").write_text("\n".join(lines) + "\n")
    for path in (home, home / "all.ctm"):
        found, account = read(path)
        assert [(r.path.stem, r.text, round(r.start, 3), round(r.end or 0, 3)) for r in found] == [
            ("one", "hello there", 0.0, 0.85),
            ("one", "again", 1.75, 2.55),
            ("two", "go", 0.0, 0.35),
        ]
        assert (account.read, account.bad) == (5, 2)
        assert account.faults["line that is no word with times"][0].line == 8
        assert account.faults["no such recording"][0].line == 7
