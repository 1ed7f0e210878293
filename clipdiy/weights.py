"""Which files the weights of a model are, where they are looked for, and how they get there."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from clipdiy.config import CoreConfig
from clipdiy.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import requests  # slow to import, and only needed where something is fetched

STARTER_DIR = Path(__file__).parent / "starter" / "weights"
STARTER = "starter"
LOCAL_DIR = "local-dir:"
DINO_VITS8 = "dino-vits8"

CHUNK_BYTES = 1 << 20

# The hub's repositories of the published models, as OpenCLIP's table has them: `clipdiy weights` answers for the
# presets without importing it (seconds). A test compares.
PUBLISHED_HUBS = {
    "ViT-B-32:laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/",
    "ViT-B-16:laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K/",
}

FOUND_BACKBONE_URL = (
    "https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_300ep_pretrain/dino_deitsmall8_300ep_pretrain.pth"
)
FOUND_HEAD_URL = "https://raw.githubusercontent.com/valeoai/FOUND/main/data/weights/decoder_weights.pt"
FOUND_HEAD_SHA256 = "47ff2a4af3dbc6c80cb832cc81f8ed8ae81809e52576d0de5f9c754cf46ef9b5"


@dataclass(frozen=True)
class WeightFile:
    """One file that has to be there before anything can be segmented.

    Attributes:
        what: What it is, for a person.
        name: Where it lies in the weights folder, with forward slashes.
        url: Where it comes from.
        sha256: What it must be, if that is known beforehand. A fetched file's own digest is kept beside it either way.
        instead: Other names under which the same weights are taken.
        hub: Repository and file name on the Hugging Face hub, if it comes from there: its local cache is looked at too.
        git_sha1: What git calls it, where that is all that is known beforehand (see `git_blob_sha1`).
        tensors: How the names of some of its tensors end. A file that no digest is known of must open and hold them.
    """

    what: str
    name: str
    url: str
    sha256: str | None = None
    instead: tuple[str, ...] = ()
    hub: tuple[str, str] | None = None
    git_sha1: str | None = None
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocatedWeight:
    """A weight file that lies on this machine, and was read.

    Attributes:
        file: What it is meant to be.
        path: Where it lies.
        sha256: Digest of what lies there.
        expected: Digest it must have (pinned, or kept when it was fetched), or `None` if neither is known. Says which
            git blob is expected where that is pinned and the file is another.
        fault: What is wrong with what it holds, where no digest is known to compare with; see `fault_of`.
    """

    file: WeightFile
    path: Path
    sha256: str
    expected: str | None
    fault: str | None = None

    @property
    def intact(self) -> bool:
        """Whether it is what it must be, as far as that is known."""
        return self.why_not is None

    @property
    def why_not(self) -> str | None:
        """What is wrong with it, in words; `None` if nothing is."""
        if self.expected is not None and self.expected != self.sha256:
            return f"SHA-256 {self.sha256}, expected {self.expected}"
        return self.fault


_OF_CLIP = ("logit_scale",)

FOUND_BACKBONE = WeightFile(
    "DINO ViT-S/8 trained for 300 epochs, FOUND's backbone",
    "found/dino_deitsmall8_300ep_pretrain.pth",
    FOUND_BACKBONE_URL,
    tensors=("patch_embed.proj.weight", "blocks.11.attn.qkv.weight"),
)
FOUND_HEAD = WeightFile("FOUND's trained head", "found/decoder_weights.pt", FOUND_HEAD_URL, FOUND_HEAD_SHA256)


def default_weights_dir() -> Path:
    """Return the folder that is used where no other is named. Nothing is created."""
    return Path.home() / ".cache" / "clipdiy" / "weights"


def clip_files(name: str) -> tuple[WeightFile, ...]:
    """List what a CLIP model needs from outside; empty where it is bundled or in a folder of its own.

    Args:
        name: As in `CoreConfig.clip`.

    Raises:
        ConfigError: If OpenCLIP knows no such model or tag.
    """
    return () if name == STARTER or name.startswith(LOCAL_DIR) else (_clip_file(name),)


def found_files(name: str) -> tuple[WeightFile, ...]:
    """List what FOUND needs from outside; empty where it is bundled or in a folder of its own.

    Args:
        name: As in `CoreConfig.found`.

    Raises:
        ConfigError: If the name means nothing.
    """
    if name == STARTER or name.startswith(LOCAL_DIR):
        return ()
    if name != DINO_VITS8:
        raise ConfigError(f"found must be {DINO_VITS8}, {STARTER} or {LOCAL_DIR}FOLDER, got {name!r}")
    return FOUND_BACKBONE, FOUND_HEAD


def split_clip_name(name: str) -> tuple[str, str]:
    """Split `ARCHITECTURE:TAG`.

    Raises:
        ConfigError: If there is no colon in it.
    """
    architecture, colon, tag = name.partition(":")
    if not colon or not architecture or not tag:
        raise ConfigError(
            f"clip must be ARCHITECTURE:TAG (for example ViT-B-32:laion2b_s34b_b79k), {LOCAL_DIR}FOLDER or {STARTER}, "
            f"got {name!r}"
        )
    return architecture, tag


def clip_tag_config(name: str) -> dict[str, object]:
    """Return OpenCLIP's entry for `ARCHITECTURE:TAG`: where the weights come from and how pixels are normalised.

    Raises:
        ConfigError: If OpenCLIP knows no such pair.
    """
    import open_clip  # slow to import, and only needed here

    architecture, tag = split_clip_name(name)
    entry = open_clip.get_pretrained_cfg(architecture, tag)
    if not entry:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none: no such architecture"
        raise ConfigError(f"OpenCLIP knows no weights {tag!r} of {architecture!r}; tags of it: {known}")
    return dict(entry)


def _clip_file(name: str) -> WeightFile:
    entry = {"hf_hub": PUBLISHED_HUBS[name]} if name in PUBLISHED_HUBS else clip_tag_config(name)
    architecture, tag = split_clip_name(name)
    hub = str(entry.get("hf_hub") or "")
    if hub:
        owner, repository, *rest = hub.split("/")
        file_name = rest[0] if rest and rest[0] else "open_clip_model.safetensors"
        instead = ("open_clip_pytorch_model.bin",) if file_name == "open_clip_model.safetensors" else ()
        return WeightFile(
            f"OpenCLIP {architecture}, {tag}",
            f"{repository}/{file_name}",
            f"https://huggingface.co/{owner}/{repository}/resolve/main/{file_name}",
            instead=tuple(f"{repository}/{other}" for other in instead),
            hub=(f"{owner}/{repository}", file_name),
            tensors=_OF_CLIP,
        )
    url = str(entry.get("url") or "")
    # OpenAI's addresses hold the file's SHA-256 as their last folder.
    folder = urlsplit(url).path.split("/")[-2] if url.count("/") > 3 else ""
    return WeightFile(
        f"OpenCLIP {architecture}, {tag}",
        f"{architecture}-{tag}/{url.rsplit('/', 1)[-1]}",
        url,
        sha256=folder if len(folder) == 64 else None,
        tensors=_OF_CLIP,
    )


def find(file: WeightFile, weights_dir: Path) -> Path | None:
    """Look for a file in the weights folder, then in the Hugging Face cache. Does not read it."""
    candidates = [weights_dir / name for name in (file.name, *file.instead)]
    candidates = [path for path in candidates if path.is_file()]
    return candidates[0] if candidates else next(_hub_cache(file), None)


def expected_sha256(file: WeightFile, path: Path) -> tuple[str | None, Literal["pinned", "kept", "unknown"]]:
    """Return the digest that a file must have, and how that is known: pinned here, or kept when it was fetched."""
    # The pin belongs to `file.name`; the same weights in another format have another digest.
    if file.sha256 is not None and path.name == file.name.rsplit("/", 1)[-1]:
        return file.sha256, "pinned"
    if file.git_sha1 is not None and path.name == file.name.rsplit("/", 1)[-1]:
        same = git_blob_sha1(path) == file.git_sha1
        return sha256_of(path) if same else f"that of git blob {file.git_sha1}", "pinned"
    note = _digest_note(path)
    words = note.read_text(encoding="ascii", errors="replace").split() if note.is_file() else []
    return (words[0], "kept") if words else (None, "unknown")


def fault_of(file: WeightFile, path: Path) -> str | None:
    """Say what is wrong with what a file holds: it does not open, or has not the tensors of such weights.

    Reads names only, no numbers; nothing in the file is executed.

    Args:
        file: What it is meant to be.
        path: Where it lies.
    """
    try:
        names = _tensor_names(path)
    except Exception as err:  # noqa: BLE001  # whatever the readers of these formats raise on bytes that are none
        return f"it cannot be opened as weights ({type(err).__name__})"
    if names is None:
        return None
    missing = [ending for ending in file.tensors if not any(name.endswith(ending) for name in names)]
    return f"it has no tensor {', '.join(missing)}" if missing else None


def _tensor_names(path: Path) -> list[str] | None:
    """Return the names of a file's tensors, `None` for an archive of TorchScript, whose names are in its code."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as tensors:
            return list(tensors.keys())
    import torch  # slow to import, and only needed here

    with path.open("rb") as start:
        is_archive = start.read(2) == b"PK"
    if is_archive:
        import zipfile

        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return None
    loaded = torch.load(path, map_location="cpu", mmap=True if is_archive else None, weights_only=True)
    for inner in ("state_dict", "teacher", "model"):
        loaded = loaded.get(inner, loaded) if isinstance(loaded, dict) else loaded
    return [str(name) for name in loaded] if isinstance(loaded, dict) else []


