"""What is said of files that are not there, and how they get there: once, whole, or not at all."""

import hashlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision import datasets

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError, InputError
from trainables.data import download
from trainables.data.loading.open_dataset import load
from trainables.data.types.dataset_spec import Download
from trainables.data.types.file_check import check_dataset_files, find_folder, missing_files
from trainables.data.types.ood_sets import downloadable, files_of
from trainables.data.types.splits import Split
from tuner.commands.preflight import preflight
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.store.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[4]
FETCH = download.fetch
pytestmark = pytest.mark.filterwarnings("ignore::trainables.data.loading.from_files.MissingDataWarning")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Download, folder: str) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(download, "fetch", refuse)


def bringing(write: Callable[[Path], object]) -> Callable[[Download, str], None]:
    """Return a download that writes a set."""

    def fetch(source: Download, folder: str) -> None:
        write(Path(folder))

    return fetch


def archive(url: str, md5: str) -> Callable[[Download, str], None]:
    """Return the true download, of another archive."""

    def fetch(source: Download, folder: str) -> None:
        FETCH(Download(1, url=url, md5=md5), folder)

    return fetch


# -- what is missing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(disk.ID_SETS))
def test_what_is_missing_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as caught:
        load(name, str(tmp_path))
    line = str(caught.value)
    assert "\n" not in line
    assert files_of(name).put in line
    assert str(tmp_path) in line
    if name in downloadable():
        assert line.endswith("the download failed: no network in tests")
    assert not [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]


def test_preflight_knows_what_can_be_downloaded(tmp_path: Path) -> None:
    assert "about 170 MB are downloaded there" in check_dataset_files("cifar10", str(tmp_path))
    with pytest.raises(DataFileError, match=r"^imagenet: train, val not found in .*; put train/<wnid>"):
        check_dataset_files("imagenet", str(tmp_path))
    with pytest.raises(DataFileError, match="mnist needs a data folder"):
        check_dataset_files("mnist", "")
    with pytest.raises(DataFileError, match="s3://bucket/x is not a local"):
        check_dataset_files("mnist", "s3://bucket/x")
    with pytest.raises(InputError, match="did you mean cifar10"):
        check_dataset_files("cifar01", str(tmp_path))
    disk.cifar10(tmp_path)
    assert check_dataset_files("cifar10", str(tmp_path)) == ""
    assert check_dataset_files("glyphs", "") == check_dataset_files("digits", "") == ""
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    assert missing_files("cifar10", str(tmp_path)).startswith("cifar10: data_batch_3 not found in")


