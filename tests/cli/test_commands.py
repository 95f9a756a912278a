"""The command line as a user meets it: files, numbering, resume, errors with exit code 2."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipig.cli import main
from clipig.images import read_metadata

ROOT = Path(__file__).parents[2]

SMALL = """
model: embedded
epochs: 4
resolution: 16
seed: 3
snapshot_interval: 0
targets:
  - batch_size: 2
    features:
      - text: a red heart
    transforms:
      - random_rotate: {degree: -20 20, center: 0 1}
      - noise: .1
"""


@dataclass(frozen=True)
class Told:
    """What a command printed."""

    stdout: str
    stderr: str


def clipig(*args: str, cwd: Path, text: str | None = None, code: int = 0) -> Told:
    """Call the program's entry point in a folder and check its exit code."""
    out, err, got = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd) if sys.version_info >= (3, 11) else _inside(cwd), \
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
            pytest.MonkeyPatch.context() as patch:
        if text is not None:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        try:
            main(list(args))
        except SystemExit as e:
            got = int(e.code or 0)
    assert got == code, out.getvalue() + err.getvalue()
    return Told(out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """`contextlib.chdir` for Python 3.10."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def pixels(path: Path) -> np.ndarray:
    """A picture's bytes."""
    return np.asarray(Image.open(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small config in it."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_run_writes_picture_config_and_trace_and_never_overwrites(folder: Path) -> None:
    first = clipig("run", "small.yaml", cwd=folder)
    made = folder / "renders" / "small"
    assert first.stdout == "renders/small/small.png\n"
    assert first.stderr.startswith("encoder: embedded")
    assert {p.name for p in made.iterdir()} == {"small.png", "small.yaml", "small.trace.jsonl"}
    lines = [json.loads(x) for x in (made / "small.trace.jsonl").read_text().splitlines()]
    assert [x["epoch"] for x in lines] == [0, 1, 2, 3]
    before = (made / "small.png").read_bytes()
    second = clipig("run", "small.yaml", "--quiet", cwd=folder)
    assert second.stdout == "renders/small/small-2.png\n"
    assert second.stderr == ""
    assert (made / "small.png").read_bytes() == before
    assert np.array_equal(pixels(made / "small.png"), pixels(made / "small-2.png"))
    # the resolved config makes the same picture again
    clipig("run", str(made / "small.yaml"), "-o", "again.png", cwd=folder)
    assert np.array_equal(pixels(made / "small.png"), pixels(folder / "again.png"))


def test_info_and_reproduce(folder: Path) -> None:
    clipig("run", "small.yaml", "-o", "out/", cwd=folder)
    told = clipig("info", "out/small.png", "--json", cwd=folder).stdout
    about = json.loads(told)
    assert about["clipig seed"] == "3"
    assert about["clipig model"] == "embedded"
    assert about["clipig model checksum"].startswith("sha256:")
    config = clipig("info", "out/small.png", "--config", cwd=folder).stdout
    assert "a red heart" in config
    again = clipig("reproduce", "out/small.png", "-o", "copy.png", cwd=folder)
    assert "identical" in again.stderr
    assert np.array_equal(pixels(folder / "out/small.png"), pixels(folder / "copy.png"))
    Image.new("RGB", (4, 4)).save(folder / "plain.png")
    for command in ("info", "reproduce"):
        assert "holds no clipig metadata" in clipig(command, "plain.png", cwd=folder, code=2).stderr


def test_several_runs_share_a_batch_and_each_can_be_made_alone(folder: Path) -> None:
    out = clipig("run", "small.yaml", "--repeat", "3", "-o", "many/", "--max-memory", "8G",
                 cwd=folder).stdout.split()
    assert out == [f"many/small_{i:03d}.png" for i in range(3)]
    about = json.loads(clipig("info", out[2], "--json", cwd=folder).stdout)
    clipig("run", "small.yaml", "--seed", about["clipig seed"], "-o", "alone.png", cwd=folder)
    difference = pixels(folder / out[2]).astype(int) - pixels(folder / "alone.png")
    assert np.abs(difference).max() <= 1


def test_overrides_merge_stdin_and_text(folder: Path) -> None:
    (folder / "more.yaml").write_text("epochs: 2\ntargets:\n  - features: [{text: a blue fish}]\n")
    clipig("run", "small.yaml", "more.yaml", "--set", "targets[0].batch_size=1", "-e", "3",
           "-o", "merged.png", cwd=folder)
    config = clipig("info", "merged.png", "--config", cwd=folder).stdout
    assert "epochs: 3" in config
    assert "a blue fish" in config and "a red heart" in config
    assert "batch_size: 2" not in config
    clipig("run", "-", "-t", "a green tree", "-o", "piped.png", cwd=folder, text=SMALL)
    assert "a green tree" in clipig("info", "piped.png", "--config", cwd=folder).stdout


def test_snapshots_and_animation(folder: Path) -> None:
    clipig("run", "small.yaml", "--set", "snapshot_interval=2", "--video", "gif", "-o", "s/",
           cwd=folder)
    names = sorted(p.name for p in (folder / "s/small.snapshots").iterdir())
    assert names == ["00000.png", "00002.png"]
    with Image.open(folder / "s/small.gif") as animation:
        assert animation.n_frames > 1


def test_a_folder_does_not_hide_a_shipped_config(folder: Path) -> None:
    (folder / "method_1").mkdir()
    args = ["method_1", "-e", "1", "--model", "embedded", "-q", "-o", "a.png"]
    clipig("run", *args, cwd=folder)
    assert (folder / "a.png").exists()
    (folder / "other").mkdir()
    assert "found a folder" in clipig("run", "other", cwd=folder, code=2).stderr


def test_dry_run_makes_nothing(folder: Path) -> None:
    told = clipig("run", "small.yaml", "--dry-run", cwd=folder).stdout
    assert "canvas 16x16, 2 views per run" in told
    assert "memory" in told
    assert [p.name for p in folder.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_to_the_same_picture(folder: Path, how: signal.Signals) -> None:
    long = SMALL.replace("epochs: 4", "epochs: 400")
    (folder / "long.yaml").write_text(long)
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=folder)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CLIPIG_CHECKPOINT_SECONDS": "0.02"}
    process = subprocess.Popen(
        [sys.executable, "-m", "clipig", "run", "long.yaml", "-o", "cut/", "-q"],
        cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        # a suite started in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    checkpoint = folder / "cut/long.checkpoint"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(60) != 0
    assert checkpoint.exists()
    if how is not signal.SIGKILL:
        assert (folder / "cut/long.png").exists()
    clipig("run", "long.yaml", "-o", "cut/", "--resume", "-q", cwd=folder)
    assert np.array_equal(pixels(folder / "cut/long.png"), pixels(folder / "whole/long.png"))
    assert not checkpoint.exists()
    epochs = [
        json.loads(x)["epoch"]
        for x in (folder / "cut/long.trace.jsonl").read_text().splitlines()
    ]
    assert epochs == list(range(400))


IN_A_STEP = """
import os, signal, sys
from clipig.engine import update as rule
from clipig.cli import main

plain, steps = rule._plain_step, 0

def interrupted(optimizer):  # between the moments' change and the picture's
    global steps
    plain(optimizer)
    steps += 1
    if steps == 8:  # the first one only shows which moments the optimizer has
        for _ in range({times}):
            os.kill(os.getpid(), signal.{how})

rule._plain_step = interrupted
main(sys.argv[1:])
"""


RUN = ["run", "long.yaml", "-o", "cut/", "-q"]


def in_a_step(
    folder: Path, how: str, times: int, seconds: str, args: Sequence[str] = RUN
) -> str:
    """A run that gets signals in the middle of its seventh step; what it says."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CLIPIG_CHECKPOINT_SECONDS": seconds}
    told = subprocess.run(
        [sys.executable, "-c", IN_A_STEP.format(how=how, times=times), *args],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert told.returncode == 130, told.stderr
    assert "Traceback" not in told.stderr
    return told.stderr


@pytest.mark.parametrize(("how", "times", "seconds", "steps"), [
    ("SIGTERM", 1, "10", 7),  # the step is finished first
    ("SIGINT", 1, "10", 7),
    ("SIGHUP", 1, "10", 7),  # the terminal was closed
    ("SIGINT", 2, "0", 6),  # at once: the state of the step before
])
def test_a_signal_in_the_middle_of_a_step(
    folder: Path, how: str, times: int, seconds: str, steps: int
) -> None:
    (folder / "long.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 20"))
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=folder)
    told = in_a_step(folder, how, times, seconds)
    assert "stopping after this step" in told
    assert "--resume goes on from here" in told
    assert (folder / "cut/long.png").exists()
    again = clipig("run", "long.yaml", "-o", "cut/", "--resume", cwd=folder)
    assert f"after {steps} steps" in again.stderr
    assert np.array_equal(pixels(folder / "cut/long.png"), pixels(folder / "whole/long.png"))
    trace = (folder / "cut/long.trace.jsonl").read_text().splitlines()
    assert [json.loads(x)["epoch"] for x in trace] == list(range(20))


def test_a_reproduction_can_be_interrupted_too(folder: Path) -> None:
    (folder / "long.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 20"))
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=folder)
    told = in_a_step(folder, "SIGINT", 1, "10", ["reproduce", "whole/long.png"])
    *_, line = told.splitlines()
    assert line.startswith("interrupted; to go on: clipig ")
    clipig(*line.partition("clipig ")[2].split(), cwd=folder)
    made = folder / "renders/long-again/long-again.png"
    assert np.array_equal(pixels(made), pixels(folder / "whole/long.png"))


def test_a_signal_in_the_last_step_ends_nothing_early(folder: Path) -> None:
    (folder / "long.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 7"))
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=folder)
    in_a_step(folder, "SIGINT", 1, "10")
    assert "nothing" not in clipig("run", "long.yaml", "-o", "cut/", "--resume", cwd=folder).stderr
    assert np.array_equal(pixels(folder / "cut/long.png"), pixels(folder / "whole/long.png"))


def test_a_step_that_is_broken_off_leaves_no_state(folder: Path) -> None:
    (folder / "long.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 20"))
    assert "too early for --resume" in in_a_step(folder, "SIGINT", 2, "10")
    assert (folder / "cut/long.png").exists()
    assert not (folder / "cut/long.checkpoint").exists()


@pytest.mark.parametrize(("args", "message"), [
    (["run", "penguin_pino"], "did you mean"),
    (["run", "small.yaml", "--resume"], "nothing to resume"),
    (["run", "small.yaml", "--model", "ViT-B/23"], "ViT-B/32"),
    (["run", "small.yaml", "--model", "nowhere.pt"], "nowhere.pt"),
    (["run", "small.yaml", "--device", "gpu"], "unknown device"),
    (["run", "small.yaml", "--device", "cuda:7"], "is not there"),
    (["run", "small.yaml", "--epochs", "0"], "epochs"),
    (["run", "small.yaml", "--set", "epochs"], "epochs"),
    (["run", "small.yaml", "--set", "targets.9.weight=1"], "targets"),
    (["run", "small.yaml", "--set", "resolution=8 -8"], "resolution"),
    (["run", "small.yaml", "-o", "out.jpg"], ".png"),
    (["run", "small.yaml", "-o", "small.yaml/x/"], "cannot be made"),
    (["run", "small.yaml", "-t", " "], "prompt"),
    (["run", "small.yaml", "-r", "8x"], "found '8x', expected a size such as 256 or 320x240"),
    (["run", "small.yaml", "-r", "0"], "--resolution"),
    (["run", "small.yaml", "--seed", "lucky"], "expected a whole number or random"),
    (["run", "small.yaml", "--text", ""], "expected a prompt"),
    (["run"], 'clipig run "a cat made of pizza"'),
    (["run", "foo.png"], "clipig reproduce foo.png"),
    (["run", "--text", "a", "cat", "made"], "--text 'a cat made'"),
    (["run", "a", "cat", "made"], "clipig run 'a cat made'"),
    (["run", "small.yaml", "-v", "1"], "-v takes no number"),
    (["penguin_piano"], "clipig run penguin_piano"),
    (["a cat"], "clipig run 'a cat'"),
    (["small.png"], "clipig reproduce small.png"),
    (["run", "small.yaml", "--set", "targets.0.features.0.image=no.png",
      "--set", "targets.0.features.0.text=null"], "no.png"),
    (["run", "small.yaml", "--set", "targets.0.constraints=[{style: {image: no.png}}]"],
     "targets[0].constraints[0].style.image: no.png: no such file"),
    (["run", "small.yaml", "--set", "init.image=small.yaml"], "small.yaml"),
    (["run", "small.yaml", "--set", "targets.0.transforms.0={random_crop: 99}"], "does not fit"),
    (["run", "small.yaml", "--set", "targets.0.transforms.0={blur: 99}"], "kernel"),
    (["run", "small.yaml", "--set", "targets.0.weight=1/t"], "1/t"),
    (["run", "small.yaml", "--max-memory", "much"], "8G"),
    (["info", "nothing.png"], "nothing.png"),
    (["list", "transforms", "blurr"], "did you mean"),
    (["rnu"], "did you mean 'run'"),
])
def test_bad_input_gives_one_message(folder: Path, args: Sequence[str], message: str) -> None:
    told = clipig(*args, cwd=folder, code=2).stderr
    assert message in told
    assert not (folder / "renders").exists(), "nothing may be left behind"


QUICK = ("-e", "1", "--set", "targets.0.batch_size=1", "-q", "-o", "out/", "--model", "embedded")


@pytest.mark.parametrize("words", [
    ["a snail made of harp"], ["--text", "a snail made of harp"],
])
def test_a_prompt_alone_is_drawn_by_the_default_recipe(folder: Path, words: list[str]) -> None:
    clipig("run", *words, "-r", "48x32", *QUICK, cwd=folder)
    made = next((folder / "out").glob("*.png"))
    assert "snail" in read_metadata(made)["Description"]
    assert Image.open(made).size == (48, 32)


def test_two_numbers_are_width_and_height(folder: Path) -> None:
    clipig("run", "small.yaml", "-r", "24", "16", "-q", "-o", "out/", cwd=folder)
    assert Image.open(folder / "out/small.png").size == (24, 16)


def test_a_random_seed_is_another_one_each_time(folder: Path) -> None:
    seeds = set()
    for name in ("a", "b"):
        clipig("run", "small.yaml", "--seed", "random", "-q", "-o", f"{name}.png", cwd=folder)
        seeds.add(read_metadata(folder / f"{name}.png")["clipig seed"])
    assert len(seeds) == 2


def test_a_run_with_a_seed_of_its_config_says_how_to_get_another_picture(folder: Path) -> None:
    (folder / "free.yaml").write_text(SMALL.replace("seed: 3\n", ""))
    assert "--seed random" in clipig("run", "small.yaml", cwd=folder).stderr
    assert "--seed random" not in clipig("run", "small.yaml", "--seed", "4", cwd=folder).stderr
    assert "--seed random" not in clipig("run", "free.yaml", cwd=folder).stderr


def test_config_faults_name_their_place(folder: Path) -> None:
    bad = SMALL.replace("noise: .1", "nois: .1").replace("batch_size: 2", "batch_size: two")
    (folder / "bad.yaml").write_text(bad)
    lines = clipig("run", "bad.yaml", cwd=folder, code=2).stderr.splitlines()
    assert any("bad.yaml:8:" in x and "targets[0].batch_size" in x for x in lines)
    assert any("bad.yaml:13:" in x and "did you mean 'noise'" in x for x in lines)


def test_faults_of_the_plan_name_their_place(folder: Path) -> None:
    (folder / "bad.yaml").write_text(SMALL.replace("noise: .1", "random_crop: 99"))
    told = clipig("run", "bad.yaml", cwd=folder, code=2).stderr
    assert "bad.yaml:13:" in told
    assert "99x99" in told


def test_pictures_that_cannot_be_read_are_all_named_with_their_place(folder: Path) -> None:
    bad = SMALL.replace("- text: a red heart", "- image: no.png\n      - image: neither.png")
    (folder / "bad.yaml").write_text(bad)
    lines = clipig("run", "bad.yaml", cwd=folder, code=2).stderr.splitlines()
    assert any("bad.yaml:10:" in x and "no.png" in x for x in lines)
    assert any("bad.yaml:11:" in x and "neither.png" in x for x in lines)


def test_the_installed_program_fails_without_a_traceback(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clipig", "run", "missing.yaml"], cwd=folder, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_score_measures_by_a_judge(folder: Path) -> None:
    clipig("run", "small.yaml", "-o", "a.png", "-q", cwd=folder)
    (folder / "nouns.txt").write_text("a red heart\na blue fish\n")
    args = ["score", "a.png", "--judge", "embedded", "--among", "nouns.txt"]
    row = json.loads(clipig(*args, "--json", cwd=folder).stdout)
    assert row["text"] == "a red heart" and row["of"] == 2
    assert "a red heart" in clipig(*args, cwd=folder).stdout
    assert clipig(*args, "--csv", cwd=folder).stdout.startswith("file,text,similarity")
    full = json.loads(clipig("score", "a.png", "--judge", "embedded", "--json", cwd=folder).stdout)
    assert full["of"] == 811
    Image.new("RGB", (8, 8)).save(folder / "plain.png")
    for bad, message in ((["plain.png"], "holds no prompt"), (["a.png", "--judge", "nobody"],
                         "nobody"), (["a.png", "--among", "no.txt"], "no.txt")):
        assert message in clipig("score", *bad, cwd=folder, code=2).stderr


def test_list_and_schema(folder: Path) -> None:
    assert "random_rotate" in clipig("list", "transforms", cwd=folder).stdout
    assert "degree" in clipig("list", "transforms", "random_rotate", cwd=folder).stdout
    for kind in ("constraints", "postproc", "optimizers", "canvases", "models", "configs"):
        assert clipig("list", kind, cwd=folder).stdout
    assert "properties" in json.loads(clipig("schema", cwd=folder).stdout)


@pytest.fixture
def cut_run(folder: Path) -> Path:
    """A run of 20 epochs that was stopped after its seventh step, in `cut/`."""
    (folder / "long.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 20"))
    in_a_step(folder, "SIGTERM", 1, "10")
    return folder


def test_a_resume_of_another_config_is_refused_and_names_what_differs(cut_run: Path) -> None:
    (cut_run / "b").mkdir()
    (cut_run / "b/long.yaml").write_text(SMALL.replace("a red heart", "a snail"))
    before = {p: p.read_bytes() for p in (cut_run / "cut").iterdir() if p.is_file()}
    told = clipig("run", "b/long.yaml", "--resume", "-e", "10", "--seed", "9", "-o", "cut/",
                  cwd=cut_run, code=2).stderr
    assert "epochs: saved 20, now 10" in told
    assert "seed: saved 3, now 9" in told
    assert "text: saved a red heart, now a snail" in told
    assert "clipig run --resume cut" in told
    assert {p: p.read_bytes() for p in (cut_run / "cut").iterdir() if p.is_file()} == before


def test_a_folder_is_resumed_as_it_was_begun(cut_run: Path) -> None:
    assert "--seed was given" in clipig(
        "run", "cut", "--resume", "--seed", "9", cwd=cut_run, code=2
    ).stderr
    clipig("run", "cut", "--resume", "-q", cwd=cut_run)
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=cut_run)
    assert np.array_equal(pixels(cut_run / "cut/long.png"), pixels(cut_run / "whole/long.png"))
    empty = clipig("run", "cut", "--resume", cwd=cut_run, code=2).stderr
    assert "nothing to resume" in empty


def test_more_epochs_go_on_longer_and_the_picture_says_so(cut_run: Path) -> None:
    clipig("run", "long.yaml", "--resume", "-e", "30", "-o", "cut/", "-q", cwd=cut_run)
    about = read_metadata(cut_run / "cut/long.png")
    assert about["clipig epochs"] == "30 of 30"
    assert about["clipig stages"] == "epochs 20 until step 7"
    again = clipig("reproduce", "cut/long.png", "-o", "again.png", cwd=cut_run).stderr
    assert "continued with other epochs" in again


def test_the_snapshots_of_a_resumed_run_are_those_of_a_whole_one(folder: Path) -> None:
    often = SMALL.replace("epochs: 4", "epochs: 20").replace("interval: 0", "interval: 3")
    (folder / "long.yaml").write_text(often)
    in_a_step(folder, "SIGTERM", 1, "10")
    clipig("run", "long.yaml", "-o", "cut/", "--resume", "-q", cwd=folder)
    clipig("run", "long.yaml", "-o", "whole/", "-q", cwd=folder)
    names = [sorted(p.name for p in folder.glob(f"{d}/*/*.png")) for d in ("cut", "whole")]
    assert names[0] == names[1] == [f"{e:05d}.png" for e in range(0, 20, 3)]