def locate(file: WeightFile, weights_dir: Path) -> LocatedWeight | None:
    """Find a file, read it for its digest, and look into it where there is nothing to compare that with."""
    path = find(file, weights_dir)
    if path is None:
        return None
    expected, _ = expected_sha256(file, path)
    return LocatedWeight(file, path, sha256_of(path), expected, fault_of(file, path) if expected is None else None)


def fetch_command(config: CoreConfig) -> str:
    """Return what a person types to fetch what a configuration needs."""
    defaults = CoreConfig()
    options = [
        f" --{option} {value}"
        for option, value, usual in (("method", config.method, defaults.method), ("clip", config.clip, defaults.clip))
        if value != usual
    ]
    return "clipdiy weights fetch" + "".join(options)


def require_present(
    files: Iterable[WeightFile], weights_dir: Path, command: str = "clipdiy weights fetch"
) -> dict[WeightFile, Path]:
    """Find files without reading any.

    Args:
        files: What has to be there.
        weights_dir: Where downloaded weights lie.
        command: What fetches them; see `fetch_command`.

    Raises:
        WeightsError: If one is missing. Names every missing file, its source, and the folder.
    """
    there = {file: find(file, weights_dir) for file in files}
    missing = [file for file, path in there.items() if path is None]
    if missing:
        lines = [f"  {weights_dir / file.name}\n    {file.what}, from {file.url}" for file in missing]
        raise WeightsError(
            f"weights are missing in {weights_dir}:\n" + "\n".join(lines) + f"\nRun `{command}`, "
            "or on a machine without a network put the files there by hand (another folder: CLIPDIY_WEIGHTS_DIR). "
            "The bundled closed-world weights need none: CLIPDIY_PRESET=starter, or --preset starter."
        )
    return {file: path for file, path in there.items() if path is not None}


