"""Rule documents and the scripts beside them: what is read, and what is not opened."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from rater.cli.documents import RulesFileError, known_modules, read_document
from rater.model.document import DocumentError

WITH_FILE = "pyscripts:\n  scripts:\n  - name: rebate\n    file: {}\n"


def document(directory: Path, file: str) -> Path:
    """A document in a directory of its own, with one script in a file."""
    directory.mkdir(exist_ok=True)
    path = directory / "rules.yaml"
    path.write_text(WITH_FILE.format(file), encoding="utf-8")
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read_document(path)
    return str(caught.value).removeprefix(f"{path}:4: pyscripts.scripts[0].file: ")


def test_a_script_is_read_beside_the_document_as_it_is(tmp_path: Path) -> None:
    path = document(tmp_path / "rules", "scripts/größe.py")
    (path.parent / "scripts").mkdir()
    (path.parent / "scripts" / "größe.py").write_bytes("x = 'größe'\r\n".encode())

    (script,) = read_document(path).pyscripts.scripts

    assert script.data == "x = 'größe'\r\n"


def test_a_file_is_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = document(tmp_path / "rules", "a.py")
    (path.parent / "a.py").write_text("pass")
    monkeypatch.chdir(tmp_path)

    assert read_document(Path("rules/rules.yaml")).pyscripts.scripts[0].data == "pass"


@pytest.mark.parametrize("name", ["../outside.py", "scripts/../../outside.py", "link.py", "{outside}"])
def test_no_file_outside_of_the_documents_directory_is_opened(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("secret")
    name = name.format(outside=outside)
    path = document(tmp_path / "rules", name)
    (path.parent / "link.py").symlink_to(outside)

    assert fault_of(path) == f"{name!r} is refused: it leaves {path.parent}, the directory of the document"


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe = document(tmp_path / "rules", "pipe.py")
    os.mkfifo(pipe.parent / "pipe.py")
    directory = document(tmp_path / "others", "scripts")
    (directory.parent / "scripts").mkdir()

    assert fault_of(pipe) == "'pipe.py' is refused: it is no file"
    assert fault_of(directory) == "'scripts' is refused: it is no file"


def test_a_file_that_is_not_there_or_no_text_is_a_fault_of_the_document(tmp_path: Path) -> None:
    path = document(tmp_path / "rules", "a.py")

    assert fault_of(path) == "a.py cannot be read: No such file or directory"
    (path.parent / "a.py").write_bytes(b"# \xff")
    assert fault_of(path) == "a.py is not text in UTF-8: invalid start byte at byte 2"
    (path.parent / "a.py").write_text("#" * 2_000_000)
    assert fault_of(path) == "a.py has 1000001 characters: at most 1000000 are taken"


def test_a_name_with_a_null_character_is_refused(tmp_path: Path) -> None:
    assert fault_of(document(tmp_path / "rules", '"a\\0.py"')).startswith("'a\\x00.py' is refused: ")


def test_a_document_from_standard_input_names_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WITH_FILE.format("a.py")))

    with pytest.raises(DocumentError) as caught:
        read_document(Path("-"))

    assert str(caught.value) == (
        "-:4: pyscripts.scripts[0].file: 'a.py' is refused: "
        "a document from standard input has no directory; give the script itself as 'data'"
    )


def test_a_document_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "rules.yaml"
    broken.write_bytes(b"\xff")

    with pytest.raises(RulesFileError, match=r"gone\.yaml cannot be read: No such file"):
        read_document(tmp_path / "gone.yaml")
    with pytest.raises(RulesFileError, match=r"is not text in UTF-8: invalid start byte at byte 0"):
        read_document(broken)


def test_modules_are_those_that_are_installed_or_given(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("modules: {acme: {enabled: true}}")

    assert {"hashmap", "noop", "pyscripts"} <= known_modules()
    assert read_document(path, modules=["acme"]).modules["acme"].enabled
    with pytest.raises(DocumentError, match=r"no rating module 'acme' is installed .*hashmap, noop, pyscripts"):
        read_document(path)
