"""Which files a word stands for."""

import io
import itertools
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.images.sources import image_files


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.png", "inner/c.png", ".hidden.png", ".git/d.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "photos"


def listed(*words: str) -> list[str]:
    return [str(path) for path in image_files(words)]


def test_a_folder_is_its_visible_files_in_order(photos) -> None:
    assert listed("photos") == ["photos/a.png", "photos/b.jpg", "photos/inner/c.png"]


def test_files_patterns_and_folders_one_after_the_other(photos) -> None:
    assert listed("photos/b.jpg", "photos/*.png", "photos/inner") == [
        "photos/b.jpg",
        "photos/a.png",
        "photos/inner/c.png",
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos) -> None:
    (photos / "[ab].png").write_bytes(b"")
    assert listed("photos/[ab].png") == ["photos/[ab].png"]


def test_a_table_names_paths_from_where_it_lies(photos) -> None:
    (photos / "list.csv").write_text("label,path\ncat,a.png\ndog,\ncat,inner/c.png\n")
    assert listed("photos/list.csv") == ["photos/a.png", "photos/inner/c.png"]


def test_a_list_on_the_standard_input(photos, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x.png\n\ny z.png\r\n"))
    assert listed("-") == ["x.png", "y z.png"]


def test_links_that_are_typed_are_followed_and_links_that_are_found_are_not(photos) -> None:
    (photos.parent / "there").symlink_to(photos)
    (photos / "z").symlink_to(photos)
    assert listed("there")[-1].endswith("/z")
    assert len(listed("there")) == 4


@pytest.mark.parametrize(
    ("word", "content", "named"),
    [
        ("nothing", None, "nothing is not there"),
        ("photos/*.gif", None, "is not there"),
        ("t.csv", "label,name\n", "no column of paths"),
        ("t.csv", "", "no column of paths"),
        ("t.csv", "path\n" + "x" * 20_000, "longer than"),
    ],
)
def test_what_stands_for_nothing_is_refused_in_a_line(photos, word, content, named) -> None:
    if content is not None:
        Path(word).write_text(content)
    with pytest.raises(UserError, match=named):
        listed(word)


def test_a_line_without_an_end_is_not_held_in_memory(photos, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 100_000))
    with pytest.raises(UserError, match="longer than"):
        listed("-")


def test_files_are_found_as_they_are_asked_for(photos, monkeypatch) -> None:
    def endless() -> io.StringIO:
        return io.StringIO("x.png\n" * 1000)

    monkeypatch.setattr("sys.stdin", endless())
    assert len(list(itertools.islice(image_files(["-"]), 3))) == 3