def require(files: Iterable[WeightFile], weights_dir: Path) -> dict[WeightFile, LocatedWeight]:
    """Find files and read them.

    Raises:
        WeightsError: If one is missing or is not what it must be. Names file, source and folder.
    """
    located: dict[WeightFile, LocatedWeight] = {}
    for file, path in require_present(files, weights_dir).items():
        weight = LocatedWeight(file, path, sha256_of(path), expected_sha256(file, path)[0])
        if not weight.intact:
            raise WeightsError(
                f"{weight.path} is not the file it should be: {weight.why_not}. "
                f"Delete it and fetch it again from {file.url}"
            )
        located[file] = weight
    return located


def fetch(
    file: WeightFile,
    weights_dir: Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    session: "requests.Session | None" = None,
    timeout_s: float = 30,
) -> Path:
    """Download one file into the weights folder, continuing where an earlier attempt stopped.

    The file appears under its name only when it is whole and its digest is right: against the pin, else against the
    digest the server states for it, if it does. Its own digest is kept beside it for later checks.

    Args:
        file: What to fetch.
        weights_dir: Folder; made if it is not there.
        progress: Called with bytes so far and in all (`None` if the server does not say).
        session: For tests and proxies.
        timeout_s: Longest silence of the server.

    Returns:
        Where it lies.

    Raises:
        WeightsError: If it cannot be downloaded, written, or is not what it should be.
    """
    import requests

    target = weights_dir / file.name
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stated = _download(session or requests.Session(), file.url, part, progress or _silent, timeout_s)
        digest = sha256_of(part)
        expected = file.sha256 or stated
        if expected is not None and digest != expected:
            part.unlink()
            raise WeightsError(f"{file.url} gave SHA-256 {digest}, expected {expected}; nothing was kept, try again")
        if file.git_sha1 is not None and (blob := git_blob_sha1(part)) != file.git_sha1:
            part.unlink()
            raise WeightsError(
                f"{file.url} gave git blob {blob}, expected {file.git_sha1}; nothing was kept, try again"
            )
        _digest_note(target).write_text(f"{digest}  {target.name}\n")
        os.replace(part, target)
    except OSError as err:  # also what requests raises
        raise WeightsError(
            f"cannot fetch {file.what} from {file.url} into {target}: {err}. Run it again to go on where it stopped. "
            "On a machine without a network, put the file there by hand."
        ) from err
    return target