def test_preflight_is_light() -> None:
    code = (
        "import sys; from trainables.data.types.file_check import check_dataset_files\n"
        "import trainables.data.types.availability\n"
        "check_dataset_files('glyphs', '')\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# -- download ----------------------------------------------------------------------------------------------


def test_concurrent_processes_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(source: Download, folder: str) -> None:
        calls.append(source.torchvision)
        time.sleep(0.2)
        disk.mnist(Path(folder))

    monkeypatch.setattr(download, "fetch", fetch)
    threads = [threading.Thread(target=download.ensure, args=("mnist", str(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["MNIST"]
    assert len(load("mnist", str(tmp_path)).labelled(Split.TEST_ID)) == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mnist.lock", "MNIST"]


def test_a_broken_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(source: Download, folder: str) -> None:
        disk.mnist(Path(folder))
        raise RuntimeError("File not found or corrupted.\nmore")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(DataFileError, match=r"the download failed: File not found or corrupted\.$"):
        load("mnist", str(tmp_path))
    assert find_folder("mnist", str(tmp_path), "train") is None


def test_a_download_fills_a_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    (tmp_path / "cifar-10-batches-py" / "mine.txt").write_text("kept")
    monkeypatch.setattr(download, "fetch", bringing(disk.cifar10))
    download.ensure("cifar10", str(tmp_path))
    assert missing_files("cifar10", str(tmp_path)) == ""
    assert (tmp_path / "cifar-10-batches-py" / "mine.txt").read_text() == "kept"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve an archive of mnist's files on the loopback interface; return its address and checksum."""
    served = tmp_path / "served"
    disk.mnist(tmp_path / "source")
    archive = Path(shutil.make_archive(str(served / "set"), "zip", tmp_path / "source"))
    handler = partial(Quiet, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            checksum = hashlib.md5(archive.read_bytes()).hexdigest()
            yield f"http://127.0.0.1:{http.server_port}/set.zip", checksum
        finally:
            http.shutdown()
            thread.join()


def test_an_archive_is_fetched_verified_and_unpacked(
    server: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(download, "fetch", archive(*server))
    download.ensure("mnist", str(folder))
    assert len(load("mnist", str(folder)).labelled(Split.TEST_ID)) == 20
    assert sorted(p.name for p in folder.iterdir()) == [".mnist.lock", "MNIST"], "the archive is not kept"
    assert "100%" in capfd.readouterr().err, "its progress is shown"


def test_another_checksum_or_page_is_refused_and_leaves_nothing(
    server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for url, checksum, reason in (
        (server[0], "0" * 32, r"the download failed: File not found or corrupted\.$"),
        (server[0].replace("set.zip", "gone.zip"), server[1], r"the download failed: .*404.*File not found$"),
    ):
        monkeypatch.setattr(download, "fetch", archive(url, checksum))
        with pytest.raises(DataFileError, match=reason) as caught:
            download.ensure("mnist", str(folder))
        assert "\n" not in str(caught.value)
        assert [p.name for p in folder.iterdir()] == [".mnist.lock"]


def test_a_launch_fetches_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On this machine at once, with its progress in sight; for a cluster, the nodes fetch their own."""
    monkeypatch.setattr(download, "fetch", bringing(disk.mnist))
    monkeypatch.setattr("tuner.commands.preflight.check_answers", lambda address: None)  # as if one did
    plan = resolve(LaunchOptions("robgan", dataset="mnist", data_dir=str(tmp_path)), "r")
    for address in ("auto", None):
        options = LaunchOptions(address=address)
        preflight(plan, RunFolder(str(tmp_path / "runs"), "r"), options, print)
        out = capsys.readouterr().out
        assert "note: mnist: 4 OOD test sets not in" in out
        assert f"mnist is not in {tmp_path}; about 12 MB are downloaded there" in out
        assert (missing_files("mnist", str(tmp_path)) == "") == (address is None)


def test_download_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "fetch", bringing(disk.mnist))
    assert download.main(["mnist", "--data-dir", str(tmp_path)]) == 0
    assert download.main(["minst", "--data-dir", str(tmp_path)]) == 2
    assert download.main(["ninco", "--data-dir", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == f"mnist is in {tmp_path}\n"
    assert "did you mean mnist" in err
    assert "put the pictures of NINCO's OOD classes into ninco/" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mnist"], "the following arguments are required: --data-dir"),
        (["mnist", "--data-dir", "x", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert download.main(words) == 2
    assert capsys.readouterr().err == f"trainables.data.download: {says} (see --help)\n"


@pytest.mark.parametrize("name", downloadable())
def test_a_download_names_a_class_of_torchvision_or_an_archive(name: str) -> None:
    source = files_of(name).download
    assert source is not None
    if source.torchvision:
        assert issubclass(getattr(datasets, source.torchvision), datasets.VisionDataset)
    else:
        assert source.url.startswith(("http://", "https://"))
        assert re.fullmatch("[0-9a-f]{32}", source.md5)
        assert source.md5[:8] in files_of(name).source


def test_the_documented_checksums_are_those_of_torchvision() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    published = [*datasets.Flowers102._file_dict["image"][1:], datasets.CIFAR10.tgz_md5]
    published += [datasets.CIFAR100.tgz_md5, datasets.Food101._MD5, datasets.DTD._MD5]
    published += [md5 for _, md5 in datasets.OxfordIIITPet._RESOURCES]
    published += [datasets.SVHN.split_list[part][2] for part in ("train", "test")]
    published += [of.resources[0][1] for of in (datasets.MNIST, datasets.FashionMNIST)]
    assert [md5 for md5 in published if md5[:8] not in page] == []


def test_a_download_is_by_torchvision_or_of_an_archive() -> None:
    for wrong in ({}, {"url": "https://x/y.zip"}, {"torchvision": "MNIST", "url": "https://x", "md5": "0"}):
        with pytest.raises(InputError, match="a class of torchvision, or the url and md5"):
            Download(1, **wrong)
