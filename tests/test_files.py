"""Files: whatever a user names is opened without waiting, and nothing is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipig.errors import InputError, OutputError
from clipig.files import (
    atomic_write,
    claim_folder,
    file_sha256,
    free_path,
    locked,
    open_input,
    read_lines,
    read_text,
    remove_litter,
    reserve,
    slug,
)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_a_device_is_refused_and_not_read(path: str) -> None:
    with pytest.raises(InputError, match=r"expected a file|cannot be read|no such file"):
        open_input(path).close()


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="found a pipe, expected a file"):
        open_input(tmp_path / "pipe")


def test_folders_missing_and_large_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a folder, expected a file"):
        open_input(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_input(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        open_input("a\0b")
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(InputError, match="found 11 bytes, at most 10 are read"):
        open_input(tmp_path / "large", limit=10)
    with open_input(tmp_path / "large", limit=11) as file:
        assert file.read() == bytes(11)


def test_text_has_no_byte_order_mark_and_names_the_line_of_a_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa snail\r\n\r\n  a cat \n")
    assert read_lines(path) == ["a snail", "a cat"]
    path.write_bytes(b"a\nb\n\xffc\n")
    with pytest.raises(InputError, match=r"list\.txt:3: found the byte 0xff, expected UTF-8"):
        read_text(path)


def test_free_path_and_reserve(tmp_path: Path) -> None:
    assert free_path(tmp_path / "a.b.png") == tmp_path / "a.b.png"
    assert reserve(tmp_path / "a.b.png").name == "a.b.png"
    assert free_path(tmp_path / "a.b.png").name == "a.b-2.png"
    (tmp_path / "a.b-2.png").symlink_to(tmp_path / "nowhere")
    assert free_path(tmp_path / "a.b.png").name == "a.b-3.png"
    with pytest.raises(OutputError, match="cannot be written"):
        reserve(tmp_path / "no" / "a.png")


def test_a_write_replaces_or_takes_a_free_name_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert atomic_write(path, "one") == path
    assert atomic_write(path, b"two") == path
    assert atomic_write(path, lambda file: file.write(b"three"), overwrite=False).name == "a-2.txt"
    assert path.read_bytes() == b"two"

    def fails(_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="no space left on device"):
        atomic_write(path, fails)
    assert path.read_bytes() == b"two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-2.txt", "a.txt"]


def test_text_that_utf8_cannot_hold_is_escaped(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.txt", "a\udcff")
    assert (tmp_path / "a.txt").read_bytes() == b"a\\udcff"


def test_a_new_file_has_the_rights_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        mode = atomic_write(tmp_path / "a.txt", "x").stat().st_mode
    finally:
        os.umask(before)
    assert mode & 0o777 == 0o640


@pytest.mark.parametrize(("text", "name"), [
    ("penguin_piano", "penguin_piano"), ("猫", "猫"), ("犬", "犬"), ("кот и пёс", "кот-и-пёс"),
    ("café", "café"), ("a/b\\c:d", "a-b-c-d"), ("..", "picture"), ("", "picture"),
    ("🐧", "picture"),
])
def test_names_keep_letters_of_any_script(text: str, name: str) -> None:
    assert slug(text) == name


def test_long_names_fit_into_a_file_system(tmp_path: Path) -> None:
    for text in ("a" * 500, "猫" * 500, "é" * 500):
        name = slug(text)
        (tmp_path / f"{name}.snapshots-and-more.png").touch()
        assert len(name) <= 80


def test_a_lock_is_held_by_one_process_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = (
        "import sys, time; from pathlib import Path; from clipig.files import locked\n"
        "with locked(Path(sys.argv[1]), 'busy'): print('held', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    busy = "somebody is at work"
    with pytest.raises(OutputError, match=busy), locked(path, busy):
        pass
    process.kill()
    process.wait()
    with locked(path, busy):
        assert path.exists()
    assert not path.exists()


def test_litter_of_killed_processes_is_removed_and_nothing_else(tmp_path: Path) -> None:
    old, new, other = (tmp_path / n for n in (".clipig-a.tmp", ".clipig-b.tmp", "c.tmp"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1, 1))
    remove_litter(tmp_path)
    assert not old.exists() and new.exists() and other.exists()


def test_claim_folder_takes_an_empty_one_or_the_next_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert claim_folder(tmp_path / "out").name == "out"
    (tmp_path / "out" / "x").touch()
    assert claim_folder(tmp_path / "out").name == "out-2"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        claim_folder(tmp_path / "file" / "out")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