def _download(
    session: "requests.Session", url: str, part: Path, progress: Callable[[int, int | None], None], timeout_s: float
) -> str | None:
    """Append what is missing to `part`; return the SHA-256 that the server states, if it states one."""
    have = part.stat().st_size if part.is_file() else 0
    # A body compressed in transit would not have the stated length, and could not be continued.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Either all of it was there already, or the server has another file than the one that was begun.
            if response.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
                part.unlink()
                return _download(session, url, part, progress, timeout_s)
        else:
            response.raise_for_status()
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                have = 0
            _append(response, part, have, progress)
        hops = [*response.history, response]
    # The hub names a large file's SHA-256 as its linked entity tag, on the answer that redirects to the storage.
    tags = (hop.headers.get("X-Linked-ETag", "").strip('"') for hop in hops)
    return next((tag for tag in tags if len(tag) == 64), None)


def _silent(_done: int, _total: int | None) -> None:
    """Ignore progress."""


def _append(response: "requests.Response", part: Path, have: int, progress: Callable[[int, int | None], None]) -> None:
    """Write what comes behind what is there, and see that it is as much as was announced: not every urllib3 does."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    with part.open("ab" if have else "wb") as out:
        progress(have, total)
        for chunk in response.iter_content(CHUNK_BYTES):
            out.write(chunk)
            have += len(chunk)
            progress(have, total)
    if total is not None and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_sha1(path: Path) -> str:
    """Return what git calls a file's content: SHA-1 of `blob LENGTH`, a zero byte and the content, 40 digits.

    No defence against somebody who makes a file on purpose; together with an address of one commit it says that this is
    the file that was committed.
    """
    digest = hashlib.sha1(b"blob %d\x00" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _digest_note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _hub_cache(file: WeightFile) -> Iterator[Path]:
    if file.hub is None:
        return
    from huggingface_hub import try_to_load_from_cache

    repository, name = file.hub
    for one in (name, *(other.rsplit("/", 1)[-1] for other in file.instead)):
        cached = try_to_load_from_cache(repository, one)
        if isinstance(cached, str):
            yield Path(cached)
